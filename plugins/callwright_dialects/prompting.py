"""From a task to the conversation that asks for calls: instruction, worked examples, tools, question."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from callwright import Argument, Call, CallwrightError, Parse, Prompt, Task, Tool
from callwright.types import JSON, Message
from pydantic import ConfigDict, TypeAdapter, ValidationError

MAX_REMEMBERED = 64
"""Lists of tasks' own examples that are kept as turns of a chat; rows of a data set commonly share one."""


@dataclass(frozen=True)
class ExampleCall:
    """A call that a worked example's reply makes."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    arguments: dict[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """A worked example: shown to the model as an earlier turn of the chat. It has either `calls` or a plain `reply`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    question: str
    tools: list[Tool] = field(default_factory=list)
    calls: list[ExampleCall] | None = None
    reply: str | None = None
    thinking: str = ""
    """What the model should think before it replies; only for dialects that show thinking."""

    def __post_init__(self) -> None:
        if (self.calls is None) == (self.reply is None):
            raise ValueError("an example has either 'calls' or 'reply', and not both")

    def as_calls(self) -> list[Call]:
        nowhere = (0, 0)
        return [
            Call(
                call.name, tuple(Argument(n, v, nowhere, nowhere) for n, v in call.arguments.items()), nowhere, nowhere
            )
            for call in self.calls or ()
        ]


_EXAMPLES = TypeAdapter(list[Example])
_PYTHON_TYPES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "None"}


@dataclass
class Prompting(ABC):
    """What all dialects share: the tools are written into the user's turn, in front of the question."""

    instruction: str | None = None
    """The system message. None: the dialect's own."""
    examples: list[Example] = field(default_factory=list)
    """Worked examples in front of every task. A task's own, in the same form in its `meta["examples"]`, come behind."""
    tool_style: Literal["signature", "json"] = "signature"
    """How tools are written: a Python signature and a comment, or a JSON object; one tool per line."""
    parameter_descriptions: bool = False
    """In signatures: a line for every parameter that has a description. Longer prompts, for larger models."""
    stop: tuple[str, ...] = field(default=(), init=False)
    _of_tasks: dict[str, list[Message]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Turns of tasks' own examples, by these as JSON: they are checked and written once, not for every prompt."""

    def __post_init__(self) -> None:
        self.examples = _EXAMPLES.validate_python(self.examples)
        for example in self.examples:
            self.example_reply(example)  # calls that cannot be written are an error here, not at the first prompt

    @abstractmethod
    def parse(self, text: str) -> Parse: ...

    @abstractmethod
    def render(self, calls: Sequence[Call]) -> str: ...

    def system(self) -> str:
        """The instruction; empty for none."""
        return self.instruction or ""

    def prompt(self, task: Task) -> Prompt:
        """System message and examples come first, so that all prompts of a run share them as a prefix."""
        system = self.system()
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        return Prompt(messages + self.all_examples(task) + self.task_messages(task))

    def all_examples(self, task: Task) -> list[Message]:
        """The turns of the dialect's examples and of the task's own, `meta["examples"]`.

        Raises CallwrightError where the latter are no list of examples, or hold a call that cannot be written.
        """
        return self.example_messages(self.examples) + self._examples_of(task)

    def _examples_of(self, task: Task) -> list[Message]:
        given = task.meta.get("examples")
        if given is None:
            return []
        try:
            key = json.dumps(given)
            if key not in self._of_tasks:
                if len(self._of_tasks) >= MAX_REMEMBERED:
                    self._of_tasks.clear()
                self._of_tasks[key] = self.example_messages(_EXAMPLES.validate_python(given))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(map(str, ("examples", *first["loc"])))
            raise _unfit(task, f"meta.{place}: {first['msg']}") from error
        except (CallwrightError, TypeError, ValueError, RecursionError) as error:
            raise _unfit(task, f"meta.examples cannot be written: {error}") from error
        return [dict(message) for message in self._of_tasks[key]]

    def example_messages(self, examples: Sequence[Example]) -> list[Message]:
        """Worked examples as turns of a chat, the question's and the reply's."""
        messages: list[Message] = []
        for example in examples:
            messages.append({"role": "user", "content": self.turn(example.tools, [example.question])})
            messages.append({"role": "assistant", "content": self.example_reply(example)})
        return messages

    def task_messages(self, task: Task) -> list[Message]:
        """The task's own conversation; its system text and its tools become part of the first user turn."""
        system = [message["content"] for message in task.messages if message["role"] == "system"]
        messages = [dict(message) for message in task.messages if message["role"] != "system"]
        if not messages or messages[0]["role"] != "user":
            messages.insert(0, {"role": "user", "content": ""})
        messages[0]["content"] = self.turn(task.tools, [*system, messages[0]["content"]])
        return messages

    def turn(self, tools: Sequence[Tool], texts: Sequence[str]) -> str:
        """A user turn: the tools, then the texts, the question last."""
        if self.tool_style == "json":
            lines = [json.dumps(tool.to_json(), ensure_ascii=False) for tool in tools]
        else:
            lines = [_signature(tool, self.parameter_descriptions) for tool in tools]
        return "\n".join(["Functions:", *(lines or ["none"]), "", *texts]).rstrip()

    def example_reply(self, example: Example) -> str:
        """What the assistant says in a worked example; dialects that show thinking put the example's in front."""
        return self.render(example.as_calls()) if example.reply is None else example.reply


def _unfit(task: Task, what: str) -> CallwrightError:
    return CallwrightError(
        f"task '{task.id}': {what}; mend its `meta`, where `examples` are worked examples in the form that a dialect's"
        " option `examples` has, or give them another key"
    )


def _signature(tool: Tool, describe: bool) -> str:
    """`name(a: int, b: str = optional)  # description`, and a line for each parameter if asked for."""
    properties: Mapping[str, JSON] = tool.parameters.get("properties", {})
    required = tool.parameters.get("required", ())
    parts = [
        f"{name}: {_type(schema)}" + ("" if name in required else " = optional") for name, schema in properties.items()
    ]
    lines = [f"{tool.name}({', '.join(parts)})" + (f"  # {_one_line(tool.description)}" if tool.description else "")]
    if describe:
        described = ((name, schema.get("description", "")) for name, schema in properties.items())
        lines += [f"    {name}: {_one_line(text)}" for name, text in described if text]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _type(schema: Mapping[str, JSON]) -> str:
    """A JSON Schema as a short Python-like type: int, list[str], 'a' | 'b', {key: type}."""
    if "enum" in schema:
        return " | ".join(repr(value) for value in schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_type({**schema, "type": one}) for one in kind)
    if kind == "array":
        return f"list[{_type(schema['items'])}]" if schema.get("items") else "list"
    if kind == "object":
        inner = ", ".join(f"{name}: {_type(value)}" for name, value in schema.get("properties", {}).items())
        return f"{{{inner}}}" if inner else "dict"
    return _PYTHON_TYPES.get(str(kind), "any")
