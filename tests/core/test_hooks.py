"""Every hook is used by a plugin here, under a test function that carries the hook's name."""

from __future__ import annotations

import inspect
import itertools
import math
import random
import re
from dataclasses import dataclass, field

import pytest
import torch
from callwright import (
    MicroBatch,
    Need,
    Parse,
    ParseStatus,
    Replayed,
    Rollouts,
    Segment,
    Task,
    Verdict,
    hookimpl,
    hookspecs,
)
from callwright.hooks import HOOKS, BadNumber, Hooks, Named, RegistrationError
from callwright.loop import Control
from callwright.plugins import PluginError
from hypothesis import given, settings
from hypothesis import strategies as st

few = settings(max_examples=25, deadline=None)  # the machine may be busy, and each example builds many `Hooks`

PLAN = {"temperature": 1.0, "top_p": 0.9, "top_k": 0, "min_p": 0.0}


class Core:
    """Stands for the core's GRPO defaults."""

    @hookimpl
    def advantages(self, rollouts):
        return rollouts.total - 0.5

    @hookimpl
    def policy_loss(self, batch):
        return -batch.logps * batch.advantages


@dataclass
class Reward:
    value: object = 1.0

    @hookimpl
    def score(self, rollouts):
        return [Verdict(self.value) for _ in rollouts.texts]


def plugin_with(hook, answer, **attributes):
    """An instance whose hook returns `answer`, or what `answer` returns if it is a function of the hook's arguments."""
    method = answer if inspect.isfunction(answer) else lambda: answer

    def of_instance(self, **arguments):
        return method(**arguments)

    names = list(inspect.signature(method).parameters)
    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ["self", *names]]
    source = (
        f"def {hook}({', '.join(p.name for p in parameters)}): return run(self, {', '.join(f'{n}={n}' for n in names)})"
    )
    scope = {"run": of_instance}
    exec(source, scope)  # pluggy reads the arguments' names from the code
    return type("Plugin", (), {hook: hookimpl(scope[hook]), **attributes})()


def make_rollouts(groups=(0, 0, 1), lengths=(2, 4, 3), total=None, step=7):
    rows, width = len(groups), max(lengths)
    mask = torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
    zeros = torch.zeros(rows, width)
    return Rollouts(
        step=step,
        tasks=[Task(str(g), ()) for g in groups],
        group_ids=torch.tensor(groups),
        prompt_ids=[[1]] * rows,
        texts=["text"] * rows,
        parses=[Parse("text", ParseStatus.NO_CALL)] * rows,
        completion_ids=zeros.long(),
        mask=mask,
        behaviour_logps=zeros - 1,
        policy_logps=zeros - 1,
        entropy=zeros + 1,
        segments=torch.where(mask, Segment.OTHER, Segment.PAD).to(torch.int8),
        truncated=torch.zeros(rows, dtype=torch.bool),
        temperature=torch.ones(rows),
        off_policy=torch.zeros(rows, dtype=torch.bool),
        total=None if total is None else torch.tensor(total),
    )


def make_batch(rollouts):
    rows, width = rollouts.mask.shape
    values = torch.zeros(rows, width)
    return MicroBatch(
        logps=(values - 1).requires_grad_(),
        entropy=values,
        old_logps=values - 1,
        behaviour_logps=values - 1,
        ref_logps=None,
        advantages=values + 1,
        mask=rollouts.mask,
        segments=rollouts.segments,
        token_weights=values + 1,
        scale=values + 0.1,
        rows=torch.arange(rows),
        rollouts=rollouts,
    )


def explorer(name, plugin):
    return Named(name, plugin, "explorer", place=f"explore.{name}")


def reward(name, plugin, weight=1.0):
    return Named(name, plugin, "reward", weight, place=f"rewards.use.{name}")


def explorers(hook, *answers):
    return Hooks([explorer(f"p{i}", plugin_with(hook, answer)) for i, answer in enumerate(answers)], Core(), "all")


def in_every_order(parts):
    orders = (
        list(itertools.permutations(parts)) if len(parts) < 4 else [random.sample(parts, len(parts)) for _ in "123"]
    )
    return [list(order) for order in orders]


# ------------------------------------------------------------------------------------------ the reference


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_and_tested_by_name(hook):
    text = inspect.getdoc(getattr(hookspecs, hook)) or ""
    for word in ("Returns", "Fold", "Example"):
        assert word in text or (word == "Fold" and "nothing is folded" in text), word
    assert re.search(rf"^\s*def {hook}\(self", text, re.MULTILINE), "the example implements the hook"
    assert any(name.startswith(f"test_hook_{hook}_") for name in globals())


