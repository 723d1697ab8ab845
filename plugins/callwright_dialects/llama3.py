"""Llama 3's formats: `{"name": "f", "parameters": {"a": 1}}; {...}` and `[f(a=1), g()]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from callwright import Call, Parse, ParseStatus, Reason, ReasonCode
from callwright.types import Span

from callwright_dialects.json_objects import CallKeys, JsonDialect, read_call, render_call
from callwright_dialects.json_syntax import JsonReader
from callwright_dialects.json_unfinished import JsonScan, empty_call, json_end
from callwright_dialects.outcomes import unparsable
from callwright_dialects.python_syntax import parse_calls, render_calls
from callwright_dialects.python_unfinished import python_ends

_PYTHON_TAG = "<|python_tag|>"
_KEYS = CallKeys(arguments=("parameters", "arguments"), ignored=("type",))


@dataclass
class Llama3(JsonDialect):
    """Llama 3's calls, as JSON {"name": "f", "parameters": {"a": 1}} or in Python syntax [f(a=1)]."""

    style: Literal["json", "pythonic"] = "json"
    """How calls are asked for and written: by Llama 3.1's template in JSON, with several separated by `; `; or as
    Llama 3.2's and 4's model cards show it, in Python syntax. Both are read; the other one is a problem."""
    tools_in: Literal["template", "text"] = "template"
    """As in the other dialects. The templates of Llama 3.1 and 3.2 ask for JSON, so `style: pythonic` wants `text`,
    unless the template was changed. They write the tools into the *first* user turn, which is the first example's, if
    there are examples; `text` keeps tools and questions together."""

    _instruction: ClassVar[str] = ""
    _tags: ClassVar[re.Pattern[str]] = re.compile(r"</?think>|<\|python_tag\|>")

    def system(self) -> str:
        """The instruction; by default one for the style in use."""
        if self.instruction is not None or self.tools_in == "template":
            return super().system()
        form = '{"name": function name, "parameters": {argument name: value, ...}}, with "; " between several calls'
        if self.style == "pythonic":
            form = "[name(argument=value, ...), ...], with every argument given by its name"
        return (
            f"{super().system()} Answer the question with calls of the listed functions, written as {form}. "
            "Write nothing else. If no function fits, say so."
        ).strip()

    def read_body(self, text: str, start: int, end: int) -> Parse:
        """Calls of either style, with or without `<|python_tag|>` in front, and nothing else."""
        tags, position = _python_tag(JsonReader(text), start)
        if text.startswith("{", position):
            return super().read_body(text, start, end)
        parse = parse_calls(text, position, end)
        if tags and parse.status is ParseStatus.NO_CALL:
            parse = unparsable(text, None, tags[0], "no call behind <|python_tag|>")
        problems = parse.problems
        if parse.calls and self.style == "json":
            problems += (Reason(ReasonCode.BAD_FORMAT, "calls in Python syntax instead of JSON", (position, end)),)
        return replace(parse, body=(start, end), tags=tuple(tags), problems=problems)

    def read(self, text: str, reader: JsonReader, position: int) -> tuple[list[Call], list[Span]] | None:
        """JSON calls with `;` between them, as vLLM's `llama3_json` parser reads them, but nothing around them."""
        tags, begin = _python_tag(reader, position)
        calls: list[Call] = []
        position = begin
        while position < len(text):
            call, end = read_call(reader, position, _KEYS)
            calls.append(call)
            position = reader.skip(end)
            if position < len(text):
                position = reader.skip(reader.expect(";", position))
        if self.style == "pythonic":
            reader.problem(ReasonCode.BAD_FORMAT, "calls in JSON instead of Python syntax", (begin, len(text)))
        return calls, tags

    def ends(self, text: str, start: int) -> list[str]:
        reader = JsonReader(text)
        _, position = _python_tag(reader, start)
        if not text.startswith("{", position):
            return python_ends(text, position, "")
        while position < len(text):
            scan = JsonScan(text, position)
            end = json_end(scan, _KEYS)
            if end is not None:
                return [end]
            position = len(text) if scan.end is None else reader.skip(scan.end)
            if text.startswith(";", position):
                position = reader.skip(position + 1)
                if position == len(text):
                    return [empty_call(_KEYS)]
        return []

    def write(self, calls: Sequence[Call]) -> str:
        if self.style == "pythonic":
            return render_calls(calls, self._tags)
        return "; ".join(self.escaped(render_call(call, arguments="parameters")) for call in calls)


def _python_tag(reader: JsonReader, position: int) -> tuple[list[Span], int]:
    """The tag, if there is one, and where what it announces begins."""
    position = reader.skip(position)
    if not reader.source.startswith(_PYTHON_TAG, position):
        return [], position
    end = position + len(_PYTHON_TAG)
    return [(position, end)], reader.skip(end)
