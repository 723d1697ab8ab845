"""BFCL's reading of a reply in Python syntax, quirks included, without its evaluation of model output.

Follows bfcl-eval 2026.3.23, `default_decode_ast_prompting`. The peer passes every binary operation to `eval`; here
binary operations are computed from literals alone, up to a stated size.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

from callwright.types import JSON
from callwright_dialects.python_syntax import parse_expression

MAX_CHARACTERS = 100_000
"""Longer replies count as undecodable."""
MAX_FOLDED = 100_000
"""Limit on the result of one binary operation: bits of a number, elements of a sequence."""
MAX_FOLDED_TOTAL = 1_000_000
"""The same, added up over a reply."""
MAX_FOLD_DEPTH = 328
"""Longer chains of operators exhaust the peer's recursion limit, which it reports as a failure to decode."""

Decoded = list[dict[str, dict[str, JSON]]]


class DecodeError(Exception):
    """The reply is not a list of calls, as BFCL reads it."""


def decode(text: str) -> Decoded:
    """The calls in `text`, as `[{function name: {argument name: value}}]`; `[]` for an empty reply.

    Outer backticks, line feeds and spaces are removed and a missing outer bracket is added. Positional arguments are
    dropped, of a repeated name the last value counts, a bare name stands for its spelling, and every unary operator
    negates. Raises `DecodeError`, and nothing else, for any text that the peer cannot decode.
    """
    if len(text) > MAX_CHARACTERS:
        raise DecodeError(f"the reply is longer than {MAX_CHARACTERS} characters")
    text = text.strip("`\n ")
    text = text if text.startswith("[") else f"[{text}"
    text = text if text.endswith("]") else f"{text}]"
    tree = parse_expression(text)
    if tree is None:
        raise DecodeError("the reply is not an expression in Python syntax")
    nodes = [tree] if isinstance(tree, ast.Call) else getattr(tree, "elts", None)
    if nodes is None or not all(isinstance(node, ast.Call) for node in nodes):
        raise DecodeError("the reply is not a list of calls")
    try:
        folder = _Folder()
        return [_call(node, folder) for node in nodes]
    except (ArithmeticError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise DecodeError(f"a value cannot be read: {type(error).__name__}") from error


def _call(node: ast.Call, folder: _Folder) -> dict[str, dict[str, JSON]]:
    parts: list[str] = []
    function = node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if isinstance(function, ast.Name):
        parts.append(function.id)
    arguments: dict[Any, JSON] = {item.arg: _value(item.value, folder) for item in node.keywords}  # None: `**`
    return {".".join(reversed(parts)): arguments}


def _value(node: ast.expr | None, folder: _Folder) -> JSON:
    match node:
        case ast.Constant(value=value):
            return "..." if value is ... else value
        case ast.UnaryOp(operand=ast.Constant(value=value)):
            return -value  # type: ignore[operator]  # whatever the operator; a TypeError is a failure to decode
        case ast.List(elts=items):
            return [_value(item, folder) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, folder) for item in items)
        case ast.Dict(keys=keys, values=values):
            return {_value(key, folder): _value(value, folder) for key, value in zip(keys, values, strict=True)}
        case ast.Name(id=name):
            return name
        case ast.Call(keywords=[]):
            return ast.unparse(node)
        case ast.Call():
            return _call(node, folder)
        case ast.Subscript(value=value, slice=index):
            return f"{ast.unparse(value)}[{ast.unparse(index)}]"
        case ast.BinOp():
            return folder.fold(node)
    raise ValueError("unsupported syntax")


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
_WIDE_FIELD = re.compile(r"%[^a-zA-Z%]*(?:\*|[0-9]{4})")
_WIDE_ANYWHERE = re.compile(r"\*|[0-9]{4}")


class _Folder:
    """Computes binary operations on literals, within a budget for the whole reply."""

    def __init__(self) -> None:
        self.spent = 0

    def fold(self, node: ast.expr | None, depth: int = 0) -> Any:
        """The value of an expression made of literals and operators, by Python's rules. Raises for anything else."""
        if depth > MAX_FOLD_DEPTH:
            raise ValueError("too long a chain of operators")
        match node:
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=sign, operand=operand):
                return _UNARY[type(sign)](self.fold(operand, depth + 1))
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
                return self.apply(sign, self.fold(left, depth + 1), self.fold(right, depth + 1))
            case ast.List(elts=items):
                return [self.fold(item, depth + 1) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.fold(item, depth + 1) for item in items)
            case ast.Set(elts=items):
                return {self.fold(item, depth + 1) for item in items}
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return {self.fold(key, depth + 1): self.fold(value, depth + 1) for key, value in pairs}
        raise ValueError("not made of literals")

    def apply(self, sign: ast.operator, left: Any, right: Any) -> Any:
        size = _size_of_result(sign, left, right)
        self.spent += size
        if size > MAX_FOLDED or self.spent > MAX_FOLDED_TOTAL:
            raise ValueError("too large a result")
        return _BINARY[type(sign)](left, right)


def _size(value: Any) -> int:
    if isinstance(value, int):
        return value.bit_length() + 1
    return len(value) if hasattr(value, "__len__") else 1


def _size_of_result(sign: ast.operator, left: Any, right: Any) -> int:
    """An upper bound, known before anything is computed."""
    sizes = _size(left) + _size(right)
    if isinstance(sign, ast.Mod) and isinstance(left, str | bytes):
        return sizes + _size_of_formatted(left if isinstance(left, str) else left.decode("latin-1"), right)
    if isinstance(sign, ast.Mult):
        for count, sequence in ((left, right), (right, left)):
            if isinstance(count, int) and hasattr(sequence, "__len__"):
                return sizes + max(count, 0) * len(sequence)
    if isinstance(left, int) and isinstance(right, int):
        if isinstance(sign, ast.Pow) and abs(left) > 1:
            return sizes + _size(left) * abs(right)
        if isinstance(sign, ast.LShift):
            return sizes + max(right, 0)
    return sizes


def _size_of_formatted(template: str, values: Any) -> int:
    """A bound for `template % values`; fields wider than 999 are over the limit."""
    wide = _WIDE_ANYWHERE if "%(" in template else _WIDE_FIELD
    if wide.search(template):
        return MAX_FOLDED + 1
    return template.count("%") * (1400 + len(repr(values)))  # %.999f of the largest float takes 1,309 characters
