from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from callwright import Answer, CallwrightError, ExpectedCall, Task, Tool
from callwright.testing import TablePolicy, check_explorer, make_bandit, plugin, rollouts_of
from callwright_units.same_quantity import SameQuantity
from callwright_units.unit_credit import UnitCredit

ANSWER = Answer((ExpectedCall("plan_run", {"distance": ["5 km"]}),))
TOOL = Tool("plan_run", "Plans a run.", {"type": "object", "properties": {"distance": {"type": "string"}}})
TASK = Task("run", ({"role": "user", "content": "Plan a run of 5 km."},), (TOOL,), ANSWER)
REPLIES = ["[plan_run(distance='5000 m')]", "[plan_run(distance='5 m')]", "[plan_run(distance='5 s')]"]


def test_it_keeps_the_laws_of_explorers() -> None:
    check_explorer(plugin("explorer", "unit_credit"), examples=4)


@pytest.mark.parametrize(("step", "credit"), [(0, 0.4), (5, 0.2), (10, None), (11, None)])
def test_the_credit_fades(step: int, credit: float | None) -> None:
    rollouts = replace(rollouts_of(plugin("dialect", "python_calls"), TASK, REPLIES), step=step)
    rollouts.verdicts["same_quantity"] = SameQuantity().score(rollouts)
    delta = UnitCredit(credit=0.4, steps=10).shape_rewards(rollouts)
    assert (None if delta is None else delta.tolist()) == (None if credit is None else pytest.approx([0, credit, 0]))


def test_where_nobody_is_right_it_leads_to_the_right_unit() -> None:
    learner = make_bandit(SameQuantity(), UnitCredit(), tasks=[TASK], replies=REPLIES[1:], group_size=8, steps=10)
    policy = learner.policy
    assert isinstance(policy, TablePolicy)
    before = policy.probabilities(0)
    for step in range(10):
        learner.step(step)
    assert policy.probabilities(0)[0] > before[0] + 0.2


def test_a_recipe_without_the_reward_is_a_mistake() -> None:
    recipe = SimpleNamespace(rewards=SimpleNamespace(use=[SimpleNamespace(use="ast_match")]))
    assert "name same_quantity" in "".join(UnitCredit().recipe_mistakes(recipe))
    recipe.rewards.use.append(SimpleNamespace(use="callwright-units:same_quantity"))
    assert list(UnitCredit().recipe_mistakes(recipe)) == []


@pytest.mark.parametrize(("kind", "name"), [("reward", "same_quantity"), ("explorer", "unit_credit")])
def test_options_out_of_range_are_refused(kind: str, name: str) -> None:
    with pytest.raises(CallwrightError, match="must"):
        plugin(kind, name, **({"tolerance": 1.0} if kind == "reward" else {"steps": 0}))
