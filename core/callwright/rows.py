"""Tasks on disk: Arrow files whose columns are texts, read as they are asked for.

Messages, tools, answer and meta are JSON in a string column each: as nested columns, Arrow would pad keys that are
missing in a row with None, and refuse arguments of different types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
from datasets import Dataset

from callwright.files import replacing
from callwright.types import Answer, Task, Tool

COLUMNS = ("id", "messages", "tools", "answer", "meta")
SCHEMA = pa.schema([(name, pa.large_string()) for name in COLUMNS])
"""Large strings: a column of a chunk may hold more than 2 GiB."""
CHUNK = 1000
"""Rows that are held in memory at once."""


def to_row(task: Task) -> dict[str, str | None]:
    """A task as the texts of its columns. A lone surrogate, which is no Unicode, becomes an escape."""
    answer = None
    if task.answer is not None:
        answer = _json([{"name": call.name, "arguments": dict(call.arguments)} for call in task.answer.calls])
    return {
        "id": task.id.encode(errors="backslashreplace").decode(),
        "messages": _json(task.messages),
        "tools": _json([tool.to_json() for tool in task.tools]),
        "answer": answer,
        "meta": _json(dict(task.meta)),
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


@lru_cache(maxsize=4096)
def _tools(text: str) -> tuple[Tool, ...]:
    """Data sets repeat their tools: those of a row seen before are not read again."""
    return tuple(Tool(tool["name"], tool["description"], tool["parameters"]) for tool in json.loads(text))


class Rows(Sequence[Task]):
    """Tasks in a data set on disk, read in pieces and only when they are asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @classmethod
    def open(cls, path: Path) -> Rows:
        """Those of an Arrow file that `RowWriter` wrote; it is mapped into memory, not read."""
        return cls(Dataset.from_file(str(path)))

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Task | Rows:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        return from_row(self.dataset[index])

    def __iter__(self) -> Iterator[Task]:
        for start in range(0, len(self), CHUNK):
            columns = self.dataset[start : start + CHUNK]
            for values in zip(*(columns[name] for name in COLUMNS), strict=True):
                yield from_row(dict(zip(COLUMNS, values, strict=True)))

    def select(self, indices: Iterable[int]) -> Rows:
        """The rows of these numbers, in this order."""
        return Rows(self.dataset.select(indices))

    def ids(self) -> list[str]:
        return list(self.dataset["id"])
