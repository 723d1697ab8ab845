"""From rows to tasks: what all sources share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from callwright import Answer, CallwrightError, ExpectedCall, RowError, Task, Tool
from callwright.types import JSON

from callwright_data._literals import strict_json
from callwright_data.sources._json_schema import NoSchema, tool
from callwright_data.sources._row_files import WHOLE, NumberedRow, read_rows, sha256, stem


@dataclass(frozen=True)
class Row:
    """A row that is being read. What is wrong with it is a RowError, which its methods raise."""

    place: str
    number: int
    fields: Mapping[str, JSON]
    default_id: str
    """For a row without an id."""

    def fail(self, name: str, message: str) -> NoReturn:
        raise RowError(self.place, self.number, name, message)

    def expect(self, value: JSON, kind: type, name: str, wanted: str) -> None:
        if type(value) is not kind:
            self.fail(name, f"should be {wanted}, not {json.dumps(value)[:80]}")

    def id(self) -> str:
        """The row's own, which may be a number, or the default."""
        value = self.fields.get("id")
        if value is None:
            return self.default_id
        if type(value) is not int:
            self.expect(value, str, "id", "a text or a whole number")
        return str(value)

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        self.expect(value, str, name, "a text")
        assert isinstance(value, str)
        return value

    def items(self, name: str) -> list[JSON]:
        """A list, also one that is written as JSON into a text."""
        value = self.parsed(self.fields.get(name), name)
        self.expect(value, list, name, "a list")
        assert isinstance(value, list)
        return value

    def parsed(self, value: JSON, name: str, read: Callable[[str], JSON] = strict_json) -> JSON:
        """The value of a text that holds JSON; anything but a text is its own value."""
        if not isinstance(value, str):
            return value
        try:
            return read(value)
        except (ValueError, RecursionError) as error:
            self.fail(name, f"not JSON: {error}")

    def tools(
        self,
        described: Sequence[JSON],
        name: str = "tools",
        parameters: Callable[[JSON, str], dict[str, JSON]] | None = None,
    ) -> tuple[Tool, ...]:
        return tuple(self.tool(one, f"{name}[{index}]", parameters) for index, one in enumerate(described))

    def tool(
        self, described: JSON, place: str, parameters: Callable[[JSON, str], dict[str, JSON]] | None = None
    ) -> Tool:
        try:
            return tool(described, parameters)
        except NoSchema as error:
            where = f"{place}.{error.place}".rstrip(".")
            self.fail(where, f"{_named(described)}{error}")

    def call(
        self, described: JSON, place: str, read: Callable[[str], JSON] = strict_json
    ) -> tuple[str, Mapping[str, JSON]]:
        """Name and arguments of `{"name", "arguments"}`; the arguments may be an object written into a text, and be
        missing. read: what reads that text."""
        self.expect(described, dict, place, "a call, an object with 'name' and 'arguments'")
        self.expect(described.get("name"), str, f"{place}.name", "a text")
        arguments = described.get("arguments")
        if isinstance(arguments, str):
            arguments = self.parsed(arguments, f"{place}.arguments", read) if arguments.strip() else {}
        if arguments is None:
            arguments = {}
        self.expect(arguments, dict, f"{place}.arguments", "an object")
        return described["name"], arguments


def _named(described: JSON) -> str:
    """Which tool it is, for an error message."""
    if isinstance(described, Mapping):
        inner = described.get("function")
        name = inner.get("name") if isinstance(inner, Mapping) else described.get("name")
        if isinstance(name, str):
            return f"the tool '{name}': "
    return ""


def answer(calls: Iterable[tuple[str, Mapping[str, JSON]]]) -> Answer:
    """The answer that is these calls, each argument's value the only one that is right."""
    return Answer(
        tuple(ExpectedCall(name, {key: [allowed(value)] for key, value in given.items()}) for name, given in calls)
    )


def allowed(value: JSON) -> JSON:
    """A plain value as an allowed one: a dict, also inside a list, holds a list of allowed values for each key."""
    if isinstance(value, dict):
        return {name: [item] for name, item in value.items()}
    if isinstance(value, list):
        return [allowed(item) if isinstance(item, dict) else item for item in value]
    return value


def tasks(
    rows: Iterable[NumberedRow], place: str, name: str, read: Callable[[Row], Iterable[Task]]
) -> Iterator[Task | RowError]:
    """What `read` makes of each row, in order; for a row or an id that cannot be used, a RowError instead.

    place: of the rows, for errors. name: rows without an id are called after it and their number. Raises
    CallwrightError if there is no row at all.
    """
    first: dict[str, int] = {}
    number = 0
    for number, fields in rows:
        if isinstance(fields, RowError):
            yield fields
            continue
        try:
            row = Row(place, number, fields, f"{name}-{number}")
            row.expect(fields, dict, WHOLE, "a JSON object")
            found = list(read(row))
        except RowError as error:
            yield error
            continue
        except RecursionError:
            yield RowError(place, number, WHOLE, "values nested too deeply")
            continue
        for task in found:
            if task.id in first:
                yield RowError(place, number, "id", f"'{task.id}' is already the id of row {first[task.id]}")
            else:
                first[task.id] = number
                yield task
    if not number:
        raise CallwrightError(f"{place} holds no rows; check that it is the right file")


@dataclass
class FileSource(ABC):
    """A source that reads the rows of a file, each by itself."""

    path: str
    """The file, relative to the working directory: .json (an array, or a row a line), .jsonl or .ndjson, also with
    .gz behind, or .parquet."""

    @abstractmethod
    def read(self, row: Row) -> Iterable[Task]:
        """The tasks of one row. Raises RowError."""

    def load(self) -> Iterator[Task | RowError]:
        """Tasks in the file's order. Raises CallwrightError for a file that is missing, empty, or breaks off."""
        path = Path(self.path)
        return tasks(read_rows(path), str(path), stem(path), self.read)

    def fingerprint(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return sha256([Path(self.path)])
