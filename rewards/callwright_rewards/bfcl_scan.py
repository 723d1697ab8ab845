"""A quick reading of lists of calls, for speed alone: what it reads, it reads as Python's parser does.

Parsing takes most of the time of a check, and most replies are a list of calls whose arguments are plain literals.
Those are read here with a few regular expressions. A value that is not plain is cut out and parsed by itself; a reply
of any other shape is left to the parser as a whole.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable

from callwright.types import JSON

MAX_DEPTH = 20
"""Values nested deeper are left to the parser, which has a limit of its own."""
MAX_PIECES = 2_000
"""A value made of more tokens is left to the parser as part of the whole reply."""

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_TEXT = r"\\\n\r\0\ud800-\udfff"  # not in a plain string: escapes, and what Python's parser refuses
_DIGITS = "-?(?:0|[1-9][0-9]{0,17})"
_HEAD = re.compile(rf"[ \n]*({_NAME}(?:\.{_NAME})*)\([ \n]*(\)?)")
_LITERAL = rf"""(?:'([^'{_TEXT}]*)'|"([^"{_TEXT}]*)"|({_DIGITS}\.[0-9]{{1,17}})|({_DIGITS})|({_NAME}))"""
_PLAIN_ARGUMENT = re.compile(
    rf"""[ \n]*(?:({_NAME})[ \n]*=[ \n]*)? {_LITERAL} [ \n]*(?:,[ \n]*(\))? | (\)))""",
    re.VERBOSE,
)
_NAMED = re.compile(rf"[ \n]*({_NAME})[ \n]*=(?!=)")
_PIECE = re.compile(
    r"""[^'"()\[\]{},\\\#A-Za-z_]+ | [A-Za-z_][A-Za-z0-9_]*(?!['"])   # no strings; words that are no string's prefix
    | [rRbBuU]{0,2}(?:'(?:[^'\\\n\r]|\\[^\n\r])*'(?!') | "(?:[^"\\\n\r]|\\[^\n\r])*"(?!"))
    | [()\[\]{},]""",
    re.VERBOSE,
)
_OPENING = re.compile(r"[ \n]*([\[{])")
_SIMPLE_VALUE = re.compile(r"""[ \n]*[^'"()\[\]{},\\#\s][^'"()\[\]{},\\#]*(?=[,)])""")
_CLOSING = re.compile(r"[ \n]*([\]}])")
_ITEM = re.compile(rf"[ \n]*{_LITERAL}[ \n]*([,:\]}}])")
_AFTER_ITEM = re.compile(r"[ \n]*([,\]}])")
_AFTER_VALUE = re.compile(r"[ \n]*(?:,[ \n]*(\))?|(\)))")
_AFTER_CALL = re.compile(r"[ \n]*(,?)[ \n]*(\]?)[ \n]*")
_WORD = rf"\b(?!(?:{'|'.join(keyword.kwlist)})\b){_NAME}"
_LABEL = re.compile(rf"[ \n]*{_WORD}[ \n]*:(?!=)")
_WORD_NEXT = re.compile(_WORD)
_PROSE = re.compile(rf"""\[[^'"\\#(]*?{_WORD}[ \n]+{_WORD}""")
_KEYWORDS = frozenset(keyword.kwlist)
_CONSTANTS = {"True": True, "False": False, "None": None}


class _Unusual(Exception):
    """Not plain enough to be read here."""


def is_prose(text: str) -> bool:
    """Whether `text`, which begins with "[", is certainly no expression: two words in a row, outside strings."""
    return _PROSE.match(text) is not None


def scan(text: str, read: Callable[[str], JSON]) -> list[dict[str, dict[str, JSON]]] | None:
    """The calls in `text`, which begins with "[" and ends with "]"; None where it is not plain enough.

    `read` gives the value of an expression that is no plain literal, and raises if there is none. Raises SyntaxError
    for some texts that are certainly no expression.
    """
    calls = []
    at = 1
    try:
        while True:
            head = _HEAD.match(text, at)
            if head is None:
                return None
            name, closed = head.groups()
            if name in _KEYWORDS or ("." in name and not _KEYWORDS.isdisjoint(name.split("."))):
                return None
            arguments, at = ({}, head.end()) if closed else _arguments(text, head.end(), read)
            calls.append({name: arguments})
            after = _AFTER_CALL.match(text, at)
            assert after is not None  # it matches the empty text too
            at = after.end()
            if after[2] and at == len(text):
                return calls
            if after[2] or not after[1]:
                _refuse_word(text, at)
                return None
    except _Unusual:
        return None