def test_the_reference_lists_every_hook_in_the_order_of_a_step():
    marked = [name for name, value in vars(hookspecs).items() if hasattr(value, "callwright_spec")]
    assert list(HOOKS) == marked
    assert len(HOOKS) == 13


# -------------------------------------------------------------------------------------------- sampling


def sample_plan(hooks, rows=4):
    tasks = [Task(str(i), ()) for i in range(rows)]
    return hooks.sampling(3, 10, tasks, torch.tensor([0, 0, 1, 1]), PLAN)


def test_hook_sampling_starts_from_the_recipe():
    plan = sample_plan(Hooks([], Core(), "all"))
    assert plan["temperature"].tolist() == [1.0] * 4
    assert torch.equal(plan["top_p"], torch.full((4,), 0.9))
    assert plan["top_k"].dtype == torch.long
    assert "seed" not in plan


def test_hook_sampling_later_plugin_wins_field_by_field():
    ladder = torch.tensor([0.5, 1.0, 1.5, 2.0])
    hooks = explorers("sampling", {"temperature": 3.0, "top_k": 5}, None, {"temperature": ladder, "seed": 4})
    plan = sample_plan(hooks)
    assert torch.equal(plan["temperature"], ladder)
    assert plan["top_k"].tolist() == [5] * 4
    assert plan["seed"] == 4
    swapped = sample_plan(explorers("sampling", {"temperature": ladder}, {"temperature": 3.0}))
    assert swapped["temperature"].tolist() == [3.0] * 4


def test_hook_sampling_gives_all_arguments():
    seen = {}

    def answer(step, steps, tasks, group_ids):
        seen.update(step=step, steps=steps, ids=[t.id for t in tasks], groups=group_ids.tolist())

    sample_plan(explorers("sampling", answer))
    assert seen == {"step": 3, "steps": 10, "ids": ["0", "1", "2", "3"], "groups": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temprature": 1.0}, "unknown field 'temprature'; did you mean 'temperature'?"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": math.nan}, "above 0"),
        ({"temperature": math.inf}, "above 0"),
        ({"temperature": torch.tensor([1.0, 1.0, -1.0, 1.0])}, "row 2"),
        ({"temperature": torch.ones(3)}, r"\(N,\) = \(4,\), but has shape \(3,\)"),
        ({"top_p": 1.5}, "at most 1"),
        ({"min_p": 1.0}, "below 1"),
        ({"top_k": -1}, "at least 0"),
        ({"top_k": 2.5}, "whole numbers"),
        ({"top_p": True}, "a number"),
        ({"top_p": "0.5"}, "a number"),
        ({"seed": 1.5}, "must be an int"),
        ({"prefix": ["["]}, "must be a text or 4 of them"),
        ({"prefix": [1, 2, 3, 4]}, "must be a text or 4 of them"),
        ({"prefix": 5}, "must be a text or 4 of them"),
        ([("seed", 1)], "must return a mapping"),
    ],
)
def test_hook_sampling_refuses_what_cannot_be_sampled_from(fields, message):
    with pytest.raises(PluginError, match=message) as caught:
        sample_plan(explorers("sampling", fields))
    assert "'p0'" in str(caught.value)
    assert "explore.p0" in str(caught.value)


def test_hook_sampling_prefix_is_one_for_all_or_one_by_row():
    assert "prefix" not in sample_plan(explorers("sampling", {"temperature": 1.0}))
    assert sample_plan(explorers("sampling", {"prefix": "[f("}))["prefix"] == ["[f("] * 4
    each = ["a", "", "b", "c"]
    assert sample_plan(explorers("sampling", {"prefix": "["}, {"prefix": each}))["prefix"] == each


# ------------------------------------------------------------------------------------ task_weights, replay


@given(st.lists(st.lists(st.floats(0, 4, width=32), min_size=3, max_size=3), max_size=3), st.randoms())
def test_hook_task_weights_is_a_product_in_any_order(factors, random):
    tasks = make_rollouts().tasks
    expected = [math.prod(column) for column in zip(*factors, strict=True)] if factors else None
    named = [explorer(f"p{i}", plugin_with("task_weights", torch.tensor(f))) for i, f in enumerate(factors)]
    random.shuffle(named)
    assert Hooks(named, Core(), "all").task_weights(0, tasks) == (expected and pytest.approx(expected))


