"""Changes to function calls written as Python code. They are libcst transformers: what is not changed stays as it was
written, to the character."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import libcst as cst

from callwright.testing.values import same_value, wrong_values
from callwright.types import JSON, Argument, Call, CallwrightError

NEW_CALL = "lookup_zebra(quartz=1)"
"""A call that nobody asked for."""
_NOWHERE = (0, 0)


def call_of(name: str, arguments: Mapping[str, JSON]) -> Call:
    """A call that is not written yet: all spans are (0, 0)."""
    return Call(name, tuple(Argument(key, v, _NOWHERE, _NOWHERE) for key, v in arguments.items()), _NOWHERE, _NOWHERE)


def to_python(calls: Sequence[Call]) -> str:
    """`[f(a=1), g()]`."""
    written = (f"{c.name}({', '.join(f'{a.name}={a.value!r}' for a in c.arguments if a.name)})" for c in calls)
    return f"[{', '.join(written)}]"


def from_python(source: str) -> list[Call]:
    """The calls of a list of calls with literal arguments, as `to_python` writes it. Evaluates nothing.

    Raises `CallwrightError` for any other text.
    """
    try:
        tree: Any = ast.parse(source.strip(), mode="eval").body
        nodes: list[Any] = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        found = [
            call_of(ast.unparse(n.func), {str(k.arg): ast.literal_eval(k.value) for k in n.keywords}) for n in nodes
        ]
    except (SyntaxError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        raise CallwrightError(f"no list of calls in Python: {source!r}") from error
    return found


class Source:
    """One call or a list of calls in Python, taken apart."""

    def __init__(self, text: str) -> None:
        inner = text.strip()
        self.around = text.partition(inner)[::2] if inner else (text, "")
        try:
            self.tree = cst.parse_expression(inner)
        except Exception as error:  # libcst raises errors of several kinds, for other texts than Python's
            raise CallwrightError(f"not Python: {text!r}") from error
        # `f(), g()` without its brackets is a tuple; a trailing comma belongs to it.
        self.elements: list[cst.BaseElement] = (
            list(self.tree.elements) if isinstance(self.tree, cst.List | cst.Tuple) else []
        )
        nodes = [element.value for element in self.elements] or [self.tree]
        self.calls = [node for node in nodes if isinstance(node, cst.Call)]
        if len(self.calls) != len(nodes) and self.elements:
            raise CallwrightError(f"not a list of calls: {text!r}")

    def changed(self, *changes: tuple[cst.CSTNode, Any]) -> str:
        """The text with nodes replaced, each pair being (old, new); libcst.RemoveFromParent() removes a node."""
        parents = self.parents
        path: set[int] = set()
        for node, _ in changes:
            here: cst.CSTNode | None = node
            while here is not None and id(here) not in path:
                path.add(id(here))
                here = parents.get(id(here))
        return self.code(self.tree.visit(_Swap(changes, path)))

    @cached_property
    def parents(self) -> dict[int, cst.CSTNode]:
        """Of every node, by identity."""
        found: dict[int, cst.CSTNode] = {}
        waiting: list[cst.CSTNode] = [self.tree]
        while waiting:
            node = waiting.pop()
            for child in node.children:
                found[id(child)] = node
                waiting.append(child)
        return found

    def code(self, tree: Any) -> str:
        return self.around[0] + code(tree) + self.around[1]


class _Swap(cst.CSTTransformer):
    """Replaces nodes, found by identity. Goes only where they are: most of the time goes into walking trees."""

    def __init__(self, changes: Sequence[tuple[cst.CSTNode, Any]], path: set[int]) -> None:
        self.changes, self.path = changes, path

    def on_visit(self, node: cst.CSTNode) -> bool:
        return id(node) in self.path

    def on_leave(self, original_node: cst.CSTNodeT, updated_node: cst.CSTNodeT) -> Any:
        return next((new for old, new in self.changes if old is original_node), updated_node)


def code(node: Any) -> str:
    return cst.Module([]).code_for_node(node)


def named(call: cst.Call) -> list[tuple[cst.Arg, str]]:
    """The call's arguments that have a name."""
    return [(argument, argument.keyword.value) for argument in call.args if argument.keyword is not None]


