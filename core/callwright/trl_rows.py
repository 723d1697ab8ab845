"""A row as TRL hands it to a reward function: the task that it was made from, and the completion as one text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from callwright.types import JSON, Answer, Argument, Call, CallwrightError, Dialect, ExpectedCall, Message, Task, Tool

_NOWHERE = (0, 0)


def row_task(prompt: Any, columns: Mapping[str, Any], row: int) -> Task:
    """The task of a row. `tools`, `answer`, `messages` and `meta` are JSON as text, or what Arrow made of such values.

    Without a column `task` (or `id`), rows with one prompt are one task. Raises CallwrightError with the row, the
    column and the repair.
    """
    try:
        messages = _read(columns, "messages")
        name = columns.get("task") or columns.get("id") or json.dumps(prompt, ensure_ascii=False, default=str)
        return Task(
            str(name),
            tuple(messages) if messages is not None else _messages(prompt),
            tuple(_tool(tool) for tool in _read(columns, "tools") or ()),
            _answer(_read(columns, "answer")),
            _read(columns, "meta") or {},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CallwrightError(
            f"row {row} of the batch: its columns are no task ({type(error).__name__}: {error}); make the dataset with"
            " callwright.trl_dataset, or give `tools` and `answer` as JSON texts"
        ) from error


def _read(columns: Mapping[str, Any], name: str) -> Any:
    value = columns.get(name)
    return json.loads(value) if isinstance(value, str) else _unpadded(value)


def _unpadded(value: JSON) -> JSON:
    """Without the keys that Arrow added: it gives every row the keys of all rows, with None in them."""
    if isinstance(value, dict):
        return {key: _unpadded(item) for key, item in value.items() if item is not None}
    return [_unpadded(item) for item in value] if isinstance(value, list) else value


def _messages(prompt: Any) -> tuple[Message, ...]:
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)


def _tool(tool: Mapping[str, JSON]) -> Tool:
    tool = tool.get("function") or tool  # OpenAI's form has one more level
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    return Tool(tool["name"], tool.get("description") or "", parameters)


def _answer(calls: Sequence[Mapping[str, JSON]] | None) -> Answer | None:
    if calls is None:
        return None
    return Answer(tuple(ExpectedCall(call["name"], call.get("arguments") or {}) for call in calls))


def completion_text(completion: Any, dialect: Dialect) -> str:
    """A completion of TRL's as the text that the dialect reads.

    A text is itself. Of messages, the assistant's count: thinking that TRL took out goes back between its tags, calls
    that it took out (`tool_calls`) are rendered in the dialect. What cannot be read as such counts as no text.
    """
    if isinstance(completion, str):
        return completion
    turns = [turn for turn in completion if isinstance(turn, Mapping) and turn.get("role") == "assistant"]
    return "\n".join(_turn(turn, dialect) for turn in turns)


def _turn(turn: Mapping[str, Any], dialect: Dialect) -> str:
    parts = [_content(turn.get("content"))]
    thinking = turn.get("reasoning_content") or turn.get("thinking")
    if isinstance(thinking, str):
        parts.insert(0, f"<think>{thinking}</think>")
    if items := turn.get("tool_calls"):
        try:
            parts.append(dialect.render([_call(item) for item in items]))
        except Exception:  # no calls, or a value that the dialect cannot write
            parts.append(json.dumps(items, ensure_ascii=False, default=str))
    return "\n".join(part for part in parts if part)


def _content(content: Any) -> str:
    if isinstance(content, list):  # blocks, as multimodal templates have them
        return "".join(str(block.get("text") or "") for block in content if isinstance(block, Mapping))
    return content if isinstance(content, str) else ""


def _call(item: Any) -> Call:
    """Raises for what is no call."""
    function = item.get("function") or item
    arguments = function["arguments"]
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    values = tuple(Argument(str(name), value, _NOWHERE, _NOWHERE) for name, value in arguments.items())
    return Call(function["name"], values, _NOWHERE, _NOWHERE)