@pytest.mark.parametrize("weights", [torch.ones(2), torch.tensor([1.0, -1.0, 1.0]), torch.full((3,), math.nan), [1.0]])
def test_hook_task_weights_must_be_numbers_of_at_least_zero(weights):
    with pytest.raises(PluginError, match="`task_weights` of plugin 'p0'"):
        explorers("task_weights", weights).task_weights(0, make_rollouts().tasks)


def test_hook_replay_is_a_union_by_name():
    one, two = Replayed(0, [5, 6], [-1.0, -2.0]), Replayed(1, [7], [-0.5])
    hooks = Hooks(
        [explorer("b", plugin_with("replay", [two])), explorer("a", plugin_with("replay", [one, one]))], Core(), "all"
    )
    assert hooks.replay(make_rollouts()) == [one, one, two]
    assert explorers("replay", None).replay(make_rollouts()) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([(0, [5], [-1.0])], "objects of Replayed"),
        ([Replayed(9, [5], [-1.0])], "no group 9"),
        ([Replayed(0, [], [])], "needs tokens"),
        ([Replayed(0, [5, 6], [-1.0])], "as many log-probabilities"),
        ([Replayed(0, [5], [math.nan])], "must be finite"),
    ],
)
def test_hook_replay_refuses_what_cannot_join(answer, message):
    with pytest.raises(PluginError, match=message):
        explorers("replay", answer).replay(make_rollouts())


# ---------------------------------------------------------------------------------------- process_logits


def test_hook_process_logits_is_a_chain_in_recipe_order():
    hooks = explorers("process_logits", lambda logits: logits + 1, lambda logits: None, lambda logits: logits * 10)
    assert hooks.processes_logits
    result = hooks.process_logits(torch.ones(2, 3), torch.tensor([0, 5]), torch.tensor([0, 0]), pytest.fail)
    assert result.tolist() == [[20.0] * 3] * 2
    assert not Hooks([], Core(), "all").processes_logits


def test_hook_process_logits_gets_segments_only_if_it_asks():
    def cold(logits, rows, positions, segments):
        assert rows.tolist() == [0, 5]
        assert positions.tolist() == [3, 4]
        return torch.where((segments == Segment.CALL)[:, None], logits / 0.5, logits)

    hooks = explorers("process_logits", lambda logits: logits, cold)
    asked = []

    def segments():
        asked.append(1)
        return torch.tensor([Segment.CALL, Segment.OTHER])

    result = hooks.process_logits(torch.ones(2, 3), torch.tensor([0, 5]), torch.tensor([3, 4]), segments)
    assert result.tolist() == [[2.0] * 3, [1.0] * 3]
    assert asked == [1]


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_hook_process_logits_must_leave_a_token(value):
    def forbid(logits):
        logits = logits.clone()
        logits[1] = value
        return logits

    with pytest.raises(PluginError, match=r"'p0'.*row 5"):
        explorers("process_logits", forbid).process_logits(
            torch.ones(2, 3), torch.tensor([0, 5]), torch.tensor([0, 0]), pytest.fail
        )


def test_hook_process_logits_keeps_the_shape():
    with pytest.raises(PluginError, match=r"\(n, V\) = \(2, 3\)"):
        explorers("process_logits", lambda logits: logits[:1]).process_logits(
            torch.ones(2, 3), torch.tensor([0, 1]), torch.tensor([0, 0]), pytest.fail
        )


# ------------------------------------------------------------------------------------------------- score


def scored(*rewards, combine="sum", rows=3):
    hooks = Hooks(list(rewards), Core(), combine)
    rollouts = make_rollouts(tuple(range(rows)), (2,) * rows)
    problem = hooks.score(rollouts)
    return hooks, rollouts, problem


def test_hook_score_fills_verdicts_and_rewards_by_name():
    verdicts = [Verdict(0.5), Verdict.abstain("no"), Verdict.failed("timeout")]
    hooks, rollouts, problem = scored(reward("b", plugin_with("score", verdicts)), reward("a", Reward(True)))
    assert list(rollouts.verdicts) == ["b", "a"]
    assert rollouts.verdicts["b"] == verdicts
    assert rollouts.rewards["b"].dtype == torch.float32
    assert torch.equal(rollouts.rewards["b"].isnan(), torch.tensor([False, True, True]))
    assert rollouts.rewards["a"].tolist() == [1.0, 1.0, 1.0]
    assert hooks.failures == {"b": (1, "step 7, row 2 (task '2', 'text'): timeout")}
    assert problem is None


