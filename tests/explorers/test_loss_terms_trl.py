"""The terms of the loss that TRL 1.16 has too: the same tensors through its own `_compute_loss`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trl_loss
from callwright_explorers.adaptive_entropy import AdaptiveEntropy
from callwright_explorers.entropy_bonus import EntropyBonus
from callwright_explorers.kl import Kl
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = st.sampled_from([("token", "bnpo"), ("sequence", "grpo"), ("constant", "dr_grpo")])
"""Our aggregation, and TRL's loss type with the same."""


def halves(step: trl_loss.Step) -> list[list[int]]:
    """The rows that take part in two micro-batches, the last rows first."""
    rows = step.takes_part.nonzero().squeeze(1).tolist()
    return [rows[2:], rows[:2]]


@settings(max_examples=10)
@given(st.integers(0, 999), KINDS)
def test_the_bonus_is_trls_under_every_aggregation(seed: int, kind: tuple[Any, str]) -> None:
    aggregation, loss_type = kind
    step = trl_loss.make_step(seed)
    ours = trl_loss.our_loss([EntropyBonus(coefficient=0.3)], step, aggregation=aggregation, parts=halves(step))
    trl_loss.assert_same(ours, trl_loss.trl_loss(step, loss_type=loss_type, entropy_coef=0.3))
    assert ours.entropy.abs().max() > 0


@settings(max_examples=3)
@given(st.integers(0, 999))
def test_the_controller_is_trls_over_several_steps(seed: int) -> None:
    """Coefficient and entropy go from one of TRL's steps to the next; ours has only its own state."""
    options = {"entropy_target": 2.0, "entropy_coef_delta": 0.07, "entropy_coef_max": 0.3, "entropy_coef_min": 0.05}
    explorer = AdaptiveEntropy(target=2.0, coefficient=0.2, delta=0.07, highest=0.3, lowest=0.05, form="trl")
    coefficient, entropy = 0.2, math.inf
    applied = []
    for number in range(5):
        step = trl_loss.make_step(seed + 1000 * number)
        applied.append(explorer.applied)
        peer = trl_loss.trl_loss(
            step, use_adaptive_entropy=True, entropy_coef=coefficient, last_entropy=entropy, loss_type="bnpo", **options
        )
        trl_loss.assert_same(trl_loss.our_loss([explorer], step, parts=halves(step)), peer)
        coefficient, entropy = (trl_loss.trl_metrics()[name][-1] for name in ("entropy_coef", "entropy"))
        explorer.step_ended({"entropy": entropy})
        assert explorer.state_dict()["coefficient"] == pytest.approx(coefficient)
    assert applied[0] == 0


@settings(max_examples=10)
@given(
    st.integers(0, 999),
    KINDS,
    st.booleans(),
)
def test_k3_is_trls_with_and_without_the_ratio(seed: int, kind: tuple[Any, str], corrected: bool) -> None:
    aggregation, loss_type = kind
    step = trl_loss.make_step(seed)
    explorer = Kl(coefficient=0.2, corrected=corrected)
    ours = trl_loss.our_loss([explorer], step, aggregation=aggregation, parts=halves(step))
    trl_loss.assert_same(ours, trl_loss.trl_loss(step, loss_type=loss_type, beta=0.2, use_bias_correction_kl=corrected))
