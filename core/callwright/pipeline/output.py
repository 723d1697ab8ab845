"""What `callwright data` writes: the prepared rows, the rows that were left out or mended, report and data card."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from callwright.data import PARTS, part_of
from callwright.files import replacing
from callwright.pipeline.prepared import CHANGES, Prepared
from callwright.pipeline.rows import CHUNK, SCHEMA, texts
from callwright.recipe import Recipe
from callwright.types import CallwrightError

DROPPED_FILE = "dropped.parquet"


def write_prepared(prepared: Prepared, recipe: Recipe, folder: Path) -> list[Path]:
    """Write all files of a prepared set into `folder`, and give their paths. Each appears whole or not at all.

    The rows go to `train.parquet`, and those that say another part of themselves in `meta.split` to a file of its
    name; the source `prepared` and the library `datasets` read them.

    Raises CallwrightError if the folder cannot be written.
    """
    from callwright.pipeline.report import write_reports

    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        written = [*_write_rows(prepared, folder), folder / DROPPED_FILE]
        with replacing(folder / DROPPED_FILE) as path, pq.ParquetWriter(path, CHANGES) as writer:
            for step in prepared.steps:
                for batch in step.change_batches():
                    writer.write_batch(batch)
        write_reports(prepared, recipe, folder)
    return [*written, folder / "data-report.html", folder / "README.md"]


def _write_rows(prepared: Prepared, folder: Path) -> list[Path]:
    """One pass over the rows; files of parts that are no more are deleted, as they would be read with the others."""
    with ExitStack() as files:
        writers: dict[str, pq.ParquetWriter] = {}

        def writer_of(part: str) -> pq.ParquetWriter:
            if part not in writers:
                path = files.enter_context(replacing(folder / f"{part}.parquet"))
                writers[part] = files.enter_context(pq.ParquetWriter(path, SCHEMA))
            return writers[part]

        writer_of("train")
        for start in range(0, len(prepared.rows), CHUNK):
            table = prepared.rows.table(start, start + CHUNK)
            said = [part_of(row["meta"]) or "train" for row in texts(table.select(["meta"]))]
            for part in sorted(set(said)):
                writer_of(part).write_table(table.filter(pa.array([one == part for one in said])))
    for part in PARTS:
        if part not in writers:
            (folder / f"{part}.parquet").unlink(missing_ok=True)
    return [folder / f"{part}.parquet" for part in PARTS if part in writers]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        text = f"cannot write to {folder}: {reason}; free some space, or name another folder with --out"
        raise CallwrightError(f"{text}. What was prepared is kept, and the next run goes on from it") from error
