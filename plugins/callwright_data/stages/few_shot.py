"""A few rows as worked examples for all others."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar

from callwright import CallwrightError, Dialect, Dropped, ExpectedCall, Task
from callwright.pipeline.context import StageContext
from callwright.types import JSON

from callwright_data._allowed_values import LEFT_OUT, choices
from callwright_data.stages._seeded_choice import seeded_number

SHORTEST = 16
"""Rows of each kind, the shortest ones, among which the seed chooses."""
MANY = 3
"""Calls from which on their number makes no other kind: rows of a dozen calls are no better examples."""


class FewShotCode(StrEnum):
    """Why a row was left out."""

    USED_AS_EXAMPLE = "used_as_example"


@dataclass
class FewShot:
    """Takes a few rows as worked examples: every other row's prompt shows them, in the same order.

    The rows are taken out of the set. The others carry them in `meta["examples"]`, in the place of any that were there,
    and every dialect writes them as earlier turns of the chat, behind its own `examples`. All prompts then begin alike,
    and this part is encoded once.

    Taken are rows with an answer whose conversation is one question: short ones, with different numbers of calls (none,
    one, two, more) and of different categories (`meta["category"]`) as far as there are any; among these the seed
    chooses. A call is shown with the first accepted value of every argument. Where the recipe's dialect cannot write a
    row, it is not taken. At least one row is left. Put this behind the stages that check answers: a wrong example
    teaches its mistake.

    Examples show no thinking, so that a dialect with thinking shows empty thoughts.
    """

    examples: int = 3
    """How many rows; fewer if the set has not so many that are suited."""
    no_call_reply: str = "None of the functions can do this."
    """What an example says where no call should be made."""
    seed: int = 0
    """Chooses among the rows that are suited equally well."""

    reads: ClassVar[tuple[str, ...]] = ("dialect",)
    laws: ClassVar[dict[str, str]] = {"idempotent": "applied again, it takes further rows as examples"}
    _dialect: Dialect | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"examples must be at least 1, not {self.examples}")

    def prepare(self, context: StageContext) -> None:
        self._dialect = context.components.dialect

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        """Goes over the tasks twice."""
        chosen = self._choose(tasks)
        examples = list(chosen.values())
        for index, task in enumerate(tasks):
            if index in chosen:
                place = list(chosen).index(index) + 1
                message = f"worked example {place} of {len(chosen)} in the prompts of the other rows"
                yield Dropped(task, FewShotCode.USED_AS_EXAMPLE, message)
            elif examples:
                yield replace(task, meta={**task.meta, "examples": examples})
            else:
                yield task

    def _choose(self, tasks: Sequence[Task]) -> dict[int, JSON]:
        """The examples by the number of their row."""
        pools: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
        for index, task in enumerate(tasks):
            if self._example(task) is not None:
                pool = pools.setdefault(_kind(task), [])
                heapq.heappush(pool, (-_length(task), seeded_number(self.seed, task.id), -index))
                if len(pool) > SHORTEST:
                    heapq.heappop(pool)
        waiting = {-index: (kind, lot) for kind, pool in pools.items() for _, lot, index in pool}
        calls: Counter[int] = Counter()
        categories: Counter[str] = Counter()
        chosen: dict[int, JSON] = {}
        while waiting and len(chosen) < min(self.examples, len(tasks) - 1):
            index = min(waiting, key=lambda i: (calls[waiting[i][0][0]], categories[waiting[i][0][1]], waiting[i][1]))
            (count, category), _ = waiting.pop(index)
            example = self._example(tasks[index])
            if self._can_be_written(tasks[index], example):
                chosen[index] = example
                calls[count] += 1
                categories[category] += 1
        return chosen

    def _can_be_written(self, task: Task, example: JSON) -> bool:
        if self._dialect is None:
            return True
        try:
            self._dialect.prompt(replace(task, meta={"examples": [example]}))
        except CallwrightError:
            return False
        return True

    def _example(self, task: Task) -> JSON:
        """The task as a worked example; None for one that is not suited."""
        if not all(isinstance(message, Mapping) for message in task.messages):
            return None
        spoken = [message for message in task.messages if message.get("role") != "system"]
        if task.answer is None or len(spoken) != 1 or spoken[0].get("role") != "user":
            return None
        question = spoken[0].get("content")
        if not isinstance(question, str) or not question.strip():
            return None
        example: dict[str, JSON] = {"question": question, "tools": [tool.to_json() for tool in task.tools]}
        if task.answer.no_call:
            return {**example, "reply": self.no_call_reply}
        offered = {tool.name for tool in task.tools}
        try:
            calls = [{"name": call.name, "arguments": _arguments(call)} for call in task.answer.calls]
        except _NoValue:
            return None
        return {**example, "calls": calls} if all(call["name"] in offered for call in calls) else None


def _kind(task: Task) -> tuple[int, str]:
    """Number of calls, at most `MANY`, and category."""
    return min(len(task.answer.calls) if task.answer else 0, MANY), json.dumps(task.meta.get("category"), default=repr)


def _length(task: Task) -> int:
    """Characters of what an example shows."""
    return len(repr([task.messages, task.tools, task.answer]))


class _NoValue(Exception):
    """An answer that accepts no value, or is in no form that is known."""


def _arguments(call: ExpectedCall) -> dict[str, JSON]:
    """The first accepted value of every argument that has one."""
    if not isinstance(call.arguments, Mapping):
        raise _NoValue
    values = {name: _first(allowed) for name, allowed in call.arguments.items()}
    return {name: value for name, value in values.items() if value is not LEFT_OUT}


def _first(allowed: JSON) -> JSON:
    found = next(choices(allowed), None) if isinstance(allowed, list | tuple) else None
    if found is None:  # null too: some formats cannot write it
        raise _NoValue
    return found
