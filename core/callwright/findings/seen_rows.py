"""What is learned, or what the reward knows, holds for the rows that were trained on and for no others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
from scipy import stats  # type: ignore[import-untyped]

from callwright.findings.accuracy import NO_RISE
from callwright.findings.finding import ALPHA, Finding, Silent, spread_out
from callwright.findings.golden import right_text, wrong_texts
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record
from callwright.findings.statistics import more_than
from callwright.types import Task

CODE = "trained_rows_only"
LEAST_GAP = 0.2
FEWEST_TASKS = 8
MOST_TASKS = 40
NEAR_MISSES = 24
"""Kinds of near misses of a right completion, at most."""
TOLERANCE = 1e-6


def trained_rows_only(record: Record, judge: Judge) -> list[Finding]:
    reasons = []
    found: list[Finding] = []
    for look in (_what_was_learned, _what_the_reward_knows):
        try:
            found += look(record, judge)
        except Silent as why:
            reasons.append(str(why))
    if len(reasons) == 2:
        raise Silent("; ".join(reasons))
    return found


def _what_was_learned(record: Record, judge: Judge) -> list[Finding]:
    """Tasks that came up more than once, early and late, beside held-out rows before and after."""
    before, after = record.evaluation.get("before") or {}, record.evaluation.get("after") or {}
    old, new = before.get("rows_correct") or {}, after.get("rows_correct") or {}
    held_out = numpy.array([float(new[name]) - float(old[name]) for name in old.keys() & new.keys()])
    visits: dict[str, dict[int, list[float]]] = {}
    late: list[Completion] = []
    for row in record.completions:
        if (right := judge.right(row)) is not None:
            visits.setdefault(row.task.id, {}).setdefault(row.step, []).append(float(right))
    again = {name: steps for name, steps in visits.items() if len(steps) > 1}
    trained = numpy.array([numpy.mean(steps[max(steps)]) - numpy.mean(steps[min(steps)]) for steps in again.values()])
    if len(held_out) < FEWEST_TASKS or len(trained) < FEWEST_TASKS:
        raise Silent(f"there are under {FEWEST_TASKS} held-out rows or tasks that were trained on twice")
    gap = float(trained.mean() - held_out.mean())
    p = _welch(trained, held_out)
    gained, lost = int((held_out > 0).sum()), int((held_out < 0).sum())
    if p >= ALPHA / 2 or gap < LEAST_GAP or (gained + lost and more_than(gained, gained + lost, 0.5) <= NO_RISE):
        return []
    late = [row for row in record.last_third() if row.task.id in again and judge.right(row)]
    message = (
        f"Of {len(trained)} tasks that were trained on more than once, the share of completions that the rewards call"
        f" right changes by {trained.mean():+.1%} from the first time to the last; on {len(held_out)} held-out rows it"
        f" changes by {held_out.mean():+.1%} (p {p:.1g} for the difference)."
    )
    rows = spread_out([row.place for row in late])
    return [Finding(CODE, "Only the rows that were trained on get better", message, rows)]


def _welch(more: numpy.ndarray, less: numpy.ndarray) -> float:
    """One-sided p-value of Welch's test; where neither group varies, 0 or 1."""
    if more.std() == 0 and less.std() == 0:
        return 0.0 if more.mean() > less.mean() else 1.0
    return float(stats.ttest_ind(more, less, equal_var=False, alternative="greater").pvalue)


def _what_the_reward_knows(record: Record, judge: Judge) -> list[Finding]:
    """Right completions and near misses, of tasks that were trained on and of others: does the reward tell them
    apart?"""
    judge.require_askable()
    first: dict[str, Completion] = {}
    for row in record.completions:
        first.setdefault(row.task.id, row)
    seen = _every([row.task for row in first.values() if row.task.answer is not None])
    others = [task for name, task in judge.split_tasks.items() if name not in first and task.answer is not None]
    told = {name: right for part in (seen, _every(others)) for name, right in _told_apart(part, judge).items()}
    known = [told[task.id] for task in seen if task.id in told]
    unknown = [told[task.id] for task in others if task.id in told]
    if min(len(known), len(unknown)) < FEWEST_TASKS:
        raise Silent("there are too few tasks that were not trained on and have an answer, or the data is not at hand")
    table = [[sum(known), len(known) - sum(known)], [sum(unknown), len(unknown) - sum(unknown)]]
    p = float(stats.fisher_exact(table, alternative="greater").pvalue)
    shares = sum(known) / len(known), sum(unknown) / len(unknown)
    if p >= ALPHA / 2 or shares[0] - shares[1] < LEAST_GAP:
        return []
    message = (
        f"The rewards tell a right completion from near misses in {sum(known)} of {len(known)} tasks that were trained"
        f" on and in {sum(unknown)} of {len(unknown)} that were not (p {p:.1g}). The rows are of the former."
    )
    rows = spread_out(sorted(first[task.id].place for task in seen if told.get(task.id)))
    return [Finding(CODE, "The reward is right only for the rows that were trained on", message, rows)]


def _every(tasks: Sequence[Task]) -> list[Task]:
    if len(tasks) <= MOST_TASKS:
        return list(tasks)
    return [tasks[i * len(tasks) // MOST_TASKS] for i in range(MOST_TASKS)]


def _told_apart(tasks: Sequence[Task], judge: Judge) -> dict[str, bool]:
    """By task id, whether the right completion gets more than every near miss; without tasks that nobody judged."""
    pairs: list[tuple[Task, str]] = []
    places: list[tuple[str, bool]] = []
    for task in tasks:
        if (gold := right_text(judge.dialect, task)) is not None:
            texts = [gold, *wrong_texts(judge.dialect, task, NEAR_MISSES)]
            pairs += [(task, text) for text in texts]
            places += [(task.id, text == gold) for text in texts]
    best: dict[str, float] = {}
    others: dict[str, list[float]] = {}
    for (name, is_gold), score in zip(places, judge.score_again(pairs) if pairs else [], strict=True):
        if not math.isnan(score):
            others.setdefault(name, [])
            if is_gold:
                best[name] = score
            else:
                others[name].append(score)
    return {name: all(score < best[name] - TOLERANCE for score in others[name]) for name in best if others[name]}
