"""The laws of a data source. There is nothing to draw: its own rows are looked at."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from callwright.testing.laws import Bench, Law
from callwright.types import RowError, Source, Task

SourceBench = Bench[Source]


def _rows(bench: SourceBench, source: Source | None = None) -> list[Any]:
    """The first rows, as many as `examples`."""
    try:
        return list(itertools.islice((source or copy.deepcopy(bench.subject)).load(), bench.examples))
    except RowError as error:
        _refuse(bench, f"it raises the RowError of a row, instead of giving it as one of the rows: {error}", "rows")
    except Exception as error:
        _refuse(bench, f"load raises {type(error).__name__}: {error}"[:300], "rows")


def _refuse(bench: SourceBench, message: str, condition: str) -> NoReturn:
    bench.broken(message, f"rows = list({bench.source}.load())\nassert {condition}")


def _tasks(bench: SourceBench) -> list[Task]:
    return [row for row in _rows(bench) if isinstance(row, Task)]


def total(bench: SourceBench) -> None:
    rows = _rows(bench)
    for number, row in enumerate(rows):
        if not isinstance(row, Task | RowError):
            message = f"row {number} is a {type(row).__name__}, and neither a Task nor a RowError"
            _refuse(bench, message, f"isinstance(rows[{number}], (Task, RowError))")
    if not any(isinstance(row, Task) for row in rows):
        reasons = f": {rows[0]}" if rows else ""
        _refuse(bench, f"of {len(rows)} rows none is a task{reasons}", "any(isinstance(row, Task) for row in rows)")


def ids_differ(bench: SourceBench) -> None:
    seen: set[str] = set()
    for task in _tasks(bench):
        if not isinstance(task.id, str) or task.id in seen:
            what = "is the id of two tasks" if task.id in seen else "is no text"
            condition = "len({row.id for row in rows if isinstance(row, Task)}) == len(rows)"
            _refuse(bench, f"the id {task.id!r} {what}", condition)
        seen.add(task.id)


def deterministic(bench: SourceBench) -> None:
    """The same rows from the same object, and from a copy made before the first call."""
    source = copy.deepcopy(bench.subject)
    first, again, fresh = _rows(bench, source), _rows(bench, source), _rows(bench)
    for other in (again, fresh):
        if list(map(_comparable, other)) != list(map(_comparable, first)):
            condition = f"list(map(repr, rows)) == list(map(repr, {bench.source}.load()))"
            _refuse(bench, "the next time it gives other rows, or another order", condition)


def _comparable(row: Any) -> Any:
    return row if isinstance(row, Task) else str(row)


def well_formed(bench: SourceBench) -> None:
    for task in _tasks(bench):
        for condition, message in _DEMANDS:
            if not _holds(condition, task):
                _refuse(bench, f"task {task.id!r}: {message}", f"not [row for row in rows if row.id == {task.id!r}]")


def _is_json(task: Task) -> bool:
    tools = [tool.to_json() for tool in task.tools]
    calls = [] if task.answer is None else json.loads(task.answer.to_json())
    json.dumps([task.messages, tools, calls, dict(task.meta)], allow_nan=False)
    return True


def _lists(task: Task) -> bool:
    calls = () if task.answer is None else task.answer.calls
    accepted = [values for call in calls for values in call.arguments.values()]
    return all(isinstance(values, list | tuple) and len(values) > 0 for values in accepted)


_DEMANDS: Sequence[tuple[Callable[[Task], bool], str]] = (
    (
        lambda task: all(isinstance(m["content"], str) and isinstance(m["role"], str) for m in task.messages),
        "a message has no text for `role` or `content`",
    ),
    (lambda task: bool(task.messages), "there are no messages, so that nothing is asked"),
    (_lists, "the answer has an argument without a list of accepted values"),
    (
        lambda task: task.answer is None or {c.name for c in task.answer.calls} <= {tool.name for tool in task.tools},
        "the answer calls a function that the task does not offer",
    ),
    (_is_json, "something in it is no JSON"),
)


def _holds(condition: Callable[[Task], bool], task: Task) -> bool:
    try:
        return condition(task)
    except (TypeError, ValueError, KeyError, AttributeError):
        return False


def fingerprint(bench: SourceBench) -> None:
    """Of the source before and behind loading, and of a copy."""
    if not hasattr(bench.subject, "fingerprint"):
        return
    source = copy.deepcopy(bench.subject)
    before = source.fingerprint()
    _rows(bench, source)
    after = source.fingerprint()
    if not isinstance(before, str) or before != after:
        call = f"{bench.source}.fingerprint()"
        bench.broken("the fingerprint is no text, or another one behind `load`", f"assert {call} == {call}")


LAWS: tuple[Law[Any], ...] = (
    Law("total", "It gives tasks, and of a row that cannot be read why; no row makes it raise.", total),
    Law("ids_differ", "Every task has an id of its own.", ids_differ),
    Law("deterministic", "It gives the same rows in the same order.", deterministic),
    Law("well_formed", "Tasks are JSON, ask something, and their answers call functions that they offer.", well_formed),
    Law("fingerprint", "Its fingerprint, if it has one, is the same for the same rows.", fingerprint),
)
