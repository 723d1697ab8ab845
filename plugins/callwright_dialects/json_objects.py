"""Calls as JSON objects, `{"name": "f", "arguments": {"a": 1}}`, and what the dialects that use them share."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from callwright import Argument, Call, CallwrightError, Parse, ParseStatus, Prompt, ReasonCode, Task
from callwright.types import Message, Span

from callwright_dialects.json_syntax import JsonReader, Member, to_json
from callwright_dialects.outcomes import MAX_CHARACTERS, Unreadable, check_length, unparsable, without_calls
from callwright_dialects.prompting import Example, Prompting
from callwright_dialects.thinking import THINK_TAG, check_thinking, parse_after_thinking, reply_start
from callwright_dialects.unfinished import parse_with_ends


@dataclass(frozen=True)
class CallKeys:
    """Which keys a call object has in a dialect."""

    name: tuple[str, ...] = ("name",)
    arguments: tuple[str, ...] = ("arguments",)
    ignored: tuple[str, ...] = ()
    """Keys that may stand beside them and mean nothing here."""
    string_arguments: bool = False
    """Whether the arguments may be an object written into a string, as in OpenAI's messages."""
    nested: bool = False
    """Whether name and arguments may stand in an object of their own under the key `function`, as there too."""


def read_call(reader: JsonReader, position: int, keys: CallKeys) -> tuple[Call, int]:
    """The call that begins at `position`, and where it ends. Raises `Unreadable`.

    A key that is repeated (the last one counts) or unknown is a problem.
    """
    members, end = reader.members(position)
    nested = next((m for m in members if m.key == "function" and isinstance(m.value, dict)), None)
    if keys.nested and nested is not None:
        _report_keys(reader, members, {"function", *keys.ignored})
        members, _ = reader.members(nested.value_at[0])
    _report_keys(reader, members, {*keys.name, *keys.arguments, *keys.ignored})
    name, arguments = (_one(reader, position, members, names) for names in (keys.name, keys.arguments))
    if not isinstance(name.value, str):
        raise reader.unreadable("the function's name is not a text", name.value_at[0])
    span = reader.span((position, end))
    return Call(name.value, _read_arguments(reader, arguments, keys), span, _inside_quotes(reader, name)), end


def _one(reader: JsonReader, position: int, members: list[Member], names: tuple[str, ...]) -> Member:
    found = {member.key: member for member in members if member.key in names}
    if len(found) != 1:
        message = f"a call has one key {' or '.join(map(repr, names))}, and this has {len(found)}"
        raise reader.unreadable(message, position)
    return next(iter(found.values()))


def _report_keys(reader: JsonReader, members: list[Member], known: set[str]) -> None:
    seen: set[str] = set()
    for member in members:
        if member.key in seen:
            message = f"the key {member.key!r} is given more than once"
            reader.problem(ReasonCode.BAD_FORMAT, message, reader.span(member.key_at))
        elif member.key not in known:
            reader.problem(ReasonCode.BAD_FORMAT, f"unknown key {member.key!r}", reader.span(member.key_at))
        seen.add(member.key)


def _inside_quotes(reader: JsonReader, member: Member) -> Span:
    return reader.span((member.value_at[0] + 1, member.value_at[1] - 1))


def _read_arguments(reader: JsonReader, member: Member, keys: CallKeys) -> tuple[Argument, ...]:
    if keys.string_arguments and isinstance(member.value, str):
        inner = reader.inside(member.value, member.value_at)
        arguments, end = read_arguments(inner, inner.skip(0))
        if inner.skip(end) != len(member.value):
            raise inner.unreadable("text behind the arguments", end)
        return arguments
    return read_arguments(reader, member.value_at[0])[0]


def read_arguments(reader: JsonReader, position: int) -> tuple[tuple[Argument, ...], int]:
    """The arguments in the object that begins at `position`, and where it ends. A repeated name is a problem."""
    members, end = reader.members(position)
    seen: set[str] = set()
    for member in members:
        if member.key in seen:
            message = f"the argument {member.key!r} is given more than once"
            reader.problem(ReasonCode.UNEXPECTED_ARGUMENT, message, reader.span(member.key_at))
        seen.add(member.key)
    arguments = (Argument(m.key, reader.settle(m), reader.span(m.key_at), reader.span(m.value_at)) for m in members)
    return tuple(arguments), end


def render_arguments(call: Call) -> str:
    """`{"a": 1}`. Raises CallwrightError for arguments that JSON cannot write."""
    names = [argument.name for argument in call.arguments if argument.name is not None]
    if len(names) < len(call.arguments):
        raise CallwrightError(f"{call.name}: a positional argument cannot be written in JSON")
    if len(set(names)) < len(names):
        raise CallwrightError(f"{call.name}: an argument cannot be given twice")
    members = (f"{to_json(argument.name)}: {to_json(argument.value)}" for argument in call.arguments)
    return f"{{{', '.join(members)}}}"


def render_call(call: Call, name: str = "name", arguments: str = "arguments") -> str:
    """`{"name": "f", "arguments": {"a": 1}}`. Raises CallwrightError for calls that JSON cannot write."""
    return f'{{"{name}": {to_json(call.name)}, "{arguments}": {render_arguments(call)}}}'


