"""Tasks from the conversations of glaive-function-calling-v2."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from callwright import Tool
from callwright.types import JSON

from callwright_data._literals import literal
from callwright_data.sources._conversations import ConversationSource, Turn
from callwright_data.sources._rows import Row

# Some rows write `A:`, which also stands in prose; there it follows an empty line
_SPEAKER = re.compile(r"(?:\A|\n)[ \t]*(USER|ASSISTANT|FUNCTION RESPONSE|(?<=\n\n)A):")
_ROLES = {"USER": "user", "ASSISTANT": "assistant", "A": "assistant", "FUNCTION RESPONSE": "tool"}
_END = "<|endoftext|>"
_CALL_TAG = "<functioncall>"
_QUOTED = re.compile(r"(\"arguments\"\s*:\s*)'(.*)'(\s*\}\s*)\Z", re.DOTALL)
_PROMPT = re.compile(r"\s*You are a helpful assistant with access to the following functions\.[^{]*\Z")


@dataclass
class Glaive(ConversationSource):
    """glaive-function-calling-v2: conversations as one text, with <functioncall>s.

    Fields of a row: `system`, a text that begins with `SYSTEM:` and holds the functions, JSON objects one after the
    other; `chat`, a text whose turns begin with `USER:`, `ASSISTANT:` or `FUNCTION RESPONSE:`. The arguments of a
    call are an object, or one written into single quotation marks. Rows have no id. The system's instruction to use
    its functions is left out: the recipe's dialect gives its own. Source: glaiveai/glaive-function-calling-v2.
    """

    licence: ClassVar[str] = "Apache-2.0"
    origin: ClassVar[str] = "https://huggingface.co/datasets/glaiveai/glaive-function-calling-v2"

    def conversation(self, row: Row) -> tuple[tuple[Tool, ...], Sequence[Turn], dict[str, JSON]]:
        system = "" if row.fields.get("system") is None else row.text("system")
        instruction, described = _functions(row, system.strip().removeprefix("SYSTEM:").strip())
        turns = [Turn("system", instruction)] if instruction else []
        return row.tools(described, "system"), [*turns, *_turns(row, row.text("chat"))], {}

    @property
    def field(self) -> str:
        return "chat"


def _functions(row: Row, system: str) -> tuple[str, list[JSON]]:
    """The instruction without what introduces the functions, and the functions."""
    start = system.find("{")
    if start < 0:
        return system, []
    decoder, position = json.JSONDecoder(strict=False), start
    functions: list[JSON] = []
    try:
        while position < len(system):
            function, end = decoder.raw_decode(system, position)
            functions.append(function)
            position = len(system) - len(system[end:].lstrip(" \t\r\n,"))
    except (ValueError, RecursionError) as error:
        row.fail("system", f"function {len(functions) + 1} is not JSON: {error}")
    return _PROMPT.sub("", system[:start]).strip(), functions


def _turns(row: Row, chat: str) -> list[Turn]:
    found = list(_SPEAKER.finditer(chat))
    if not found or chat[: found[0].start()].strip():
        row.fail("chat", f"should begin with USER: or ASSISTANT:, not {chat[:40]!r}")
    ends = [*(after.start() for after in found[1:]), len(chat)]
    return [_turn(row, _ROLES[one.group(1)], chat[one.end() : end]) for one, end in zip(found, ends, strict=True)]


def _turn(row: Row, role: str, text: str) -> Turn:
    said, *called = text.replace(_END, "").strip().split(_CALL_TAG)
    if role != "assistant":
        return Turn(role, text.replace(_END, "").strip())
    calls: list[tuple[str, Mapping[str, JSON]]] = []
    for one in called:
        written = one.replace(f"</{_CALL_TAG[1:]}", "").strip()
        calls.append(row.call(row.parsed(written, "chat", _call), "chat", _arguments))
    return Turn(role, said.strip(), calls)


def _call(text: str) -> JSON:
    """A call whose arguments may stand in single quotation marks, which JSON does not know."""
    quoted = _QUOTED.search(text)
    if quoted is None:
        return literal(text)
    written = text[: quoted.start()] + quoted.group(1) + json.dumps(quoted.group(2)) + quoted.group(3)
    return json.loads(written, strict=False)


def _arguments(text: str) -> JSON:
    r"""An object in the text of single quotation marks, inside which an apostrophe may be written `\'`."""
    try:
        return literal(text)
    except ValueError:
        return literal(text.replace("\\'", "'"))
