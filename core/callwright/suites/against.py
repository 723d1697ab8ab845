"""Two evaluations of the same suite, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from callwright.compare.statistics import Difference, Pair, difference
from callwright.suites.evaluation import Evaluation, Outcome
from callwright.types import JSON, CallwrightError


@dataclass(frozen=True, slots=True)
class Flip:
    """A row that one model gets right and the other does not."""

    row: str
    before: Outcome
    after: Outcome


@dataclass(frozen=True, slots=True)
class CategoryChange:
    """The rows of a category that both models were asked and that are judged."""

    name: str
    rows: int
    before: int
    """Rows that were right."""
    after: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different in `after`. Only rows that both have, judged in both, count."""

    before: str
    """The model's name."""
    after: str
    categories: tuple[CategoryChange, ...]
    reasons: Mapping[tuple[str, str], tuple[int, int]]
    """By category and reason, rows before and after; those that occur."""
    flips: tuple[Flip, ...]
    left_out: int
    """Rows of either evaluation that do not count."""
    overall: Difference
    """Of the accuracies over all these rows, with its interval by a bootstrap over rows."""

    def to_json(self) -> dict[str, JSON]:
        reasons = [
            {"category": category, "reason": reason, "before": before, "after": after}
            for (category, reason), (before, after) in self.reasons.items()
        ]
        return {**asdict(self), "reasons": reasons}


def compare(before: Evaluation, after: Evaluation) -> Changes:
    """Raises CallwrightError if they have no row in common, or are not of the same questions."""
    if before.suite != after.suite or before.settings.get("questions") != after.settings.get("questions"):
        raise CallwrightError(
            f"--against: {before.model} answered {before.suite} ({before.settings.get('questions')}) and {after.model}"
            f" {after.suite} ({after.settings.get('questions')}): evaluate both with the same version"
        )
    shared = [
        row
        for row, outcome in after.rows.items()
        if outcome.correct is not None and row in before.rows and before.rows[row].correct is not None
    ]
    if not shared:
        raise CallwrightError(f"--against: {before.model} and {after.model} have no judged row in common")
    rows = Counter(after.rows[row].category for row in shared)
    reasons: dict[tuple[str, str], list[int]] = {}
    for side, evaluation in enumerate((before, after)):
        for row in shared:
            outcome = evaluation.rows[row]
            reasons.setdefault((outcome.category, outcome.reason), [0, 0])[side] += 1
    flips = tuple(
        Flip(row, before.rows[row], after.rows[row])
        for row in shared
        if before.rows[row].correct != after.rows[row].correct
    )
    gained = Counter(flip.after.category for flip in flips if flip.after.correct)
    lost = Counter(flip.after.category for flip in flips if not flip.after.correct)
    right = Counter(before.rows[row].category for row in shared if before.rows[row].correct)
    categories = tuple(
        CategoryChange(name, count, right[name], right[name] + gained[name] - lost[name], gained[name], lost[name])
        for name, count in rows.items()
    )
    total_gained, total_lost = gained.total(), lost.total()
    pair = Pair((total_gained - total_lost) / len(shared), len(shared), total_gained, total_lost)
    return Changes(
        before.model,
        after.model,
        categories,
        {key: (reasons[key][0], reasons[key][1]) for name in rows for key in sorted(reasons) if key[0] == name},
        flips,
        len(before.rows) + len(after.rows) - 2 * len(shared),
        difference([pair]),
    )
