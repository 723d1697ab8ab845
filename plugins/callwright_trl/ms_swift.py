"""Reward `ms_swift`: an `ORM` or `AsyncORM` of ms-swift."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from callwright import Rollouts, Verdict, hookimpl

from callwright_trl.rows import columns, load, state, verdicts


@dataclass
class SwiftOrm:
    """An ORM of ms-swift: a class built with `args=`, called with the completions and the columns as lists.

    `__call__(completions, **columns)`; the columns are what the task's `meta` holds, `id`, `messages`, `tools` and
    `answer` as JSON, and `trainer_state`. It returns a list of numbers; None and NaN abstain. A function will do too.
    """

    function: str
    """`package.module:Class` or `./file.py:Class`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Attributes of `args`, which the class is built with."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns under the names that the ORM asks for, such as {solution: answer}."""

    def __post_init__(self) -> None:
        loaded = load(self.function)
        self._orm = _built(loaded, SimpleNamespace(**self.arguments)) if inspect.isclass(loaded) else loaded
        self.display_name: str = getattr(loaded, "__name__", type(loaded).__name__)
        call = self._orm if inspect.isfunction(self._orm) else type(self._orm).__call__
        self.asynchronous = inspect.iscoroutinefunction(call)

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict] | Awaitable[list[Verdict]]:
        """The ORM's scores as verdicts. A wrong length raises, which fails the rows."""
        given = columns(rollouts.tasks, self.columns)
        given["messages"] = [list(task.messages) for task in rollouts.tasks]
        answer = self._orm(list(rollouts.texts), **given, trainer_state=state(rollouts, 0))
        if inspect.isawaitable(answer):
            return self._later(answer, len(rollouts))
        return verdicts(answer, len(rollouts), self.function, [()] * len(rollouts))

    async def _later(self, answer: Awaitable[Any], rows: int) -> list[Verdict]:
        return verdicts(await answer, rows, self.function, [()] * rows)


def _built(cls: Any, args: Any) -> Any:
    """ms-swift 4 builds an ORM with `args=`; older ones take nothing."""
    try:
        inspect.signature(cls).bind(args=args)
    except TypeError:
        return cls()
    return cls(args=args)
