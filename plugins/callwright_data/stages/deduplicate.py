"""Rows that say again what an earlier row said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from callwright import Dropped, Task

from callwright_data.stages import _near_duplicates as near
from callwright_data.stages._row_keys import exact_key, question, tool_set, words


class DuplicateCode(StrEnum):
    """Why `deduplicate` drops a row."""

    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"


@dataclass
class Deduplicate:
    """Drops rows that repeat an earlier row, exactly or nearly; the first one stays.

    Exact: the same tools, the same answer, and the same words in the question, whatever their case and punctuation.
    Near: the questions share so many n-grams that MinHash estimates their Jaccard similarity at the threshold or above;
    the answers may differ, as they do when a template was filled in twice. The estimate has a standard error of
    sqrt(J (1 - J) / permutations), 0.035 by default at the threshold; besides, at most 1 % of the pairs at the
    threshold are never compared, and fewer above it. Questions without a word have no near-duplicates.
    """

    threshold: float | None = 0.8
    """Jaccard similarity, above 0, at most 1, from which on a question is a near-duplicate. null looks for exact
    repetitions only, and is much faster."""
    ngram: int = 3
    """Words of the n-grams that are compared. One changed word changes up to this many of them."""
    within: Literal["tools", "anywhere"] = "tools"
    """Compare only questions about the same tools (their names and those of their parameters), or all."""
    permutations: int = 128
    """Values in a MinHash signature, 16 to 1024: more are slower, take more memory (4 bytes a row) and err less."""
    seed: int = 0
    """Of MinHash."""

    def __post_init__(self) -> None:
        near.check_options(self.threshold, self.ngram, self.permutations, self.seed)

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        """Kept as they are, or dropped with a `DuplicateCode`. Goes over the tasks twice unless `threshold` is null."""
        earlier = None
        if self.threshold is not None:
            hashes = (self._shingles(task) for task in tasks)
            earlier = near.EarlierRows(hashes, len(tasks), self.threshold, self.permutations, self.seed)
        kept: dict[bytes, int] = {}
        ids: list[str] = []
        for row, task in enumerate(tasks):
            ids.append(task.id)
            key = exact_key(task)
            if key in kept:
                why = f"same question, tools and answer as row '{ids[kept[key]]}'"
                yield Dropped(task, DuplicateCode.EXACT_DUPLICATE, why)
            elif earlier is not None and (repeated := earlier.repeated_by(row)) is not None:
                why = f"its question repeats that of row '{ids[repeated[0]]}' (estimated Jaccard {repeated[1]:.2f})"
                yield Dropped(task, DuplicateCode.NEAR_DUPLICATE, why)
            else:
                kept[key] = row
                if earlier is not None:
                    earlier.keep(row)
                yield task

    def _shingles(self, task: Task) -> set[int]:
        scope = tool_set(task) if self.within == "tools" else ""
        return near.shingles(words(question(task)), self.ngram, scope)
