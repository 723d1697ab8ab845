"""Does a row's own answer earn full marks from the recipe's rewards?"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from callwright import Answer, Argument, Call, CallwrightError, Dialect, Parse, ReasonCode, Task, Verdict
from callwright.light import LightRollouts
from callwright.pipeline.context import StageContext
from callwright.plugins import near
from callwright.scoring import Named, Scorer
from callwright.types import JSON, Dropped, Span

from callwright_data._allowed_values import LEFT_OUT, choices, may_be_left_out

_BATCH = 256
"""Rows that are scored together."""
_MAX_VALUES = 64
"""Values of one argument that are tried."""
_MAX_THINKING = 4000
"""Characters of thinking that states the arguments; above, it does not state them."""
_PLAIN_THINKING = "I look for the functions that the question asks for, and take their arguments from it."
_NOWHERE = (0, 0)
_Calls = Sequence[Call]


class GoldCode(StrEnum):
    """Codes beside those of the rewards' own reasons."""

    NO_ANSWER = "no_answer"
    """The row has no answer."""
    UNWRITABLE = "unwritable"
    """The dialect cannot write the answer's calls, such as a function whose name is no Python name."""
    NOT_FULL_MARKS = "not_full_marks"
    """A reward gave less than full marks, and no reason."""


@dataclass
class GoldCheck:
    """Drops every row whose own answer does not earn full marks from the recipe's rewards.

    The dialect writes the reply that the answer wants, of every argument the first allowed value, with thinking where
    it has a place for it; and every reward with a weight scores it. Full marks are the upper end of the reward's
    `range`, 1 without one. If a reward gives less, other allowed values are tried, first those of the argument that
    the reward complains of. The row is dropped with the code of the reward's first complaint about the first reply. A
    reward that abstains does not matter, unless no reward of the others tells the answer from a wrong one that calls
    the same functions (every call twice; a call where there should be none): then nobody judges the row's calls, and
    its code is `not_applicable`.

    Rewards that look at a completion's tokens fail here, as there are none; name them in `leave_out`. A reward that
    fails drops its row with the code `reward_failed`, and ends the stage where the recipe says `on_failure: stop`.
    """

    keep_unanswered: bool = False
    """Whether rows without an answer are kept; else they are dropped with the code `no_answer`."""
    attempts: int = 16
    """Replies that are tried of a row at most, at least 1."""
    leave_out: list[str] = field(default_factory=list)
    """Names, in the recipe, of rewards that are not asked."""
    reads: ClassVar[tuple[str, ...]] = ("dialect", "rewards")

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {self.attempts}")
        self._dialect: Dialect | None = None
        self._rewards: list[Named] = []

    def prepare(self, context: StageContext) -> None:
        """Raises CallwrightError where `leave_out` names no reward of the recipe, or leaves none."""
        rewards = context.components.rewards
        names = [reward.name for reward in rewards]
        for name in self.leave_out:
            if name not in names:
                raise CallwrightError(f"gold_check: leave_out: the recipe has no reward '{name}'{near(name, names)}")
        self._dialect = context.components.dialect
        self._rewards = [r for r in rewards if r.name not in self.leave_out and not r.part.watched]
        if not self._rewards:
            raise CallwrightError("gold_check: leave_out names every reward that has a weight; leave one to be asked")

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        """For every task: itself, or why it is dropped. Raises CallwrightError before `prepare`, and where a reward
        with `on_failure: stop` fails."""
        if self._dialect is None:
            raise CallwrightError("gold_check needs a recipe's dialect and rewards: call `prepare` first")
        judge = _Judge(self._dialect, self._rewards)
        rows = iter(tasks)
        try:
            while batch := list(itertools.islice(rows, _BATCH)):
                yield from self._judged(batch, judge)
        finally:
            judge.scorer.close()

    def _judged(self, batch: Sequence[Task], judge: _Judge) -> Iterator[Task | Dropped]:
        dropped: dict[int, Dropped] = {}
        searches: list[tuple[int, _Search]] = []
        for number, task in enumerate(batch):
            if task.answer is None:
                if not self.keep_unanswered:
                    dropped[number] = Dropped(task, GoldCode.NO_ANSWER, "the row has no answer")
                continue
            try:
                searches.append((number, _Search(task, task.answer, judge.writer)))
            except Exception as error:  # calls that cannot be written, or arguments of no form that is known
                text = str(error) if isinstance(error, CallwrightError) else f"{type(error).__name__}: {error}"
                dropped[number] = Dropped(task, GoldCode.UNWRITABLE, f"the answer cannot be written: {text}"[:500])
        for number, complaint in judge.complaints(searches, self.attempts):
            dropped[number] = Dropped(batch[number], complaint.code, complaint.message)
        for number, task in enumerate(batch):
            yield dropped.get(number, task)


