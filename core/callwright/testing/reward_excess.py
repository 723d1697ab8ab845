"""The laws of a reward about what is too much: words, calls, length."""

from __future__ import annotations

from collections.abc import Iterator

from callwright.testing import python_code
from callwright.testing.cost import superlinear
from callwright.testing.hostile import pumped
from callwright.testing.mutations import changed_calls, completion_near_misses, same_calls
from callwright.testing.python_code import Change, from_python
from callwright.testing.reward_bench import TOLERANCE, RewardBench
from callwright.testing.scoring import gold_calls, gold_text, render, rollouts_of, takes_thinking, thinking_of
from callwright.testing.toys import fixed_tasks
from callwright.types import Dialect, Rollouts, Task

JUNK = " zebra quartz" * 5
FLOOD = 50
"""Invented calls of a flood."""
FLOOD_SHARE = 0.25
"""What a flood may earn: this share of the way from a reply without any right call to the right one."""


def junk_never_pays(bench: RewardBench) -> None:
    """Words and invented calls behind a completion, or more words in its thinking, never raise its score."""

    def test(task: Task) -> None:
        gold = gold_text(bench.dialect, task)
        pairs = [(gold, text) for text in junked(bench, task, gold)]
        for mutation in completion_near_misses(bench.dialect, task)[4:12]:
            pairs += [(mutation.text, mutation.text + JUNK), (mutation.text, mutation.text + "\n" * 40)]
        scores = iter(bench.scores(task, [text for pair in pairs for text in pair]))
        for plain, padded in pairs:
            before, after = next(scores), next(scores)
            if before is not None and after is not None and after > before + TOLERANCE:
                message = f"junk raises the score from {before} to {after}"
                bench.refuse(message, task, [plain, padded], "assert scores[1] <= scores[0]")

    bench.for_all(test)


def junked(bench: RewardBench, task: Task, gold: str) -> list[str]:
    """The right completion with junk: behind it, in its thinking, and among its calls."""
    dialect, wanted, thinking = bench.dialect, gold_calls(task), thinking_of(task)
    invented = from_python(python_code.NEW_CALL)
    texts = [gold + JUNK, gold + "\n" * 40, gold + gold, gold + "<think></think>" * 3]
    if takes_thinking(dialect):
        texts += [render(dialect, wanted, thinking + JUNK), render(dialect, wanted, thinking + JUNK * 20)]
    if wanted:
        texts += [render(dialect, [*wanted, *invented * many], thinking) for many in (1, 5)]
    return texts


def extra_calls_cost(bench: RewardBench) -> None:
    """A call too many costs at least as much as a wrong value, and a flood of them nearly all."""

    def test(task: Task) -> None:
        wanted, thinking, dialect = gold_calls(task), thinking_of(task), bench.dialect
        gold = gold_text(dialect, task)
        wrong = _wrong_value(dialect, task, gold)
        if wrong is None:
            return
        invented = from_python(python_code.NEW_CALL)
        nothing_right = render(dialect, invented, thinking)
        extra = [render(dialect, [*wanted, *more], thinking) for more in (wanted[:1], invented)]
        flood = render(dialect, [*wanted, *invented * FLOOD], thinking)
        best, limit, floor, drowned, *others = bench.scores(task, [gold, wrong, nothing_right, flood, *extra])
        if best is None or limit is None or floor is None:
            return
        for text, score in zip(extra, others, strict=True):
            if score is not None and score > limit + TOLERANCE:
                message = f"one wrong value scores {limit}, a call too many {score}"
                bench.refuse(message, task, [wrong, text], "assert scores[1] <= scores[0]")
        if drowned is not None and drowned > floor + FLOOD_SHARE * (best - floor) + TOLERANCE:
            message = (
                f"the right calls among {FLOOD} invented ones score {drowned}; right: {best}, nothing right: {floor}"
            )
            assertion = f"assert scores[1] <= scores[2] + {FLOOD_SHARE} * (scores[0] - scores[2])"
            bench.refuse(message, task, [gold, flood, nothing_right], assertion)

    bench.for_all(test)


def _wrong_value(dialect: Dialect, task: Task, gold: str) -> str | None:
    parse = dialect.parse(gold)
    if not parse.calls:
        return None

    def first(text: str) -> Iterator[Change]:
        source = python_code.Source(text)
        yield from (("wrong", source.changed(change)) for change in python_code.value_misses(source)[:1])

    text = next((text for _, text in changed_calls(dialect, thinking_of(task), parse, first)), None)
    return None if text is None or same_calls(dialect.parse(text), parse) else text


def linear_cost(bench: RewardBench) -> None:
    """CPU time of long texts, made of a right completion and of single characters, grows as their length does."""
    task = (bench.fixed or fixed_tasks())[4]
    gold = gold_text(bench.dialect, task)
    rollouts: dict[str, Rollouts] = {}

    def texts(length: int) -> list[str]:
        padded = gold[: len(gold) // 2] + " a" * (length // 2) + gold[len(gold) // 2 :]
        found = [*pumped(gold, length), padded]
        rollouts.update({text: rollouts_of(bench.dialect, task, [text]) for text in found})
        return found

    slow = superlinear(texts, lambda text: bench.judged_rollouts(rollouts[text], task))
    if slow is not None:
        text, taken, before = slow
        message = f"a text of {len(text)} characters takes {taken:.2f} s of CPU time, a shorter one {before:.3f} s"
        bench.refuse(message, task, [text], "")
