"""At most so many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from callwright import Dropped, Task

from callwright_data.stages._seeded_choice import lowest_per_class, seeded_number

OVER_LIMIT = "over_limit"


@dataclass
class Limit:
    """At most `rows` rows: the first ones, or, with a seed, a sample.

    A row's place in the sample is a hash of its id: rows that are added later may take the place of rows of the sample,
    but never make another row enter it. The order of the rows stays.
    """

    rows: int
    """How many are kept, at least 1."""
    seed: int | None = None
    """Of the sample; without it the first rows are kept."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows should be at least 1, but is {self.rows}")

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        """Kept as they are, or dropped with the code `over_limit`. With a seed, goes over the tasks twice."""
        if self.seed is None:
            for row, task in enumerate(tasks):
                yield task if row < self.rows else Dropped(task, OVER_LIMIT, f"is not among the first {self.rows} rows")
            return
        # Where it is needed: a recipe may name the plugin without running it.
        import numpy as np

        numbers = np.fromiter((seeded_number(self.seed, task.id) for task in tasks), np.uint64)
        chosen = lowest_per_class(numbers, np.zeros(len(numbers), np.int64), self.rows)
        why = f"is not in the sample of {self.rows} of {len(numbers)} rows (seed {self.seed})"
        for task, kept in zip(tasks, chosen, strict=True):
            yield task if kept else Dropped(task, OVER_LIMIT, why)
