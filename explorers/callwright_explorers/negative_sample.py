"""Explorer `negative_sample`: learn from what is wrong, and little or nothing from what is right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from callwright import Rollouts, hookimpl

from callwright_explorers._success import check_threshold, scores, successes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class NegativeSample:
    """Constant advantages, one for correct completions and one for wrong ones; groups do not matter.

        A_i = positive    where r_i >= threshold
        A_i = -negative   elsewhere

    r_i (N,) is the combined reward, after what explorers add to it, or the reward of the name `reward`. Advantages have
    no unit. W-REINFORCE is positive 0.1 and negative 1 (the default), NSR is positive 0, PSR is positive 1 and
    negative 0 (arXiv 2506.01347; advantages and the recommended 0.1 as in the authors' code, in which rewards are 0 or
    1 and other rewards mean something else). There is no baseline: a group that is all wrong is pushed down, and with a
    positive weight one that is all right is still pushed up.

    As nothing brings the sum of the advantages near 0, the default mostly lowers probabilities; watch the entropy.

    Raises ValueError for weights below 0, for two weights of 0, and for a threshold that is no number.
    """

    positive: float = 0.1
    """Advantage of a correct completion, at least 0; the paper's lambda."""
    negative: float = 1.0
    """Minus the advantage of a wrong completion, at least 0."""
    threshold: float = 1.0
    """A completion is correct from this reward on."""
    reward: str | None = None
    """Name of the reward to look at. Default: the combined one."""

    # No `neutral`: no constants are the core's advantages.
    formula: ClassVar[str] = "A = λ for correct rows, -1 for wrong ones"
    source: ClassVar[str] = "arXiv 2506.01347"
    use_when: ClassVar[str] = "Pass@k falls while pass@1 rises: what is already likely needs no more reinforcement."

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {getattr(self, name)}")
        if not self.positive and not self.negative:
            raise ValueError("positive and negative must not both be 0, or nothing is learned")
        check_threshold(self.threshold)

    @hookimpl
    def advantages(self, rollouts: Rollouts) -> Tensor:
        """(N,); 0 for rows without the reward."""
        import torch  # here, so that listing and checking plugins stay quick

        values = scores(rollouts, self.reward)
        advantages = torch.where(successes(values, self.threshold), self.positive, -self.negative)
        return advantages.to(values).masked_fill(values.isnan(), 0.0)
