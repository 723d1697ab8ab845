"""The reward `same_quantity`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from callwright import Answer, Argument, ExpectedCall, Parse, Reason, ReasonCode, Rollouts, Task, Verdict, hookimpl
from callwright_rewards.ast_match import AstMatch

from callwright_units.quantities import Quantity, quantity


class UnitCode(StrEnum):
    """Reasons beside those of `callwright.ReasonCode`."""

    OTHER_AMOUNT = "other_amount"
    """All that is wrong with the calls are amounts: "5 m" for "5 km"."""


@dataclass
class SameQuantity:
    """1 if the calls are the expected ones, otherwise 0, as `ast_match`; but "5000 m" is right where "5 km" is.

    A text argument that is a number and a unit is compared with the accepted values by what it amounts to. All else is
    `ast_match`'s: function names, other values, missing and surplus arguments, and the tool's schema.
    """

    tolerance: float = 1e-9
    """Relative: how far two amounts may be from each other. 0.01 lets "3 miles" pass for "4.83 km"."""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance must be at least 0 and below 1, not {self.tolerance}")
        self._exact = AstMatch()

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with score 0.0 or 1.0, or abstentions."""
        return [self.judge(task, parse) for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True)]

    def judge(self, task: Task, parse: Parse) -> Verdict:
        """The verdict on one completion."""
        verdict = self._exact.judge(task, parse)
        if verdict.score != 0 or task.answer is None or not parse.calls:
            return verdict
        widened = Answer(tuple(self._widened(call, parse) for call in task.answer.calls))
        if widened != task.answer:
            verdict = AstMatch().judge(replace(task, answer=widened), parse)  # one of its own: it remembers its tasks
        amounts = list(_other_amounts(task.answer, parse, verdict)) if verdict.score == 0 else []
        return replace(verdict, reasons=(*verdict.reasons, *amounts))

    def _widened(self, expected: ExpectedCall, parse: Parse) -> ExpectedCall:
        """The expected call, accepting also the spellings of its quantities that the completion uses."""
        arguments = {name: list(accepted) for name, accepted in expected.arguments.items()}
        for argument in _arguments(expected, parse):
            given, accepted = quantity(argument.value), arguments[str(argument.name)]
            if given and any(given.same_as(other, self.tolerance) for other in _quantities(accepted)):
                accepted.append(argument.value)
        return replace(expected, arguments=arguments)


def _arguments(expected: ExpectedCall, parse: Parse) -> Iterator[Argument]:
    """Text arguments of the completion's calls of the same function that the expected call has too."""
    for call in parse.calls:
        if call.name == expected.name:
            yield from (a for a in call.arguments if a.name in expected.arguments and isinstance(a.value, str))


def _quantities(accepted: Sequence[Any]) -> list[Quantity]:
    return [found for value in accepted if isinstance(value, str) and (found := quantity(value))]


def _other_amounts(answer: Answer, parse: Parse, verdict: Verdict) -> Iterator[Reason]:
    """A reason for each argument of the right kind and the wrong amount, if that is all that is wrong."""
    near: dict[Any, str] = {}
    for expected in answer.calls:
        for argument in _arguments(expected, parse):
            given, accepted = quantity(argument.value), _quantities(expected.arguments[str(argument.name)])
            if given and any(given.unit == other.unit for other in accepted):
                near[argument.value_span] = f"{argument.name}: {argument.value!r} is another amount of the same"
    if all(reason.code == ReasonCode.WRONG_VALUE and reason.span in near for reason in verdict.reasons):
        yield from (Reason(UnitCode.OTHER_AMOUNT, near[reason.span], reason.span) for reason in verdict.reasons)
