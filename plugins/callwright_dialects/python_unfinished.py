"""How calls in Python syntax that break off in their middle may end."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import Literal

from callwright_dialects.outcomes import MAX_NESTING
from callwright_dialects.unfinished import MAX_UNFINISHED

_AROUND = re.compile(r"[` \t\r\n]*")
_TOKEN = re.compile(
    r"""\s*+(?:(?P<word>[^\W\d]\w*+) | (?P<number>[.]?\d[\w.]*+) | (?P<open>[(\[{]) | (?P<close>[)\]}])
    | (?P<text>'''(?:[^'\\]++|\\.|'(?!''))*+(?P<end1>''')?   | \"""(?:[^"\\]++|\\.|"(?!""))*+(?P<end2>\""")?
      | '(?:[^'\\\r\n]++|\\.)*+(?P<end3>')?                  | "(?:[^"\\\r\n]++|\\.)*+(?P<end4>")?)
    | (?P<comment>\#[^\r\n]*) | (?P<sign>\S))
    """,
    re.VERBOSE | re.DOTALL,
)
_TEXT_ENDS = ("end1", "end2", "end3", "end4")
_ESCAPE = re.compile(r"\\(?:(x)[0-9a-fA-F]?|(u)[0-9a-fA-F]{0,3}|(U)[0-9a-fA-F]{0,7})?\Z")
_OPEN_NUMBER = re.compile(r"0[xXoObB]|[\d._]*[eE]|\w*_")
_WIDTHS = {"x": 4, "u": 6, "U": 10}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CONSTANTS = ("True", "False", "None")

Last = Literal["open", "close", "word", "number", "text", "sign"]


@dataclass
class _Bracket:
    kind: str
    equals: bool = False
    """Whether an equals sign or a colon stands behind the last comma."""
    commas: int = 0


@dataclass
class _Scan:
    """What is open where the text breaks off."""

    brackets: list[_Bracket]
    last: Last
    written: str
    """The last token that is neither white space nor a comment."""
    adjacent: bool
    """Whether the text ends with that token."""
    closing: str
    """What ends the open string or comment."""


def python_ends(text: str, start: int, tail: str) -> list[str]:
    """What may end the calls in `text[start:]`, in the order in which to try it; nothing where no call is open.

    tail: the dialect's own end. Where the text may go on in several ways, a word is a name that goes on.
    """
    found = _AROUND.match(text, start)
    start = start if found is None else found.end()
    scan = None if len(text) - start > MAX_UNFINISHED else _scan(text, start)
    if scan is None:
        return []
    outer = int(text[start] == "[")
    level = len(scan.brackets) - outer
    if level and scan.brackets[outer].kind != "(":
        return []
    ends = _between_calls(scan) if level == 0 else _between_arguments(scan) if level == 1 else _in_value(scan)
    brackets = "".join(_lacking(bracket) + _CLOSING[bracket.kind] for bracket in reversed(scan.brackets))
    brackets = brackets.removeprefix(_lacking(scan.brackets[-1]))  # `ends` have it
    return [f"{scan.closing}{end}{brackets}{tail}" for end in ends]


def _lacking(bracket: _Bracket) -> str:
    """What a dict lacks whose key is being written; the first one may as well be a set's only element."""
    return ":1" if bracket.kind == "{" and bracket.commas and not bracket.equals else ""


def _scan(text: str, start: int) -> _Scan | None:
    """None where nothing is open, or brackets do not match."""
    brackets: list[_Bracket] = []
    last: Last = "sign"
    written, written_to, closing = "", start, ""
    for found in _TOKEN.finditer(text, start):
        kind = found.lastgroup or ""
        token = found[kind]
        if kind == "comment":
            closing = "\n" if found.end() == len(text) else ""
            continue
        if kind == "text" and not any(found[group] for group in _TEXT_ENDS):
            return _in_text(text, found.start("text"), brackets) if text[found.end() :] in ("", "\\") else None
        if kind == "open":
            brackets.append(_Bracket(token))
        elif kind == "close":
            if not brackets or _CLOSING[brackets.pop().kind] != token:
                return None
        elif kind == "sign" and brackets:
            _note(token, brackets[-1])
        if (kind == "close" and not brackets) or len(brackets) > MAX_NESTING:
            return None
        last, written, written_to, closing = kind, token, found.end(), ""  # type: ignore[assignment]
    return _Scan(brackets, last, written, written_to == len(text), closing) if brackets else None


def _note(token: str, bracket: _Bracket) -> None:
    if token == ",":
        bracket.commas += 1
        bracket.equals = False
    elif token in "=:":
        bracket.equals = True


def _in_text(text: str, start: int, brackets: list[_Bracket]) -> _Scan | None:
    """The string that begins at `start` is not closed."""
    if not brackets:
        return None
    quote = text[start] * 3 if text.startswith(text[start] * 3, start) else text[start]
    inside = text[start + len(quote) :]
    quotes = len(inside) - len(inside.rstrip(quote[0])) if len(quote) == 3 else 0
    escape = _escape_end(text, start)
    return _Scan(brackets, "text", "", True, escape + (quote if escape else quote[quotes % 3 :]))


def _escape_end(text: str, start: int) -> str:
    """What completes the escape at the end of a string's text."""
    found = _ESCAPE.search(text, max(start, len(text) - 10))
    if found is None:
        return ""
    before = text[start : found.start()]
    if (len(before) - len(before.rstrip("\\"))) % 2:
        return ""  # the backslash is itself escaped
    kind = found[1] or found[2] or found[3]
    return "0" * (_WIDTHS[kind] - len(found[0])) if kind else "\\"


def _between_calls(scan: _Scan) -> list[str]:
    if scan.last == "word":
        return ["_()" if keyword.iskeyword(scan.written) and scan.adjacent else "()"]
    if scan.written in (",", "."):
        return ["f()"]
    return [""] if scan.last == "close" else []


def _between_arguments(scan: _Scan) -> list[str]:
    if scan.brackets[-1].equals or scan.last != "word":
        return _in_value(scan)
    if not scan.adjacent or not keyword.iskeyword(scan.written):
        return ["=1", ""]
    return ["", "_=1"] if scan.written in _CONSTANTS else ["_=1"]


def _in_value(scan: _Scan) -> list[str]:
    bracket = scan.brackets[-1]
    if scan.last == "sign":
        return ["" if scan.written == "," else ("a" if scan.written == "." else "1") + _lacking(bracket)]
    if scan.last == "number" and scan.adjacent and _OPEN_NUMBER.fullmatch(scan.written):
        return ["1" + _lacking(bracket)]
    if _lacking(bracket):
        return [":1", ""]
    if scan.last == "word" and scan.adjacent and keyword.iskeyword(scan.written) and scan.written not in _CONSTANTS:
        return ["_"]
    return [""]
