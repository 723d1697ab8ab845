"""Reward rises while accuracy does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from callwright.findings.finding import ALPHA, Finding, Silent, spread_out
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record
from callwright.findings.statistics import FEWEST_STEPS, ends, more_than, share_bounds, trend

CODE = "reward_without_accuracy"
TITLE = "The reward rises and accuracy does not"
NO_RISE = 0.05
"""Accuracy counts as not rising while the p-value of its rise is above this."""
LEAST_GAP = 0.2
"""By so much of the reward's range the reward must have run away from the check of the calls."""


def reward_without_accuracy(record: Record, judge: Judge) -> list[Finding]:
    steps, rewards, normal = _reward(record, judge)
    found = trend(steps, rewards)
    if found.rising >= ALPHA / 2:
        return []
    before, after = ends(rewards)
    rise = f"the reward rises from {before:.3g} to {after:.3g} (p {found.rising:.1g})"
    rows = _rows(record, judge, normal)
    for text in (_held_out(record, found.least_change, after), _on_the_rows(record, judge, normal)):
        if text is not None:
            return [Finding(CODE, TITLE, f"On a scale from 0 to 1, {rise}, and {text}.", rows)]
    return []


def _reward(record: Record, judge: Judge) -> tuple[list[int], list[float], dict[tuple[int, int], float]]:
    """(steps, mean reward by step, reward by row) on a scale from the lowest reward of the run to the highest."""
    totals = judge.totals(record.completions)
    known = [total for total in totals if total == total]
    if len(set(known)) < 2:
        raise Silent("the reward was the same for all completions")
    low, high = min(known), max(known)
    rows = zip(record.completions, totals, strict=True)
    normal = {row.place: (total - low) / (high - low) for row, total in rows if total == total}
    steps, values = record.means(lambda row: normal.get(row.place))
    if len(steps) < FEWEST_STEPS:
        raise Silent(f"there are under {FEWEST_STEPS} steps")
    return steps, values, normal


def _held_out(record: Record, least_rise: float, reward: float) -> str | None:
    """least_rise: by how much the reward rose at least. What is certain is compared with what is certain: the most
    that accuracy can have gained with the least that the reward has."""
    before = record.evaluation.get("before") or {}
    after = record.evaluation.get("after") or {}
    old, new = before.get("rows_correct") or {}, after.get("rows_correct") or {}
    both = old.keys() & new.keys()
    if not both:
        return None
    gained, lost = (sum(new[name] is want and old[name] is not want for name in both) for want in (True, False))
    most = share_bounds(gained, len(both), ALPHA / 4)[1] - share_bounds(lost, len(both), ALPHA / 4)[0]
    best = share_bounds(sum(new[name] for name in both), len(both), ALPHA / 4)[1]
    rising = more_than(gained, gained + lost, 0.5) if gained + lost else 1.0
    if rising <= NO_RISE or most >= least_rise or best >= reward:
        return None
    accuracies = f"{sum(old[n] for n in both) / len(both):.1%} to {sum(new[n] for n in both) / len(both):.1%}"
    return f"accuracy on the {len(both)} held-out rows goes from {accuracies} ({gained} rows gained, {lost} lost)"


def _on_the_rows(record: Record, judge: Judge, normal: dict[tuple[int, int], float]) -> str | None:
    """The same of the calls that training itself saw, compared with the answers."""
    right = dict(zip((row.place for row in record.completions), judge.matches(record.completions), strict=True))
    steps, matches = record.means(lambda row: None if right[row.place] is None else float(right[row.place] or False))
    if len(steps) < FEWEST_STEPS:
        return None

    def ahead(row: Completion) -> float | None:
        match, reward = right[row.place], normal.get(row.place)
        return None if match is None or reward is None else reward - match

    gap, accuracy = trend(*record.means(ahead)), trend(steps, matches)
    if gap.rising >= ALPHA / 2 or gap.change < LEAST_GAP or accuracy.rising <= NO_RISE:
        return None
    before, after = ends(matches)
    return f"the share of completions whose calls are those of the answer goes from {before:.1%} to {after:.1%}"


def _rows(record: Record, judge: Judge, normal: dict[tuple[int, int], float]) -> tuple[tuple[int, int], ...]:
    """Late and well paid, and wrong where that is known."""
    late = [row for row in record.last_third() if row.place in normal]
    try:
        matches: Sequence[bool | None] = judge.matches(late)
    except Silent:
        matches = [None] * len(late)
    well = numpy.quantile([normal[row.place] for row in late], 0.5) if late else 0.0
    chosen = [row.place for row, match in zip(late, matches, strict=True) if not match and normal[row.place] >= well]
    return spread_out(chosen or [row.place for row in late])
