"""A run's folder as the detectors read it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy

from callwright.findings.finding import RowPlace
from callwright.trl_rows import row_task
from callwright.types import JSON, CallwrightError, Segment, Task

MOST_STEPS = 120
"""Steps whose completions are read; of a longer run as many from all of it."""
MOST_ROWS_OF_A_STEP = 256
COLUMNS = ("task", "messages", "tools", "answer", "group", "completion", "truncated", "off_policy", "total", "rewards")
REPEAT = 8
"""Characters of a piece of text that is looked for again in the same text."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A recorded row."""

    place: RowPlace
    task: Task
    answer: str
    """JSON, or the task's id where no answer is known: completions of one such text may well be alike."""
    group: str
    text: str
    truncated: bool
    total: float
    """The combined reward of the run, shaping included; NaN for a row that took no part."""
    scores: Mapping[str, float | None]
    outside: float
    """Share of the tokens that belong to no thinking, tag or call."""

    @property
    def step(self) -> int:
        return self.place[0]

    @property
    def repeated(self) -> float:
        """Share of the text's pieces of `REPEAT` characters that were in it before."""
        pieces = [self.text[i : i + REPEAT] for i in range(len(self.text) - REPEAT + 1)]
        return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


@dataclass
class Record:
    """What a run left behind."""

    folder: Path
    metrics: list[dict[str, float]]
    """By step; numbers that were not finite are missing."""
    evaluation: Mapping[str, JSON]
    completions: list[Completion] = field(default_factory=list)

    @cached_property
    def by_step(self) -> dict[int, list[Completion]]:
        steps: dict[int, list[Completion]] = {}
        for one in self.completions:
            steps.setdefault(one.step, []).append(one)
        return steps

    def last_third(self) -> list[Completion]:
        """Those of the last third of the steps."""
        steps = sorted(self.by_step)
        return [one for step in steps[-max(1, len(steps) // 3) :] for one in self.by_step[step]]

    def means(self, value: Callable[[Completion], float | None]) -> tuple[list[int], list[float]]:
        """(steps, mean over the step's rows); rows with None do not count, and steps without any are left out."""
        steps, values = [], []
        for step, rows in sorted(self.by_step.items()):
            known = [number for row in rows if (number := value(row)) is not None and number == number]
            if known:
                steps.append(step)
                values.append(float(numpy.mean(known)))
        return steps, values

    @cached_property
    def rewards(self) -> list[str]:
        """Names, in the order of the recipe."""
        return list(dict.fromkeys(name for one in self.completions for name in one.scores))

    @cached_property
    def commonest(self) -> Counter[str]:
        return Counter(one.text for one in self.completions)


def read_record(folder: Path, progress: Callable[[int, int], None], completions: bool = True) -> Record:
    """Raises CallwrightError where there is no run. completions: read them too, which takes longest."""
    if not (folder / "metrics.jsonl").is_file():
        raise CallwrightError(f"{folder} holds no run: there is no metrics.jsonl in it; name the folder of a run")
    metrics = []
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            metrics.append({name: value for name, value in json.loads(line).items() if value is not None})
        except ValueError:
            continue  # a run that is being written
    try:
        evaluation = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        evaluation = {}
    record = Record(folder, metrics, evaluation)
    known: dict[str, Task] = {}
    paths = _chosen(sorted((folder / "rollouts").glob("step-*.parquet"))) if completions else []
    for done, path in enumerate(paths):
        progress(done, len(paths))
        record.completions += _completions(path, known)
    return record


def _chosen(paths: Sequence[Path]) -> list[Path]:
    if len(paths) <= MOST_STEPS:
        return list(paths)
    return [paths[round(i * (len(paths) - 1) / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]


def _completions(path: Path, known: dict[str, Task]) -> list[Completion]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=[*COLUMNS, "segments"]).slice(0, MOST_ROWS_OF_A_STEP)
    except (OSError, pa.ArrowException) as error:
        raise CallwrightError(f"{path}: cannot be read as a step's completions: {error}") from error
    step = int(path.stem.removeprefix("step-"))
    return [
        _completion((step, row), fields, known)
        for row, fields in enumerate(table.to_pylist())
        if not fields["off_policy"]  # what was replayed says nothing of the policy as it is
    ]


def _completion(place: RowPlace, fields: Mapping[str, Any], known: dict[str, Task]) -> Completion:
    name = str(fields["task"])
    if name not in known:
        known[name] = row_task(None, fields, place[1])
    segments = [segment for segment in fields["segments"] or [] if segment != Segment.TAG]
    return Completion(
        place=place,
        task=known[name],
        answer=name if fields["answer"] is None else fields["answer"],
        group=f"{place[0]}:{fields['group']}",
        text=fields["completion"],
        truncated=bool(fields["truncated"]),
        total=float("nan") if fields["total"] is None else float(fields["total"]),
        scores=json.loads(fields["rewards"]),
        outside=sum(segment == Segment.OTHER for segment in segments) / max(1, len(segments)),
    )
