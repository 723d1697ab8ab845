"""How rewards become one number: sum, all, gate, weights by schedule, and GDPO's numbers beside TRL's own."""

from __future__ import annotations

import json
import math

import pytest
from callwright import Verdict
from callwright.combine import Part, Weight, combined, mistakes
from callwright.recipe import RecipeError, build, check, load_recipe
from callwright.schedules import between, stairs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SCORES = st.sampled_from([0.0, 0.25, 1.0, None])


def total(parts, scores, combine="sum", normalise="none", step=0, groups=None):
    """`scores` by reward, one per row; "failed" for a failure."""
    verdicts = {
        name: [Verdict.failed("x") if s == "failed" else Verdict(s) for s in column] for name, column in scores.items()
    }
    rows = len(next(iter(scores.values())))
    return combined(verdicts, parts, combine, normalise, step=step, groups=groups or [0] * rows)


def same(first, second):
    return first == pytest.approx(second, nan_ok=True)


# ------------------------------------------------------------------------------------------------------- gate


GATED = [Part("format", 0.5), Part("match", 2.0, after="format"), Part("style", 0.1, after="match")]


@pytest.mark.parametrize(
    ("format_", "match", "style", "expected"),
    [
        (1.0, 1.0, 1.0, 2.6),
        (1.0, 0.5, 1.0, 1.5),  # the match did not pass, so style adds nothing
        (0.0, 1.0, 1.0, 0.0),  # the match does not count, so style is held back by it too
        (0.9, 1.0, 1.0, 0.45),
        (None, 1.0, 1.0, math.nan),  # nothing says that the match counts
        (1.0, None, 1.0, 0.5),
        (1.0, 1.0, None, 2.5),
        ("failed", 1.0, 1.0, math.nan),
        (1.0, "failed", 1.0, math.nan),
        (0.0, "failed", "failed", 0.0),  # what does not count cannot fail the row
    ],
)
def test_a_gate_lets_the_next_reward_count_only_where_it_gave_1(format_, match, style, expected):
    scores = {"format": [format_], "match": [match], "style": [style]}
    assert same(total(GATED, scores, "gate"), [expected])


def test_a_gate_may_be_watched_only():
    parts = [Part("format", 0.0), Part("match", 1.0, after="format")]
    scores = {"format": [1.0, 0.0, None, "failed"], "match": [1.0, 1.0, 1.0, 1.0]}
    assert same(total(parts, scores, "gate"), [1.0, 0.0, math.nan, math.nan])


@given(st.lists(st.tuples(SCORES, SCORES, SCORES), min_size=1, max_size=4), st.permutations(GATED))
def test_the_order_of_the_rewards_does_not_matter(rows, parts):
    scores = dict(zip(("format", "match", "style"), zip(*rows, strict=True), strict=True))
    first, second = (total(order, scores, "gate") for order in (GATED, parts))
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("parts", "combine", "expected"),
    [
        ([Part("a"), Part("b", after="aa")], "gate", (1, "after", "there is no reward 'aa'; did you mean 'a'?")),
        ([Part("a", after="b"), Part("b", after="a")], "gate", (0, "after", "in a circle: a -> b -> a")),
        ([Part("a", after="a")], "gate", (0, "after", "in a circle: a -> a")),
        ([Part("a"), Part("b", after="a")], "sum", (1, "after", "write combine: gate")),
        ([Part("a"), Part("b")], "gate", (None, "combine", "no reward has a gate")),
        ([Part("a", 0.0), Part("b", Weight(0.0, 0.0, "linear", 5))], "sum", (0, "", "every reward has weight 0")),
    ],
)
def test_compositions_that_mean_nothing_are_mistakes(parts, combine, expected):
    index, key, text = next(iter(mistakes(parts, combine, "none")))
    assert (index, key) == expected[:2]
    assert expected[2] in text


