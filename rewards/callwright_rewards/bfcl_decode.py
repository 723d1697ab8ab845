"""BFCL's reading of a reply in Python syntax, quirks included, without its evaluation of model output.

Follows bfcl-eval 2026.3.23, `default_decode_ast_prompting`. The peer passes every binary operation to `eval`; here
`bfcl_fold` computes them.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from callwright.types import JSON

from callwright_rewards.bfcl_fold import Folder
from callwright_rewards.bfcl_scan import is_prose, scan

MAX_CHARACTERS = 100_000
"""Longer replies count as undecodable."""

Decoded = list[dict[str, dict[str, JSON]]]

MAX_REMEMBERED = 4096
"""Values whose reading is kept, by their text: replies to one question share most of theirs."""
MAX_REMEMBERED_LENGTH = 200
"""Characters of the longest text that is kept."""
_RUNS_INTO_WORD = re.compile(r"[0-9][\w.]*(?:and|else|for|if|in|is|not|or)")  # `1if x`: read, with a warning


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
    if text == "[]":
        return []
    try:
        return _decode(text, Folder())
    except DecodeError:
        raise
    except Exception as error:  # whatever Python's operators raise; the peer, too, calls all of it a failure to decode
        raise DecodeError(_unreadable(error)) from error


def _decode(text: str, folder: Folder) -> Decoded:
    def read(value: str) -> JSON:
        kept = len(value) <= MAX_REMEMBERED_LENGTH
        result, spent, error = _read(value) if kept else _read.__wrapped__(value)
        if error is not None:
            raise DecodeError(error)
        folder.spend(spent)
        return result

    plain = scan(text, read)
    if plain is not None:
        return plain
    tree = None if is_prose(text) else _parse(text)
    if tree is None:
        raise DecodeError("the reply is not an expression in Python syntax")
    nodes = [tree] if isinstance(tree, ast.Call) else getattr(tree, "elts", None)
    if nodes is None or not all(isinstance(node, ast.Call) for node in nodes):
        raise DecodeError("the reply is not a list of calls")
    return [_call(node, folder) for node in nodes]


@lru_cache(MAX_REMEMBERED)
def _read(value: str) -> tuple[JSON, int, str | None]:
    """The value of an expression, never to be changed, what of a reply's budget it takes, and why it has none."""
    folder = Folder()
    try:
        tree = _parse(f"({value})")  # in brackets, so that a line feed does not end it
        return _value(tree, folder), folder.spent, None
    except Exception as error:
        return None, folder.spent, _unreadable(error)


def forget() -> None:
    """Drop what is kept of earlier replies; for measurements."""
    _read.cache_clear()


def _unreadable(error: Exception) -> str:
    return f"a value cannot be read: {type(error).__name__}"


def _parse(text: str) -> ast.expr | None:
    """The syntax tree of `text`; None if it is no expression. Never raises, whatever the text."""
    try:
        if "\\" not in text and not _RUNS_INTO_WORD.search(text):
            return ast.parse(text, mode="eval").body
        with warnings.catch_warnings():  # only where there is something to warn of: it is slow, and not thread-safe
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, SystemError):
        return None  # ValueError: NUL or lone surrogates; SystemError: CPython 3.11 after a deep recursion


def _call(node: ast.Call, folder: Folder) -> dict[str, dict[str, JSON]]:
    parts: list[str] = []
    function = node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if isinstance(function, ast.Name):
        parts.append(function.id)
    arguments: dict[Any, JSON] = {item.arg: _value(item.value, folder) for item in node.keywords}  # None: `**`
    return {".".join(reversed(parts)): arguments}


def _value(node: ast.expr | None, folder: Folder) -> JSON:
    read = _READ.get(type(node))
    if read is None:
        raise ValueError("unsupported syntax")
    return read(node, folder)


def _constant(node: ast.Constant, folder: Folder) -> JSON:
    return "..." if node.value is ... else node.value


def _unary(node: ast.UnaryOp, folder: Folder) -> JSON:
    if not isinstance(node.operand, ast.Constant):
        raise ValueError("an operator before something that is no constant")
    return -node.operand.value  # type: ignore[operator]  # whatever the operator; a TypeError is a failure to decode


def _list(node: ast.List, folder: Folder) -> JSON:
    return [_value(item, folder) for item in node.elts]


def _tuple(node: ast.Tuple, folder: Folder) -> JSON:
    return tuple([_value(item, folder) for item in node.elts])


def _dict(node: ast.Dict, folder: Folder) -> JSON:
    return {_value(key, folder): _value(value, folder) for key, value in zip(node.keys, node.values, strict=True)}


def _inner_call(node: ast.Call, folder: Folder) -> JSON:
    return _call(node, folder) if node.keywords else ast.unparse(node)


def _subscript(node: ast.Subscript, folder: Folder) -> JSON:
    return f"{ast.unparse(node.value)}[{ast.unparse(node.slice)}]"


_READ: dict[type, Callable[[Any, Folder], JSON]] = {
    ast.Constant: _constant,
    ast.UnaryOp: _unary,
    ast.List: _list,
    ast.Tuple: _tuple,
    ast.Dict: _dict,
    ast.Name: lambda node, folder: node.id,
    ast.Call: _inner_call,
    ast.Subscript: _subscript,
    ast.BinOp: lambda node, folder: folder.fold(node),
}
