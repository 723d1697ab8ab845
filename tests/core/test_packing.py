"""A packed row gives what padded rows give: log-probabilities, entropy and gradients, on three families of models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from callwright.packing import FEWEST_SHARED_TOKENS, LOGITS_PER_CHUNK, Policy, Tree, add_branches, shared_prefix
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

FAMILIES = ["llama", "qwen2", "qwen3", "gemma2", "gemma3"]
TOKENS = st.integers(3, 258)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts that may share a beginning, and one to four completions for each, of any length down to none.

    Half of the batches draw completions from two tokens, so that those of a prompt begin alike, or are equal.
    """
    tokens = draw(st.sampled_from([TOKENS, st.integers(3, 4)]))
    beginning = draw(st.lists(TOKENS, max_size=40))
    prompts, completions = [], []
    for _ in range(draw(st.integers(1, 3))):
        prompt = beginning + draw(st.lists(TOKENS, min_size=1, max_size=12))
        for _ in range(draw(st.integers(1, 4))):
            prompts.append(prompt)
            completions.append(draw(st.lists(tokens, max_size=12)))
    order = draw(st.permutations(range(len(prompts))))
    return [prompts[i] for i in order], [completions[i] for i in order]


def padded(completions: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(1, *(len(c) for c in completions))
    ids = torch.tensor([c + [1] * (width - len(c)) for c in completions])
    return ids, torch.arange(width) < torch.tensor([len(c) for c in completions])[:, None]


def scores_and_gradients(
    policy: Policy, packed: bool, prompts: list[list[int]], completions: list[list[int]]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    policy.packed = packed
    policy.model.zero_grad()
    ids, mask = padded(completions)
    temperature = torch.linspace(0.5, 1.5, len(prompts))
    logps, entropy = policy.score(prompts, ids, mask, temperature)
    assert entropy is not None
    weights = torch.sin(torch.arange(logps.numel(), dtype=torch.float32)).view_as(logps)
    ((logps + 0.5 * entropy) * weights).sum().backward()
    gradients = {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
    return logps.detach(), entropy.detach(), gradients


@pytest.mark.parametrize("family", FAMILIES)
@given(batch=batches())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_packed_equals_padded(
    family: str, tiny_model: Callable[..., torch.nn.Module], batch: tuple[list[list[int]], list[list[int]]]
) -> None:
    policy = Policy(tiny_model(family))
    found, expected = (scores_and_gradients(policy, packed, *batch) for packed in (True, False))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-4)
    for name, gradient in expected[2].items():
        difference = (found[2][name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + 1e-5, name


@given(completions=st.lists(st.lists(st.integers(3, 4), min_size=1, max_size=14), min_size=1, max_size=8))
def test_what_completions_begin_with_alike_is_encoded_once(completions: list[list[int]]) -> None:
    """Every token is predicted from the place of the one before it, and behind its own completion's tokens only."""
    tree = Tree()
    prompt = tree.add([1, 1, 2])
    index = torch.zeros(len(completions), max(map(len, completions)), dtype=torch.long)
    index[:, 0] = tree.runs[prompt].end - 1
    add_branches(tree, sorted((c[:-1], row) for row, c in enumerate(completions)), prompt, 0, index)
    visible, positions = tree.dense_mask(None), tree.inputs()["position_ids"][0]
    for row, completion in enumerate(completions):
        places = index[row, : len(completion)]
        assert [tree.ids[p] for p in places[1:]] == completion[:-1]
        assert positions[places].tolist() == list(range(2, 2 + len(completion)))
        assert [tree.ids[p] for p in visible[places[-1]].nonzero().squeeze(1)] == [1, 1, 2, *completion[:-1]]
    distinct = {tuple(c[:end]) for c in completions for end in range(1, len(c))}
    separately = sum(len(c) - 1 for c in completions)
    # Sharing fewer tokens than FEWEST_SHARED_TOKENS is not worth a run, once for each way in which completions part.
    assert (
        len(distinct) <= len(tree.ids) - 3 <= min(separately, len(distinct) + FEWEST_SHARED_TOKENS * len(completions))
    )


def test_gradient_checkpointing_changes_no_gradient(tiny_model: Callable[..., torch.nn.Module]) -> None:
    batch = ([[5, 6, 7], [5, 6, 7], [8, 9]], [[10, 11, 12], [13], [14, 15]])
    policy, recomputing = Policy(tiny_model("llama")), Policy(tiny_model("llama"))
    recomputing.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    recomputing.model.train()
    for packed in (True, False):
        expected, found = (scores_and_gradients(p, packed, *batch) for p in (policy, recomputing))
        for name, gradient in expected[2].items():
            torch.testing.assert_close(found[2][name], gradient)


def test_scores_equal_the_models_own_logits(tiny_model: Callable[..., torch.nn.Module]) -> None:
    """Against a plain forward of each sequence by itself, without any of our code."""
    for family in FAMILIES:
        model = tiny_model(family)
        prompts, completions = [[5, 6, 7], [5, 6, 7], [8, 9]], [[10, 11, 12, 2], [13], [14, 15]]
        ids, mask = padded(completions)
        with torch.no_grad():
            logps, entropy = Policy(model).score(prompts, ids, mask, torch.full((3,), 0.7))
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + completion])).logits[0].double() / 0.7
            log_probabilities = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            expected = log_probabilities.gather(1, torch.tensor(completion)[:, None]).squeeze(1)
            spread = -(log_probabilities.exp() * log_probabilities).sum(-1)
            torch.testing.assert_close(logps[row, : len(completion)].double(), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(entropy[row, : len(completion)].double(), spread, rtol=1e-4, atol=1e-4)
            assert not logps[row, len(completion) :].any()


@given(batch=batches())
@settings(max_examples=30, deadline=None)
def test_blocks_cover_the_mask_exactly_once(batch: tuple[list[list[int]], list[list[int]]]) -> None:
    prompts, completions = batch
    tree = Tree()
    prefix = shared_prefix(prompts)
    top = tree.add(prompts[0][:prefix]) if prefix else -1
    for prompt in {tuple(p): p for p in prompts}.values():
        own = tree.add(prompt[prefix:], top)
        for other, completion in zip(prompts, completions, strict=True):
            if other == prompt:
                tree.add(completion, own)
    count = torch.zeros(len(tree.ids), len(tree.ids), dtype=torch.long)
    for q0, q1, k0, k1, causal in tree.blocks():
        block = torch.ones(q1 - q0, k1 - k0, dtype=torch.long)
        count[q0:q1, k0:k1] += block.tril() if causal else block
    assert count.max() <= 1
    assert torch.equal(count.bool(), tree.dense_mask(None))


def test_a_shared_beginning_is_encoded_once(tiny_model: Callable[..., torch.nn.Module]) -> None:
    policy = Policy(tiny_model("llama"))
    seen: list[int] = []
    policy.model.model.embed_tokens.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].numel()))
    beginning = list(range(10, 60))
    prompts = [[*beginning, 3], [*beginning, 3], [*beginning, 4]]
    ids, mask = padded([[5, 6], [7, 8, 9], [5]])
    with torch.no_grad():
        policy.score(prompts, ids, mask, torch.ones(3))
    # The beginning, two ends of prompts, and of each completion all but the last token, which predicts nothing.
    assert seen == [50 + 2 + (1 + 2 + 0)]


