"""Explorer `gmpo`: the geometric mean of a completion's clipped ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from callwright import MicroBatch, hookimpl

from callwright_explorers._clipping import log_ratio, row_mean, unused_range

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class Gmpo:
    """Clip each token's log-ratio, then take the geometric mean over the completion.

        d_it = log pi - log pi_old, in nats                                                   (n, T)
        c_it = sign(A) min(sign(A) d, sign(A) clip(d, -clip_low, clip_high))
        L_it = -A_i exp(mean over the row's tokens of c_it),  A_i the mean of A_it over them  (n, 1), the same for all t

    The arithmetic mean of GRPO follows its largest ratio; this one hardly notices a single one, so the range is wider:
    exp(-0.4) to exp(0.4). As in the surrogate, the clip holds back only what the advantage asks for. Source: arXiv
    2507.20673, algorithm 1; that A_i is a mean is from verl's `geo_mean`. The paper averages over completions:
    use `train.aggregation: sequence`.

    In the first pass over a step every ratio is 1, and the gradient GRPO's.

    Raises ValueError for a range below 0.
    """

    clip_low: float = 0.4
    """The log-ratio is clipped below minus this, in nats, at least 0."""
    clip_high: float = 0.4
    """The log-ratio is clipped above this, in nats, at least 0."""

    # No `neutral`: no range turns the geometric mean into each token's own ratio.
    formula: ClassVar[str] = "-A·exp(mean_t clip(log(π/π_old), -ε, ε))"
    source: ClassVar[str] = "arXiv 2507.20673, verl"
    use_when: ClassVar[str] = (
        "Several passes over a step, and a few tokens with extreme ratios make the update unstable."
    )
    zero_without_advantage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("clip_low", "clip_high"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {getattr(self, name)}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        return unused_range(recipe, f"a range of its own, of the log-ratio: {self.clip_low} and {self.clip_high}")

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        import torch  # here, so that listing and checking plugins stay quick

        ratio = log_ratio(batch)
        advantages = batch.advantages.detach().masked_fill(~batch.mask, 0.0)
        sign = advantages.sign()
        clipped = sign * torch.minimum(sign * ratio, sign * ratio.clamp(-self.clip_low, self.clip_high))
        loss = -row_mean(advantages, batch.mask) * row_mean(clipped, batch.mask).exp()
        return loss.expand_as(batch.logps)
