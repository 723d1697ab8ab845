"""Single completions that a person should look at, whatever the run as a whole says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from callwright.findings.finding import RowPlace, Silent
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record

FAR = 6.0
"""Distances from the median, in standard deviations estimated from the median absolute deviation."""
LOOPING = 0.5
"""Share of repeated text."""
SHOWN = 3
"""Completions of each kind, each text once."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion and why it is here."""

    place: RowPlace
    why: str


def suspicious(record: Record, judge: Judge) -> list[Sample]:
    """Well paid completions of an abnormal length or full of repetitions, and those on which rewards disagree most."""
    try:
        totals = judge.totals(record.completions)
    except Silent:
        totals = [row.total for row in record.completions]
    known = [total for total in totals if total == total]
    if not known:
        return []
    best = [row for row, total in zip(record.completions, totals, strict=True) if total >= max(known)]
    return [*_long(best), *_looping(best), *_disagreeing(record)]


def _long(rows: list[Completion]) -> Iterator[Sample]:
    lengths = numpy.array([len(row.text) for row in rows])
    median = float(numpy.median(lengths))
    spread = 1.4826 * float(numpy.median(abs(lengths - median)))
    strange = [row for row in rows if abs(len(row.text) - median) > max(FAR * spread, median)]
    for row in _first(sorted(strange, key=lambda row: -abs(len(row.text) - median))):
        yield Sample(row.place, f"best reward at {len(row.text)} characters; the median of such rows has {median:.0f}")


def _looping(rows: list[Completion]) -> Iterator[Sample]:
    strange = [row for row in rows if row.repeated >= LOOPING]
    for row in _first(sorted(strange, key=lambda row: -row.repeated)):
        yield Sample(row.place, f"best reward, and {row.repeated:.0%} of the text repeats itself")


def _disagreeing(record: Record) -> Iterator[Sample]:
    ranges: dict[str, tuple[float, float]] = {}
    for name in record.rewards:
        scores = [score for row in record.completions if (score := row.scores.get(name)) is not None]
        if scores and max(scores) > min(scores):
            ranges[name] = (min(scores), max(scores))

    def disagreement(row: Completion) -> tuple[float, str, str]:
        shares = {
            name: (score - low) / (high - low)
            for name, (low, high) in ranges.items()
            if (score := row.scores.get(name)) is not None
        }
        if len(shares) < 2:
            return 0.0, "", ""
        up, down = max(shares, key=lambda n: shares[n]), min(shares, key=lambda n: shares[n])
        return shares[up] - shares[down], up, down

    ranked = sorted(record.completions, key=lambda row: (-disagreement(row)[0], -row.step)) if len(ranges) > 1 else []
    for row in _first([row for row in ranked[: 20 * SHOWN] if disagreement(row)[0] >= 0.9]):
        _, up, down = disagreement(row)
        yield Sample(row.place, f"rewards disagree: {up} {row.scores[up]:.3g}, {down} {row.scores[down]:.3g}")


def _first(rows: list[Completion]) -> list[Completion]:
    return list({row.text: row for row in reversed(rows)}.values())[::-1][:SHOWN]
