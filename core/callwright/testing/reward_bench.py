"""What the laws of a reward work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hypothesis.strategies import SearchStrategy

from callwright.testing.laws import Bench
from callwright.testing.scoring import Judge, RewardFailed, rollouts_of
from callwright.types import Dialect, Rollouts, Task, Verdict

Scores = list[float | None]
TOLERANCE = 1e-6
"""Differences of scores up to this are rounding."""


@dataclass(frozen=True)
class RewardBench(Bench[Any]):
    """A reward, the dialect in which completions are written, its range, and the tasks to judge."""

    @property
    def dialect(self) -> Dialect:
        return self.more["dialect"]

    @property
    def range(self) -> tuple[float, float]:
        return self.more["range"]

    @property
    def fixed(self) -> list[Task]:
        return self.more["fixed"]

    @property
    def drawn(self) -> SearchStrategy[Task]:
        return self.more["tasks"]

    @cached_property
    def judge(self) -> Judge:
        return Judge(self.subject)

    def judged(self, task: Task, texts: Sequence[str]) -> list[Verdict]:
        return self.judged_rollouts(rollouts_of(self.dialect, task, texts), task)

    def judged_rollouts(self, rollouts: Rollouts, task: Task) -> list[Verdict]:
        """Verdicts; an exception breaks whichever law meets it."""
        try:
            return self.judge(rollouts)
        except RewardFailed as error:
            texts = self._smallest(task, rollouts.texts)
            self.refuse(f"the reward failed: {str(error).strip().splitlines()[-1]}", task, texts, "")
            raise

    def _smallest(self, task: Task, texts: Sequence[str]) -> list[str]:
        """One of the texts for which the reward fails by itself, or all of them."""
        for text in texts:
            try:
                self.judge(rollouts_of(self.dialect, task, [text]))
            except RewardFailed:
                return [text]
        return list(texts)

    def scores(self, task: Task, texts: Sequence[str]) -> Scores:
        return [None if v.score is None else float(v.score) for v in self.judged(task, texts)]

    def refuse(self, message: str, task: Task, texts: Sequence[str], assertion: str) -> Any:
        """Report these texts of a task; `assertion` is about `scores`, and empty if scoring alone must succeed."""
        body = f"""
            task = {task!r}
            texts = [
                {("," + chr(10) + " " * 16).join(map(repr, texts))},
            ]
            scores = scores_of({self.source}, {self.more["dialect_source"]}, task, texts)
            {assertion or "assert len(scores) == len(texts)"}
            """
        self.broken(message, body)

    def for_all(self, test: Callable[[Task], None]) -> None:
        self.search(self.drawn, test, self.fixed)


def regression_imports() -> tuple[str, ...]:
    return (
        "from callwright import Answer, ExpectedCall, Task, Tool",
        "from callwright.testing import scores_of",
    )