@dataclass
class JsonDialect(Prompting):
    """A dialect of calls in JSON, with or without thinking in front of them.

    `_instruction`, `_tags`, `read` and `write` make one of it.
    """

    tool_style: Literal["signature", "json"] = "json"
    think: bool = False
    """Whether the model is to think first, inside <think> and </think>. Thinking is read in either case."""
    tools_in: Literal["template", "text"] = "template"
    """Who writes the tools into the prompt: the model's chat template, in the format that the model was trained on,
    or this dialect, with an instruction of its own, for models whose template knows no tools."""

    _instruction: ClassVar[str]
    """How calls are written, for `tools_in: text`."""
    _tags: ClassVar[re.Pattern[str]] = THINK_TAG
    """The format's marks; a look-alike of one inside a string is written with an escape."""
    _think_tag: ClassVar[re.Pattern[str]] = THINK_TAG

    @abstractmethod
    def read(self, text: str, reader: JsonReader, position: int) -> tuple[list[Call], list[Span]] | None:
        """The calls and tags from `position`, which is no white space, to the end of the text.

        None where the format's mark of a call is missing. Raises `Unreadable`.
        """

    @abstractmethod
    def write(self, calls: Sequence[Call]) -> str:
        """The text of at least one call."""

    def system(self) -> str:
        """The instruction; by default how calls are written where the template does not say it, and to think."""
        if self.instruction is not None:
            return self.instruction
        thinking = f"Think first, inside {self.think_tags[0]} and {self.think_tags[1]}." if self.think else ""
        return f"{thinking} {self._instruction if self.tools_in == 'text' else ''}".strip()

    @property
    def think_tags(self) -> tuple[str, str]:
        return "<think>", "</think>"

    def prompt(self, task: Task) -> Prompt:
        """With `tools_in: template` the task's tools are the template's to write, and an example's are text.

        The task's system text then joins the instruction. Examples come before the task's conversation.
        """
        if self.tools_in == "text":
            return super().prompt(task)
        texts = [self.system(), *(message["content"] for message in task.messages if message["role"] == "system")]
        system = "\n".join(filter(None, texts))
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages += self.all_examples(task)
        messages += [dict(message) for message in task.messages if message["role"] != "system"]
        tools = [{"type": "function", "function": tool.to_json()} for tool in task.tools]
        return Prompt(messages, tools or None)

    def example_messages(self, examples: Sequence[Example]) -> list[Message]:
        messages = super().example_messages(examples)
        if self.tools_in == "template":
            for example, message in zip(examples, messages[::2], strict=True):
                if not example.tools:
                    message["content"] = example.question
        return messages

    def example_reply(self, example: Example) -> str:
        """Thinking if the dialect asks for it, then the calls or the plain reply."""
        thinking = example.thinking if self.think else ""
        if example.reply is None:
            return self.render(example.as_calls(), thinking)
        return self._thinking(thinking) + example.reply

    def render(self, calls: Sequence[Call], thinking: str = "") -> str:
        """Raises CallwrightError for calls that cannot be written, and for thinking that holds one of its tags."""
        text = self.write(calls) if calls else ""
        return self._thinking(thinking) + check_length(text)

    def _thinking(self, thinking: str) -> str:
        if not thinking and not self.think:
            return ""
        opening, closing = self.think_tags
        return f"{opening}\n{check_thinking(thinking, self._think_tag)}\n{closing}\n\n"

    def escaped(self, rendered: str) -> str:
        """JSON in which no string holds a look-alike of one of the format's marks."""
        return self._tags.sub(lambda found: f"\\u{ord(found[0][0]):04x}{found[0][1:]}", rendered)

    def parse(self, text: str) -> Parse:
        """`body` is what follows the thinking. See `parse_after_thinking`; and `read` for the dialect's own rules."""
        return parse_after_thinking(text, self.read_body, required=self.think, tag=self._think_tag)

    def unfinished(self, text: str) -> Parse:
        """As `parse`, of a text that goes on."""
        start = reply_start(text, self._think_tag)
        return parse_with_ends(text, [] if start is None else self.ends(text, start), self.parse)

    def ends(self, text: str, start: int) -> list[str]:
        """What may end the call in whose middle the text breaks off, to be tried in this order; none by default.

        start: where the reply begins, behind the thinking.
        """
        return []

    def read_body(self, text: str, start: int, end: int) -> Parse:
        """What follows the thinking, without it."""
        body = (start, end)
        if end - start > MAX_CHARACTERS:
            return unparsable(text, body, body, f"longer than {MAX_CHARACTERS} characters")
        reader = JsonReader(text)
        try:
            found = self.read(text, reader, reader.skip(start))
        except Unreadable as error:
            return unparsable(text, body, body if error.at is None else (error.at, end), str(error))
        if found is None:
            return without_calls(text, body, body, "a call that is not written in this format")
        calls, tags = found
        status = ParseStatus.CALLS if calls else ParseStatus.NO_CALL
        return Parse(text, status, tuple(calls), body=body, tags=tuple(tags), problems=tuple(reader.problems))
