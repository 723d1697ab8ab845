"""What BFCL computes where a value holds a binary operation, without evaluating what a model wrote.

The peer hands the expression's text to `eval`. Here the tree is walked: literals, operators, comparisons, conditions,
subscripts, comprehensions and f-strings, within a budget. Names stand for Python's built-in types and functions as
mere objects; nothing is ever called, so where the peer calls something, this raises.
"""

from __future__ import annotations

import ast
import builtins
import operator
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

MAX_SIZE = 100_000
"""Limit on the result of one operation: bits of a number, elements of a sequence and all that is in it."""
MAX_TOTAL_SIZE = 1_000_000
"""The same, added up over a reply."""
MAX_DEPTH = 328
"""Longer chains of operators exhaust the peer's recursion limit, which it reports as a failure to decode."""

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
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_CONVERSIONS: dict[int, Callable[[Any], Any]] = {-1: lambda value: value, 115: str, 114: repr, 97: ascii}
_NAMES: dict[str, Any] = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type | types.BuiltinFunctionType | bool) or value in (..., NotImplemented)
}
_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set)
_WIDE_FIELD = re.compile(r"%[^a-zA-Z%]*(?:\*|[0-9]{4})")
_WIDE_ANYWHERE = re.compile(r"\*|[0-9]{4}")
_MAX_FIELD = 1400  # %.999f of the largest float takes 1,309 characters


