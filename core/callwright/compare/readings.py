"""What run folders say: a figure for every step, accuracy on held-out rows, and how many calls a group tried."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from callwright.call_keys import key_of_calls
from callwright.compare.arms import Comparison
from callwright.compare.runner import read_json
from callwright.plugins import build_component, find
from callwright.recipe import Recipe
from callwright.types import JSON, CallwrightError, Parse, ParseStatus

Numbers = NDArray[np.float64]

LAST_STEPS = 5
"""Steps whose mean stands for the end of a run: one step sees few prompts."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A greedy evaluation on held-out rows."""

    accuracy: float
    rows: int
    correct: dict[str, bool]
    """By task id; empty in folders of earlier versions."""


@dataclass(slots=True)
class Reading:
    """One run."""

    arm: str
    seed: int
    folder: Path
    planned_steps: int
    steps: Numbers
    """(S,) numbers of the steps that the run recorded, from 1."""
    minutes: Numbers
    """(S,) training time up to and with each step; loading and evaluation are not in it."""
    series: dict[str, Numbers]
    """By metric, (S,); NaN where a step has no such figure."""
    before: HeldOut | None
    after: HeldOut | None
    counts_texts: bool = False
    """`distinct_calls` counts different texts, as the run's dialect could not be built."""
    problems: list[str] = field(default_factory=list)

    def lack(self) -> str | None:
        """What there is not, or not yet."""
        if len(self.steps) < self.planned_steps:
            return f"has done {len(self.steps)} of {self.planned_steps} steps"
        return "was not evaluated at its end" if self.before is not None and self.after is None else None

    def last(self, name: str, steps: int = LAST_STEPS) -> float:
        """The mean over the last steps; NaN if there is none."""
        values = self.series.get(name, np.empty(0))[-steps:]
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else math.nan


def read_all(
    comparison: Comparison, progress: Callable[[int, int], None]
) -> tuple[dict[str, dict[int, Reading]], list[str]]:
    """The runs that have begun, by arm and seed, and remarks about those that are not whole."""
    wanted = [(arm, seed) for arm in comparison.arms for seed in arm.folders]
    found: dict[str, dict[int, Reading]] = {arm.name: {} for arm in comparison.arms}
    remarks = []
    for done, (arm, seed) in enumerate(wanted, start=1):
        folder = arm.folders[seed]
        if (folder / "metrics.jsonl").exists() or (folder / "eval.json").exists():
            reading = read_run(arm.name, seed, folder, arm.settings[seed])
            found[arm.name][seed] = reading
            remarks += [f"'{arm.name}', seed {seed}: {problem}" for problem in reading.problems]
            if lack := reading.lack():
                remarks.append(f"'{arm.name}', seed {seed} {lack}")
        else:
            remarks.append(f"'{arm.name}', seed {seed} has not begun")
        progress(done, len(wanted))
    return found, remarks


def read_run(arm: str, seed: int, folder: Path, settings: Recipe) -> Reading:
    """Read one run folder; a last line that a kill cut off is left out."""
    lines = []
    if (folder / "metrics.jsonl").exists():
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
    names = sorted({name for line in lines for name in line} - {"step"})
    series = {name: np.array([_number(line.get(name)) for line in lines]) for name in names}
    seconds = np.nan_to_num(series.get("seconds", np.zeros(len(lines))))
    evaluation = read_json(folder / "eval.json")
    reading = Reading(
        arm=arm,
        seed=seed,
        folder=folder,
        planned_steps=settings.train.steps,
        steps=np.array([float(line["step"]) for line in lines]),
        minutes=np.cumsum(seconds) / 60,
        series=series,
        before=_held_out(evaluation.get("before")),
        after=_held_out(evaluation.get("after")),
    )
    _count_calls(reading, settings)
    return reading


def _number(value: JSON) -> float:
    return math.nan if value is None else float(value)


def _held_out(content: JSON) -> HeldOut | None:
    if not content:
        return None
    return HeldOut(content["accuracy"], content["rows"], dict(content.get("rows_correct") or {}))


# ------------------------------------------------------------------------------------------------ distinct calls


def _count_calls(reading: Reading, settings: Recipe) -> None:
    """Fill in `distinct_calls`: in each step, the mean over groups of the number of different answers."""
    files = {
        path: int(path.stem.removeprefix("step-")) for path in (reading.folder / "rollouts").glob("step-*.parquet")
    }
    if not files:
        return
    read = _reader(settings)
    reading.counts_texts = read is None
    known: dict[str, str | None] = {}
    by_step: dict[int, float] = {}
    unreadable: list[str] = []
    for path, step in sorted(files.items()):
        try:
            rows = _completions(path)
        except (OSError, ValueError, KeyError) as error:  # Arrow's own are ValueErrors
            unreadable.append(f"{path.name} ({type(error).__name__})")
            continue
        groups: defaultdict[int, set[str]] = defaultdict(set)
        for group, text in rows:
            if text not in known:
                known[text] = text if read is None else call_key(read(text))
            answers, key = groups[group], known[text]
            if key is not None:
                answers.add(key)
        by_step[step] = float(np.mean([len(answers) for answers in groups.values()])) if groups else math.nan
    if unreadable:
        reading.problems.append(
            f"{len(unreadable)} files of rollouts cannot be read: their calls do not count; first {unreadable[0]}"
        )
    reading.series["distinct_calls"] = np.array([by_step.get(int(step), math.nan) for step in reading.steps])


def _completions(path: Path) -> list[tuple[int, str]]:
    """Group and text of the completions that the policy of this step wrote."""
    names = [name for name in ("group", "completion", "off_policy") if name in pq.read_schema(path).names]
    table = pq.read_table(path, columns=names).to_pydict()
    replayed = table.get("off_policy", [False] * len(table["group"]))
    rows = zip(table["group"], table["completion"], replayed, strict=True)
    return [(group, text) for group, text, other in rows if not other]


def _reader(settings: Recipe) -> Callable[[str], Parse] | None:
    """The dialect's parser; None if the dialect cannot be built here."""
    try:
        cls, _ = find("dialect", settings.dialect.use)
        dialect: Any = build_component(cls, settings.dialect.options, "dialect")
    except CallwrightError:
        return None
    return dialect.parse


def call_key(parse: Parse) -> str | None:
    """The same for two completions that make the same calls, however they are written; None for what is no answer.

    Making no call is an answer too.
    """
    if parse.status is ParseStatus.UNPARSABLE:
        return None
    return key_of_calls(parse.calls)
