"""From the rewards' verdicts to one number per row. Pure functions of Python numbers; torch is not imported."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from callwright.plugins import near
from callwright.schedules import Path, between
from callwright.types import Verdict

Combine = Literal["sum", "all", "gate"]
Normalise = Literal["none", "group"]
STD_EPSILON = 1e-4
"""Added to a group's standard deviation before dividing by it; TRL's value."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight that follows a schedule over the steps."""

    start: float
    end: float
    schedule: Path
    steps: int
    """Steps on the way to `end`; see `schedules.between`."""

    def at(self, step: int) -> float:
        """The weight in step `step`, from 0. Greedy evaluation is step -1 and weighs as the first step does."""
        return between(self.schedule, self.start, self.end, max(step, 0), self.steps)


@dataclass(frozen=True, slots=True)
class Part:
    """What the combination needs to know of a reward."""

    name: str
    weight: float | Weight = 1.0
    after: str | None = None
    """`gate`: the reward that must have given 1 for this one to count."""

    @property
    def watched(self) -> bool:
        """Whether the weight is 0 in every step, so that the reward never takes part in the combined reward."""
        return self.weight == 0 or (isinstance(self.weight, Weight) and not self.weight.start and not self.weight.end)

    def weight_at(self, step: int) -> float:
        return self.weight.at(step) if isinstance(self.weight, Weight) else self.weight


def combined(
    verdicts: Mapping[str, Sequence[Verdict]],
    parts: Sequence[Part],
    combine: Combine,
    normalise: Normalise,
    *,
    step: int,
    groups: Sequence[int],
) -> list[float]:
    """The combined reward of every row; NaN where a reward that counts failed, or where all abstained.

    - all: 1 if every reward that scored the row gave 1, else 0.
    - sum: weight times score, summed.
    - gate: the same, but a reward with `after` counts only where the reward that it names passed: it gave 1, and was
      itself not held back. Where a gate is closed the reward adds 0; where a gate abstained, it is left out.

    A reward with weight 0 takes no part, except as somebody's gate. With `normalise="group"` each reward is normalised
    in its group before the sum (GDPO, arXiv 2601.05242): (score - mean) / (std + 1e-4), std with Bessel's correction.
    A failed row, and one that a reward abstained on, is not in that reward's statistics. groups: the group of each row.
    """
    parts = sorted(parts, key=lambda part: part.name)  # float sums depend on their order in the last bit
    columns = {part.name: verdicts[part.name] for part in parts}
    weights = {part.name: part.weight_at(step) for part in parts}
    rows = [_Row(parts, weights, {name: column[i] for name, column in columns.items()}) for i in range(len(groups))]
    if combine == "all":
        return [row.all() for row in rows]
    taking_part = [not math.isnan(row.sum()) for row in rows]
    if normalise == "none":
        return [row.sum() for row in rows]
    normal = {}
    for name in columns:
        scores = [row.score(name) if there else None for row, there in zip(rows, taking_part, strict=True)]
        normal[name] = [weights[name] * (value or 0.0) for value in _normalised(scores, groups)]
    return [
        sum(column[index] for column in normal.values()) if there else math.nan
        for index, there in enumerate(taking_part)
    ]


class _Row:
    """One row's verdicts."""

    def __init__(self, parts: Sequence[Part], weights: Mapping[str, float], verdicts: Mapping[str, Verdict]) -> None:
        self._parts = {part.name: part for part in parts}
        self._weights, self._verdicts = weights, verdicts

    def score(self, name: str) -> float | None:
        score = self._verdicts[name].score
        return None if score is None else float(score)

    def all(self) -> float:
        counting = [name for name in self._parts if self._weights[name]]
        scores = [score for name in counting if (score := self.score(name)) is not None]
        if not scores or any(self._lost(name) for name in counting):
            return math.nan
        return float(all(score == 1.0 for score in scores))

    def sum(self) -> float:
        total, scored = 0.0, False
        for name, weight in self._weights.items():
            if not weight:
                continue
            gate = self._gate(name)
            if gate == "unknown" or (gate == "open" and self._lost(name)):
                return math.nan
            score = 0.0 if gate == "closed" else self.score(name)
            if gate == "absent" or score is None:
                continue
            total, scored = total + weight * score, True
        return total if scored else math.nan

    def _lost(self, name: str) -> bool:
        """Failed, and no floor stands in for the score."""
        verdict = self._verdicts[name]
        return verdict.failure is not None and verdict.score is None

    def _gate(self, name: str) -> Literal["open", "closed", "absent", "unknown"]:
        """Whether the reward counts: no gate, or one that passed."""
        gate = self._parts[name].after
        if gate is None:
            return "open"
        before = self._gate(gate)
        if before != "open":
            return before
        if self._lost(gate):
            return "unknown"
        score = self.score(gate)
        return "absent" if score is None else "open" if score == 1.0 else "closed"


def _normalised(scores: Sequence[float | None], groups: Sequence[int]) -> list[float | None]:
    """(score - mean) / (std + 1e-4) in each group; None stays None. A group's only score becomes 0."""
    members: dict[int, list[float]] = {}
    for score, group in zip(scores, groups, strict=True):
        if score is not None:
            members.setdefault(group, []).append(score)
    figures = {
        group: (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
        for group, values in members.items()
    }
    result: list[float | None] = []
    for score, group in zip(scores, groups, strict=True):
        mean, std = figures.get(group, (0.0, 0.0))
        result.append(None if score is None else (score - mean) / (std + STD_EPSILON))
    return result


def mistakes(parts: Sequence[Part], combine: str, normalise: str) -> Iterator[tuple[int | None, str, str]]:
    """What is wrong with a composition: (index of the reward or None, key, message)."""
    if combine not in ("all", "sum", "gate"):
        yield None, "combine", f"should be 'all', 'sum' or 'gate', but is {combine!r}"
    if normalise not in ("none", "group"):
        yield None, "normalise", f"should be 'none' or 'group', but is {normalise!r}"
    if normalise == "group" and combine != "sum":
        yield None, "normalise", "normalising each reward before the sum needs a sum; write combine: sum"
    if parts and all(part.watched for part in parts):
        yield 0, "", "every reward has weight 0; give one of them a weight"
    gated = [part for part in parts if part.after is not None]
    if combine == "gate" and not gated:
        yield None, "combine", "no reward has a gate; write `after: NAME` at one that should wait for another"
    names = [part.name for part in parts]
    for index, part in enumerate(parts):
        if part.after is None:
            continue
        if combine in ("all", "sum"):
            yield index, "after", f"means nothing with combine: {combine}; write combine: gate, or leave it out"
        elif part.after not in names:
            repair = near(part.after, names) or f"; there are {', '.join(names)}"
            yield index, "after", f"there is no reward '{part.after}'{repair}"
        elif circle := _circle(part, {other.name: other.after for other in parts}):
            yield index, "after", f"the rewards wait for each other in a circle: {circle}; remove one `after`"


def _circle(part: Part, after: Mapping[str, str | None]) -> str | None:
    way = [part.name]
    while (following := after.get(way[-1])) is not None:
        way.append(following)
        if following == part.name:
            return " -> ".join(way)
        if following in way[:-1]:
            return None  # a circle, but not through this reward: it is reported where it is
    return None
