"""Mistral's formats: `[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]` and `[TOOL_CALLS]f[ARGS]{"a": 1}`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from callwright import Call, CallwrightError, ReasonCode
from callwright.types import Span

from callwright_dialects.json_calls import read_list
from callwright_dialects.json_objects import CallKeys, JsonDialect, read_arguments, render_arguments, render_call
from callwright_dialects.json_syntax import JsonReader
from callwright_dialects.json_unfinished import JsonScan, json_end
from callwright_dialects.outcomes import Unreadable

_MARK = "[TOOL_CALLS]"
_KEYS = CallKeys(ignored=("id",), string_arguments=True)
_NAME = re.compile(r'[^\s\[\]{}"]++')
_ARGS = re.compile(r"\s*(?:(\[CALL_ID\])[^\s\[\]{}]*+)?(\[ARGS\])?")


@dataclass
class Mistral(JsonDialect):
    """Mistral's calls: [TOOL_CALLS]f[ARGS]{"a": 1}, or a JSON list behind [TOOL_CALLS]."""

    style: Literal["named", "list"] = "named"
    """How calls are asked for and written; both are read. `list` is the format of Mistral's tokenizers v2 to v7 (7B
    v0.3, Nemo, Large 2407, Small 3.1), `named` that of v11 and later (Small 3.2, Magistral, Ministral 3), after
    `mistral_common`."""
    think_tag: Literal["<think>", "[THINK]"] = "<think>"
    """How thinking is asked for and written; both are read. `[THINK]` is Magistral's and Ministral's."""

    _instruction: ClassVar[str] = ""
    _think_tag: ClassVar[re.Pattern[str]] = re.compile(r"</?think>|\[/?THINK\]")
    _tags: ClassVar[re.Pattern[str]] = re.compile(r"</?think>|\[(?:/?THINK|TOOL_CALLS|CALL_ID|ARGS)\]")

    @property
    def think_tags(self) -> tuple[str, str]:
        return ("<think>", "</think>") if self.think_tag == "<think>" else ("[THINK]", "[/THINK]")

    def system(self) -> str:
        """The instruction; by default one for the style in use."""
        if self.instruction is not None or self.tools_in == "template":
            return super().system()
        form = f"{_MARK}function name[ARGS]{{argument name: value, ...}}, one behind another"
        if self.style == "list":
            form = f'{_MARK}[{{"name": function name, "arguments": {{argument name: value, ...}}}}, ...]'
        return (
            f"{super().system()} Answer the question with calls of the listed functions, written as {form}. "
            "Write nothing else. If no function fits, say so."
        ).strip()

    def read(self, text: str, reader: JsonReader, position: int) -> tuple[list[Call], list[Span]] | None:
        """A list, or named calls each behind its mark, to the end of the text. Text in front is a problem.

        `[CALL_ID]` and what follows it is passed over, and `[ARGS]` may be missing, as in the texts that vLLM's
        parser for tokenizer v11 reads.
        """
        mark = text.find(_MARK, position)
        if mark < 0:
            return None
        if mark > position:
            reader.problem(ReasonCode.BAD_FORMAT, f"text in front of {_MARK}", (position, mark))
        calls: list[Call] = []
        tags = [(mark, mark + len(_MARK))]
        position = reader.skip(tags[0][1])
        if text.startswith("[", position):
            calls, end = read_list(reader, position, _KEYS)
            position = reader.skip(end)
        else:
            position = self._read_named(text, reader, position, calls, tags)
        if position < len(text):
            raise Unreadable("text behind the calls", position)
        return calls, tags

    def _read_named(self, text: str, reader: JsonReader, position: int, calls: list[Call], tags: list[Span]) -> int:
        """Appends to `calls` and `tags` and returns where the last call ends."""
        while True:
            name = _NAME.match(text, position)
            marks = _ARGS.match(text, name.end()) if name else None
            if name is None or marks is None:
                raise Unreadable("no function name", position)
            tags += [marks.span(group) for group in (1, 2) if marks[group]]
            arguments, end = read_arguments(reader, reader.skip(marks.end()))
            calls.append(Call(name[0], arguments, (name.start(), end), name.span()))
            position = reader.skip(end)
            if not text.startswith(_MARK, position):
                return position
            tags.append((position, position + len(_MARK)))
            position = reader.skip(position + len(_MARK))

    def ends(self, text: str, start: int) -> list[str]:
        mark = text.find(_MARK, start)
        reader = JsonReader(text)
        position = reader.skip(mark + len(_MARK))
        if mark < 0:
            return []
        if text.startswith("[", position):
            end = json_end(JsonScan(text, position), _KEYS, calls_at=1)
            return [] if end is None else [end]
        while name := _NAME.match(text, position):
            marks = _ARGS.match(text, name.end())
            begin = name.end() if marks is None else marks.end()
            if not text.startswith("{", reader.skip(begin)):
                return _ends_of_mark(text[begin:].lstrip())
            scan = JsonScan(text, reader.skip(begin))
            end = json_end(scan)
            if end is not None:
                return [end]
            position = len(text) if scan.end is None else reader.skip(scan.end)
            if not text.startswith(_MARK, position):
                break
            position = reader.skip(position + len(_MARK))
        return []

    def write(self, calls: Sequence[Call]) -> str:
        if self.style == "list":
            return f"{_MARK}[{', '.join(self.escaped(render_call(call)) for call in calls)}]"
        for call in calls:
            if not _NAME.fullmatch(call.name) or self._tags.search(call.name):
                raise CallwrightError(f"{call.name!r} cannot be a name behind {_MARK}; choose `style: list`")
        return "".join(f"{_MARK}{call.name}[ARGS]{self.escaped(render_arguments(call))}" for call in calls)


def _ends_of_mark(written: str) -> list[str]:
    """Of a call that breaks off between its name and its arguments: the rest of the mark there, and no arguments."""
    if not written:
        return ["{}"]
    return [mark[len(written) :] + "{}" for mark in ("[ARGS]", "[CALL_ID]") if mark.startswith(written)]
