"""Bytes on the GPU that needs the most, by part and by what the run is doing. All functions are pure.

D hidden, F intermediate, H heads, K KV heads, d head dimension, V vocabulary, L layers, S tokens in a pass forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from callwright.planning.hardware import GIB
from callwright.planning.setting import Setting
from callwright.planning.shapes import ModelShape

LOGITS_PER_CHUNK = 2**24
"""As in `callwright.packing`: elements of the largest logits tensor held at once."""
SAMPLING_BYTES = 20
"""Of each element of a step's logits while a token is drawn: logits and those over the temperature in float32,
probabilities, and their running sum in float64 (`callwright.sampling.generate`)."""
CHUNK_BYTES = 20
"""Of each element of a chunk of logits in the backward pass: five float32 tensors (`Policy._score_chunk`)."""
CPU_PROCESS = 0.6e9
"""Bytes of a process that has loaded torch and transformers, before it loads a model."""
ZERO_BUCKET = 500_000_000
"""Elements of DeepSpeed's buffers for exchanging gradients and weights, its default."""
ZERO_LIVE = 1_000_000_000
"""Weights that DeepSpeed ZeRO-3 keeps whole at once in an update, its default."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one thing while the model is loaded, while completions are drawn, and in the update."""

    name: str
    loading: float = 0.0
    generating: float = 0.0
    updating: float = 0.0

    @property
    def largest(self) -> float:
        return max(self.loading, self.generating, self.updating)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one GPU holds."""

    parts: tuple[Part, ...]
    available: float

    @property
    def total(self) -> Part:
        return Part(
            "in all",
            sum(part.loading for part in self.parts),
            sum(part.generating for part in self.parts),
            sum(part.updating for part in self.parts),
        )

    @property
    def peak(self) -> float:
        return self.total.largest

    @property
    def fits(self) -> bool:
        return self.peak <= self.available


def memory(setting: Setting) -> Memory:
    """All parts of a setting. Sums of a column are an upper bound: not every part is at its largest at once."""
    weights = setting.shape.parameters * setting.weight_bytes
    adapter = 0 if setting.lora_rank is None else setting.trained * 4
    held = (weights + adapter) / (setting.gpus if setting.sharded_weights else 1)
    gradients, optimizer = gradient_bytes(setting), optimizer_bytes(setting)
    reference = weights if setting.reference and setting.lora_rank is None else 0
    engine = vllm_weight_bytes(setting) if setting.rollouts == "vllm" else 0
    pool = vllm_cache_bytes(setting) if setting.rollouts == "vllm" else 0
    cache = local_cache_bytes(setting) if setting.rollouts == "local" else pool
    reserve = CPU_PROCESS if setting.hardware.name == "cpu" else setting.hardware.memory * setting.assumptions.reserve
    parts = (
        # Each process loads the whole model before it is cut into parts.
        Part("weights", weights + adapter, held, held),
        Part("weights, gathered", 0, weights if setting.sharded_weights else 0, gathered_bytes(setting)),
        Part("weights, cast to bfloat16", 0, *cast_bytes(setting)),
        Part("reference model", reference, reference, reference),
        Part("gradients", 0, 0, gradients),
        Part("buffers of the exchange", 0, *[buffer_bytes(setting)] * 2),
        Part("optimizer", 0, optimizer, optimizer),
        Part("activations", 0, prefill_bytes(setting), activation_bytes(setting)),
        Part("logits", 0, sampling_bytes(setting), logits_bytes(setting)),
        Part("KV cache", 0, cache, pool),
        Part("weights of vLLM", engine, engine, engine),
        Part("torch and CUDA" if setting.hardware.name != "cpu" else "the process", *[reserve] * 3),
    )
    return Memory(tuple(part for part in parts if part.largest), setting.hardware.memory)


# -------------------------------------------------------------------------------------------------- model states


def gradient_bytes(setting: Setting) -> float:
    """A number for each trained weight, in the weight's format; in parts with FSDP2 and ZeRO (arXiv 1910.02054)."""
    return setting.trained * setting.trained_bytes / setting.shards


def optimizer_bytes(setting: Setting) -> float:
    """AdamW's two running means in the weights' format (torch.optim.AdamW). DeepSpeed keeps weights and both means in
    float32 of its own: K = 12 bytes (arXiv 1910.02054, section 3.1)."""
    if setting.sharding in ("zero2", "zero3"):
        return 12 * setting.trained / setting.shards
    return 2 * setting.trained * setting.trained_bytes / setting.shards


