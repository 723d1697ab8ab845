"""Completions of different tasks converge to one text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from callwright.findings.finding import ALPHA, Finding, Silent, spread_out
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record
from callwright.findings.statistics import FEWEST_STEPS, ends, trend

LEAST_SHARE = 0.1
"""Of pairs of completions with different answers: so many must be the same text in the last third of the steps. One
text that a third of all completions are makes a ninth of the pairs alike."""
LEAST_RISE = 0.05


def one_completion(record: Record, judge: Judge) -> list[Finding]:
    shares = {step: share for step, rows in sorted(record.by_step.items()) if (share := _alike(rows)) is not None}
    if len(shares) < FEWEST_STEPS:
        raise Silent(f"there are under {FEWEST_STEPS} steps with tasks that have different answers")
    values = list(shares.values())
    found, (before, after) = trend(list(shares), values), ends(values)
    if found.rising >= ALPHA or after < LEAST_SHARE or after - before < LEAST_RISE:
        return []
    late = record.last_third()
    (text, count), *_ = Counter(row.text for row in late).most_common()
    rewards = [row.total for row in late if row.text == text and row.total == row.total]
    mean = sum(rewards) / len(rewards) if rewards else float("nan")
    shown = text if len(text) <= 80 else text[:77] + "..."
    message = (
        f"Of pairs of completions whose tasks have different answers, {before:.1%} are the same text at first and"
        f" {after:.1%} in the end (p {found.rising:.1g}); both of such a pair cannot be right. The commonest text,"
        f" {shown!r}, makes {count / len(late):.0%} of the last completions, with a mean reward of {mean:.3g}."
    )
    rows = [row.place for row in late if row.text == text]
    return [Finding("one_completion", "Completions converge to one text", message, spread_out(rows))]


def _alike(rows: Sequence[Completion]) -> float | None:
    """Share of the same text among pairs of rows with different answers; None where there is no such pair."""

    def pairs(keys: Sequence[object]) -> int:
        return sum(count * (count - 1) // 2 for count in Counter(keys).values())

    different = pairs([0] * len(rows)) - pairs([row.answer for row in rows])
    alike = pairs([row.text for row in rows]) - pairs([(row.text, row.answer) for row in rows])
    return alike / different if different else None
