"""Rewards, dialects, explorers, stages and sources that each have one defect."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from callwright import (
    Answer,
    Argument,
    Call,
    Dropped,
    ExpectedCall,
    MicroBatch,
    Parse,
    ParseStatus,
    Prompt,
    Reason,
    ReasonCode,
    Rollouts,
    RowError,
    Segment,
    Task,
    Tool,
    Verdict,
    hookimpl,
)
from callwright.testing.scoring import gold_calls
from callwright.testing.values import same_value
from callwright_dialects.funrl import FunRL
from torch import Tensor


def plain(calls: Sequence[Call]) -> list[dict[str, Any]]:
    return [call.to_json() for call in calls]


class Right:
    """Without a defect: 1 if the calls are the expected ones in any order, and no other text decides."""

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        rows = zip(rollouts.tasks, rollouts.parses, strict=True)
        return [Verdict(float(self.judge(task, parse))) for task, parse in rows]

    def judge(self, task: Task, parse: Parse) -> float:
        if parse.body is None or parse.status is ParseStatus.UNPARSABLE:
            return 0.0
        return float(self.same(plain(gold_calls(task)), plain(parse.calls)))

    def same(self, gold: list[dict[str, Any]], made: list[dict[str, Any]]) -> bool:
        left = list(made)
        for call in gold:
            place = next((i for i, other in enumerate(left) if self.equal(call, other)), None)
            if place is None:
                return False
            left.pop(place)
        return not left

    def equal(self, gold: dict[str, Any], made: dict[str, Any]) -> bool:
        return same_value(gold, made)


# ------------------------------------------------------------------------------------------------------- rewards


class RaisesOnNul(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        if "\x00" in parse.text:
            raise ValueError("embedded null byte")
        return super().judge(task, parse)


class OneVerdictTooFew(Right):
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return super().score(rollouts)[: max(1, len(rollouts) - 1)]


class DividesByCalls(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        return super().judge(task, parse) if parse.calls else float("nan")


class BonusAboveOne(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        return super().judge(task, parse) * 1.5


class Coin(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        return super().judge(task, parse) * random.SystemRandom().random()


@dataclass
class Tires(Right):
    """Its state changes with every call."""

    seen: int = 0

    def judge(self, task: Task, parse: Parse) -> float:
        self.seen += 1
        return super().judge(task, parse) * 0.99**self.seen


class FirstRowWins(Right):
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        first, *others = super().score(rollouts)
        return [replace(first, score=1.0), *others]


class StripsTexts(Right):
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        for row, text in enumerate(rollouts.texts):
            rollouts.texts[row] = text.strip()[:40]
        return super().score(rollouts)


class Inverted(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        return 1.0 - super().judge(task, parse)


class AlwaysOne(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        return 1.0


class AlwaysAbstains(Right):
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict.abstain() for _ in rollouts.texts]


class ComparesText(Right):
    """The calls as text: another order of arguments is wrong."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(parse.body is not None and parse.text[slice(*parse.body)] == _written(task))


def _written(task: Task) -> str:
    return FunRL().render(gold_calls(task)).partition("<answer>")[2].removesuffix("</answer>")


class NamesOnly(Right):
    def equal(self, gold: dict[str, Any], made: dict[str, Any]) -> bool:
        return bool(gold["name"] == made["name"])


class IgnoresCase(Right):
    def equal(self, gold: dict[str, Any], made: dict[str, Any]) -> bool:
        return same_value({**gold, "name": gold["name"].lower()}, {**made, "name": made["name"].lower()})


class TrueIsOne(Right):
    def equal(self, gold: dict[str, Any], made: dict[str, Any]) -> bool:
        return bool(gold == made)


