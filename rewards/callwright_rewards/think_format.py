"""Does the completion think first, in the form its dialect asks for?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from callwright import Parse, Reason, ReasonCode, Rollouts, Verdict, hookimpl
from callwright.types import Span


@dataclass
class ThinkFormat:
    """1 if the completion is one thinking block followed by the answer and nothing else, otherwise 0.

    The block must open at the very first character, every tag stand exactly once, and nothing outside them; what the
    dialect calls bad format is a fault. Longer thinking earns nothing.
    """

    min_characters: int = 1
    """Least number of letters and digits inside the thinking block."""

    laws: ClassVar[dict[str, str]] = {
        "near_misses_score_less": "it judges the form, not the calls",
        "extra_calls_cost": "it judges the form, not the calls",
    }

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with score 0.0 or 1.0; one reason per fault, with its place."""
        return [self._judge(parse) for parse in rollouts.parses]

    def _judge(self, parse: Parse) -> Verdict:
        faults = [problem for problem in parse.problems if problem.code == ReasonCode.BAD_FORMAT]
        if parse.thinking is None:
            faults.append(_fault("no thinking block", (0, len(parse.text))))
        else:
            faults += self._thinking_faults(parse, parse.thinking)
        if parse.body is None:
            faults.append(_fault("no place for the answer", (0, len(parse.text))))
        if faults:
            everywhere = (0, len(parse.text))
            return Verdict(0.0, tuple(f if f.span is not None else replace(f, span=everywhere) for f in faults))
        return Verdict(1.0, (Reason(ReasonCode.CORRECT, span=parse.thinking),))

    def _thinking_faults(self, parse: Parse, thinking: Span) -> list[Reason]:
        faults = []
        if not parse.tags or parse.tags[0][0] != 0 or parse.tags[0][1] != thinking[0]:
            faults.append(_fault("the thinking block does not open at the very start", thinking))
        if parse.body is not None and parse.body[0] < thinking[1]:
            faults.append(_fault("the answer comes before the thinking", parse.body))
        if sum(map(str.isalnum, parse.text[slice(*thinking)])) < self.min_characters:
            faults.append(_fault(f"fewer than {self.min_characters} letters and digits of thinking", thinking))
        faults += [
            _fault("a tag that is repeated", tag)
            for index, tag in enumerate(parse.tags)
            if _name(parse, tag) in ("<think>", "</think>") and _name(parse, tag) in _names(parse, index)
        ]
        return faults


def _name(parse: Parse, tag: Span) -> str:
    return parse.text[slice(*tag)]


def _names(parse: Parse, before: int) -> set[str]:
    return {_name(parse, tag) for tag in parse.tags[:before]}


def _fault(message: str, span: Span | None) -> Reason:
    return Reason(ReasonCode.BAD_FORMAT, message, span)
