"""FunRL's format: `<think>...</think><answer>[f(a=1)]</answer>` (arXiv 2508.05118)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from callwright import Call, Parse, ParseStatus, Reason, ReasonCode
from callwright.types import Span

from callwright_dialects.outcomes import MAX_TEXT, unparsable, without_calls
from callwright_dialects.prompting import Example, Prompting
from callwright_dialects.python_syntax import parse_calls, render_calls
from callwright_dialects.python_unfinished import python_ends
from callwright_dialects.thinking import check_thinking, outside_thinking
from callwright_dialects.unfinished import parse_with_ends

_TAG = re.compile(r"</?(?:think|answer)>")
_ORDER = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass
class FunRL(Prompting):
    """FunRL's thinking and calls: <think>...</think><answer>[f(a=1)]</answer>."""

    instruction: str | None = (
        "Think first, inside <think> and </think>. Then answer the question inside <answer> and </answer> with calls "
        "of the listed functions, written as [name(argument=value, ...)]. Give every argument by its name. "
        "If no function fits, say so inside <answer> and </answer>."
    )
    stop: tuple[str, ...] = field(default=("</answer>",), init=False)

    def example_reply(self, example: Example) -> str:
        """Thinking, then the calls or the plain reply, each in its tags."""
        if example.reply is None:
            return self.render(example.as_calls(), example.thinking)
        return _reply(check_thinking(example.thinking, _TAG), example.reply)

    def parse(self, text: str) -> Parse:
        """`thinking` runs from `<think>` to the next tag, or to the end of the text if none follows.

        `body` is the inside of the answer tags, None unless there is exactly one pair of them. Every missing, repeated
        or misplaced tag and any text outside the tags is a problem with the code `BAD_FORMAT`. Texts longer than
        `MAX_TEXT` characters are refused.
        """
        if len(text) > MAX_TEXT:
            return unparsable(text, None, (0, len(text)), f"longer than {MAX_TEXT} characters")
        tags = [found.span() for found in _TAG.finditer(text)]
        names = [text[start:end] for start, end in tags]
        problems = (*_tag_problems(names, tags), *_outside_problems(text, names, tags))
        body, thinking = _body(names, tags), _thinking(text, names, tags)
        parse = _without_body(text, names, tags) if body is None else parse_calls(text, *body)
        return replace(parse, thinking=thinking, tags=tuple(tags), problems=problems + parse.problems)

    def unfinished(self, text: str) -> Parse:
        """As `parse`, of a text that goes on."""
        opening = text.rfind("<answer>")
        tags = _TAG.findall(text) if opening >= 0 and len(text) <= MAX_TEXT else []
        inside = tags[-1:] == ["<answer>"] and tags.count("<answer>") == 1
        ends = python_ends(text, opening + len("<answer>"), "</answer>") if inside else []
        return parse_with_ends(text, ends, self.parse)

    def render(self, calls: Sequence[Call], thinking: str = "") -> str:
        """Raises CallwrightError for calls that cannot be written, and for thinking that holds one of the tags."""
        return _reply(check_thinking(thinking, _TAG), render_calls(calls, _TAG))


def _reply(thinking: str, answer: str) -> str:
    return f"<think>{thinking}</think><answer>{answer}</answer>"


def _thinking(text: str, names: list[str], tags: list[Span]) -> Span | None:
    if "<think>" not in names:
        return None
    first = names.index("<think>")
    return tags[first][1], tags[first + 1][0] if first + 1 < len(tags) else len(text)


def _body(names: list[str], tags: list[Span]) -> Span | None:
    if names.count("<answer>") != 1 or names.count("</answer>") != 1:
        return None
    first, last = names.index("<answer>"), names.index("</answer>")
    return (tags[first][1], tags[last][0]) if first < last else None


def _without_body(text: str, names: list[str], tags: list[Span]) -> Parse:
    message = "a call, but no place for it: there must be one pair of answer tags"
    ends = [name != "<think>" for name in names]
    outside = outside_thinking(len(text), tags, ends, inside=names[:1] == ["</think>"])
    outcomes = (without_calls(text, None, span, message) for span in outside)
    return next((outcome for outcome in outcomes if outcome.problems), Parse(text, ParseStatus.NO_CALL))


def _tag_problems(names: list[str], tags: list[Span]) -> list[Reason]:
    def reason(message: str, span: Span | None) -> Reason:
        return Reason(ReasonCode.BAD_FORMAT, message, span)

    problems = [reason(f"{tag} is missing", None) for tag in _ORDER if tag not in names]
    repeated = [tag for tag in _ORDER if names.count(tag) > 1]
    problems += [reason(f"{tag} is repeated", tags[names.index(tag, names.index(tag) + 1)]) for tag in repeated]
    if not problems:
        wrong = [span for name, span, due in zip(names, tags, _ORDER, strict=True) if name != due]
        problems += [reason("the tags are out of order", span) for span in wrong[:1]]
    return problems


def _outside_problems(text: str, names: list[str], tags: list[Span]) -> list[Reason]:
    """The first text before the first tag, or between a closing tag and the next tag."""
    starts = [0, *(end for _, end in tags)]
    ends = [*(start for start, _ in tags), len(text)]
    closed = [True, *(name.startswith("</") for name in names)]
    for start, end, outside in zip(starts, ends, closed, strict=True):
        if outside and text[start:end].strip():
            return [Reason(ReasonCode.BAD_FORMAT, "text outside the tags", (start, end))]
    return []
