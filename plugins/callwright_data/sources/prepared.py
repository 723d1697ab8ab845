"""Source `prepared`: what `callwright data` wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from callwright import CallwrightError, RowError, Task
from callwright.data import PARTS
from callwright.pipeline.rows import CHUNK, COLUMNS, from_row, texts


@dataclass
class Prepared:
    """The rows in a folder that `callwright data` wrote, or in one of its parquet files."""

    path: str
    """The folder or file, relative to the working directory."""

    origin: ClassVar[str] = "written by `callwright data`; its README.md says where the rows are from"

    def load(self) -> Iterator[Task | RowError]:
        """Rows to train on first, then those for validation, then held-out ones. Raises CallwrightError for a file that
        is missing or has other columns."""
        for path in self._files():
            yield from _tasks(path)

    def fingerprint(self) -> str:
        digests = []
        for path in self._files():
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return " ".join(digests)

    def _files(self) -> list[Path]:
        path = Path(self.path)
        files = [path / f"{part}.parquet" for part in PARTS] if path.is_dir() else [path]
        files = [file for file in files if file.is_file()]
        if not files:
            wanted = f"{path.absolute()} with train.parquet in it" if path.is_dir() else f"{path.absolute()}"
            raise CallwrightError(f"there is no {wanted}; `callwright data RECIPE --out {path}` writes it")
        return files


def _tasks(path: Path) -> Iterator[Task | RowError]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise CallwrightError(f"{path} is no parquet file: {error}") from error
    missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
    if missing:
        raise CallwrightError(
            f"{path} lacks the columns {', '.join(missing)}, which `callwright data` writes; the source `hub` reads "
            "other parquet files"
        )
    number = 0
    for batch in file.iter_batches(batch_size=CHUNK, columns=list(COLUMNS)):
        for row in texts(pa.Table.from_batches([batch])):
            number += 1
            try:
                yield from_row(row)
            except (ValueError, KeyError, TypeError) as error:
                yield RowError(str(path), number, "(whole row)", f"is not as `callwright data` writes it: {error}")
