"""Explorer `adaptive_entropy`: an entropy bonus that comes and goes so that entropy stays above a target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import MicroBatch, Need, hookimpl

from callwright_explorers._coefficient import require, step_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class AdaptiveEntropy:
    """Hold the entropy at a target: raise the coefficient of the bonus while it is below, lower it while above.

    loss -= c_s on_s * mean over the step's tokens of H_it (n, T), in nats, with a gradient. After step s, whose mean
    token entropy is H_s (the metric `entropy`, of the completions as they were drawn):

    - skywork: c_(s+1) = clip(c_s + delta if H_s < target else c_s - delta, lowest, highest),
      on_(s+1) = H_s < target, and in the first step the bonus is on
    - trl: the same with H_s <= target, and in the first step the bonus is off

    So the two differ only in the first step, when `coefficient` is above 0, and where H_s is the target exactly.
    skywork is the controller of Skywork-OR1 (arXiv 2505.22312), read in the authors' training loop and in a third
    party's copy of the controller; the paper's text was not checked. There H_s is -mean log p of the drawn tokens,
    an estimate of the entropy; here it is the entropy itself, as in TRL. trl is `use_adaptive_entropy` of TRL 1.16.

    target, delta, lowest, highest and coefficient are those of Skywork-OR1's scripts. TRL's are 0.2, 0.005, 0, 1
    and 0. Both are for models with thousands of thinking tokens: look at the metric `entropy` of the first steps, and
    set the target near it.

    Raises ValueError for a number out of its range and for a coefficient outside [lowest, highest].
    """

    target: float = 0.2
    """Entropy to hold, in nats per token, at least 0."""
    coefficient: float = 0.0
    """c in the first step."""
    delta: float = 1e-4
    """Change of c after each step, at least 0."""
    lowest: float = 0.0
    """Bound of c, at least 0."""
    highest: float = 0.005
    """Bound of c."""
    form: Literal["skywork", "trl"] = "skywork"
    _current: float | None = field(default=None, init=False, repr=False, compare=False)
    _on: bool | None = field(default=None, init=False, repr=False, compare=False)

    needs: ClassVar[tuple[Need, ...]] = (Need.ENTROPY_GRADIENT,)
    neutral: ClassVar[dict[str, Any]] = {"coefficient": 0.0, "lowest": 0.0, "highest": 0.0}
    formula: ClassVar[str] = "L -= c·1[H̄ < H*]·mean H;  c ← clip(c ± δ, lowest, highest)"
    source: ClassVar[str] = "arXiv 2505.22312 (Skywork-OR1); TRL `use_adaptive_entropy`"
    use_when: ClassVar[str] = "Entropy collapses, and you know a level at which it should stay."

    def __post_init__(self) -> None:
        if self.form not in ("skywork", "trl"):
            raise ValueError(f"form must be 'skywork' or 'trl', not {self.form!r}")
        for name in ("target", "coefficient", "delta", "lowest", "highest"):
            require(name, getattr(self, name), 0)
        if not self.lowest <= self.coefficient <= self.highest:
            text = f"coefficient must lie between lowest {self.lowest} and highest {self.highest}"
            raise ValueError(f"{text}, not {self.coefficient}")

    @property
    def applied(self) -> float:
        """The coefficient of this step: 0 while the bonus is off."""
        on = self.form == "skywork" if self._on is None else self._on
        return (self.coefficient if self._current is None else self._current) if on else 0.0

    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {"adaptive_entropy": -self.applied * step_mean(batch, batch.entropy)}

    @hookimpl
    def step_ended(self, metrics: Mapping[str, float]) -> None:
        entropy = metrics["entropy"]
        if not math.isfinite(entropy):
            return
        current = self.coefficient if self._current is None else self._current
        self._on = entropy <= self.target if self.form == "trl" else entropy < self.target
        current += self.delta if self._on else -self.delta
        self._current = min(max(current, self.lowest), self.highest)

    def state_dict(self) -> dict[str, Any]:
        return {"coefficient": self._current, "on": self._on}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._current, self._on = state["coefficient"], state["on"]
