"""New names for a row's tools and parameters, everywhere in the row at once."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from callwright import Answer, ExpectedCall, Task, Tool
from callwright.types import JSON, Message

from callwright_data.stages._look_alikes import is_plain

# Words that say nothing: a model has to read the descriptions, and no new name contradicts them.
_VERBS = ("apply", "carry_out", "execute", "handle", "invoke", "perform", "process", "resolve", "run", "serve")
_DEEDS = (
    "action",
    "case",
    "function",
    "job",
    "operation",
    "procedure",
    "request",
    "routine",
    "service",
    "step",
    "task",
)
_KINDS = ("chosen", "given", "main", "named", "passed", "stated", "used", "wanted")
_THINGS = ("detail", "element", "entry", "field", "input", "item", "option", "part", "piece", "setting", "value")
TOOL_NAMES = tuple(f"{verb}_{deed}" for verb in _VERBS for deed in _DEEDS)
PARAMETER_NAMES = tuple(f"{kind}_{thing}" for kind in _KINDS for thing in _THINGS)
_NUMBER = dict.fromkeys(range(16), "")
"""Behind a name that was drawn so many times in vain: nothing at first."""

_SCHEMA_KEYS = {"type", "properties", "required", "optional", "description", "title", "additionalProperties", "$schema"}
"""Keys of a tool's schema in which the names of its parameters can be found. Any other might hold one."""
_LITERALS = ("enum", "const", "default", "examples")
_MESSAGE_KEYS = {"role", "content", "name", "tool_calls", "tool_call_id"}
_IDENTIFIER = re.compile(r"[^\W_]_+[^\W_]|\w\.\w|[a-z]{2}[A-Z][a-z]")


class _Unsafe(Exception):
    """A row that might mean something else, or be wrong, under new names."""


def rename(task: Task, own: Sequence[Tool], choose: random.Random, *, tools: bool, parameters: bool) -> Task:
    """The task with other names; the task itself if that is not safe.

    own: the tools that the row's messages and its answer may speak of. Parameters are those of the tools themselves:
    the names inside a parameter's value stay. A name gets the same new name wherever it stands: in schemas, in the
    answer, in the calls of the conversation, in BFCL's own form of these in `meta`, and in texts as a whole identifier.

    Not safe are: an own name that is an ordinary word and occurs in a message, or is an identifier and occurs in a
    message and in an allowed value; a name that both a tool and a parameter have; references (`$ref`), and schemas and
    messages with keys that might hold names.
    """
    try:
        return _Renaming(task, own, choose, tools, parameters).task()
    except (_Unsafe, RecursionError):
        return task


class _Renaming:
    def __init__(self, task: Task, own: Sequence[Tool], choose: random.Random, tools: bool, parameters: bool) -> None:
        self._old = task
        _check(all(is_plain(tool) for tool in task.tools))
        blob = _blob([task.messages, [tool.to_json() for tool in task.tools], _answer(task)])
        _check('"$ref"' not in blob and '"$dynamicref"' not in blob)
        tool_names = {tool.name: None for tool in task.tools}
        parameter_names = {name: None for tool in task.tools for name in tool.parameters.get("properties", {})}
        _check(not tool_names.keys() & parameter_names.keys())
        self._tools = _new_names(tool_names if tools else {}, TOOL_NAMES, blob, choose)
        self._parameters = _new_names(parameter_names if parameters else {}, PARAMETER_NAMES, blob, choose)
        every = {**self._tools, **self._parameters}
        mentioned = _check_mentions(task, [name for name in _names(own) if name in every])
        self._in_messages = _replacer({name: every[name] for name in mentioned})
        self._in_descriptions = _replacer({old: new for old, new in every.items() if _is_identifier(old)})

    def task(self) -> Task:
        task = self._old
        if not self._tools and not self._parameters:
            return task
        answer = task.answer
        if answer is not None:
            calls = ((call.name, self._arguments(call.arguments)) for call in answer.calls)
            answer = Answer(tuple(ExpectedCall(self._tools.get(name, name), arguments) for name, arguments in calls))
        return Task(
            task.id,
            tuple(self._message(message) for message in task.messages),
            tuple(Tool(**self._tool(tool.to_json())) for tool in task.tools),
            answer,
            self._meta(task.meta),
        )

    def _tool(self, tool: Mapping[str, JSON]) -> dict[str, JSON]:
        described = {"description": self._in_descriptions(tool["description"])} if "description" in tool else {}
        parameters = self._schema(tool["parameters"])
        return {**tool, "name": self._tools.get(tool["name"], tool["name"]), **described, "parameters": parameters}

    def _schema(self, schema: Mapping[str, JSON]) -> dict[str, JSON]:
        _check(schema.keys() <= _SCHEMA_KEYS)
        result: dict[str, JSON] = self._descriptions(dict(schema))
        if "properties" in result:
            result["properties"] = self._arguments(result["properties"])
        for key in ("required", "optional"):
            if key in result:
                _check(isinstance(result[key], list) and all(isinstance(name, str) for name in result[key]))
                result[key] = [self._parameters.get(name, name) for name in result[key]]
        return result

    def _descriptions(self, schema: JSON) -> JSON:
        if isinstance(schema, list):
            return [self._descriptions(inner) for inner in schema]
        if not isinstance(schema, dict):
            return schema
        result = {key: inner if key in _LITERALS else self._descriptions(inner) for key, inner in schema.items()}
        if isinstance(schema.get("description"), str):
            result["description"] = self._in_descriptions(schema["description"])
        return result

    def _arguments(self, arguments: JSON) -> dict[str, JSON]:
        _check(isinstance(arguments, Mapping))
        return {self._parameters.get(name, name): value for name, value in arguments.items()}

    def _message(self, message: Message) -> Message:
        _check(message.keys() <= _MESSAGE_KEYS)
        result = dict(message)
        if message.get("content"):
            result["content"] = self._in_messages(message["content"])
        if isinstance(message.get("name"), str):
            result["name"] = self._tools.get(message["name"], message["name"])
        if message.get("tool_calls") is not None:
            _check(isinstance(message["tool_calls"], list))
            result["tool_calls"] = [self._made_call(call) for call in message["tool_calls"]]
        return result

    def _made_call(self, call: JSON) -> JSON:
        """A call that the conversation made already, as OpenAI's messages hold it."""
        inside = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(inside, Mapping) or inside.keys() != {"name", "arguments"}:
            raise _Unsafe
        name, arguments = inside["name"], inside["arguments"]
        if isinstance(arguments, str):
            try:
                arguments = json.dumps(self._arguments(json.loads(arguments)), ensure_ascii=False)
            except ValueError as error:
                raise _Unsafe from error
        else:
            arguments = self._arguments(arguments)
        return {**call, "function": {"name": self._tools.get(name, name), "arguments": arguments}}

    def _meta(self, meta: Mapping[str, JSON]) -> dict[str, JSON]:
        """With BFCL's own functions and possible answer, which its checker reads, under the new names."""
        result = dict(meta)
        if meta.get("functions") is not None:
            _check(isinstance(meta["functions"], list) and all(map(_is_function, meta["functions"])))
            result["functions"] = [self._tool(function) for function in meta["functions"]]
        if meta.get("possible_answer") is not None:
            _check(isinstance(meta["possible_answer"], list) and all(_is_call(c) for c in meta["possible_answer"]))
            result["possible_answer"] = [
                {self._tools.get(name, name): self._arguments(arguments) for name, arguments in call.items()}
                for call in meta["possible_answer"]
            ]
        return result