def test_hook_score_exception_fails_the_rows_and_keeps_the_first_traceback():
    def broken(rollouts):
        raise ZeroDivisionError(f"step {rollouts.step}")

    hooks, rollouts, problem = scored(reward("bad", plugin_with("score", broken)), reward("good", Reward(0.0)))
    assert all(v.failure == "ZeroDivisionError: step 7" for v in rollouts.verdicts["bad"])
    assert rollouts.rewards["bad"].isnan().all()
    assert rollouts.rewards["good"].tolist() == [0.0] * 3
    rollouts.step = 8
    hooks.score(rollouts)
    count, trace = hooks.failures["bad"]
    assert count == 6
    assert "Traceback" in trace
    assert "step 7" in trace
    assert problem is None


@pytest.mark.parametrize("answer", [None, [], [Verdict(1.0)] * 2, [Verdict(1.0)] * 4, "abc", 1.0, torch.ones(3)])
def test_hook_score_wrong_length_or_type_fails_all_rows(answer):
    hooks, rollouts, _ = scored(reward("bad", plugin_with("score", answer)))
    assert len(rollouts.verdicts["bad"]) == 3
    assert all("'bad', step 7: must return 3 verdicts" in v.failure for v in rollouts.verdicts["bad"])
    assert hooks.combine(rollouts).isnan().all()


@pytest.mark.parametrize("bad", [Verdict(math.nan), Verdict(-math.inf), Verdict(1e39), Verdict("1"), 1.0, None])
def test_hook_score_bad_row_fails_alone(bad):
    hooks, rollouts, problem = scored(reward("r", plugin_with("score", [Verdict(1.0), bad, Verdict(0.0)])))
    failures = [v.failure for v in rollouts.verdicts["r"]]
    assert failures[0] is failures[2] is None
    assert "'r', step 7, row 1" in failures[1]
    assert hooks.failures["r"][0] == 1
    not_finite = isinstance(bad, Verdict) and isinstance(bad.score, float)
    assert (problem is not None) == not_finite
    if problem is not None:
        assert (problem.plugin, problem.hook, problem.step, problem.row) == ("r", "score", 7, 1)


STATES = st.sampled_from([Verdict(0.0), Verdict(1.0), Verdict(0.25), Verdict.abstain(), Verdict.failed("timeout")])


def expected_total(states, weights, combine):
    """The rule, row by row and without tensors."""
    watched = [(v, w) for v, w in zip(states, weights, strict=True) if w != 0]
    given_scores = [(v.score, w) for v, w in watched if v.score is not None]
    if any(v.failure for v, _ in watched) or not given_scores:
        return math.nan
    if combine == "all":
        return float(all(score == 1.0 for score, _ in given_scores))
    return sum(w * score for score, w in given_scores)


@few
@given(
    st.integers(1, 4).flatmap(lambda r: st.lists(st.lists(STATES, min_size=3, max_size=3), min_size=r, max_size=r)),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, -2.0]), min_size=4, max_size=4).filter(lambda ws: ws[0] != 0),
    st.sampled_from(["all", "sum"]),
)
def test_combine_is_the_stated_rule_in_any_order(table, weights, combine):
    weights = weights[: len(table)]
    parts = [reward(f"r{i}", plugin_with("score", t), w) for i, (t, w) in enumerate(zip(table, weights, strict=True))]
    expected = [expected_total([t[row] for t in table], weights, combine) for row in range(3)]
    results = []
    for order in in_every_order(parts):
        hooks, rollouts, _ = scored(*order, combine=combine)
        results.append(hooks.combine(rollouts))
        assert results[-1].tolist() == pytest.approx(expected, nan_ok=True)
        assert torch.equal(results[0].nan_to_num(9), results[-1].nan_to_num(9))


# -------------------------------------------------------------------------------------- commuting folds

numbers = st.floats(-1e4, 1e4, width=32)


def tables(shape, values):
    size = math.prod(shape)
    one = st.lists(values, min_size=size, max_size=size).map(lambda v: torch.tensor(v).reshape(shape))
    return st.lists(one, min_size=1, max_size=4)


