"""Explorer `temperature`: how hot the completions of each step, and of each group, are sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import hookimpl
from callwright.schedules import between

from callwright_explorers._sampling import Scheduled, ranks

if TYPE_CHECKING:
    from torch import Tensor

_ADAPTIVE = ("steps", "target", "anneal", "anneal_share", "lowest", "highest", "vocabulary")
_LEAST = 1e-8
"""Nats that stand for an entropy of 0, of which there is no logarithm."""


@dataclass
class Temperature(Scheduled):
    """Sampling temperature by a schedule over the run, or one that holds an entropy; a ladder inside groups if wanted.

    With s the step, counted from 0, and p = min(s / (steps - 1), 1):

    - constant: T = start
    - linear:   T = start + (end - start) p
    - cosine:   T = end + (start - end) (1 + cos(pi p)) / 2
    - step:     T = start * factor ** (s // every), until it reaches `end`, where it stays
    - adaptive: T <- T (1 + T ln(H* / H) / (ln V + ln ln V)) after each step, kept in [lowest, highest]

    So T lies between `start` and `end`, and linear and cosine reach `end` in the last of `steps` steps.
    Log-probabilities and entropies are those at T, so a hotter step also sees a higher entropy.

    adaptive is E3 (arXiv 2505.18573; checked against the authors' code). H is the step's mean
    token entropy in nats, at the temperature that the tokens were sampled at: the authors' entropy is that of the
    logits divided by the temperature too. They take it during the update, this takes it before. V is the size of the
    vocabulary, H* `target`, or the H of the first step, after which T stays `start`. With `anneal`, H* falls along a
    cosine to `anneal` times itself over the last `anneal_share` of the steps. E3 has T = 1 at first, no target given,
    anneal 0.9 over the last 0.4, and no bounds.

    ladder: row g of the n in its group (g from 0) has T (low + (high - low) g / (n - 1)), the middle if it is alone.

    Raises ValueError for a number out of its range, for an option that the schedule lacks, and for one that it does
    not use.
    """

    schedule: Literal["constant", "linear", "cosine", "step", "adaptive"] = "constant"
    start: float = 1.0
    """Temperature of the first step, above 0."""
    target: float | None = None
    """adaptive: entropy to hold, in nats per token, above 0; by default that of the first step."""
    anneal: float | None = None
    """adaptive: share of the target that is left in the end, above 0 and at most 1; by default the target stays."""
    anneal_share: float | None = None
    """adaptive: share of the steps in which the target falls, above 0 and at most 1; 0.4 by default."""
    lowest: float | None = None
    """adaptive: bound of the temperature, above 0; 0.1 by default."""
    highest: float | None = None
    """adaptive: bound of the temperature; 2 by default."""
    vocabulary: int | None = None
    """adaptive: tokens that the model knows, at least 3; 151936 by default. A third of it moves T by 9 % more."""
    ladder: tuple[float, float] | None = None
    """Factors of the temperature for the first and the last completion of each group, above 0."""
    _degrees: float | None = field(default=None, init=False, repr=False, compare=False)
    _measured: float | None = field(default=None, init=False, repr=False, compare=False)
    _steps: int = field(default=1, init=False, repr=False, compare=False)

    formula: ClassVar[str] = "T(s) constant, linear, cosine or in steps; or T ← T(1 + T·ln(H*/H)/(ln V + ln ln V))"
    source: ClassVar[str] = "adaptive: arXiv 2505.18573"
    use_when: ClassVar[str] = (
        "Completions of a group are too alike (hotter) or too wild (colder), or entropy collapses."
    )
    # The core's temperature is 1 unless the recipe says otherwise; this plugin's then takes its place.
    neutral: ClassVar[dict[str, Any]] = {"schedule": "constant", "start": 1.0} | dict.fromkeys(
        ("end", "every", "factor", "ladder", *_ADAPTIVE)
    )
    required: ClassVar[Mapping[str, tuple[str, ...]]] = {**Scheduled.required, "adaptive": ()}
    optional: ClassVar[Mapping[str, tuple[str, ...]]] = {**Scheduled.optional, "adaptive": _ADAPTIVE}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("target", "lowest", "highest"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {value}")
        for name in ("anneal", "anneal_share"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, not {value}")
        if self.anneal_share is not None and self.anneal is None:
            raise ValueError("anneal_share has no effect without anneal; leave it out")
        low, high = self._bounds
        if self.schedule == "adaptive" and not low <= self.start <= high:
            raise ValueError(f"start must lie between lowest {low} and highest {high}, not {self.start}")
        if self.vocabulary is not None and self.vocabulary < 3:
            raise ValueError(f"vocabulary must be at least 3, not {self.vocabulary}")
        if self.ladder is not None and not all(0 < rung < math.inf for rung in self.ladder):
            raise ValueError(f"ladder must hold two numbers above 0, not {self.ladder}")

    @property
    def _bounds(self) -> tuple[float, float]:
        return (0.1 if self.lowest is None else self.lowest, 2.0 if self.highest is None else self.highest)

    @hookimpl
    def sampling(self, step: int, steps: int, group_ids: Tensor) -> Mapping[str, float | Tensor]:
        self._steps = steps  # known again before a resumed run's first step ends
        base = self.at(step, steps)
        return {"temperature": base if self.ladder is None else base * self._rungs(self.ladder, group_ids)}

    def _rungs(self, ladder: tuple[float, float], group_ids: Tensor) -> Tensor:
        """(N,) float32: each row's factor."""
        import torch  # here, so that listing and checking plugins stay quick

        rank, size = ranks(group_ids)
        place = torch.where(size > 1, rank / (size - 1).clamp(min=1), 0.5)
        return ladder[0] + (ladder[1] - ladder[0]) * place

    def at(self, step: int, steps: int) -> float:
        """Temperature of step `step` (from 0) in a run of `steps` steps, the ladder aside."""
        return super().at(step, steps) if self._degrees is None else self._degrees

    @hookimpl
    def step_ended(self, step: int, metrics: Mapping[str, float]) -> None:
        entropy = metrics["entropy"]
        if self.schedule != "adaptive" or not math.isfinite(entropy):
            return
        target = self._measured if self.target is None else self.target
        if target is None:
            self._measured = entropy
            return
        degrees = self.at(step, self._steps)
        log_size = math.log(self.vocabulary or 151_936)
        distance = math.log(max(self._annealed(target, step), _LEAST) / max(entropy, _LEAST))
        degrees *= 1 + degrees * distance / (log_size + math.log(log_size))
        low, high = self._bounds
        self._degrees = min(max(degrees, low), high)

    def _annealed(self, target: float, step: int) -> float:
        """The entropy to hold in step `step` (from 0)."""
        if self.anneal is None:
            return target
        steps = self.steps or self._steps
        falling = int(steps * (0.4 if self.anneal_share is None else self.anneal_share))
        # At step `steps - falling` the target is whole; it would have fallen in step `steps`, one behind the last.
        return between("cosine", target, self.anneal * target, max(step - (steps - falling), 0), falling + 1)

    def state_dict(self) -> dict[str, Any]:
        return {"temperature": self._degrees, "entropy": self._measured}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._degrees, self._measured = state["temperature"], state["entropy"]
