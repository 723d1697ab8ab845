"""Explorer `sapo`: a soft gate in the place of the clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from callwright import MicroBatch, hookimpl

from callwright_explorers._clipping import log_ratio, unused_range

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class Sapo:
    """The surrogate's ratio goes through a sigmoid, so that the gradient fades instead of ending.

        L_it = -A (4 / tau) sigmoid(tau (rho - 1)),    rho = exp(log pi - log pi_old)
        tau  = temperature_positive where A > 0, else temperature_negative

    Everything is (n, T). At rho = 1 the gradient is that of the surrogate; it is multiplied by 4 p (1 - p), p the
    sigmoid, so that it halves about 1.8 / tau away. Negative advantages raise the logits of all other tokens, so theirs
    fades a little sooner. The loss itself is 2 A / tau at rho = 1, which is a constant and no matter. Form and defaults
    (1.0 and 1.05) are those of TRL's `sapo`, which names arXiv 2511.20347 as the source; the paper's text was not
    checked. TRL averages over completions: use `train.aggregation: sequence`.

    In the first pass over a step the ratio is 1, and the gradient the surrogate's.

    Raises ValueError for a temperature that is not above 0.
    """

    temperature_positive: float = 1.0
    """For tokens with an advantage above 0; above 0, and the larger the sooner the gradient fades."""
    temperature_negative: float = 1.05
    """For all others; above 0."""

    # No `neutral`: the sigmoid is never the surrogate's ratio.
    formula: ClassVar[str] = "-A·(4/τ)·sigmoid(τ(π/π_old - 1)), τ by the sign of A"
    source: ClassVar[str] = "arXiv 2511.20347, TRL"
    use_when: ClassVar[str] = "Several passes over a step, and the hard edge of the clip throws too many tokens away."
    zero_without_advantage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("temperature_positive", "temperature_negative"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {getattr(self, name)}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        return unused_range(recipe, "a soft gate")

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        import torch  # here, so that listing and checking plugins stay quick

        advantages = batch.advantages.detach()
        temperature = torch.where(advantages > 0, self.temperature_positive, self.temperature_negative)
        gate = torch.sigmoid(temperature * (log_ratio(batch).exp() - 1)) * 4 / temperature
        return -gate * advantages
