"""Which rows are trained on, and which are kept out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from callwright import Task

from callwright_data.stages._row_keys import normalised, question, tool_set
from callwright_data.stages._seeded_choice import seeded_number


@dataclass
class Split:
    """Writes `meta["split"]`: "train", "validation" or "held_out".

    A row's part depends on what `by` names, the seed and the shares, on no other row: rows that are added later change
    no other row's part, and so the parts have their shares only on average. For n groups of equal size, the standard
    deviation of a part of share p is sqrt(p (1 - p) / n).
    """

    held_out: float = 0.1
    """Share of the rows that only the table at the end is made of, 0 to 1."""
    validation: float = 0.0
    """Share of the rows that settings are chosen on, 0 to 1; both together less than 1."""
    by: Literal["id", "question", "tools"] = "id"
    """Rows that have this in common are in the same part: the id, the words of the question, or the names of all tools
    and their parameters. With `tools`, no tool set of the held-out rows was trained on."""
    seed: int = 0
    """Chooses the rows."""
    row_by_row: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("held_out", self.held_out), ("validation", self.validation)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} should be at least 0 and less than 1, but is {value}")
        if self.held_out + self.validation >= 1:
            raise ValueError("held_out and validation together should be less than 1, to leave rows to train on")

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Every task, with its part in `meta`."""
        for task in tasks:
            part = self._part(task)
            if task.meta.get("split") == part:
                yield task
            else:
                yield dataclasses.replace(task, meta={**task.meta, "split": part})

    def _part(self, task: Task) -> str:
        place = seeded_number(self.seed, self._common(task)) / 2**64
        if place < self.held_out:
            return "held_out"
        return "validation" if place < self.held_out + self.validation else "train"

    def _common(self, task: Task) -> str:
        if self.by == "id":
            return task.id
        return normalised(question(task)) if self.by == "question" else tool_set(task)
