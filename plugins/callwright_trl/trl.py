"""Reward `trl`: any reward function of TRL 1.16."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from callwright import Reason, Rollouts, Verdict, hookimpl

from callwright_trl.rows import RESERVED, columns, load, question, state, verdicts


@dataclass
class TrlFunction:
    """A reward function as TRL's `GRPOTrainer(reward_funcs=...)` takes it.

    It is called as TRL calls it, everything by keyword: `prompts`, `completions`, `completion_ids`, `trainer_state`
    (`global_step`, `max_steps`, `epoch`), `log_extra`, `log_metric`, and a list per column: what the task's `meta`
    holds, `id`, and `tools` and `answer` as JSON. None and NaN abstain. What it gives to `log_extra` becomes the row's
    reasons, and `log_metric` the run's metrics. Functions may be asynchronous, and so may `__call__` of an object.

    Its name is TRL's: `__name__`, without it the class's, and `functools.partial` is looked through.
    """

    function: str
    """`package.module:name` or `./file.py:name`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """More keyword arguments, the same in every call."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns under the names that the function asks for, such as {solution: answer}."""
    format: Literal["conversational", "standard"] = "conversational"
    """Prompts and completions as lists of messages, or as texts."""

    def __post_init__(self) -> None:
        loaded: Any = load(self.function)
        self._function: Any = loaded() if inspect.isclass(loaded) else loaded
        if not callable(self._function):
            raise ValueError(f"{self.function} cannot be called")
        if hidden := sorted(RESERVED.intersection(self.columns)):
            raise ValueError(f"columns.{hidden[0]} is the name of an argument of TRL's; choose another")
        inner: Any = self._function
        while isinstance(inner, functools.partial):
            inner = inner.func
        self.display_name: str = getattr(inner, "__name__", type(inner).__name__)
        self.asynchronous: bool = inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
            getattr(inner, "__call__", None)  # noqa: B004 # TRL's rule: an object whose __call__ is async
        )
        self._steps = 0
        self._metrics: dict[str, list[float]] = {}

    @hookimpl
    def sampling(self, steps: int) -> None:
        """Only to learn how many steps the run has."""
        self._steps = steps

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict] | Awaitable[list[Verdict]]:
        """The function's scores as verdicts. A wrong length raises, which fails the rows."""
        extra: dict[str, list[Any]] = {}
        answer = self._function(**self._call(rollouts, extra))
        if inspect.isawaitable(answer):
            return self._later(answer, rollouts, extra)
        return self._verdicts(answer, rollouts, extra)

    async def _later(self, answer: Awaitable[Any], rollouts: Rollouts, extra: dict[str, list[Any]]) -> list[Verdict]:
        return self._verdicts(await answer, rollouts, extra)

    def take_metrics(self) -> dict[str, float]:
        """What the function gave to `log_metric` since the last call, averaged as TRL does."""
        taken, self._metrics = self._metrics, {}
        return {name: sum(values) / len(values) for name, values in taken.items()}

    def _call(self, rollouts: Rollouts, extra: dict[str, list[Any]]) -> dict[str, Any]:
        def log_extra(column: str, values: Sequence[Any]) -> None:
            extra.setdefault(column, []).extend(values)

        def log_metric(name: str, value: float) -> None:
            self._metrics.setdefault(name, []).append(float(value))

        prompts: list[Any] = [list(task.messages) for task in rollouts.tasks]
        completions: list[Any] = [[{"role": "assistant", "content": text}] for text in rollouts.texts]
        if self.format == "standard":
            prompts, completions = [question(task) for task in rollouts.tasks], list(rollouts.texts)
        return {
            **columns(rollouts.tasks, self.columns),
            **self.arguments,
            "prompts": prompts,
            "completions": completions,
            "completion_ids": _tokens(rollouts),
            "trainer_state": state(rollouts, self._steps),
            "log_extra": log_extra,
            "log_metric": log_metric,
        }

    def _verdicts(self, scores: Any, rollouts: Rollouts, extra: dict[str, list[Any]]) -> list[Verdict]:
        rows = len(rollouts)
        for column, values in extra.items():
            if len(values) != rows:
                raise ValueError(f"{self.function} gave log_extra('{column}') {len(values)} values for {rows} rows")
        reasons = [tuple(Reason(name, str(values[row])) for name, values in extra.items()) for row in range(rows)]
        return verdicts(scores, rows, self.function, reasons)


def _tokens(rollouts: Rollouts) -> list[list[int]] | None:
    """Without padding; None for completions that came without tokens."""
    from callwright.light import LightRollouts

    if isinstance(rollouts, LightRollouts) and not {"completion_ids", "mask"} <= rollouts.arrays.keys():
        return None
    ids, lengths = rollouts.completion_ids.tolist(), rollouts.lengths.tolist()
    return [row[:length] for row, length in zip(ids, lengths, strict=True)]
