"""Does the completion think first, in the form its dialect asks for?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from callwright import Parse, Reason, ReasonCode, Rollouts, Verdict, hookimpl
from callwright.types import Span


@dataclass
class ThinkFormat:
    """1 if the completion is one thinking block followed by the answer and nothing else, otherwise 0.

    The block must open at the very first character. Longer thinking earns nothing.
    """

    min_characters: int = 1
    """Least number of characters, white space not counted, inside the thinking block."""

    laws: ClassVar[dict[str, str]] = {"near_misses_score_less": "it looks at the form only, not at the calls"}

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with score 0.0 or 1.0; one reason per fault, with its place."""
        return [self._judge(parse) for parse in rollouts.parses]

    def _judge(self, parse: Parse) -> Verdict:
        faults = [problem for problem in parse.problems if problem.code == ReasonCode.BAD_FORMAT]
        if parse.thinking is None:
            faults.append(_fault("no thinking block", None))
        else:
            faults += self._thinking_faults(parse, parse.thinking)
        if parse.body is None:
            faults.append(_fault("no place for the answer", None))
        if faults:
            return Verdict(0.0, tuple(faults))
        return Verdict(1.0, (Reason(ReasonCode.CORRECT, span=parse.thinking),))

    def _thinking_faults(self, parse: Parse, thinking: Span) -> list[Reason]:
        faults = []
        if not parse.tags or parse.tags[0][0] != 0 or parse.tags[0][1] != thinking[0]:
            faults.append(_fault("the thinking block does not open at the very start", thinking))
        if parse.body is not None and parse.body[0] < thinking[1]:
            faults.append(_fault("the answer comes before the thinking", parse.body))
        if len("".join(parse.text[slice(*thinking)].split())) < self.min_characters:
            faults.append(_fault(f"fewer than {self.min_characters} characters of thinking", thinking))
        return faults


def _fault(message: str, span: Span | None) -> Reason:
    return Reason(ReasonCode.BAD_FORMAT, message, span)
