"""Tasks from the conversations of hermes-function-calling-v1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from callwright import Tool
from callwright.types import JSON

from callwright_data._literals import literal
from callwright_data.sources._conversations import ConversationSource, Turn, share_gpt
from callwright_data.sources._rows import Row

_TOOLS = re.compile(r"<tools>\s*(.*?)\s*</tools>", re.DOTALL)
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_RESPONSE = re.compile(r"\s*<tool_response>\s*(.*?)\s*</tool_response>\s*", re.DOTALL)
_PROMPT = re.compile(  # the data set's instruction around its tools, in its three wordings
    r"You are (?:a function calling|an expert structured information extraction) AI model\..*?<tools>.*</tools>"
    r"(?:.*</tool_call>)?",
    re.DOTALL,
)


@dataclass
class Hermes(ConversationSource):
    """hermes-function-calling-v1: ShareGPT conversations with <tool_call> blocks, in its func_calling files.

    Fields of a row: `conversations`, a list of `{"from", "value"}` from system, human, gpt and tool; `tools`, JSON in
    a text, or, where it is missing, the `<tools>` of the system's text; `id`; `category`, `subcategory` and `task`,
    which become `meta`. Calls and tools are JSON or Python's notation of it. The instruction around the tools is left
    out: the recipe's dialect gives its own. What else the system says stays. Source: the card of
    NousResearch/hermes-function-calling-v1.
    """

    licence: ClassVar[str] = "Apache-2.0"
    origin: ClassVar[str] = "https://huggingface.co/datasets/NousResearch/hermes-function-calling-v1"

    def conversation(self, row: Row) -> tuple[tuple[Tool, ...], Sequence[Turn], dict[str, JSON]]:
        said = share_gpt(row)
        described = row.fields.get("tools") or _tools_in([text for role, text, _ in said if role == "system"])
        described = row.parsed(described, "tools", _literals)
        row.expect(described, list, "tools", "a list")
        turns = [_turn(row, *turn) for turn in said]
        turns = [turn for turn in turns if turn.role != "system" or turn.content]
        meta = {name: row.fields[name] for name in ("category", "subcategory", "task") if name in row.fields}
        return row.tools(described), turns, meta


def _tools_in(texts: Sequence[str]) -> str:
    found = [found.group(1) for text in texts for found in _TOOLS.finditer(text) if found.group(1)]
    return found[0] if found else "[]"


def _literals(text: str) -> JSON:
    """A list, or objects one after the other, a line each."""
    try:
        value = literal(text)
    except ValueError:
        value = [literal(line) for line in text.splitlines() if line.strip()]
    return [value] if isinstance(value, dict) else value


def _turn(row: Row, role: str, text: str, place: str) -> Turn:
    if role == "system":
        return Turn(role, _TOOLS.sub("", _PROMPT.sub("", text)).strip())
    if role == "tool":
        return Turn(role, _RESPONSE.sub(r"\1\n", text).strip())
    if role != "assistant":
        return Turn(role, text)
    calls: list[tuple[str, Mapping[str, JSON]]] = []
    for index, found in enumerate(_CALL.finditer(text)):
        where = f"{place}.value, call {index + 1}"
        calls.append(row.call(row.parsed(found.group(1), where, literal), where, literal))
    return Turn(role, _CALL.sub("", text).strip(), calls)