@few
@given(tables((3,), numbers))
def test_hook_shape_rewards_is_a_sum_in_any_order(deltas):
    rollouts = make_rollouts(total=[1.0, math.nan, 0.0])
    parts = [explorer(f"p{i}", plugin_with("shape_rewards", delta)) for i, delta in enumerate(deltas)]
    results = [Hooks(order, Core(), "all").shape_rewards(rollouts) for order in in_every_order(parts)]
    assert torch.allclose(results[0][[0, 2]], torch.stack(deltas).sum(0)[[0, 2]], atol=1e-2)
    assert results[0][1] == 0
    assert all(torch.equal(results[0], result) for result in results)


@few
@given(tables((3, 4), numbers))
def test_hook_shape_advantages_is_a_sum_over_the_same_base_in_any_order(deltas):
    rollouts = make_rollouts(total=[1.0, math.nan, 0.0])
    base = torch.tensor([0.5, 0.0, -0.5])
    seen = []

    def shaper(delta):
        def answer(rollouts, base):
            seen.append(base.tolist())
            return delta

        return answer

    parts = [explorer(f"p{i}", plugin_with("shape_advantages", shaper(d))) for i, d in enumerate(deltas)]
    results = [Hooks(order, Core(), "all").shape_advantages(rollouts, base) for order in in_every_order(parts)]
    inside = rollouts.mask & torch.tensor([True, False, True])[:, None]
    assert torch.allclose(results[0][inside], torch.stack(deltas).sum(0)[inside], atol=1e-2)
    assert not results[0][~inside].any()
    assert all(torch.equal(results[0], result) for result in results)
    assert all(b == [0.5, 0.0, -0.5] for b in seen)


@few
@given(tables((3, 4), st.floats(0, 8, width=32)))
def test_hook_token_weights_is_a_product_in_any_order(factors):
    rollouts = make_rollouts(total=[1.0, math.nan, 0.0])
    parts = [explorer(f"p{i}", plugin_with("token_weights", factor)) for i, factor in enumerate(factors)]
    results = [Hooks(order, Core(), "all").token_weights(rollouts) for order in in_every_order(parts)]
    inside = rollouts.mask & torch.tensor([True, False, True])[:, None]
    assert torch.allclose(results[0][inside], torch.stack(factors).prod(0)[inside], rtol=1e-5)
    assert not results[0][~inside].any()
    assert all(torch.equal(results[0], result) for result in results)


@few
@given(tables((2,), st.booleans()))
def test_hook_keep_groups_is_an_and_in_any_order(masks):
    rollouts = make_rollouts(groups=(5, 2, 5))
    parts = [explorer(f"p{i}", plugin_with("keep_groups", mask)) for i, mask in enumerate(masks)]
    for order in in_every_order(parts):
        hooks = Hooks(order, Core(), "all")
        assert hooks.keeps_groups
        assert torch.equal(hooks.keep_groups(rollouts), torch.stack(masks).all(0))


@few
@given(st.lists(numbers, min_size=1, max_size=4))
def test_hook_loss_terms_is_a_union_in_any_order(values):
    batch = make_batch(make_rollouts())
    parts = [explorer(f"p{i}", plugin_with("loss_terms", {f"t{i}": torch.tensor(v)})) for i, v in enumerate(values)]
    terms = [list(Hooks(order, Core(), "all").loss_terms(batch).items()) for order in in_every_order(parts)]
    assert dict(terms[0]) == {f"t{i}": torch.tensor(v) for i, v in enumerate(values)}
    assert all(t == terms[0] for t in terms)


def test_plugins_that_draw_random_numbers_do_not_notice_their_order():
    """Calls follow the names too: plugins may share torch's generator."""
    rollouts = make_rollouts(total=[1.0, 1.0, 0.0])
    parts = [explorer("a", plugin_with("shape_rewards", lambda rollouts: torch.rand(3)))]
    parts += [explorer("b", plugin_with("shape_rewards", lambda rollouts: 5 * torch.rand(3)))]
    results = []
    for order in in_every_order(parts):
        torch.manual_seed(0)
        results.append(Hooks(order, Core(), "all").shape_rewards(rollouts))
    assert torch.equal(*results)


def test_without_plugins_the_folds_are_neutral():
    hooks, rollouts = Hooks([], Core(), "all"), make_rollouts(total=[1.0, math.nan, 0.0])
    assert not hooks.keeps_groups
    assert hooks.keep_groups(rollouts).tolist() == [True, True]
    assert hooks.shape_rewards(rollouts).tolist() == [0.0] * 3
    assert not hooks.shape_advantages(rollouts, torch.zeros(3)).any()
    assert hooks.token_weights(rollouts).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert hooks.loss_terms(make_batch(rollouts)) == {}
    assert not hooks.learns_without_advantage


