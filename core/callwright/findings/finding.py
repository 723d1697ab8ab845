"""What a detector hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from callwright.types import JSON

RowPlace = tuple[int, int]
"""The step, as in the file's name, and the row's index in that file, from 0."""

FALSE_ALARMS = 0.05
"""Chance that a run in which nothing is wrong has a finding, as far as its steps are independent."""
DETECTORS = 7
ALPHA = FALSE_ALARMS / DETECTORS
"""Each detector's share of it. A detector that makes several tests divides its share by their number."""
MOST_ROWS = 12
"""Rows that a finding links to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence that a reward is not what it was meant to be. A person decides."""

    code: str
    title: str
    message: str
    """With the numbers."""
    rows: tuple[RowPlace, ...]
    """The completions to look at."""
    kind: Literal["evidence"] = "evidence"

    def to_json(self) -> Mapping[str, JSON]:
        return asdict(self)


class Silent(Exception):
    """A detector cannot say anything of this run; the text says why."""


def spread_out(rows: Sequence[RowPlace], most: int = MOST_ROWS) -> tuple[RowPlace, ...]:
    """At most so many of the rows, from the whole of them."""
    if len(rows) <= most:
        return tuple(rows)
    return tuple(rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most))
