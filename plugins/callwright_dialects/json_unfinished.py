"""How JSON that breaks off in its middle may end."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Literal

from callwright_dialects.json_objects import CallKeys
from callwright_dialects.outcomes import MAX_NESTING
from callwright_dialects.unfinished import MAX_UNFINISHED

_TOKEN = re.compile(
    r"""[ \t\r\n]*+(?:(?P<open>[{\[]) | (?P<close>[}\]]) | (?P<sign>[:,])
    | (?P<text>"(?:[^"\\]++|\\.)*+(?P<end>"|\\?\Z)) | (?P<plain>[^\s{}\[\]:,"]++) | (?P<other>[^ \t\r\n]))
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"(?:[^\\]++|\\[^u]|\\u[0-9a-fA-F]{4})*+(\\(?:u[0-9a-fA-F]{0,3})?)?\Z", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_CLOSING = {"{": "}", "[": "]"}

Due = Literal["key", "colon", "value", "end"]


@dataclass
class _Container:
    kind: str
    due: Due
    """What comes next in it; `end` stands for a comma or its closing bracket."""
    key: str = ""
    """Of the member that is being written."""
    keys: list[str] = field(default_factory=list)
    """Of all members, that one included."""
    comma: bool = False
    """Whether a comma was the last thing in it."""


class JsonScan:
    """A value from a position in a text, as far as it is written.

    `end` is where the value ends, None where it goes on or is no JSON; `containers` are those that are open then, none
    where it is no JSON.
    """

    def __init__(self, text: str, start: int) -> None:
        self.end: int | None = None
        self.containers: list[_Container] = []
        self.open_text: str | None = None
        """What is written of a string that is not closed, escapes as they are."""
        self.open_plain = ""
        """A number or word with which the text ends."""
        for found in _TOKEN.finditer(text, start, start + MAX_UNFINISHED):
            if not self._take(found.lastgroup or "", found, len(text)):
                self.containers.clear()
                return
            if not self.containers:
                self.end = found.end()
                return
        if len(text) - start > MAX_UNFINISHED:
            self.containers.clear()

    def _take(self, kind: str, found: re.Match[str], length: int) -> bool:
        """False where the token cannot stand here."""
        token = found[kind]
        if kind == "open":
            if (self.containers and not self._value()) or len(self.containers) == MAX_NESTING:
                return False
            self.containers.append(_Container(token, "key" if token == "{" else "value"))
            return True
        if not self.containers or kind == "other":
            return False
        inner = self.containers[-1]
        if kind == "close":
            return _CLOSING[self.containers.pop().kind] == token
        if kind == "sign":
            return _sign(inner, token)
        if kind == "plain":
            self.open_plain = token if found.end() == length else ""
            return self._value()
        if not found["end"] or found["end"] == "\\":
            self.open_text = token[1:]
        if inner.due == "key":
            inner.due, inner.key, inner.comma = "colon", _decoded(found), False
            inner.keys.append(inner.key)
            return True
        return self._value()

    def _value(self) -> bool:
        inner = self.containers[-1]
        allowed, inner.due, inner.comma = inner.due == "value", "end", False
        return allowed


def _decoded(found: re.Match[str]) -> str:
    """The text of a string, as far as it is written."""
    written = found["text"][1:] if found["end"] != '"' else found["text"][1:-1]
    if "\\" not in written:
        return written
    try:
        return str(json.loads(f'"{written}{escape_end(written)}"'))
    except ValueError:
        return written  # and `parse` will refuse it


def _sign(inner: _Container, token: str) -> bool:
    if token == ":":
        allowed, inner.due = inner.due == "colon", "value"
        return allowed
    allowed, inner.comma = inner.due == "end", True
    inner.due = "key" if inner.kind == "{" else "value"
    return allowed


