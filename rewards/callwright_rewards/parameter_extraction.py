"""Are the arguments taken from the conversation, or invented?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from callwright import Call, Parse, ParseStatus, Reason, ReasonCode, Rollouts, Task, Verdict, hookimpl

from callwright_rewards.grounding.admission import find_admission
from callwright_rewards.grounding.grounder import Grounder, as_text
from callwright_rewards.grounding.support import Grounding, GroundingCode, Stated, Support


@dataclass
class ParameterExtraction:
    """How many of the required parameters have a value that is grounded in the conversation or the tool, or derived.

    With, over all distinct calls, R required parameters, r of them given a value that does not fail grounding, and f
    further arguments that do fail (optional, unknown or repeated ones), the score in [0, 1] is

        r / (R + f)  *  1 / (1 + c)

    where c counts the arguments for which the thinking states another value than the call uses. A grounded optional
    argument earns nothing and one that is not grounded costs: nothing that is added to a reply raises its score. A
    required parameter that is left out counts as not grounded. A reply without a call scores 1 if it says which
    required parameter is missing and nothing in the conversation could be its value; otherwise it abstains, as does one
    whose calls take no arguments. A malformed call scores 0. The task's answer is not needed and never looked at.
    """

    strict: bool = False
    """1 if no argument is invented, no required parameter left out and nothing contradicts the thinking, else 0.
    Choices that nothing backs (`Support.UNSUPPORTED`) pass."""
    must_state: bool = False
    """Where there is thinking, an argument whose value it does not state counts in c as well."""

    laws: ClassVar[dict[str, str]] = {
        "near_misses_score_less": "it asks where values come from, not which call is right",
        "extra_calls_cost": "it asks where values come from, not how many calls are made",
    }

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with scores in [0, 1] and a reason for every argument, its span that of the value in the reply.

        The reason's message is `PARAMETER | SUPPORT | MESSAGE:START-END,... | STATED START-END`: the places in the
        conversation, and the place in the reply's thinking; `-` where there is none.
        """
        grounders = {id(task): Grounder(task) for task in rollouts.tasks}
        rows = zip(rollouts.tasks, rollouts.parses, strict=True)
        return [self._judge(task, grounders[id(task)], parse) for task, parse in rows]

    def _judge(self, task: Task, grounder: Grounder, parse: Parse) -> Verdict:
        if parse.status is ParseStatus.UNPARSABLE:
            return Verdict(0.0, (Reason(ReasonCode.UNPARSABLE, "no argument can be read", parse.body),))
        if not parse.calls:
            return _without_call(task, grounder, parse)
        groundings = grounder.ground(parse)
        left_out = _left_out(grounder, parse.calls, groundings)
        if not groundings and not left_out:
            return Verdict.abstain("the calls take no arguments")
        reasons = [reason for grounding in groundings for reason in _reasons(grounding)]
        reasons += [Reason(GroundingCode.REQUIRED_LEFT_OUT, name, parse.calls[call].span) for call, name in left_out]
        wrong = (Stated.CONTRADICTED, Stated.NOT_STATED) if self.must_state else (Stated.CONTRADICTED,)
        contradictions = sum(grounding.stated in wrong for grounding in groundings)
        if self.strict:
            invented = any(grounding.support is Support.INVENTED for grounding in groundings)
            return Verdict(float(not (invented or left_out or contradictions)), tuple(reasons))
        share = _share(grounder, parse.calls, groundings)
        return Verdict(share / (1 + contradictions), tuple(reasons))


def _without_call(task: Task, grounder: Grounder, parse: Parse) -> Verdict:
    admission = find_admission(task, grounder.conversation, parse)
    if admission is None:
        return Verdict.abstain("no arguments to judge")
    return Verdict(1.0, (Reason(GroundingCode.ADMITTED, admission.parameter, admission.span),))


def _left_out(grounder: Grounder, calls: Sequence[Call], groundings: Sequence[Grounding]) -> list[tuple[int, str]]:
    given = {(grounding.call, grounding.parameter) for grounding in groundings}
    return [
        (number, name)
        for number, call in enumerate(calls)
        for name in grounder.required(call)
        if (number, name) not in given
    ]


def _share(grounder: Grounder, calls: Sequence[Call], groundings: Sequence[Grounding]) -> float:
    """r / (R + f) over the distinct calls: a repeated call counts once."""
    by_call: dict[int, list[Grounding]] = {number: [] for number in range(len(calls))}
    for grounding in groundings:
        by_call[grounding.call].append(grounding)
    distinct = {_identity(call, by_call[number]): number for number, call in enumerate(calls)}
    grounded = total = 0
    for number in distinct.values():
        required = set(grounder.required(calls[number]))
        failing = [grounding for grounding in by_call[number] if grounding.support.fails]
        good = {grounding.parameter for grounding in by_call[number]} - {grounding.parameter for grounding in failing}
        grounded += len(required & good)
        total += len(required) + sum(grounding.parameter not in required for grounding in failing)
    return grounded / total if total else 1.0


def _identity(call: Call, groundings: Sequence[Grounding]) -> tuple[str, frozenset[tuple[str | None, str, str]]]:
    return call.name, frozenset(
        (one.parameter, type(one.value).__name__, as_text(one.value) or str(one.span)) for one in groundings
    )


def _reasons(grounding: Grounding) -> list[Reason]:
    places = ",".join(map(str, grounding.evidence)) or "-"
    at = "-" if grounding.stated_at is None else f"{grounding.stated_at[0]}-{grounding.stated_at[1]}"
    message = f"{grounding.parameter} | {grounding.support} | {places} | {grounding.stated} {at}"
    reasons = [Reason(grounding.code, message, grounding.span)]
    if grounding.stated is Stated.CONTRADICTED:
        reasons.append(Reason(GroundingCode.THINKING_CONTRADICTS, message, grounding.stated_at))
    elif grounding.stated is Stated.NOT_STATED:
        reasons.append(Reason(GroundingCode.NOT_STATED, message, grounding.span))
    return reasons
