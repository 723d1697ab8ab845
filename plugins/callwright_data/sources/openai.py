"""Tasks from conversations in the format of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callwright import Tool
from callwright.types import JSON

from callwright_data.sources._conversations import ConversationSource, Turn, role
from callwright_data.sources._rows import Row


@dataclass
class OpenAI(ConversationSource):
    """Chat conversations in OpenAI's format, as for its fine-tuning: `messages` with `tool_calls`, and `tools`.

    Fields of a row: `messages`, a list of `{"role", "content", "tool_calls"}`, the content a text, null, or a list
    of text parts; `tools`, a list of `{"type": "function", "function": {"name", "description", "parameters"}}`; `id`
    if there is one. Also read: `functions` with `function_call`, which came before, the role `developer`, and
    `"weight": 0` for a reply that is not to be learned. Source: OpenAI's guides to function calling and fine-tuning.
    """

    def conversation(self, row: Row) -> tuple[tuple[Tool, ...], Sequence[Turn], dict[str, JSON]]:
        name = "functions" if row.fields.get("tools") is None and "functions" in row.fields else "tools"
        described = [] if row.fields.get(name) is None else row.items(name)
        turns = [_turn(row, message, f"messages[{index}]") for index, message in enumerate(row.items("messages"))]
        return row.tools(described, name), turns, {}

    @property
    def field(self) -> str:
        return "messages"


def _turn(row: Row, message: JSON, place: str) -> Turn:
    row.expect(message, dict, place, "an object with 'role' and 'content'")
    content, calls = _content(row, message.get("content"), f"{place}.content"), _calls(row, message, place)
    return Turn(role(row, message.get("role"), f"{place}.role"), content, calls, message.get("weight") != 0)


def _content(row: Row, content: JSON, place: str) -> str:
    if content is None:
        return ""
    if not isinstance(content, list):
        row.expect(content, str, place, "a text, null, or a list of text parts")
        return str(content)
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            row.fail(f"{place}[{index}]", f"only parts that are texts can be used, not {part!r}"[:300])
        texts.append(part["text"])
    return "".join(texts)


def _calls(row: Row, message: Mapping[str, JSON], place: str) -> list[tuple[str, Mapping[str, JSON]]]:
    if message.get("function_call") is not None:
        return [row.call(message["function_call"], f"{place}.function_call")]
    calls = message.get("tool_calls")
    if calls is None:
        return []
    row.expect(calls, list, f"{place}.tool_calls", "a list of calls")
    result = []
    for index, call in enumerate(calls):
        where = f"{place}.tool_calls[{index}]"
        row.expect(call, dict, where, "an object with 'function'")
        result.append(row.call(call.get("function"), f"{where}.function"))
    return result
