"""Explorer `importance_correction`: weigh completions that another distribution than the policy drew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import Rollouts, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

_HIGHEST = 80.0
"""Nats at which a log-ratio stops growing, so that its exponential stays finite in float32."""


@dataclass
class ImportanceCorrection:
    """Multiply the loss by the ratio of the policy's probability to that of the distribution that was sampled from.

    With d_it = policy_logps - behaviour_logps in nats, (N, T), before this step's first update:

        token:     rho_it = exp(d_it)
        sequence:  rho_it = exp(sum of d_i over the row's tokens), the same for all of them
        truncate:  w = rho, or the bound that it passes
        mask:      w = rho within the bounds, 0 outside

    Filters (top-p, min-p), forced tokens, `process_logits` and replay all make d differ from 0; a row's temperature
    does not, since both are at that temperature. For replayed rows the ratio is between the policy now and the policy
    that drew them. A forced token had probability 1, so its rho is the policy's probability of it. The clipped
    surrogate's own ratio, from this step's first update to now, is a factor apart.

    Forms, bounds and the default (sequence, mask, at most 3) are those of TRL 1.16's `vllm_importance_sampling_mode`,
    `..._clip_max` and `..._clip_min`. `sequence` is unbiased but for the bounds, and its ratios leave them soon in long
    completions; `token` ignores how earlier tokens changed what the later ones follow on. Weights are constants. They
    do not change the aggregation's divisor: rows that the mask drops count as rows with loss 0.

    Raises ValueError for bounds that are no range above 0, and for an unknown level or form.
    """

    level: Literal["token", "sequence"] = "sequence"
    """Ratio of each token, or of the whole completion."""
    form: Literal["truncate", "mask"] = "mask"
    """What happens outside the bounds: the bound instead, or 0."""
    high: float | None = 3.0
    """Upper bound of the ratio, above 0; null for none."""
    low: float | None = None
    """Lower bound of the ratio, at least 0; null for none."""

    formula: ClassVar[str] = "w = exp(log π - log μ) by token or sequence, truncated at the bounds or 0 outside"
    source: ClassVar[str] = "TRL 1.16 (vllm_importance_sampling_mode)"
    use_when: ClassVar[str] = (
        "Sampling filters, forced tokens, a temperature by token, or replay: whenever it warns so."
    )
    corrects_sampling: ClassVar[bool] = True
    # Between 1 and 1 every ratio is 1.
    neutral: ClassVar[dict[str, Any]] = {"form": "truncate", "high": 1.0, "low": 1.0}

    def __post_init__(self) -> None:
        if self.level not in ("token", "sequence"):
            raise ValueError(f"level must be 'token' or 'sequence', not {self.level!r}")
        if self.form not in ("truncate", "mask"):
            raise ValueError(f"form must be 'truncate' or 'mask', not {self.form!r}")
        if self.high is not None and not 0 < self.high < math.inf:
            raise ValueError(f"high must be a number above 0, not {self.high}")
        if self.low is not None and not 0 <= self.low < math.inf:
            raise ValueError(f"low must be a number of at least 0, not {self.low}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must be at most high {self.high}, not {self.low}")

    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        """(N, T), within the bounds or 0."""
        difference = (rollouts.policy_logps - rollouts.behaviour_logps).detach().masked_fill(~rollouts.mask, 0.0)
        if self.level == "sequence":
            difference = difference.sum(1, keepdim=True).expand_as(difference)
        ratio = difference.clamp(max=_HIGHEST).exp()
        low = 0.0 if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.form == "truncate":
            return ratio.clamp(low, high)
        return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)
