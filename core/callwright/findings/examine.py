"""All detectors on one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from callwright.findings.accuracy import reward_without_accuracy
from callwright.findings.collapse import one_completion
from callwright.findings.drift import drift
from callwright.findings.finding import DETECTORS, Finding, Silent
from callwright.findings.judge import Judge
from callwright.findings.opposed import rewards_opposed
from callwright.findings.record import Record, read_record
from callwright.findings.seen_rows import trained_rows_only
from callwright.findings.surface import surface
from callwright.findings.wrong_calls import wrong_calls_paid

ALL: dict[str, Callable[[Record, Judge], list[Finding]]] = {
    "reward_without_accuracy": reward_without_accuracy,
    "rewards_opposed": rewards_opposed,
    "one_completion": one_completion,
    "length_drift, junk_drift": drift,
    "wrong_calls_paid": wrong_calls_paid,
    "surface": surface,
    "trained_rows_only": trained_rows_only,
}
"""By the codes of what they find."""
assert len(ALL) == DETECTORS


@dataclass
class Examination:
    """What all detectors say of a run."""

    record: Record
    judge: Judge
    findings: list[Finding] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    """By the codes of a detector that could not look: why."""


_last: dict[tuple[Path, int], Examination] = {}
"""The end of a training run and its report ask for the same."""


def examine(run: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> Examination:
    """Raises CallwrightError where the folder holds no run. A detector that cannot look at the run says why in
    `silent`."""
    written = (run / "metrics.jsonl").stat().st_mtime_ns if (run / "metrics.jsonl").is_file() else 0
    key = (run.resolve(), written)
    if key in _last:
        return _last[key]
    parts = 10  # of the work: reading is about a third
    record = read_record(run, lambda done, of: progress(done * (parts - DETECTORS), of * parts))
    found = Examination(record, Judge(record))
    for number, (codes, detect) in enumerate(ALL.items()):
        progress(parts - DETECTORS + number, parts)
        try:
            if not record.completions:
                raise Silent("the run has no recorded completions")
            found.findings += detect(record, found.judge)
        except Silent as why:
            found.silent[codes] = str(why)
    progress(parts, parts)
    _last.clear()
    _last[key] = found
    return found
