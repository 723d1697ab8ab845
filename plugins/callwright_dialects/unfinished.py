"""Texts that go on: a call that is not written to its end is read as far as it goes.

A dialect's `unfinished` finds the shortest end that makes such a call a whole one, parses the text with it, and cuts
the parse back to the text. Outside calls, and where no such end is found, it is `parse`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from callwright import Argument, Call, Parse, ParseStatus, Reason
from callwright.types import Span

MAX_UNFINISHED = 2_000
"""Longer places for calls are not read before they are complete: this is done for every token that is drawn."""


def parse_with_ends(text: str, ends: Iterable[str], parse: Callable[[str], Parse]) -> Parse:
    """`text` parsed with the first of `ends` with which it makes calls, cut back to `text`; else `parse(text)`."""
    for end in ends:
        whole = parse(text + end)
        if whole.status is ParseStatus.CALLS:
            return _cut(whole, text)
    return parse(text)


def _cut(whole: Parse, text: str) -> Parse:
    length = len(text)
    return Parse(
        text,
        ParseStatus.CALLS,
        tuple(call if call.span[1] <= length else _cut_call(call, text) for call in whole.calls),
        thinking=_cut_span(whole.thinking, length),
        body=_cut_span(whole.body, length),
        tags=tuple((start, min(end, length)) for start, end in whole.tags if start < length),
        problems=tuple(problem for problem in whole.problems if _within(problem, length)),
    )


def _within(problem: Reason, length: int) -> bool:
    return problem.span is None or problem.span[1] <= length


def _cut_span(span: Span | None, length: int) -> Span | None:
    return None if span is None else (min(span[0], length), min(span[1], length))


def _cut_call(call: Call, text: str) -> Call:
    name, name_span = _cut_name(call.name, call.name_span, text)
    arguments = (_cut_argument(a, text) for a in call.arguments if (a.name_span or a.value_span)[0] < len(text))
    span = min(call.span[0], len(text)), min(call.span[1], len(text))
    return replace(call, name=name, arguments=tuple(arguments), span=span, name_span=name_span)


def _cut_argument(argument: Argument, text: str) -> Argument:
    start, end = argument.value_span
    if end > len(text):
        argument = replace(argument, value=None, value_span=(min(start, len(text)), len(text)))
    if argument.name is None or argument.name_span is None:
        return argument
    name, name_span = _cut_name(argument.name, argument.name_span, text)
    return replace(argument, name=name, name_span=name_span)


def _cut_name(name: str, span: Span, text: str) -> tuple[str, Span]:
    """A name that goes on is what is written of it."""
    start, end = min(span[0], len(text)), min(span[1], len(text))
    return (name if span[1] <= len(text) else text[start:end]), (start, end)
