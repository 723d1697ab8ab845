"""Explorer `cispo`: the ratio is clipped as a weight, and no token loses its gradient."""

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
class Cispo:
    """A plain policy gradient, weighted by the ratio up to a bound.

        L_it = -sg(min(rho, highest)) A log pi,    rho = exp(log pi - log pi_old)

    Everything is (n, T); sg lets no gradient through. The clipped surrogate gives tokens outside its range no gradient,
    and those are often the rare ones that open a new train of thought; here they keep theirs, only their weight is
    bounded. Source: MiniMax-M1, arXiv 2506.13585, whose lower bound is so far down that it never binds; form and the
    default 5 are those of TRL, there `epsilon_high`, which has the 5 from ScaleRL (arXiv 2510.13786).

    In the first pass over a step the ratio is 1, and the gradient that of the surrogate.

    Raises ValueError for a bound that is not above 0.
    """

    highest: float = 5.0
    """Upper bound of the ratio, above 0."""

    # No `neutral`: the gradient may be that of the core's surrogate, but the number itself, A log pi, never is.
    formula: ClassVar[str] = "-sg(min(π/π_old, ε_max))·A·log π"
    source: ClassVar[str] = "arXiv 2506.13585, TRL"
    use_when: ClassVar[str] = (
        "Several passes over a step, and the rare tokens that clipping silences should still learn."
    )
    zero_without_advantage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.highest < math.inf:
            raise ValueError(f"highest must be a number above 0, not {self.highest}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        return unused_range(recipe, f"`highest` {self.highest}")

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        weight = log_ratio(batch).detach().exp().clamp(max=self.highest)
        return -weight * batch.advantages.detach() * batch.logps
