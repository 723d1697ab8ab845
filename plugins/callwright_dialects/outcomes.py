"""The three outcomes that every dialect shares, calls, an attempt that cannot be read, and no call; and its limits."""

from __future__ import annotations

import re

from callwright import CallwrightError, Parse, ParseStatus, Reason, ReasonCode
from callwright.types import JSON, Span

MAX_TEXT = 100_000
"""Longer replies, thinking included, are refused as unparsable."""
MAX_CHARACTERS = 10_000
"""Longer texts in the place of the calls are refused as unparsable: far above any real reply, read within 50 ms."""
MAX_NESTING = 50
"""Deepest value that is read: the number of lists and dicts around its innermost part."""
MAX_INTEGER_BITS = 4096
"""Larger integers cannot be written out again in decimal (Python's limit is 4,300 digits)."""

_ATTEMPT = re.compile(
    r"""(?<!\w)(?<!\w\.)[^\W\d]\w*+(?:\.\w++)*+\((?!e?s\))  # name( , but not the plural in "function(s)"
    | \A\s*[\[{]                              # a list or an object that should hold calls
    | <\|?(?:tool|function)_?(?:call|=)       # a format's tag
    | <\|python_tag\|> | \[TOOL_CALLS\]
    | "(?:name|function|arguments|parameters)"\s*:       # a call in JSON
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Unreadable(Exception):
    """The text is no list of calls in the dialect's format; the message says why, `at` where, if that is known."""

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message)
        self.at = at


def looks_like_call(text: str) -> Span | None:
    """Where `text` seems to attempt a call, in any common format; None where it is prose."""
    found = _ATTEMPT.search(text)
    return found.span() if found else None


def unparsable(text: str, body: Span | None, span: Span | None, message: str) -> Parse:
    return Parse(text, ParseStatus.UNPARSABLE, body=body, problems=(Reason(ReasonCode.UNPARSABLE, message, span),))


def without_calls(text: str, body: Span | None, looked_at: Span, message: str) -> Parse:
    """The outcome where no calls can be read: unparsable if `looked_at` holds an attempt, else no call."""
    attempt = looks_like_call(text[slice(*looked_at)])
    if attempt is None:
        return Parse(text, ParseStatus.NO_CALL, body=body)
    return unparsable(text, body, (looked_at[0] + attempt[0], looked_at[0] + attempt[1]), message)


def too_deep(value: JSON) -> bool:
    """Whether more than `MAX_NESTING` lists, tuples and dicts stand around a part of `value`. Not recursive."""
    if not isinstance(value, (dict, list, tuple)):
        return False
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_NESTING:
            return True
        if isinstance(item, dict):
            pending += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple):
            pending += [(part, depth + 1) for part in item]
    return False


def check_length(rendered: str) -> str:
    """`rendered`, or CallwrightError where `parse` would refuse it for its length."""
    if len(rendered) > MAX_CHARACTERS:
        raise CallwrightError(f"calls of {len(rendered)} characters cannot be written: {MAX_CHARACTERS} are read back")
    return rendered
