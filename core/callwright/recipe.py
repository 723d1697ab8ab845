"""Recipes: YAML -> a checked `Recipe` -> the components of a run. Every mistake is found, with file, line and place.

Importing this module does not import torch, and no model is loaded here.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_serializer,
    model_validator,
)

from callwright.combine import Weight
from callwright.display import SilentDisplay
from callwright.hooks import Hooks, Named, RegistrationError, composition_mistakes
from callwright.hookspecs import hookimpl
from callwright.judging import marked
from callwright.plugins import ComponentError, Origin, Place, PluginError, build_component, checked, find
from callwright.scoring import FailurePolicy
from callwright.trackers.plugins import NamedTracker, Tracker, missing_package
from callwright.types import JSON, CallwrightError, Dialect, MicroBatch, Rollouts, Source, Stage

if TYPE_CHECKING:
    from callwright.pipeline.prepare import Watch

# ------------------------------------------------------------------------------------------------- mistakes


@dataclass(frozen=True, slots=True)
class Where:
    """A position in a recipe. Lines and columns count from 1; both are 0 for an override."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a recipe, and how to mend it."""

    file: str
    line: int
    column: int
    place: str
    """Such as `train.steps` or `explore.0.alpha`; empty for the whole file."""
    message: str
    repair: str = ""

    def __str__(self) -> str:
        where = " ".join(part for part in (str(Where(self.file, self.line, self.column)), self.place) if part)
        return f"{where}: {self.message}" + (f"; {self.repair}" if self.repair else "")


def _mistake(where: Where, place: Place, text: str) -> Mistake:
    message, _, repair = text.partition("; ")
    return Mistake(where.file, where.line, where.column, ".".join(map(str, place)), message, repair)


class RecipeError(CallwrightError):
    """All mistakes of a recipe, one to a line."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = list(mistakes)


# -------------------------------------------------------------------------------------------------- the model


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # the options of a plugin may be infinite
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class ComponentConfig(_Part):
    """A plugin and its options. In YAML the options stand beside `use`; the name alone will do where there are none."""

    use: str
    """An installed name, `distribution:name`, `package.module:Class` or `./file.py:Class`."""
    options: dict[str, JSON] = {}
    """The plugin's own options, checked by the plugin."""
    name: str | None = None
    """Of rewards and explorers: the name in metrics and messages, unique in the run. Default: the plugin's name."""

    @model_serializer
    def _flat(self) -> dict[str, JSON]:
        named = {} if self.name is None else {"name": self.name}
        return {"use": self.use, **named, **self._changed(), **self.options}

    def _changed(self) -> dict[str, JSON]:
        """What stands beside `use` and `name`, where it differs from the default."""
        return {}


class WeightConfig(_Part):
    """A weight that changes over the steps of the run."""

    start: float
    """In the first step."""
    end: float
    """Where the schedule arrives."""
    schedule: Literal["linear", "cosine", "step"] = "linear"
    """`linear` and `cosine` are on their way for `steps` steps; `step` is `start` for `steps` steps and then `end`."""
    steps: int | None = Field(default=None, gt=0)
    """Default: all steps of the run."""


ISOLATED_SECONDS = 60.0
"""The timeout of an isolated reward that states none: one that hangs must not hang the run."""


