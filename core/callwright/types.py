"""The data that flows through a run. Importing this module does not import torch.

`Task` -> the dialect renders a prompt -> `Rollouts` -> the dialect parses each completion (`Parse`)
-> rewards judge it (`Verdict`) -> advantages -> loss (`MicroBatch`).

Shapes: N rows (completions) in a step, T completion tokens after right-padding, n rows of a micro-batch.
Groups are ragged: rows that answer the same prompt in the same step share a `group_ids` entry.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

JSON = Any  # None | bool | int | float | str | list[JSON] | dict[str, JSON]; recursive aliases cost more than they tell
Message = dict[str, JSON]


# ---------------------------------------------------------------------------------------------------- tasks


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call."""

    name: str
    description: str = ""
    parameters: Mapping[str, JSON] = field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema of the arguments: an object schema with `properties` and `required`."""

    def to_json(self) -> dict[str, JSON]:
        return {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """One call of the answer: for every argument, the list of values that are accepted.

    The empty string in a list means that the argument may be left out (the convention of BFCL's `possible_answer`).
    An accepted dict holds, for each of its keys, again a list of accepted values.
    """

    name: str
    arguments: Mapping[str, Sequence[JSON]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a completion should do: make these calls, or, when `calls` is empty, make none."""

    calls: tuple[ExpectedCall, ...] = ()

    @property
    def no_call(self) -> bool:
        return not self.calls

    def to_json(self) -> str:
        """A JSON string, never a nested column: Arrow pads keys that are missing in a row with None."""
        return json.dumps([{"name": c.name, "arguments": dict(c.arguments)} for c in self.calls], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Answer:
        return cls(tuple(ExpectedCall(c["name"], c["arguments"]) for c in json.loads(text)))


@dataclass(frozen=True, slots=True)
class Task:
    """One row of the data: a conversation, the tools it offers, and the answer if it is known."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    answer: Answer | None = None
    meta: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a dialect makes of a task; the model's chat template turns it into text."""

    messages: list[Message]
    tools: list[dict[str, JSON]] | None = None
    """Tools handed to the chat template, for dialects whose models were trained on the template's own format."""


# ---------------------------------------------------------------------------------------------- completions

Span = tuple[int, int]
"""Half-open range of character positions in a completion's text."""


class Segment(IntEnum):
    """What a completion token is part of."""

    PAD = 0
    THINKING = 1
    CALL = 2
    """Inside a call, and none of the finer kinds below: brackets, commas, equals signs."""
    TAG = 3
    FUNCTION_NAME = 4
    ARGUMENT_NAME = 5
    ARGUMENT_VALUE = 6
    OBSERVATION = 7
    OTHER = 8


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call as the model wrote it."""

    name: str | None
    """None for a positional argument."""
    value: JSON
    name_span: Span | None
    value_span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """One function call found in a completion."""

    name: str
    arguments: tuple[Argument, ...]
    span: Span
    name_span: Span

    def to_json(self) -> dict[str, JSON]:
        """Name and named arguments; of a repeated name the last value wins, as in Python."""
        return {"name": self.name, "arguments": {a.name: a.value for a in self.arguments if a.name is not None}}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict or a parse is what it is. `span` points into the completion's text."""

    code: str
    message: str = ""
    span: Span | None = None


class ParseStatus(StrEnum):
    """Three outcomes, never two: a malformed call is not an abstention."""

    CALLS = "calls"
    UNPARSABLE = "unparsable"
    NO_CALL = "no_call"


@dataclass(frozen=True, slots=True)
class Parse:
    """A completion as its dialect reads it. Made once per completion and shared by all rewards."""

    text: str
    status: ParseStatus
    calls: tuple[Call, ...] = ()
    thinking: Span | None = None
    """Inside of the thinking tags, tags excluded."""
    body: Span | None = None
    """Where the dialect looked for calls; None where its format has no such place (a missing tag)."""
    tags: tuple[Span, ...] = ()
    problems: tuple[Reason, ...] = ()


class ReasonCode(StrEnum):
    """Codes of the core and of the first-party rewards. A plugin adds an enum of its own."""

    CORRECT = "correct"
    UNPARSABLE = "unparsable"
    NO_CALL = "no_call"
    UNEXPECTED_CALL = "unexpected_call"
    WRONG_CALL_COUNT = "wrong_call_count"
    WRONG_FUNCTION = "wrong_function"
    MISSING_ARGUMENT = "missing_argument"
    UNEXPECTED_ARGUMENT = "unexpected_argument"
    POSITIONAL_ARGUMENT = "positional_argument"
    WRONG_TYPE = "wrong_type"
    WRONG_VALUE = "wrong_value"
    UNMATCHED_CALL = "unmatched_call"
    BAD_FORMAT = "bad_format"
    TRUNCATED = "truncated"
    NOT_APPLICABLE = "not_applicable"
    REWARD_FAILED = "reward_failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one reward says of one completion.

    Three states: scored (`score` is a finite number), abstained (`score` is None: the reward does not apply to this
    row) and failed (`failure` names an error or a timeout). A failed row is never a zero: it leaves its group's
    statistics, is counted and is shown. Under `on_failure: floor` it carries the floor as its score.
    """

    score: float | None
    reasons: tuple[Reason, ...] = ()
    failure: str | None = None

    @classmethod
    def abstain(cls, message: str = "") -> Verdict:
        return cls(None, (Reason(ReasonCode.NOT_APPLICABLE, message),))

    @classmethod
    def failed(cls, error: str) -> Verdict:
        return cls(None, (Reason(ReasonCode.REWARD_FAILED, error),), failure=error)


# -------------------------------------------------------------------------------------------------- rollouts


class Need(StrEnum):
    """Quantities that cost something to compute. A plugin lists its own in `needs`; the core computes the union."""

    ENTROPY = "entropy"
    """Entropy of the policy at every completion token, without a gradient."""
    ENTROPY_GRADIENT = "entropy_gradient"
    """`MicroBatch.entropy` carries a gradient."""
    REF_LOGPS = "ref_logps"
    """Log-probabilities under the reference model: a forward pass more."""
    TOP_LOGPS = "top_logps"
    """`MicroBatch.top_logps`: log-probabilities of the likeliest tokens, with a gradient. How many: the plugin's
    attribute `top_logps`. There are as many as the plugin that wants most asked for."""


@dataclass(slots=True)
class Rollouts:
    """One step's completions, N rows. Tensors live on the CPU unless stated; T is the longest completion's length.

    Log-probabilities are in nats, of the distribution at the row's temperature, as TRL and verl take them.
    """

    step: int
    tasks: list[Task]
    """The task of every row (N); rows of a group repeat it."""
    group_ids: Tensor
    """(N,) long. Rows of one prompt in this step share a value; values are not necessarily consecutive."""
    prompt_ids: list[list[int]]
    """Prompt tokens of every row (N)."""
    texts: list[str]
    parses: list[Parse]
    completion_ids: Tensor
    """(N, T) long, right-padded; the end-of-turn token is included when it was sampled."""
    mask: Tensor
    """(N, T) bool: True on completion tokens, the end-of-turn token included."""
    behaviour_logps: Tensor
    """(N, T) float32: of the distribution that was sampled from, after top-p, top-k, min-p and `process_logits`."""
    policy_logps: Tensor
    """(N, T) float32: of the policy at the row's temperature, before any filter."""
    entropy: Tensor
    """(N, T) float32, nats, of the policy at the row's temperature over the full vocabulary."""
    segments: Tensor
    """(N, T) int8, values of `Segment`."""
    truncated: Tensor
    """(N,) bool: the completion hit the length limit."""
    temperature: Tensor
    """(N,) float32: the sampling plan's."""
    off_policy: Tensor
    """(N,) bool: rows that the `replay` hook added. Their `behaviour_logps` are of when they were drawn."""
    ref_logps: Tensor | None = None
    """(N, T) float32, present when a plugin needs it."""
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    """By reward name, one per row."""
    rewards: dict[str, Tensor] = field(default_factory=dict)
    """By reward name, (N,) float32; NaN where the reward abstained or failed."""
    total: Tensor | None = None
    """(N,) float32: the combined reward after `shape_rewards`; NaN for a row that takes no part in training."""
    advantages: Tensor | None = None
    """(N, T) float32, zero off the mask."""
    token_weights: Tensor | None = None
    """(N, T) float32."""
    token_ends: Tensor | None = None
    """(N, T) int32: where the characters of each token end in the row's text; they begin where those of the token
    before end. None where nobody asked a tokenizer."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def groups(self) -> Tensor:
        """(number of groups,) long: the distinct `group_ids`, ascending. `keep_groups` answers in this order."""
        import torch

        return torch.unique(self.group_ids)

    @property
    def lengths(self) -> Tensor:
        """(N,) long: number of completion tokens."""
        return self.mask.sum(1)

    def select(self, rows: Sequence[int] | Tensor) -> Rollouts:
        """The given rows, in the given order, as a new object; T is kept."""
        import torch

        index = torch.as_tensor(rows, dtype=torch.long)
        return dataclasses.replace(
            self, **{f.name: _take(getattr(self, f.name), index) for f in dataclasses.fields(self)}
        )

    @classmethod
    def concatenate(cls, parts: Iterable[Rollouts]) -> Rollouts:
        """All rows of `parts` in one object, padded to the longest T. Parts must hold the same rewards and tensors."""
        parts = list(parts)
        values = {f.name: _join([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(cls)}
        return cls(**values)


def _take(value: Any, index: Tensor) -> Any:
    if isinstance(value, dict):
        return {key: _take(item, index) for key, item in value.items()}
    if isinstance(value, list):
        return [value[i] for i in index.tolist()]
    return value if value is None or isinstance(value, int) else value[index]


def _join(values: list[Any]) -> Any:
    import torch

    first = values[0]
    if isinstance(first, dict):
        return {key: _join([v[key] for v in values]) for key in first}
    if isinstance(first, list):
        return [item for v in values for item in v]
    if first is None or isinstance(first, int):
        return first
    if first.dim() == 2:
        width = max(v.shape[1] for v in values)
        values = [torch.nn.functional.pad(v, (0, width - v.shape[1])) for v in values]
    return torch.cat(values)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A completion of an earlier step that a plugin adds to a group of this step."""

    group: int
    """The value of `Rollouts.group_ids` of the group that it joins: one of the same task."""
    completion_ids: Sequence[int]
    """Its tokens, the end-of-turn token included."""
    behaviour_logps: Sequence[float]
    """Of each token, in nats, when it was drawn."""


@dataclass(slots=True)
class MicroBatch:
    """The rows of one forward pass inside an optimisation pass; what `policy_loss` and `loss_terms` see.

    All tensors are on the training device. `logps` carries the gradient, `entropy` does when a plugin needs
    `Need.ENTROPY_GRADIENT`; everything else is constant.
    """

    logps: Tensor
    """(n, T) float32: of the policy now, at the row's temperature."""
    entropy: Tensor
    """(n, T) float32, nats."""
    old_logps: Tensor
    """(n, T) float32: of the policy before this step's first update. In the first pass it equals `logps`."""
    behaviour_logps: Tensor
    """(n, T) float32: of the distribution that was sampled from."""
    ref_logps: Tensor | None
    """(n, T) float32, present when a plugin needs it."""
    advantages: Tensor
    """(n, T) float32, after `shape_advantages`."""
    mask: Tensor
    """(n, T) bool."""
    segments: Tensor
    """(n, T) int8, values of `Segment`."""
    token_weights: Tensor
    """(n, T) float32: the product of `token_weights`; the core multiplies the policy loss by it."""
    scale: Tensor
    """(n, T) float32: each token's share of the whole step's loss under the recipe's aggregation."""
    rows: Tensor
    """(n,) long: which rows of `rollouts`."""
    rollouts: Rollouts
    top_logps: Tensor | None = None
    """(n, T, K) float32, with a gradient, present when a plugin needs it: of the policy now, of the K tokens that were
    the likeliest before this step's first update, likeliest first."""
    old_top_logps: Tensor | None = None
    """(n, T, K) float32: of the same tokens before this step's first update."""
    top_ids: Tensor | None = None
    """(n, T, K) long: these tokens."""

    def aggregate(self, values: Tensor) -> Tensor:
        """Scalar: the part of the step's aggregate of `values` (n, T) that falls on this micro-batch.

        Summed over the micro-batches this is the mean that the recipe's `aggregation` names, over the whole step; so a
        loss term means the same however the step is cut into micro-batches.
        """
        return (values * self.scale).sum()


# --------------------------------------------------------------------------------------------- what plugins are


@runtime_checkable
class Dialect(Protocol):
    """An output format: text <-> calls.

    A dialect may also have `unfinished(text) -> Parse`: as `parse`, of a text that goes on. A call in whose middle the
    text ends is read as far as it goes, with spans that end there; a name is what is written of it, and a value that is
    not complete is None. Elsewhere, and for a text that is a whole reply, it is what `parse` gives. As total as `parse`
    is, and it is asked for every row at every token. Without it, `process_logits` sees an unfinished call as `parse`
    does: commonly as `Segment.OTHER`.
    """

    stop: tuple[str, ...]
    """Strings that end a completion when they appear; the text keeps them."""

    def prompt(self, task: Task) -> Prompt:
        """The conversation that asks the model to answer `task` in this format, worked examples included."""
        ...

    def parse(self, text: str) -> Parse:
        """Total over any text: never raises because of it, never evaluates it, bounded time."""
        ...

    def render(self, calls: Sequence[Call]) -> str:
        """The text of a well-formed reply that makes these calls; `parse` gives them back."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where tasks come from.

    A source may also have `fingerprint() -> str`, a text that differs whenever `load` would give other tasks, such as
    the hash of the file that it reads. With it, rows that were prepared before are not loaded again.

    A source may say `licence` and `origin`, texts for the data card: under which terms the rows come, and where from.
    """

    def load(self) -> Iterable[Task | RowError]:
        """All rows, in a stable order: a task, or, as a value and not raised, why a row cannot be read.

        Raises CallwrightError for what concerns no single row: a file that is missing, or is no JSON at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that a data stage left out, and why."""

    task: Task
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Corrected:
    """A row that a data stage mended: the task as it is now, and what was wrong with it. It keeps its id."""

    task: Task
    code: str
    message: str


@runtime_checkable
class Stage(Protocol):
    """A step of data preparation.

    What a stage may also have:

    - `row_by_row: ClassVar[bool]`: True says that no task's fate depends on another one. The rows may then be dealt
      out to several processes, in pieces.
    - `prepare(context: StageContext) -> None`: called once before `apply`, with the recipe and its components, a folder
      for answers that are dear to ask again, and where to report progress. Its class says `reads`, the top-level keys
      of the recipe that its result depends on, such as `("dialect", "rewards")`.
    - `costly: ClassVar[bool]`: True says that it asks a model. `callwright check` does not run it, its result is kept,
      and `callwright data --dry-run` calls `estimate(tasks) -> str`, which says what it would cost, instead of `apply`.
    """

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped | Corrected]:
        """For every task, in the given order, one result of the same id: the task itself if it is kept as it is.

        `tasks` are read from disk as they are asked for: going over them once and giving each result as soon as it is
        known takes the least memory. Never raises because of a task, whatever is in it.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A component that learns or follows a schedule; its state is in every checkpoint."""

    def state_dict(self) -> dict[str, JSON]:
        """JSON values only: checkpoints hold nothing pickled."""
        ...

    def load_state_dict(self, state: dict[str, JSON]) -> None: ...


class CallwrightError(Exception):
    """A mistake of the user's or of the surroundings; the message names place and repair. Shown without traceback."""


class RowError(CallwrightError):
    """A data row that cannot be used: `place` is the file or source, `row` counts from 1."""

    def __init__(self, place: str, row: int, field_name: str, message: str) -> None:
        super().__init__(f"{place}, row {row}, field '{field_name}': {message}")
        self.place, self.row, self.field_name = place, row, field_name
