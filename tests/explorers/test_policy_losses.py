"""Losses of the policy: TRL's own code on the same tensors, numbers by hand, references in float64, the laws."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from trl_loss import assert_same, our_loss, steps, trl_loss

few = settings(max_examples=20)


@few
@given(steps())
@pytest.mark.parametrize(
    ("theirs", "ours"), [("grpo", "sequence"), ("bnpo", "token"), ("dapo", "token"), ("dr_grpo", "constant")]
)
def test_the_cores_surrogate_under_every_aggregation_is_trls(theirs, ours, step):
    assert_same(our_loss([], step, aggregation=ours), trl_loss(step, loss_type=theirs))
    assert_same(
        our_loss([], step, aggregation=ours, clip_low=0.1, clip_high=0.3, kl=0.05),
        trl_loss(step, loss_type=theirs, epsilon=0.1, epsilon_high=0.3, beta=0.05, use_bias_correction_kl=False),
    )