def _check(safe: bool) -> None:
    if not safe:
        raise _Unsafe


def _is_function(function: JSON) -> bool:
    if not isinstance(function, Mapping):
        return False
    return is_plain(Tool(function.get("name"), function.get("description", ""), function.get("parameters")))  # type: ignore[arg-type] # that is what is asked


def _is_call(call: JSON) -> bool:
    return isinstance(call, Mapping) and all(isinstance(arguments, Mapping) for arguments in call.values())


def _names(tools: Iterable[Tool]) -> Iterator[str]:
    for tool in tools:
        yield tool.name
        yield from tool.parameters.get("properties", {})


def _blob(value: JSON) -> str:
    try:
        return json.dumps(value, ensure_ascii=False).lower()
    except (TypeError, ValueError) as error:
        raise _Unsafe from error


def _answer(task: Task) -> JSON:
    calls = task.answer.calls if task.answer else ()
    _check(all(isinstance(call.name, str) and isinstance(call.arguments, Mapping) for call in calls))
    return [[call.name, dict(call.arguments)] for call in calls]


def _allowed(task: Task) -> JSON:
    return [list(call.arguments.values()) for call in task.answer.calls] if task.answer else []


def _new_names(old: Iterable[str], choices: Sequence[str], blob: str, choose: random.Random) -> dict[str, str]:
    """A name for each of the old ones that occurs nowhere in the row, not even inside a word."""
    result: dict[str, str] = {}
    for name in old:
        tried = (choose.choice(choices) + _NUMBER.get(times, f"_{times}") for times in itertools.count())
        result[name] = next(new for new in tried if new not in blob and new not in result.values())
    return result


def _is_identifier(name: str) -> bool:
    """Whether nobody would write it in a sentence without meaning the name: `user_id`, `math.gcd`, `userName`."""
    return _IDENTIFIER.search(name) is not None


def _whole(name: str) -> str:
    """A pattern for the name where no letter or digit follows or precedes it, and no part of a longer dotted name."""
    return rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)"


def _check_mentions(task: Task, names: Iterable[str]) -> list[str]:
    """The names that messages mention. Raises `_Unsafe` if one may be no mention of a tool or parameter at all."""
    _check(all(isinstance(message, Mapping) for message in task.messages))
    contents = [message.get("content") or "" for message in task.messages]
    _check(all(isinstance(content, str) for content in contents))
    said = "\n".join(contents)
    heard = said.casefold()
    literals: str | None = None
    mentioned = []
    for name in dict.fromkeys(names):
        if name.casefold() not in heard:
            continue
        if not _is_identifier(name):
            _check(re.search(_whole(name), said, re.IGNORECASE) is None)
        elif re.search(_whole(name), said):
            if literals is None:
                literals = _blob([_allowed(task), *_literals(task)])
            mentioned.append(name)
            _check(name.lower() not in literals)
    return mentioned


def _literals(task: Task) -> Iterator[JSON]:
    """Values that schemas spell out."""
    waiting: list[JSON] = [dict(tool.parameters) for tool in task.tools]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            yield from (inner for key, inner in value.items() if key in _LITERALS)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _replacer(names: Mapping[str, str]) -> Callable[[str], str]:
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    pattern: list[re.Pattern[str]] = []

    def replaced(text: str) -> str:
        if not any(name in text for name in longest_first):  # most texts; the pattern is slow to make and to use
            return text
        if not pattern:
            pattern.append(re.compile("|".join(map(_whole, longest_first))))
        return pattern[0].sub(lambda found: names[found[0]], text)

    return replaced
