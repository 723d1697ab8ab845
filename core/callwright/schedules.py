"""Schedules: a number that changes over the steps of a run. Pure functions, for weights, temperatures and the like."""

from __future__ import annotations

import math
from typing import Literal

Path = Literal["linear", "cosine", "step"]


def between(path: Path, start: float, end: float, step: int, steps: int) -> float:
    """The value at step `step` (from 0) on the way from `start` to `end`.

    With p = min(step / (steps - 1), 1):

    - linear: start + (end - start) p
    - cosine: end + (start - end) (1 + cos(pi p)) / 2
    - step:   `start` in the first `steps` steps, then `end`

    So linear and cosine arrive at `end` in the last of `steps` steps.
    """
    if path == "step":
        return start if step < steps else end
    progress = min(step / max(steps - 1, 1), 1.0)
    share = progress if path == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return (1 - share) * start + share * end


def stairs(start: float, end: float, changes: int, factor: float) -> float:
    """start * factor ** changes, until it reaches `end`, where it stays. All numbers above 0; factor leads to `end`."""
    # Counted rather than compared: factor ** changes overflows in a long run.
    changes_to_end = math.log(end / start) / math.log(factor)
    return end if changes >= changes_to_end else start * factor**changes