# ------------------------------------------------------------------------------------ single answers


def test_hook_advantages_plugin_answers_before_the_core():
    rollouts = make_rollouts(total=[1.0, math.nan, 0.0])
    assert Hooks([], Core(), "all").advantages(rollouts).tolist() == [0.5, 0.0, -0.5]
    mine = explorers("advantages", torch.tensor([3, math.nan, 4], dtype=torch.float64))
    assert mine.advantages(rollouts).tolist() == [3.0, 0.0, 4.0]
    assert mine.advantages(rollouts).dtype == torch.float32
    passed = explorers("advantages", None)
    assert passed.advantages(rollouts).tolist() == [0.5, 0.0, -0.5]


def test_hook_policy_loss_plugin_answers_before_the_core():
    batch = make_batch(make_rollouts())
    core = Hooks([], Core(), "all")
    assert torch.equal(core.policy_loss(batch), batch.mask.float())
    mine = explorers("policy_loss", lambda batch: torch.where(batch.mask, 2 * batch.logps, math.nan))
    loss = mine.policy_loss(batch)
    assert torch.equal(loss, -2.0 * batch.mask)
    loss.sum().backward()
    assert torch.equal(batch.logps.grad, 2.0 * batch.mask)
    assert mine.learns_without_advantage
    assert explorers("loss_terms", {}).learns_without_advantage


@pytest.mark.parametrize("hook", ["advantages", "policy_loss"])
def test_two_answers_to_a_single_answer_hook_are_an_error_that_names_both(hook):
    with pytest.raises(RegistrationError, match=f"`{hook}`.*'p0' \\(explore.p0\\) and 'p1' \\(explore.p1\\)"):
        explorers(hook, None, None)


def test_no_answer_at_all_is_an_error():
    empty = plugin_with("advantages", None)
    with pytest.raises(PluginError, match="no plugin answered `advantages`"):
        Hooks([], empty, "all").advantages(make_rollouts(total=[1.0, 1.0, 1.0]))


def test_hook_loss_terms_same_name_is_an_error_that_names_both():
    hooks = explorers("loss_terms", {"bonus": torch.tensor(1.0)}, {"bonus": torch.tensor(2.0)})
    with pytest.raises(PluginError, match=r"explore.p1.*'bonus'.*'p0' \(explore.p0\)"):
        hooks.loss_terms(make_batch(make_rollouts()))


@pytest.mark.parametrize("terms", [{"bonus": 1.0}, {"bonus": torch.ones(2)}, 1.0, {"policy_loss": torch.tensor(1.0)}])
def test_hook_loss_terms_must_be_scalar_tensors(terms):
    with pytest.raises(PluginError, match="`loss_terms` of plugin 'p0'"):
        explorers("loss_terms", terms).loss_terms(make_batch(make_rollouts()))


def test_hook_step_ended_is_called_in_recipe_order():
    control, calls = Control(), []

    def first(step, metrics, control):
        calls.append(("first", step, metrics["entropy"]))

    def second(control):
        calls.append("second")
        control.stop("enough")

    explorers("step_ended", first, second).step_ended(4, {"entropy": 0.5}, make_rollouts(), control)
    assert calls == [("first", 4, 0.5), "second"]
    assert control.stopped == "enough"


# ----------------------------------------------------------------------------- shapes, numbers, exceptions


def ask(hooks, hook, rollouts):
    if hook == "policy_loss":
        return hooks.policy_loss(make_batch(rollouts))
    return (
        hooks.shape_advantages(rollouts, torch.zeros(3))
        if hook == "shape_advantages"
        else getattr(hooks, hook)(rollouts)
    )


SHAPES = {
    "shape_rewards": (3,),
    "keep_groups": (2,),
    "advantages": (3,),
    "shape_advantages": (3, 4),
    "token_weights": (3, 4),
    "policy_loss": (3, 4),
}


@pytest.mark.parametrize("hook", SHAPES)
@pytest.mark.parametrize("make", [lambda s: torch.ones(*s, 1), lambda s: torch.ones(s[0] + 1, *s[1:]), lambda s: 1.0])
def test_wrong_shape_is_an_error_with_the_plugin_and_the_shape(hook, make):
    with pytest.raises(PluginError, match=re.escape(str(SHAPES[hook]))) as caught:
        ask(explorers(hook, make(SHAPES[hook])), hook, make_rollouts(total=[1.0, 1.0, 0.0]))
    assert f"explore.p0: `{hook}` of plugin 'p0'" in str(caught.value)