# ---------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step"])
@given(start=st.floats(-3, 3), end=st.floats(-3, 3), steps=st.integers(2, 50), data=st.data())
def test_a_weight_goes_from_start_to_end_and_stays(schedule, start, end, steps, data):
    weight = Weight(start, end, schedule, steps)
    values = [weight.at(step) for step in range(steps + 3)]
    assert values[0] == pytest.approx(start)
    assert values[steps:] == pytest.approx([end] * 3)
    assert all(min(start, end) - 1e-9 <= value <= max(start, end) + 1e-9 for value in values)
    assert values == sorted(values, reverse=start > end) or start == end
    step = data.draw(st.integers(0, steps))
    assert (
        total([Part("a", weight)], {"a": [0.5]}, step=step) == pytest.approx([0.5 * values[step]]) or not values[step]
    )


def test_a_weight_that_has_reached_0_only_watches():
    parts = [Part("a", Weight(1.0, 0.0, "step", 10)), Part("b")]
    scores = {"a": ["failed"], "b": [1.0]}
    assert same(total(parts, scores, step=9), [math.nan])
    assert total(parts, scores, step=10) == [1.0]
    assert total(parts, scores, "all", step=10) == [1.0]


def test_paths_and_stairs():
    assert [between("linear", 1.0, 0.0, step, 5) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert [between("step", 1.0, 0.0, step, 2) for step in range(4)] == [1.0, 1.0, 0.0, 0.0]
    assert stairs(1.0, 0.1, 2, 0.5) == 0.25
    assert stairs(1.0, 0.1, 10**6, 0.5) == 0.1


# --------------------------------------------------------------------------------------------------------- GDPO


def test_gdpo_gives_trls_numbers(tiny_model_folder, tiny_tokenizer, tmp_path):
    """The whole way: normalised in the group, weighted, summed, divided by the step's deviation; also where a reward
    does not apply (TRL's None)."""
    import torch
    import trl
    from callwright.grpo import group_advantages
    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    weights = [1.0, 0.3, 2.0]
    columns: list[list[float | None]] = []
    functions = [lambda i=i, **_: columns[i] for i in range(3)]
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=4,
        report_to="none",
        reward_weights=weights,
        multi_objective_aggregation="normalize_then_sum",
    )
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder(), dtype=torch.float32),
        reward_funcs=functions,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "x"}] * 2),
        processing_class=tiny_tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    trainer._tokenize_prompts = lambda prompts: ([[5]] * len(prompts), None, {})
    trainer._generate_single_turn = lambda *_: ([[6]] * len(columns[0]), None)

    @settings(
        max_examples=8, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(size=st.integers(2, 5), count=st.integers(1, 3), data=st.data())
    def compare(size, count, data):
        values = st.one_of(st.none(), st.floats(-2, 2, width=16))
        columns[:] = [data.draw(st.lists(values, min_size=size * count, max_size=size * count)) for _ in weights]
        if all(value is None for column in columns for value in column):
            return  # TRL stops in its own logging
        trainer.num_generations = size
        expected = trainer._generate_and_score_completions([{"prompt": "x"}] * (size * count))["advantages"]
        names = ["a", "b", "c"]
        parts = [Part(name, weight) for name, weight in zip(names, weights, strict=True)]
        groups = [row // size for row in range(size * count)]
        totals = total(parts, dict(zip(names, columns, strict=True)), normalise="group", groups=groups)
        found = group_advantages(torch.tensor(totals), torch.tensor(groups), "batch")
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

    compare()


def test_a_failed_row_is_in_no_statistics():
    scores = {"a": [0.0, 1.0, 1.0], "b": [0.0, 1.0, "failed"]}
    without = {name: column[:2] for name, column in scores.items()}
    parts = [Part("a"), Part("b")]
    found = total(parts, scores, normalise="group")
    assert found[:2] == total(parts, without, normalise="group")
    assert math.isnan(found[2])


# ------------------------------------------------------------------------------------------------------- recipes


def recipe_of(tmp_path, rewards, **changes):
    (tmp_path / "rewards.py").write_text(REWARDS)
    use = [{"use": f"{tmp_path / 'rewards.py'}:{r.pop('class', 'Plain')}", **r} for r in rewards.pop("use")]
    path = tmp_path / "recipe.yaml"
    content = {
        "model": {"name": "unused"},
        "dialect": {"use": "python_calls"},
        "data": {"source": {"use": "bfcl"}},
        "rewards": {"use": use, **rewards},
        **changes,
    }
    path.write_text(json.dumps(content, indent=1))
    return path


REWARDS = """
from callwright import Verdict, hookimpl

class Plain:
    @hookimpl
    def score(self, rollouts):
        return [Verdict(1.0)] * len(rollouts.texts)

class Later:
    @hookimpl
    async def score(self, rollouts):
        return [Verdict(1.0)] * len(rollouts.texts)

class Learning(Plain):
    def state_dict(self):
        return {}
    def load_state_dict(self, state): ...
"""


def test_everything_that_a_recipe_says_of_a_reward_arrives(tmp_path):
    weight = {"start": 1.0, "end": 0.1, "schedule": "cosine"}
    rewards = {
        "combine": "gate",
        "use": [
            {"name": "a", "weight": weight, "on_failure": "floor", "floor": -1.0, "isolate": True, "timeout": 2},
            {"name": "b", "after": "a", "class": "Later", "timeout": 0.5, "on_failure": "stop"},
            {"name": "c", "isolate": "group", "memory": 2.0, "workers": 2, "weight": {**weight, "steps": 7}},
        ],
    }
    recipe = load_recipe(recipe_of(tmp_path, rewards, train={"steps": 40}))
    first, second, third = build(recipe).rewards
    assert first.weight == Weight(1.0, 0.1, "cosine", 40)
    assert third.weight == Weight(1.0, 0.1, "cosine", 7)
    assert (second.after, second.policy.timeout, second.policy.on_failure) == ("a", 0.5, "stop")
    assert (first.policy.floor, first.policy.isolate, first.policy.timeout) == (-1.0, True, 2.0)
    assert (third.policy.isolate, third.policy.memory, third.policy.workers) == ("group", 2.0, 2)
    assert third.policy.timeout == 60.0, "a reward that hangs must not hang the run"
    again = tmp_path / "again.yaml"
    again.write_text(recipe.to_yaml())
    assert load_recipe(again, [f"run={json.dumps(str(recipe.run))}"]) == recipe


@pytest.mark.parametrize(
    ("rewards", "place", "text"),
    [
        ({"combine": "gate", "use": [{"name": "a"}, {"name": "b", "after": "aa"}]}, "rewards.use.1.after", "mean 'a'?"),
        ({"use": [{"timeout": 1.0}]}, "rewards.use.0.timeout", "isolate: true"),
        ({"use": [{"class": "Learning", "isolate": True}]}, "rewards.use.0.isolate", "keeps a state"),
        ({"use": [{"on_failure": "floor"}]}, "rewards.use.0", "give both or neither"),
        ({"use": [{"floor": 1.0}]}, "rewards.use.0", "give both or neither"),
        ({"use": [{"memory": 1.0}]}, "rewards.use.0", "isolate: true"),
        ({"use": [{"timeout": 0}]}, "rewards.use.0.timeout", "greater than 0"),
        ({"use": [{"weight": {"start": 1.0, "edn": 0.0}}]}, "rewards.use.0.weight", "end"),
        ({"combine": "all", "normalise": "group", "use": [{}]}, "rewards.normalise", "combine: sum"),
        ({"combine": "sum", "normalise": "group", "use": [{}]}, "rewards.normalise", "advantage_scale: batch"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_with_place_and_repair(tmp_path, rewards, place, text):
    path = recipe_of(tmp_path, rewards)
    found = [str(mistake) for mistake in check(path)]
    assert any(f" {place}" in mistake and text in mistake for mistake in found), found
    assert all(f"{path}:" in mistake for mistake in found)
    with pytest.raises(RecipeError, match=place.replace(".", r"\.")):
        build(load_recipe(path))
