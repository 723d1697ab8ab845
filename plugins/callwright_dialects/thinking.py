"""Thinking in front of the calls, `<think>...</think>`: where it is, and what is wrong with its tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from callwright import CallwrightError, Parse, ParseStatus, Reason, ReasonCode
from callwright.types import Span

from callwright_dialects.outcomes import MAX_TEXT, unparsable, without_calls

THINK_TAG = re.compile(r"</?think>")


@dataclass(frozen=True, slots=True)
class _Thinking:
    span: Span | None
    tags: tuple[Span, ...]
    outside: tuple[Span, ...]
    """The parts of the text in no thinking block: what a reader would call the reply."""
    after: int | None
    """Where the reply begins; None where the thinking has no end, or begins again behind its end."""
    problems: tuple[Reason, ...]


def parse_after_thinking(
    text: str,
    read: Callable[[str, int, int], Parse],
    *,
    required: bool,
    tag: re.Pattern[str] = THINK_TAG,
) -> Parse:
    """Parse the thinking, and with `read(text, start, end)` what follows it.

    `thinking` runs from the first opening tag to the first closing tag, from the start of the text where the opening
    one is missing, and to the end where the closing one is. Nothing in it is a call. Every missing, repeated or
    misplaced tag and text in front of the thinking is a problem with the code `BAD_FORMAT`; `required` says whether
    the absence of both tags is one. Behind thinking that begins again no calls are read.
    """
    if len(text) > MAX_TEXT:
        return unparsable(text, None, (0, len(text)), f"longer than {MAX_TEXT} characters")
    found = _find(text, [match.span() for match in tag.finditer(text)], required)
    parse = Parse(text, ParseStatus.NO_CALL) if found.after is None else read(text, found.after, len(text))
    if parse.status is ParseStatus.NO_CALL:
        parse = _attempt_outside(parse, found)
    problems = found.problems + parse.problems
    return replace(parse, thinking=found.span, tags=found.tags + parse.tags, problems=problems)


def reply_start(text: str, tag: re.Pattern[str] = THINK_TAG) -> int | None:
    """Where what follows the thinking begins; None inside the thinking and where `parse_after_thinking` reads none."""
    if len(text) > MAX_TEXT:
        return None
    return _find(text, [match.span() for match in tag.finditer(text)], required=False).after


def _attempt_outside(parse: Parse, found: _Thinking) -> Parse:
    """A call written where the format has no place for it is an attempt."""
    for span in found.outside if found.after is None else found.outside[:-1]:
        outcome = without_calls(parse.text, parse.body, span, "a call outside the place for calls")
        if outcome.status is ParseStatus.UNPARSABLE:
            return replace(outcome, problems=parse.problems + outcome.problems)
    return parse


def _find(text: str, tags: list[Span], required: bool) -> _Thinking:
    if not tags:
        missing = (_bad("there is no thinking"),) if required else ()
        return _Thinking(None, (), ((0, len(text)),), 0, missing)
    closes = [text[start + 1] == "/" for start, _ in tags]
    end = closes.index(True) if True in closes else None
    span = 0 if closes[0] else tags[0][1], len(text) if end is None else tags[end][0]
    after = tags[-1][1] if end == len(tags) - 1 else None
    problems = tuple(_problems(text, tags, closes, end))
    return _Thinking(span, tuple(tags), outside_thinking(len(text), tags, closes, closes[0]), after, problems)


def _problems(text: str, tags: list[Span], closes: list[bool], end: int | None) -> Iterator[Reason]:
    if closes[0]:
        yield _bad("the thinking has no opening tag")
    elif text[: tags[0][0]].strip():
        yield _bad("text in front of the thinking", (0, tags[0][0]))
    if end is None:
        yield _bad("the thinking has no closing tag")
    repeated = next((tag for index, tag in enumerate(tags) if index not in (0, end)), None)
    if repeated:
        yield _bad("a thinking tag is repeated", repeated)


def outside_thinking(length: int, tags: Sequence[Span], closes: Sequence[bool], inside: bool) -> tuple[Span, ...]:
    """The parts of a text of `length` characters that are in no thinking block.

    `closes` says of each tag whether it ends thinking or begins it; `inside`, whether the text begins with thinking.
    """
    spans: list[Span] = []
    position = 0
    for (start, end), closing in zip(tags, closes, strict=True):
        if not inside:
            spans.append((position, start))
        position, inside = end, not closing
    return tuple(spans) if inside else (*spans, (position, length))


def _bad(message: str, span: Span | None = None) -> Reason:
    return Reason(ReasonCode.BAD_FORMAT, message, span)


def check_thinking(thinking: str, tag: re.Pattern[str] = THINK_TAG) -> str:
    """`thinking`, or CallwrightError where a tag in it would end it early."""
    found = tag.search(thinking)
    if found:
        raise CallwrightError(f"thinking cannot hold the tag {found[0]!r}: it would end or repeat the thinking")
    return thinking
