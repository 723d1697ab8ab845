"""Tasks on disk: Arrow files whose columns are texts, read as they are asked for.

Messages, tools, answer and meta are JSON in a string column each: as nested columns, Arrow would pad keys that are
missing in a row with None, and refuse arguments of different types.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from callwright.types import Answer, Task, Tool

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("id", "messages", "tools", "answer", "meta")
SCHEMA = pa.schema([*((name, pa.large_string()) for name in COLUMNS), ("row", pa.int64())])
"""Large strings: a column of a piece may hold more than 2 GiB. `row` is the row's number in the source, from 1."""
CHUNK = 1000
"""Rows that are held in memory at once."""


def to_row(task: Task, unchanged: Task | None = None) -> dict[str, str | None]:
    """A task as the texts of its columns, but for those whose value is the very object that `unchanged` has.

    A lone surrogate, which is no Unicode, becomes an escape.
    """
    return {
        name: write(getattr(task, name))
        for name, write in _WRITERS.items()
        if unchanged is None or getattr(task, name) is not getattr(unchanged, name)
    }


def from_row(row: Mapping[str, Any]) -> Task:
    """The task of `to_row`'s texts. Tasks with the same tools share the objects: they are not to be changed."""
    answer = row["answer"]
    return Task(
        row["id"],
        tuple(json.loads(row["messages"])),
        _tools(row["tools"]),
        None if answer is None else Answer.from_json(answer),
        json.loads(row["meta"]),
    )


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _answer(answer: Answer | None) -> str | None:
    if answer is None:
        return None
    return _json([{"name": call.name, "arguments": dict(call.arguments)} for call in answer.calls])


_WRITERS: dict[str, Callable[[Any], str | None]] = {
    "id": lambda value: str(value.encode(errors="backslashreplace").decode()),
    "messages": _json,
    "tools": lambda value: _json([tool.to_json() for tool in value]),
    "answer": _answer,
    "meta": lambda value: _json(dict(value)),
}


@lru_cache(maxsize=4096)
def _tools(text: str) -> tuple[Tool, ...]:
    """Data sets repeat their tools: those of a row seen before are not read again."""
    return tuple(Tool(tool["name"], tool["description"], tool["parameters"]) for tool in json.loads(text))


class Rows(Sequence[Task]):
    """Tasks in a table, commonly a file that is mapped into memory: each is read when it is asked for, in pieces."""

    def __init__(self, table: pa.Table, indices: Sequence[int] | None = None) -> None:
        self._table, self._indices = table, indices
        self._length = table.num_rows if indices is None else len(indices)

    @classmethod
    def open(cls, path: Path) -> Rows:
        """Those of a file that `RowWriter` wrote."""
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            return cls(reader.read_all())

    @classmethod
    def open_parquet(cls, path: Path) -> Rows:
        """Those of a file that `callwright data` wrote, in memory."""
        return cls(pq.read_table(path, schema=SCHEMA))

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> Rows:
        """These tasks, in memory."""
        rows = [{**to_row(task), "row": number} for number, task in enumerate(tasks, 1)]
        return cls(pa.Table.from_pylist(rows, SCHEMA))

    @property
    def dataset(self) -> Dataset:
        """As a data set of the library `datasets`, with the columns of `SCHEMA`."""
        from datasets import Dataset  # takes a second, which commands that need no data set should not wait for

        return Dataset(self.table(0, self._length))

    def table(self, start: int, stop: int) -> pa.Table:
        """The rows from `start` to before `stop`, as texts."""
        stop = min(stop, self._length)
        indices = range(start, stop) if self._indices is None else self._indices[start:stop]
        if isinstance(indices, range) and indices.step == 1:
            return self._table.slice(indices.start, len(indices))  # nothing is copied
        return self._table.take(pa.array(indices, pa.int64()))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Task | Rows:
        if isinstance(index, slice):
            return self.select(range(*index.indices(self._length)))
        place = range(self._length)[index]
        return from_row(self.table(place, place + 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Task]:
        for start in range(0, self._length, CHUNK):
            for row in texts(self.table(start, start + CHUNK)):
                yield from_row(row)

    def select(self, indices: Sequence[int]) -> Rows:
        """The rows of these numbers, from 0, in this order."""
        if isinstance(self._indices, range) and isinstance(indices, range) and indices.step == 1:
            indices = self._indices[indices.start : indices.stop]
        elif self._indices is not None:
            indices = [self._indices[index] for index in indices]
        return Rows(self._table, indices)

    def ids(self) -> list[str]:
        """In order; the other columns are not read."""
        return self.column("id").to_pylist()

    def column(self, name: str) -> pa.ChunkedArray:
        """The texts of one column; the others are not read."""
        column = self._table[name]
        return column if self._indices is None else column.take(pa.array(self._indices, pa.int64()))


def texts(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a piece of a table. Faster than pyarrow's own way, which builds each row anew from scalars."""
    names = table.column_names
    for values in zip(*(table[name].to_pylist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))
