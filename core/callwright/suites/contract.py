"""What a suite is: a plugin of the entry-point group `callwright.suites`. Importing this module does not import torch.

A suite knows a benchmark's questions, where and in which form its own tools want the answers, what each answer is
worth, and which numbers are made of that. The core asks the questions, keeps the answers, counts and draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from callwright.types import JSON, Dialect, Task


@dataclass(frozen=True, slots=True)
class Judged:
    """What one answer is worth."""

    correct: bool | None
    """None where it cannot be judged here."""
    reason: str
    """"correct", or a code of the suite's that says what is wrong."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Category:
    """A category of a suite, counted."""

    name: str
    rows: int
    """Rows that the benchmark has."""
    asked: int
    """Rows that were asked in this evaluation; only these count."""
    judged: int
    correct: int
    unanswered: int
    """Rows to which the model can give no reply. The suite says what they count as."""
    why_not: str = ""
    """Why rows that were asked are not judged; empty if all are."""

    @property
    def accuracy(self) -> float | None:
        """In [0, 1], over all rows that were asked; None if one of them is not judged, or none was asked."""
        return self.correct / self.asked if self.asked and self.judged == self.asked else None


@dataclass(frozen=True, slots=True)
class Score:
    """A number that is made of categories."""

    by: str
    """Whose definition it is: numbers of different ones do not compare."""
    name: str
    value: float | None
    """In [0, `of`]; None if it is not defined here."""
    contains: str
    """The categories and their weights, in words."""
    why_not: str = ""
    """Why there is no value."""
    of: float = 1.0
    """The value of a model that gets everything right. Below 1 it is a share of a number that has other parts too."""


@runtime_checkable
class Suite(Protocol):
    """A benchmark. Its rows' `meta["category"]` is one of `categories`."""

    @property
    def categories(self) -> Sequence[str]:
        """All, in the order in which they are shown."""
        ...

    @property
    def dialect(self) -> Dialect:
        """The benchmark's own prompts and output format, for models that were not trained on another one."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Longest completion, in tokens, where neither the command nor a recipe says."""
        ...

    def fingerprint(self) -> str:
        """A text that differs whenever `load` would give other tasks."""
        ...

    def load(self, categories: Sequence[str]) -> Sequence[Task]:
        """All rows of these categories, in order. Raises CallwrightError where they are not installed."""
        ...

    def file(self, category: str, model: str) -> Path:
        """Where the benchmark's own tools look for a model's answers, relative to their folder. `model` is its name in
        a file system. The file holds JSON lines with `id` and `result`."""
        ...

    def result(self, task: Task, reply: str, dialect: Dialect) -> JSON:
        """A reply as the benchmark's own tools read it. `dialect` is the one that it was asked in."""
        ...

    def without_reply(self, reason: str) -> JSON:
        """The `result` of a row to which there is no reply."""
        ...

    def judge(self, task: Task, result: JSON) -> Judged:
        """What a result is worth. Total over anything that a result may be."""
        ...

    def scores(self, counted: Mapping[str, Category]) -> Sequence[Score]:
        """The benchmark's numbers; `counted` has the categories that were asked."""
        ...
