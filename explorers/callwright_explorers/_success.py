"""Which completions are successes, for strategies that look at success rather than at the shaped reward."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from callwright import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-6
"""By how much a reward may miss the threshold: sums of float32 weights do not always meet 1 exactly."""


def check_threshold(threshold: float) -> None:
    """Raises ValueError for a threshold that is no finite number."""
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, not {threshold}")


def scores(rollouts: Rollouts, reward: str | None = None) -> Tensor:
    """(N,) float32: the reward of that name, or the combined one; NaN for rows that take no part or lack it.

    In `keep_groups` and `step_ended` the combined reward is the one after `shape_rewards`; a reward by name is as it
    was scored. Raises ValueError for a name that no reward of the run has.
    """
    import torch

    assert rollouts.total is not None
    total = rollouts.total.detach()
    if reward is None:
        return total
    if reward not in rollouts.rewards:
        raise ValueError(f"reward must be the name of a reward of this run ({', '.join(rollouts.rewards)}): {reward!r}")
    return torch.where(total.isnan(), total, rollouts.rewards[reward].detach())


def successes(values: Tensor, threshold: float) -> Tensor:
    """(N,) bool: True where the reward reaches the threshold; False where it is NaN."""
    return values >= threshold - TOLERANCE
