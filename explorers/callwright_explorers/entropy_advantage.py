"""Explorer `entropy_advantage`: uncertain completions, or tokens, get a larger advantage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import Need, Rollouts, hookimpl

from callwright_explorers._scope import SEGMENTS, Scope, in_scope

if TYPE_CHECKING:
    from torch import Tensor


Form = Literal["sequence", "token"]


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

    Two options of ours, in neither paper:

    - `centre`: alpha (E_i - mean of E over the group's rows), or alpha (H_it - mean over the group's tokens in scope),
      kept between -|A_i| / kappa and |A_i| / kappa. What all siblings share then drops out.
    - `zero_cap`: where A_i is 0, and only there, the bonus is alpha E_i (or alpha H_it) kept between -zero_cap and
      zero_cap: it is added to nothing, and no advantage that is not 0 changes its sign by it. Uncentred it raises the
      probability of all completions of such a group, those that are all wrong included; use it with `centre`, which
      only moves probability to the uncertain ones among them. Rows with that bonus take part in the update.

    Raises ValueError for an alpha or a zero_cap below 0 or a kappa that is not above 0.
    """

    form: Form = "sequence"
    alpha: float = 0.4
    """Strength: advantage per nat, at least 0."""
    kappa: float = 2.0
    """The bonus is at most |A| / kappa; above 0."""
    scope: Scope = "thinking"
    """Whose entropy counts: tokens inside the thinking tags, inside calls, of names or values in calls, or all."""
    centre: bool = False
    """Take the mean of the group off the entropy."""
    zero_cap: float = 0.0
    """Bound of the bonus where the advantage is 0, in units of the advantage, at least 0; 0 for none."""

    formula: ClassVar[str] = (
        "A + min(alpha·H, |A|/kappa), H the row's mean entropy (EGPO) or each token's (Cheng et al.)"
    )
    source: ClassVar[str] = "arXiv 2508.05118v4 (sequence), arXiv 2506.14758 (token)"
    use_when: ClassVar[str] = "Entropy collapses, and uncertain reasoning that leads to right calls should count more."
    needs: ClassVar[tuple[Need, ...]] = (Need.ENTROPY,)
    neutral: ClassVar[dict[str, Any]] = {"alpha": 0.0}

    def __post_init__(self) -> None:
        if self.form not in ("sequence", "token"):
            raise ValueError(f"form must be 'sequence' or 'token', not {self.form!r}")
        if self.scope not in SEGMENTS:
            raise ValueError(f"scope must be one of {', '.join(SEGMENTS)}, not {self.scope!r}")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a number of at least 0, not {self.alpha}")
        if not 0 < self.kappa < math.inf:
            raise ValueError(f"kappa must be a number above 0, not {self.kappa}")
        if not 0 <= self.zero_cap < math.inf:
            raise ValueError(f"zero_cap must be a number of at least 0, not {self.zero_cap}")

    @hookimpl
    def shape_advantages(self, rollouts: Rollouts, base: Tensor) -> Tensor:
        """delta (N, T), zero off the mask: between -|base| / kappa (0 uncentred) and |base| / kappa, or `zero_cap`."""
        import torch  # here, so that listing and checking plugins stay quick

        mask = rollouts.mask
        inside = in_scope(rollouts.segments, mask, self.scope)
        entropy = rollouts.entropy.detach().masked_fill(~inside, 0)
        shaped, known = inside, inside
        if self.form == "sequence":
            tokens = inside.sum(1, keepdim=True)
            entropy = entropy.sum(1, keepdim=True) / tokens.clamp(min=1)
            shaped, known = mask, tokens > 0
        if self.centre:
            entropy = entropy - self._of_group(rollouts, entropy, known)
        size = base.detach().abs()[:, None]
        cap = torch.where(size > 0, size / self.kappa, self.zero_cap)
        bonus = torch.maximum(torch.minimum(self.alpha * entropy, cap), -cap)
        return torch.where(shaped & known, bonus, torch.zeros_like(bonus))

    @staticmethod
    def _of_group(rollouts: Rollouts, entropy: Tensor, known: Tensor) -> Tensor:
        """Mean of `entropy` (N, 1) or (N, T) where it is known, over each row's group; rows that take no part aside."""
        import torch
        from callwright import grpo

        if rollouts.total is not None:
            known = known & ~rollouts.total.isnan()[:, None]
        values = torch.where(known, entropy, torch.nan).flatten()
        mean, _, _ = grpo.group_statistics(values, rollouts.group_ids.repeat_interleave(entropy.shape[1]))
        return mean.view_as(entropy)
