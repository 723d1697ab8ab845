"""Function calls in Python syntax: text <-> calls, with the character span of every part.

Nothing is ever evaluated. The text goes through Python's own parser as an expression, and the tree is read.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import unicodedata
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from callwright import Argument, Call, CallwrightError, Parse, ParseStatus, Reason, ReasonCode
from callwright.types import JSON, Span

from callwright_dialects.outcomes import (
    MAX_CHARACTERS,
    MAX_INTEGER_BITS,
    MAX_NESTING,
    Unreadable,
    check_length,
    too_deep,
    unparsable,
    without_calls,
)

_AROUND = "` \t\r\n"
_NEWLINE = re.compile(r"\r\n|\r|\n")
_IDENTIFIER = re.compile(r"[^\s=#\\]+")


def parse_expression(text: str) -> ast.expr | None:
    """The syntax tree of `text` as one Python expression; None if it is none. Never raises, whatever the text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, SystemError):
        return None  # ValueError: NUL or lone surrogates; SystemError: CPython 3.11 after a deep recursion


def parse_calls(text: str, start: int, end: int) -> Parse:
    """Read `text[start:end]` as `[f(a=1), g()]`. Spans count from the start of `text`; `body` is `(start, end)`.

    White space and backticks around the list do not matter, and a missing outer bracket is forgiven, as in BFCL (which
    minds tabs and carriage returns). Positional arguments, repeated names and values that are no literals are read,
    each with a problem; such a value is given as its source text.
    """
    body = (start, end)
    if end - start > MAX_CHARACTERS:
        return unparsable(text, body, body, f"longer than {MAX_CHARACTERS} characters")
    inner = text[start:end].strip(_AROUND)
    if not inner:
        return Parse(text, ParseStatus.NO_CALL, body=body)
    offset = end - len(text[start:end].lstrip(_AROUND))
    opening = "" if inner.startswith("[") else "["
    source = f"{opening}{inner}" if inner.endswith("]") else f"{opening}{inner}]"
    try:
        tree = parse_expression(source)
        if not isinstance(tree, ast.List):
            raise Unreadable("not a list of calls in Python syntax")
        reader = _Reader(_Positions(source, offset - len(opening)), [])
        calls = tuple(reader.call(node) for node in tree.elts)
    except Unreadable as error:
        return without_calls(text, body, (offset, offset + len(inner)), str(error))
    status = ParseStatus.CALLS if calls else ParseStatus.NO_CALL
    return Parse(text, status, calls, body=body, problems=tuple(reader.problems))


class _Positions:
    """From a tree's positions (line, UTF-8 byte in the line) to characters of the completion."""

    def __init__(self, source: str, shift: int) -> None:
        self.source, self.shift = source, shift
        starts = [0, *(found.end() for found in _NEWLINE.finditer(source))]
        self.one_line = len(starts) == 1 and source.isascii()
        """Then columns are characters of the source."""
        if source.isascii():
            self.bytes_before: list[int] | None = None
            self.lines = starts
        else:
            self.bytes_before = [0]
            for character in source:
                self.bytes_before.append(self.bytes_before[-1] + len(character.encode()))
            self.lines = [self.bytes_before[start] for start in starts]

    def local(self, line: int, column: int) -> int:
        """Character position in `source`."""
        position = self.lines[line - 1] + column
        return position if self.bytes_before is None else bisect_left(self.bytes_before, position)

    def span(self, node: ast.expr) -> Span:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        if self.one_line:
            return node.col_offset + self.shift, node.end_col_offset + self.shift
        start, end = self.local(node.lineno, node.col_offset), self.local(node.end_lineno, node.end_col_offset)
        return start + self.shift, end + self.shift

    def text(self, span: Span) -> str:
        return self.source[span[0] - self.shift : span[1] - self.shift]

    def keyword_span(self, node: ast.keyword) -> Span:
        if self.one_line and node.arg is not None:
            return node.col_offset + self.shift, node.col_offset + len(node.arg) + self.shift
        start = self.local(node.lineno, node.col_offset)
        found = _IDENTIFIER.match(self.source, start)
        return start + self.shift, (found.end() if found else start) + self.shift