def literal(argument: cst.Arg) -> JSON:
    """The argument's value. Raises ValueError if it is no literal; evaluates nothing."""
    try:
        return ast.literal_eval(code(argument.value))
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error


Change = tuple[str, str]
"""(kind, text)."""


def _expression(value: JSON) -> cst.BaseExpression:
    return cst.parse_expression(repr(value))


# ------------------------------------------------------------------------------------------------- near misses


def near_misses(text: str) -> Iterator[Change]:
    """Every near miss of a call, or of a list of calls, written in Python."""
    source = Source(text)
    for call in source.calls:
        for old, new, kind in _call_misses(call):
            yield kind, source.changed((old, new))
        yield from _swapped(source, call)
    yield from _list_misses(source)


def value_misses(source: Source) -> list[tuple[cst.CSTNode, cst.CSTNode]]:
    """For each argument, the change that makes its value wrong: (node, wrong node)."""
    changes: list[tuple[cst.CSTNode, cst.CSTNode]] = []
    for call in source.calls:
        for argument, _ in named(call):
            wrong = next(wrong_values(literal(argument)), None)
            if wrong is not None:
                changes.append((argument, argument.with_changes(value=_expression(wrong[1]))))
    return changes


def _call_misses(call: cst.Call) -> Iterator[tuple[cst.CSTNode, Any, str]]:
    name = code(call.func)
    yield call, call.with_changes(func=cst.parse_expression(f"{name}_x")), "rename_function"
    if name.swapcase() != name:
        yield call, call.with_changes(func=cst.parse_expression(name.swapcase())), "wrong_case_function"
    extra = cst.parse_expression("f(zebra=1)")
    assert isinstance(extra, cst.Call)
    first = [argument.with_changes(comma=_comma(argument)) for argument in call.args]
    yield call, call.with_changes(args=[*first, *extra.args]), "add_argument"
    for argument, key in named(call):
        yield argument, argument.with_changes(keyword=cst.Name(f"{key}_x")), "rename_argument"
        if key.swapcase() != key:
            yield argument, argument.with_changes(keyword=cst.Name(key.swapcase())), "wrong_case_argument"
        yield call, call.with_changes(args=_without(call.args, argument)), "drop_argument"
        for kind, wrong in wrong_values(literal(argument)):
            yield argument, argument.with_changes(value=_expression(wrong)), kind


def _comma(argument: cst.Arg) -> cst.Comma:
    if isinstance(argument.comma, cst.Comma):
        return argument.comma
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _without(arguments: Sequence[cst.Arg], leave_out: cst.Arg) -> list[cst.Arg]:
    rest = [argument for argument in arguments if argument is not leave_out]
    if rest and arguments[-1] is leave_out:
        rest[-1] = rest[-1].with_changes(comma=leave_out.comma)
    return rest


def _swapped(source: Source, call: cst.Call) -> Iterator[Change]:
    arguments = [argument for argument, _ in named(call)]
    for first, second in itertools.pairwise(arguments):
        if not same_value(literal(first), literal(second)):
            changes = (first, first.with_changes(value=second.value)), (second, second.with_changes(value=first.value))
            yield "swap_values", source.changed(*changes)


def _list_misses(source: Source) -> Iterator[Change]:
    """Calls added, doubled and dropped. A single call without brackets gets a neighbour behind a comma."""
    new = cst.parse_expression(NEW_CALL)
    if not isinstance(source.tree, cst.List):
        if source.calls and not source.elements:
            yield "add_call", f"{source.code(source.tree)}, {NEW_CALL}"
            yield "duplicate_call", f"{source.code(source.tree)}, {code(source.tree)}"
        return
    space = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    before = [element.with_changes(comma=space) for element in source.elements]
    yield "add_call", source.code(source.tree.with_changes(elements=[*before, cst.Element(new)]))
    for index, element in enumerate(source.elements):
        elements: list[cst.BaseElement] = [*before[: index + 1], element, *source.elements[index + 1 :]]
        yield "duplicate_call", source.code(source.tree.with_changes(elements=elements))
        rest = [*source.elements[:index], *source.elements[index + 1 :]]
        if rest and index == len(rest):
            rest[-1] = rest[-1].with_changes(comma=element.comma)
        yield "drop_call", source.code(source.tree.with_changes(elements=rest))
