"""One step of data preparation: a source or a stage over all rows, written to disk as it goes."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from callwright.pipeline.prepared import CHANGES, CORRECTED, DROPPED, UNREADABLE
from callwright.pipeline.rows import CHUNK, SCHEMA, Rows, texts, to_row
from callwright.plugins import build_component, find, summary
from callwright.types import CallwrightError, Corrected, Dropped, RowError, Source, Stage, Task

ROWS, CHANGED = "rows.arrow", "changes.parquet"
"""The files of a step: the rows that are left, and what became of the others."""
PIECES_AHEAD = 4
"""Pieces per process that are judged before they are wanted: more would only take memory."""

Progress = Callable[[int, int], None]
Texts = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Fate:
    """What a stage made of a row, as it crosses from a worker process."""

    outcome: str | None
    """None: kept, and nothing to report."""
    row: Texts | None = None
    """The columns that change."""
    code: str = ""
    explanation: str = ""


KEPT = Fate(None)


@dataclass
class Written:
    """Counts of a step, as `prepared.Step` has them."""

    rows_in: int = 0
    rows_out: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, outcome: str, code: str) -> None:
        self.counts.setdefault(outcome, Counter())[code] += 1


class StepWriter:
    """Writes what a step gives into a folder, a piece at a time."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.written = Written()
        self._stage = stage
        self._rows: list[Mapping[str, Any]] = []
        self._changes: list[Mapping[str, Any]] = []
        self._open = ExitStack()
        try:
            rows_file = self._open.enter_context(pa.OSFile(str(folder / ROWS), "wb"))
            self._row_writer = self._open.enter_context(pa.ipc.new_stream(rows_file, SCHEMA))
            # The file is opened here: closing a writer of a path that cannot be written would raise anew.
            changes_file = self._open.enter_context(pa.OSFile(str(folder / CHANGED), "wb"))
            self._change_writer = self._open.enter_context(pq.ParquetWriter(changes_file, CHANGES))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> StepWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self._write_pieces(0)
        try:
            self._open.close()
        except OSError:
            if error is None:  # a full disk has been told of already
                raise

    def keep(self, row: Mapping[str, Any]) -> None:
        self.written.rows_out += 1
        self._rows.append(row)
        self._write_pieces(CHUNK)

    def keep_table(self, table: pa.Table) -> None:
        """Rows that stay as they are."""
        self._write_pieces(0)
        self.written.rows_out += table.num_rows
        self._row_writer.write_table(table)

    def change(self, fate: Fate, number: int, row_id: str | None, before: str | None, after: str | None) -> None:
        assert fate.outcome is not None
        self.written.count(fate.outcome, fate.code)
        values = (number, row_id, self._stage, fate.outcome, fate.code, unicode(fate.explanation), before, after)
        self._changes.append(dict(zip(CHANGES.names, values, strict=True)))
        self._write_pieces(CHUNK)

    def _write_pieces(self, at_least: int) -> None:
        if self._rows and len(self._rows) >= at_least:
            self._row_writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
            self._rows = []
        if self._changes and len(self._changes) >= at_least:
            self._change_writer.write_table(pa.Table.from_pylist(self._changes, CHANGES))
            self._changes = []


def unicode(text: str) -> str:
    """`text` with lone surrogates, which no file of texts can hold, as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _as_json(row: Mapping[str, Any]) -> str:
    """A row's columns, which are JSON themselves, as one JSON object; nothing is read."""
    parts = (f'"{name}": {row[name] or "null"}' for name in ("messages", "tools", "answer", "meta"))
    return f'{{"id": {json.dumps(row["id"])}, {", ".join(parts)}}}'


# --------------------------------------------------------------------------------------------------- the source


def run_source(source: Source, writer: StepWriter, progress: Progress) -> list[RowError]:
    """Write all that the source gives. Returns the rows that could not be read."""
    errors = []
    for number, result in enumerate(source.load(), 1):
        writer.written.rows_in = number
        if isinstance(result, RowError):
            errors.append(result)
            # The code is to be counted: `calls`, and not `calls[3].arguments.x`.
            writer.change(
                Fate(UNREADABLE, code=unicode(re.split(r"[.\[]", result.field_name)[0]), explanation=str(result)),
                number,
                None,
                None,
                None,
            )
            continue
        try:
            writer.keep({**to_row(result), "row": number})
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            text = f"the source gave a row that is no task: {summary(error)}"
            raise CallwrightError(f"data.source: row {number}: {text}") from error
        if number % 100 == 0:
            progress(number, 0)
    return errors


# ----------------------------------------------------------------------------------------------------- a stage


@dataclass(frozen=True)
class Named:
    """Where a component is in the recipe, and how a worker process builds it again."""

    place: str
    """Such as `data.stages.0`."""
    use: str
    options: Mapping[str, Any]


