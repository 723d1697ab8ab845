"""A recipe's run on a machine, as the few numbers on which memory and time depend."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast, get_args

from callwright.planning.hardware import GIB, ON_A_CPU, Assumptions, Hardware
from callwright.planning.shapes import ModelShape
from callwright.types import CallwrightError, Need

if TYPE_CHECKING:
    from callwright.recipe import Recipe

Sharding = Literal["none", "ddp", "fsdp", "zero2", "zero3"]
"""How the GPUs share the model: not at all, a copy each, or in parts."""
SHARDINGS: tuple[Sharding, ...] = ("ddp", "fsdp", "zero2", "zero3")
Numbers = Literal["float32", "autocast", "bfloat16"]
"""Weights and arithmetic in float32; weights in float32, arithmetic in bfloat16; both in bfloat16."""
Rollouts = Literal["local", "vllm", "vllm_server"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is run, and on what. Lengths are in tokens, `prompts` and the micro-batch as in the recipe."""

    shape: ModelShape
    hardware: Hardware
    gpus: int
    """Of all machines."""
    nodes: int
    sharding: Sharding
    rollouts: Rollouts
    numbers: Numbers
    lora_rank: int | None
    """Of an adapter on all linear layers; None trains all weights."""
    checkpointing: bool
    packed: bool
    """Completions of a group share their prompt."""
    reference: bool
    """Whether log-probabilities of a reference model are needed."""
    prompts: int
    group: int
    prompt_tokens: int
    """Of a prompt, on average."""
    shared_tokens: int
    """Of them those with which all prompts begin, such as instructions and examples; less than `prompt_tokens`."""
    completion_tokens: int
    """Of a completion, on average."""
    max_new_tokens: int
    tokens_per_micro_batch: int
    passes: int
    steps: int
    assumptions: Assumptions
    server_gpus: int = 0
    """Of a vLLM server, beside `gpus`: an engine on each, with the whole model."""
    reference_for_kl: bool = False
    """The reference model is there for `train.kl` alone."""

    @property
    def prompts_here(self) -> int:
        """Of a step, on the GPU that has the most."""
        return math.ceil(self.prompts / self.gpus)

    @property
    def rows_here(self) -> int:
        return self.prompts_here * self.group

    @property
    def drawing(self) -> Setting:
        """That of the GPUs on which completions are drawn: the server's, where there is one, else this."""
        if self.rollouts != "vllm_server":
            return self
        sharding: Sharding = "none" if self.server_gpus == 1 else "ddp"
        return replace(self, gpus=self.server_gpus, nodes=1, sharding=sharding, rollouts="vllm", server_gpus=0)

    @property
    def sharded_weights(self) -> bool:
        """Whether each GPU holds only a part of the weights."""
        return self.sharding in ("fsdp", "zero3") and self.gpus > 1

    @property
    def shards(self) -> int:
        """Parts in which gradients and optimizer are."""
        return self.gpus if self.sharding in ("fsdp", "zero2", "zero3") else 1

    @property
    def weight_bytes(self) -> int:
        return 2 if self.numbers == "bfloat16" else 4

    @property
    def vllm_numbers(self) -> Numbers:
        """In which vLLM computes: half precision, unless the policy is in float32."""
        return "float32" if self.numbers == "float32" else "bfloat16"

    @property
    def vllm_bytes(self) -> int:
        """Of each of its weights."""
        return _vllm_bytes(self.numbers)

    @property
    def trained(self) -> int:
        """Weights that have a gradient."""
        if self.lora_rank is None:
            return self.shape.parameters
        return self.shape.adapter_parameters(self.lora_rank)

    @property
    def trained_bytes(self) -> int:
        """Of each of them; an adapter is always float32."""
        return self.weight_bytes if self.lora_rank is None else 4

    @property
    def encoded_tokens(self) -> int:
        """Of a GPU's prompts, when completions are drawn from them: what all share is encoded once."""
        if not self.packed:
            return self.rows_here * self.prompt_tokens
        return self.prompts_here * (self.prompt_tokens - self.shared_tokens) + self.shared_tokens

    def tokens(self, prompts: int, rows: int, length: int) -> int:
        """In a pass forward over these prompts with completions of this length, as `Learner.cut` counts them: without
        what prompts share."""
        return prompts * self.prompt_tokens + rows * length if self.packed else rows * (self.prompt_tokens + length)

    def with_changes(self, **changes: object) -> Setting:
        return replace(self, **changes)  # type: ignore[arg-type] # names and values are this class's own


