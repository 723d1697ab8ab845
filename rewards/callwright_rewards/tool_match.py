"""How near are the completion's calls to the expected ones? ToolRL's graded reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from callwright import Answer, Call, ExpectedCall, Parse, ReasonCode, Rollouts, Task, Verdict, hookimpl

from callwright_rewards.call_match import AnswerKey, Comparison
from callwright_rewards.per_task import PerTask
from callwright_rewards.strict import StrictChecker, unreadable
from callwright_rewards.value_match import OPTIONAL

PUBLISHED_RANGE = (-3.0, 3.0)


@dataclass
class ToolMatch:
    """ToolRL's graded correctness (arXiv 2504.13958, section 3.3), with its holes closed.

    The score is S / S_max, scaled to [`low`, `high`]. S adds up: the overlap (intersection over union) of the multisets
    of function names; and for every expected call, against the call assigned to it, the overlap of the argument names
    and the number of arguments that are right. S_max is what the answer itself would get.

    Closed are: a boolean counts as 1; a call in the thinking counts; calls that nobody asked for cost little (here each
    adds to S_max what it would have been worth); a call where none is expected costs nothing; calls are matched
    greedily. Values are compared, and calls checked against the tools' schemas, as by `ast_match` in strict mode.
    """

    low: float = 0.0
    """The score of nothing right, of a malformed call, and of a call where none is expected."""
    high: float = 1.0
    """The score of the answer itself."""
    published: bool = False
    """Score as published, holes included, from -3 to 3: greedy, Python's equality, 0 for every completion where no
    call is expected and -3 for a malformed one. `low` and `high` are then not used."""

    def __post_init__(self) -> None:
        if self.published:
            self.low, self.high = PUBLISHED_RANGE
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        self.range = self.low, self.high
        holes = ("gold_never_beaten", "near_misses_score_less", "junk_never_pays", "extra_calls_cost")
        self.laws = dict.fromkeys(holes if self.published else (), "holes of the published reward")
        self._keys = PerTask(StrictChecker)

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with a score in [low, high], or abstentions; the reasons are what is wrong with the calls."""
        return [self.judge(task, parse) for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True)]

    def judge(self, task: Task, parse: Parse) -> Verdict:
        """The verdict on one completion."""
        checker = self._keys(task)
        strict = checker.judge(parse)
        if strict.score is None:
            return strict
        if self.published:
            return Verdict(self.published_score(task, parse), strict.reasons)
        if strict.score == 1.0:
            return Verdict(self.high, strict.reasons)
        share = 0.0 if unreadable(parse) or checker.no_call else _share(checker.key, parse)
        return Verdict(self.low + (self.high - self.low) * share, strict.reasons)

    def published_score(self, task: Task, parse: Parse) -> float:
        assert task.answer is not None
        if task.answer.no_call:
            return 0.0
        if unreadable(parse):
            return self.low
        return self.low + (self.high - self.low) * _published_share(task.answer, parse)


def _share(key: AnswerKey, parse: Parse) -> float:
    """S / S_max, in [0, 1)."""
    assigned = key.assign(parse)
    points = _overlap([call.name for call in parse.calls], [call.name for call in key.expected])
    most = 1.0
    for row, expected in enumerate(key.expected):
        given = parse.calls[assigned[row][0]] if row in assigned else None
        if given is None or given.name != expected.name:
            most += 1.0 + len(_names(expected, ()))
        else:
            names = ["" if argument.name is None else argument.name for argument in given.arguments]
            right = _right(given, assigned[row][1])
            wanted = list({*_names(expected, names), *right})  # a default that was given is right too
            points += _overlap(names, wanted) + len(right)
            most += 1.0 + max(len(wanted), len(names))
    matched = {column for column, _ in assigned.values()}
    most += sum(1.0 + len(call.arguments) for index, call in enumerate(parse.calls) if index not in matched)
    return points / most


def _names(expected: ExpectedCall, given: Iterable[str]) -> list[str]:
    """The arguments that must be given, and those of the others that are."""
    given = set(given)
    return [name for name, options in expected.arguments.items() if OPTIONAL not in options or name in given]


def _right(call: Call, comparison: Comparison) -> set[str]:
    """The names of the arguments that nothing is wrong with; none where the call as a whole breaks its schema."""
    faulty = {fault.span for fault in comparison.faults if fault.code != ReasonCode.MISSING_ARGUMENT}
    if call.span in faulty:
        return set()
    return {
        argument.name
        for argument in call.arguments
        if argument.name is not None and argument.value_span not in faulty and argument.name_span not in faulty
    }


def _overlap(left: Sequence[str], right: Sequence[str]) -> float:
    """Intersection over union of two multisets; 1 if both are empty."""
    if not left and not right:
        return 1.0
    common = sum((Counter(left) & Counter(right)).values())
    return common / (len(left) + len(right) - common)


def _published_share(answer: Answer, parse: Parse) -> float:
    """S / S_max as in the authors' code: each expected call greedily takes the best call left of its name."""
    points = _overlap([call.name for call in answer.calls], [call.name for call in parse.calls])
    most = 1.0
    left = [call.to_json() for call in parse.calls]
    for expected in answer.calls:
        best: tuple[float, dict[str, Any] | None] = (0.0, None)
        for call in left:
            if call["name"] == expected.name:
                score = _published_pair(expected, call["arguments"])
                best = (score, call) if score > best[0] else best
        if best[1] is not None:
            left = [call for call in left if call is not best[1]]
        given = () if best[1] is None else best[1]["arguments"]
        points += best[0]
        most += 1.0 + len(_names(expected, given))
    return points / most


def _published_pair(expected: ExpectedCall, arguments: dict[str, Any]) -> float:
    names = _names(expected, arguments)
    equal = sum(name in arguments and arguments[name] in expected.arguments[name] for name in names)
    return _overlap(names, list(arguments)) + equal
