"""Explorer `clip_cov`: a few of the tokens that make the policy surer do not learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import MicroBatch, Rollouts, hookimpl

from callwright_explorers._clipping import Clipped
from callwright_explorers._covariance import counted, covariance, drawn, highest, number_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ClipCov(Clipped):
    """The clipped surrogate without some random tokens whose covariance of log-probability and advantage is high.

        c_it = (A_it - mean of A) (log pi_it - mean of log pi)                               (n, T)
        M    = max(floor(share tokens), 1) random ones of the tokens with low < c < high
        L_it = 0 on M, elsewhere -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)

    The entropy falls with the covariance of a token's log-probability and its advantage, and a few tokens have nearly
    all of it. log pi is in nats, the means are over the step's tokens. Source: arXiv 2505.22617; formula and defaults
    (2e-4, 1 and 5, and a clip range of 1, which is nearly none) are those of verl's `clip_cov` and its script. Here:

    - c is of the policy that drew the step, and over the whole step. verl takes the policy as it is now and one
      micro-batch, so that M depends on how the step is cut; in a first pass the policy is the same.
    - The choice is by a hash of the step and the tokens, and is the same in all passes of a step. Tokens whose hashes
      are equal, because their completions are, go together.
    - verl does not count tokens that the clip silences already, which is known of the micro-batch only.

    With a small step the one token is more than the share. Rows that take no part do not count.

    Raises ValueError for a share outside 0 to 1, bounds that are no range, and a clip range outside `clip_low` 0 to 1,
    `clip_high` at least 0.
    """

    clip_low: float = 1.0
    """The ratio is clipped below 1 minus this, 0 to 1."""
    clip_high: float = 1.0
    """The ratio is clipped above 1 plus this, at least 0."""
    share: float = 2e-4
    """Of the step's tokens that do not learn, 0 to 1; 0 for none."""
    low: float = 1.0
    """The covariance must be above this, in nats times units of the advantage."""
    high: float = 5.0
    """And below this."""

    formula: ClassVar[str] = (
        "L = 0 on a random share of the tokens with c in (low, high), c = (A - mean A)(log π - mean log π)"
    )
    source: ClassVar[str] = "arXiv 2505.22617, verl"
    use_when: ClassVar[str] = "Entropy collapses early, and a bonus for entropy is too blunt."
    neutral: ClassVar[dict[str, Any]] = {"share": 0.0, "clip_low": 0.2, "clip_high": 0.2}
    zero_without_advantage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be between 0 and 1, not {self.share}")
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low and high must be numbers, low below high, not {self.low} and {self.high}")

    def silenced(self, rollouts: Rollouts) -> Tensor:
        """(N, T) bool: the tokens of the step that do not learn."""
        values = covariance(rollouts)
        eligible = counted(rollouts) & (values > self.low) & (values < self.high)
        return highest(drawn(rollouts), eligible, number_of(self.share, rollouts))

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        from callwright import grpo  # here, since it imports torch, and listing and checking plugins stays quick

        loss = grpo.clipped_surrogate(
            batch.logps, batch.old_logps.detach(), batch.advantages.detach(), self.clip_low, self.clip_high
        )
        silenced = self.silenced(batch.rollouts)[batch.rows.cpu()].to(loss.device)
        return loss.masked_fill(silenced, 0.0)
