"""Explorer `best_versus_second`: only the best completion of a group learns, by its lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from callwright import Rollouts, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class BestVersusSecond:
    """The best completion of a group gets its lead over the second best as its advantage, all others 0.

        A_i = (r_best - r_second) / (std + 1e-4)    for the best row, 0 for the others
        A_i = r_best - r_second                     with `scale: none`

    r (N,) is the combined reward, std that of the group's rewards with Bessel's correction. The lead is what leaving
    the best row out takes from the maximum: the gradient of the expected best of a group (arXiv 2503.19595, whose text
    was not checked). verl's `compute_grpo_passk_outcome_advantage`, which names that paper, divides by std + 1e-6 by
    default (`norm_adv_by_std_in_grpo`); `scale: none` is its other branch.

    If two share the first place the lead is 0, and with it all the group's advantages: for rewards of 0 and 1 only
    groups with exactly one correct row teach anything. A row alone in its group, for which verl fails, has 0.

    Raises ValueError for an unknown scale.
    """

    scale: Literal["group", "none"] = "group"
    """Divide by the group's standard deviation, or not."""

    # No `neutral`: rows that are not the best have an advantage in the core.
    formula: ClassVar[str] = "A = (best - second best) / std for the best row of a group, 0 for the others"
    source: ClassVar[str] = "arXiv 2503.19595, verl"
    use_when: ClassVar[str] = "The best of several samples counts (pass@k), and rewards are graded enough to have one."

    def __post_init__(self) -> None:
        if self.scale not in ("group", "none"):
            raise ValueError(f"scale must be 'group' or 'none', not {self.scale!r}")

    @hookimpl
    def advantages(self, rollouts: Rollouts) -> Tensor:
        """(N,), never negative."""
        import torch  # here, so that listing and checking plugins stay quick
        from callwright import grpo

        assert rollouts.total is not None
        total = rollouts.total.detach()
        _, std, _ = grpo.group_statistics(total, rollouts.group_ids)
        advantages = torch.zeros_like(total)
        for group in rollouts.groups:
            rows = ((rollouts.group_ids == group) & ~total.isnan()).nonzero().squeeze(1)
            if len(rows) > 1:
                (best, second), places = total[rows].topk(2)
                advantages[rows[places[0]]] = best - second
        return advantages / (std + grpo.STD_EPSILON) if self.scale == "group" else advantages
