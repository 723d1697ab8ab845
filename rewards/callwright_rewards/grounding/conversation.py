"""A task's messages as one searchable text, and a place in it as a message and a span."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callwright.types import JSON, Message, Span

from callwright_rewards.grounding.text_index import TextIndex

_BREAK = "\n\n"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a value, or a part of it, was found: characters of one message's content."""

    message: int
    span: Span

    def __str__(self) -> str:
        return f"{self.message}:{self.span[0]}-{self.span[1]}"


class Conversation(TextIndex):
    """All messages, whoever speaks: what the system says is known too."""

    def __init__(self, messages: Sequence[Message]) -> None:
        contents = [_content(message.get("content")) for message in messages]
        self._starts = [0]
        for content in contents:
            self._starts.append(self._starts[-1] + len(content) + len(_BREAK))
        super().__init__(_BREAK.join(contents))

    def place(self, span: Span) -> Evidence:
        message = min(bisect_right(self._starts, span[0]), len(self._starts) - 1) - 1
        start = self._starts[message]
        return Evidence(max(message, 0), (span[0] - start, span[1] - start))


def _content(content: JSON) -> str:
    """The text of a message's content, which may be a list of parts as OpenAI's messages have."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_content(part.get("text")) for part in content if isinstance(part, Mapping))
    return ""
