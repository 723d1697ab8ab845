"""No class of rows crowds out the others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from callwright import Dropped, Task

from callwright_data.stages._seeded_choice import lowest_per_class, seeded_number

OVER_REPRESENTED = "over_represented"


@dataclass
class Balance:
    """Every class of rows is cut to `most` rows, or to `ratio` times the smallest class.

    Which rows of a class are kept, a hash of their ids and the seed decides. The order of the rows stays.
    """

    by: Literal["category", "calls", "tools"] = "category"
    """What makes a class: a value in `meta`, the number of calls in the answer, or the number of tools on offer. Rows
    without that value, or without a known answer, are a class too."""
    key: str = "category"
    """For `by: category`: which value of `meta`."""
    most: int | None = None
    """Rows of each class, at least 1. Give either this or `ratio`."""
    ratio: float | None = None
    """Rows of each class, as a multiple of the smallest one's, at least 1."""
    seed: int = 0
    """Chooses the rows."""

    def __post_init__(self) -> None:
        if (self.most is None) == (self.ratio is None):
            raise ValueError("give either `most`, the rows of a class, or `ratio`, a multiple of the smallest class")
        for name, value in (("most", self.most), ("ratio", self.ratio)):
            if value is not None and not value >= 1:
                raise ValueError(f"{name} should be at least 1, but is {value}")

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        """Kept as they are, or dropped with the code `over_represented`. Goes over the tasks twice."""
        # Where it is needed: a recipe may name the plugin without running it.
        import numpy as np

        names: dict[str, int] = {}
        pairs = ((seeded_number(self.seed, t.id), names.setdefault(self._class(t), len(names))) for t in tasks)
        table = np.fromiter(pairs, [("number", np.uint64), ("class", np.int64)])
        numbers, classes = table["number"], table["class"]
        sizes = np.bincount(classes)
        # Never more than all rows, which also keeps an infinite ratio out of the arithmetic.
        most = self.most if self.ratio is None else int(min(self.ratio * sizes.min(initial=len(table)), len(table)))
        assert most is not None
        chosen, labels = lowest_per_class(numbers, classes, most), list(names)
        for task, kept, which in zip(tasks, chosen, classes, strict=True):
            why = f"{labels[which]}: {sizes[which]} rows, of which {most} are kept"
            yield task if kept else Dropped(task, OVER_REPRESENTED, why)

    def _class(self, task: Task) -> str:
        if self.by == "tools":
            return f"number of tools {len(task.tools)}"
        if self.by == "calls":
            return f"number of calls {'unknown' if task.answer is None else len(task.answer.calls)}"
        value = task.meta.get(self.key)
        try:
            text = json.dumps(value, sort_keys=True, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            text = "that is no JSON"
        return f"{self.key} {text}".encode(errors="backslashreplace").decode()
