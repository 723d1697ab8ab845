"""The strict judgement of a reply's calls: what `ast_match` uses by default."""

from __future__ import annotations

from collections.abc import Sequence

from callwright import Parse, ParseStatus, Reason, ReasonCode, Task, Verdict
from callwright.types import Span

from callwright_rewards.call_match import AnswerKey
from callwright_rewards.tool_schema import SchemaError


class StrictChecker:
    """Judges replies to one task; its key is made ready once."""

    def __init__(self, task: Task) -> None:
        self.unjudgeable: str | None = None
        if task.answer is None:
            self.unjudgeable = "the task has no answer"
            return
        self.no_call = task.answer.no_call
        try:
            self.key = AnswerKey(task, task.answer)
        except SchemaError as error:
            self.unjudgeable = str(error)

    def judge(self, parse: Parse) -> Verdict:
        """Score 1.0 or 0.0. Abstains without an answer, and where the answer itself breaks its tool's schema."""
        if self.unjudgeable is not None:
            return Verdict.abstain(self.unjudgeable)
        reason = unreadable(parse)
        if reason is None and self.no_call:
            reason = unexpected_call(parse)
        if reason is not None:
            return Verdict(0.0, (reason,))
        if self.no_call:
            return Verdict(1.0, (Reason(ReasonCode.CORRECT, "no call, as expected", whole(parse)),))
        if not parse.calls:
            return Verdict(0.0, (Reason(ReasonCode.NO_CALL, "no call, where one is expected", whole(parse)),))
        return self.judge_calls(parse)

    def judge_calls(self, parse: Parse) -> Verdict:
        assigned = self.key.assign(parse)
        if len(parse.calls) != len(self.key.expected):
            return Verdict(0.0, (self.wrong_count(parse, [column for column, _ in assigned.values()]),))
        faults = [
            Reason(fault.code, fault.message, fault.span)
            for _, comparison in sorted(assigned.values(), key=lambda pair: pair[0])
            for fault in comparison.faults
        ]
        if faults:
            return Verdict(0.0, tuple(faults))
        notes = [note for _, comparison in assigned.values() for note in comparison.notes]
        return Verdict(1.0, (Reason(ReasonCode.CORRECT, span=around(parse)), *notes))

    def wrong_count(self, parse: Parse, matched: Sequence[int]) -> Reason:
        message = f"{len(parse.calls)} calls instead of {len(self.key.expected)}"
        surplus = next((call for index, call in enumerate(parse.calls) if index not in matched), None)
        if len(parse.calls) > len(self.key.expected) and surplus is not None:
            return Reason(ReasonCode.WRONG_CALL_COUNT, f"{message}: this one is too many", surplus.span)
        return Reason(ReasonCode.WRONG_CALL_COUNT, message, around(parse))


def whole(parse: Parse) -> Span:
    """Where calls are looked for; the whole text where there is no such place."""
    return (0, len(parse.text)) if parse.body is None else parse.body


def around(parse: Parse) -> Span:
    """From the first call to the last."""
    return parse.calls[0].span[0], parse.calls[-1].span[1]


def unreadable(parse: Parse) -> Reason | None:
    """Why the reply cannot be judged as calls or as none: it lacks the place for calls, or holds a malformed one."""
    problem = next((one for one in parse.problems if one.code == ReasonCode.UNPARSABLE), None)
    if parse.body is None and parse.status is not ParseStatus.CALLS:
        missing = next((one for one in parse.problems if one.code == ReasonCode.BAD_FORMAT), None)
        if missing is not None:
            message = f"the format's place for calls is missing: {missing.message}"
            return Reason(ReasonCode.BAD_FORMAT, message, missing.span or whole(parse))
    if problem is not None or parse.status is ParseStatus.UNPARSABLE:
        message = "a malformed call" if problem is None else f"a malformed call: {problem.message}"
        span = None if problem is None else problem.span
        return Reason(ReasonCode.UNPARSABLE, message, span or whole(parse))
    return None


def unexpected_call(parse: Parse) -> Reason | None:
    """Of a readable reply where no call is expected: its first call."""
    if not parse.calls:
        return None
    return Reason(ReasonCode.UNEXPECTED_CALL, "a call, where none is expected", parse.calls[0].span)
