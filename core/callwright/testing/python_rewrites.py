"""Function calls in Python, written otherwise: other characters, the same meaning."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import libcst as cst

from callwright.testing.python_code import Change, Source, named


def rewrites(text: str) -> Iterator[Change]:
    """Every rewrite of a call, or of a list of calls, written in Python: other characters, the same meaning."""
    source = Source(text)
    for call in source.calls:
        yield from _argument_order(source, call)
        yield from ((kind, source.changed((call, new))) for kind, new in _spacing(call))
        for argument, _ in named(call):
            for node, new, kind in _literals(argument.value):
                yield kind, source.changed((node, new))
    if isinstance(source.tree, cst.List) and source.elements:
        last = source.elements[-1]
        yield "trailing_comma", source.changed((last, last.with_changes(comma=cst.Comma())))


def _argument_order(source: Source, call: cst.Call) -> Iterator[Change]:
    if len(call.args) > 1 and len(named(call)) == len(call.args):
        commas = [argument.comma for argument in call.args]
        turned = [a.with_changes(comma=comma) for a, comma in zip(reversed(call.args), commas, strict=True)]
        yield "argument_order", source.changed((call, call.with_changes(args=turned)))


def _spacing(call: cst.Call) -> Iterator[tuple[str, cst.Call]]:
    if not call.args:
        yield "white_space", call.with_changes(whitespace_before_args=cst.SimpleWhitespace(" "))
        return
    for left, right in ((" ", " "), ("", "")):
        equal = cst.AssignEqual(cst.SimpleWhitespace(left), cst.SimpleWhitespace(right))
        comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(right * 2))
        spaced = [
            argument.with_changes(
                equal=equal if argument.keyword else cst.MaybeSentinel.DEFAULT,
                comma=comma if argument is not call.args[-1] else argument.comma,
            )
            for argument in call.args
        ]
        yield "white_space", call.with_changes(args=spaced)
    newline = cst.ParenthesizedWhitespace(indent=True, last_line=cst.SimpleWhitespace("    "))
    yield "line_break", call.with_changes(whitespace_before_args=newline)
    yield "trailing_comma", call.with_changes(args=[*call.args[:-1], call.args[-1].with_changes(comma=cst.Comma())])


def _literals(node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode, str]]:
    """Other spellings of the literals inside a value: (node, new node, kind)."""
    if isinstance(node, cst.SimpleString):
        yield from ((node, cst.SimpleString(text), "quotes") for text in _spellings(node))
    elif isinstance(node, cst.Integer):
        value = ast.literal_eval(node.value)
        for text in (hex(value), f"{value:_}"):
            if text != node.value:
                yield node, cst.Integer(text), "number_spelling"
    elif isinstance(node, cst.Float):
        value = ast.literal_eval(node.value)
        for text in (f"{node.value}0", f"{value:.17e}"):
            if "e" not in node.value.lower() and ast.literal_eval(text) == value:
                yield node, cst.Float(text), "number_spelling"
    elif isinstance(node, cst.Dict) and len(node.elements) > 1:
        commas = [element.comma for element in node.elements]
        turned = [e.with_changes(comma=c) for e, c in zip(reversed(node.elements), commas, strict=True)]
        yield node, node.with_changes(elements=turned), "key_order"
    for child in node.children:
        yield from _literals(child)


def _spellings(node: cst.SimpleString) -> Iterator[str]:
    value = node.evaluated_value
    if not isinstance(value, str):
        return
    single = repr(value)
    # Python's own quoting, with the other quote: repr takes ' unless the text holds one and no ".
    double = '"' + repr(value + '"')[1:-2].replace('"', '\\"') + '"'
    escaped = (
        f"'\\u{ord(value[0]):04x}{repr(value[1:] + chr(34))[1:-2]}'" if value and ord(value[0]) < 0x10000 else single
    )
    for text in (single, double, f'""{double}""', escaped):
        if text != node.value and _evaluates_to(text, value):
            yield text


def _evaluates_to(text: str, value: str) -> bool:
    try:
        return bool(ast.literal_eval(text) == value)
    except (SyntaxError, ValueError):
        return False