def json_end(scan: JsonScan, keys: CallKeys | None = None, calls_at: int = 0) -> str | None:
    """What may end the value; None where nothing is open.

    keys: those of a call, where the containers of the depth `calls_at` are calls; what a call lacks is added. Without,
    the value is an object of arguments.
    """
    if len(scan.containers) <= calls_at:
        return _next_call(scan, keys)
    if keys is not None and keys.nested and _is_function(scan.containers, calls_at):
        calls_at += 1
    parts: list[str] = []
    for depth in range(len(scan.containers) - 1, -1, -1):
        container = scan.containers[depth]
        of_call = keys if keys is not None and depth == calls_at else None
        innermost = depth == len(scan.containers) - 1
        if innermost:
            end = _open_token(scan, container, of_call)
            if end is None:
                return None
            parts.append(end)
        parts.append(_close(container, of_call, innermost))
    return "".join(parts)


def _next_call(scan: JsonScan, keys: CallKeys | None) -> str | None:
    """Between the calls of a list; behind a comma there is another one to come."""
    if keys is None or not scan.containers:
        return None
    calls = scan.containers[-1]
    if calls.comma:
        return f"{empty_call(keys)}]"
    return "]" if calls.due == "end" else None


def empty_call(keys: CallKeys) -> str:
    """A call of which nothing is written yet."""
    return f"{{{_missing(keys, [])[2:]}}}"


def _is_function(containers: list[_Container], depth: int) -> bool:
    return len(containers) > depth + 1 and containers[depth].key == "function" and containers[depth + 1].kind == "{"


def _open_token(scan: JsonScan, container: _Container, keys: CallKeys | None) -> str | None:
    """The end of the string, number or word in whose middle the text breaks off; None if there is none."""
    if scan.open_text is not None:
        escape = escape_end(scan.open_text)
        is_value = container.due == "end"
        if is_value and keys is not None and keys.string_arguments and container.key in keys.arguments:
            space = {"": "", '"': "n"}.get(escape, "0020"[-len(escape) :])
            ends = ((end, _inner_end(scan.open_text + end)) for end in (escape, space))
            return next((f'{end}{inner}"' for end, inner in ends if inner is not None), None)
        return f'{escape}"'
    plain = scan.open_plain
    if not plain or _NUMBER.fullmatch(plain):
        return ""
    if _NUMBER.fullmatch(plain + "0"):
        return "0"
    return next((word[len(plain) :] for word in ("true", "false", "null") if word.startswith(plain)), None)


def _inner_end(written: str) -> str | None:
    """The end of arguments that stand, as JSON, in a string."""
    try:
        text = json.loads(f'"{written}"')
    except ValueError:
        return None
    if not text.strip():
        return "{}"
    scan = JsonScan(text, len(text) - len(text.lstrip()))
    end = "" if scan.end is not None else json_end(scan)
    return None if end is None else json.dumps(end)[1:-1]


def escape_end(written: str) -> str:
    """What completes the escape at the end of a string's source text."""
    found = _ESCAPE.match(written)
    escape = found[1] if found else None
    return "" if not escape else '"' if escape == "\\" else "0041"[len(escape) - 2 :]


def _close(container: _Container, keys: CallKeys | None, innermost: bool) -> str:
    """From behind the open token, or the inner container, to behind the closing bracket."""
    parts: list[str] = []
    if innermost and container.due == "colon":
        parts.append(": " + _value_of(container.key, keys))
    elif innermost and container.due == "value" and (container.kind == "{" or container.comma):
        parts.append(_value_of(container.key, keys))
    lacking = "" if keys is None else _missing(keys, container.keys)
    if innermost and container.comma and container.kind == "{":
        lacking = lacking[2:] or '"": 0'
    elif not container.keys:
        lacking = lacking[2:]
    return "".join(parts) + lacking + _CLOSING[container.kind]


def _value_of(key: str, keys: CallKeys | None) -> str:
    if keys is not None and key in keys.arguments:
        return "{}"
    return '""' if keys is not None and key in keys.name else "0"


def _missing(keys: CallKeys, given: list[str]) -> str:
    """The members that a call still needs, each with a comma in front."""
    name = "" if set(keys.name) & set(given) else f', "{keys.name[0]}": ""'
    return name + ("" if set(keys.arguments) & set(given) else f', "{keys.arguments[0]}": {{}}')
