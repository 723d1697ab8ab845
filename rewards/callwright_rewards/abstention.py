"""Does the completion call when it should, and not when it should not?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from callwright import Parse, Reason, ReasonCode, Rollouts, Task, Verdict, hookimpl

from callwright_rewards.strict import around, unexpected_call, unreadable, whole


@dataclass
class Abstention:
    """1 if the completion makes no call exactly where the answer has none, otherwise 0; right or wrong calls count
    alike.

    Three outcomes: a malformed call is neither a call nor an abstention, and scores 0 on both sides. So does a call of
    a function that is not offered. Tasks without an answer are abstained from, but for BFCL's relevance tasks, where
    some call is expected.
    """

    laws: ClassVar[dict[str, str]] = {
        "near_misses_score_less": "it asks whether there is a call, not whether it is right",
        "extra_calls_cost": "it asks whether there is a call, not how many",
    }

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with score 0.0 or 1.0, or abstentions."""
        return [_judge(task, parse) for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True)]


def _judge(task: Task, parse: Parse) -> Verdict:
    expected = call_expected(task)
    if expected is None:
        return Verdict.abstain("the task has no answer")
    reason = unreadable(parse)
    if reason is None:
        reason = _no_offered_call(task, parse) if expected else unexpected_call(parse)
    if reason is not None:
        return Verdict(0.0, (reason,))
    return Verdict(1.0, (Reason(ReasonCode.CORRECT, span=around(parse) if parse.calls else whole(parse)),))


def call_expected(task: Task) -> bool | None:
    """Whether the task is to be answered by a call; None where nobody says so."""
    if task.answer is not None:
        return not task.answer.no_call
    category = str(task.meta.get("category", ""))
    return True if "relevance" in category and "irrelevance" not in category else None


def _no_offered_call(task: Task, parse: Parse) -> Reason | None:
    if not parse.calls:
        return Reason(ReasonCode.NO_CALL, "no call, where one is expected", whole(parse))
    offered = {tool.name for tool in task.tools}
    stranger = next((call for call in parse.calls if offered and call.name not in offered), None)
    if stranger is None:
        return None
    return Reason(ReasonCode.WRONG_FUNCTION, f"{stranger.name} is not offered", stranger.name_span)