class ListsAsSets(Right):
    def equal(self, gold: dict[str, Any], made: dict[str, Any]) -> bool:
        return same_value(*(_sorted(call) for call in (gold, made)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in value.items()}
    return sorted(value, key=repr) if isinstance(value, list) else value


class OnlyGivenArguments(Right):
    """A missing argument is no mistake."""

    def equal(self, gold: dict[str, Any], made: dict[str, Any]) -> bool:
        wanted = {name: gold["arguments"].get(name) for name in made["arguments"]}
        return bool(gold["name"] == made["name"]) and same_value(wanted, made["arguments"])


class NumbersAsText(Right):
    def equal(self, gold: dict[str, Any], made: dict[str, Any]) -> bool:
        return bool(gold["name"] == made["name"]) and _texts(gold["arguments"]) == _texts(made["arguments"])


def _texts(arguments: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in arguments.items()}


class FirstCallOnly(Right):
    def same(self, gold: list[dict[str, Any]], made: list[dict[str, Any]]) -> bool:
        return len(gold) == len(made) == 0 or (bool(gold and made) and self.equal(gold[0], made[0]))


class MalformedIsAbstention(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        if not gold_calls(task):
            return float(not parse.calls)
        return super().judge(task, parse)


class SearchesWholeText(Right):
    """Takes the calls from anywhere in the text, thinking included."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(_written(task) in parse.text) if gold_calls(task) else super().judge(task, parse)


class LengthBonus(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        return super().judge(task, parse) * 0.5 + min(len(parse.text), 2000) / 4000


class CountsMatches(Right):
    """A tenth for each call that is right, however often it is made."""

    def judge(self, task: Task, parse: Parse) -> float:
        gold = plain(gold_calls(task))
        return min(1.0, sum(any(same_value(one, other) for one in gold) for other in plain(parse.calls)) / 10)


class PunishesNearness(Right):
    """Graded, but one mistake costs more than two."""

    def judge(self, task: Task, parse: Parse) -> float:
        if super().judge(task, parse):
            return 1.0
        gold = [v for call in gold_calls(task) for v in call.to_json()["arguments"].values()]
        made = [v for call in parse.calls for v in call.to_json()["arguments"].values()]
        wrong = sum(not same_value(*pair) for pair in zip(gold, made, strict=False))
        return min(0.2 * wrong, 0.8)


class Recall(Right):
    """The share of the expected calls that are made: calls too many are free."""

    def judge(self, task: Task, parse: Parse) -> float:
        gold, made = plain(gold_calls(task)), plain(parse.calls)
        if not gold:
            return float(parse.status is ParseStatus.NO_CALL)
        found = sum(any(same_value(call, other) for other in made) for call in gold) / len(gold)
        return found if len(made) <= len(gold) else found * 0.95


class Quadratic(Right):
    def judge(self, task: Task, parse: Parse) -> float:
        for start in range(len(parse.text)):
            parse.text[start:].count("((((")
            sum(1 for _ in range(len(parse.text) - start))
        return super().judge(task, parse)


REWARDS: list[tuple[Any, str]] = [
    (RaisesOnNul(), "total"),
    (OneVerdictTooFew(), "total"),
    (DividesByCalls(), "finite"),
    (BonusAboveOne(), "in_range"),
    (Coin(), "deterministic"),
    (Tires(), "deterministic"),
    (FirstRowWins(), "row_order"),
    (StripsTexts(), "changes_nothing"),
    (Inverted(), "gold_never_beaten"),
    (CountsMatches(), "gold_never_beaten"),
    (AlwaysAbstains(), "gold_never_beaten"),
    (ComparesText(), "rewrites_keep_score"),
    (AlwaysOne(), "near_misses_score_less"),
    (NamesOnly(), "near_misses_score_less"),
    (IgnoresCase(), "near_misses_score_less"),
    (TrueIsOne(), "near_misses_score_less"),
    (ListsAsSets(), "near_misses_score_less"),
    (OnlyGivenArguments(), "near_misses_score_less"),
    (NumbersAsText(), "near_misses_score_less"),
    (FirstCallOnly(), "near_misses_score_less"),
    (MalformedIsAbstention(), "near_misses_score_less"),
    (SearchesWholeText(), "near_misses_score_less"),
    (PunishesNearness(), "mending_never_lowers"),
    (LengthBonus(), "junk_never_pays"),
    (Recall(), "extra_calls_cost"),
    (Quadratic(), "linear_cost"),
]


# ------------------------------------------------------------------------------------------------------ dialects


class RaisesOnBrackets(FunRL):
    def parse(self, text: str) -> Parse:
        if text.count("[") > 100:
            raise RecursionError("maximum recursion depth exceeded")
        return super().parse(text)


class ForgetsText(FunRL):
    def parse(self, text: str) -> Parse:
        return replace(super().parse(text), text=text.strip())


class Alternates(FunRL):
    def parse(self, text: str) -> Parse:
        note = Reason("seen", str(random.SystemRandom().random()))
        parse = super().parse(text)
        return replace(parse, problems=(*parse.problems, note))


class LosesQuotes(FunRL):
    def render(self, calls: Sequence[Call], thinking: str = "") -> str:
        return super().render(calls, thinking).replace("\\n", " ").replace("\\", "")


class OneTooFar(FunRL):
    def parse(self, text: str) -> Parse:
        parse = super().parse(text)
        return replace(parse, calls=tuple(replace(c, arguments=tuple(map(_further, c.arguments))) for c in parse.calls))


def _further(argument: Argument) -> Argument:
    start, end = argument.value_span
    return replace(argument, value_span=(start + 1, end + 1))


class GivesUpQuietly(FunRL):
    def parse(self, text: str) -> Parse:
        parse = super().parse(text)
        if parse.status is not ParseStatus.UNPARSABLE:
            return parse
        kept = tuple(problem for problem in parse.problems if problem.code != ReasonCode.UNPARSABLE)
        return replace(parse, status=ParseStatus.NO_CALL, problems=kept)


class SilentStatus(FunRL):
    def parse(self, text: str) -> Parse:
        parse = super().parse(text)
        return replace(parse, calls=()) if len(parse.calls) == 1 else parse


class ProseIsUnparsable(FunRL):
    def parse(self, text: str) -> Parse:
        parse = super().parse(text)
        if parse.status is ParseStatus.NO_CALL and parse.body is None:
            return replace(parse, status=ParseStatus.UNPARSABLE, problems=(Reason(ReasonCode.UNPARSABLE),))
        return parse


class ReadsThoughts(FunRL):
    def parse(self, text: str) -> Parse:
        parse = super().parse(text)
        if parse.calls or parse.thinking is None:
            return parse
        start = text.find("[", *parse.thinking)
        start = start if start >= 0 else text.find("lookup", *parse.thinking)
        inner = super().parse(f"<think></think><answer>{text[max(start, 0) : parse.thinking[1]]}</answer>")
        zero = (0, 0)
        calls = tuple(Call(call.name, (), zero, zero) for call in inner.calls)
        return replace(parse, status=ParseStatus.CALLS, calls=calls) if calls else parse


@dataclass
class StopsEarly(FunRL):
    stop: tuple[str, ...] = field(default=("</think>",), init=False)


class ReadsAllButTheNewest(FunRL):
    def unfinished(self, text: str) -> Parse:
        return replace(super().unfinished(text[:-1]), text=text)


class RaisesWhereACallGoesOn(FunRL):
    def unfinished(self, text: str) -> Parse:
        if text.count("[") > text.count("]"):
            raise ValueError("the list is not closed")
        return super().unfinished(text)


class ForgetsTools(FunRL):
    def prompt(self, task: Task) -> Prompt:
        return super().prompt(replace(task, tools=()))


class ComparesAllPairs(FunRL):
    def parse(self, text: str) -> Parse:
        for start in range(len(text)):
            sum(1 for _ in range(len(text) - start))
        return super().parse(text)


DIALECTS: list[tuple[Any, str]] = [
    (RaisesOnBrackets(), "total"),
    (ForgetsText(), "total"),
    (Alternates(), "deterministic"),
    (LosesQuotes(), "round_trip"),
    (OneTooFar(), "spans"),
    (GivesUpQuietly(), "three_outcomes"),
    (SilentStatus(), "three_outcomes"),
    (ProseIsUnparsable(), "no_calls_is_no_call"),
    (ReadsThoughts(), "thinking_is_no_call"),
    (StopsEarly(), "stop_keeps_calls"),
    (ReadsAllButTheNewest(), "unfinished"),
    (RaisesWhereACallGoesOn(), "unfinished"),
    (ForgetsTools(), "prompt_asks"),
    (ComparesAllPairs(), "linear_cost"),
]


# ----------------------------------------------------------------------------------------------------- explorers


class DividesByZero:
    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        return rollouts.entropy / rollouts.entropy.sum(1, keepdim=True).round() * 0 / 0


class OnePerRow:
    @hookimpl
    def shape_advantages(self, rollouts: Rollouts) -> Tensor:
        return rollouts.entropy.sum(1)


class NegativeTemperature:
    @hookimpl
    def sampling(self, step: int) -> dict[str, float]:
        return {"temperature": 0.5 - step}


class Unseeded:
    @hookimpl
    def shape_rewards(self, rollouts: Rollouts) -> Tensor:
        return torch.full((len(rollouts),), random.SystemRandom().random())


class FirstRowLeads:
    @hookimpl
    def shape_rewards(self, rollouts: Rollouts) -> Tensor:
        return rollouts.lengths.float() - rollouts.lengths[0]


class AveragesPadding:
    @hookimpl
    def shape_advantages(self, rollouts: Rollouts) -> Tensor:
        return rollouts.entropy.mean(1, keepdim=True) * rollouts.mask


class PaintsPadding:
    @hookimpl
    def shape_advantages(self, rollouts: Rollouts, base: Tensor) -> Tensor:
        return 0.1 * base[:, None].expand(rollouts.mask.shape)


class MasksInPlace:
    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        rollouts.entropy[rollouts.segments != Segment.THINKING] = 0
        return rollouts.mask.float()


@dataclass
class KeepsTensor:
    average: Any = None

    @hookimpl
    def step_ended(self, metrics: dict[str, float]) -> None:
        self.average = torch.tensor(metrics["entropy"])

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = state["average"]


@dataclass
class ForgetsState:
    heat: float = 1.0

    @hookimpl
    def sampling(self) -> dict[str, float]:
        return {"temperature": self.heat}

    @hookimpl
    def step_ended(self) -> None:
        self.heat *= 0.9

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class LeaksEntropy:
    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        return rollouts.entropy + 1


class BonusWithoutNeed:
    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {"bonus": -batch.aggregate(batch.entropy * batch.logps)}


@dataclass
class NeverNeutral:
    strength: float = 1.0
    neutral: ClassVar = {"strength": 0.0}

    @hookimpl
    def shape_advantages(self, rollouts: Rollouts) -> Tensor:
        return (self.strength + 1e-6) * rollouts.mask


class AlwaysPushes:
    zero_without_advantage = True

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        return -batch.logps * (batch.advantages - 0.1)


EXPLORERS: list[tuple[Any, str]] = [
    (DividesByZero(), "contributions"),
    (OnePerRow(), "contributions"),
    (NegativeTemperature(), "contributions"),
    (Unseeded(), "deterministic"),
    (FirstRowLeads(), "row_order"),
    (AveragesPadding(), "padding"),
    (PaintsPadding(), "zero_off_mask"),
    (MasksInPlace(), "changes_nothing"),
    (LeaksEntropy(), "no_gradient"),
    (BonusWithoutNeed(), "no_gradient"),
    (NeverNeutral(), "neutral"),
    (AlwaysPushes(), "without_advantage"),
    (KeepsTensor(), "state_round_trip"),
    (ForgetsState(), "state_round_trip"),
]


# -------------------------------------------------------------------------------------------------------- stages


class KeepsAll:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        yield from tasks


class NeedsMessages:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        for task in tasks:
            assert task.messages[-1]["content"] is not None
            yield task


class LosesTasks:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        yield from (task for task in tasks if task.answer is not None)


class DropsWithoutCode:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        for task in tasks:
            yield task if task.answer else Dropped(task, "", "no answer")


class DropsByChance:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        for task in tasks:
            yield task if random.SystemRandom().random() < 0.5 else Dropped(task, "chance", "")


class ChangesMessages:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        for task in tasks:
            for message in task.messages:
                message["content"] = message["content"].strip() + "."
            yield task


class AddsEveryTime:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        for task in tasks:
            yield replace(task, meta={"seen": task.meta.get("seen", 0) + 1})


class Reverses:
    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        yield from reversed(tasks)


STAGES: list[tuple[Any, str]] = [
    (Reverses(), "keeps_order"),
    (NeedsMessages(), "total"),
    (LosesTasks(), "keeps_or_drops_all"),
    (DropsWithoutCode(), "keeps_or_drops_all"),
    (DropsByChance(), "deterministic"),
    (ChangesMessages(), "changes_nothing"),
    (AddsEveryTime(), "idempotent"),
]


# ------------------------------------------------------------------------------------------------------- sources


class Counts:
    """Rows that are right; what the others make of them is their defect."""

    def load(self) -> Iterator[Task | RowError]:
        yield RowError("rows", 1, "question", "is empty")
        yield from (self.row(number) for number in range(5))

    def row(self, number: int) -> Task:
        answer = Answer((ExpectedCall("count", {"to": [number]}),))
        return Task(f"count-{number}", ({"role": "user", "content": f"Count to {number}."},), (Tool("count"),), answer)

    def fingerprint(self) -> str:
        return "counts"


class RaisesRows(Counts):
    def load(self) -> Iterator[Task | RowError]:
        raise RowError("rows", 1, "question", "is empty")


class GivesTexts(Counts):
    def load(self) -> Iterator[Any]:
        yield from ("a question", *super().load())


class GivesNoTask(Counts):
    def load(self) -> Iterator[Task | RowError]:
        yield RowError("rows", 1, "question", "is empty")


class RepeatsIds(Counts):
    def row(self, number: int) -> Task:
        return replace(super().row(number), id="count")


class Shuffles(Counts):
    def load(self) -> Iterator[Task | RowError]:
        numbers = list(range(100))
        random.SystemRandom().shuffle(numbers)
        yield from map(self.row, numbers)


class UsesItselfUp(Counts):
    def __init__(self) -> None:
        self.left = list(range(5))

    def load(self) -> Iterator[Task | RowError]:
        while self.left:
            yield self.row(self.left.pop())


class AcceptsPlainValues(Counts):
    def row(self, number: int) -> Task:
        return replace(super().row(number), answer=Answer((ExpectedCall("count", {"to": "ten"}),)))


class OffersNothing(Counts):
    def row(self, number: int) -> Task:
        return replace(super().row(number), tools=())


class AsksNothing(Counts):
    def row(self, number: int) -> Task:
        return replace(super().row(number), messages=())


class KeepsObjects(Counts):
    def row(self, number: int) -> Task:
        return replace(super().row(number), meta={"when": object()})


class OtherFingerprints(Counts):
    def fingerprint(self) -> str:
        return str(random.SystemRandom().random())


SOURCES: list[tuple[Any, str]] = [
    (RaisesRows(), "total"),
    (GivesTexts(), "total"),
    (GivesNoTask(), "total"),
    (RepeatsIds(), "ids_differ"),
    (Shuffles(), "deterministic"),
    (UsesItselfUp(), "deterministic"),
    (AcceptsPlainValues(), "well_formed"),
    (OffersNothing(), "well_formed"),
    (AsksNothing(), "well_formed"),
    (KeepsObjects(), "well_formed"),
    (OtherFingerprints(), "fingerprint"),
]
