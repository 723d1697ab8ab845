"""What a reward is shown: for every task the right reply and nearly right ones, and completions that are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from callwright.judging import scorer
from callwright.plugins import build_component, find, near
from callwright.score import light_rollouts
from callwright.score_rows import Row, json_object, read_rows
from callwright.testing.mutations import Mutation, completion_near_misses, completion_rewrites
from callwright.testing.scoring import gold_text, plugin
from callwright.types import CallwrightError, Dialect, RowError, Task

RIGHT, SAME, GIVEN = "right", "right, rewritten", "given"
"""What a completion is, beside the names of near misses."""
FIRST = (
    "wrong_value",
    "wrong_type",
    "drop_argument",
    "rename_function",
    "no_call",
    "unexpected_call",
    "add_call",
    "only_in_thinking",
    "cut_call",
    "off_by_one",
    "add_argument",
)
"""Near misses that are shown before others, each kind once a task."""
FIELDS = ("id", "question", "messages", "tools", "answer", "calls", "meta")
BESIDE = ("completion", "group", "truncated")
"""What a row of tasks may have beside the fields of a task."""


def read_tasks(path: Path) -> list[tuple[Task, str | None]]:
    """Tasks as the source `jsonl` reads them, each with the completion that its line carries.

    Only JSON lines carry completions. Raises CallwrightError for the first row that cannot be read, with its place.
    """
    if not path.is_file():
        raise CallwrightError(f"--tasks: there is no file {path}")
    source, _ = find("source", "jsonl")
    found: list[tuple[Task, str | None]] = []
    if path.suffix not in (".jsonl", ".ndjson"):
        for task in build_component(source, {"path": str(path)}, "--tasks").load():
            if isinstance(task, RowError):
                raise task
            found.append((task, None))
    else:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    found.append(_from_line(line, path, number, source))
    if not found:
        raise CallwrightError(f"--tasks: {path} holds no task")
    return found


def _from_line(line: bytes, path: Path, number: int, source: type) -> tuple[Task, str | None]:
    fields = json_object(line, path, number)
    completion = fields.get("completion")
    if completion is not None and not isinstance(completion, str):
        raise RowError(str(path), number, "completion", "should be a text")
    for name in fields:
        if name not in (*FIELDS, *BESIDE):
            raise RowError(str(path), number, name, f"unknown field{near(name, (*FIELDS, *BESIDE))}")
    task: Task = source.task(fields, str(path), number, f"{path.stem}-{number}")  # type: ignore[attr-defined]
    return task, completion


def given_rows(path: Path, tasks: Sequence[Task]) -> list[Row]:
    """The completions of a file or a run's folder, joined with the tasks by id."""
    rows = list(read_rows(path, lambda: {task.id: task for task in tasks}))
    if not rows:
        raise CallwrightError(f"--completions: {path} holds no completion")
    return rows


def rows_of_tasks(
    tasks: Sequence[tuple[Task, str | None]], dialect: Dialect, misses: int
) -> tuple[list[Row], dict[int, str], list[str]]:
    """(rows to be judged, a group for each task; what each row is, by its number; what could not be written).

    misses: at most so many near misses of a task.
    """
    rows: list[Row] = []
    kinds: dict[int, str] = {}
    notes: list[str] = []
    by_id: dict[str, tuple[Task, list[str]]] = {}
    for task, completion in tasks:
        by_id.setdefault(task.id, (task, []))[1].extend([] if completion is None else [completion])
    for task, given in by_id.values():
        written = [(GIVEN, text) for text in given]
        try:
            written += _written(task, dialect, misses)
        except CallwrightError as error:
            notes.append(str(error))
        for kind, text in written:
            rows.append(Row(len(rows) + 1, task, text, task.id, truncated=False))
            kinds[len(rows)] = kind
    return rows, kinds, notes


def _written(task: Task, dialect: Dialect, misses: int) -> Iterator[tuple[str, str]]:
    yield RIGHT, gold_text(dialect, task)
    yield from ((SAME, mutation.text) for mutation in completion_rewrites(dialect, task)[:1])
    kinds: dict[str, Mutation] = {}
    for mutation in _wrong(task, dialect, completion_near_misses(dialect, task)):
        kinds.setdefault(mutation.kind, mutation)
    order = sorted(kinds, key=lambda kind: FIRST.index(kind) if kind in FIRST else len(FIRST))
    yield from ((kind, kinds[kind].text) for kind in order[:misses])


def _wrong(task: Task, dialect: Dialect, mutations: Sequence[Mutation]) -> list[Mutation]:
    """Without those that the answer accepts too: it may take several values, or none, for an argument."""
    strict = plugin("reward", "ast_match")
    rows = [Row(number, task, mutation.text, task.id) for number, mutation in enumerate(mutations)]
    verdicts = scorer(strict)(light_rollouts(rows, dialect)) if rows else []
    return [mutation for mutation, verdict in zip(mutations, verdicts, strict=True) if verdict.score != 1.0]
