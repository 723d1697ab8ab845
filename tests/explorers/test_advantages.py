"""Explorers that make the advantages: dr_grpo, gdpo, pass_at_k, negative_sample, best_versus_second."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from callwright.recipe import Recipe
from callwright.testing import check_explorer
from callwright.testing.explorer_steps import random_step
from callwright_explorers.best_versus_second import BestVersusSecond
from callwright_explorers.dr_grpo import DrGrpo
from callwright_explorers.gdpo import Gdpo
from callwright_explorers.negative_sample import NegativeSample
from callwright_explorers.pass_at_k import PassAtK
from hypothesis import given, settings
from hypothesis import strategies as st
from trl_loss import assert_same, our_loss, steps, trl_loss
from trl_scoring import trl_scored

NAN = math.nan
quick = settings(max_examples=15)


def step_of(groups, **rewards):
    """Rows of these groups with a combined reward, one list per group, and by name the single rewards."""
    sizes = tuple(map(len, groups))
    rollouts = random_step(0, sizes, 2)
    rollouts.group_ids = torch.repeat_interleave(torch.arange(len(sizes)) * 2 + 5, torch.tensor(sizes))
    rollouts.total = torch.tensor([reward for group in groups for reward in group])
    named = {name: torch.tensor(column) for name, column in rewards.items()}
    rollouts.rewards = named or {"reward": rollouts.total.clone()}
    return rollouts


def close(given, expected):
    torch.testing.assert_close(given, torch.tensor(expected), rtol=1e-4, atol=1e-6)


def recipe(*rewards, combine="sum", normalise="none", **train):
    return Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": "funrl",
            "data": {"source": "bfcl"},
            "rewards": {"combine": combine, "normalise": normalise, "use": list(rewards) or ["ast_match"]},
            "train": train,
        }
    )


reward_values = st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN])
ragged = st.lists(st.lists(reward_values, min_size=1, max_size=6), min_size=1, max_size=4)


@pytest.mark.parametrize(
    "explorer",
    [DrGrpo(), Gdpo(), PassAtK(k=2, threshold=0.5), NegativeSample(threshold=0.5), BestVersusSecond()],
    ids=lambda explorer: type(explorer).__name__,
)
def test_laws(explorer):
    check_explorer(explorer, examples=1)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: PassAtK(k=0), "k must be at least 1, not 0"),
        (lambda: PassAtK(threshold=NAN), "threshold must be a finite number, not nan"),
        (lambda: NegativeSample(positive=-0.1), "positive must be a number of at least 0, not -0.1"),
        (lambda: NegativeSample(negative=math.inf), "negative must be a number of at least 0, not inf"),
        (lambda: NegativeSample(positive=0.0, negative=0.0), "must not both be 0"),
        (lambda: BestVersusSecond(scale="batch"), "scale must be 'group' or 'none', not 'batch'"),
        (lambda: Gdpo(weights={"a": -1.0}), "weights must be numbers of at least 0, not -1.0 for 'a'"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(
    "explorer", [DrGrpo(), Gdpo(), PassAtK(k=1), NegativeSample(), BestVersusSecond()], ids=lambda e: type(e).__name__
)
def test_rows_that_take_no_part_change_nothing(explorer):
    whole = explorer.advantages(step_of([[1.0, 0.0, NAN, 0.25], [NAN, NAN], [1.0, NAN, 0.0]]))
    left = explorer.advantages(step_of([[1.0, 0.0, 0.25], [1.0, 0.0]]))
    assert whole[[2, 4, 5, 7]].tolist() == [0.0] * 4
    torch.testing.assert_close(whole[[0, 1, 3, 6, 8]], left)


# ---------------------------------------------------------------------------------------------------------- dr_grpo


def test_dr_grpo_by_hand():
    """Means 0.5 and 1; a row alone has nothing to be compared with."""
    rollouts = step_of([[1.0, 0.0, 0.5], [1.0, 1.0], [3.0]])
    assert DrGrpo().advantages(rollouts).tolist() == [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]


@quick
@given(st.lists(st.integers(-8, 8).map(lambda n: n / 8), min_size=4, max_size=4))
def test_dr_grpo_advantages_are_trls(rewards):
    theirs = trl_scored([1] * 4, rewards=torch.tensor(rewards)[:, None], scale_rewards="none")
    torch.testing.assert_close(DrGrpo().advantages(step_of([rewards])), theirs["advantages"], rtol=1e-5, atol=1e-5)


@quick
@given(steps())
def test_dr_grpo_loss_and_gradient_are_trls(step):
    step.rollouts.advantages = DrGrpo().advantages(step.rollouts)[:, None] * step.rollouts.mask
    assert_same(our_loss([], step, aggregation="constant"), trl_loss(step, loss_type="dr_grpo"))


def test_dr_grpo_wants_the_constant_divisor():
    assert DrGrpo().recipe_mistakes(recipe(aggregation="constant")) == []
    assert "train.aggregation: constant" in DrGrpo().recipe_mistakes(recipe(aggregation="token"))[0]


# ------------------------------------------------------------------------------------------------------------- gdpo


def test_gdpo_by_hand():
    """Two groups of two. Reward a: (1, 0) and (1, 1); b: (0, 4) and (4, 0), weight 1/2.

    (x - mean) / std of two values that differ is +- 1 / sqrt(2) =: h. So s = (h - h/2, -h + h/2, h/2, -h/2), all of
    size h/2, with mean 0 and the standard deviation sqrt(4 (h/2)^2 / 3) = h / sqrt(3).
    """
    rollouts = step_of([[1.0, 0.0], [1.0, 1.0]], a=[1.0, 0.0, 1.0, 1.0], b=[0.0, 4.0, 4.0, 0.0])
    advantages = Gdpo(weights={"b": 0.5}).advantages(rollouts)
    half = math.sqrt(3) / 2
    torch.testing.assert_close(advantages, torch.tensor([half, -half, half, -half]), rtol=1e-3, atol=1e-3)


def test_gdpo_of_flat_groups_is_exactly_zero():
    rollouts = step_of([[0.1, 0.1, 0.1], [0.7, 0.7]])
    assert Gdpo().advantages(rollouts).tolist() == [0.0] * 5
    rollouts = step_of([[0.1, 0.1, 0.1], [1.0, 0.0]])
    advantages = Gdpo().advantages(rollouts)
    assert advantages[:3].tolist() == [0.0] * 3
    assert advantages[3] > 0 > advantages[4]


cells = st.one_of(st.just(NAN), st.integers(-8, 8).map(lambda n: n / 8))


@quick
@given(
    st.lists(st.tuples(cells, cells), min_size=6, max_size=6), st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.just(1.0))
)
def test_gdpo_advantages_are_trls(rows, weights):
    rewards = torch.tensor(rows)
    for group, column in itertools.product(range(2), range(2)):
        part = rewards[3 * group : 3 * group + 3, column]
        if int((~part.isnan()).sum()) == 1:  # TRL's standard deviation of one value is no number
            part.nan_to_num_(nan=0.25)
    theirs = trl_scored(
        [1] * 6,
        rewards=rewards,
        weights=list(weights),
        num_generations=3,
        multi_objective_aggregation="normalize_then_sum",
    )["advantages"]
    total = rewards.nansum(1).masked_fill(rewards.isnan().all(1), NAN).tolist()
    rollouts = step_of([total[:3], total[3:]], a=rewards[:, 0].tolist(), b=rewards[:, 1].tolist())
    ours = Gdpo(weights={"a": weights[0], "b": weights[1]}).advantages(rollouts)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gdpo_refuses_to_normalise_twice_and_weights_that_disagree():
    names = ("ast_match", "think_format")
    assert Gdpo().recipe_mistakes(recipe(*names)) == []
    assert Gdpo().recipe_mistakes(recipe(*names, combine="all")) == []
    assert "rewards.normalise: group" in Gdpo().recipe_mistakes(recipe(*names, normalise="group"))[0]
    half = {"use": "think_format", "weight": 0.5}
    assert "weight of 'think_format' is 1 here" in Gdpo().recipe_mistakes(recipe("ast_match", half))[0]
    assert Gdpo(weights={"think_format": 0.5}).recipe_mistakes(recipe("ast_match", half)) == []
    nothing = Gdpo(weights={"think_format": 0.0}).recipe_mistakes(recipe({"use": "think_format", "weight": 0.0}))
    assert nothing == ["every reward has weight 0; give one of them a weight"]
    with pytest.raises(ValueError, match="rewards that the run lacks: b"):
        Gdpo(weights={"b": 1.0}).advantages(step_of([[1.0, 0.0]]))


# -------------------------------------------------------------------------------------------------------- pass_at_k


def test_pass_at_k_by_hand():
    """n 4, c 1, k 2: R = 1 - C(3,2)/C(4,2) = 1 - 3/6 = 1/2, sigma = 1/2.

    A+ = (1/2) / (1/2) = 1, A- = (1/2 - C(2,1)/C(3,1)) / (1/2) = (1/2 - 2/3) * 2 = -1/3; 1 - 3/3 = 0.
    """
    close(PassAtK(k=2).advantages(step_of([[0.0, 1.0, 0.0, 0.0]])), [-1 / 3, 1.0, -1 / 3, -1 / 3])


@quick
@given(ragged, st.integers(1, 4))
def test_pass_at_k_is_the_mean_over_all_subsets(groups, k):
    """A subset's reward is 1 if one row is correct, its advantage that minus R over sigma; a row's
    advantage is the mean over the subsets that hold it."""
    advantages = PassAtK(k=k).advantages(step_of(groups)).tolist()
    for group in groups:
        mine, advantages = advantages[: len(group)], advantages[len(group) :]
        rows = [row for row, reward in enumerate(group) if not math.isnan(reward)]
        subsets = list(itertools.combinations(rows, k))
        rewards = [float(any(group[row] == 1.0 for row in subset)) for subset in subsets]
        mean = math.fsum(rewards) / max(len(rewards), 1)
        sigma = math.sqrt(mean * (1 - mean)) + 1e-6
        for row in range(len(group)):
            holding = [r for subset, r in zip(subsets, rewards, strict=True) if row in subset]
            expected = (math.fsum(holding) / len(holding) - mean) / sigma if holding else 0.0
            assert mine[row] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_pass_at_k_has_nothing_to_say_of_groups_that_are_settled():
    groups = [[0.0] * 4, [1.0] * 4, [1.0, 1.0, 1.0, 0.0], [1.0, 0.0], [1.0]]
    assert PassAtK(k=2).advantages(step_of(groups)).count_nonzero() == 0
    assert PassAtK(k=8).recipe_mistakes(recipe(group_size=8)) != []
    assert PassAtK(k=7).recipe_mistakes(recipe(group_size=8)) == []


def test_pass_at_k_looks_at_the_reward_of_a_name():
    rollouts = step_of([[0.0, 0.0, NAN]], a=[1.0, 0.0, 1.0])
    close(PassAtK(k=1, reward="a").advantages(rollouts), [1.0, -1.0, 0.0])
    with pytest.raises(ValueError, match="name of a reward of this run"):
        PassAtK(reward="b").advantages(rollouts)


# -------------------------------------------------------------------------------------------------- negative_sample


def test_negative_sample_by_hand():
    groups = [[1.0, 0.5, NAN], [0.0], [1.0, 1.0]]
    close(NegativeSample().advantages(step_of(groups)), [0.1, -1.0, 0.0, -1.0, 0.1, 0.1])
    close(NegativeSample(positive=0.0, threshold=0.5).advantages(step_of(groups)), [0.0, 0.0, 0.0, -1.0, 0.0, 0.0])
    close(NegativeSample(positive=1.0, negative=0.0).advantages(step_of(groups)), [1.0, 0.0, 0.0, 0.0, 1.0, 1.0])


# ----------------------------------------------------------------------------------------------- best_versus_second


def test_best_versus_second_by_hand():
    """Standard deviation of (1, 0.5, 0): 0.5. Two at the top have no lead."""
    groups = [[1.0, 0.5, 0.0], [1.0, 1.0, 0.0], [0.5], [-2.0, -1.0]]
    expected = [0.5, 0, 0, 0, 0, 0, 0, 0, 1.0]
    close(BestVersusSecond(scale="none").advantages(step_of(groups)), expected)
    scaled = [0.5 / 0.5001, 0, 0, 0, 0, 0, 0, 0, 1 / (math.sqrt(0.5) + 1e-4)]
    close(BestVersusSecond().advantages(step_of(groups)), scaled)


@quick
@given(ragged)
def test_best_versus_second_is_what_the_row_adds_to_the_best(groups):
    """max of all rewards - max of the others, in a group of at least two."""
    advantages = BestVersusSecond(scale="none").advantages(step_of(groups)).tolist()
    expected = []
    for group in groups:
        for row, reward in enumerate(group):
            others = [r for i, r in enumerate(group) if i != row and not math.isnan(r)]
            alone = math.isnan(reward) or not others
            expected.append(0.0 if alone else max([reward, *others]) - max(others))
    assert advantages == pytest.approx(expected)