@dataclass(frozen=True, slots=True)
class _Complaint:
    code: str
    message: str
    spans: tuple[Span, ...] = ()


class _Writer:
    """Replies in the recipe's dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.thinks = "thinking" in inspect.signature(dialect.render).parameters

    def write(self, calls: _Calls) -> Parse:
        """A reply with these calls, parsed. Raises whatever the dialect raises."""
        if not self.thinks:
            return self.dialect.parse(self.dialect.render(calls))
        stated = _thinking(calls)
        if len(stated) <= _MAX_THINKING:
            try:
                return self._thinking_reply(calls, stated)
            except CallwrightError:
                pass  # a value holds one of the thinking's tags
        return self._thinking_reply(calls, _PLAIN_THINKING)

    def _thinking_reply(self, calls: _Calls, thinking: str) -> Parse:
        return self.dialect.parse(self.dialect.render(calls, thinking=thinking))  # type: ignore[call-arg] # see thinks


def _thinking(calls: _Calls) -> str:
    """Names every argument's value, which some rewards look for."""
    if not calls:
        return "No function fits what is asked, so that I call none."
    given = [" and ".join(f"{a.name} is {a.value}" for a in call.arguments) or "no argument" for call in calls]
    return " ".join(f"I call {call.name}: {text}." for call, text in zip(calls, given, strict=True))


def _call(name: str, arguments: dict[str, JSON]) -> Call:
    return Call(name, tuple(Argument(n, v, _NOWHERE, _NOWHERE) for n, v in arguments.items()), _NOWHERE, _NOWHERE)


def _values(allowed: Sequence[JSON]) -> list[JSON]:
    """What is tried for an argument, in order. Last the "" that says that it may be left out, as a text: BFCL's rules
    take it for one, and a key of a required parameter may hold nothing else."""
    if len(allowed) == 1 and allowed[0] and isinstance(allowed[0], (str, int, float)):
        return [allowed[0]]  # nearly always, and quicker
    left_out = [""] if may_be_left_out(allowed) else []
    return [*itertools.islice(choices(allowed), _MAX_VALUES), *left_out] or [LEFT_OUT]


class _Search:
    """The replies that one answer allows, one after the other. The first is written at once; raises if it cannot be."""

    def __init__(self, task: Task, answer: Answer, writer: _Writer) -> None:
        self.task, self.writer = task, writer
        self.names = [call.name for call in answer.calls]
        self.values: dict[tuple[int, str], list[JSON]] = {
            (number, name): _values(allowed)
            for number, call in enumerate(answer.calls)
            for name, allowed in call.arguments.items()
        }
        self.chosen = dict.fromkeys(self.values, 0)
        self.tried = {tuple(self.chosen.values())}
        self.reply = writer.write(self.calls())
        self.first: _Complaint | None = None
        """What was wrong with the first reply."""

    def calls(self) -> list[Call]:
        arguments: list[dict[str, JSON]] = [{} for _ in self.names]
        for (number, name), index in self.chosen.items():
            value = self.values[number, name][index]
            if value is not LEFT_OUT:
                arguments[number][name] = value
        return [_call(name, given) for name, given in zip(self.names, arguments, strict=True)]

    def advance(self, spans: Sequence[Span]) -> bool:
        """Go on to a reply that differs in one argument, first one that these spans of the reply lie in. False if
        there is none that can be written."""
        for place in [*self._blamed(spans), *self.values]:
            for index in range(len(self.values[place])):
                chosen = {**self.chosen, place: index}
                if tuple(chosen.values()) in self.tried:
                    continue
                self.tried.add(tuple(chosen.values()))
                before, self.chosen = self.chosen, chosen
                try:
                    self.reply = self.writer.write(self.calls())
                except Exception:  # as for the first reply, but here there are others
                    self.chosen = before
                else:
                    return True
        return False

    def opposite(self) -> Parse:
        """A wrong reply that calls the same functions: every call twice, or some call where there should be none."""
        calls = self.calls() * 2 or [_call(tool.name, {}) for tool in self.task.tools[:1]]
        try:
            return self.writer.write(calls or [_call("function", {})])
        except Exception:  # the name of a tool that the dialect cannot write
            return self.writer.write([_call("function", {})])

    def _blamed(self, spans: Sequence[Span]) -> Iterator[tuple[int, str]]:
        for number, call in enumerate(self.reply.calls):
            for argument in call.arguments:
                start = argument.name_span[0] if argument.name_span else argument.value_span[0]
                inside = any(start <= span[0] and span[1] <= argument.value_span[1] for span in spans)
                if inside and argument.name is not None and (number, argument.name) in self.values:
                    yield number, argument.name