class Folder:
    """Computes the binary operations of one reply, within one budget."""

    def __init__(self) -> None:
        self.spent = 0
        self.names = _NAMES

    def fold(self, node: ast.expr | None, depth: int = 0) -> Any:
        """The value of an expression, by Python's rules. Raises whatever those rules raise, and ValueError for what
        is not computed here or is over the limits."""
        if depth > MAX_DEPTH:
            raise ValueError("too long a chain of operators")
        read = _READ.get(type(node))
        if read is None:
            raise ValueError("not made of literals and operators")
        return read(self, node, depth + 1)

    def spend(self, size: int) -> None:
        self.spent += size
        if size > MAX_SIZE or self.spent > MAX_TOTAL_SIZE:
            raise ValueError("too large a result")

    def constant(self, node: ast.Constant, depth: int) -> Any:
        if type(node.value) is int:
            str(node.value)  # the peer writes it out in decimal, which Python refuses for a huge one
        return node.value

    def name(self, node: ast.Name, depth: int) -> Any:
        value = self.names[node.id]
        self.spend(_size(value))  # a name can stand for the same large value many times
        return value

    def walrus(self, node: ast.NamedExpr, depth: int) -> Any:
        value = self.fold(node.value, depth)
        self.names = {**self.names, node.target.id: value}
        return value

    def unary(self, node: ast.UnaryOp, depth: int) -> Any:
        return _UNARY[type(node.op)](self.fold(node.operand, depth))

    def binary(self, node: ast.BinOp, depth: int) -> Any:
        sign, left, right = node.op, self.fold(node.left, depth), self.fold(node.right, depth)
        if type(sign) not in _BINARY:
            raise ValueError("an operator that literals do not have")
        self.spend(_size_of_result(sign, left, right))
        return _BINARY[type(sign)](left, right)

    def either(self, node: ast.BoolOp, depth: int) -> Any:
        value = None
        for item in node.values:
            value = self.fold(item, depth)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def condition(self, node: ast.IfExp, depth: int) -> Any:
        return self.fold(node.body if self.fold(node.test, depth) else node.orelse, depth)

    def comparison(self, node: ast.Compare, depth: int) -> Any:
        left, result = self.fold(node.left, depth), None
        for sign, item in zip(node.ops, node.comparators, strict=True):
            right = self.fold(item, depth)
            result = _COMPARISONS[type(sign)](left, right)
            if not result:
                break
            left = right
        return result

    def sequence(self, items: Iterable[ast.expr], depth: int) -> list[Any]:
        result: list[Any] = []
        for item in items:
            if isinstance(item, ast.Starred):
                values = self.fold(item.value, depth)
                self.spend(_size(values))
                result += values
            else:
                result.append(self.fold(item, depth))
        return result

    def dictionary(self, node: ast.Dict, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                values = self.fold(item, depth)
                self.spend(_size(values))
                result = {**result, **values}
            else:
                name = self.fold(key, depth)
                result[name] = self.fold(item, depth)
        return result

    def subscript(self, node: ast.Subscript, depth: int) -> Any:
        value, index = self.fold(node.value, depth), self.fold(node.slice, depth)
        self.spend(_size(value))
        return operator.getitem(value, index)

    def slice(self, node: ast.Slice, depth: int) -> slice:
        parts = (node.lower, node.upper, node.step)
        return slice(*(None if part is None else self.fold(part, depth) for part in parts))

    def attribute(self, node: ast.Attribute, depth: int) -> Any:
        value = self.fold(node.value, depth)
        if type(value) not in _PLAIN or node.attr.startswith("_"):
            raise ValueError("not an attribute of a literal")
        return getattr(value, node.attr)

    def formatted(self, node: ast.FormattedValue, depth: int) -> str:
        value = _CONVERSIONS[node.conversion](self.fold(node.value, depth))
        spec = "" if node.format_spec is None else str(self.fold(node.format_spec, depth))
        if _WIDE_ANYWHERE.search(spec):
            raise ValueError("too wide a field")
        self.spend(_size(value) + _MAX_FIELD)
        return format(value, spec)

    def joined(self, node: ast.JoinedStr, depth: int) -> str:
        return "".join(str(self.fold(item, depth)) for item in node.values)

    def comprehension(self, node: Any, depth: int) -> Iterator[Any]:
        """The elements of a comprehension; of a dict's, pairs."""
        parts = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        outer = self.names

        def each(clauses: list[ast.comprehension]) -> Iterator[Any]:
            if not clauses:
                values = [self.fold(part, depth) for part in parts]
                yield values[0] if len(values) == 1 else tuple(values)
                return
            first, rest = clauses[0], clauses[1:]
            for value in self.fold(first.iter, depth):
                self.spend(_size(value))
                self.names = {**self.names, **_bound(first.target, value)}
                if all(self.fold(test, depth) for test in first.ifs):
                    yield from each(rest)

        try:
            yield from each(node.generators)
        finally:
            self.names = outer


def _bound(target: ast.expr, value: Any) -> Mapping[str, Any]:
    """What a comprehension's target is bound to."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    if not isinstance(target, ast.Tuple | ast.List):
        raise ValueError("an unusual target of a comprehension")
    names: dict[str, Any] = {}
    for inner, item in zip(target.elts, value, strict=True):
        names.update(_bound(inner, item))
    return names


_READ: dict[type, Callable[[Folder, Any, int], Any]] = {
    ast.Constant: Folder.constant,
    ast.Name: Folder.name,
    ast.NamedExpr: Folder.walrus,
    ast.UnaryOp: Folder.unary,
    ast.BinOp: Folder.binary,
    ast.BoolOp: Folder.either,
    ast.IfExp: Folder.condition,
    ast.Compare: Folder.comparison,
    ast.List: lambda self, node, depth: self.sequence(node.elts, depth),
    ast.Tuple: lambda self, node, depth: tuple(self.sequence(node.elts, depth)),
    ast.Set: lambda self, node, depth: set(self.sequence(node.elts, depth)),
    ast.Dict: Folder.dictionary,
    ast.Subscript: Folder.subscript,
    ast.Slice: Folder.slice,
    ast.Attribute: Folder.attribute,
    ast.JoinedStr: Folder.joined,
    ast.FormattedValue: Folder.formatted,
    ast.Lambda: lambda self, node, depth: object(),  # never called, so any object does
    ast.ListComp: lambda self, node, depth: list(self.comprehension(node, depth)),
    ast.SetComp: lambda self, node, depth: set(self.comprehension(node, depth)),
    ast.DictComp: lambda self, node, depth: dict(self.comprehension(node, depth)),
    ast.GeneratorExp: Folder.comprehension,
}


def _size(value: Any) -> int:
    """Bits of a number, characters of a text, elements of a collection with all that is in them, as often as it is
    in them: what writing the value out would take, up to a factor."""
    if isinstance(value, int):
        return value.bit_length() + 1
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return len(value) + sum(_size(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return len(value) + sum(_size(item) for item in value)
    return 1


def _size_of_result(sign: ast.operator, left: Any, right: Any) -> int:
    """An upper bound, known before anything is computed."""
    sizes = _size(left) + _size(right)
    if isinstance(sign, ast.Mod) and isinstance(left, str | bytes):
        return sizes + _size_of_formatted(left if isinstance(left, str) else left.decode("latin-1"), right)
    if isinstance(sign, ast.Mult):
        for count, sequence in ((left, right), (right, left)):
            if isinstance(count, int) and hasattr(sequence, "__len__"):
                return sizes + max(count, 0) * _size(sequence)
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
        return MAX_SIZE + 1
    return template.count("%") * (_MAX_FIELD + len(repr(values)))
