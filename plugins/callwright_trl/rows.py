"""What the adapters share: finding the function, a task's columns, and numbers as verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from callwright import CallwrightError, Reason, Rollouts, Task, Verdict
from callwright.plugins import find
from callwright.types import JSON

_TRLS = ("prompt", "prompts", "completion", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
RESERVED = frozenset((*_TRLS, "environments"))
"""Names of TRL's own arguments: a column of that name would hide one."""


def load(function: str) -> Any:
    """`package.module:attr` or `./file.py:attr`. Raises `PluginError` with near names and the traceback."""
    if ":" not in function:
        raise CallwrightError(f"function {function!r} should be package.module:name or ./file.py:name")
    return find("reward", function)[0]


def columns(tasks: Sequence[Task], renamed: Mapping[str, str]) -> dict[str, list[JSON]]:
    """A list per column, with an entry for each row: everything in `meta`, then `id`, and `tools` and `answer` as JSON.

    renamed: further columns under names that a function asks for, as {its name: ours}. Raises CallwrightError for a
    name that no task has.
    """
    rows = [_row(task) for task in tasks]
    names = dict.fromkeys(name for row in rows for name in row)
    for wanted, ours in renamed.items():
        if ours not in names:
            raise CallwrightError(f"columns.{wanted}: the tasks have no column '{ours}'; there are {', '.join(names)}")
    result = {name: [row.get(name) for row in rows] for name in names if name not in RESERVED}
    return result | {wanted: [row.get(ours) for row in rows] for wanted, ours in renamed.items()}


def _row(task: Task) -> dict[str, JSON]:
    tools = json.dumps([tool.to_json() for tool in task.tools], ensure_ascii=False)
    answer = None if task.answer is None else task.answer.to_json()
    return {**task.meta, "id": task.id, "tools": tools, "answer": answer}


def question(task: Task) -> str:
    """The messages as plain text, for functions that know no conversations."""
    return "\n".join(str(message.get("content") or "") for message in task.messages)


def state(rollouts: Rollouts, steps: int) -> SimpleNamespace:
    """The part of transformers' TrainerState that reward functions look at."""
    step = max(rollouts.step, 0)
    return SimpleNamespace(global_step=step, max_steps=steps, epoch=0.0)


def verdicts(scores: Any, rows: int, function: str, reasons: Sequence[tuple[Reason, ...]]) -> list[Verdict]:
    """None and NaN abstain. Raises TypeError or ValueError for what is no score per row; the core refuses infinity."""
    if isinstance(scores, str) or not isinstance(scores, Iterable):
        raise TypeError(f"{function} should return a list of {rows} scores, but returned {scores!r:.80}")
    values = list(scores)
    if len(values) != rows:
        raise ValueError(f"{function} returned {len(values)} scores for {rows} completions")
    return [verdict(value, reason) for value, reason in zip(values, reasons, strict=True)]


def verdict(value: Any, reasons: tuple[Reason, ...] = ()) -> Verdict:
    """A number, also of numpy or torch; None and NaN abstain."""
    if value is not None and (isinstance(value, str) or not hasattr(value, "__float__")):
        raise TypeError(f"a score should be a number or None, but is {value!r:.80}")
    if value is None or math.isnan(float(value)):
        return Verdict(None, (*reasons, *Verdict.abstain("the function does not score this row").reasons))
    return Verdict(float(value), reasons)
