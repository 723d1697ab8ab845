"""What makes two rows the same: texts of their question, tools and answer. Total over any task.

A text is the same for what is the same; a part that cannot be written as JSON makes a row unlike any other.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from callwright import Task, Tool
from callwright.types import JSON

# Kana and ideographs, which are written without spaces: each is a word of its own.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_NO_NAME = re.compile(r"\W+")


def question(task: Task) -> str:
    """All that the conversation says, system messages aside, with the calls that it already made as JSON."""
    return "\n".join(_said(message, task) for message in task.messages if not _is_system(message))


def _is_system(message: JSON) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ("system", "developer")


def _said(message: JSON, task: Task) -> str:
    if not isinstance(message, Mapping):
        return _text(message, task)
    return _text(message.get("content"), task) + _text(message.get("tool_calls") or None, task)


def _text(content: JSON, task: Task) -> str:
    if content is None:
        return ""
    return " ".join(_part(part, task) for part in (content if isinstance(content, list) else [content]))


def _part(part: JSON, task: Task) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        part = part["text"]
    return part if isinstance(part, str) else _json(part, task)


def words(text: str) -> list[str]:
    """The words of a text, without case, punctuation and typographic variants (Unicode NFKC, case folded)."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalised(text: str) -> str:
    """The words of a text with a space between each; of a text without words, all but its spaces."""
    return " ".join(words(text) or text.split())


def exact_key(task: Task) -> bytes:
    """16 bytes, the same for rows with the same normalised question, tools in any order, and calls in any order."""
    tools = sorted(_tool_text(tool, task) for tool in task.tools)
    answer = None
    if task.answer is not None:
        answer = sorted(_json([call.name, call.arguments], task) for call in task.answer.calls)
    return digest(json.dumps([normalised(question(task)), tools, answer]), 16)


def _tool_text(tool: Tool, task: Task) -> str:
    content = [tool.name, tool.description, tool.parameters]
    try:
        return _kept_text(marshal.dumps(content, 2))  # version 2 depends on nothing but the content
    except (TypeError, ValueError, RecursionError):  # marshal or JSON cannot write it
        return digest(_json(content, task), 16).hex()


@lru_cache(8192)  # a data set repeats its tools, and writing one takes ten times as long as this
def _kept_text(content: bytes) -> str:
    return digest(_ENCODER.encode(marshal.loads(content)), 16).hex()


def tool_set(task: Task) -> str:
    """The names of the tools and of their parameters, in no order; "" without tools.

    What is no letter, digit or underscore in a tool's name counts as an underscore: `math.gcd` becomes `math_gcd` where
    a format does not allow the dot.
    """
    return "; ".join(sorted({_signature(tool.name, tool.parameters) for tool in task.tools}))


def _signature(name: JSON, parameters: JSON) -> str:
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    names = sorted(map(str, properties)) if isinstance(properties, Mapping) else []
    return f"{_NO_NAME.sub('_', str(name)).casefold()}({', '.join(names)})"


def digest(text: str, size: int) -> bytes:
    """`size` bytes that are the same for the same text, in every process."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=size).digest()


def _json(value: JSON, task: Task) -> str:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):
        return f"only in row {task.id}"


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


_ENCODER = json.JSONEncoder(sort_keys=True, default=_mapping)
