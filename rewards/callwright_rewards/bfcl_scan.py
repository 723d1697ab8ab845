"""A quick reading of the plainest replies, for speed alone: what it reads, it reads as `bfcl_decode` does.

Python's own parser takes most of the time of a check. Most replies need little of it: a list of calls whose arguments
are plain literals. Those are read here with a few regular expressions; everything else is left to the parser.
"""

from __future__ import annotations

import keyword
import re

from callwright.types import JSON

MAX_DEPTH = 20
"""Values nested deeper are left to Python's parser, which has its own limit."""

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_TEXT = r"\\\n\r\0\ud800-\udfff"  # not in a string: escapes, and what Python's parser refuses
_DIGITS = "-?(?:0|[1-9][0-9]{0,17})"
_VALUE_PATTERN = (
    rf"""(?:'([^'{_TEXT}]*)'|"([^"{_TEXT}]*)"|({_DIGITS}\.[0-9]{{1,17}})|({_DIGITS})|({_NAME})|([\[({{]))"""
)
_HEAD = re.compile(rf"[ \n]*({_NAME}(?:\.{_NAME})*)\([ \n]*(\)?)")
_ARGUMENT = re.compile(rf"[ \n]*({_NAME})[ \n]*=[ \n]*{_VALUE_PATTERN}[ \n]*(,?)[ \n]*(\)?)")
_VALUE = re.compile(rf"[ \n]*{_VALUE_PATTERN}[ \n]*")
_AFTER_ARGUMENT = re.compile(r"[ \n]*(,?)[ \n]*(\)?)")
_AFTER_CALL = re.compile(r"[ \n]*(,?)[ \n]*(\]?)")
_SPACE = re.compile(r"[ \n]*")
_PROSE = re.compile(rf"\[[ \n]*({_NAME})(?:[ \n]+({_NAME})|[ \n]*(?:[:!](?!=)|[;?$]))")
_KEYWORDS = frozenset(keyword.kwlist)
_CONSTANTS = {"True": True, "False": False, "None": None}
_CLOSING = {"[": "]", "(": ")", "{": "}"}


class _Unusual(Exception):
    """Not plain enough to be read here."""


def is_prose(text: str) -> bool:
    """Whether `text`, which begins with "[", is certainly no expression: two words in a row, or a word and a mark."""
    found = _PROSE.match(text)
    return found is not None and found[1] not in _KEYWORDS and found[2] not in _KEYWORDS


def scan(text: str) -> list[dict[str, dict[str, JSON]]] | None:
    """The calls in `text`, which begins with "[" and ends with "]"; None where it is not plain enough."""
    calls = []
    at = 1
    try:
        while True:
            head = _HEAD.match(text, at)
            if head is None:
                return None
            name, closed = head.groups()
            if not _KEYWORDS.isdisjoint(name.split(".")):
                return None
            arguments, at = ({}, head.end()) if closed else _arguments(text, head.end())
            calls.append({name: arguments})
            after = _AFTER_CALL.match(text, at)
            assert after is not None  # it matches the empty text too
            comma, closed = after.groups()
            at = after.end()
            if closed:
                return calls if at == len(text) else None
            if not comma:
                return None
    except _Unusual:
        return None


def _arguments(text: str, at: int) -> tuple[dict[str, JSON], int]:
    """The arguments from `at` on, and the position behind the call's bracket."""
    arguments: dict[str, JSON] = {}
    while True:
        found = _ARGUMENT.match(text, at)
        if found is None:
            raise _Unusual
        name, single, double, real, whole, word, opening, comma, closed = found.groups()
        if name in _KEYWORDS or name[:2] == "__":
            raise _Unusual
        at = found.end()
        if opening is None:
            arguments[name] = _plain(single, double, real, whole, word)
        else:
            arguments[name], at = _nested(text, found.end(7), opening, 0)
            after = _AFTER_ARGUMENT.match(text, at)
            assert after is not None
            comma, closed = after.groups()
            at = after.end()
        if closed:
            return arguments, at
        if not comma:
            raise _Unusual


def _plain(single: str | None, double: str | None, real: str | None, whole: str | None, word: str) -> JSON:
    if single is not None:
        return single
    if double is not None:
        return double
    if whole is not None:
        return int(whole)
    if real is not None:
        return float(real)
    if word in _KEYWORDS:
        if word not in _CONSTANTS:
            raise _Unusual
        return _CONSTANTS[word]
    return word


def _value(text: str, at: int, depth: int) -> tuple[JSON, int]:
    found = _VALUE.match(text, at)
    if found is None:
        raise _Unusual
    single, double, real, whole, word, opening = found.groups()
    if opening is None:
        return _plain(single, double, real, whole, word), found.end()
    value, at = _nested(text, found.end(6), opening, depth + 1)
    return value, _skip(text, at)


def _nested(text: str, at: int, opening: str, depth: int) -> tuple[JSON, int]:
    """The list, tuple or dict that opened before `at`, and the position behind its bracket."""
    if depth > MAX_DEPTH:
        raise _Unusual
    closing = _CLOSING[opening]
    items: list[JSON] = []
    keys: list[JSON] = []
    mark = ","
    at = _skip(text, at)
    while text[at] != closing:  # the text's last character is a bracket, so there is always one more to look at
        if mark != ",":
            raise _Unusual
        if opening == "{":
            key, at = _value(text, at, depth)
            if text[at] != ":" or isinstance(key, list | dict | tuple):
                raise _Unusual
            keys.append(key)
            at += 1
        item, at = _value(text, at, depth)
        items.append(item)
        mark = text[at]
        if mark == ",":
            at = _skip(text, at + 1)
    if opening == "[":
        return items, at + 1
    if opening == "{":
        return dict(zip(keys, items, strict=True)), at + 1
    return (items[0] if len(items) == 1 and mark != "," else tuple(items)), at + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    at = found.end()
    if at == len(text):
        raise _Unusual
    return at
