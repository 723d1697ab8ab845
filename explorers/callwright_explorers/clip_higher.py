"""Explorer `clip_higher`: the ratio may rise further than it may fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import MicroBatch, hookimpl

from callwright_explorers._clipping import Clipped

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ClipHigher(Clipped):
    """The clipped surrogate with a wider range above 1 than below.

        L_it = -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A),    rho = exp(log pi - log pi_old)

    Everything is (n, T); A is the advantage, pi_old the policy before the step's first update. The bound above is what
    keeps an unlikely token from becoming likely: at 0.2 one of probability 0.01 stops at 0.012. Source: DAPO, arXiv
    2503.14476, section 3.1, with 0.2 and 0.28; TRL has it as `epsilon_high`.

    The core does the same with `train.clip_high: 0.28`; this names it, for a recipe that says what it does. In the
    first pass over a step the ratio is 1, so with `train.passes: 1` no range changes anything.

    Raises ValueError for a range outside `clip_low` 0 to 1, `clip_high` at least 0.
    """

    clip_high: float = 0.28
    """The ratio is clipped above 1 plus this, at least 0."""

    formula: ClassVar[str] = "-min(r·A, clip(r, 1 - ε_low, 1 + ε_high)·A), r = π/π_old, ε_high > ε_low"
    source: ClassVar[str] = "arXiv 2503.14476"
    use_when: ClassVar[str] = "Entropy falls with train.passes above 1: unlikely tokens then may gain more in one step."
    neutral: ClassVar[dict[str, Any]] = {"clip_low": 0.2, "clip_high": 0.2}
    zero_without_advantage: ClassVar[bool] = True

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        from callwright import grpo  # here, since it imports torch, and listing and checking plugins stays quick

        return grpo.clipped_surrogate(
            batch.logps, batch.old_logps.detach(), batch.advantages.detach(), self.clip_low, self.clip_high
        )
