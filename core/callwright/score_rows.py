"""Completions from a file, each with its task: JSON lines, parquet as a run writes it, or a run's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from callwright.plugins import find, near
from callwright.trl_rows import row_task
from callwright.types import JSON, CallwrightError, RowError, Task

Progress = Callable[[int, int], None]
TOKENS = ("token_ids", "entropy", "behaviour_logps", "segments")
"""Columns of a run's parquet that hold a list per row."""


@dataclass(frozen=True, slots=True)
class Row:
    """A completion to be judged."""

    number: int
    """From 1, over the whole input; in a file of JSON lines the line's."""
    task: Task
    completion: str
    group: str
    """Rows of one group answer one prompt in one step."""
    step: int = 0
    truncated: bool | None = None
    tokens: Mapping[str, list[Any]] | None = None
    """By column of `TOKENS`, one entry per token; None for completions that came as text."""


def read_rows(path: Path, known: Callable[[], Mapping[str, Task]]) -> Iterator[Row]:
    """The rows of a file or a run's folder, in order. `known`: the recipe's tasks by id, asked for only if needed.

    Raises RowError with file, row, field and repair.
    """
    if path.is_dir():
        return _parquets(_of_a_run(path), known)
    if not path.is_file():
        raise CallwrightError(f"there is no file or folder {path}")
    if path.suffix == ".parquet":
        return _parquets([path], known)
    if path.suffix in (".jsonl", ".json", ".ndjson"):
        return _lines(path, known)
    raise CallwrightError(f"{path}: should be .jsonl, .parquet or a run's folder")


def _of_a_run(folder: Path) -> list[Path]:
    inside = folder / "rollouts" if (folder / "rollouts").is_dir() else folder
    files = sorted(inside.glob("*.parquet"))
    if not files:
        raise CallwrightError(f"{folder} holds no rollouts/*.parquet; name a run's folder, or a file")
    return files


# ------------------------------------------------------------------------------------------------- JSON lines


def _lines(path: Path, known: Callable[[], Mapping[str, Task]]) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _from_line(json_object(line, path, number), path, number, known)


def json_object(line: bytes, path: Path, number: int) -> dict[str, JSON]:
    """The object of one line of a file. Raises RowError."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowError(str(path), number, "(whole line)", f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RowError(str(path), number, "(whole line)", "should be a JSON object")
    return fields


def _from_line(fields: dict[str, JSON], path: Path, number: int, known: Callable[[], Mapping[str, Task]]) -> Row:
    completion = fields.get("completion")
    if not isinstance(completion, str):
        wrong = "missing" if "completion" not in fields else f"should be a text, not {json.dumps(completion)[:80]}"
        repair = (
            near("completion", [name for name in fields if name != "completion"]) or "; write the model's reply there"
        )
        raise RowError(str(path), number, "completion", wrong + repair)
    name = fields.get("id", fields.get("task"))
    if "tools" in fields:
        task = _own_task(fields, path, number, name)
    else:
        task = _joined(name, "id" if "id" in fields or "task" not in fields else "task", str(path), number, known)
    truncated = fields.get("truncated")
    group = str(fields.get("group", task.id))
    return Row(number, task, completion, group, truncated=truncated if isinstance(truncated, bool) else None)


def _own_task(fields: Mapping[str, JSON], path: Path, number: int, name: JSON) -> Task:
    """The line's own question, tools and answer, read as the source `jsonl` reads them."""
    source, _ = find("source", "jsonl")
    task: Task = source.task({key: value for key, value in fields.items() if key != "id"}, str(path), number, "")
    return replace(task, id=str(name) if name is not None else f"{path.stem}-{number}")


def _joined(name: JSON, field: str, place: str, number: int, known: Callable[[], Mapping[str, Task]]) -> Task:
    if not isinstance(name, str):
        text = "missing; write the id of a task of the recipe's source, or question, tools and answer"
        raise RowError(place, number, field, text)
    tasks = known()
    if name not in tasks:
        repair = near(name, tasks) or "; or write question, tools and answer into the row"
        raise RowError(place, number, field, f"the recipe's source has no task '{name}'{repair}")
    return tasks[name]


# ---------------------------------------------------------------------------------------------------- parquet


def _parquets(paths: Iterable[Path], known: Callable[[], Mapping[str, Task]]) -> Iterator[Row]:
    number = 0
    for path in paths:
        for at, fields in enumerate(_table(path), 1):
            number += 1
            yield _from_columns(fields, path, at, number, known)


def _table(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CallwrightError(f"{path}: cannot be read as parquet: {error}") from error
    if "completion" not in table.column_names:
        names = ", ".join(table.column_names)
        raise CallwrightError(f"{path}: there is no column 'completion'; it has {names}")
    return table.to_pylist()


def _from_columns(
    fields: Mapping[str, Any], path: Path, at: int, number: int, known: Callable[[], Mapping[str, Task]]
) -> Row:
    name, completion = fields.get("task") or fields.get("id"), fields["completion"]
    if not isinstance(completion, str):
        raise RowError(str(path), at, "completion", "should be a text")
    if "messages" in fields and "tools" in fields:
        task = _recorded(fields, path, at, known)
    else:
        task = _joined(name, "task" if "task" in fields else "id", str(path), at, known)
    step = int(fields.get("step") or 0)
    return Row(
        number,
        task,
        completion,
        f"{step}:{fields.get('group', task.id)}",
        step,
        fields.get("truncated"),
        {name: fields[name] for name in TOKENS} if all(fields.get(name) is not None for name in TOKENS) else None,
    )


def _recorded(fields: Mapping[str, Any], path: Path, at: int, known: Callable[[], Mapping[str, Task]]) -> Task:
    """The task as the run recorded it; what it does not record, `meta`, comes from the recipe's source."""
    try:
        task = row_task(None, fields, at)
    except CallwrightError as error:
        raise RowError(str(path), at, "task", str(error)) from error
    if task.meta:
        return task
    of_the_source = known().get(task.id)
    return task if of_the_source is None else replace(task, meta=of_the_source.meta)
