"""Explorer `kl_cov`: the tokens that make the policy surer are held where they were."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from callwright import MicroBatch, Rollouts, hookimpl

from callwright_explorers._clipping import log_ratio, unused_range
from callwright_explorers._covariance import counted, covariance, highest, number_of

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class KlCov:
    """The surrogate without a clip, and a penalty for moving the tokens with the highest covariance.

        c_it = (A_it - mean of A) (log pi_it - mean of log pi)                               (n, T)
        M    = the max(floor(share tokens), 1) tokens of the step with the highest c
        L_it = -rho A,  and on M  -rho A + coefficient |log rho|,    rho = exp(log pi - log pi_old)

    log pi is in nats, the means are over the step's tokens. Source: arXiv 2505.22617; formula and defaults (2e-4 and 1)
    are those of verl's `kl_cov`, whose script for 7B models has a share of 2e-3. Here c is of the policy that drew the
    step, and over the whole step; verl takes the policy as it is now and one micro-batch, so that M depends on how the
    step is cut. Tokens that tie with the last of M belong to it.

    The penalty's gradient is 0 where the policy has not moved: in the first pass over a step, so that with
    `train.passes: 1` it is the plain surrogate. Nothing is clipped, whatever the recipe says. Rows that take no part do
    not count; rows whose advantages are 0 do, and may be held too.

    Raises ValueError for a share outside 0 to 1 and for a coefficient below 0.
    """

    share: float = 2e-4
    """Of the step's tokens that are held, 0 to 1; 0 for none."""
    coefficient: float = 1.0
    """Strength: loss per nat, at least 0."""

    # No `neutral`: the core clips, and this never does.
    formula: ClassVar[str] = (
        "-r·A + β·|log r| on the tokens with the highest (A - mean A)(log π - mean log π), r = π/π_old"
    )
    source: ClassVar[str] = "arXiv 2505.22617, verl"
    use_when: ClassVar[str] = "Entropy collapses with several passes over a step."

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be between 0 and 1, not {self.share}")
        if not 0 <= self.coefficient < math.inf:
            raise ValueError(f"coefficient must be a number of at least 0, not {self.coefficient}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        return unused_range(recipe, "a penalty and no clip")

    def held(self, rollouts: Rollouts) -> Tensor:
        """(N, T) bool: the tokens of the step that the penalty holds."""
        return highest(covariance(rollouts), counted(rollouts), number_of(self.share, rollouts))

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        import torch  # here, so that listing and checking plugins stay quick

        moved = log_ratio(batch)
        held = self.held(batch.rollouts)[batch.rows.cpu()].to(moved.device)
        return -moved.exp() * batch.advantages.detach() + torch.where(held, self.coefficient * moved.abs(), 0.0)