class _Judge:
    """The recipe's rewards."""

    def __init__(self, dialect: Dialect, rewards: Sequence[Named]) -> None:
        self.writer = _Writer(dialect)
        self.rewards = rewards
        self.scorer = Scorer(rewards)
        self.full = {reward.name: float(getattr(reward.plugin, "range", (0.0, 1.0))[1]) for reward in rewards}

    def complaints(self, searches: Sequence[tuple[int, _Search]], attempts: int) -> Iterator[tuple[int, _Complaint]]:
        """By number, what is wrong with the rows that do not earn full marks within so many attempts."""
        pending = list(searches)
        unjudged: list[tuple[int, _Search, dict[str, Verdict]]] = []
        for attempt in range(attempts):
            verdicts = self._score([search.task for _, search in pending], [search.reply for _, search in pending])
            failed = []
            for (number, search), given in zip(pending, verdicts, strict=True):
                complaint = self._complaint(given, search.reply)
                if complaint is None:
                    if any(verdict.score is None for verdict in given.values()):
                        unjudged.append((number, search, given))
                    continue
                search.first = search.first or complaint
                if attempt + 1 < attempts and search.advance(complaint.spans):
                    failed.append((number, search))
                else:
                    yield number, search.first
            pending = failed
        yield from self._unjudged(unjudged)

    def _unjudged(self, rows: Sequence[tuple[int, _Search, dict[str, Verdict]]]) -> Iterator[tuple[int, _Complaint]]:
        """Of rows of which a reward abstained: those of which no other one tells the answer from its opposite."""
        opposites = [search.opposite() for _, search, _ in rows]
        verdicts = self._score([search.task for _, search, _ in rows], opposites)
        for (number, _, given), other in zip(rows, verdicts, strict=True):
            if not any(v.score is not None and other[name].score != v.score for name, v in given.items()):
                name, verdict = next((name, verdict) for name, verdict in given.items() if verdict.score is None)
                why = verdict.reasons[0].message if verdict.reasons else "it gives no reason"
                text = f"no reward judges the calls: {name} abstains: {why}"
                yield number, _Complaint(str(ReasonCode.NOT_APPLICABLE), text)

    def _score(self, tasks: Sequence[Task], replies: Sequence[Parse]) -> list[dict[str, Verdict]]:
        """By row, and by reward in the recipe's order."""
        if not tasks:
            return []
        arrays = {"group_ids": list(range(len(tasks))), "truncated": [False] * len(tasks)}
        texts = [reply.text for reply in replies]
        rollouts = LightRollouts(step=0, tasks=tasks, texts=texts, parses=replies, arrays=arrays)
        verdicts, _ = self.scorer.score(rollouts)
        if self.scorer.stop_reason is not None:
            raise CallwrightError(f"gold_check: {self.scorer.stop_reason}")
        return [{r.name: verdicts[r.name][row] for r in self.rewards} for row in range(len(tasks))]

    def _complaint(self, given: dict[str, Verdict], reply: Parse) -> _Complaint | None:
        """Of the first reward, in the recipe's order, that failed or gave less than full marks."""
        for name, verdict in given.items():
            if verdict.failure is not None:
                return _Complaint(str(ReasonCode.REWARD_FAILED), f"{name} failed: {verdict.failure}"[:500])
            if verdict.score is None or verdict.score >= self.full[name] - 1e-9:
                continue
            reasons = [reason for reason in verdict.reasons if reason.code != ReasonCode.CORRECT]
            code = str(reasons[0].code) if reasons else GoldCode.NOT_FULL_MARKS
            why = reasons[0].message if reasons else "no reason"
            text = f"{name} gives {verdict.score:g} of {self.full[name]:g}: {why}; the reply: {_shown(reply.text)}"
            return _Complaint(code, text, tuple(reason.span for reason in reasons if reason.span is not None))
        return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 300 else f"{text[:300]}...")
