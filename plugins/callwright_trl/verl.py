"""Reward `verl`: a `compute_score` of verl."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from callwright import Reason, Rollouts, Task, Verdict, hookimpl
from callwright.plugins import summary

from callwright_trl.rows import columns, load, verdict


@dataclass
class VerlFunction:
    """verl's `compute_score(data_source, solution_str, ground_truth, extra_info=None, **arguments)`.

    Called once per completion. It returns a number, or a dict with `score`, whose other entries become the row's
    reasons. An exception fails the row that it was raised for, and no other.
    """

    function: str
    """`package.module:name` or `./file.py:name`."""
    ground_truth: str = "answer"
    """The column that is the ground truth: `answer` (the expected calls as JSON), or a key of the task's `meta`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """verl's `reward_kwargs`: more keyword arguments, the same in every call."""

    def __post_init__(self) -> None:
        self._function = load(self.function)
        self.display_name: str = getattr(self._function, "__name__", type(self._function).__name__)
        self.asynchronous = inspect.iscoroutinefunction(self._function)

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict] | Awaitable[list[Verdict]]:
        """One verdict per completion; with an `async def` all completions are waited for together."""
        truths = columns(rollouts.tasks, {"ground_truth": self.ground_truth})["ground_truth"]
        rows = list(zip(rollouts.tasks, rollouts.texts, truths, strict=True))
        if self.asynchronous:
            return self._together(rows)
        return [self._one(*row) for row in rows]

    async def _together(self, rows: list[tuple[Task, str, Any]]) -> list[Verdict]:
        return list(await asyncio.gather(*(self._later(*row) for row in rows)))

    async def _later(self, task: Task, text: str, truth: Any) -> Verdict:
        try:
            return _verdict(await self._call(task, text, truth))
        except Exception as error:
            return Verdict.failed(summary(error))

    def _one(self, task: Task, text: str, truth: Any) -> Verdict:
        try:
            return _verdict(self._call(task, text, truth))
        except Exception as error:
            return Verdict.failed(summary(error))

    def _call(self, task: Task, text: str, truth: Any) -> Any:
        return self._function(
            data_source=task.meta.get("data_source", ""),
            solution_str=text,
            ground_truth=truth,
            extra_info=dict(task.meta),
            **self.arguments,
        )


def _verdict(result: Any) -> Verdict:
    if not isinstance(result, Mapping):
        return verdict(result)
    if "score" not in result:
        raise KeyError(f"the dict should hold 'score', but holds {', '.join(map(str, result))}")
    reasons = tuple(Reason(str(name), str(value)) for name, value in result.items() if name != "score")
    return verdict(result["score"], reasons)
