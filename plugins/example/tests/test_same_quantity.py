from __future__ import annotations

from dataclasses import replace

import pytest
from callwright import Answer, ExpectedCall, Task, Tool, Verdict
from callwright.testing import check_reward, plugin, verdicts_of
from callwright_units.same_quantity import UnitCode
from hypothesis import strategies as st

RUN = Tool(
    "plan_run",
    "Plans a run.",
    {
        "type": "object",
        "properties": {"distance": {"type": "string"}, "pace": {"type": "string"}, "city": {"type": "string"}},
        "required": ["distance"],
    },
)
UNITS = ("km", "m", "miles", "hours")


def run_task(**accepted: list[str]) -> Task:
    question = "Plan a run: " + ", ".join(f"{name} {values[0]}" for name, values in accepted.items()) + "."
    answer = Answer((ExpectedCall("plan_run", accepted),))
    return Task("run", ({"role": "user", "content": question},), (RUN,), answer)


def judged(task: Task, reply: str, **options: float) -> Verdict:
    reward, dialect = plugin("reward", "same_quantity", **options), plugin("dialect", "python_calls")
    (verdict,) = verdicts_of(reward, dialect, task, [reply])
    return verdict


def test_it_keeps_the_laws_of_rewards_on_quantities() -> None:
    distances = st.builds("{} {}".format, st.integers(1, 500), st.sampled_from(UNITS))
    tasks = st.builds(lambda d, c: run_task(distance=[d], city=[c]), distances, st.sampled_from(["Oslo", "Lima"]))
    check_reward(plugin("reward", "same_quantity"), tasks=tasks, examples=4)


@pytest.mark.parametrize("written", ["5 km", "5000 m", "5e3 m", "5 kilometers", "5km"])
def test_the_same_distance_is_right_however_it_is_written(written: str) -> None:
    verdict = judged(run_task(distance=["5 km"]), f"[plan_run(distance='{written}')]")
    assert verdict.score == 1
    assert str(verdict.reasons[0].code) == "correct"


@pytest.mark.parametrize(
    ("reply", "near"),
    [
        ("[plan_run(distance='5 m')]", True),
        ("[plan_run(distance='6 km', pace='10 km/h')]", True),
        ("[plan_run(distance='5 kg')]", False),
        ("[plan_run(distance='5')]", False),
        ("[plan_run(distance='5 m', city='Oslo')]", False),
        ("[plan_run(distance='5 m', pace='fast')]", False),
        ("[plan_walk(distance='5 m')]", False),
        ("[plan_run()]", False),
        ("[plan_run(distance='5 m'", False),
        ("No.", False),
    ],
)
def test_only_a_call_that_is_right_but_for_its_amounts_is_near(reply: str, near: bool) -> None:
    verdict = judged(run_task(distance=["5 km"], pace=["10 km/h", ""]), reply)
    assert verdict.score == 0
    spans = [reason.span for reason in verdict.reasons if reason.code == UnitCode.OTHER_AMOUNT]
    assert [reply[slice(*span or ())] for span in spans] == (["'5 m'" if "5 m" in reply else "'6 km'"] if near else [])


def test_two_calls_are_told_apart_by_their_amounts() -> None:
    task = run_task(distance=["5 km"])
    assert task.answer is not None
    both = replace(task, answer=Answer((*task.answer.calls, ExpectedCall("plan_run", {"distance": ["3 mi"]}))))
    assert judged(both, "[plan_run(distance='15840 ft'), plan_run(distance='5000 m')]").score == 1
    assert judged(both, "[plan_run(distance='5000 m'), plan_run(distance='5 km')]").score == 0


def test_the_schema_has_the_last_word() -> None:
    only = replace(RUN, parameters={"type": "object", "properties": {"distance": {"enum": ["5 km", "10 km"]}}})
    assert judged(replace(run_task(distance=["5 km"]), tools=(only,)), "[plan_run(distance='5000 m')]").score == 0


def test_a_tolerance_is_relative() -> None:
    task = run_task(distance=["4.83 km"])
    assert judged(task, "[plan_run(distance='3 miles')]").score == 0
    assert judged(task, "[plan_run(distance='3 miles')]", tolerance=0.01).score == 1


def test_a_task_without_an_answer_is_abstained_from() -> None:
    assert judged(replace(run_task(distance=["5 km"]), answer=None), "[plan_run(distance='5 km')]").score is None
