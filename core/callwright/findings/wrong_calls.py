"""Completions whose calls are wrong get what a right one gets."""

from __future__ import annotations

from callwright.findings.finding import ALPHA, Finding, Silent, spread_out
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record
from callwright.findings.statistics import more_than

MOST_TASKS = 200
TOLERATED = 0.05
"""Share of wrong calls among fully paid completions that is put down to answers that are not complete."""
TOLERANCE = 1e-6


def wrong_calls_paid(record: Record, judge: Judge) -> list[Finding]:
    tasks = list({row.task.id: row.task for row in record.completions if row.task.answer is not None}.values())
    if not tasks:
        raise Silent("no task has an answer to compare with")
    gold = judge.gold_totals(tasks[:MOST_TASKS])
    if not gold:
        raise Silent("no right completion could be judged: the rewards may need a run's tokens")
    rows = [row for row in record.completions if row.task.id in gold]
    totals, matches = judge.totals(rows), judge.matches(rows)
    full: dict[tuple[str, str], tuple[bool, list[Completion]]] = {}
    for row, total, match in zip(rows, totals, matches, strict=True):
        if match is not None and total >= gold[row.task.id] - TOLERANCE:
            full.setdefault((row.task.id, row.text), (match, []))[1].append(row)
    wrong = [some for match, some in full.values() if not match]
    p = more_than(len(wrong), len(full), TOLERATED)
    if p >= ALPHA:
        return []
    message = (
        f"{len(wrong)} of {len(full)} different completions that got at least as much reward as a right one would make"
        f" other calls than the answer (p {p:.1g} if 1 in 20 answers were incomplete). Rewards that count:"
        f" {', '.join(judge.counted)}."
    )
    places = sorted(some[0].place for some in wrong)
    return [Finding("wrong_calls_paid", "Wrong calls are paid like right ones", message, spread_out(places))]
