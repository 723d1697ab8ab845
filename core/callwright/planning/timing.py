"""Seconds of a step on the GPU that has the most to do, by part. All functions are pure; symbols as in `memory`.

A pass over many tokens takes its floating-point operations divided by the share `mfu` of the peak rate. Drawing a token
takes the longest of three: reading the weights and the cache, computing, and starting the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from callwright.planning.memory import cache_bytes_per_token, micro_batches, vllm_rows, vllm_weight_bytes
from callwright.planning.setting import Setting
from callwright.planning.shapes import ModelShape

SAMPLING_TRAFFIC = 48
"""Bytes read and written for each element of the logits when a token is drawn: some ten passes over float32."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step, by part. Rewards are not in it: they run on the CPU, and are yours."""

    prefill: float
    """Encoding the prompts."""
    decode: float
    """Drawing the completions."""
    score: float
    """Log-probabilities of completions that vLLM drew."""
    reference: float
    """Log-probabilities of the reference model."""
    update: float
    """Forward, backward and AdamW."""
    exchange: float
    """Sending gradients and weights between GPUs, as far as the update does not hide it."""
    weight_sync: float
    """Making weights whole to draw with, and handing them to vLLM: in memory, or as files to its server."""

    @property
    def seconds(self) -> float:
        return sum(getattr(self, field.name) for field in fields(self))


def forward_flops(shape: ModelShape, tokens: float, pairs: float, scored: float) -> float:
    """Floating-point operations of a pass forward: 2 for each weight of a matrix and token, 4 for each query-key pair
    and number of the queries, in every layer (scores and weighted values), and the head for the `scored` tokens alone.

    Source: Kaplan et al., arXiv 2001.08361, table 1; softmax, norms and the like are left out, as there.
    """
    return 2 * shape.products * tokens + 4 * shape.layers * shape.query_width * pairs + 2 * shape.head * scored


def pass_sizes(setting: Setting) -> tuple[float, float, float]:
    """Tokens, causal query-key pairs and scored tokens of all rows of a GPU, each with its prompt. What prompts share
    is encoded once in each micro-batch."""
    prompts, rows = setting.prompts_here, setting.rows_here
    prompt, own = setting.prompt_tokens, setting.completion_tokens
    encoded = prompts if setting.packed else rows
    spared = max(0, prompts - micro_batches(setting)) if setting.packed else 0
    pairs = encoded * prompt**2 / 2 + rows * (prompt * own + own**2 / 2) - spared * setting.shared_tokens**2 / 2
    return setting.tokens(prompts, rows, own) - spared * setting.shared_tokens, pairs, rows * own


def update_flops(setting: Setting) -> float:
    """Of one optimisation pass: forward 1, backward 2 (with LoRA 1: frozen weights have no gradient of their own, but
    the adapter comes on top), and with gradient checkpointing forward once more, but for each layer's last matrix,
    whose output only an adapter needs; logits are always computed twice (`Policy._score_chunks`)."""
    shape = setting.shape
    tokens, pairs, scored = pass_sizes(setting)
    products, attention = forward_flops(shape, tokens, 0, 0), forward_flops(shape, 0, pairs, 0)
    head = forward_flops(shape, 0, 0, scored)
    again = int(setting.checkpointing)
    if setting.lora_rank is None:
        last = 2 * shape.layers * shape.intermediate * shape.hidden * tokens
        return (3 + again) * (products + attention) - again * last + 4 * head
    adapter = 2 * setting.trained * tokens
    return (2 + again) * products + (3 + again) * (attention + adapter) + 3 * head


def peak_flops(setting: Setting) -> float:
    """Operations a second that the number format allows."""
    return setting.hardware.flops_float32 if setting.numbers == "float32" else setting.hardware.flops


