"""Explorer `kl`: the loss keeps the policy near the reference model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import MicroBatch, Need, hookimpl

from callwright_explorers._coefficient import Coefficient, require

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor

_ADAPTIVE = {"target": 0.01, "gain": 0.1}
"""Options of the schedule `adaptive`, and their defaults."""


@dataclass
class Kl(Coefficient):
    """Add an estimate of the divergence from the reference, token by token, with a coefficient that may change.

    loss += beta(s) * agg k, with agg the recipe's aggregation and, for each token that was drawn, in nats,
    d = log p_reference - log p_policy (n, T):

    - k1: -d
    - k2: d^2 / 2
    - k3: exp(d) - d - 1, as in GRPO (arXiv 2402.03300, equation 4), TRL and the core's `train.kl`

    The names are Schulman's ("Approximating KL divergence", 2020). On average over the policy's own tokens k1 and k3
    are KL(policy || reference). But a loss is known by its gradient, and the tokens are not differentiated:

    - k1: grad log p, whose mean is zero whatever the reference is: noise, and no pull. Do not use it as it is
    - k2: -d grad log p, whose mean is the gradient of KL(policy || reference)
    - k3: (1 - exp(d)) grad log p, whose mean is the gradient of KL(reference || policy); large where the reference
      likes a token much better than the policy does

    With `corrected`, k is multiplied by the ratio p_policy / p_old, with its gradient (TRL's `use_bias_correction_kl`).
    Then the tokens are differentiated too, and the mean of the gradient of k1 and of k3 is that of KL(policy ||
    reference), in later passes also.

    beta(s) is `coefficient`, or goes to `end` (linear, cosine), or holds a divergence (adaptive), with KL the metric
    `kl`: the mean k3 per token before the step's update:

        beta <- beta (1 + gain clip(KL / target - 1, -0.2, 0.2))

    That is the controller of arXiv 1909.08593, as verl and others write it with n / horizon for the gain; with the
    horizon of 10,000 and 1,000 rows a step it is the default 0.1. They measure KL by completion, this by token.

    Raises ValueError for a number out of its range and for options that do not fit the schedule.
    """

    schedule: Literal["constant", "linear", "cosine", "adaptive"] = "constant"
    estimator: Literal["k1", "k2", "k3"] = "k3"
    corrected: bool = False
    """Multiply by the ratio of the policy now to the one before the step's first update."""
    target: float | None = None
    """adaptive: divergence to hold, in nats per token, above 0; 0.01 by default."""
    gain: float | None = None
    """adaptive: how fast the coefficient follows, above 0 and at most 5; 0.1 by default."""
    _current: float | None = field(default=None, init=False, repr=False, compare=False)

    needs: ClassVar[tuple[Need, ...]] = (Need.REF_LOGPS,)
    neutral: ClassVar[dict[str, Any]] = {"coefficient": 0.0, "schedule": "constant"} | dict.fromkeys(
        ("end", "steps", *_ADAPTIVE)
    )
    schedules: ClassVar[tuple[str, ...]] = ("constant", "linear", "cosine", "adaptive")
    formula: ClassVar[str] = "L += β(s)·k;  k1 = -d, k2 = d²/2, k3 = eᵈ - d - 1, d = log π_ref - log π"
    source: ClassVar[str] = "arXiv 2402.03300 (k3); adaptive: arXiv 1909.08593"
    use_when: ClassVar[str] = "The policy drifts away from a model whose other abilities it should keep."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimator not in ("k1", "k2", "k3"):
            raise ValueError(f"estimator must be one of k1, k2, k3, not {self.estimator!r}")
        for name in _ADAPTIVE:
            if getattr(self, name) is not None and self.schedule != "adaptive":
                raise ValueError(f"{name} has no effect with schedule {self.schedule!r}; leave it out")
        require("target", self.target, 0, open_low=True)
        require("gain", self.gain, 0, 5, open_low=True)
        if self.schedule == "adaptive" and self.coefficient == 0:
            raise ValueError("coefficient must be above 0 with schedule 'adaptive', which multiplies it, not 0")

    def at(self, step: int) -> float:
        return super().at(step) if self._current is None else self._current

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        if recipe.train.kl:
            return [f"train.kl {recipe.train.kl} adds a divergence already; set train.kl: 0, or leave the plugin out"]
        return []

    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        """`kl_loss`, the name of the core's own term."""
        assert batch.ref_logps is not None
        difference = (batch.ref_logps.detach() - batch.logps).masked_fill(~batch.mask, 0.0)
        divergence = self._estimated(difference)
        if self.corrected:
            divergence = divergence * (batch.logps - batch.old_logps.detach()).masked_fill(~batch.mask, 0.0).exp()
        return {"kl_loss": self.at(batch.rollouts.step) * batch.aggregate(divergence)}

    def _estimated(self, difference: Tensor) -> Tensor:
        if self.estimator == "k1":
            return -difference
        if self.estimator == "k2":
            return difference.square() / 2
        return difference.exp() - difference - 1

    @hookimpl
    def step_ended(self, step: int, metrics: Mapping[str, float]) -> None:
        measured = metrics.get("kl", math.nan)
        if self.schedule != "adaptive" or not math.isfinite(measured):
            return
        target = _ADAPTIVE["target"] if self.target is None else self.target
        gain = _ADAPTIVE["gain"] if self.gain is None else self.gain
        self._current = self.at(step) * (1 + gain * min(max(measured / target - 1, -0.2), 0.2))

    def state_dict(self) -> dict[str, Any]:
        return {"coefficient": self._current}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._current = state["coefficient"]
