"""Explorer `entropy_quantile`: only the most uncertain tokens of a step learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import Need, Rollouts, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-5
"""Nats by which float32's entropies of the same distribution may differ, when they come from other batches."""


@dataclass
class EntropyQuantile:
    """Give the share of tokens with the highest entropy weight 1, and all others weight 0.

        w_it = 1 if H_it >= q, else 0,    q the (1 - share) quantile of H over all tokens of the step

    H (N, T) is the policy's entropy in nats before the update, w (N, T). Tokens at the limit, but for 1e-5 nats of
    rounding, are kept, so that ties may keep more than the share: the first tokens of a group all have one entropy.
    Rows that take no part have no say in q. Source: the 80/20 rule, arXiv 2506.01939, with share 0.2; TRL 1.16 has it
    as `top_entropy_quantile`, over the rows of one forward pass on all devices, here it is over the whole step however
    that is cut. As there, the loss of all tokens stays the divisor: with share 0.2 the gradient is that of a fifth of
    the tokens, divided by the number of all.

    Raises ValueError for a share that is not above 0 and at most 1.
    """

    share: float = 0.2
    """Tokens that learn, above 0 and at most 1."""

    formula: ClassVar[str] = "w = 1[H ≥ quantile(H, 1 - share) over the step]"
    source: ClassVar[str] = "arXiv 2506.01939, TRL"
    use_when: ClassVar[str] = "Most tokens are settled (brackets, tags), and the update should go to the few decisions."
    needs: ClassVar[tuple[Need, ...]] = (Need.ENTROPY,)
    neutral: ClassVar[dict[str, Any]] = {"share": 1.0}

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {self.share}")

    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        """(N, T), 0 or 1."""
        import torch  # here, so that listing and checking plugins stay quick

        entropy, counted = rollouts.entropy.detach(), rollouts.mask
        if rollouts.total is not None:
            counted = counted & ~rollouts.total.isnan()[:, None]
        if not bool(counted.any()):
            return torch.ones_like(entropy)
        limit = torch.quantile(entropy[counted], 1 - self.share)
        return (entropy >= limit - ROUNDING).to(entropy.dtype)
