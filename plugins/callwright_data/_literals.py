"""Values that data sets write as text: JSON, or Python's notation of the same."""

from __future__ import annotations

import ast
import json
import math
from typing import Any

from callwright.types import JSON
from callwright_dialects.python_syntax import parse_expression


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no finite number")


def _finite(written: str) -> float:
    number = float(written)
    return number if math.isfinite(number) else _refuse(written)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, strict=False)
_JSON_NAMES = {"true": True, "false": False, "null": None}


def strict_json(text: str) -> JSON:
    """The value of JSON; ValueError for all else, also for NaN and infinite numbers, which Python's decoder takes.
    Strings may hold line breaks, as some rows' do."""
    return _DECODER.decode(text)


def literal(text: str) -> JSON:
    """The value of `text`, which is JSON or a Python literal of JSON's types; nothing is evaluated.

    Tuples become lists, and JSON's `true`, `false` and `null` may stand in Python's notation. Raises ValueError for
    everything else, NaN and infinite numbers included.
    """
    try:
        return strict_json(text)
    except (ValueError, RecursionError):
        pass
    node = parse_expression(text.strip())
    try:
        if node is not None:
            return node_value(node)
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"neither JSON nor a Python literal: {text[:80]!r}")


def node_value(node: ast.expr) -> JSON:
    """The value of a syntax tree that is a literal. Raises ValueError for all others."""
    if isinstance(node, ast.Constant):
        value = node.value
        if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
            return value
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = node_value(node.operand)
        if type(number) in (int, float):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.List | ast.Tuple):
        return [node_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {_key(key): node_value(item) for key, item in zip(node.keys, node.values, strict=True)}
    raise ValueError(f"no literal: {ast.dump(node)[:80]}")


def _key(node: ast.expr | None) -> str:
    key = None if node is None else node_value(node)
    if not isinstance(key, str):
        raise ValueError("a key that is no text")
    return key
