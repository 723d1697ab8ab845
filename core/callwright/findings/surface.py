"""The same calls in other characters score otherwise."""

from __future__ import annotations

from collections import Counter

from callwright.findings.finding import Finding, Silent, spread_out
from callwright.findings.golden import other_writings
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record

MOST_COMPLETIONS = 60
FEWEST = 3
"""Different completions that must score otherwise. A reward without chance in it has no false alarms here; three keep
one odd text from speaking for a run."""
TOLERANCE = 1e-6


def surface(record: Record, judge: Judge) -> list[Finding]:
    judge.require_askable()
    chosen = _different(record, judge)
    if not chosen:
        raise Silent("no completion makes a call")
    pairs = [(row, kind, text) for row in chosen for kind, text in _one_of_each_kind(row, judge)]
    first, again = (judge.score_again([(row.task, row.text) for row in chosen]) for _ in range(2))
    steady = {row.place: a for row, a, b in zip(chosen, first, again, strict=True) if a == b}
    if not steady:
        raise Silent("the rewards judge no saved completion, or judge it differently from one time to the next")
    scores = judge.score_again([(row.task, text) for row, _, text in pairs])
    unequal = [
        (row, kind, text, score)
        for (row, kind, text), score in zip(pairs, scores, strict=True)
        if score == score and row.place in steady and abs(score - steady[row.place]) > TOLERANCE
    ]
    places = list(dict.fromkeys(row.place for row, *_ in unequal))
    if len(places) < FEWEST:
        return []
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(kind for _, kind, *_ in unequal).most_common())
    row, _, text, score = unequal[0]
    message = (
        f"{len(unequal)} of {len(pairs)} rewrites of {len(chosen)} completions score otherwise though they make the"
        f" same calls ({kinds}). In step {row.step}, row {row.place[1]} scores {steady[row.place]:.3g}, and as {text!r}"
        f" {score:.3g}."
    )
    return [Finding("surface", "The score depends on how calls are written", message, spread_out(sorted(places)))]


def _different(record: Record, judge: Judge) -> list[Completion]:
    """Completions with calls, each text once, the well paid of every part of the run first."""
    texts: dict[str, Completion] = {}
    for row in record.completions:
        if row.total == row.total and judge.parse(row.text).calls:
            known = texts.setdefault(row.text, row)
            texts[row.text] = max(known, row, key=lambda one: one.total)  # the same text may answer several tasks
    ranked = sorted(texts.values(), key=lambda row: (-row.total, row.place))
    best, rest = ranked[: len(ranked) // 2 or 1], ranked[len(ranked) // 2 or 1 :]
    half = MOST_COMPLETIONS // 2
    return [*_every(best, half), *_every(rest, half)]


def _every(rows: list[Completion], most: int) -> list[Completion]:
    return rows if len(rows) <= most else [rows[i * len(rows) // most] for i in range(most)]


def _one_of_each_kind(row: Completion, judge: Judge) -> list[tuple[str, str]]:
    return list({kind: (kind, text) for kind, text in other_writings(judge.dialect, judge.parse(row.text))}.values())
