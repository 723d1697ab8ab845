"""What a run has written since somebody last asked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from callwright.report.completions import read_completions
from callwright.report.folder import METRICS, RECIPE, read_folder, read_metrics

WATCHED = (RECIPE, METRICS, "eval.json", "versions.json")


def news(folder: Path, name: str, after: int = 0, digest: str = "", state: str = "") -> dict[str, Any]:
    """What is new to somebody who knows the steps up to `after`: JSON for the page.

    digest, state: as in the last answer. `nothing` is true if all is as it was then; `anew` is true if what was known
    does not hold any more, as the run was begun anew or went back to a checkpoint: then everything is told again.
    """
    now = state_of(folder)
    if now == state:
        return {"nothing": True}
    metrics = read_metrics(folder)
    anew = not after or metrics.digest(after) != digest
    known, last = 0 if anew else after, max(metrics.steps, default=0)
    run = read_folder(folder, name, metrics)
    if not folder.exists():
        run["notes"] = ["there is no such folder yet"]
    run["metrics"] = metrics.series(known)
    # A step's completions are written before its figures: those of a step without figures come with the next answer.
    rows = read_completions(folder, after=known, until=last)
    return {
        "nothing": False,
        "anew": anew,
        "run": run,
        "completions": rows.as_json(),
        "after": last,
        "digest": metrics.digest(last),
        "state": now,
    }


def state_of(folder: Path) -> str:
    """The same while no file of the run has changed."""
    seen = hashlib.sha256()
    for name in WATCHED:
        try:
            status = (folder / name).stat()
            seen.update(f"{name} {status.st_mtime_ns} {status.st_size} {status.st_ino}\n".encode())
        except OSError:
            seen.update(f"{name} -\n".encode())
    return seen.hexdigest()[:16]
