"""A source and stages for test_pipeline.py, which loads this file as a recipe's `./file.py:attr` does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from callwright import Corrected, Dropped, RowError, StageContext, Task


def task(name: str, **meta: Any) -> Task:
    return Task(name, ({"role": "user", "content": name},), meta=meta)


CALLS: list[str] = []
"""What ran, in order: emptied by a fixture."""


@dataclass
class Numbers:
    """Rows `0` to `rows - 1`; those in `unreadable` cannot be read."""

    rows: int = 10
    unreadable: tuple[int, ...] = ()
    repeat: bool = False
    printed: str | None = "same"
    """What the fingerprint says."""

    licence: ClassVar[str] = "CC0"

    def __post_init__(self) -> None:
        if self.printed is not None:
            self.fingerprint = lambda: f"{self.printed} {self.rows}"

    def load(self) -> Iterator[Task | RowError]:
        CALLS.append("load")
        for number in range(self.rows):
            if number in self.unreadable:
                yield RowError("numbers", number + 1, "tools", "is no list")
            else:
                yield task("0" if self.repeat else str(number))


@dataclass
class Sieve:
    """Drops multiples of `by`, marks the ones after them."""

    by: int = 3
    row_by_row: ClassVar[bool] = True

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped | Corrected]:
        CALLS.append(f"sieve {self.by}")
        for one in tasks:
            rest = int(one.id) % self.by
            if rest == 0:
                yield Dropped(one, "multiple", f"of {self.by}")
            elif rest == 1:
                yield Corrected(replace(one, meta={**one.meta, f"after_{self.by}": True}), "next", "marked")
            else:
                yield one


@dataclass
class Asks:
    """Asks a model, as far as the pipeline can tell."""

    fail_after: int | None = None
    costly: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("dialect",)

    def prepare(self, context: StageContext) -> None:
        self.context = context

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        CALLS.append("asks")
        for number, one in enumerate(tasks):
            if number == self.fail_after:
                raise RuntimeError("no connection")
            yield one

    def estimate(self, tasks: Sequence[Task]) -> str:
        return f"{len(tasks)} questions"


@dataclass
class Broken:
    how: str = "loses"

    def apply(self, tasks: Sequence[Task]) -> Iterable[Any]:
        first, *rest = tasks
        match self.how:
            case "loses":
                return rest
            case "adds":
                return [first, *rest, task("new")]
            case "reverses":
                return [*rest, first]
            case "text":
                return ["a", *rest]
        raise ZeroDivisionError("oh")


@dataclass
class Sleeps:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task]:
        for number, one in enumerate(tasks):
            if number == 3:
                (Path(os.environ["CALLWRIGHT_CACHE"]) / "asleep").touch()
                time.sleep(float(os.environ["SLEEP"]))
            yield one