def decode_seconds(setting: Setting) -> float:
    """Drawing all completions of a GPU.

    Local rollouts draw all rows at once, until the longest ends. At step t the bytes are the weights, each prompt's
    cache once for its group, and the rows' own t tokens. vLLM keeps `vllm_rows` going, reads a prompt for each row, and
    starts another row when one ends; its `vllm_layer` comes on top.
    """
    shape, assumed = setting.shape, setting.assumptions
    vllm = setting.rollouts == "vllm"
    own, longest = setting.completion_tokens, setting.max_new_tokens
    if vllm:
        at_once: float = vllm_rows(setting)
        steps = max(float(longest), setting.rows_here * own / at_once)
    else:
        at_once, steps = setting.rows_here, float(longest)
    rows = min(at_once, setting.rows_here * own / steps)  # on average: short ones leave the batch
    one = cache_bytes_per_token(shape, setting.vllm_numbers if vllm else setting.numbers)
    prompts = setting.encoded_tokens if setting.packed and not vllm else rows * setting.prompt_tokens
    read = decode_weight_bytes(setting) + one * (prompts + rows * own / 2) + SAMPLING_TRAFFIC * rows * shape.vocabulary
    moving = read / (setting.hardware.bandwidth * assumed.bandwidth)
    pairs = rows * (setting.prompt_tokens + own / 2)
    computing = forward_flops(shape, rows, pairs, rows) / (peak_flops(setting) * assumed.decode_mfu)
    if vllm:
        return steps * (max(moving, computing) + assumed.vllm_layer * shape.layers)
    return steps * max(moving, computing, assumed.layer_launch * shape.layers)


def decode_weight_bytes(setting: Setting) -> float:
    """Read for one token: every matrix once. Under autocast these are the bfloat16 copies that it keeps; of the frozen
    weights of LoRA it keeps none, and reads 4, writes 2 and reads 2 bytes of each. On a CPU weights are float32."""
    matrices = setting.shape.products + setting.shape.head
    if setting.rollouts == "vllm":
        return setting.vllm_bytes * matrices
    if setting.numbers == "bfloat16":
        return 2 * matrices
    if setting.numbers == "float32":
        return 4 * matrices
    return 2 * matrices if setting.lora_rank is None else 8 * matrices


def link_rate(setting: Setting) -> float:
    """Bytes a second that each GPU exchanges with the others: the slowest way between two of them."""
    link = setting.hardware.link if setting.nodes == 1 else min(setting.hardware.link, setting.assumptions.node_link)
    return link * setting.assumptions.link


def exchange_bytes(setting: Setting) -> float:
    """Sent by one GPU in one optimisation pass, with ring algorithms: (n - 1) / n of a tensor to gather it, or to
    reduce and scatter it (arXiv 1910.02054, section 7).

    DDP: gradients reduced and gathered, once. ZeRO-2: gradients reduced and scattered in every micro-batch, weights
    gathered once. FSDP2 and ZeRO-3: in every micro-batch weights gathered twice, gradients reduced and scattered.
    """
    if setting.gpus == 1:
        return 0
    gradients = setting.trained * setting.trained_bytes
    weights = setting.shape.parameters * setting.weight_bytes
    parts = micro_batches(setting)
    if setting.sharding == "ddp":
        sent: float = 2 * gradients
    elif setting.sharding == "zero2":
        sent = parts * gradients + setting.trained * setting.trained_bytes
    else:
        sent = parts * (2 * weights + gradients)
    return sent * (setting.gpus - 1) / setting.gpus


def step_time(setting: Setting) -> StepTime:
    """All parts of a step."""
    shape, assumed = setting.shape, setting.assumptions
    rate = peak_flops(setting) * assumed.mfu
    moving = setting.hardware.bandwidth * assumed.bandwidth
    tokens, pairs, scored = pass_sizes(setting)
    drawing = setting.drawing
    encoded = drawing.encoded_tokens
    prefill = forward_flops(shape, encoded, encoded * setting.prompt_tokens / 2, drawing.prompts_here)
    once_more = forward_flops(shape, tokens, pairs, scored) / rate
    # AdamW reads weight, gradient and both means, and writes all but the gradient.
    adam = 7 * setting.trained * setting.trained_bytes / setting.shards / moving
    computing = update_flops(setting) / rate
    sending = exchange_bytes(setting) / link_rate(setting)
    weights = shape.parameters * setting.weight_bytes
    sync = weights / link_rate(setting) if setting.sharded_weights else 0.0
    if setting.rollouts == "vllm":
        sync += (weights + vllm_weight_bytes(setting)) / moving
    elif setting.rollouts == "vllm_server":
        sync += vllm_weight_bytes(setting) / assumed.weight_files
    return StepTime(
        prefill=prefill / rate,
        decode=decode_seconds(drawing),
        score=once_more if setting.rollouts != "local" else 0.0,
        reference=once_more if setting.reference else 0.0,
        update=setting.passes * (computing + adam),
        exchange=setting.passes * max(0.0, sending - computing),
        weight_sync=sync,
    )
