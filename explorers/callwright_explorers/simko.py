"""Explorer `simko`: right completions lift the likeliest tokens together, wrong ones push the likeliest down harder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import MicroBatch, Need, hookimpl

from callwright_explorers._clipping import Clipped

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Simko(Clipped):
    """The clipped surrogate, with its gradient shared out among the likeliest tokens where the policy was uncertain.

    W are the tokens whose entropy is above the `quantile` of their own row's. With rho = exp(log pi - log pi_old) of
    the token that was drawn, rho_k of the K likeliest before the step's first update, and sg without a gradient:

        right:  on W  rho <- (1 - share) rho + share / K sum over k of sg(rho / rho_k) rho_k
        wrong:  on W, where the drawn token was the likeliest,  A <- penalty A
        L_it  = -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)                        (n, T)

    The new rho has the value of the old; only its gradient is another, that of
    (1 - share) log pi + share / K sum over k of log pi_k: label smoothing for the update. Source: arXiv 2510.14807;
    formula and defaults (K = 3, share 0.01, quantile 0.8, penalty 1.1, clip range 0.2) are those of the authors' code
    and scripts. Here:

    - A row is right if the sum of its advantages is above 0, wrong if below. The authors ask for a reward of 1 on the
      one side and the sum on the other: with rewards of 0 and 1 it is the same.
    - Entropy and the likeliest tokens are those before the step's first update. The authors take both of the policy as
      it is now, and set the new k-th likeliest token against the old k-th, even where they are two tokens.

    Raises ValueError for a K below 1, a share or quantile outside 0 to 1, a penalty below 0, and for a clip range
    outside `clip_low` 0 to 1, `clip_high` at least 0.
    """

    candidates: int = 3
    """K: how many of the likeliest tokens share, at least 1."""
    share: float = 0.01
    """How much of the gradient goes to them, 0 to 1."""
    quantile: float = 0.8
    """Share of a row's tokens with so little entropy that they are left as they are, 0 to 1."""
    penalty: float = 1.1
    """Factor of the advantage where a wrong completion took the likeliest token, at least 0."""

    formula: ClassVar[str] = "∇log π ← (1 - λ)∇log π + λ/K·Σ_k ∇log π_k (right);  A ← 1.1·A on top-1 tokens (wrong)"
    source: ClassVar[str] = "arXiv 2510.14807"
    use_when: ClassVar[str] = "pass@1 rises while pass@k falls: probability gathers on one token."
    needs: ClassVar[tuple[Need, ...]] = (Need.TOP_LOGPS, Need.ENTROPY)
    neutral: ClassVar[dict[str, Any]] = {"share": 0.0, "penalty": 1.0, "clip_low": 0.2, "clip_high": 0.2}
    zero_without_advantage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, not {self.candidates}")
        for name in ("share", "quantile"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if not 0 <= self.penalty < float("inf"):
            raise ValueError(f"penalty must be a number of at least 0, not {self.penalty}")

    @property
    def top_logps(self) -> int:
        """How many log-probabilities the core is to hold for each token."""
        return self.candidates

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        import torch  # here, so that listing and checking plugins stay quick
        from callwright import grpo

        assert batch.top_logps is not None
        assert batch.top_ids is not None
        advantages = batch.advantages.detach()
        side = advantages.masked_fill(~batch.mask, 0.0).sum(1, keepdim=True)
        uncertain = self._uncertain(batch)
        drawn = batch.rollouts.completion_ids[batch.rows.cpu()].to(batch.top_ids.device)
        punished = uncertain & (side < 0) & (batch.top_ids[..., 0] == drawn)
        advantages = torch.where(punished, self.penalty * advantages, advantages)
        # 0, with the gradient that the others get more and the drawn token less.
        top_logps = batch.top_logps[..., : self.candidates]  # another plugin may have asked for more
        others = (top_logps - top_logps.detach()).mean(-1)
        shift = self.share * (others - (batch.logps - batch.logps.detach()))
        logps = batch.logps + torch.where(uncertain & (side > 0), shift, 0.0)
        return grpo.clipped_surrogate(logps, batch.old_logps.detach(), advantages, self.clip_low, self.clip_high)

    def _uncertain(self, batch: MicroBatch) -> Tensor:
        """(n, T) bool: tokens above their row's quantile of the entropy before the update."""
        import torch

        entropy = batch.rollouts.entropy[batch.rows.cpu()].detach().to(batch.mask.device)
        inside = entropy.masked_fill(~batch.mask, torch.nan)
        return inside > torch.nanquantile(inside, self.quantile, dim=1, keepdim=True)
