"""A setting with its memory and time, and the smallest change that makes it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations

from callwright.planning.hardware import GIB
from callwright.planning.memory import Memory, memory
from callwright.planning.setting import Setting
from callwright.planning.timing import StepTime, step_time
from callwright.types import JSON


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to write differently."""

    text: str
    """As it is written: a line of the recipe, or an option."""
    remark: str
    cost: int
    """The smaller, the less the run becomes another one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run needs."""

    setting: Setting
    memory: Memory
    time: StepTime
    repairs: tuple[tuple[Change, ...], ...]
    """What makes it fit: on these GPUs, and with more where that changes the run less. Empty if it fits, or if nothing
    that is known here helps."""

    @property
    def completion_tokens(self) -> int:
        """Drawn in a step, on all GPUs."""
        return self.setting.prompts * self.setting.group * self.setting.completion_tokens

    @property
    def tokens_per_second(self) -> float:
        return self.completion_tokens / self.time.seconds

    @property
    def steps_per_hour(self) -> float:
        return 3600 / self.time.seconds

    @property
    def hours(self) -> float:
        """Of all steps of the recipe, without evaluations and checkpoints."""
        return self.setting.steps * self.time.seconds / 3600

    def to_json(self) -> dict[str, JSON]:
        """Bytes and seconds."""
        setting, total = self.setting, self.memory.total
        return {
            "model": asdict(setting.shape) | {"parameters": setting.shape.parameters},
            "hardware": setting.hardware.name,
            "gpus": setting.gpus,
            "nodes": setting.nodes,
            "sharding": setting.sharding,
            "rollouts": setting.rollouts,
            "server_gpus": setting.server_gpus,
            "numbers": setting.numbers,
            "memory": {
                "parts": [asdict(part) for part in self.memory.parts],
                "loading": total.loading,
                "generating": total.generating,
                "updating": total.updating,
                "available": self.memory.available,
                "fits": self.memory.fits,
            },
            "repairs": [[change.text for change in changes] for changes in self.repairs],
            "seconds": asdict(self.time) | {"step": self.time.seconds},
            "tokens_per_second": self.tokens_per_second,
            "steps_per_hour": self.steps_per_hour,
            "hours": self.hours,
            "prompt_tokens": setting.prompt_tokens,
            "shared_tokens": setting.shared_tokens,
            "completion_tokens": setting.completion_tokens,
            "assumptions": asdict(setting.assumptions),
        }


def make_plan(setting: Setting) -> Plan:
    """Memory, time, and what to change if it does not fit."""
    found = memory(setting)
    return Plan(setting, found, step_time(setting), () if found.fits else repairs(setting))


def with_sharding(setting: Setting) -> Setting:
    """For a setting of several GPUs in which nobody has said how they share the model: copies if they fit, else parts
    if those do."""
    parts = setting.with_changes(sharding="fsdp")
    return parts if setting.sharding == "ddp" and not memory(setting).fits and memory(parts).fits else setting


def repairs(setting: Setting) -> tuple[tuple[Change, ...], ...]:
    """The changes of least cost on the same GPUs, and those with more GPUs if they cost less."""
    here = smallest_change(setting, tuple(_changes(setting)))
    more = smallest_change(setting, (*_changes(setting), *_more_gpus(setting)))
    found = (here, more if more != here else None)
    return tuple(changes for changes in found if changes is not None)


def smallest_change(setting: Setting, possible: tuple[Possible, ...]) -> tuple[Change, ...] | None:
    """The set of at most four changes of least cost with which the setting fits; None if none does."""
    best: tuple[int, tuple[Change, ...]] | None = None
    for count in range(1, 5):
        for chosen in combinations(possible, count):
            cost = sum(change.cost for change, _ in chosen)
            names = [name for _, values in chosen for name in values]
            if len(set(names)) < len(names) or (best and cost >= best[0]):
                continue
            values = {name: value for _, part in chosen for name, value in part.items()}
            if memory(setting.with_changes(**values)).fits:
                best = cost, tuple(change for change, _ in chosen)
    return best[1] if best else None


Possible = tuple[Change, dict[str, object]]
"""A change, and the fields of the setting that become others with it."""


def _changes(setting: Setting) -> Iterator[Possible]:
    """What could be written differently on the same GPUs, from what changes no number to what changes the method."""
    smallest, tokens = setting.prompt_tokens + setting.max_new_tokens, setting.tokens_per_micro_batch
    cost = 10
    while tokens > smallest:
        tokens = max(tokens // 2, smallest)
        text = f"train.tokens_per_micro_batch={tokens}"
        yield Change(text, "the same gradients, in more parts", cost), {"tokens_per_micro_batch": tokens}
        cost += 1
    if not setting.checkpointing:
        remark = "the same gradients; the update takes a third longer"
        yield Change("model.gradient_checkpointing=true", remark, 30), {"checkpointing": True}
    if setting.sharding in ("ddp", "zero2"):
        yield Change("--sharding fsdp", "the same numbers, the model in parts", 40), {"sharding": "fsdp"}
    if setting.rollouts == "local" and setting.hardware.name != "cpu":
        remark = "vLLM draws as many rows at once as its cache holds"
        yield Change("rollouts=vllm", remark, 60), {"rollouts": "vllm"}
    beside = setting.rollouts == "vllm" or (setting.rollouts == "local" and setting.hardware.name != "cpu")
    if beside and setting.assumptions.vllm_cache > 4 * GIB:
        little = setting.assumptions.changed({"vllm_cache": 4 * GIB})
        remark = "fewer rows at once: drawing takes longer"
        values: dict[str, object] = {"rollouts": "vllm", "assumptions": little}
        yield Change("rollouts='{use: vllm, cache_gib: 4}'", remark, 65), values
    prompts, cost = setting.prompts, 100
    while prompts > setting.gpus:
        prompts = max(prompts // 2, setting.gpus)
        yield Change(f"train.prompts_per_step={prompts}", "a noisier gradient", cost), {"prompts": prompts}
        cost += 10
    if setting.reference and setting.reference_for_kl and setting.lora_rank is None:
        yield Change("train.kl=0", "nothing holds the policy near where it began", 200), {"reference": False}
    if setting.lora_rank is None:
        yield Change("model.lora.rank=16", "trains an adapter in place of all weights", 500), {"lora_rank": 16}
    if setting.numbers != "bfloat16" and setting.hardware.bf16:
        lora = setting.lora_rank is not None
        remark = "of the frozen weights" if lora else "of all weights: small updates are rounded away, not with LoRA"
        yield Change("model.dtype=bfloat16", remark, 50 if lora else 520), {"numbers": "bfloat16"}


def _more_gpus(setting: Setting) -> Iterator[Possible]:
    """Twice, four times, ... as many, eight in a machine, while each has a prompt."""
    total, cost = setting.gpus * 2, 70
    while total <= min(setting.prompts, 512) and setting.hardware.name != "cpu":
        nodes = max(setting.nodes, total // 8)
        text = f"--gpus {total // nodes}" + (f" --nodes {nodes}" if nodes > 1 else "")
        values: dict[str, object] = {"gpus": total, "nodes": nodes}
        if setting.sharding == "none":
            text, values = f"{text} --sharding fsdp", {**values, "sharding": "fsdp"}
        yield Change(text, "more GPUs", cost), values
        total, cost = total * 2, cost + 10