def run_stage(stage: Stage, origin: Named, path: Path, writer: StepWriter, progress: Progress, processes: int) -> None:
    """Apply the stage to the rows of the file `path`, and write what is left.

    Raises CallwrightError if it raises, or breaks the rule of one result per row in their order.
    """
    rows = Rows.open(path)
    if processes > 1 and getattr(stage, "row_by_row", False) and not hasattr(stage, "prepare") and len(rows) > CHUNK:
        fates = _in_processes(origin, path, len(rows), processes)
    else:
        fates = judged(stage, rows, origin)
    for start in range(0, len(rows), CHUNK):
        table = rows.table(start, start + CHUNK)
        _write_piece(table, [next(fates) for _ in range(table.num_rows)], writer)
        progress(min(start + CHUNK, len(rows)), len(rows))
    if next(fates, None) is not None:
        raise _broken(origin, "gives more results than it got rows")
    writer.written.rows_in = len(rows)


def _write_piece(table: pa.Table, fates: Sequence[Fate], writer: StepWriter) -> None:
    if all(fate is KEPT or fate == KEPT for fate in fates):
        writer.keep_table(table)
        return
    for row, fate in zip(texts(table), fates, strict=True):
        new = row if fate.row is None else {**row, **fate.row}
        if fate.outcome != DROPPED:
            writer.keep(new)
        if fate.outcome is not None:
            after = _as_json(new) if fate.outcome == CORRECTED else None
            writer.change(fate, row["row"], row["id"], _as_json(row), after)


def judged(stage: Stage, rows: Rows, origin: Named) -> Iterator[Fate]:
    """What the stage makes of every row, in order."""
    handed = _Handed(rows)
    results: Iterable[Any] = ()
    index = -1
    try:
        results = stage.apply(handed)
        for index, result in enumerate(results):
            if index >= len(rows):
                raise _broken(origin, "gives more results than it got rows")
            yield _fate(result, handed, index, origin)
    except (CallwrightError, OSError):
        raise
    except Exception as error:
        raise _broken(origin, f"raised {summary(error)} after {index + 1} of {len(rows)} rows") from error
    if index + 1 < len(rows):
        raise _broken(origin, f"gives {index + 1} results for {len(rows)} rows")


def _fate(result: object, handed: _Handed, index: int, origin: Named) -> Fate:
    if handed.gave(index) is result:
        return KEPT
    task = result.task if isinstance(result, Dropped | Corrected) else result
    if not isinstance(task, Task):
        raise _broken(origin, f"gives a {type(result).__name__} for a row, and not a Task, Dropped or Corrected")
    wanted = handed.row_id(index)
    if unicode(task.id) != wanted:
        raise _broken(origin, f"gives '{task.id}' where the row '{wanted}' was due: one result per row, in their order")
    if isinstance(result, Dropped):
        return Fate(DROPPED, None, unicode(result.code), result.message)
    new = to_row(task, handed.gave(index))
    if isinstance(result, Corrected):
        return Fate(CORRECTED, new, unicode(result.code), result.message)
    return Fate(None, new)


def _broken(origin: Named, what: str) -> CallwrightError:
    return CallwrightError(f"{origin.place}: the stage '{origin.use}' {what}")


class _Handed(Sequence[Task]):
    """Rows for a stage that remember, for a while, what they gave: a stage that gives it back has changed nothing."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._recent: OrderedDict[int, Task] = OrderedDict()
        self._ids: tuple[int, list[str]] = (-1, [])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Task]:
        for index, task in enumerate(self._rows):
            yield self._given(index, task)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._given(range(len(self))[index], self._rows[index])

    def _given(self, index: int, task: Task) -> Task:
        self._recent[index] = task
        if len(self._recent) > 2 * CHUNK:
            self._recent.popitem(last=False)
        return task

    def gave(self, index: int) -> Task | None:
        return self._recent.get(index)

    def row_id(self, index: int) -> str:
        piece, place = divmod(index, CHUNK)
        if self._ids[0] != piece:
            self._ids = (piece, self._rows.table(piece * CHUNK, (piece + 1) * CHUNK)["id"].to_pylist())
        return self._ids[1][place]


# --------------------------------------------------------------------------------------------------- in processes


def _in_processes(origin: Named, path: Path, count: int, processes: int) -> Iterator[Fate]:
    """As `judged`, of a stage that looks at each row by itself; the workers read the rows from the file."""
    pieces = iter(range(0, count, CHUNK))
    waiting: list[Future[list[Fate]]] = []
    # Not forked: a copy of a process with threads may wait for a lock that nobody holds any more.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (origin, path)) as pool:
        try:
            for start in pieces:
                waiting.append(pool.submit(_piece, start))
                if len(waiting) >= PIECES_AHEAD * processes:
                    yield from waiting.pop(0).result()
            for future in waiting:
                yield from future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_WORK: tuple[Stage, Named, Rows]
"""Of this worker process."""


def _begin(origin: Named, path: Path) -> None:
    global _WORK
    stage_class, _ = find("stage", origin.use)
    _WORK = (build_component(stage_class, origin.options, origin.place), origin, Rows.open(path))


def _piece(start: int) -> list[Fate]:
    stage, origin, rows = _WORK
    return list(judged(stage, rows[start : start + CHUNK], origin))
