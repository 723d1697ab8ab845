"""Explorer `dual_clip`: a bound for the loss of bad tokens that became likely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import MicroBatch, hookimpl

from callwright_explorers._clipping import Clipped

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class DualClip(Clipped):
    """The clipped surrogate, and where the advantage is negative its loss is at most `bound` times the advantage.

        L_it = -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A),    rho = exp(log pi - log pi_old)
        A < 0:  L_it <- min(L_it, -bound A)

    Everything is (n, T). The surrogate alone has no bound for A < 0 when rho grows: a token that should become less
    likely, and became much more likely instead, gets a gradient as large as its rho. Above the bound it gets none.
    Source: arXiv 1912.09729 ("dual-clip PPO"), with bound 3; verl has it as
    `clip_ratio_c`, 3 by default and 10 in its DAPO scripts. TRL's `delta` bounds rho in front of the surrogate, which
    is the same as long as it is above 1 + clip_high.

    In the first pass over a step the ratio is 1, so with `train.passes: 1` it changes nothing.

    Raises ValueError for a bound that is not above 1, and for a range outside `clip_low` 0 to 1, `clip_high` at least
    0.
    """

    bound: float | None = 3.0
    """In units of the ratio, above 1; null for none."""

    formula: ClassVar[str] = "-min(r·A, clip(r)·A), r = π/π_old, and at most -c·A where A < 0"
    source: ClassVar[str] = "arXiv 1912.09729"
    use_when: ClassVar[str] = (
        "Several passes over a step, or replayed rows, make single ratios and gradients very large."
    )
    neutral: ClassVar[dict[str, Any]] = {"bound": None, "clip_low": 0.2, "clip_high": 0.2}
    zero_without_advantage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bound is not None and not 1 < self.bound < math.inf:
            raise ValueError(f"bound must be a number above 1, not {self.bound}")

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        import torch  # here, so that listing and checking plugins stay quick
        from callwright import grpo

        advantages = batch.advantages.detach()
        loss = grpo.clipped_surrogate(batch.logps, batch.old_logps.detach(), advantages, self.clip_low, self.clip_high)
        if self.bound is None:
            return loss
        return torch.where(advantages < 0, torch.minimum(loss, -self.bound * advantages), loss)
