"""Explorer `entropy_smoothing`: an entropy bonus, and a penalty for entropies far from what they used to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import MicroBatch, Need, hookimpl

from callwright_explorers._coefficient import require, require_count

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class EntropySmoothing:
    """Reward entropy, and keep it inside a band around the mean of the steps before.

    loss -= coefficient * (agg H - smoothing * w_s * agg P), with agg the recipe's aggregation, H (n, T) the policy's
    entropy in nats with a gradient, and H* the mean of the metric `entropy` over the steps before this one (over the
    last `window` of them, if given). In the first step P is 0. Outside [low H*, high H*]:

    - distance: P = max(low H* - H, 0) + max(H - high H*, 0): outside the band H is drawn back to it
    - step:     P = `penalty`, 0 inside: a constant, so that it is seen in the loss and has **no gradient**. Then only
      the bonus trains the model

    `level: sequence` compares the mean over a row's tokens with the band, and every token of the row gets the P.
    With `phases`, w_s = 1 - 0.2 (1 - exp(-2 q)) in the first half of that many steps, then 0.8 exp(-decay q), with q
    the share of the half that is over; else w_s = 1.

    This is EPO (arXiv 2509.22576) for completions of one turn, after the authors' `dp_actor.py` and configuration,
    whose defaults these are, except that `distance` is. The authors' code has `step`; their answer to reviewers writes
    the penalty as the distance; the paper's text was not checked. Their means are by turn of a dialogue, their penalty
    begins in the middle of it, their mean over a row counts the padding. They also publish runs with low 0, high 2.

    Raises ValueError for a number out of its range.
    """

    coefficient: float = 0.001
    """Of the whole term, at least 0."""
    smoothing: float = 1.0
    """Of the penalty within it, at least 0."""
    low: float = 0.8
    """Lower edge of the band as a share of the mean, in [0, 1]."""
    high: float = 1.2
    """Upper edge of the band as a share of the mean, at least 1."""
    form: Literal["distance", "step"] = "distance"
    penalty: float = 0.1
    """step: what a token outside the band costs, at least 0."""
    level: Literal["token", "sequence"] = "token"
    window: int | None = None
    """Number of steps that the mean goes back; by default all."""
    phases: int | None = None
    """Number of steps over which the penalty fades; by default it does not."""
    decay: float = 3.0
    """phases: how fast it fades in the second half, at least 0."""
    _history: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    """Entropies of the last `window` steps; without a window [sum, number]."""

    needs: ClassVar[tuple[Need, ...]] = (Need.ENTROPY_GRADIENT,)
    neutral: ClassVar[dict[str, Any]] = {"coefficient": 0.0}
    formula: ClassVar[str] = (
        "L -= c(H̄ - c_s·w(s)·P̄), P > 0 where H leaves [0.8, 1.2] times the mean of the steps before"
    )
    source: ClassVar[str] = "arXiv 2509.22576 (EPO)"
    use_when: ClassVar[str] = "Entropy swings up and down from step to step instead of falling."

    def __post_init__(self) -> None:
        for name, allowed in (("form", ("distance", "step")), ("level", ("token", "sequence"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {getattr(self, name)!r}")
        for name in ("coefficient", "smoothing", "penalty", "decay"):
            require(name, getattr(self, name), 0)
        require("low", self.low, 0, 1)
        require("high", self.high, 1)
        require_count("window", self.window)
        require_count("phases", self.phases)

    @property
    def usual(self) -> float | None:
        """H*: the mean entropy of the steps before; None in the first."""
        if not self._history:
            return None
        if self.window is None:
            return self._history[0] / self._history[1]
        return math.fsum(self._history) / len(self._history)

    def weight(self, step: int) -> float:
        """w of step `step` (from 0)."""
        if self.phases is None:
            return 1.0
        half = self.phases // 2
        if step <= half:
            return 1 - 0.2 * (1 - math.exp(-2 * step / max(half, 1)))
        return 0.8 * math.exp(-self.decay * min((step - half) / (self.phases - half), 1))

    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        """`entropy_smoothing`; the two parts are not shown apart, since they are one term of the loss."""
        import torch  # here, so that listing and checking plugins stay quick

        entropy = torch.where(batch.mask, batch.entropy, 0.0)
        term = batch.aggregate(entropy)
        if (usual := self.usual) is not None:
            weight = self.smoothing * self.weight(batch.rollouts.step)
            term = term - weight * batch.aggregate(self._penalties(entropy, batch.mask, usual))
        return {"entropy_smoothing": -self.coefficient * term}

    def _penalties(self, entropy: Tensor, mask: Tensor, usual: float) -> Tensor:
        """P (n, T)."""
        if self.level == "sequence":
            entropy = entropy.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        below, above = (self.low * usual - entropy).clamp(min=0), (entropy - self.high * usual).clamp(min=0)
        outside = below + above if self.form == "distance" else self.penalty * ((below > 0) | (above > 0)).float()
        return outside * mask

    @hookimpl
    def step_ended(self, metrics: Mapping[str, float]) -> None:
        entropy = metrics["entropy"]
        if not math.isfinite(entropy):
            return
        if self.window is not None:
            self._history = [*self._history, entropy][-self.window :]
        else:
            total, number = self._history or (0.0, 0.0)
            self._history = [total + entropy, number + 1]

    def state_dict(self) -> dict[str, Any]:
        return {"history": list(self._history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._history = list(state["history"])
