"""Greedy evaluation counts what each row by itself would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from callwright import Answer, CallwrightError, ExpectedCall, Reason, Rollouts, Task, Tool, Verdict, hookimpl
from callwright.display import SilentDisplay
from callwright.evaluate import EvalResult, evaluate, evaluate_model, result_of
from callwright.grpo import Defaults
from callwright.hooks import Hooks, Named
from callwright.packing import Policy
from callwright.recipe import ModelConfig
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.ast_match import AstMatch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
DIALECT = PythonCalls(instruction="Call.")


def task(number: int) -> Task:
    """By turns: wants a call, wants none, has no answer."""
    answers = [Answer((ExpectedCall("add", {"a": [number]}),)), Answer(), None]
    message = {"role": "user", "content": f"add {number}" + "?" * (number % 5)}
    return Task(
        f"t{number}", (message,), (Tool("add", "", SCHEMA),), answers[number % 3], {"category": f"c{number % 2}"}
    )


class ByLength:
    """1 for texts of an even length; abstains and fails where it is told to."""

    def __init__(self, abstains: set[str] = frozenset(), fails: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.abstains, self.fails = abstains, fails

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [self.verdict(t.id, text) for t, text in zip(rollouts.tasks, rollouts.texts, strict=True)]

    def verdict(self, name: str, text: str) -> Verdict:
        if name in self.abstains:
            return Verdict.abstain()
        if name in self.fails:
            return Verdict.failed("out of order")
        return Verdict(1.0) if len(text) % 2 == 0 else Verdict(0.25, (Reason("odd"), Reason("second")))


@pytest.fixture
def measure(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Callable[..., EvalResult]:
    policy = Policy(tiny_model("llama"))

    def measure(tasks: list[Task], *rewards: tuple[object, float], **changes: Any) -> EvalResult:
        named = [Named(f"r{i}", plugin, "reward", weight) for i, (plugin, weight) in enumerate(rewards)]
        arguments: dict[str, Any] = {"max_new_tokens": 8, "batch_size": 4, "display": SilentDisplay(), **changes}
        hooks = Hooks(named, Defaults("group", 0.2, 0.2, 0.0), "sum")
        return result_of(evaluate(policy, tiny_tokenizer, DIALECT, hooks, tasks, **arguments))

    return measure


few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(numbers=st.lists(st.integers(0, 30), min_size=1, max_size=9, unique=True), batch_size=st.integers(1, 10))
def test_it_counts_what_each_row_by_itself_gives(
    measure: Callable[..., EvalResult], numbers: list[int], batch_size: int
) -> None:
    rewards = ((AstMatch(), 1.0), (ByLength({"t4"}, {"t7"}), 0.5))
    tasks = [task(n) for n in numbers]
    alone: dict[str, EvalResult] = {}
    for one in tasks:
        try:
            alone[one.id] = measure([one], *rewards)
        except CallwrightError:
            assert one.id == "t7", "without an answer, the other reward judges by itself"
    if not alone:
        return
    found = measure(tasks, *rewards, batch_size=batch_size)
    assert found.rows == len(alone) == sum(found.reasons.values())
    assert found.left_out == len(tasks) - len(alone)
    assert found.accuracy == sum(r.accuracy for r in alone.values()) / len(alone)
    assert found.reasons == dict(sum((Counter(r.reasons) for r in alone.values()), Counter()))
    assert found.reasons.get("correct", 0) == round(found.accuracy * found.rows)
    assert found.rows_correct == {name: result.accuracy == 1 for name, result in alone.items()}
    assert sum(rows for rows, _ in found.by_category.values()) == found.rows
    assert sum(rows * share for rows, share in found.by_category.values()) == pytest.approx(found.accuracy * found.rows)


def test_real_verdicts_of_a_model_that_writes_noise(measure: Callable[..., EvalResult]) -> None:
    found = measure([task(n) for n in range(9)], (AstMatch(), 1.0))
    assert (found.rows, found.left_out) == (6, 3), "rows without an answer are left out"
    assert found.accuracy == 0.5
    assert found.reasons["correct"] == 3


def test_rows_are_left_out_where_a_reward_fails_or_all_abstain(measure: Callable[..., EvalResult]) -> None:
    found = measure([task(n) for n in range(4)], (ByLength({"t0"}, {"t1"}), 1.0))
    assert (found.rows, found.left_out) == (2, 2)


def test_a_reward_that_is_only_watched_judges_nothing(measure: Callable[..., EvalResult]) -> None:
    tasks = [task(n) for n in range(6)]
    watched = ByLength(fails={"t1"})
    assert measure(tasks, (AstMatch(), 1.0), (watched, 0.0)) == measure(tasks, (AstMatch(), 1.0))


def test_the_first_reason_of_the_first_reward_below_one(measure: Callable[..., EvalResult]) -> None:
    class Never:
        @hookimpl
        def score(self, rollouts: Rollouts) -> list[Verdict]:
            return [Verdict(0.0)] * len(rollouts)

    found = measure([task(n) for n in range(6)], (ByLength(), 1.0), (Never(), 1.0))
    assert set(found.reasons) <= {"odd", "no reason given"}
    assert found.accuracy == 0


def test_prompts_that_do_not_fit_are_left_out(measure: Callable[..., EvalResult], tiny_tokenizer: Any) -> None:
    from callwright.rollouts import encode_prompt

    tasks = [task(n) for n in (1, 4, 31)]
    lengths = [len(encode_prompt(tiny_tokenizer, DIALECT, t)) for t in tasks]
    found = measure(tasks, (ByLength(), 1.0), context=sorted(lengths)[1] + 8)
    assert (found.rows, found.left_out) == (2, 1)
    with pytest.raises(CallwrightError, match="no row could be evaluated"):
        measure(tasks, (ByLength(), 1.0), context=10)


@pytest.mark.parametrize("tasks", [[], [task(2), task(5)]])
def test_nothing_to_evaluate_is_an_error(tasks: list[Task], measure: Callable[..., EvalResult]) -> None:
    with pytest.raises(CallwrightError, match="no row could be evaluated"):
        measure(tasks, (AstMatch(), 1.0))


@pytest.mark.parametrize("rows", [0, 4])
def test_a_model_by_name(rows: int, tiny_model_folder: Callable[..., Any], measure: Callable[..., EvalResult]) -> None:
    tasks = [task(n) for n in range(rows)]
    arguments: dict[str, Any] = {"max_new_tokens": 8, "batch_size": 2, "display": SilentDisplay()}
    rewards = [Named("r0", AstMatch(), "reward")]
    model = ModelConfig(name=str(tiny_model_folder()), device="cpu", dtype="float32", precision="float32")
    if not rows:
        with pytest.raises(CallwrightError, match="no row could be evaluated"):
            evaluate_model(model, DIALECT, rewards, tasks, **arguments)
        return
    found = evaluate_model(model, DIALECT, rewards, tasks, **arguments)
    assert found == measure(tasks, (AstMatch(), 1.0))
