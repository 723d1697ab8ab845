"""OpenAI's calls as text: `[{"name": "f", "arguments": {"a": 1}}]`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from callwright import Call
from callwright.types import Span

from callwright_dialects.json_objects import CallKeys, JsonDialect, read_call, render_arguments, render_call
from callwright_dialects.json_syntax import JsonReader, to_json
from callwright_dialects.json_unfinished import JsonScan, json_end
from callwright_dialects.outcomes import Unreadable

_KEYS = CallKeys(("name", "function"), ("arguments", "parameters"), ("id", "type"), string_arguments=True, nested=True)
_FENCE_OPEN = re.compile(r"```(?:json)?[ \t]*\r?\n\s*")
_FENCE_CLOSE = re.compile(r"\s*(?:```\s*)?\Z")


@dataclass
class JsonCalls(JsonDialect):
    """JSON calls in a list, as in OpenAI's messages: [{"name": "f", "arguments": {"a": 1}}]."""

    tools_in: Literal["template", "text"] = "text"
    name_key: Literal["name", "function"] = "name"
    """How calls are written; either key is read."""
    arguments_key: Literal["arguments", "parameters"] = "arguments"
    arguments_as: Literal["object", "string"] = "object"

    _instruction: ClassVar[str] = ""

    def system(self) -> str:
        """The instruction; by default one that shows the keys in use."""
        if self.instruction is not None or self.tools_in == "template":
            return super().system()
        arguments = "{argument name: value, ...}"
        if self.arguments_as == "string":
            arguments = '"{\\"argument name\\": value, ...}"'
        return (
            f"{super().system()} Answer the question with calls of the listed functions, written as JSON: "
            f'[{{"{self.name_key}": function name, "{self.arguments_key}": {arguments}}}, ...]. '
            "Write nothing else. If no function fits, answer []."
        ).strip()

    def read(self, text: str, reader: JsonReader, position: int) -> tuple[list[Call], list[Span]] | None:
        """A list of call objects or a single one; and nothing else, except a Markdown fence around it."""
        fence = _FENCE_OPEN.match(text, position)
        start = fence.end() if fence else position
        if text[start : start + 1] not in ("[", "{"):
            return None
        if text[start] == "[":
            calls, end = read_list(reader, start, _KEYS)
        else:
            call, end = read_call(reader, start, _KEYS)
            calls = [call]
        closing = _FENCE_CLOSE.match(text, end)
        if closing is None or ("```" in closing[0]) != (fence is not None):
            raise Unreadable("text behind the calls", end)
        return calls, []

    def ends(self, text: str, start: int) -> list[str]:
        position = JsonReader(text).skip(start)
        fence = _FENCE_OPEN.match(text, position)
        position = fence.end() if fence else position
        end = None
        if text.startswith(("[", "{"), position):
            end = json_end(JsonScan(text, position), _KEYS, calls_at=int(text[position] == "["))
        return [] if end is None else [end + ("\n```" if fence else "")]

    def write(self, calls: Sequence[Call]) -> str:
        return f"[{', '.join(self.escaped(self._write_call(call)) for call in calls)}]"

    def _write_call(self, call: Call) -> str:
        if self.arguments_as == "object":
            return render_call(call, self.name_key, self.arguments_key)
        arguments = json.dumps(render_arguments(call), ensure_ascii=False)
        return f'{{"{self.name_key}": {to_json(call.name)}, "{self.arguments_key}": {arguments}}}'


def read_list(reader: JsonReader, position: int, keys: CallKeys) -> tuple[list[Call], int]:
    """The calls in the list that begins at `position`, and where it ends. Raises `Unreadable`."""
    calls: list[Call] = []
    position = reader.skip(reader.expect("[", position))
    if reader.source.startswith("]", position):
        return calls, position + 1
    while True:
        call, end = read_call(reader, position, keys)
        calls.append(call)
        position = reader.skip(end)
        if reader.source.startswith("]", position):
            return calls, position + 1
        position = reader.skip(reader.expect(",", position))
