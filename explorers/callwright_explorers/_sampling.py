"""What the sampling strategies share: options that follow a schedule, and a row's rank in its group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from callwright.schedules import Path, between, stairs

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Literal["constant", "linear", "cosine", "step"]


@dataclass
class Scheduled:
    """Options of a number that changes over the steps of a run; see `at` for the formulas.

    A subclass says in `allowed` and `allows` what `start` and `end` may be, and may add schedules to `required` and
    `optional`: by schedule, the options that it takes besides `start`. Raises ValueError for an option out of its
    range, for one that the schedule lacks, and for one that it does not use.
    """

    schedule: str = "constant"
    start: float = 1.0
    """Value in the first step."""
    end: float | None = None
    """Value that the schedule arrives at."""
    steps: int | None = None
    """linear and cosine: number of steps to `end`; by default all steps of the run."""
    every: int | None = None
    """step: number of steps between two changes."""
    factor: float | None = None
    """step: what each change multiplies the value by."""

    allowed: ClassVar[str] = "a number above 0"
    required: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "constant": (),
        "linear": ("end",),
        "cosine": ("end",),
        "step": ("end", "every", "factor"),
    }
    optional: ClassVar[Mapping[str, tuple[str, ...]]] = {"linear": ("steps",), "cosine": ("steps",)}

    def __post_init__(self) -> None:
        if self.schedule not in self.required:
            raise ValueError(f"schedule must be one of {', '.join(self.required)}, not {self.schedule!r}")
        self._check_options()
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None and not self.allows(value):
                raise ValueError(f"{name} must be {self.allowed}, not {value}")
        if self.factor is not None and not 0 < self.factor < math.inf:
            raise ValueError(f"factor must be a number above 0, not {self.factor}")
        for name in ("steps", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.end is not None and self.factor is not None and not self._arrives(self.end, self.factor):
            raise ValueError(f"factor {self.factor} never leads from start {self.start} to end {self.end}")

    def _check_options(self) -> None:
        required, optional = self.required[self.schedule], self.optional.get(self.schedule, ())
        everywhere = {*self.required.values(), *self.optional.values()}
        for name in sorted({name for names in everywhere for name in names}):
            given = getattr(self, name) is not None
            if given and name not in required + optional:
                raise ValueError(f"{name} has no effect with schedule {self.schedule!r}; leave it out")
            if not given and name in required:
                raise ValueError(f"schedule {self.schedule!r} also takes {name}")

    def _arrives(self, end: float, factor: float) -> bool:
        return min(self.start, end) > 0 and (factor < 1 if end < self.start else factor > 1)

    def allows(self, value: float) -> bool:
        """Whether `start` and `end` may have this value."""
        return 0 < value < math.inf

    def at(self, step: int, steps: int) -> float:
        """The value at step `step` (from 0) of a run of `steps` steps. With p = min(step / (steps - 1), 1):

        - constant: start
        - linear:   start + (end - start) p
        - cosine:   end + (start - end) (1 + cos(pi p)) / 2
        - step:     start * factor ** (step // every), until it reaches `end`, where it stays
        """
        if self.end is None:
            return self.start
        if self.every is not None and self.factor is not None:
            return stairs(self.start, self.end, step // self.every, self.factor)
        path: Path = "linear" if self.schedule == "linear" else "cosine"
        return between(path, self.start, self.end, step, self.steps or steps)


def ranks(group_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's rank among the rows of its group, from 0 in the order of rows, and the group's size: two (N,) long."""
    same = group_ids[:, None] == group_ids[None, :]
    return same.tril(-1).sum(1), same.sum(1)
