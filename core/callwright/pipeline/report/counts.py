"""Numbers of a step, as the page, the card and the terminal show them."""

from __future__ import annotations

from callwright.display import duration
from callwright.pipeline.prepared import Step

Outcome = tuple[str, str]
"""Outcome and code."""


def by_frequency(step: Step) -> list[tuple[Outcome, int]]:
    """The step's outcomes and codes with their rows, the most frequent first."""
    counts = {(outcome, code): rows for outcome, codes in step.counts.items() for code, rows in codes.items()}
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def rows_of(step: Step, outcome: str) -> int:
    """How many rows had this outcome, of whatever code."""
    return sum(step.counts.get(outcome, {}).values())


def lost(step: Step) -> int:
    """How many rows went into the step and did not come out."""
    return step.rows_in - step.rows_out


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def seconds(step: Step) -> str:
    return f"{step.seconds:.1f}" if step.seconds < 60 else duration(step.seconds)