class RewardConfig(ComponentConfig):
    """A reward, what it counts, and what happens when it fails."""

    weight: float | WeightConfig = 1.0
    """The factor in the sum. With 0 the reward is only watched. A mapping makes it follow a schedule."""
    after: str | None = None
    """For `combine: gate`: the name of the reward that must give 1 for this one to count."""
    on_failure: Literal["abstain", "floor", "stop"] = "abstain"
    """When the reward fails on a row: leave the row out of training, give it `floor`, or end the run."""
    floor: float | None = None
    """For `on_failure: floor`: the score of a failed row, the lowest that the reward gives."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds. Of an asynchronous reward: for the whole call. With `isolate`: for one row (group, batch), by default
    60."""
    isolate: bool | Literal["group", "batch"] = False
    """Run in worker processes, which get one row at a time, or a whole `group`, or the whole `batch`."""
    memory: float | None = Field(default=None, gt=0)
    """GiB that scoring may take in a worker, on top of what the reward takes once it is loaded."""
    workers: int = Field(default=1, gt=0)
    """Worker processes, for `isolate`."""

    @model_validator(mode="after")
    def _fits_together(self) -> RewardConfig:
        if (self.on_failure == "floor") != (self.floor is not None):
            raise ValueError("`on_failure: floor` and `floor: SCORE` go together; give both or neither")
        if not self.isolate and (self.memory is not None or self.workers != 1):
            raise ValueError(
                "`memory` and `workers` are about worker processes; write isolate: true, or leave them out"
            )
        return self

    def _changed(self) -> dict[str, JSON]:
        values = {key: getattr(self, key) for key in _OF_A_REWARD}
        changed = {key: value for key, value in values.items() if value != type(self).model_fields[key].default}
        if isinstance(self.weight, WeightConfig):
            changed["weight"] = self.weight.model_dump(exclude_none=True)
        return changed

    def policy(self) -> FailurePolicy:
        timeout = ISOLATED_SECONDS if self.isolate and self.timeout is None else self.timeout
        return FailurePolicy(self.on_failure, self.floor, timeout, self.isolate, self.memory, self.workers)

    def weight_over(self, steps: int) -> float | Weight:
        """The weight in a run of `steps` steps."""
        if not isinstance(self.weight, WeightConfig):
            return self.weight
        return Weight(self.weight.start, self.weight.end, self.weight.schedule, self.weight.steps or steps)


_OF_A_REWARD = ("weight", "after", "on_failure", "floor", "timeout", "isolate", "memory", "workers")


def _component(*keys: str) -> BeforeValidator:
    """Reads a component from YAML; `keys` are those that are not the plugin's options."""

    def read(value: Any) -> Any:
        if isinstance(value, str):
            value = {"use": value}
        if isinstance(value, ComponentConfig):
            return value
        if not isinstance(value, dict):
            raise ValueError("should be a plugin's name, or a mapping with `use` and options")
        return {
            **{key: value[key] for key in keys if key in value},
            "options": {key: item for key, item in value.items() if key not in keys},
        }

    return BeforeValidator(read)


PlainComponent = Annotated[ComponentConfig, _component("use")]
ExplorerComponent = Annotated[ComponentConfig, _component("use", "name")]
RewardComponent = Annotated[RewardConfig, _component("use", "name", *_OF_A_REWARD)]


class LoraConfig(_Part):
    """Train a low-rank adapter instead of all weights."""

    rank: int = Field(default=16, gt=0)
    """Rank of the adapter's matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped, 0 to 1."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the modules that get an adapter, or all linear layers."""


class ModelConfig(_Part):
    """The model that is trained, and in what numbers it computes."""

    name: str
    """Hub name, folder, GGUF file, or `package:` and a file inside an installed package."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the arithmetic (autocast)."""
    packing: Literal["auto", "packed", "padded"] = "auto"
    """`packed`: a group as one row with its prompt once. `auto` packs unless the model gives other results that way."""
    gradient_checkpointing: bool = False
    """Less memory for more arithmetic: activations are computed again in the backward pass."""
    liger: bool = False
    """Liger's kernels for rotary embedding, RMS norm and SwiGLU: less memory and time, on a GPU."""
    lora: LoraConfig | None = None
    """Options of the adapter; without them all weights are trained."""


class DataConfig(_Part):
    """Where the tasks come from, and which are kept out of training."""

    source: PlainComponent
    """A source plugin."""
    stages: list[PlainComponent] = []
    """Stage plugins, applied in this order."""
    held_out: int = Field(default=0, ge=0)
    """Rows that are never trained on, for the accuracy before and after."""
    validation: int = Field(default=0, ge=0)
    """Rows of the rest that are not trained on either, for choosing settings."""
    split_seed: int = 0
    """Chooses which rows these are."""
    unreadable: Literal["stop", "drop"] = "stop"
    """Rows that the source cannot read: stop and list them, or leave them out, counted."""
    processes: int = Field(default=1, gt=0)
    """Processes that share the rows of a stage that looks at each row by itself."""


