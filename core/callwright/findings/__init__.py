"""Evidence of reward hacking in a run's folder: findings with their rows, never a verdict. docs/findings.md says what
each detector looks at and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from callwright.findings.finding import Finding, RowPlace

__all__ = ["Finding", "RowPlace", "findings"]


def findings(run: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> list[Finding]:
    """What a person should look at in the run's folder; empty for a run in which no detector found anything.

    Loads no model; rewards judge some completions again. Raises CallwrightError where the folder holds no run.
    """
    from callwright.findings.examine import examine

    return examine(run, progress).findings
