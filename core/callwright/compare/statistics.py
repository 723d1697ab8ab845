"""Paired differences between arms, and how sure they are.

Both arms of a pair have the same seed, so the same rows held out and the same order of prompts: what is alike in both
cancels out. With a handful of seeds the bootstrap is too narrow, since it cannot know seeds that were not run: means of
n resampled seeds spread by sqrt((n - 1) / n) of what they should. Beside it stands Student's interval over seeds, which
allows for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callwright.compare.readings import HeldOut

RESAMPLES = 10_000
LEVEL = 0.9
ENOUGH_SEEDS = 5
"""With fewer, an interval is shown with a warning."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An arm and the baseline at one seed. A row's outcome is 1 where only the arm is right, -1 where only the baseline
    is, else 0."""

    difference: float
    """Of the accuracies, arm minus baseline; on the rows that both have, where it is known which are right."""
    rows: int
    """Rows behind it; 0 if it is not known which are right."""
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Of an arm to the baseline, over seeds."""

    mean: float
    low: float
    """Of the bootstrap's interval; NaN without a pair."""
    high: float
    student_low: float
    """NaN with fewer than two seeds."""
    student_high: float
    seeds: int
    method: str
    """`seeds and rows`, `seeds`, or `rows` (one seed: says nothing about seeds)."""


def pair(arm: HeldOut, base: HeldOut) -> Pair:
    """Compare two evaluations, row by row if both say which rows are right."""
    shared = arm.correct.keys() & base.correct.keys()
    if not shared:
        return Pair(arm.accuracy - base.accuracy, 0, 0, 0)
    gained = sum(arm.correct[row] and not base.correct[row] for row in shared)
    lost = sum(base.correct[row] and not arm.correct[row] for row in shared)
    return Pair((gained - lost) / len(shared), len(shared), gained, lost)


def difference(pairs: Sequence[Pair], resamples: int = RESAMPLES, level: float = LEVEL) -> Difference:
    """The mean difference and percentile intervals at `level`, by a bootstrap over seeds and, within each seed, over
    held-out rows; over seeds alone where rows are not known. Repeatable: the generator's seed is fixed."""
    values = np.array([one.difference for one in pairs], dtype=float)
    mean = float(values.mean()) if len(values) else math.nan
    by_row = bool(pairs) and all(one.rows for one in pairs)
    method = "seeds" if not by_row else "seeds and rows" if len(pairs) > 1 else "rows"
    low = high = math.nan
    if len(values):
        means = _resampled(pairs, values, by_row, resamples)
        low, high = (float(q) for q in np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))
    student = student_interval(values, level)
    return Difference(mean, low, high, *student, seeds=len(pairs), method=method)


def _resampled(pairs: Sequence[Pair], values: NDArray[np.float64], by_row: bool, resamples: int) -> NDArray[np.float64]:
    """(resamples,) means over seeds drawn with replacement; and over rows of each, drawn anew for each draw."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(pairs), size=(resamples, len(pairs)))
    if not by_row:
        return values[drawn].mean(1)
    # Rows have three outcomes, so a resample of them is three counts.
    rows = np.array([one.rows for one in pairs])
    chances = np.array([[one.gained, one.lost, one.rows - one.gained - one.lost] for one in pairs]) / rows[:, None]
    counts = generator.multinomial(rows[drawn], chances[drawn])
    return ((counts[..., 0] - counts[..., 1]) / rows[drawn]).mean(1)


def student_interval(values: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Of a mean, by Student's t over seeds; NaN with fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    from scipy.stats import t  # type: ignore[import-untyped]  # scipy ships no types

    reach = float(t.ppf((1 + level) / 2, len(values) - 1)) * deviation(values) / math.sqrt(len(values))
    return float(values.mean()) - reach, float(values.mean()) + reach


def deviation(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Sample standard deviation (n - 1); NaN with fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
