"""What the terms of the loss share: a coefficient that changes over the run, and the mean over a step's tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from callwright import MicroBatch
from callwright.schedules import between

from callwright_explorers._scope import Scope, in_scope

if TYPE_CHECKING:
    from torch import Tensor


def require(name: str, value: float | None, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raise ValueError for a number out of its range; None is allowed."""
    if value is None or ((low < value if open_low else low <= value) and value <= high and math.isfinite(value)):
        return
    words = f"above {low:g}" if open_low else f"of at least {low:g}"
    raise ValueError(
        f"{name} must be a number {words}{f' and at most {high:g}' if high < math.inf else ''}, not {value}"
    )


def require_count(name: str, value: int | None) -> None:
    """Raise ValueError for a number of steps below 1; None is allowed."""
    if value is not None and value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


@dataclass
class Coefficient:
    """Options of a coefficient that follows a schedule. With p = min(step / (steps - 1), 1):

    - constant: coefficient
    - linear:   coefficient + (end - coefficient) p
    - cosine:   end + (coefficient - end) (1 + cos(pi p)) / 2

    Raises ValueError for an option out of its range, one that the schedule lacks, and one that it does not use.
    """

    coefficient: float = 0.001
    """Strength of the term in the first step, at least 0."""
    schedule: str = "constant"
    end: float | None = None
    """linear and cosine: where the coefficient arrives, at least 0."""
    steps: int | None = None
    """linear and cosine: number of steps on the way."""

    schedules: ClassVar[tuple[str, ...]] = ("constant", "linear", "cosine")

    def __post_init__(self) -> None:
        if self.schedule not in self.schedules:
            raise ValueError(f"schedule must be one of {', '.join(self.schedules)}, not {self.schedule!r}")
        require("coefficient", self.coefficient, 0)
        require("end", self.end, 0)
        require_count("steps", self.steps)
        moves = self.schedule in ("linear", "cosine")
        for name in ("end", "steps"):
            given = getattr(self, name) is not None
            if moves and not given:
                raise ValueError(f"schedule {self.schedule!r} also takes {name}")
            if given and not moves:
                raise ValueError(f"{name} has no effect with schedule {self.schedule!r}; leave it out")

    def at(self, step: int) -> float:
        """The coefficient in step `step` (from 0)."""
        if self.end is None or self.steps is None:
            return self.coefficient
        path: Literal["linear", "cosine"] = "linear" if self.schedule == "linear" else "cosine"
        return between(path, self.coefficient, self.end, step, self.steps)


def step_mean(batch: MicroBatch, values: Tensor, scope: Scope = "all") -> Tensor:
    """Scalar: this micro-batch's part of the mean of `values` (n, T) over the step's tokens in scope.

    Summed over the micro-batches it is the mean over all tokens in scope of the rows that take part, whatever the
    recipe's aggregation; 0 where there are none.
    """
    import torch

    rollouts = batch.rollouts
    assert rollouts.total is not None
    takes_part = ~rollouts.total.isnan()
    count = int(in_scope(rollouts.segments, rollouts.mask & takes_part[:, None], scope).sum())
    inside = in_scope(batch.segments, batch.mask & takes_part[batch.rows].to(batch.mask.device)[:, None], scope)
    return torch.where(inside, values, 0.0).sum() / max(count, 1)
