"""Explorer `temperature`: how hot the completions of each step are sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from callwright import hookimpl
from callwright.schedules import Path, between, stairs

Schedule = Literal["constant", "linear", "cosine", "step"]

_REQUIRED: dict[Schedule, tuple[str, ...]] = {
    "constant": (),
    "linear": ("end",),
    "cosine": ("end",),
    "step": ("end", "every", "factor"),
}
_OPTIONAL: dict[Schedule, tuple[str, ...]] = {"constant": (), "linear": ("steps",), "cosine": ("steps",), "step": ()}


@dataclass
class Temperature:
    """Sampling temperature by a schedule over the run, the same for every row of a step.

    With s the step, counted from 0, and p = min(s / (steps - 1), 1):

    - constant: T = start
    - linear:   T = start + (end - start) p
    - cosine:   T = end + (start - end) (1 + cos(pi p)) / 2
    - step:     T = start * factor ** (s // every), until it reaches `end`, where it stays

    So T always lies between `start` and `end`, and linear and cosine reach `end` in the last of `steps` steps.
    Log-probabilities and entropies are those at T, so a hotter step also sees a higher entropy.

    Raises ValueError for a temperature that is not positive, for an option that the schedule lacks, and for one
    that it does not use.
    """

    schedule: Schedule = "constant"
    start: float = 1.0
    """Temperature of the first step, above 0."""
    end: float | None = None
    """Temperature that the schedule arrives at, above 0."""
    steps: int | None = None
    """linear and cosine: number of steps to `end`; by default all steps of the run."""
    every: int | None = None
    """step: number of steps between two changes."""
    factor: float | None = None
    """step: what each change multiplies the temperature by."""

    def __post_init__(self) -> None:
        if self.schedule not in _REQUIRED:
            raise ValueError(f"schedule must be one of {', '.join(_REQUIRED)}, not {self.schedule!r}")
        self._check_options()
        for name in ("start", "end", "factor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {value}")
        for name in ("steps", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.end is not None and self.factor is not None and not self._leads_to(self.end, self.factor):
            raise ValueError(f"factor {self.factor} never leads from start {self.start} to end {self.end}")

    def _check_options(self) -> None:
        required, optional = _REQUIRED[self.schedule], _OPTIONAL[self.schedule]
        for name in ("end", "steps", "every", "factor"):
            given = getattr(self, name) is not None
            if given and name not in required + optional:
                raise ValueError(f"{name} has no effect with schedule {self.schedule!r}; leave it out")
            if not given and name in required:
                raise ValueError(f"schedule {self.schedule!r} also takes {name}")

    def _leads_to(self, end: float, factor: float) -> bool:
        return factor < 1 if end < self.start else factor > 1

    @hookimpl
    def sampling(self, step: int, steps: int) -> Mapping[str, float]:
        return {"temperature": self.at(step, steps)}

    def at(self, step: int, steps: int) -> float:
        """Temperature of step `step` (from 0) in a run of `steps` steps."""
        if self.end is None:
            return self.start
        if self.every is not None and self.factor is not None:
            return stairs(self.start, self.end, step // self.every, self.factor)
        path: Path = "linear" if self.schedule == "linear" else "cosine"
        return between(path, self.start, self.end, step, self.steps or steps)
