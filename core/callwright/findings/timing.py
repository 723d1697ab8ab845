"""Time spent in each plugin, slow rewards, and their slowest rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from callwright.findings.finding import RowPlace, Silent
from callwright.findings.judge import Judge
from callwright.findings.record import Completion

SLOW_SHARE = 0.1
"""Share of the steps' time from which a reward is called slow."""
PREFIX = "seconds/plugin/"
MOST_ROWS = 24
SECONDS = 5.0
"""Spent on timing single rows, at most."""
SHOWN = 3


def time_in_plugins(metrics: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """By plugin, the most first: seconds, and the share of all steps' time. Rewards that work while completions are
    still drawn are counted too, so that shares may sum to more than 1."""
    whole = sum(line.get("seconds", 0.0) for line in metrics)
    spent: dict[str, float] = {}
    for line in metrics:
        for name, seconds in line.items():
            if name.startswith(PREFIX):
                spent[name.removeprefix(PREFIX)] = spent.get(name.removeprefix(PREFIX), 0.0) + seconds
    order = sorted(spent, key=lambda name: -spent[name])
    return {name: (spent[name], spent[name] / whole if whole else 0.0) for name in order}


def slow(spent: Mapping[str, tuple[float, float]], rewards: Sequence[str]) -> list[str]:
    """The rewards among the plugins that take `SLOW_SHARE` of the time or more."""
    return [name for name, (_, share) in spent.items() if share >= SLOW_SHARE and name in rewards]


def slowest_rows(judge: Judge, rows: Sequence[Completion], name: str) -> list[tuple[RowPlace, float]]:
    """(row, seconds) of those that the reward takes longest for, when it judges the longest of the rows one by one.

    Raises `Silent` for a reward that is not asked again.
    """
    from callwright.score import score_rows
    from callwright.score_rows import Row

    judge.require_askable(name, by_time=False)
    components = replace(judge.components, rewards=[r for r in judge.components.rewards if r.name == name])
    texts = {row.text: row for row in rows}
    longest = sorted(texts.values(), key=lambda row: -len(row.text))[:MOST_ROWS]
    found: list[tuple[RowPlace, float]] = []
    ends = time.perf_counter() + SECONDS
    for row in longest:
        if time.perf_counter() > ends:
            break
        task = judge.with_meta(row.task)
        (one,) = score_rows([Row(1, task, row.text, "1")], judge.recipe, components, lambda done, of: None)
        found.append((row.place, one.seconds))
    if not found:
        raise Silent("there are no completions")
    return sorted(found, key=lambda pair: -pair[1])[:SHOWN]
