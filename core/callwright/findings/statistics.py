"""The tests behind the detectors. All of them are one-sided or say of themselves that they are not."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy
from scipy import stats  # type: ignore[import-untyped]

from callwright.findings.finding import ALPHA

FEWEST_STEPS = 8
"""Below it even a perfect trend is no evidence after dividing the false alarms among detectors and pairs of rewards."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series of numbers, one a step, develops."""

    rising: float
    """One-sided p-value of Mann and Kendall's test: chance of so much rise in a series without a trend."""
    falling: float
    change: float
    """From the first to the last number along the line of Theil and Sen, the median of all slopes."""
    least_change: float
    """Lower bound of `change` at the level of a detector."""


def trend(steps: Sequence[int], values: Sequence[float]) -> Trend:
    """Of at least `FEWEST_STEPS` values."""
    if len(set(values)) < 2:
        return Trend(1.0, 1.0, 0.0, 0.0)
    rising = float(stats.kendalltau(steps, values, alternative="greater").pvalue)
    falling = float(stats.kendalltau(steps, values, alternative="less").pvalue)
    span = steps[-1] - steps[0]
    line = stats.theilslopes(values, steps, alpha=1 - 2 * ALPHA)
    return Trend(rising, falling, float(line.slope) * span, float(line.low_slope) * span)


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last third."""
    third = max(1, len(values) // 3)
    return float(numpy.mean(values[:third])), float(numpy.mean(values[-third:]))


def share_bounds(hits: int, of: int, level: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds of a share; each is wrong with probability `level` at most."""
    low = float(stats.beta.ppf(level, hits, of - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1 - level, hits + 1, of - hits)) if hits < of else 1.0
    return low, high


def more_than(hits: int, of: int, share: float) -> float:
    """p-value of so many hits or more where each has this chance (the binomial test)."""
    return float(stats.binom.sf(hits - 1, of, share))


@dataclass(frozen=True, slots=True)
class Paid:
    """Whether more of something goes with more reward among rows that ought to be rewarded alike."""

    p: float
    """One-sided, of the sum of Kendall's S over all strata (Hirsch, Slack and Smith's seasonal test)."""
    difference: float
    """Mean reward of the rows above their stratum's median minus that of the rows below, over all strata."""
    strata: int
    """That say something: with different amounts."""


def paid(rows: Iterable[tuple[Hashable, float, float]]) -> Paid:
    """rows: (stratum, amount, reward)."""
    strata: dict[Hashable, list[tuple[float, float]]] = {}
    for stratum, amount, reward in rows:
        strata.setdefault(stratum, []).append((amount, reward))
    score = variance = 0.0
    above: list[float] = []
    below: list[float] = []
    informative = 0
    for pairs in strata.values():
        amounts, rewards = numpy.array(pairs).T
        if len(pairs) < 2 or len(set(amounts)) < 2:
            continue
        informative += 1
        signs = numpy.sign(amounts[:, None] - amounts) * numpy.sign(rewards[:, None] - rewards)
        score += float(signs.sum()) / 2
        variance += _variance(amounts, rewards)
        median = numpy.median(amounts)
        above += list(rewards[amounts > median])
        below += list(rewards[amounts < median])
    if variance < 1e-9 or not above or not below:  # rounding can leave a little below 0
        return Paid(1.0, 0.0, informative)
    # Less by one towards zero: S is a whole number, and the normal curve is not.
    z = math.copysign(max(0.0, abs(score) - 1), score) / math.sqrt(variance)
    return Paid(float(stats.norm.sf(z)), float(numpy.mean(above) - numpy.mean(below)), informative)


def _variance(first: numpy.ndarray, second: numpy.ndarray) -> float:
    """Of Kendall's S under independence, with ties in both (Kendall 1970)."""
    n = len(first)
    ties = [numpy.unique(values, return_counts=True)[1].astype(float) for values in (first, second)]

    def sums(counts: numpy.ndarray) -> tuple[float, float, float]:
        return (
            float((counts * (counts - 1) * (2 * counts + 5)).sum()),
            float((counts * (counts - 1)).sum()),
            float((counts * (counts - 1) * (counts - 2)).sum()),
        )

    (a5, a2, a3), (b5, b2, b3) = sums(ties[0]), sums(ties[1])
    value = (n * (n - 1) * (2 * n + 5) - a5 - b5) / 18 + a2 * b2 / (2 * n * (n - 1))
    if n > 2:
        value += a3 * b3 / (9 * n * (n - 1) * (n - 2))
    return value
