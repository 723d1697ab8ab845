"""What the thinking says of an argument before the call: nothing, its value, or another value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from callwright import Parse
from callwright.types import Span

from callwright_rewards.grounding.question import Question
from callwright_rewards.grounding.support import GroundingCode as Code
from callwright_rewards.grounding.support import Stated
from callwright_rewards.grounding.text_index import TextIndex, stem, words_of
from callwright_rewards.grounding.tracing import Budget, trace

MOST_CHARACTERS = 20_000
"""Thinking beyond this is not read."""
_LITERAL = (
    r"\"[^\"\n]{1,200}\"|'[^'\n]{1,200}'|`[^`\n]{1,200}`|\[[^\]\n]{0,500}\]|(?:true|false|none|null)\b|"
    r"[-\u2212]?[$€£]?\d[\d,]{0,40}(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?%?"
)
_STATEMENT = re.compile(
    r"(?<!\w)(?P<name>[^\W\d]\w{0,60}+(?: [^\W\d]\w{0,60}+){0,3}?)[\"'`]?"
    r"(?:\s{0,3}[=:]\s{0,3}|\s{1,3}(?:is|are|should be|must be|will be|to be|equals)\s{1,3})"
    rf"(?P<value>{_LITERAL})",
    re.I,
)
_NOT_FOUND = frozenset({Code.DEFAULT, Code.LEFT_EMPTY, Code.ONLY_CHOICE})
"""Codes that say that the value need not stand in the text."""


@dataclass
class Thinking:
    """The thinking of one reply."""

    text: str
    start: int
    """Where `text` begins in the reply."""
    several_calls: bool

    @classmethod
    def before_calls(cls, parse: Parse) -> Thinking | None:
        """None where there is no thinking, or where it comes after the first call."""
        span = parse.thinking
        if span is None or not parse.calls or span[0] > parse.calls[0].span[0]:
            return None
        end = min(span[1], span[0] + MOST_CHARACTERS)
        return cls(parse.text[span[0] : end], span[0], len(parse.calls) > 1)

    @cached_property
    def index(self) -> TextIndex:
        return TextIndex(self.text)

    @cached_property
    def statements(self) -> dict[str, list[tuple[str, Span]]]:
        """What is said as `name = value` or `the name is value`: by the name's last word, its stems and the value."""
        found: dict[str, list[tuple[str, Span]]] = {}
        for match in _STATEMENT.finditer(self.text):
            name = name_stems(match["name"])
            if name:
                found.setdefault(name.split()[-1], []).append((name, match.span("value")))
        return found

    def says(self, q: Question) -> tuple[Stated, Span | None]:
        """Whether the thinking states the value of `q`, or another one for the same parameter, and where.

        Of several statements about a parameter the last counts, as thinking may correct itself; where there are
        several calls, each may have a statement of its own, and any counts.
        """
        name = name_stems(q.name)
        about = (
            [span for said, span in self.statements.get(name.split()[-1], ()) if f" {said}".endswith(f" {name}")]
            if name
            else []
        )
        for span in (about if self.several_calls else about[-1:])[-20:]:
            if self._same(q, self.text[slice(*span)]):
                return Stated.STATED, self._place(span)
        if about:
            return Stated.CONTRADICTED, self._place(about[-1])
        place = self._find(q, self.index)
        return (Stated.NOT_STATED, None) if place is None else (Stated.STATED, self._place(place))

    def _same(self, q: Question, written: str) -> bool:
        bare = written.strip("\"'`").lower()
        if isinstance(q.value, bool) or q.value is None:
            return bare == ("none" if q.value is None else str(q.value).lower()) or (q.value is None and bare == "null")
        same = TextIndex(written.strip("\"'`"))
        return bare == str(q.value).lower() or self._find(q, same) is not None

    def _find(self, q: Question, text: TextIndex) -> Span | None:
        schema = {key: value for key, value in q.schema.items() if key != "default"}
        traced = trace(Question(q.value, q.name, schema, text, True), Budget(200))
        if traced.support.fails or traced.code in _NOT_FOUND or not traced.found:
            return None
        return traced.found[0]

    def _place(self, span: Span) -> Span:
        return self.start + span[0], self.start + span[1]


def name_stems(name: str) -> str:
    """The words of a name, however it is written: `start_date`, `startDate` and `start date` are the same."""
    return " ".join(stem(word) for word in words_of(name.replace("_", " ")))
