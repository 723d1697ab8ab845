"""Hermes' and Qwen's format: `<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>`, once per call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from callwright import Call, ReasonCode
from callwright.types import Span

from callwright_dialects.json_objects import CallKeys, JsonDialect, read_call, render_call
from callwright_dialects.json_syntax import JsonReader
from callwright_dialects.json_unfinished import JsonScan, json_end
from callwright_dialects.outcomes import Unreadable

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass
class Hermes(JsonDialect):
    """Tagged JSON calls, as Hermes and Qwen write them: <tool_call>{"name": ..., "arguments": ...}</tool_call>."""

    _instruction: ClassVar[str] = (
        "Answer the question with calls of the listed functions, each written as "
        '<tool_call>{"name": function name, "arguments": {argument name: value, ...}}</tool_call>. '
        "If no function fits, say so."
    )
    _tags: ClassVar[re.Pattern[str]] = re.compile(r"</?(?:think|tool_call)>")

    def read(self, text: str, reader: JsonReader, position: int) -> tuple[list[Call], list[Span]] | None:
        """Every `<tool_call>` must hold one call object, or none is read.

        A missing last closing tag is forgiven, as vLLM's `hermes` parser does, and a problem; so is text outside the
        tags. A tag inside a JSON string is part of the string.
        """
        calls: list[Call] = []
        tags: list[Span] = []
        while (opening := text.find(_OPEN, position)) >= 0:
            _report_outside(text, reader, (position, opening))
            begin = opening + len(_OPEN)
            call, end = read_call(reader, reader.skip(begin), CallKeys())
            end = reader.skip(end)
            calls.append(call)
            tags.append((opening, begin))
            position = end
            if text.startswith(_CLOSE, end):
                position = end + len(_CLOSE)
                tags.append((end, position))
            elif end < len(text):
                raise Unreadable("text behind the call's JSON", end)
            else:
                reader.problem(ReasonCode.BAD_FORMAT, f"{_CLOSE} is missing", (end, end))
        if calls:
            _report_outside(text, reader, (position, len(text)))
        return (calls, tags) if calls else None

    def ends(self, text: str, start: int) -> list[str]:
        reader, position = JsonReader(text), start
        while (opening := text.find(_OPEN, position)) >= 0:
            scan = JsonScan(text, reader.skip(opening + len(_OPEN)))
            end = json_end(scan, CallKeys())
            if end is not None:
                return [end + _CLOSE]
            if scan.end is None:
                break
            position = scan.end
        return []

    def write(self, calls: Sequence[Call]) -> str:
        return "\n".join(f"{_OPEN}\n{self.escaped(render_call(call))}\n{_CLOSE}" for call in calls)


def _report_outside(text: str, reader: JsonReader, span: Span) -> None:
    if text[slice(*span)].strip():
        reader.problem(ReasonCode.BAD_FORMAT, "text outside the tags", span)