class RewardsConfig(_Part):
    """What judges a completion."""

    combine: Literal["all", "sum", "gate"] = "all"
    """`all`: 1 if every reward gives 1, else 0. `sum`: weight times score, summed. `gate`: the same, but a reward with
    `after` counts only where the reward named there gave 1."""
    normalise: Literal["none", "group"] = "none"
    """`group`: each reward is normalised in its group before the sum (GDPO, arXiv 2601.05242)."""
    use: list[RewardComponent] = Field(min_length=1)
    """Reward plugins, each with its options and, if wanted, `name`, `weight`, `after` and what to do when it fails."""


class TrainConfig(_Part):
    """The GRPO loop."""

    steps: int = Field(default=100, gt=0)
    """Steps in all; one step generates, scores and updates."""
    prompts_per_step: int = Field(default=8, gt=0)
    """Prompts in a step, each answered by one group."""
    group_size: int = 8
    """Completions per prompt, at least 2: they are each other's baseline."""
    max_new_tokens: int = Field(default=256, gt=0)
    """Longest completion, in tokens."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature, above 0."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the fewest tokens whose probabilities sum to this; 1 is off."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many most probable tokens; 0 is off."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """Leave out tokens below this share of the most probable one's probability; 0 is off."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW's, after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """The learning rate after the warm-up: it stays, or falls to 0 at the last step."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's memory of gradients: of about 1 / (1 - this) steps. Short runs want a short one."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """AdamW's memory of squared gradients."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Longer gradients are cut to this L2 norm."""
    passes: int = Field(default=1, gt=0)
    """Optimisation passes over each step's completions."""
    clip_low: float = Field(default=0.2, ge=0, le=1)
    """The probability ratio is clipped below 1 minus this."""
    clip_high: float = Field(default=0.2, ge=0)
    """The probability ratio is clipped above 1 plus this."""
    kl: float = Field(default=0.0, ge=0)
    """Coefficient of the KL divergence from the reference model; 0 loads no reference."""
    aggregation: Literal["token", "sequence", "constant"] = "token"
    """Mean loss over all tokens, over each completion and then over completions, or divided by a constant length."""
    advantage_scale: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of the group's rewards, of the whole step's, or not at all."""
    tokens_per_micro_batch: int = Field(default=16384, gt=0)
    """Most tokens in one forward pass of the update; less needs less memory and gives the same gradients."""
    refills: int = Field(default=3, ge=0)
    """How often groups that an explorer refuses are replaced in one step."""
    checkpoint_every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 saves at the end only."""
    keep_checkpoints: int = Field(default=2, gt=0)
    """Older checkpoints are deleted."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between evaluations on the validation rows; 0 is never."""
    watch_held_out: bool = False
    """Evaluate on the held-out rows at these steps too, for the curves of an experiment. Only `metrics.jsonl` gets the
    result, as `held_out_accuracy`: no plugin sees it, and who chooses a setting or a checkpoint by it has peeked."""
    show_every: int = Field(default=5, ge=0)
    """Steps between sampled completions on the screen; 0 is never."""
    profile: bool = False
    """Write when each part of a step ran into `timeline.json` in the run's folder, for Perfetto or chrome://tracing."""
    max_bad_steps: int = Field(default=5, gt=0)
    """The run stops after this many steps in a row that were skipped because of NaN or infinity."""

    @field_validator("group_size")
    @classmethod
    def _has_a_baseline(cls, value: int) -> int:
        if value < 2:
            raise ValueError("should be at least 2: a group of one has no baseline")
        return value


class EvaluateConfig(_Part):
    """Greedy evaluation."""

    max_new_tokens: int | None = Field(default=None, gt=0)
    """Longest completion, in tokens. Default: that of training."""
    batch_size: int = Field(default=32, gt=0)
    """Prompts that are answered at once."""


