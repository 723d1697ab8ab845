"""Tasks from a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from callwright import Answer, CallwrightError, ExpectedCall, RowError, Task, Tool
from callwright.types import JSON, Message

_FIELDS = ("id", "question", "messages", "tools", "answer", "calls", "meta")
_ROLES = ("system", "user", "assistant", "tool")


@dataclass
class Jsonl:
    """A file of JSON lines, one task a line.

    Fields of a line:
    - `question`, a text, or `messages`, a list of `{"role", "content"}`;
    - `tools`: a list of `{"name", "description", "parameters"}`, the parameters as JSON Schema;
    - the answer, if it is known, in one of two forms. `calls`: a list of `{"name", "arguments"}` with plain values,
      each the only one that is right. `answer`: the same with, for each argument, the list of values that are right;
      "" in the list means that the argument may be left out, and a dict holds such a list for each of its keys. An
      empty list, in either form, says that no call should be made;
    - `id`: a text, different in every line (default: the file's name and the line's number);
    - `meta`: an object that is kept as it is.
    """

    path: str
    """The file, relative to the working directory."""

    def load(self) -> Iterator[Task]:
        """Tasks in the file's order; blank lines are skipped. Raises `RowError` with the line's number."""
        path = Path(self.path)
        if not path.is_file():
            raise CallwrightError(f"data file not found: {path.absolute()}")
        return _tasks(path)

    @staticmethod
    def task(fields: Mapping[str, JSON], place: str, row: int, default_id: str) -> Task:
        """The task of one line that is parsed already; fields that are not listed above are passed over.

        place, row: of the line, for errors. Raises `RowError`.
        """
        return _Row(place, row).task({name: fields[name] for name in _FIELDS if name in fields}, default_id)


def _tasks(path: Path) -> Iterator[Task]:
    first_line: dict[str, int] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = _Row(str(path), number)
            task = row.task(row.parse(line), f"{path.stem}-{number}")
            if task.id in first_line:
                row.fail("id", f"'{task.id}' is already the id of row {first_line[task.id]}")
            first_line[task.id] = number
            yield task


@dataclass(frozen=True)
class _Row:
    place: str
    number: int

    def fail(self, name: str, message: str) -> NoReturn:
        raise RowError(self.place, self.number, name, message)

    def parse(self, line: bytes) -> Mapping[str, JSON]:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:  # broken JSON, or bytes that are no UTF-8
            self.fail("(whole line)", f"not JSON: {error}")
        self.expect(fields, dict, "(whole line)", "a JSON object")
        for name in fields:
            if name not in _FIELDS:
                self.fail(name, f"unknown field; there are {', '.join(_FIELDS)}")
        assert isinstance(fields, dict)
        return fields

    def expect(self, value: JSON, kind: type, name: str, wanted: str) -> None:
        if type(value) is not kind:
            self.fail(name, f"should be {wanted}, not {json.dumps(value)[:80]}")

    def task(self, fields: Mapping[str, JSON], default_id: str) -> Task:
        identifier, meta = fields.get("id", default_id), fields.get("meta", {})
        self.expect(identifier, str, "id", "a text")
        self.expect(meta, dict, "meta", "an object")
        tools = self.tools(fields)
        return Task(identifier, self.messages(fields), tools, self.answer(fields, tools), meta)

    def messages(self, fields: Mapping[str, JSON]) -> tuple[Message, ...]:
        if ("question" in fields) == ("messages" in fields):
            self.fail("question", "a row has either 'question' or 'messages', and not both")
        if "question" in fields:
            self.expect(fields["question"], str, "question", "a text")
            return ({"role": "user", "content": fields["question"]},)
        messages = fields["messages"]
        self.expect(messages, list, "messages", "a list")
        for index, message in enumerate(messages):
            place = f"messages[{index}]"
            self.expect(message, dict, place, "an object")
            if message.get("role") not in _ROLES:
                self.fail(f"{place}.role", f"should be one of {', '.join(_ROLES)}")
            self.expect(message.get("content"), str, f"{place}.content", "a text")
        if not messages:
            self.fail("messages", "should hold at least one message")
        return tuple(messages)

    def tools(self, fields: Mapping[str, JSON]) -> tuple[Tool, ...]:
        tools = fields.get("tools")
        self.expect(tools, list, "tools", "a list of the functions on offer")
        assert isinstance(tools, list)
        return tuple(self.tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))

    def tool(self, tool: JSON, place: str) -> Tool:
        self.expect(tool, dict, place, "an object")
        parameters = tool.get("parameters", {"type": "object", "properties": {}})
        self.expect(tool.get("name"), str, f"{place}.name", "a text")
        self.expect(tool.get("description", ""), str, f"{place}.description", "a text")
        self.expect(parameters, dict, f"{place}.parameters", "a JSON Schema")
        self.expect(parameters.get("properties", {}), dict, f"{place}.parameters.properties", "an object")
        self.expect(parameters.get("required", []), list, f"{place}.parameters.required", "a list of names")
        for name, schema in parameters.get("properties", {}).items():
            self.expect(schema, dict, f"{place}.parameters.properties.{name}", "a JSON Schema")
        return Tool(tool["name"], tool.get("description", ""), parameters)

    def answer(self, fields: Mapping[str, JSON], tools: tuple[Tool, ...]) -> Answer | None:
        given = [name for name in ("answer", "calls") if name in fields]
        if len(given) == 2:
            self.fail("answer", "a row has either 'answer' or 'calls', and not both")
        if not given:
            return None
        self.expect(fields[given[0]], list, given[0], "a list of calls")
        return Answer(tuple(self.call(call, given[0], index, tools) for index, call in enumerate(fields[given[0]])))

    def call(self, call: JSON, form: str, index: int, tools: tuple[Tool, ...]) -> ExpectedCall:
        place = f"{form}[{index}]"
        self.expect(call, dict, place, "an object")
        self.expect(call.get("name"), str, f"{place}.name", "a text")
        tool = next((tool for tool in tools if tool.name == call["name"]), None)
        if tool is None:
            self.fail(f"{place}.name", f"'{call['name']}' is not among the row's tools")
        arguments = call.get("arguments", {})
        self.expect(arguments, dict, f"{place}.arguments", "an object")
        for name, value in arguments.items():
            where = f"{place}.arguments.{name}"
            if name not in tool.parameters.get("properties", {}):
                self.fail(where, f"the tool '{tool.name}' has no such parameter")
            if form == "answer":
                self.allowed_values(value, where)
        if form == "calls":
            arguments = {name: [_allowed(value)] for name, value in arguments.items()}
        return ExpectedCall(tool.name, arguments)

    def allowed_values(self, values: JSON, place: str) -> None:
        if type(values) is not list or not values:
            self.fail(place, "should be a list of the values that are right; plain values go into 'calls'")
        for value in values:
            for item in value if isinstance(value, list) else [value]:
                for name, inner in item.items() if isinstance(item, dict) else ():
                    self.expect(inner, list, f"{place}.{name}", "a list of the values that are right for this key")


def _allowed(value: JSON) -> JSON:
    """A plain value as an allowed one: a dict, also inside a list, holds a list of allowed values for each key."""
    if isinstance(value, dict):
        return {name: [item] for name, item in value.items()}
    if isinstance(value, list):
        return [_allowed(item) if isinstance(item, dict) else item for item in value]
    return value