def buffer_bytes(setting: Setting) -> float:
    """DDP: its buckets hold all gradients once more. DeepSpeed: two buckets. FSDP2: a layer's gradients, twice."""
    size = setting.trained_bytes
    if setting.sharding == "ddp":
        return setting.trained * size
    if setting.sharding in ("zero2", "zero3"):
        return 2 * min(ZERO_BUCKET, setting.trained) * size
    if setting.sharding == "fsdp":
        return 2 * setting.trained * size / setting.shape.layers
    return 0


def gathered_bytes(setting: Setting) -> float:
    """Weights that are whole for a while in the update: with FSDP2 two layers, embedding and head; with ZeRO-3 up to a
    billion. While completions are drawn all of them are (`callwright_trl.processes.whole_weights`)."""
    if not setting.sharded_weights:
        return 0
    shape = setting.shape
    ends = shape.head * (1 if shape.tied else 2)
    numbers = ends + 2 * shape.layer_parameters if setting.sharding == "fsdp" else ZERO_LIVE
    return min(numbers, shape.parameters) * setting.weight_bytes


def cast_bytes(setting: Setting) -> tuple[float, float]:
    """While drawing, and in the update: autocast keeps bfloat16 copies of the matrices until its end, and the backward
    pass needs them. Of frozen weights it keeps none, so that with LoRA they are cast anew at every use."""
    if setting.numbers != "autocast":
        return 0, 0
    shape = setting.shape
    everything, frozen = 2 * (shape.products + shape.head), setting.lora_rank is not None
    drawing = 0 if setting.rollouts != "local" else 2 * shape.head if frozen else everything
    return drawing, 2 * (shape.layer_products + shape.head) if frozen and setting.checkpointing else everything


# ----------------------------------------------------------------------------------------------------- activations


def activation_bytes_per_token(setting: Setting) -> float:
    """Of one layer and one token: what autograd keeps for the backward pass.

    Counted in transformers' code and found again to the byte by tests/core/test_planning.py. Two norms keep their
    input in float32, the normalised input and the output; the matrices their inputs; attention its queries, keys,
    values, output and each head's normaliser; the MLP gate, its activation, up and their product. A frozen matrix or
    norm keeps nothing for its own gradient, but an adapter keeps its inputs in float32, and `rank` numbers for each.
    """
    shape = setting.shape
    e = 4 if setting.numbers == "float32" else 2  # bytes of what a matrix product reads and writes
    if setting.lora_rank is None:
        by_hidden = {"float32": 24, "autocast": 26, "bfloat16": 16}[setting.numbers]
        by_intermediate, by_query, norm = 4 * e, 2 * e, 4 + e
        rank = 0
    else:
        by_hidden = {"float32": 16, "autocast": 18, "bfloat16": 28}[setting.numbers]
        by_intermediate = {"float32": 16, "autocast": 8, "bfloat16": 10}[setting.numbers]
        by_query = {"float32": 8, "autocast": 6, "bfloat16": 8}[setting.numbers]
        norm, rank = 4, 7 * setting.lora_rank * (2 if setting.numbers == "autocast" else 4)
    numbers = by_hidden * shape.hidden + by_intermediate * shape.intermediate + rank + 8
    numbers += by_query * shape.query_width + 2 * e * shape.kv_width + 4 * shape.heads
    if shape.qk_norm:
        numbers += norm * (shape.query_width + shape.kv_width) + 4 * (shape.heads + shape.kv_heads)
    return numbers


def activation_bytes(setting: Setting) -> float:
    """Of a micro-batch: all layers, and the embedding's output and the last norm. With gradient checkpointing of most
    layers the input alone, and of one that is computed again everything and the gradients of the MLP; by then the
    logits' memory is free again."""
    shape, tokens = setting.shape, micro_batch_tokens(setting)
    state = 2 if setting.numbers == "bfloat16" else 4
    ends = tokens * ((8 + 2 * state) * shape.hidden + 8 * shape.head_dim)
    layer = tokens * activation_bytes_per_token(setting)
    if not setting.checkpointing:
        return shape.layers * layer + ends
    e = 4 if setting.numbers == "float32" else 2
    again = layer + tokens * 2 * e * shape.intermediate
    return shape.layers * tokens * state * shape.hidden + ends + max(0, again - logits_bytes(setting))


def micro_batch_tokens(setting: Setting) -> int:
    """At most as many as the recipe allows, at least one row, at most all rows of a GPU (`Learner.cut`)."""
    one_row = setting.prompt_tokens + setting.max_new_tokens
    all_rows = setting.tokens(setting.prompts_here, setting.rows_here, setting.max_new_tokens)
    return min(max(setting.tokens_per_micro_batch, one_row), all_rows)


def micro_batches(setting: Setting) -> int:
    """In one optimisation pass, with completions of average length; in several processes of the longest, as they agree
    on a number of parts before the first step (`TrlRun.parts`)."""
    length = setting.completion_tokens if setting.gpus == 1 else setting.max_new_tokens
    tokens = setting.tokens(setting.prompts_here, setting.rows_here, length)
    return max(1, math.ceil(tokens / micro_batch_tokens(setting)))


