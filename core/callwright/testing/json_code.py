"""Other spellings of a call written as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from callwright.testing.python_code import Change
from callwright.types import JSON

_SYNONYMS = {"arguments": "parameters", "parameters": "arguments"}


def rewrites(text: str) -> Iterator[Change]:
    """Rewrites of a JSON value that keep what it says; nothing for a text that is no JSON.

    `synonym` writes `parameters` for `arguments` and the reverse, which formats of many models allow.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    written = {
        "key_order": json.dumps(_turned(value), ensure_ascii=False),
        "white_space": json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        "line_break": json.dumps(value, ensure_ascii=False, indent=2),
        "escapes": json.dumps(value, ensure_ascii=True).replace("a", "\\u0061") if _plain_keys(value) else text,
        "number_spelling": _respelled(value),
        "synonym": json.dumps(_renamed(value), ensure_ascii=False),
    }
    yield from ((kind, new) for kind, new in written.items() if new != text)


def _turned(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _turned(value[key]) for key in reversed(value)}
    return [_turned(item) for item in value] if isinstance(value, list) else value


def _plain_keys(value: JSON) -> bool:
    """Whether replacing the letter a by its escape touches texts only: `true`, `false` and `null` are no texts."""
    text = json.dumps(value)
    return not any(word in text for word in ("false", "NaN", "\\"))


def _renamed(value: JSON) -> JSON:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {_SYNONYMS.get(key, key): inner for key, inner in value.items()}


class _Spelled(float):
    """A float that is written with an exponent."""

    def __repr__(self) -> str:
        return f"{float(self):.17e}"


def _respelled(value: JSON) -> str:
    def spelled(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {key: spelled(item) for key, item in inner.items()}
        if isinstance(inner, list):
            return [spelled(item) for item in inner]
        return _Spelled(inner) if isinstance(inner, float) else inner

    # json writes a subclass of float with float's own repr; the pure Python encoder asks the object.
    encoder = json.JSONEncoder(ensure_ascii=False)
    return "".join(_pieces(spelled(value), encoder))


def _pieces(value: Any, encoder: json.JSONEncoder) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for index, (key, inner) in enumerate(value.items()):
            yield f"{', ' if index else ''}{encoder.encode(key)}: "
            yield from _pieces(inner, encoder)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for index, inner in enumerate(value):
            yield ", " if index else ""
            yield from _pieces(inner, encoder)
        yield "]"
    else:
        yield repr(value) if isinstance(value, _Spelled) else encoder.encode(value)
