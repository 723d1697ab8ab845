"""What a reward prepares once per task: keys, validators."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from callwright import Task

Prepared = TypeVar("Prepared")


class PerTask(Generic[Prepared]):
    """`prepare(task)`, kept for the tasks seen last. Pickled without what it keeps.

    A task is told from another by being the same object: ids of two sources may coincide.
    """

    def __init__(self, prepare: Callable[[Task], Prepared], keep: int = 4096) -> None:
        self.prepare, self.keep = prepare, keep
        self.kept: OrderedDict[int, tuple[Task, Prepared]] = OrderedDict()

    def __call__(self, task: Task) -> Prepared:
        found = self.kept.get(id(task))
        if found is not None:  # the task is kept too, so no other object can have its id
            self.kept.move_to_end(id(task))
            return found[1]
        prepared = self.prepare(task)
        self.kept[id(task)] = task, prepared
        if len(self.kept) > self.keep:
            self.kept.popitem(last=False)
        return prepared

    def __reduce__(self) -> tuple[type[PerTask[Prepared]], tuple[Callable[[Task], Prepared], int]]:
        return type(self), (self.prepare, self.keep)
