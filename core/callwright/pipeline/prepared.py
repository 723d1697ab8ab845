"""What data preparation gives: the rows that are left, and what became of the others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from callwright.pipeline.rows import Rows

DROPPED, CORRECTED, UNREADABLE = "dropped", "corrected", "unreadable"
"""What can become of a row that a step does not keep as it is."""
CHANGES = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.large_string()),
        ("stage", pa.large_string()),
        ("outcome", pa.large_string()),
        ("code", pa.large_string()),
        ("explanation", pa.large_string()),
        ("before", pa.large_string()),
        ("after", pa.large_string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Change:
    """A row that a step dropped, corrected, or could not read."""

    row: int
    """Its number in what the source gave, from 1."""
    id: str | None
    """None for a row that could not be read."""
    stage: str
    """The step's name in the recipe, such as `ast_validate`; `source` for rows that could not be read."""
    outcome: str
    code: str
    explanation: str
    before: Mapping[str, Any] | None
    """The row as the step found it: `id`, `messages`, `tools`, `answer`, `meta` as JSON values. None if unreadable."""
    after: Mapping[str, Any] | None
    """The same as the step left it, if it was corrected."""


@dataclass(frozen=True, slots=True)
class Step:
    """The source, or one stage, and how many rows went through it."""

    name: str
    """The name in the recipe; that of the source is `source`."""
    use: str
    """What the recipe names."""
    options: Mapping[str, Any]
    origin: str
    """Distribution and version, or the file, that the plugin is from."""
    key: str
    """SHA-256, in hexadecimal, of all that its result depends on."""
    rows_in: int
    """For the source, with the rows that it could not read."""
    rows_out: int
    counts: Mapping[str, Mapping[str, int]]
    """By outcome and code, how many rows."""
    seconds: float
    """That it took when it ran."""
    cached: bool
    """Whether an earlier run's result was taken."""
    changes: Path
    """Parquet file of `CHANGES`."""

    def change_batches(self) -> Iterator[pa.RecordBatch]:
        """The file of changes, a piece at a time."""
        # pyarrow otherwise keeps what it has read ahead, in the end the whole file.
        yield from pq.ParquetFile(self.changes, pre_buffer=False).iter_batches(batch_size=1000)

    def read_changes(self) -> Iterator[Change]:
        """In the order of the rows, a piece of the file at a time."""
        for batch in self.change_batches():
            for values in batch.to_pylist():
                before, after = (None if values[n] is None else json.loads(values[n]) for n in ("before", "after"))
                yield Change(**{**values, "before": before, "after": after})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe's data, gone through all stages."""

    loaded: Rows
    """What the source gave."""
    rows: Rows
    """What is left after the last stage."""
    steps: tuple[Step, ...]
    """The source first, then the stages in the recipe's order."""
    licence: str | None
    """The terms of the source's rows, if it says so."""
    source_origin: str | None
    """Where the source's rows are from, if it says so."""