class Recipe(_Part):
    """A whole run. `load_recipe` makes one from a file."""

    seed: int = Field(default=0, ge=0)
    """Of sampling and of the order of the tasks."""
    run: Path
    """The run's folder. `load_recipe` fills in `runs/` and the recipe's name."""
    model: ModelConfig
    dialect: PlainComponent
    """The output format, a dialect plugin."""
    data: DataConfig
    rewards: RewardsConfig
    explore: list[ExplorerComponent] = []
    """Explorer plugins; the order matters for sampling plans only."""
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    engine: PlainComponent = ComponentConfig(use="local")
    """What runs the loop, an engine plugin."""
    rollouts: PlainComponent = ComponentConfig(use="local")
    """What draws the completions, a rollout plugin."""
    trackers: list[PlainComponent] = []
    """Tracker plugins that get every step's metrics, such as `tensorboard`."""
    _path: Path | None = PrivateAttr(None)
    _root: _Node | None = PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        """The file that this recipe was loaded from."""
        return self._path

    def to_yaml(self) -> str:
        """The whole recipe with all defaults and without `extends`; loads back to an equal one."""
        return yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    def __eq__(self, other: object) -> bool:
        """Equal settings; the files that they were read from do not matter."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment] # options are dicts

    def where(self, place: Place) -> Where:
        """The file and line that `place` was read from, or of the nearest thing around it."""
        return self._root.find(place).where if self._root else Where("recipe")


# ---------------------------------------------------------------------------------------------- reading YAML


@dataclass(slots=True)
class _Node:
    """A value of a recipe that knows where it was written; a mapping's entry stands at its key."""

    value: Any
    """A dict or a list of nodes, or a scalar."""
    where: Where

    def plain(self) -> JSON:
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def find(self, place: Place) -> _Node:
        """The node at `place`, or the last one on the way there."""
        node = self
        for key in place:
            inside = node.value
            if isinstance(inside, dict) and key in inside:
                node = inside[str(key)]
            elif isinstance(inside, list) and isinstance(key, int) and key < len(inside):
                node = inside[key]
            else:
                break
        return node

    def without(self, places: Iterable[Place]) -> _Node:
        """A copy in which the entries of mappings at `places` are missing."""
        root = copy.deepcopy(self)
        for place in places:
            parent = root.find(place[:-1]).value
            if place and isinstance(parent, dict):
                parent.pop(place[-1], None)
        return root


