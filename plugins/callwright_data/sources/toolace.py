"""Tasks from the conversations of ToolACE."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from callwright import Tool
from callwright.types import JSON

from callwright_data._literals import literal
from callwright_data.sources._conversations import ConversationSource, Turn, share_gpt
from callwright_data.sources._rows import Row

_LIST = re.compile(r"\[\s*\{")
_INSTRUCTIONS = re.compile(  # how the sentences begin that tell how to call; each ends with a full stop or its list
    r"(?:You are an expert in composing functions|You are given a question and a set of possible functions"
    r"|Based on the question, you will need to|If none of the functions? can be used"
    r"|If the given question lacks the parameters|You should only return the function call"
    r"|Should you decide to return the function call|NO other text MUST be included)[^.]*(?:\.|\Z)"
    r"|Here is a list of functions in JSON format that you can invoke\W*"
    r"|Put it in the format of \[.*?\]\s*(?:\n|\Z)"
)
_NAME = re.compile(r"[^()\[\]{}\"'=,]+")
_OPENING, _CLOSING = "([{", ")]}"


@dataclass
class ToolAce(ConversationSource):
    """ToolACE: conversations whose calls are written [Name With Spaces(argument="value")].

    Fields of a row: `system`, a text that holds the functions as a JSON list; `conversations`, a list of
    `{"from", "value"}` from user, assistant and tool. Rows have no id. The instruction how to call is left out: the
    recipe's dialect gives its own. What else the system says, such as the time or who the assistant is, stays.
    Source: Liu et al., ToolACE, arXiv 2409.00920; Team-ACE/ToolACE, `data.json`.
    """

    licence: ClassVar[str] = "Apache-2.0"
    origin: ClassVar[str] = "https://huggingface.co/datasets/Team-ACE/ToolACE"

    def conversation(self, row: Row) -> tuple[tuple[Tool, ...], Sequence[Turn], dict[str, JSON]]:
        system = "" if row.fields.get("system") is None else row.text("system")
        instruction, described = _functions(row, system)
        tools = row.tools(described, "system")
        names = {tool.name for tool in tools}
        turns = [Turn("system", instruction)] if instruction else []
        for role, text, place in share_gpt(row):
            calls: list[tuple[str, dict[str, JSON]]] = []
            if role == "assistant":
                try:
                    calls = bracket_calls(text, names)
                except ValueError as error:
                    row.fail(f"{place}.value", str(error))
            turns.append(Turn(role, "" if calls else text, calls))
        return tools, turns, {}


def _functions(row: Row, system: str) -> tuple[str, list[JSON]]:
    """The system's text without functions and instructions, and the functions."""
    problem = None
    for found in _LIST.finditer(system):
        try:
            functions, end = json.JSONDecoder(strict=False).raw_decode(system, found.start())
        except (ValueError, RecursionError) as error:
            problem = problem or f"the list of functions is not JSON: {error}"
            continue
        rest = system[: found.start()] + system[end:].removeprefix(".")
        return _INSTRUCTIONS.sub("", rest).strip(), functions
    if problem is not None:
        row.fail("system", problem)
    return _INSTRUCTIONS.sub("", system).strip(), []


def bracket_calls(text: str, names: Collection[str]) -> list[tuple[str, dict[str, JSON]]]:
    """The calls of `[f(a=1), Two Words(b="x")]`; none where the text is prose.

    names: of the functions on offer, which may hold any character. A name that is not among them may hold none of
    ()[]{}"'=, and a text that begins with such a name and cannot be read is prose. Nothing is evaluated. Raises
    ValueError for a text that begins with a call of a known function and cannot be read.
    """
    text = text.strip()
    if not text.startswith("["):
        return []
    known = sorted(names, key=len, reverse=True)  # one name may begin another
    calls: list[tuple[str, dict[str, JSON]]] = []
    position, certain = 1, False
    try:
        while True:
            name, position, is_known = _name(text, position, known)
            certain = certain or is_known
            arguments, position = _arguments(text, position)
            calls.append((name, arguments))
            position = _skip(text, position)
            if not text.startswith(",", position):
                break
            position = _skip(text, position + 1)
        if text[position:] != "]":
            raise ValueError(f"']' should follow the last call, not {text[position : position + 40]!r}")
    except ValueError:
        if certain:
            raise
        return []
    return calls


def _name(text: str, position: int, known: Sequence[str]) -> tuple[str, int, bool]:
    """A name, the position behind the parenthesis that follows it, and whether it is a known one."""
    position = _skip(text, position)
    for name in known:
        end = _skip(text, position + len(name))
        if text.startswith(name, position) and text.startswith("(", end):
            return name, end + 1, True
    found = _NAME.match(text, position)
    if found is None or not text.startswith("(", found.end()):
        raise ValueError(f"a function's name and '(' should stand at {text[position : position + 40]!r}")
    return found.group().strip(), found.end() + 1, False


def _arguments(text: str, position: int) -> tuple[dict[str, JSON], int]:
    """The arguments up to the closing parenthesis, and the position behind it."""
    arguments: dict[str, JSON] = {}
    while True:
        end = _end(text, position)
        written = text[position:end]
        if written.strip():
            name, equals, value = written.partition("=")
            if not equals:
                raise ValueError(f"an argument without a name: {written.strip()[:80]!r}")
            if name.strip() in arguments:
                raise ValueError(f"the argument {name.strip()!r} is given twice")
            try:
                arguments[name.strip()] = literal(value)
            except ValueError as error:
                raise ValueError(f"the argument {name.strip()!r} is {error}") from None
        if text[end] == ")":
            return arguments, end + 1
        position = end + 1


def _end(text: str, position: int) -> int:
    """Where the argument that begins at `position` ends: at a comma or a parenthesis that is in nothing else."""
    depth, quote = 0, ""
    while position < len(text):
        character = text[position]
        if quote:
            position += character == "\\"  # what is escaped ends nothing
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif not depth and character in ",)":
            return position
        else:
            depth += (character in _OPENING) - (character in _CLOSING)
        position += 1
    raise ValueError(f"a call that does not end: {text[-40:]!r}")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
