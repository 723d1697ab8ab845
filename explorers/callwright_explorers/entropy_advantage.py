"""Explorer `entropy_advantage`: uncertain completions, or tokens, get a larger advantage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from callwright import Need, Rollouts, Segment, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


Form = Literal["sequence", "token"]
Scope = Literal["thinking", "calls", "all"]

_SEGMENTS: dict[Scope, tuple[Segment, ...]] = {
    "thinking": (Segment.THINKING,),
    "calls": (Segment.CALL, Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME, Segment.ARGUMENT_VALUE),
    "all": tuple(s for s in Segment if s is not Segment.PAD),
}


@dataclass
class EntropyAdvantage:
    """Add a bonus for entropy to the advantage, capped by a share of the advantage's size.

    H_it is the policy's entropy in nats at token t of row i, A_i the row's advantage, W_i the row's tokens in `scope`.

    - sequence (EGPO, arXiv 2508.05118v4, equations 4 and 5; earlier versions call the method FunRL):
      E_i = mean of H_it over W_i, and every token of the row gets A_i + min(alpha E_i, |A_i| / kappa).
      A row without a token in scope gets no bonus. The paper writes lambda for alpha, and alpha for kappa.
    - token (Cheng et al., arXiv 2506.14758): the tokens of W_i get A_i + min(alpha H_it, |A_i| / kappa).
      The paper shapes every token, which is `scope: all`.

    Both papers take alpha 0.4 with GRPO and kappa 2. Entropy is a constant here: no gradient flows through the bonus.
    With kappa above 1 an advantage keeps its sign. Where it is 0 (all rewards of the group are equal) the bonus is too.

    Raises ValueError for an alpha below 0 or a kappa that is not above 0.
    """

    form: Form = "sequence"
    alpha: float = 0.4
    """Strength: advantage per nat, at least 0."""
    kappa: float = 2.0
    """The bonus is at most |A| / kappa; above 0."""
    scope: Scope = "thinking"
    """Whose entropy counts: tokens inside the thinking tags, inside calls, or all."""

    needs: ClassVar[tuple[Need, ...]] = (Need.ENTROPY,)
    neutral: ClassVar[dict[str, float]] = {"alpha": 0.0}

    def __post_init__(self) -> None:
        if self.form not in ("sequence", "token"):
            raise ValueError(f"form must be 'sequence' or 'token', not {self.form!r}")
        if self.scope not in _SEGMENTS:
            raise ValueError(f"scope must be one of {', '.join(_SEGMENTS)}, not {self.scope!r}")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a number of at least 0, not {self.alpha}")
        if not 0 < self.kappa < math.inf:
            raise ValueError(f"kappa must be a number above 0, not {self.kappa}")

    @hookimpl
    def shape_advantages(self, rollouts: Rollouts, base: Tensor) -> Tensor:
        """delta (N, T), between 0 and |base| / kappa, zero off the mask."""
        import torch  # here, so that listing and checking plugins stay quick

        mask = rollouts.mask
        in_scope = mask & torch.isin(rollouts.segments, torch.tensor(_SEGMENTS[self.scope], dtype=torch.int8))
        entropy = rollouts.entropy.detach().masked_fill(~in_scope, 0)
        shaped = in_scope
        if self.form == "sequence":
            entropy = entropy.sum(1, keepdim=True) / in_scope.sum(1, keepdim=True).clamp(min=1)
            shaped = mask
        bonus = torch.minimum(self.alpha * entropy, base.abs()[:, None] / self.kappa)
        return torch.where(shaped, bonus, torch.zeros_like(bonus))
