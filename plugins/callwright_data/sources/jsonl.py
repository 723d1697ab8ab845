"""Tasks from a file of our own rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from callwright import Answer, ExpectedCall, Task, Tool
from callwright.types import JSON, Message

from callwright_data.sources._row_files import sha256
from callwright_data.sources._rows import FileSource, Row, allowed

_FIELDS = ("id", "question", "messages", "tools", "answer", "calls", "meta")
_ROLES = ("system", "user", "assistant", "tool")


@dataclass
class Jsonl(FileSource):
    """A file of rows in callwright's own format: JSON lines, a JSON array or Parquet, one task a row.

    Fields of a row:
    - `question`, a text, or `messages`, a list of `{"role", "content"}`;
    - `tools`: a list of `{"name", "description", "parameters"}`, the parameters as JSON Schema. It may be missing where
      the option `tools` is given;
    - the answer, if it is known, in one of two forms. `calls`: a list of `{"name", "arguments"}` with plain values,
      each the only one that is right. `answer`: the same with, for each argument, the list of values that are right;
      "" in the list means that the argument may be left out, and a dict holds such a list for each of its keys. An
      empty list, in either form, says that no call should be made;
    - `id`: a text, different in every row (default: the file's name and the row's number);
    - `meta`: an object that is kept as it is.

    In Parquet, where arguments of different types cannot stand in one column, lists and objects may be JSON in texts.
    """

    tools: str | None = None
    """A Python file, relative to the working directory, whose public functions are the tools of all rows that have none
    of their own. It is read and never run; see `callwright_data.tools_from_python.reader`."""

    def __post_init__(self) -> None:
        self._tools: tuple[Tool, ...] | None = None
        if self.tools is not None:
            from callwright_data.tools_from_python import tools_from_python  # libcst, which most rows do without

            self._tools = tuple(tools_from_python(self.tools))

    def read(self, row: Row) -> Iterator[Task]:
        for name in row.fields:
            if name not in _FIELDS:
                row.fail(name, f"unknown field; there are {', '.join(_FIELDS)}")
        yield own_task(row, self._tools)

    def fingerprint(self) -> str:
        """SHA-256 of the rows' file and the tools', in hexadecimal."""
        return sha256(Path(path) for path in (self.path, self.tools) if path is not None)

    @staticmethod
    def task(fields: Mapping[str, JSON], place: str, row: int, default_id: str) -> Task:
        """The task of one line that is parsed already; fields that are not listed above are passed over.

        place, row: of the line, for errors. Raises `RowError`.
        """
        return own_task(Row(place, row, fields, default_id))


def own_task(row: Row, default_tools: tuple[Tool, ...] | None = None) -> Task:
    """The task of a row in callwright's own format. Raises RowError.

    default_tools: for a row without tools, which otherwise is an error.
    """
    fields = {name: row.fields[name] for name in _FIELDS if row.fields.get(name) is not None}
    identifier = fields.get("id", row.default_id)
    row.expect(identifier, str, "id", "a text")
    for name in ("messages", "tools", "answer", "calls", "meta"):
        if name in fields:
            fields[name] = row.parsed(fields[name], name)
    meta = fields.get("meta", {})
    row.expect(meta, dict, "meta", "an object")
    tools = default_tools
    if tools is None or "tools" in fields:
        row.expect(fields.get("tools"), list, "tools", "a list of the functions on offer")
        tools = row.tools(fields["tools"])
    return Task(identifier, _messages(row, fields), tools, _answer(row, fields, tools), meta)


def _messages(row: Row, fields: Mapping[str, JSON]) -> tuple[Message, ...]:
    if ("question" in fields) == ("messages" in fields):
        row.fail("question", "a row has either 'question' or 'messages', and not both")
    if "question" in fields:
        row.expect(fields["question"], str, "question", "a text")
        return ({"role": "user", "content": fields["question"]},)
    messages = fields["messages"]
    row.expect(messages, list, "messages", "a list")
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        row.expect(message, dict, place, "an object")
        if message.get("role") not in _ROLES:
            row.fail(f"{place}.role", f"should be one of {', '.join(_ROLES)}")
        row.expect(message.get("content"), str, f"{place}.content", "a text")
    if not messages:
        row.fail("messages", "should hold at least one message")
    return tuple(messages)


def _answer(row: Row, fields: Mapping[str, JSON], tools: tuple[Tool, ...]) -> Answer | None:
    given = [name for name in ("answer", "calls") if name in fields]
    if len(given) == 2:
        row.fail("answer", "a row has either 'answer' or 'calls', and not both")
    if not given:
        return None
    row.expect(fields[given[0]], list, given[0], "a list of calls")
    return Answer(tuple(_call(row, call, given[0], index, tools) for index, call in enumerate(fields[given[0]])))


def _call(row: Row, call: JSON, form: str, index: int, tools: tuple[Tool, ...]) -> ExpectedCall:
    place = f"{form}[{index}]"
    name, arguments = row.call(call, place)
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        row.fail(f"{place}.name", f"'{name}' is not among the row's tools")
    for key, value in arguments.items():
        where = f"{place}.arguments.{key}"
        if key not in tool.parameters.get("properties", {}):
            row.fail(where, f"the tool '{name}' has no such parameter")
        if form == "answer":
            _check_allowed(row, value, where)
    if form == "calls":
        arguments = {key: [allowed(value)] for key, value in arguments.items()}
    return ExpectedCall(name, arguments)


def _check_allowed(row: Row, values: JSON, place: str) -> None:
    if type(values) is not list or not values:
        row.fail(place, "should be a list of the values that are right; plain values go into 'calls'")
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            for name, inner in item.items() if isinstance(item, dict) else ():
                row.expect(inner, list, f"{place}.{name}", "a list of the values that are right for this key")
