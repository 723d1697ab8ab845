"""`callwright findings`, and what the end of a training run says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column
from rich.text import Text

from callwright.display import safe, scoring_progress
from callwright.findings.examine import Examination, examine
from callwright.findings.finding import RowPlace, Silent
from callwright.findings.record import read_record
from callwright.findings.samples import Sample, suspicious
from callwright.findings.timing import slow, slowest_rows, time_in_plugins
from callwright.tables import WIDTH_OF_A_FILE, plain_table
from callwright.types import JSON

PLUGINS_SHOWN = 5


@dataclass(frozen=True)
class Look:
    """All that the command shows of a run."""

    run: Path
    examination: Examination
    time: dict[str, tuple[float, float]]
    """By plugin: seconds and share of the steps' time."""
    slow_rewards: dict[str, list[tuple[RowPlace, float]] | str]
    """By name: the rows that took longest, or why none are known."""
    samples: list[Sample]

    def to_json(self) -> dict[str, JSON]:
        return {
            "run": str(self.run),
            "findings": [one.to_json() for one in self.examination.findings],
            "silent": self.examination.silent,
            "time_in_plugins": {name: {"seconds": s, "share": share} for name, (s, share) in self.time.items()},
            "slow_rewards": self.slow_rewards,
            "suspicious_samples": [{"row": one.place, "why": one.why} for one in self.samples],
        }


def look_at(run: Path, progress: Callable[[int, int], None]) -> Look:
    """Raises CallwrightError where the folder holds no run."""
    found = examine(run, progress)
    spent = time_in_plugins(found.record.metrics)
    slow_rewards: dict[str, list[tuple[RowPlace, float]] | str] = {}
    for name in slow(spent, found.record.rewards):
        try:
            slow_rewards[name] = slowest_rows(found.judge, found.record.completions, name)
        except Silent as why:
            slow_rewards[name] = str(why)
    return Look(run, found, spent, slow_rewards, suspicious(found.record, found.judge))


def looks_at(runs: Sequence[Path], console: Console) -> list[Look]:
    """All runs, with progress on a terminal."""
    with scoring_progress(console) as begin:
        return [look_at(run, begin(f"look at {run}")) for run in runs]


def print_look(console: Console, look: Look, several: bool) -> None:
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    if several:
        console.print(Text(safe(str(look.run)), style="bold"), soft_wrap=True)
    findings = look.examination.findings
    if findings:
        table = plain_table("evidence", Column("what was seen", ratio=3), Column("rows to look at (step:row)", ratio=1))
        for one in findings:
            table.add_row(
                Text(one.code, style="bold"), Text(safe(f"{one.title}. {one.message}")), Text(_rows(one.rows))
            )
        console.print(table)
    else:
        console.print("no finding")
    for codes, why in look.examination.silent.items():
        console.print(Text(safe(f"not looked for: {codes}: {why}"), style="dim"), soft_wrap=True)
    print_time(console, look.time)
    for name, rows in look.slow_rewards.items():
        known = rows if isinstance(rows, str) else ", ".join(f"{_row(p)} {seconds:.3g} s" for p, seconds in rows)
        console.print(Text(safe(f"slow reward '{name}': {known}"), style="yellow"), soft_wrap=True)
    if look.samples:
        table = plain_table("completion", "why to look at it")
        for sample in look.samples:
            table.add_row(_row(sample.place), Text(safe(sample.why)))
        console.print(table)


def print_time(console: Console, time: dict[str, tuple[float, float]]) -> None:
    """The plugins that took most of the steps' time."""
    shown = [f"{name} {share:.1%}" for name, (_, share) in list(time.items())[:PLUGINS_SHOWN]]
    if shown:
        console.print(Text(safe(f"time of the steps spent in plugins: {', '.join(shown)}")), soft_wrap=True)


def _rows(rows: Sequence[RowPlace]) -> str:
    return ", ".join(f"{step}:{row}" for step, row in rows)


def _row(place: RowPlace) -> str:
    return f"step {place[0]}, row {place[1]}"


def print_after_training(console: Console, run: Path) -> None:
    """A line for each finding and each slow reward. Never raises: a run that was trained stays one."""
    try:
        metrics = read_record(run, lambda done, of: None, completions=False).metrics
        time = time_in_plugins(metrics)
        print_time(console, time)
        with scoring_progress(console) as begin:
            found = examine(run, begin("look for reward hacking"))
        for name in slow(time, found.record.rewards):
            text = f"slow reward: '{name}' takes {time[name][1]:.0%} of the steps' time"
            console.print(Text(safe(text), style="yellow"), soft_wrap=True)
        for one in found.findings:
            text = f"evidence, no verdict: {one.title} ({one.code}). {one.message}"
            console.print(Text(safe(text), style="yellow"), soft_wrap=True)
        if found.findings:
            console.print(Text(safe(f"the rows: callwright findings {run}")), soft_wrap=True)
    except Exception as error:
        console.print(Text(safe(f"findings could not be looked for: {error}"), style="yellow"), soft_wrap=True)