def logits_bytes(setting: Setting) -> float:
    """In the update: a chunk's logits and what follows from them, and the head's gradient before it is added up."""
    shape = setting.shape
    own = setting.rows_here * setting.max_new_tokens
    scored = (
        micro_batch_tokens(setting)
        * own
        / setting.tokens(setting.prompts_here, setting.rows_here, setting.max_new_tokens)
    )
    chunk = min(LOGITS_PER_CHUNK, scored * shape.vocabulary)
    return CHUNK_BYTES * chunk + (0 if setting.lora_rank is not None else 2 * setting.weight_bytes * shape.head)


# ------------------------------------------------------------------------------------------------------ generation


def cache_bytes_per_token(shape: ModelShape, numbers: str) -> int:
    """Keys and values of one token. Under autocast they are float32: rotary positions leave keys so, and the cache
    takes the format of keys for both (transformers' DynamicCache)."""
    return shape.cache_numbers() * (2 if numbers == "bfloat16" else 4)


def local_cache_bytes(setting: Setting) -> float:
    """Of all rows at once, at their longest. Prompts are there twice, in the order of encoding and by prompt
    (`SharedPrompts`); one layer's tokens are copied when it grows by one."""
    one = cache_bytes_per_token(setting.shape, setting.numbers)
    own = setting.rows_here * setting.max_new_tokens
    if not setting.packed:
        return one * (own + setting.encoded_tokens) * (1 + 1 / setting.shape.layers)
    return one * (2 * setting.encoded_tokens + own * (1 + 1 / setting.shape.layers))


def prefill_bytes(setting: Setting) -> float:
    """While prompts are encoded, all of a GPU's at once: the MLP's three tensors, and four as wide as the model. vLLM
    encodes so many tokens at once and no more (`vllm_limits`), a server nothing here."""
    if setting.rollouts == "vllm_server":
        return 0
    e = 4 if setting.numbers == "float32" else 2
    state = 2 if setting.numbers == "bfloat16" else 4
    tokens = setting.encoded_tokens
    if setting.rollouts == "vllm":
        tokens, e, state = min(tokens, vllm_limits(setting)[1]), setting.vllm_bytes, setting.vllm_bytes
    return tokens * (3 * e * setting.shape.intermediate + 4 * state * setting.shape.hidden)


def sampling_bytes(setting: Setting) -> float:
    """The logits of all rows while a token is drawn, and the attention's scores of one layer (a GPU's path holds three
    float32 numbers for each head and visible token)."""
    if setting.rollouts == "vllm_server":
        return 0
    rows = setting.rows_here
    if setting.rollouts == "vllm":
        return min(rows, vllm_rows(setting)) * setting.shape.vocabulary * SAMPLING_BYTES
    scores = 0
    if setting.hardware.name != "cpu":
        scores = 12 * rows * setting.shape.heads * (setting.prompt_tokens + setting.max_new_tokens)
    return rows * setting.shape.vocabulary * SAMPLING_BYTES + scores


def vllm_limits(setting: Setting) -> tuple[int, int]:
    """Rows that vLLM works on at once, and tokens of prompts that it encodes at once: its defaults `max_num_seqs` and
    `max_num_batched_tokens`, which depend on the GPU (vLLM 0.31, `EngineArgs.get_batch_defaults`)."""
    large = setting.hardware.memory >= 70 * GIB and not setting.hardware.name.startswith("a100")
    return (1024, 16384) if large and setting.hardware.name != "cpu" else (256, 8192)


def vllm_weight_bytes(setting: Setting) -> int:
    """A whole copy on each GPU."""
    return setting.vllm_bytes * setting.shape.parameters


def vllm_cache_bytes(setting: Setting) -> float:
    """What all rows need, but at most what is assumed, and at least one longest row."""
    one = cache_bytes_per_token(setting.shape, setting.vllm_numbers)
    everything = setting.prompts_here * setting.prompt_tokens + setting.rows_here * setting.max_new_tokens
    longest = setting.prompt_tokens + setting.max_new_tokens
    return one * max(longest, min(everything, setting.assumptions.vllm_cache / one))


def vllm_rows(setting: Setting) -> int:
    """Rows of average length that vLLM's cache holds at once; the others wait."""
    one = cache_bytes_per_token(setting.shape, setting.vllm_numbers)
    a_row = setting.prompt_tokens / setting.group + setting.completion_tokens
    return max(1, min(setting.rows_here, vllm_limits(setting)[0], int(vllm_cache_bytes(setting) / one / a_row)))