_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], JSON]], ...] = (
    (re.compile(r"~|null|Null|NULL|"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?\d[\d_]*"), lambda text: int(text.replace("_", ""))),
    (re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?"), lambda text: float(text.replace("_", ""))),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)


def _scalar(text: str) -> JSON:
    """What an unquoted word means, after YAML 1.2: 1e-5 is a number, and `no` and 2020-01-01 are text."""
    for pattern, convert in _SCALARS:
        if pattern.fullmatch(text):
            return convert(text)
    return text


_LINE_ENDS = frozenset("\x85\u2028\u2029")
"""Beside the usual ones. PyYAML folds a text there, and reads something else back."""


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what `_scalar` would not read as text, and escapes what YAML takes for the end of a line."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if isinstance(_scalar(text), str) else "'"
        if not _LINE_ENDS.isdisjoint(text):
            style = '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)


@dataclass(frozen=True, slots=True)
class _Document:
    """Turns PyYAML's nodes into ours. `lines` is False for an override, where line numbers say nothing."""

    file: str
    lines: bool
    add: Callable[[Where, Place, str], None]

    def where(self, mark: yaml.Mark | None) -> Where:
        if not self.lines:
            return Where(self.file)
        return Where(self.file, mark.line + 1, mark.column + 1) if mark else Where(self.file, 1, 1)

    def node(self, node: yaml.Node, at: Where, place: Place, around: tuple[yaml.Node, ...]) -> _Node:
        inside = (*around, node)
        if not node.tag.startswith("tag:yaml.org,2002:"):
            self.add(at, place, f"the tag {node.tag} means nothing in a recipe; remove it")
        elif node in around:
            self.add(at, place, "an alias that holds itself; remove it")
        elif isinstance(node, yaml.MappingNode):
            return _Node(self._entries(node, place, inside), at)
        elif isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return _Node([self.node(n, self.where(n.start_mark), (*place, i), inside) for i, n in items], at)
        elif isinstance(node, yaml.ScalarNode):
            return _Node(node.value if node.style else _scalar(node.value), at)
        return _Node(None, at)

    def _entries(self, node: yaml.MappingNode, place: Place, inside: tuple[yaml.Node, ...]) -> dict[str, _Node]:
        entries: dict[str, _Node] = {}
        for key, value in node.value:
            at = self.where(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.add(at, place, "a key must be a word, not a list or a mapping")
            elif key.value in entries:
                self.add(at, (*place, key.value), f"given twice, first in {entries[key.value].where}; remove one")
            else:
                entries[key.value] = self.node(value, at, (*place, key.value), inside)
        return entries


class _Reader:
    """Reads YAML into nodes and collects mistakes."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.unread = False
        """Some file could not be read at all: what it lacks is then no mistake of its own."""

    def add(self, where: Where, place: Place, text: str) -> None:
        self.mistakes.append(_mistake(where, place, text))

    def file(self, path: Path, chain: tuple[Path, ...] = (), asked: Where | None = None) -> _Node:
        """The file's mapping on top of those that it extends."""
        start = Where(str(path), 1, 1)
        node = self._mapping(path, chain, asked or start, ("extends",) if asked else ())
        if node is None:
            self.unread = True
            return _Node({}, start)
        return self._extended(node, path, (*chain, path.resolve()))

    def _mapping(self, path: Path, chain: tuple[Path, ...], asked: Where, place: Place) -> _Node | None:
        start = Where(str(path), 1, 1)
        if path.resolve() in chain:
            names = " -> ".join(p.name for p in (*chain, path))
            self.add(asked, place, f"recipes extend each other in a circle: {names}; remove one `extends`")
            return None
        try:
            node = self.text(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            self.add(asked, place, f"cannot read {path}: {error.strerror}")
            return None
        except UnicodeDecodeError as error:
            self.add(start, (), f"is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8")
            return None
        if node is not None and node.value is None:
            return _Node({}, start)
        if node is not None and not isinstance(node.value, dict):
            self.add(node.where, (), "a recipe is a mapping; write keys such as `model:` and `train:`")
            return None
        return node

    def _extended(self, node: _Node, path: Path, chain: tuple[Path, ...]) -> _Node:
        extends = node.value.pop("extends", None)
        if extends is None:
            return node
        names = extends.value if isinstance(extends.value, list) else [extends]
        base = _Node({}, node.where)
        for name in names:
            if not isinstance(name.value, str):
                self.add(name.where, ("extends",), f"should be the path of a recipe, but is {name.plain()!r}")
                continue
            parent = Path(os.path.normpath(path.parent / name.value))
            base = _merged(base, self.file(parent, chain, name.where))
        return _merged(base, node)

    def text(self, text: str, file: str, lines: bool = True) -> _Node | None:
        """The only document in `text`, null if there is none; None if it is no YAML."""
        document = _Document(file, lines, self.add)
        try:
            node = yaml.compose(text, yaml.SafeLoader)
            if node is None:
                return _Node(None, document.where(None))
            return document.node(node, document.where(node.start_mark), (), ())
        except yaml.MarkedYAMLError as error:
            parts = ", ".join(part for part in (error.context, error.problem) if part)
            self.add(document.where(error.problem_mark or error.context_mark), (), f"no valid YAML: {parts}")
        except (yaml.YAMLError, RecursionError) as error:
            self.add(document.where(None), (), f"no valid YAML: {str(error).splitlines()[0]}")
        return None

    def override(self, root: _Node, text: str) -> None:
        """Apply one `place=value` to the tree."""
        file = f"override '{text}'"
        name, equals, value = text.partition("=")
        place = _place(name)
        if not equals or not all(name.split(".")):
            return self.add(Where(file), (), "is no override; write place=value, as in train.steps=20")
        node = self.text(value, file, lines=False)
        if node is None:
            return None
        target = root
        for depth, key in enumerate(place):
            if isinstance(target.value, str) and depth > 0 and _is_component(place[:depth]):
                target.value = {"use": _Node(target.value, target.where)}
            inside = target.value
            if isinstance(inside, list) and (not isinstance(key, int) or key >= len(inside)):
                text = f"no entry {key} in a list of {len(inside)}; entries count from 0"
                return self.add(Where(file), place[: depth + 1], text)
            if not isinstance(inside, list | dict):
                inside = target.value = {}
            key = key if isinstance(inside, list) else str(key)
            if depth == len(place) - 1:
                inside[key] = node
            elif isinstance(inside, dict):
                target = inside.setdefault(str(key), _Node({}, Where(file)))
            else:
                target = inside[key]
        return None


def _is_component(place: Place) -> bool:
    if place and isinstance(place[-1], int):
        return place[:-1] in (("explore",), ("rewards", "use"), ("data", "stages"), ("trackers",))
    return place in (("dialect",), ("engine",), ("rollouts",), ("data", "source"))


def _merged(base: _Node, over: _Node) -> _Node:
    """`over` on top of `base`: mappings are merged, anything else is replaced.

    So is a component of another plugin, as the options of one mean nothing to another.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    uses = [node.value["use"].value for node in (base, over) if "use" in node.value]
    if len(uses) == 2 and isinstance(uses[0], str) and uses[0] != uses[1]:
        return over
    entries = dict(base.value)
    for key, node in over.value.items():
        entries[key] = _merged(entries[key], node) if key in entries else node
    return _Node(entries, over.where)


# ------------------------------------------------------------------------------------------- loading, building


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path` with `overrides` such as "train.steps=20". Raises `RecipeError` with all mistakes."""
    reader, root = _read(path, overrides)
    if reader.unread:
        raise RecipeError(reader.mistakes)
    recipe, mistakes, _ = _model(root, path)
    if recipe is None or reader.mistakes or mistakes:
        raise RecipeError([*reader.mistakes, *mistakes])
    return recipe


def _read(path: Path, overrides: Sequence[str]) -> tuple[_Reader, _Node]:
    reader = _Reader()
    root = reader.file(path)
    for override in overrides:
        reader.override(root, override)
    run = root.value.get("run")
    if run is None or run.value is None:
        root.value["run"] = _Node(f"runs/{path.stem}", root.where)
    return reader, root


def _model(root: _Node, path: Path) -> tuple[Recipe | None, list[Mistake], list[Place]]:
    """The recipe if every value is allowed, the mistakes, and their places."""
    recipe, wrong = checked(Recipe, root.plain(), "key")
    if recipe is not None:
        recipe._path, recipe._root = path, root
        wrong = list(_cross_checked(recipe))
    mistakes = [_mistake(root.find(place).where, place, text) for place, text in wrong]
    return recipe, mistakes, [place for place, _ in wrong]


def _cross_checked(recipe: Recipe) -> Iterator[tuple[Place, str]]:
    if not recipe.data.stages:  # with stages, rows may say themselves which part they belong to
        for key, text in nothing_to_evaluate(recipe.train, recipe.data.validation, recipe.data.held_out):
            yield ("train", key), text
    if recipe.rewards.normalise == "group" and recipe.train.advantage_scale == "group":
        text = "GDPO divides the sum by the step's standard deviation, and the groups' would undo the weights"
        yield ("rewards", "normalise"), f"{text}; write train.advantage_scale: batch"


def nothing_to_evaluate(train: TrainConfig, validation: int, held_out: int) -> Iterator[tuple[str, str]]:
    """(key of `train`, message) where it asks for evaluations and there are so many rows of either part."""
    if train.evaluate_every and not (validation or train.watch_held_out):
        yield "evaluate_every", "there are no rows to evaluate on; set data.validation above 0"
    if train.watch_held_out and not (held_out and train.evaluate_every):
        text = "there is nothing to watch, or no time for it; set data.held_out and train.evaluate_every above 0"
        yield "watch_held_out", text


@dataclass(frozen=True, slots=True)
class Components:
    """The plugins of a run, built from its recipe."""

    dialect: Dialect
    source: Source
    stages: list[Stage]
    rewards: list[Named]
    explorers: list[Named]
    engine: Any
    sampler: Any
    """What draws completions, see `callwright.sampling.Sampler`."""
    origins: list[Origin]
    """Of every component, in the order of the recipe; of trackers not, as no number depends on them."""
    trackers: list[NamedTracker] = field(default_factory=list)


def build(recipe: Recipe) -> Components:
    """Load and build every plugin that the recipe names. Raises `RecipeError` with the mistakes of all of them."""
    builder = _Builder(recipe)
    dialect = builder.part("dialect", recipe.dialect, ("dialect",), Dialect)
    source = builder.part("source", recipe.data.source, ("data", "source"), Source)
    stages = [builder.part("stage", c, ("data", "stages", i), Stage) for i, c in enumerate(recipe.data.stages)]
    rewards = [builder.named("reward", c, ("rewards", "use", i)) for i, c in enumerate(recipe.rewards.use)]
    explorers = [builder.named("explorer", c, ("explore", i)) for i, c in enumerate(recipe.explore)]
    engine = builder.part("engine", recipe.engine, ("engine",))
    sampler = builder.part("rollout", recipe.rollouts, ("rollouts",))
    origins = list(builder.origins)
    trackers = [builder.tracker(c, i) for i, c in enumerate(recipe.trackers)]
    if not builder.mistakes:
        for words, text in composition_mistakes(rewards, recipe.rewards.combine, recipe.rewards.normalise):
            builder.add(_place(words), text)
        for component in (*rewards, *explorers):
            for text in getattr(component.plugin, "recipe_mistakes", lambda _: ())(recipe):
                builder.add(_place(component.place), f"{component.name}: {text}")
        for place, config, part in (("engine", recipe.engine, engine), ("rollouts", recipe.rollouts, sampler)):
            for text in getattr(part, "recipe_mistakes", lambda _: ())(recipe):
                builder.add((place,), f"{config.use}: {text}")
            builder.refuse(config.use, getattr(part, "refuses", {}), [*rewards, *explorers])
    if builder.mistakes:
        raise RecipeError(builder.mistakes)
    return Components(dialect, source, stages, rewards, explorers, engine, sampler, origins, trackers)


def tracker_mistakes(recipe: Recipe, components: Components) -> list[Mistake]:
    """A mistake for each tracker whose package is not installed: training needs it, and nothing else does."""
    found = [(("trackers", i, "use"), missing_package(one.plugin)) for i, one in enumerate(components.trackers)]
    return [_mistake(recipe.where(place), place, text) for place, text in found if text is not None]


class _Builder:
    """Builds components one by one and collects the mistakes of all."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.mistakes: list[Mistake] = []
        self.origins: list[Origin] = []
        self.taken: dict[str, str] = {}

    def refuse(self, use: str, refused: Mapping[str, str], plugins: Sequence[Named]) -> None:
        """Mistakes for plugins with a hook that cannot act in the engine or sampler `use`."""
        for plugin in plugins:
            for hook in sorted(refused.keys() & marked(plugin.plugin).keys()):
                text = f"{plugin.name}: its hook `{hook}` cannot act in '{use}': {refused[hook]}"
                self.add(_place(plugin.place), text)

    def add(self, place: Place, text: str) -> None:
        self.mistakes.append(_mistake(self.recipe.where(place), place, text))

    def part(self, kind: str, config: ComponentConfig, place: Place, protocol: type[Any] | None = None) -> Any:
        """The component, or None after a mistake."""
        try:
            cls, origin = find(kind, config.use)
        except PluginError as error:
            return self.add((*place, "use"), str(error))
        self.origins.append(origin)
        try:
            plugin = build_component(cls, config.options, ".".join(map(str, place)))
        except ComponentError as error:
            for inner, text in error.mistakes:
                self.add((*place, *inner), text)
            return None
        if protocol is not None and not isinstance(plugin, protocol):
            members = ", ".join(f"`{name}`" for name in _members(protocol) if not hasattr(plugin, name))
            return self.add((*place, "use"), f"{config.use} is no {kind}: it lacks {members}")
        return plugin

    def named(self, kind: Literal["reward", "explorer"], config: ComponentConfig, place: Place) -> Named:
        before = len(self.origins)
        plugin = self.part(kind, config, place)
        found = self.origins[before].name if len(self.origins) > before else config.use
        name = config.name or getattr(plugin, "display_name", None) or found
        words = ".".join(map(str, place))
        if name in self.taken:
            self.add(place, f"'{name}' is also the name of {self.taken[name]}; give one of them a `name: ...`")
        self.taken.setdefault(name, words)
        if not isinstance(config, RewardConfig):
            return Named(name, plugin, kind, place=words)
        weight = config.weight_over(self.recipe.train.steps)
        source = (config.use, config.options)
        return Named(name, plugin, kind, weight, words, config.after, config.policy(), source)

    def tracker(self, config: ComponentConfig, number: int) -> NamedTracker:
        place = ("trackers", number)
        plugin = self.part("tracker", config, place, Tracker)
        before = sum(other.use == config.use for other in self.recipe.trackers[:number])
        return NamedTracker(f"{config.use} {before + 1}" if before else config.use, plugin)


def _members(protocol: type[Any]) -> list[str]:
    return sorted({*getattr(protocol, "__annotations__", {}), *(n for n in vars(protocol) if not n.startswith("_"))})


# --------------------------------------------------------------------------------------------------- comparing

MAY_CHANGE_ON_RESUME = (
    "run",
    "data.processes",
    "train.steps",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.show_every",
    "train.profile",
    "trackers",
)


def may_change(place: str) -> bool:
    """Whether a run may be resumed with another value at this place."""
    return place in MAY_CHANGE_ON_RESUME or place.startswith("trackers.")


def differences(old: JSON, new: JSON, place: str = "") -> Iterator[str]:
    """The places at which two values differ, as in `train.steps` and `explore.0.alpha`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{place}.{index}")
    elif old != new:
        yield place


# --------------------------------------------------------------------------------------------------- checking


def check(path: Path, overrides: Sequence[str] = (), watch: Watch | None = None) -> list[Mistake]:
    """Every mistake of a recipe, its plugins and its data; empty when it can run. No model is loaded.

    watch: gets the progress of data preparation.
    """
    reader, root = _read(path, overrides)
    if reader.unread:
        return reader.mistakes
    recipe, more, places = _model(root, path)
    mistakes = [*reader.mistakes, *more]
    if recipe is None:
        # Go on without what is wrong, so that the mistakes of the plugins come with the first answer as well.
        recipe, _, _ = _model(root.without(places), path)
    if recipe is None:
        return mistakes
    try:
        components = build(recipe)
        rewards = recipe.rewards
        Hooks([*components.rewards, *components.explorers], _Defaults(), rewards.combine, rewards.normalise)
    except RecipeError as error:
        return [*mistakes, *error.mistakes]
    except RegistrationError as error:
        return [*mistakes, *(_registration_mistake(recipe, place, text) for place, text in error.mistakes)]
    mistakes += tracker_mistakes(recipe, components)
    if mistakes:
        return mistakes
    found = _data_checked(recipe, components, watch or SilentDisplay())
    return [_mistake(recipe.where(place), place, text) for place, text in found]


def _registration_mistake(recipe: Recipe, words: str, text: str) -> Mistake:
    return _mistake(recipe.where(_place(words)), _place(words), text)


def _place(words: str) -> Place:
    return tuple(int(key) if key.isdecimal() else key for key in words.split("."))


class _Defaults:
    """Stands for the core's own answers, which need torch."""

    @hookimpl
    def advantages(self, rollouts: Rollouts) -> None: ...

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> None: ...


def _data_checked(recipe: Recipe, components: Components, watch: Watch) -> Iterator[tuple[Place, str]]:
    from callwright.data import load_split  # which prepares data as a recipe says, so that it needs this module
    from callwright.pipeline.prepare import NotPrepared

    try:
        load_split(recipe, components, watch, without_models=True)
    except NotPrepared:
        return
    except (CallwrightError, OSError) as error:
        words, colon, text = str(error).partition(": ")
        known = bool(colon) and re.fullmatch(r"data(\.source|\.stages\.\d+)?|train\.\w+", words)
        yield (_place(words), text) if known else (("data", "source"), str(error))
    except Exception as error:
        yield ("data", "source"), f"the data cannot be loaded: {type(error).__name__}: {error}"