def _refuse_word(text: str, at: int) -> None:
    if _WORD_NEXT.match(text, at):
        raise SyntaxError("a word right behind a bracket")


def _arguments(text: str, at: int, read: Callable[[str], JSON]) -> tuple[dict[str, JSON], int]:
    """The named arguments from `at` on, and the position behind the call's bracket."""
    arguments: dict[str, JSON] = {}
    while True:
        found = _PLAIN_ARGUMENT.match(text, at)
        if found is not None:
            name, single, double, real, whole, word, last, end = found.groups()
            value = single if single is not None else _plain(single, double, real, whole, word)
            at = found.end()
        else:
            named = _NAMED.match(text, at)
            if named is None:
                if _LABEL.match(text, at):
                    raise SyntaxError("a colon behind an argument's name")
                _end_of_value(text, at)
                raise _Unusual
            name = named[1]
            value, at, after = _value(text, named.end(), read)
            last, end = after.groups()
            at = after.end()
        if name is None:
            if arguments:
                raise SyntaxError("an argument without a name behind one with a name")
        elif name in _KEYWORDS or name[:2] == "__":
            raise _Unusual
        else:
            arguments[name] = value
        if end or last:
            return arguments, at


def _plain(single: str | None, double: str | None, real: str | None, whole: str | None, word: str | None) -> JSON:
    if single is not None:
        return single
    if double is not None:
        return double
    if whole is not None:
        return int(whole)
    if real is not None:
        return float(real)
    assert word is not None
    if word in _KEYWORDS:
        if word not in _CONSTANTS:
            raise _Unusual
        return _CONSTANTS[word]
    return word


def _value(text: str, start: int, read: Callable[[str], JSON]) -> tuple[JSON, int, re.Match[str]]:
    """The value of the argument that begins at `start`, where it ends, and the comma or bracket behind it."""
    if opening := _OPENING.match(text, start):
        try:
            value, at = _nested(text, opening, 0)
            if after := _AFTER_VALUE.match(text, at):
                return value, at, after
        except _Unusual:
            pass
    simple = _SIMPLE_VALUE.match(text, start)
    at = _end_of_value(text, start) if simple is None else simple.end()
    after = _AFTER_VALUE.match(text, at)
    assert after is not None
    return read(text[start:at]), at, after


def _nested(text: str, opening: re.Match[str] | None, depth: int) -> tuple[JSON, int]:
    """The list or dict of plain literals that opens there, and the position behind it."""
    if opening is None or depth > MAX_DEPTH:
        raise _Unusual
    end = "]" if opening[1] == "[" else "}"
    at, mark = opening.end(), ","
    keys: list[JSON] = []
    items: list[JSON] = []
    while mark != end:
        if closing := _CLOSING.match(text, at):  # nothing in it, or a comma before the bracket
            mark, at = closing[1], closing.end()
            if mark != end:
                raise _Unusual
            break
        if end == "}":
            found = _ITEM.match(text, at)
            if found is None or found[6] != ":":
                raise _Unusual
            keys.append(_plain(*found.groups()[:5]))
            at = found.end()
        item, mark, at = _item(text, at, depth)
        items.append(item)
        if mark not in (",", end):
            raise _Unusual
    return (items if end == "]" else dict(zip(keys, items, strict=True))), at


def _item(text: str, at: int, depth: int) -> tuple[JSON, str, int]:
    """A value inside a list or a dict, the mark behind it, and the position behind that."""
    found = _ITEM.match(text, at)
    if found is not None:
        return _plain(*found.groups()[:5]), found[6], found.end()
    value, at = _nested(text, _OPENING.match(text, at), depth + 1)
    after = _AFTER_ITEM.match(text, at)
    if after is None:
        raise _Unusual
    return value, after[1], after.end()


def _end_of_value(text: str, at: int) -> int:
    """Where the value that begins at `at` ends: at the comma or bracket behind it that is not its own."""
    start, depth = at, 0
    for _ in range(MAX_PIECES):
        piece = _PIECE.match(text, at)
        if piece is None:
            if at == len(text):
                raise SyntaxError("a bracket that is never closed")
            if text[at] in "\"'" and text.find(text[at], at + 1) < 0:
                raise SyntaxError("a string that does not end")
            break
        mark = piece[0]
        if depth == 0 and mark in (",", ")", "]", "}"):
            if mark in "]}":
                raise SyntaxError("a bracket that closes another one")
            if text[start:at].strip():
                return at
            break
        if mark in ("(", "[", "{"):
            depth += 1
        elif mark in (")", "]", "}"):
            depth -= 1
        at = piece.end()
    raise _Unusual