def test_hook_keep_groups_must_be_bool():
    with pytest.raises(PluginError, match="bool"):
        explorers("keep_groups", torch.ones(2)).keep_groups(make_rollouts())


@pytest.mark.parametrize("hook", ["shape_rewards", "advantages", "shape_advantages", "token_weights", "policy_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_number_is_named_with_step_row_and_plugin(hook, value):
    answer = torch.ones(SHAPES[hook])
    answer[2, ...] = value
    with pytest.raises(BadNumber) as caught:
        ask(explorers(hook, answer), hook, make_rollouts(total=[1.0, 1.0, 0.0]))
    error = caught.value
    assert (error.plugin, error.hook, error.step, error.row) == ("p0", hook, 7, 2)
    assert "step 7, row 2" in str(error)


@pytest.mark.parametrize("hook", ["shape_rewards", "advantages", "shape_advantages", "token_weights"])
def test_a_bad_number_of_a_row_that_takes_no_part_is_ignored(hook):
    answer = torch.ones(SHAPES[hook])
    answer[1, ...] = math.nan
    result = ask(explorers(hook, answer), hook, make_rollouts(total=[1.0, math.nan, 0.0]))
    assert not result[1].any()
    assert result[0].any()


@pytest.mark.parametrize("hook", ["shape_advantages", "token_weights", "policy_loss"])
def test_a_bad_number_off_the_mask_is_ignored(hook):
    rollouts = make_rollouts(total=[1.0, 1.0, 0.0])
    answer = torch.where(rollouts.mask, 2.0, math.nan)
    assert torch.equal(ask(explorers(hook, answer), hook, rollouts), 2.0 * rollouts.mask)


def test_a_negative_token_weight_is_a_bad_number():
    answer = torch.ones(3, 4)
    answer[1, 3] = -0.5
    with pytest.raises(BadNumber) as caught:
        explorers("token_weights", answer).token_weights(make_rollouts(total=[1.0, 1.0, 0.0]))
    assert (caught.value.hook, caught.value.row) == ("token_weights", 1)


CALLS = {
    "sampling": sample_plan,
    "process_logits": lambda h: h.process_logits(torch.ones(1, 2), torch.tensor([0]), torch.tensor([0]), pytest.fail),
    "loss_terms": lambda h: h.loss_terms(make_batch(make_rollouts())),
    "task_weights": lambda h: h.task_weights(0, make_rollouts().tasks),
    "replay": lambda h: h.replay(make_rollouts()),
    "step_ended": lambda h: h.step_ended(0, {}, make_rollouts(), Control()),
    **{hook: lambda h, hook=hook: ask(h, hook, make_rollouts(total=[1.0, 1.0, 0.0])) for hook in SHAPES},
}


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "score"])
def test_an_exception_is_attributed_and_keeps_its_cause(hook):
    def answer():
        raise KeyError("oops")

    with pytest.raises(PluginError, match=f"explore.p0: hook `{hook}` of plugin 'p0' failed: KeyError") as caught:
        CALLS[hook](explorers(hook, answer))
    assert isinstance(caught.value.__cause__, KeyError)


# ----------------------------------------------------------------------------------------- registration


def refused(*components, defaults=None, combine="all"):
    with pytest.raises(RegistrationError) as caught:
        Hooks(list(components), defaults or Core(), combine)
    return str(caught.value)


class Typo:
    @hookimpl
    def step_endd(self): ...


class WrongArgument:
    @hookimpl
    def step_ended(self, steps): ...


class Wrapper:
    @hookimpl(wrapper=True)
    def advantages(self, rollouts):
        return (yield)


class Unmarked:
    def score(self, rollouts): ...


class HalfAState:
    @hookimpl
    def step_ended(self): ...

    def state_dict(self): ...


def test_hook_typo_is_an_error_with_the_near_name():
    text = refused(explorer("x", Typo()))
    assert text == "explore.x: Typo.step_endd: unknown hook 'step_endd'; did you mean 'step_ended'?"


def test_unknown_argument_is_an_error_with_the_near_name():
    text = refused(explorer("x", WrongArgument()))
    assert "explore.x: WrongArgument.step_ended: `step_ended` has no argument 'steps'; did you mean 'step'?" in text


def test_wrappers_are_refused():
    assert "wrapper" in refused(explorer("x", Wrapper()))


