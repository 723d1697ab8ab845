"""Conversations of several turns as tasks: one for each turn in which the assistant answers, or for the first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from callwright import Answer, Task, Tool
from callwright.types import JSON, Message

from callwright_data.sources._rows import FileSource, Row, answer

_ROLES = {
    **{"system": "system", "developer": "system"},
    **{"user": "user", "human": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "model": "assistant", "function_call": "assistant"},
    **{"tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool"},
}


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: str
    """system, user, assistant or tool."""
    content: str
    calls: Sequence[tuple[str, Mapping[str, JSON]]] = ()
    """Those that the assistant makes in it."""
    answers: bool = True
    """False for a turn of the assistant that is no example of what to say."""

    def message(self) -> Message:
        """As chat templates read it: calls stand in `tool_calls`, their arguments as an object."""
        message: Message = {"role": self.role, "content": self.content}
        if self.calls:
            functions = ({"name": name, "arguments": dict(arguments)} for name, arguments in self.calls)
            message["tool_calls"] = [{"type": "function", "function": function} for function in functions]
        return message


@dataclass
class ConversationSource(FileSource):
    """A source whose rows are conversations."""

    turns: Literal["first", "all"] = "first"
    """Which of the assistant's turns become tasks: the first that answers, or every one, with the id `<id>/<turn>`,
    counted from 1 over those that answer. The turns before it are the task's messages."""
    prose: Literal["skip", "no_call"] = "skip"
    """Whether a reply in prose to the user is an answer: that no call should be made. Prose may also ask back for a
    missing argument or chat, so by default only turns with calls answer. Prose that follows a tool's result never
    does: it tells what came out."""

    @abstractmethod
    def conversation(self, row: Row) -> tuple[tuple[Tool, ...], Sequence[Turn], dict[str, JSON]]:
        """Tools, turns and what is kept as `meta`. Raises RowError."""

    def read(self, row: Row) -> Iterator[Task]:
        tools, turns, meta = self.conversation(row)
        answering = list(self._answers(turns))
        if not answering:
            self._fail_without_answer(row, turns)
        identifier = row.id()
        for number, (index, wanted) in enumerate(answering if self.turns == "all" else answering[:1], 1):
            name = f"{identifier}/{number}" if self.turns == "all" else identifier
            messages = tuple(turn.message() for turn in turns[:index])
            yield Task(name, messages, tools, wanted, meta)

    def _answers(self, turns: Sequence[Turn]) -> Iterable[tuple[int, Answer]]:
        for index, turn in enumerate(turns):
            if turn.role != "assistant" or not turn.answers:
                continue
            if not any(earlier.role == "user" for earlier in turns[:index]):
                continue  # a greeting: nothing was asked yet
            if turn.calls:
                yield index, answer(turn.calls)
            elif self.prose == "no_call" and turns[index - 1].role == "user":
                yield index, Answer()

    def _fail_without_answer(self, row: Row, turns: Sequence[Turn]) -> None:
        replies = self.prose == "skip" and any(turn.role == "assistant" for turn in turns)
        repair = (
            "; `prose: no_call` takes a reply in prose as the answer that no call should be made" if replies else ""
        )
        row.fail(self.field, f"the assistant makes no call in it{repair}")

    @property
    def field(self) -> str:
        """The row's field that holds the conversation."""
        return "conversations"


def role(row: Row, value: JSON, place: str) -> str:
    """A role's name in one of the common formats as one of system, user, assistant and tool."""
    if not isinstance(value, str) or value not in _ROLES:
        row.fail(place, f"{value!r} is no role; there are {', '.join(_ROLES)}"[:300])
    return _ROLES[value]


def share_gpt(row: Row) -> list[tuple[str, str, str]]:
    """Role, text and place of every turn of ShareGPT's `conversations`: a list of `{"from", "value"}`."""
    result = []
    for index, turn in enumerate(row.items("conversations")):
        place = f"conversations[{index}]"
        row.expect(turn, dict, place, "an object with 'from' and 'value'")
        row.expect(turn.get("value"), str, f"{place}.value", "a text")
        result.append((role(row, turn.get("from"), f"{place}.from"), turn["value"], place))
    return result
