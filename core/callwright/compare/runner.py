"""Runs what a comparison lacks. Every run is a process of its own, the `callwright train` that a person would type.

So its memory is given back wholly, a crash takes nothing else along, no state of one run (threads, generators, modules
of plugins) reaches the next, and any run can be repeated by itself. What it costs is loading torch and the model again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from callwright.compare.arms import RESOLVED, Comparison, own_overrides
from callwright.display import duration, safe
from callwright.files import replacing
from callwright.recipe import Recipe, differences, load_recipe, may_change
from callwright.types import JSON, CallwrightError

INTERRUPTED = 130
"""Exit status of a run that Ctrl-C ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run: an arm's recipe with a seed."""

    arm: str
    seed: int
    folder: Path
    recipe: Path
    overrides: list[str]
    settings: Recipe

    @property
    def key(self) -> str:
        return f"{self.arm}/seed-{self.seed}"

    def steps_done(self) -> int:
        """Steps that the run's metrics hold."""
        try:
            return (self.folder / "metrics.jsonl").read_text(encoding="utf-8").count("\n")
        except OSError:
            return 0

    def finished(self) -> bool:
        """Held-out rows are evaluated at the very end; without such rows the last step's checkpoint is the end."""
        if self.settings.data.held_out:
            return bool(read_json(self.folder / "eval.json").get("after"))
        last = self.folder / "checkpoints" / f"step-{self.settings.train.steps:06d}"
        return last.is_dir() and self.steps_done() >= self.settings.train.steps


@dataclass(slots=True)
class Ended:
    """How the runs went."""

    failed: dict[str, str] = field(default_factory=dict)
    """By arm and seed, as in `grpo/seed-0`: what happened."""
    interrupted: bool = False


Launch = Callable[[Job, bool], int]
"""Runs a job, resuming it if asked; the exit status of `callwright train`."""


def jobs_of(comparison: Comparison) -> list[Job]:
    """In the order in which they run: a seed of all arms, then the next, so that what is there is always balanced."""
    return [
        Job(arm.name, seed, arm.folders[seed], arm.recipe, comparison.overrides, arm.settings[seed])
        for seed in comparison.seeds
        for arm in comparison.arms
        if arm.recipe is not None and seed in arm.folders
    ]


def require_same(jobs: list[Job]) -> None:
    """Raises CallwrightError if a run that is there was made with another recipe."""
    for job in jobs:
        path = job.folder / RESOLVED
        if not path.exists():
            continue
        found = differences(load_recipe(path).model_dump(mode="json"), job.settings.model_dump(mode="json"))
        # Schedules are over all steps, so that more steps would be another run.
        changed = [place for place in found if place == "train.steps" or not may_change(place)]
        if changed:
            raise CallwrightError(
                f"the run in {job.folder} was made with another recipe; these differ: {', '.join(changed)}."
                " Take another folder with --out, or run everything again with --fresh"
            )


def run_all(comparison: Comparison, console: Console, launch: Launch | None = None) -> Ended:
    """Run all that is not finished, and say how far it is. An arm that fails does not keep the others from running."""
    jobs, ended = jobs_of(comparison), Ended()
    require_same(jobs)
    with locked(comparison.out) as lock:
        notes = _Notes(comparison)
        for number, job in enumerate(jobs, start=1):
            if job.finished():
                continue
            left = notes.left([other for other in jobs[number - 1 :] if not other.finished()])
            header = f"run {number} of {len(jobs)}: arm '{job.arm}', seed {job.seed}{left}"
            console.print(Text(safe(f"\n=== {header}"), style="bold"), soft_wrap=True)
            started = time.monotonic()
            status = (launch or _launch_with(lock))(job, (job.folder / RESOLVED).exists())
            notes.record(job, time.monotonic() - started)
            if status == INTERRUPTED:
                ended.interrupted = True
                console.print(Text("interrupted: the same command goes on from here", style="yellow"), soft_wrap=True)
                break
            if status != 0:
                ended.failed[job.key] = _failure(status)
                console.print(Text(safe(f"{job.key} failed: {_failure(status)}"), style="bold red"), soft_wrap=True)
    return ended


def _failure(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


# ------------------------------------------------------------------------------------------------ a process


def _launch_with(lock: IO[str]) -> Launch:
    def launch(job: Job, resume: bool) -> int:
        words = ["train", str(job.recipe), *job.overrides, *own_overrides(job.seed, job.folder)]
        # -P: what lies in the current folder is no module, as for the installed command.
        module = [sys.executable, "-P", "-m", "callwright.compare.child", str(os.getpid())]
        # The lock goes along: should this process be killed, the folder stays taken until the run has saved and ended.
        process = subprocess.Popen(
            [*module, *words, *["--resume"] * resume], start_new_session=True, pass_fds=[lock.fileno()]
        )
        with _passed_on(process) as received:
            status = process.wait()
        return INTERRUPTED if received else status

    return launch


@contextmanager
def _passed_on(process: subprocess.Popen[Any]) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM go to the run, once each, however they came: the first makes it save, the second ends it."""
    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def locked(out: Path) -> Iterator[IO[str]]:
    """One comparison at a time in a folder."""
    import fcntl

    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("w")
    except OSError as error:
        raise CallwrightError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CallwrightError(
                f"another comparison is at work in {out}, or a run of one that was killed is saving its step; wait for"
                " it, or choose another folder with --out"
            ) from error
        yield file


# ------------------------------------------------------------------------------------------------- time left


class _Notes:
    """How long runs took, kept in OUT/comparison.json."""

    def __init__(self, comparison: Comparison) -> None:
        self._path = comparison.out / "comparison.json"
        self._seconds: dict[str, float] = dict(read_json(self._path).get("seconds") or {})
        self._arms = [arm.name for arm in comparison.arms]
        self._finished = {job.key for job in jobs_of(comparison) if job.finished()}
        self._write()

    def record(self, job: Job, seconds: float) -> None:
        self._seconds[job.key] = self._seconds.get(job.key, 0.0) + seconds
        if job.finished():
            self._finished.add(job.key)
        self._write()

    def left(self, jobs: list[Job]) -> str:
        """Of an arm's run: as long as its finished ones took, else as long as all finished ones did, on average."""
        took = {key: self._seconds[key] for key in self._finished if key in self._seconds}
        if not took:
            return ""
        total = 0.0
        for job in jobs:
            own = [seconds for key, seconds in took.items() if key.rpartition("/")[0] == job.arm]
            known = own or list(took.values())
            total += sum(known) / len(known) * (1 - min(1.0, job.steps_done() / job.settings.train.steps))
        return f", {duration(total)} left in all"

    def _write(self) -> None:
        write(self._path, json.dumps({"arms": self._arms, "seconds": self._seconds}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, JSON]:
    """An object from a file; empty if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(path: Path, content: str | bytes) -> None:
    """Atomic. Raises CallwrightError with a repair."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    except OSError as error:
        raise CallwrightError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error
