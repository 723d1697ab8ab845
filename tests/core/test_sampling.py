"""Generation: greedy like transformers, sampled from the right distribution, its log-probabilities the trainer's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from callwright.packing import Policy
from callwright.sampling import SamplingPlan, choose_path, draw, filter_logits, generate, narrow_products
from hypothesis import given, settings
from hypothesis import strategies as st

PROMPTS = [[*range(10, 40), 3, 4], [*range(10, 40), 5], [7, 8, 9]]
GROUP = torch.tensor([0, 0, 1, 2, 2, 2])


def run(policy: Policy, tokenizer: Any, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "prompts": PROMPTS,
        "group": GROUP,
        "plan": SamplingPlan(torch.ones(len(GROUP))),
        "max_new_tokens": 12,
        "end_ids": [2],
        "generator": torch.Generator().manual_seed(1),
        **changes,
    }
    return generate(policy, tokenizer, **arguments)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gemma3"])
@pytest.mark.parametrize("packed", [True, False])
def test_policy_logps_and_entropy_are_those_of_the_training_pass(
    family: str, packed: bool, tiny_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    """Finished rows leave, groups shrink and vanish, windows slide: every number must survive it."""
    policy = Policy(tiny_model(family), packed=packed)
    temperature = torch.linspace(0.6, 1.4, len(GROUP))
    drawn = run(policy, tiny_tokenizer, plan=SamplingPlan(temperature), end_ids=list(range(2, 60)))
    assert len(set(drawn.mask.sum(1).tolist())) > 1
    prompts = [PROMPTS[g] for g in GROUP.tolist()]
    policy.packed = False
    with torch.no_grad():
        logps, entropy = policy.score(prompts, drawn.ids, drawn.mask, temperature)
    torch.testing.assert_close(drawn.policy_logps, logps, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(drawn.entropy, entropy, rtol=1e-4, atol=1e-4)
    assert torch.equal(drawn.behaviour_logps, drawn.policy_logps)


@pytest.mark.parametrize("packed", [True, False])
def test_rows_that_drew_the_same_tokens_are_one(
    packed: bool, tiny_model: Callable[..., Any], tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokens to choose from: 24 rows of three prompts are at most 6 after the first token, and 12 after two."""
    policy, group = Policy(tiny_model(), packed=packed), torch.arange(3).repeat_interleave(8)
    hidden, widths = policy.hidden, []

    def watched(inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        widths.append(inputs["input_ids"].shape[0])
        return hidden(inputs, *arguments, **keywords)

    monkeypatch.setattr(policy, "hidden", watched)
    plan = SamplingPlan(torch.ones(24), top_k=torch.full((24,), 2))
    drawn = run(policy, tiny_tokenizer, group=group, plan=plan)
    beginnings = [
        {
            (g, tuple(ids[:end]))
            for g, ids, n in zip(group.tolist(), drawn.ids.tolist(), drawn.mask.sum(1), strict=True)
            if n > end
        }
        for end in range(1, drawn.ids.shape[1])
    ]
    assert widths[1:] == [len(distinct) for distinct in beginnings if distinct]
    policy.packed = False
    with torch.no_grad():
        logps, _ = policy.score([PROMPTS[g] for g in group.tolist()], drawn.ids, drawn.mask, torch.ones(24))
    torch.testing.assert_close(drawn.policy_logps, logps, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("packed", [True, False])
def test_generation_takes_the_precision_of_the_training_pass(
    packed: bool, tiny_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    policy = Policy(tiny_model(), autocast=torch.bfloat16, packed=packed)
    seen: list[bool] = []
    drawn = run(policy, tiny_tokenizer, progress=lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    assert seen
    assert all(seen)
    with torch.no_grad():
        logps, entropy = policy.score([PROMPTS[g] for g in GROUP.tolist()], drawn.ids, drawn.mask, torch.ones(6))
    assert drawn.policy_logps.dtype == drawn.entropy.dtype == torch.float32
    torch.testing.assert_close(drawn.policy_logps, logps, rtol=0.02, atol=0.02)
    torch.testing.assert_close(drawn.entropy, entropy, rtol=0.02, atol=0.02)


@given(rows=st.integers(1, 20), bias=st.booleans(), dims=st.sampled_from([(), (1,), (2, 3)]))
@settings(deadline=None)
def test_narrow_products_are_products(rows: int, bias: bool, dims: tuple[int, ...]) -> None:
    layer = torch.nn.Linear(7, 5, bias=bias)
    x = torch.randn(rows, *dims, 7, requires_grad=True)
    expected = layer(x)
    with narrow_products(x.device):
        found = layer(x)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()
    gradient = torch.randn(expected.shape)
    torch.testing.assert_close(*(torch.autograd.grad(y, (x, layer.weight), gradient) for y in (found, expected)))


def test_greedy_equals_transformers_token_for_token(smol: Any) -> None:
    system = {"role": "system", "content": "You answer briefly. You never explain what you do, you only answer."}
    questions = ["What is the capital of France?", "Count from 1 to 9.", "Name three colours.", "What is 12 + 30?"]
    prompts = [
        smol.tokenizer.apply_chat_template(
            [system, {"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        for question in questions
    ]
    for packed in (True, False):
        found = generate(
            Policy(smol.model, packed=packed),
            smol.tokenizer,
            prompts,
            torch.arange(len(prompts)),
            SamplingPlan.greedily(len(prompts)),
            max_new_tokens=24,
            end_ids=[smol.tokenizer.eos_token_id],
        )
        for row, prompt in enumerate(prompts):
            ids = torch.tensor([prompt])
            expected = smol.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=2
            )[0, len(prompt) :]
            assert found.ids[row][found.mask[row]].tolist() == expected.tolist()


@given(weights=st.lists(st.floats(0.01, 1), min_size=2, max_size=6), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_draw_follows_the_distribution(weights: list[float], seed: int) -> None:
    """No count is farther from its expectation than five standard deviations."""
    probabilities = torch.tensor(weights) / sum(weights)
    n = 4000
    chances = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = draw(probabilities.repeat(n, 1), chances)
    counts = Counter(drawn.tolist())
    for token, p in enumerate(probabilities.tolist()):
        assert abs(counts[token] - n * p) <= 5 * math.sqrt(n * p * (1 - p)) + 1


def test_draw_never_takes_a_forbidden_token() -> None:
    probabilities = torch.full((2000, 7), 0.25)
    probabilities[:, [0, 3, 6]] = 0
    assert set(
        draw(
            probabilities,
            torch.rand(len(probabilities), generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        ).tolist()
    ) == {1, 2, 4, 5}


@given(logits=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12, unique=True), data=st.data())
@settings(deadline=None)
def test_filters_keep_what_their_definitions_say(logits: list[float], data: st.DataObject) -> None:
    row = torch.tensor([logits])
    probabilities = row.double().softmax(-1)[0].tolist()
    order = sorted(range(len(logits)), key=lambda i: -logits[i])

    k = data.draw(st.integers(0, len(logits) + 2))
    kept = filter_logits(row, torch.tensor([k]), None, None)[0].isfinite()
    assert {i for i, keep in enumerate(kept) if keep} == set(order[: k or None])

    p = data.draw(st.floats(0.05, 0.95))
    cumulative, expected = 0.0, set()
    for i in order:
        if cumulative >= p - 1e-6:
            break
        expected.add(i)
        cumulative += probabilities[i]
    kept = filter_logits(row, None, torch.tensor([p]), None)[0].isfinite()
    found = {i for i, keep in enumerate(kept) if keep}
    assert found == expected or abs(cumulative - p) < 1e-5

    m = data.draw(st.floats(0.01, 0.99))
    kept = filter_logits(row, None, None, torch.tensor([m]))[0].isfinite()
    clear = {i for i, q in enumerate(probabilities) if abs(q / max(probabilities) - m) > 1e-4}
    assert {i for i, keep in enumerate(kept) if keep} & clear == {
        i for i, q in enumerate(probabilities) if q >= m * max(probabilities)
    } & clear


def test_behaviour_differs_from_policy_where_filters_act(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> None:
    plan = SamplingPlan(torch.ones(6), top_k=torch.tensor([1, 2, 3, 0, 0, 0]))
    drawn = run(Policy(tiny_model("llama")), tiny_tokenizer, plan=plan)
    assert (drawn.behaviour_logps[0][drawn.mask[0]] == 0).all(), "the only token that is left has probability one"
    assert (drawn.policy_logps[0][drawn.mask[0]] < 0).all()
    assert torch.equal(drawn.behaviour_logps[3:], drawn.policy_logps[3:])


def test_process_logits_sees_every_row_and_changes_only_the_behaviour(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    calls = []

    def only_seven(logits, rows, positions, segments):  # type: ignore[no-untyped-def]
        calls.append((rows.tolist(), positions.tolist(), segments().tolist()))
        return torch.full_like(logits, -torch.inf).index_fill(1, torch.tensor([7]), 0.0)

    drawn = run(
        Policy(tiny_model("llama")),
        tiny_tokenizer,
        max_new_tokens=3,
        process_logits=only_seven,
        segments=lambda tokens: torch.tensor([len(t) for t in tokens], dtype=torch.int8),
    )
    assert (drawn.ids == 7).all()
    assert not drawn.behaviour_logps.any()
    assert (drawn.policy_logps < 0).all()
    assert calls == [([0, 1, 2, 3, 4, 5], [step] * 6, [step] * 6) for step in range(3)]


def test_stop_strings_and_end_tokens_end_a_completion(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> None:
    text = "ab</answer>cd"
    script = tiny_tokenizer.encode(text, add_special_tokens=False)

    def recite(logits, rows, positions, _segments):  # type: ignore[no-untyped-def]
        token = 2 if int(positions[0]) == len(script) else script[int(positions[0])]
        return torch.full_like(logits, -torch.inf).index_fill(1, torch.tensor([token]), 0.0)

    policy = Policy(tiny_model("llama"))
    arguments = {"max_new_tokens": 30, "process_logits": recite}
    stopped = run(policy, tiny_tokenizer, stop=("</answer>",), **arguments)
    assert {tiny_tokenizer.decode(row[m]) for row, m in zip(stopped.ids, stopped.mask, strict=True)} == {"ab</answer>"}
    ended = run(policy, tiny_tokenizer, **arguments)
    assert ended.mask.sum(1).tolist() == [len(script) + 1] * 6
    assert not ended.truncated.any()
    cut = run(policy, tiny_tokenizer, **{**arguments, "max_new_tokens": 5})
    assert cut.truncated.all()


def test_the_same_seed_draws_the_same(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> None:
    policy = Policy(tiny_model("llama"))
    first, second = run(policy, tiny_tokenizer), run(policy, tiny_tokenizer)
    other = run(policy, tiny_tokenizer, generator=torch.Generator().manual_seed(2))
    assert torch.equal(first.ids, second.ids)
    assert not torch.equal(first.ids, other.ids)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3"])
def test_known_families_take_the_packed_path(family: str, tiny_model: Callable[..., Any]) -> None:
    policy = Policy(tiny_model(family), packed=False)
    choose_path(policy, PROMPTS, pytest.fail)
    assert policy.packed


def test_a_model_that_packing_would_break_takes_the_padded_path(tiny_model: Callable[..., Any]) -> None:
    """Its tokens look at their neighbour in the row, as state-space and convolution layers do."""
    model = tiny_model("llama")
    model.model.layers[0].register_forward_hook(lambda _m, _i, output: output + 0.5 * output.roll(1, dims=1))
    policy = Policy(model)
    warnings: list[str] = []
    choose_path(policy, PROMPTS, warnings.append)
    assert not policy.packed
    assert "padded path" in warnings[0]


def test_a_model_that_drops_keywords_takes_the_padded_path(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    forward = model.model.forward
    model.model.forward = lambda callwright_layout=None, **keywords: forward(**keywords)
    policy = Policy(model)
    warnings: list[str] = []
    choose_path(policy, PROMPTS, warnings.append)
    assert not policy.packed
    assert "does not hand its keywords" in warnings[0]
