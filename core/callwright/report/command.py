"""`callwright report`, and the report that a run ends with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from callwright.display import safe, scoring_progress
from callwright.files import replacing
from callwright.report.folder import METRICS, RECIPE, Progress
from callwright.types import CallwrightError

PAGE = "report.html"


def completions_limit(text: str | None) -> int | str | None:
    """Of the option `--completions`: a number, `all`, or nothing said. Raises CallwrightError."""
    if text is None:
        return "default"
    if text.strip().lower() == "all":
        return None
    if not (text.isascii() and text.strip().isdecimal()):
        raise CallwrightError(f"--completions {text}: should be a number, as in 5000, or all")
    return int(text)


def write_report(
    folders: Sequence[Path],
    path: Path,
    limit: int | str | None = "default",
    progress: Callable[[str], Progress] = lambda work: lambda done, total: None,
) -> list[str]:
    """Write the page about these runs; returns remarks on what it lacks.

    limit: completions of each run, at most; None for all, "default" for as many as a page holds with ease. progress:
    begins a named piece of work, and gets how much of it is done. Raises CallwrightError if a folder holds no run, or
    the page cannot be written.
    """
    from callwright.report.completions import read_completions
    from callwright.report.folder import names_of, read_folder, read_metrics
    from callwright.report.page import report_page

    for folder in folders:
        require_run(folder)
    names = names_of(folders)
    runs, completions, remarks = [], [], []
    for folder, name in zip(folders, names, strict=True):
        run = read_folder(folder, name, read_metrics(folder), progress(f"look into {name}"))
        wanted = [(step, row) for finding in run["findings"] for step, row in finding["rows"]]
        rows = read_completions(folder, limit, wanted, progress=progress(f"read completions of {name}"))
        runs.append(run)
        completions.append(rows.as_json())
        remarks += [f"{name}: {note}" for note in [*run["notes"], *completions[-1]["notes"]]]
        if len(rows) < rows.total:
            remarks.append(
                f"{name}: the page shows {len(rows):,} of {rows.total:,} completions, whole groups of some of the"
                " prompts; --completions all shows all of them"
            )
    title = names[0] if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}"
    page = report_page(title, runs, completions)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise CallwrightError(f"cannot write {path}: {error.strerror}; name another file with --out") from error
    return remarks


def require_run(folder: Path) -> None:
    """Raise CallwrightError where there is no run."""
    if not folder.is_dir():
        raise CallwrightError(f"there is no run folder {folder}; look at the spelling")
    if not any((folder / name).exists() for name in (METRICS, RECIPE, "rollouts")):
        inside = sorted(path.parent.name for path in folder.glob(f"*/{RECIPE}"))
        repair = f"; did you mean {folder / inside[0]}?" if inside else f"; a run folder holds {METRICS} and rollouts/"
        raise CallwrightError(f"{folder} holds no run{repair}")


def print_report(console: Console, folders: Sequence[Path], out: Path | None, completions: str | None) -> None:
    """The body of `callwright report`."""
    path = out or (folders[0] / PAGE if len(folders) == 1 else Path(PAGE))
    started = time.monotonic()
    with scoring_progress(console) as progress:
        remarks = write_report(folders, path, completions_limit(completions), progress)
    for remark in remarks:
        console.print(Text(safe(remark), style="dim"), soft_wrap=True)
    size, seconds = path.stat().st_size / 1e6, time.monotonic() - started
    console.print(Text(f"report: {safe(str(path))} ({size:.1f} MB, {seconds:.1f} s)"), soft_wrap=True)


@contextmanager
def report_afterwards(run: Path, console: Console) -> Iterator[None]:
    """Write the report of what a run recorded inside, also where it ended with a mistake. Never fails."""
    before = _recorded(run)
    try:
        yield
    except CallwrightError:
        if _recorded(run) != before:
            _write_at_end(run, console)
        raise
    _write_at_end(run, console)


def _recorded(run: Path) -> tuple[int, int] | None:
    try:
        status = (run / METRICS).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _write_at_end(run: Path, console: Console) -> None:
    try:
        with scoring_progress(console) as progress:
            write_report([run], run / PAGE, progress=progress)
    except (Exception, KeyboardInterrupt) as error:  # the run is whole and saved: nothing here may change how it ends
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        text = f"warning: no report was written ({why}); callwright report {run} tries again"
        console.print(Text(safe(text), style="yellow"), soft_wrap=True)
    else:
        console.print(Text(f"report: {safe(str(run / PAGE))}"), soft_wrap=True)