def setting_of(
    recipe: Recipe,
    shape: ModelShape,
    hardware: Hardware,
    *,
    gpus: int = 1,
    nodes: int = 1,
    sharding: Sharding | None = None,
    rollouts: Rollouts | None = None,
    server_gpus: int | None = None,
    prompt_tokens: int = 1024,
    shared_tokens: int = 0,
    completion_tokens: int | None = None,
    needs_reference: bool = False,
    assumed: dict[str, float] | None = None,
) -> Setting:
    """What a recipe is on a machine.

    gpus: of each of the `nodes` machines. sharding: None is no sharding for one GPU, else "ddp". rollouts: None is what
    the recipe says. server_gpus: of the vLLM server; None is 1 where there is one. completion_tokens: None is the
    longest that the recipe allows. needs_reference: an explorer needs a reference model, so that there is one also
    where `train.kl` is 0.

    Raises CallwrightError for what cannot be together.
    """
    train, model = recipe.train, recipe.model
    total = gpus * nodes
    if hardware.name == "cpu" and total > 1:
        raise CallwrightError("--gpu cpu: the estimate is of one process; leave --gpus and --nodes out")
    if total == 1 and sharding is not None:
        raise CallwrightError(f"--sharding {sharding} needs several GPUs; leave it out, or write --gpus 8")
    if completion_tokens is not None and completion_tokens > train.max_new_tokens:
        raise CallwrightError(
            f"--completion-tokens {completion_tokens} is above train.max_new_tokens, which is {train.max_new_tokens};"
            f" write train.max_new_tokens={completion_tokens} as well"
        )
    if shared_tokens >= prompt_tokens:
        raise CallwrightError(
            f"--shared-tokens {shared_tokens} are all of --prompt-tokens {prompt_tokens}; prompts are longer than what"
            " they share"
        )
    if rollouts is None:
        name = recipe.rollouts.use.rpartition(":")[2]
        if name not in get_args(Rollouts):
            raise CallwrightError(
                f"rollouts: nothing is known of the speed of '{name}'; write --rollouts local, vllm or vllm_server"
            )
        rollouts = cast("Rollouts", name)
    if server_gpus is not None and rollouts != "vllm_server":
        raise CallwrightError(f"--server-gpus {server_gpus} needs a server: write --rollouts vllm_server as well")
    if hardware.name == "cpu" and rollouts == "vllm_server":
        raise CallwrightError("--gpu cpu: the estimate is of one process; write --rollouts local as well")
    bf16 = model.precision == "bfloat16" or (model.precision == "auto" and hardware.bf16)
    numbers: Numbers = "bfloat16" if model.dtype == "bfloat16" else "autocast" if bf16 else "float32"
    default = dict(ON_A_CPU) if hardware.name == "cpu" else {}
    if rollouts != "local":
        default |= _cache_of_vllm(recipe, _vllm_bytes(numbers) * shape.parameters, hardware, rollouts)
    return Setting(
        shape=shape,
        hardware=hardware,
        gpus=total,
        nodes=nodes,
        sharding="none" if total == 1 else sharding or "ddp",
        rollouts=rollouts,
        numbers=numbers,
        lora_rank=None if model.lora is None else model.lora.rank,
        checkpointing=model.gradient_checkpointing,
        packed=model.packing != "padded",
        reference=train.kl > 0 or needs_reference,
        prompts=train.prompts_per_step,
        group=train.group_size,
        prompt_tokens=prompt_tokens,
        shared_tokens=shared_tokens,
        completion_tokens=completion_tokens or train.max_new_tokens,
        max_new_tokens=train.max_new_tokens,
        tokens_per_micro_batch=train.tokens_per_micro_batch,
        passes=train.passes,
        steps=train.steps,
        assumptions=Assumptions().changed({**default, **(assumed or {})}),
        server_gpus=(server_gpus or 1) if rollouts == "vllm_server" else 0,
        reference_for_kl=not needs_reference,
    )


def _vllm_bytes(numbers: Numbers) -> int:
    return 4 if numbers == "float32" else 2


SERVER_SHARE = 0.92
"""Of its GPU's memory that a vLLM server takes: vLLM 0.31's default `gpu_memory_utilization`."""


def _cache_of_vllm(recipe: Recipe, weights: int, hardware: Hardware, rollouts: Rollouts) -> dict[str, float]:
    """The cache's bytes: what its `weights`, in bytes, leave to a server; or what the recipe says for `vllm`."""
    options: dict[str, object] = dict(recipe.rollouts.options)
    place, repair = "rollouts.gpu_memory_utilization", "write a larger share, or another --gpu"
    if rollouts == "vllm_server":
        options = {"gpu_memory_utilization": SERVER_SHARE}
        place = f"--gpu {hardware.name}"
        repair = "write another --gpu; tensor parallelism, which would put it on several, is not calculated here"
    gib, share = options.get("cache_gib"), options.get("gpu_memory_utilization")
    if isinstance(gib, int | float):
        return {"vllm_cache": gib * GIB}
    if not isinstance(share, int | float):
        return {}
    left = share * hardware.memory - weights
    if left <= 0:
        raise CallwrightError(
            f"{place}: {share} of {hardware.memory / GIB:.0f} GiB does not hold vLLM's copy of the weights,"
            f" {weights / GIB:.1f} GiB; {repair}"
        )
    return {"vllm_cache": left}


def needs_a_reference(plugins: list[object]) -> bool:
    """Whether one of these plugins needs log-probabilities of a reference model."""
    return any(Need.REF_LOGPS in getattr(plugin, "needs", ()) for plugin in plugins)