@dataclass
class _Reader:
    """Reads the nodes of one reply and collects its problems."""

    positions: _Positions
    problems: list[Reason]

    def call(self, node: ast.expr) -> Call:
        if not isinstance(node, ast.Call):
            raise Unreadable("the list holds something that is not a call")
        arguments = [self.positional(value) for value in node.args]
        seen: set[str] = set()
        arguments += [self.named(item, seen) for item in node.keywords]
        arguments.sort(key=lambda argument: argument.value_span)
        span, name_span = self.positions.span(node), self.positions.span(node.func)
        return Call(_dotted_name(node.func), tuple(arguments), span, name_span)

    def positional(self, node: ast.expr) -> Argument:
        span = self.positions.span(node)
        self.problems.append(Reason(ReasonCode.POSITIONAL_ARGUMENT, "an argument without a name", span))
        return Argument(None, self.value(node), None, span)

    def named(self, item: ast.keyword, seen: set[str]) -> Argument:
        span = self.positions.span(item.value)
        if item.arg is None:
            self.problems.append(Reason(ReasonCode.UNEXPECTED_ARGUMENT, "`**` unpacks arguments without names", span))
            return Argument(None, self.value(item.value), None, span)
        name_span = self.positions.keyword_span(item)
        if item.arg in seen:
            message = f"the argument {item.arg!r} is given more than once"
            self.problems.append(Reason(ReasonCode.UNEXPECTED_ARGUMENT, message, name_span))
        seen.add(item.arg)
        return Argument(item.arg, self.value(item.value), name_span, span)

    def value(self, node: ast.expr) -> JSON:
        """The literal's value, or its source text, with a problem, where it is none."""
        try:
            return self.literal(node)
        except TypeError:
            span = self.positions.span(node)
            self.problems.append(Reason(ReasonCode.WRONG_TYPE, "a value that is not a literal", span))
            return self.positions.text(span)

    def literal(self, node: ast.expr | None, depth: int = 0) -> JSON:
        """The value of a literal made of JSON's types and tuples. Raises TypeError for anything else."""
        if depth > MAX_NESTING:
            raise Unreadable(f"values nested deeper than {MAX_NESTING}")
        if isinstance(node, ast.Constant):
            return _plain(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            number = _plain(node.operand.value)
            if type(number) in (int, float) and isinstance(node.op, (ast.USub, ast.UAdd)):
                return -number if isinstance(node.op, ast.USub) else number
        if isinstance(node, ast.List):
            return [self.literal(item, depth + 1) for item in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(self.literal(item, depth + 1) for item in node.elts)
        if isinstance(node, ast.Dict):
            return self.mapping(node, depth)
        raise TypeError

    def mapping(self, node: ast.Dict, depth: int) -> dict[JSON, JSON]:
        """Of a repeated key the last value wins, as in Python, and the repetition is a problem."""
        result: dict[JSON, JSON] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            key = self.literal(key_node, depth + 1)
            if key in result and key_node is not None:
                message = f"the key {key!r} is given more than once"
                self.problems.append(Reason(ReasonCode.UNEXPECTED_ARGUMENT, message, self.positions.span(key_node)))
            result[key] = self.literal(value_node, depth + 1)
        return result


def _dotted_name(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise Unreadable("a function's name is not a plain dotted name")
    return ".".join([node.id, *reversed(parts)])


def _plain(value: Any) -> JSON:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int and value.bit_length() <= MAX_INTEGER_BITS:
        return value
    if kind is float and math.isfinite(value):
        return value
    raise TypeError  # 1e999 too: JSON, and so every schema, has no infinity


def render_calls(calls: Sequence[Call], tags: re.Pattern[str] | None = None) -> str:
    """`[f(a=1, b='x'), g()]`, text that `parse_calls` reads back as `calls`.

    Where the reply's tags match `tags`, their look-alikes inside strings are written with an escape. Raises
    CallwrightError for what cannot be read back: names that Python's syntax cannot write, values that are no literals
    of JSON's types or tuples, and what the limits of this module refuse.
    """
    text = f"[{', '.join(_render_call(call) for call in calls)}]"
    if tags is not None:  # "<" stands only in strings; what repr escaped before it is complete
        text = tags.sub(lambda found: f"\\x{ord(found[0][0]):02x}{found[0][1:]}", text)
    return check_length(text)


def _render_call(call: Call) -> str:
    for name in call.name.split("."):
        _check_name(name)
    positional = [_render_value(argument.value) for argument in call.arguments if argument.name is None]
    if any(argument.name is None for argument in call.arguments[len(positional) :]):
        raise CallwrightError(f"{call.name}: positional arguments cannot follow named ones in a Python call")
    named = [a for a in call.arguments if a.name is not None]
    for argument in named:
        _check_name(argument.name or "")
    if len({argument.name for argument in named}) < len(named):
        raise CallwrightError(f"{call.name}: an argument cannot be given twice")
    arguments = [*positional, *(f"{argument.name}={_render_value(argument.value)}" for argument in named)]
    return f"{call.name}({', '.join(arguments)})"


@lru_cache(4096)  # a data set repeats the names of its tools
def _check_name(name: str) -> None:
    # Python's parser folds identifiers (NFKC), so another spelling would not come back as it was
    if not name.isidentifier() or keyword.iskeyword(name) or unicodedata.normalize("NFKC", name) != name:
        raise CallwrightError(f"{name!r} cannot be a name in a Python call; choose another dialect for this tool")


def _render_value(value: JSON) -> str:
    if too_deep(value):
        raise CallwrightError(f"a value nested deeper than {MAX_NESTING} cannot be read back")
    _check_value(value)
    return repr(value)


def _check_value(value: JSON) -> None:
    kind = type(value)
    if kind is dict:
        for pair in value.items():
            _check_value(pair)
    elif kind in (list, tuple):
        for item in value:
            _check_value(item)
    elif kind is int and value.bit_length() > MAX_INTEGER_BITS:
        raise CallwrightError(f"an integer of {value.bit_length()} bits: at most {MAX_INTEGER_BITS} can be read back")
    elif kind is float and not math.isfinite(value):
        raise CallwrightError(f"{value} cannot be an argument: there is no literal for it")
    elif value is not None and kind not in (bool, int, float, str):
        raise CallwrightError(f"a value of type {kind.__name__} cannot be an argument: it is no JSON value")
