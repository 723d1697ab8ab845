"""GRPO's functions against float64 references written with plain Python loops, and their laws."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from callwright import grpo
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(-5, 5, allow_nan=False, width=32)


@st.composite
def grouped_rewards(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    """Ragged groups, interleaved, some rows NaN, some groups flat."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    ids = draw(st.permutations([7 * g + 3 for g, size in enumerate(sizes) for _ in range(size)]))
    value = st.one_of(NUMBERS, st.sampled_from([0.0, 1.0]), st.just(math.nan))
    return draw(st.lists(value, min_size=len(ids), max_size=len(ids))), list(ids)


def reference_advantages(rewards: list[float], ids: list[int], scale: str) -> list[float]:
    everyone = [r for r in rewards if not math.isnan(r)]
    result = []
    for reward, group in zip(rewards, ids, strict=True):
        members = [r for r, g in zip(rewards, ids, strict=True) if g == group and not math.isnan(r)]
        if math.isnan(reward) or len(set(members)) < 2:
            result.append(0.0)
            continue
        spread = {"group": members, "batch": everyone, "none": None}[scale]
        divisor = 1.0 if spread is None else statistics.stdev(spread) + 1e-4
        result.append((reward - statistics.fmean(members)) / divisor)
    return result


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@given(case=grouped_rewards())
def test_group_advantages_equal_a_float64_reference(scale: str, case: tuple[list[float], list[int]]) -> None:
    rewards, ids = case
    found = grpo.group_advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(ids), scale)
    assert found.tolist() == pytest.approx(reference_advantages(rewards, ids, scale), rel=1e-6, abs=1e-6)


@given(case=grouped_rewards(), shift=NUMBERS)
def test_group_advantages_ignore_a_shift_of_the_rewards(case: tuple[list[float], list[int]], shift: float) -> None:
    rewards, ids = torch.tensor(case[0], dtype=torch.float64), torch.tensor(case[1])
    torch.testing.assert_close(
        grpo.group_advantages(rewards + shift, ids), grpo.group_advantages(rewards, ids), rtol=1e-6, atol=1e-6
    )


def test_a_row_that_takes_no_part_changes_nothing_for_its_group() -> None:
    ids = torch.tensor([0, 0, 0, 1, 1])
    with_row = grpo.group_advantages(torch.tensor([1.0, 0.0, math.nan, 1.0, 0.0]), ids)
    without = grpo.group_advantages(torch.tensor([1.0, 0.0, 1.0, 0.0]), ids[[0, 1, 3, 4]])
    assert with_row[2] == 0
    torch.testing.assert_close(with_row[[0, 1, 3, 4]], without)


def test_equal_rewards_give_exactly_zero_whatever_their_rounding() -> None:
    rewards = torch.full((8,), 0.1)
    assert grpo.group_advantages(rewards, torch.zeros(8, dtype=torch.long)).tolist() == [0.0] * 8
    assert grpo.flat_groups(rewards, torch.zeros(8, dtype=torch.long)).all()


@given(
    new=st.lists(NUMBERS, min_size=1, max_size=8),
    data=st.data(),
    low=st.floats(0, 1),
    high=st.floats(0, 3),
)
def test_clipped_surrogate_equals_a_float64_reference(
    new: list[float], data: st.DataObject, low: float, high: float
) -> None:
    same_length = st.lists(NUMBERS, min_size=len(new), max_size=len(new))
    old, advantages = data.draw(same_length), data.draw(same_length)
    tensors = [torch.tensor(x, dtype=torch.float64) for x in (new, old, advantages)]
    found = grpo.clipped_surrogate(*tensors, clip_low=low, clip_high=high)
    expected = []
    for n, o, a in zip(new, old, advantages, strict=True):
        ratio = math.exp(n - o)
        expected.append(-min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a))
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(new=NUMBERS, old=NUMBERS, advantage=NUMBERS.filter(bool))
def test_clip_mask_names_the_tokens_without_a_gradient(new: float, old: float, advantage: float) -> None:
    logps = torch.tensor([new], dtype=torch.float64, requires_grad=True)
    others = torch.tensor([old], dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    grpo.clipped_surrogate(logps, *others).sum().backward()
    assert bool(grpo.clip_mask(logps.detach(), *others)) == (logps.grad.item() == 0)


@given(new=NUMBERS, ref=NUMBERS)
def test_kl_k3_equals_a_float64_reference_and_is_never_negative(new: float, ref: float) -> None:
    found = grpo.kl_k3(torch.tensor(new, dtype=torch.float64), torch.tensor(ref, dtype=torch.float64)).item()
    assert found == pytest.approx(math.exp(ref - new) - (ref - new) - 1, rel=1e-6, abs=1e-9)
    assert found >= -1e-12


def test_kl_k3_estimates_the_kl_divergence_in_expectation() -> None:
    """The mean of k3 under the policy is the closed form of KL(policy || reference)."""
    logits = torch.randn(2, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    policy, reference = logits.log_softmax(-1)
    expected = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * grpo.kl_k3(policy, reference)).sum(), expected)


@st.composite
def masks(draw: st.DrawFn) -> tuple[list[int], list[bool]]:
    lengths = draw(st.lists(st.integers(0, 7), min_size=1, max_size=6))
    return lengths, draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))


@given(case=masks())
def test_token_shares_equal_a_reference(case: tuple[list[int], list[bool]]) -> None:
    lengths, takes_part = case
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    used = [n for n, part in zip(lengths, takes_part, strict=True) if part]

    def share(aggregation: str, length: int) -> float:
        if aggregation == "token":
            return 1 / sum(used)
        return 1 / length / len(used) if aggregation == "sequence" else 1 / (len(used) * 9)

    for aggregation in ("token", "sequence", "constant"):
        found = grpo.token_shares(mask, torch.tensor(takes_part), aggregation, max_length=9).tolist()  # type: ignore[arg-type]
        for row, (length, part) in enumerate(zip(lengths, takes_part, strict=True)):
            expected = [share(aggregation, length) if part and length else 0.0] * length + [0.0] * (7 - length)
            assert found[row] == pytest.approx(expected, rel=1e-6)
