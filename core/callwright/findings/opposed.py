"""One reward rises as another falls."""

from __future__ import annotations

from functools import partial
from itertools import permutations

from callwright.findings.finding import ALPHA, MOST_ROWS, Finding, RowPlace, Silent, spread_out
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record
from callwright.findings.statistics import FEWEST_STEPS, ends, trend

LEAST_CHANGE = 0.1
"""Of a reward's range in this run: smaller changes are left alone."""


def rewards_opposed(record: Record, judge: Judge) -> list[Finding]:
    if len(record.rewards) < 2:
        raise Silent("there is one reward")
    series = {name: record.means(partial(_score, name)) for name in record.rewards}
    series = {name: (steps, values) for name, (steps, values) in series.items() if len(steps) >= FEWEST_STEPS}
    if len(series) < 2:
        raise Silent(f"there are under {FEWEST_STEPS} steps with two rewards")
    trends = {name: trend(steps, values) for name, (steps, values) in series.items()}
    pairs = [(up, down) for up, down in permutations(series, 2) if up in judge.counted]
    found = []
    for up, down in pairs:
        level, high, low = ALPHA / len(pairs), _range(record, up), _range(record, down)
        rises = trends[up].rising < level and trends[up].change >= LEAST_CHANGE * high
        falls = trends[down].falling < level and -trends[down].change >= LEAST_CHANGE * low
        if not (rises and falls):
            continue
        (up_from, up_to), (down_from, down_to) = ends(series[up][1]), ends(series[down][1])
        message = (
            f"'{up}' rises from {up_from:.3g} to {up_to:.3g} (p {trends[up].rising:.1g}) while '{down}' falls from"
            f" {down_from:.3g} to {down_to:.3g} (p {trends[down].falling:.1g})."
        )
        found.append(Finding("rewards_opposed", "A reward rises as another falls", message, _rows(record, up, down)))
    return found


def _score(name: str, row: Completion) -> float | None:
    return row.scores.get(name)


def _range(record: Record, name: str) -> float:
    scores = [score for one in record.completions if (score := one.scores.get(name)) is not None]
    return max(scores) - min(scores)


def _rows(record: Record, up: str, down: str) -> tuple[RowPlace, ...]:
    """Late rows with the largest score of the one minus that of the other, each as a share of its range."""
    high, low = _range(record, up), _range(record, down)
    gaps = {
        row.place: gained / high - kept / low
        for row in record.last_third()
        if (gained := row.scores.get(up)) is not None and (kept := row.scores.get(down)) is not None
    }
    return spread_out(sorted(sorted(gaps, key=lambda place: -gaps[place])[:MOST_ROWS]))
