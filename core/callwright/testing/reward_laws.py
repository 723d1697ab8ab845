"""The laws of a reward."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis.strategies import SearchStrategy

from callwright.testing import python_code
from callwright.testing.hostile import TEXTS
from callwright.testing.laws import Law
from callwright.testing.mutations import Mutation, changed_calls, completion_near_misses, completion_rewrites
from callwright.testing.python_code import Change
from callwright.testing.reward_bench import TOLERANCE, RewardBench
from callwright.testing.reward_excess import extra_calls_cost, junk_never_pays, junked, linear_cost
from callwright.testing.scoring import Judge, gold_text, rollouts_of, thinking_of
from callwright.testing.strategies import completions
from callwright.types import Dialect, Task

# ---------------------------------------------------------------------------------------------- any text at all


def total(bench: RewardBench) -> None:
    """Judge hostile texts one and all, then random ones."""
    for task in bench.fixed:
        bench.judged(task, TEXTS)

    def test(pair: tuple[Task, list[str]]) -> None:
        bench.judged(*pair)

    bench.search(_texts(bench), test)


def _texts(bench: RewardBench) -> SearchStrategy[tuple[Task, list[str]]]:
    def of_task(task: Task) -> SearchStrategy[tuple[Task, list[str]]]:
        return st.tuples(st.just(task), st.lists(completions(bench.dialect, task), min_size=1, max_size=4))

    return bench.drawn.flatmap(of_task)


def finite(bench: RewardBench) -> None:
    def test(task: Task, texts: Sequence[str]) -> None:
        for text, score in zip(texts, bench.scores(task, texts), strict=True):
            if score is not None and not math.isfinite(score):
                bench.refuse(f"the score is {score}", task, [text], "assert scores[0] is None or abs(scores[0]) < 1e38")

    _everywhere(bench, test)


def in_range(bench: RewardBench) -> None:
    low, high = bench.range

    def test(task: Task, texts: Sequence[str]) -> None:
        for text, score in zip(texts, bench.scores(task, texts), strict=True):
            if score is not None and not low - TOLERANCE <= score <= high + TOLERANCE:
                message = f"the score {score} is outside the range {low} to {high}"
                bench.refuse(message, task, [text], f"assert scores[0] is None or {low} <= scores[0] <= {high}")

    _everywhere(bench, test)


def _everywhere(bench: RewardBench, test: Callable[[Task, Sequence[str]], None]) -> None:
    """On right completions, near misses, hostile and random texts."""

    def of_task(task: Task) -> None:
        mutations = completion_near_misses(bench.dialect, task)
        test(task, [gold_text(bench.dialect, task), *(mutation.text for mutation in mutations), *TEXTS])

    for task in bench.fixed:
        of_task(task)
    bench.search(_texts(bench), lambda pair: test(*pair))


def deterministic(bench: RewardBench) -> None:
    """The same verdicts again, from the same object and from a copy made before the first call."""

    def test(task: Task) -> None:
        texts = _some_texts(bench, task)
        before = copy.deepcopy(bench.subject)
        first = bench.judged(task, texts)
        again = bench.judged(task, texts)
        fresh = Judge(before)(rollouts_of(bench.dialect, task, texts))
        for text, *verdicts in zip(texts, first, again, fresh, strict=True):
            if any(verdict != verdicts[0] for verdict in verdicts):
                shown = ", ".join(str(verdict.score) for verdict in verdicts)
                message = f"the same completion is judged differently from one time to the next: {shown}"
                bench.refuse(message, task, [text] * 20, "assert len(set(scores)) == 1")

    bench.for_all(test)


def _some_texts(bench: RewardBench, task: Task) -> list[str]:
    mutations = completion_near_misses(bench.dialect, task)
    return [gold_text(bench.dialect, task), *(mutation.text for mutation in mutations[:8]), "", "Hello."]


def changes_nothing(bench: RewardBench) -> None:
    """What the hook receives is as before: texts, parses, tasks, tensors."""

    def test(task: Task) -> None:
        texts = _some_texts(bench, task)
        rollouts = rollouts_of(bench.dialect, task, texts)
        before = copy.deepcopy(rollouts)
        bench.judged_rollouts(rollouts, task)
        for name in ("tasks", "texts", "parses", "prompt_ids", "mask", "segments", "completion_ids", "group_ids"):
            old, new = getattr(before, name), getattr(rollouts, name)
            if old != new if isinstance(old, list) else not bool((old == new).all()):
                bench.refuse(f"the reward changes `rollouts.{name}`, which it shares with others", task, texts, "")

    bench.for_all(test)


def row_order(bench: RewardBench) -> None:
    """Rows turned round, and the rows of two tasks mixed: the verdicts move with their rows."""

    def test(pair: tuple[Task, Task]) -> None:
        first, second = ([(task, text) for text in _some_texts(bench, task)] for task in pair)
        rows = [*first, *second]
        straight = rollouts_of(bench.dialect, [task for task, _ in rows], [text for _, text in rows])
        order = [*reversed(range(1, len(rows), 2)), *range(0, len(rows), 2)]
        turned = straight.select(order)
        expected = bench.judged_rollouts(straight, pair[0])
        found = bench.judged_rollouts(turned, pair[0])
        for place, row in enumerate(order):
            if found[place] != expected[row]:
                scores = f"{expected[row].score}, and {found[place].score}"
                message = f"a completion scores {scores} in another row, or gets other reasons there"
                task, text = rows[row]
                bench.refuse(message, task, [text, "", text], "assert scores[0] == scores[2]")

    neighbours = list(zip(bench.fixed, bench.fixed[1:], strict=False))
    bench.search(st.tuples(bench.drawn, bench.drawn), test, neighbours)


# ------------------------------------------------------------------------------------------- the right completion


def gold_never_beaten(bench: RewardBench) -> None:
    """No near miss, no hostile text and no long text scores more than the right completion."""
    judged: list[bool] = []

    def test(task: Task) -> None:
        gold = gold_text(bench.dialect, task)
        mutations = completion_near_misses(bench.dialect, task)
        others = [*(m.text for m in mutations), *junked(bench, task, gold), *TEXTS[:12], *TEXTS[16:]]
        best, *scores = bench.scores(task, [gold, *others])
        judged.append(best is not None)
        for text, score in zip(others, scores, strict=True):
            if best is not None and score is not None and score > best + TOLERANCE:
                message = f"the right completion scores {best}, another one {score}"
                bench.refuse(message, task, [gold, text], "assert scores[1] is None or scores[1] <= scores[0]")

    bench.for_all(test)
    if not any(judged):
        message = (
            "the reward abstains from every right completion, so that nothing was checked; give `tasks` of its own"
        )
        bench.broken(message, f"assert {message!r} == ''")


def near_misses_score_less(bench: RewardBench) -> None:
    def test(task: Task) -> None:
        gold = gold_text(bench.dialect, task)
        mutations = completion_near_misses(bench.dialect, task)
        best, *scores = bench.scores(task, [gold, *(mutation.text for mutation in mutations)])
        for mutation, score in zip(mutations, scores, strict=True):
            if best is not None and score is not None and score > best - TOLERANCE:
                message = f"a near miss ({mutation.kind}) scores {score}, the right completion {best}"
                bench.refuse(message, task, [gold, mutation.text], "assert scores[1] is None or scores[1] < scores[0]")

    bench.for_all(test)


def rewrites_keep_score(bench: RewardBench) -> None:
    def test(task: Task) -> None:
        gold = gold_text(bench.dialect, task)
        mutations: list[Mutation] = completion_rewrites(bench.dialect, task)
        best, *scores = bench.scores(task, [gold, *(mutation.text for mutation in mutations)])
        for mutation, score in zip(mutations, scores, strict=True):
            if (score is None) != (best is None) or abs((score or 0) - (best or 0)) > TOLERANCE:
                message = f"the same calls score {best}, and written otherwise ({mutation.kind}) {score}"
                bench.refuse(message, task, [gold, mutation.text], "assert scores[0] == scores[1]")

    bench.for_all(test)


def mending_never_lowers(bench: RewardBench) -> None:
    """Of a completion with two wrong values, mend one, then the other: the score never falls."""

    def test(task: Task) -> None:
        gold = gold_text(bench.dialect, task)
        pairs = list(_two_mistakes(bench.dialect, task, gold))
        scores = iter(bench.scores(task, [text for pair in pairs for text in pair]))
        for two, one in pairs:
            lower, higher = next(scores), next(scores)
            if lower is not None and higher is not None and higher < lower - TOLERANCE:
                message = f"two wrong values score {lower}, one of them mended {higher}"
                bench.refuse(message, task, [two, one], "assert scores[1] >= scores[0]")

    bench.for_all(test)


def _two_mistakes(dialect: Dialect, task: Task, gold: str) -> Iterator[tuple[str, str]]:
    """(completion with two wrong values, with one of them mended)."""
    parse = dialect.parse(gold)
    if not parse.calls:
        return

    def both(text: str) -> Iterator[Change]:
        source = python_code.Source(text)
        wrong = python_code.value_misses(source)[:4]
        for index, first in enumerate(wrong):
            for second in wrong[index + 1 :]:
                yield "two", source.changed(first, second)
                yield "one", source.changed(second)
                yield "two", source.changed(first, second)
                yield "one", source.changed(first)

    texts = [text for _, text in changed_calls(dialect, thinking_of(task), parse, both)]
    yield from zip(texts[::2], texts[1::2], strict=True)


LAWS: tuple[Law[Any], ...] = (
    Law("total", "It judges any text, and never fails because of one.", total),
    Law("finite", "Scores are finite.", finite),
    Law("in_range", "Scores are in the stated range.", in_range),
    Law("deterministic", "The same completions get the same verdicts.", deterministic),
    Law("changes_nothing", "It does not change what it receives.", changes_nothing),
    Law("row_order", "Verdicts do not depend on the order of rows.", row_order),
    Law("gold_never_beaten", "No completion scores more than a right one.", gold_never_beaten),
    Law("rewrites_keep_score", "The same calls in other characters score the same.", rewrites_keep_score),
    Law("near_misses_score_less", "Whatever is nearly right scores less than right.", near_misses_score_less),
    Law("mending_never_lowers", "Mending one of two wrong values never lowers the score.", mending_never_lowers),
    Law("junk_never_pays", "Junk never raises the score.", junk_never_pays),
    Law("extra_calls_cost", "A call too many costs at least as much as a wrong value.", extra_calls_cost),
    Law("linear_cost", "The cost grows as the length of the text does.", linear_cost),
)