def test_the_logits_of_all_tokens_never_exist_at_once(tiny_model: Callable[..., torch.nn.Module]) -> None:
    """With and without a gradient, no tensor of the forward or backward pass is as large as tokens times vocabulary."""
    policy = Policy(tiny_model("llama", vocab_size=4096))
    rows, length = 40, 128
    assert rows * length * 4096 > LOGITS_PER_CHUNK
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.numel())
            return out

    ids = torch.randint(3, 4096, (rows, length))
    with Watch():
        logps, _ = policy.score([[5, 6, 7]] * rows, ids, torch.ones_like(ids, dtype=torch.bool), torch.ones(rows))
        logps.sum().backward()
    assert LOGITS_PER_CHUNK // 2 < largest <= LOGITS_PER_CHUNK


@given(prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60), min_size=1, max_size=4))
def test_shared_prefix_is_shared_and_leaves_a_token(prompts: list[list[int]]) -> None:
    length = shared_prefix(prompts)
    assert all(p[:length] == prompts[0][:length] and len(p) > length for p in prompts)


def test_bfloat16_autocast_stays_close(tiny_model: Callable[..., torch.nn.Module]) -> None:
    model = tiny_model("llama")
    ids, mask = padded([[5, 6, 7], [8, 9]])
    arguments = ([[3, 4], [3, 4]], ids, mask, torch.ones(2))
    with torch.no_grad():
        exact, _ = Policy(model).score(*arguments)
        rough, _ = Policy(model, autocast=torch.bfloat16).score(*arguments)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.3)
    assert not torch.equal(rough, exact)


@torch.no_grad()
def test_flex_attention_gives_what_the_blocks_give() -> None:
    """The GPU's path, run on the CPU without compilation; torch has no backward pass for it there."""
    from torch.nn.attention.flex_attention import flex_attention

    tree = Tree()
    top = tree.add(range(20))
    for prompt, completions in ((7, (3, 1, 0)), (4, (9,)), (1, (2, 2))):
        own = tree.add(range(prompt), top)
        for length in completions:
            tree.add(range(length), own)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, len(tree.ids), 8, generator=generator)
    key, value = (torch.randn(1, 2, len(tree.ids), 8, generator=generator) for _ in range(2))
    flex = flex_attention(query, key, value, block_mask=tree._flex_mask(), scale=0.3, enable_gqa=True)
    torch.testing.assert_close(flex, tree.attend(0, query, key, value, 0.3, None, None), rtol=1e-4, atol=1e-5)