def test_a_plugin_without_hooks_is_refused():
    assert "mark its methods with @hookimpl" in refused(reward("x", Unmarked()))


def test_score_belongs_to_rewards_and_only_there():
    other = plugin_with("step_ended", None)
    assert "put it under explore" in refused(reward("x", other))
    assert "put it under rewards.use" in refused(explorer("x", Reward()))


def test_a_class_is_refused_with_the_repair():
    assert "register an instance: Reward()" in refused(reward("x", Reward))


def test_a_name_given_twice_is_refused():
    assert "give this one a `name`" in refused(reward("x", Reward()), reward("x", Reward()))


def test_half_a_state_is_refused():
    assert "has only one of `state_dict` and `load_state_dict`" in refused(explorer("x", HalfAState()))


def test_rewards_need_a_weight_and_combine_a_known_rule():
    assert "every reward has weight 0" in refused(reward("x", Reward(), 0.0))
    assert "should be 'all', 'sum' or 'gate'" in refused(combine="mean")


@pytest.mark.parametrize(("needs", "message"), [(("entropi",), "did you mean 'entropy'"), (Need.ENTROPY, "collection")])
def test_needs_are_checked(needs, message):
    assert message in refused(explorer("x", plugin_with("step_ended", None, needs=needs)))


def test_all_registration_mistakes_come_at_once():
    text = refused(explorer("a", Typo()), explorer("b", WrongArgument()), reward("c", Reward))
    assert [line.split(":")[0] for line in text.splitlines()] == ["explore.a", "explore.b", "rewards.use.c"]


def test_equal_dataclasses_are_two_plugins():
    """pluggy compares plugins with == and needs them hashable; a plain dataclass is neither unique nor hashable."""
    assert Reward() == Reward()
    hooks, rollouts, _ = scored(reward("a", Reward(0.25)), reward("b", Reward(0.25)))
    assert hooks.combine(rollouts).tolist() == [0.5] * 3


def test_needs_are_a_union():
    one = plugin_with("step_ended", None, needs=(Need.ENTROPY,))
    two = plugin_with("step_ended", None, needs={"ref_logps"})
    assert Hooks([explorer("a", one), explorer("b", two)], Core(), "all").needs == {Need.ENTROPY, Need.REF_LOGPS}
    core = plugin_with("policy_loss", None, needs=(Need.REF_LOGPS,))
    hooks = Hooks([], core, "all")
    assert hooks.needs == {Need.REF_LOGPS}
    assert hooks.learns_without_advantage, "the core's KL pulls on every row"


# ---------------------------------------------------------------------------------------- state and time


@dataclass
class Learns:
    state: object = field(default_factory=dict)

    @hookimpl
    def step_ended(self): ...

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@few
@given(st.dictionaries(st.text(), json_values), st.dictionaries(st.text(), json_values))
def test_states_go_round_by_name(first, second):
    before = Hooks([explorer("a", Learns(first)), explorer("b", Learns(second))], Core(), "all")
    a, b = Learns(), Learns()
    Hooks([explorer("b", b), explorer("a", a)], Core(), "all").load_state_dict(before.state_dict())
    assert (a.state, b.state) == (first, second)


def test_a_state_is_a_copy():
    learns = Learns({"seen": [1]})
    taken = Hooks([explorer("a", learns)], Core(), "all").state_dict()
    learns.state["seen"].append(2)
    assert taken == {"a": {"seen": [1]}}


@pytest.mark.parametrize("state", [{"x": torch.ones(1)}, {"x": math.nan}, {"x": (1, 2)}, {1: 2}, {"x": {1}}])
def test_a_state_that_is_not_json_is_refused(state):
    with pytest.raises(PluginError, match=r"explore.a: `state_dict` of plugin 'a'"):
        Hooks([explorer("a", Learns(state))], Core(), "all").state_dict()


@pytest.mark.parametrize("states", [{}, {"a": {}, "gone": {}}])
def test_states_of_other_components_are_refused(states):
    with pytest.raises(PluginError, match="resume with the recipe"):
        Hooks([explorer("a", Learns())], Core(), "all").load_state_dict(states)


def test_time_is_kept_by_plugin_and_taken_once():
    hooks, _, _ = scored(reward("slow", plugin_with("score", lambda rollouts: [Verdict(float(sum(range(99))))] * 3)))
    taken = hooks.take_seconds()
    assert set(taken) == {"slow"}
    assert taken["slow"] > 0
    assert hooks.take_seconds() == {}
