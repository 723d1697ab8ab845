"""Losses of the policy: TRL's own code on the same tensors, numbers by hand, references in float64, the laws."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from callwright.recipe import Recipe
from callwright.testing import check_explorer
from callwright_explorers.cispo import Cispo
from callwright_explorers.clip_cov import ClipCov
from callwright_explorers.clip_higher import ClipHigher
from callwright_explorers.dual_clip import DualClip
from callwright_explorers.gmpo import Gmpo
from callwright_explorers.gspo import Gspo
from callwright_explorers.kl_cov import KlCov
from callwright_explorers.sapo import Sapo
from callwright_explorers.simko import Simko
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trl_loss import Loss, Step, assert_same, make_step, our_loss, steps, trl_loss, trl_metrics

few = settings(max_examples=8, derandomize=True, phases=(Phase.generate,))
AGGREGATIONS = [("grpo", "sequence"), ("bnpo", "token"), ("dapo", "token"), ("dr_grpo", "constant")]
ranges = st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.4]), st.sampled_from([0.0, 0.2, 0.28, 1.0]))

# ----------------------------------------------------------------------------------------- against TRL's own code


@few
@given(steps())
@pytest.mark.parametrize(("theirs", "ours"), AGGREGATIONS)
def test_the_cores_surrogate_under_every_aggregation_is_trls(theirs, ours, step):
    assert_same(our_loss([], step, aggregation=ours), trl_loss(step, loss_type=theirs))
    assert_same(
        our_loss([], step, aggregation=ours, clip_low=0.1, clip_high=0.3, kl=0.05),
        trl_loss(step, loss_type=theirs, epsilon=0.1, epsilon_high=0.3, beta=0.05, use_bias_correction_kl=False),
    )


@few
@given(steps(), st.sampled_from(AGGREGATIONS), ranges)
def test_clip_higher_is_trls(step, aggregation, bounds):
    theirs, ours = aggregation
    found = our_loss([ClipHigher(*bounds)], step, aggregation=ours)
    assert_same(found, trl_loss(step, loss_type=theirs, epsilon=bounds[0], epsilon_high=bounds[1]))


@few
@given(steps(spread=2.0), st.sampled_from(AGGREGATIONS), st.sampled_from([1.5, 3.0]))
def test_dual_clip_is_trls_delta(step, aggregation, bound):
    theirs, ours = aggregation
    found = our_loss([DualClip(bound=bound)], step, aggregation=ours)
    assert_same(found, trl_loss(step, loss_type=theirs, delta=bound))


@few
@given(steps(spread=1.0), st.sampled_from([0.9, 1.5, 5.0]))
def test_cispo_is_trls(step, highest):
    assert_same(our_loss([Cispo(highest)], step), trl_loss(step, loss_type="cispo", epsilon_high=highest))


@few
@given(steps(), st.sampled_from(AGGREGATIONS), st.sampled_from([(3e-4, 4e-4), (0.1, 0.1), (0.2, 0.28)]))
@pytest.mark.parametrize("level", ["sequence", "token"])
def test_gspo_is_trls(level, step, aggregation, bounds):
    """Where a row has one advantage GSPO-token has the same loss and gradient, and so is TRL's too."""
    theirs, ours = aggregation
    options = {"importance_sampling_level": "sequence", "epsilon": bounds[0], "epsilon_high": bounds[1]}
    found = our_loss([Gspo(*bounds, level=level)], step, aggregation=ours)
    assert_same(found, trl_loss(step, loss_type=theirs, **options))


@few
@given(steps(spread=1.5), st.sampled_from([(1.0, 1.05), (2.0, 0.5)]))
def test_sapo_is_trls(step, temperatures):
    options = {"sapo_temperature_pos": temperatures[0], "sapo_temperature_neg": temperatures[1]}
    found = our_loss([Sapo(*temperatures)], step, aggregation="sequence")
    assert_same(found, trl_loss(step, loss_type="sapo", **options))


def test_the_defaults_of_sapo_are_trls():
    step = make_step(3)
    assert_same(our_loss([Sapo()], step, aggregation="sequence"), trl_loss(step, loss_type="sapo"))


def test_the_steps_clip():
    """What is compared would be the same without a clip, if there were nothing to clip."""
    step = make_step(1, (4, 4), 10)
    trl_loss(step, loss_type="grpo")
    assert trl_metrics()["clip_ratio/low_mean"][0] > 0
    assert trl_metrics()["clip_ratio/high_mean"][0] > 0
    assert not step.takes_part.all()


# --------------------------------------------------------------------------------------------- numbers by hand


def one_row(ratios: list[float], advantage: float) -> Step:
    """A row of one group with these ratios."""
    step = make_step(0, (1,), len(ratios))
    rollouts = step.rollouts
    rollouts.mask = torch.ones(1, len(ratios), dtype=torch.bool)
    rollouts.advantages = torch.full((1, len(ratios)), advantage)
    step.old_logps = torch.full((1, len(ratios)), -2.0)
    step.logps = step.old_logps + torch.tensor([ratios]).log()
    return step


def per_token(explorer: object, ratios: list[float], advantage: float) -> list[list[float]]:
    """Loss of each token alone in its row, and the gradient."""
    found = [our_loss([explorer], one_row([ratio], advantage)) for ratio in ratios]
    return [[float(one.value) for one in found], [float(one.logps) for one in found]]


def test_clip_higher_by_hand():
    ratios = [0.5, 1.0, 1.25, 1.5]
    loss, gradient = per_token(ClipHigher(), ratios, 2.0)
    assert loss == pytest.approx([-1.0, -2.0, -2.5, -2 * 1.28])
    assert gradient == pytest.approx([-1.0, -2.0, -2.5, 0.0])  # 1.25 still learns, as it would not at 0.2
    loss, gradient = per_token(ClipHigher(), ratios, -2.0)
    assert loss == pytest.approx([2 * 0.8, 2.0, 2.5, 3.0])
    assert gradient == pytest.approx([0.0, 2.0, 2.5, 3.0])


def test_dual_clip_by_hand():
    loss, gradient = per_token(DualClip(), [0.5, 2.0, 4.0], -1.0)
    assert loss == pytest.approx([0.8, 2.0, 3.0])  # -min(rho A, clip(rho) A) = 0.8, 2, 4; at most 3
    assert gradient == pytest.approx([0.0, 2.0, 0.0])
    assert per_token(DualClip(), [0.5, 4.0], 1.0)[0] == pytest.approx([-0.5, -1.2])
    assert per_token(DualClip(bound=None), [4.0], -1.0) == [pytest.approx([4.0])] * 2


def test_cispo_by_hand():
    loss, gradient = per_token(Cispo(2.0), [0.5, 1.0, 4.0], 3.0)
    logps = [-2 + math.log(r) for r in (0.5, 1.0, 4.0)]
    assert loss == pytest.approx([-0.5 * 3 * logps[0], -3 * logps[1], -2 * 3 * logps[2]])
    assert gradient == pytest.approx([-1.5, -3.0, -6.0])


def test_gspo_by_hand():
    """s = sqrt(0.5 * 4) = 1.414; the token at 0.5 has the same gradient as the one at 4: -A s / 2."""
    inside = our_loss([Gspo(0.5, 0.5)], one_row([0.5, 4.0], 1.0), aggregation="sequence")
    assert float(inside.value) == pytest.approx(-math.sqrt(2))
    assert inside.logps[0].tolist() == pytest.approx([-math.sqrt(2) / 2] * 2)
    clipped = our_loss([Gspo()], one_row([0.5, 4.0], 1.0), aggregation="sequence")
    assert float(clipped.value) == pytest.approx(-1.0004)
    assert clipped.logps.tolist() == [[0.0, 0.0]]


def test_gspo_token_gives_each_token_its_own_advantage():
    step = one_row([1.0, 1.0], 1.0)
    step.rollouts.advantages = torch.tensor([[1.0, 3.0]])
    whole, own = (
        our_loss([Gspo(level=level)], step, aggregation="sequence").logps[0] for level in ("sequence", "token")
    )
    assert own.tolist() == pytest.approx([-0.5, -1.5])  # -s A_t / 2
    assert whole.tolist() == pytest.approx([-1.0, -1.0])  # -s (1 + 3) / 2 / 2


def test_gmpo_by_hand():
    """Log-ratios ln 2 and ln 0.5 = -0.693: for A > 0 the first is held at 0.4, and c has the mean (0.4 - 0.693) / 2."""
    found = our_loss([Gmpo()], one_row([2.0, 0.5], 2.0), aggregation="sequence")
    value = math.exp((0.4 - math.log(2)) / 2)
    assert float(found.value) == pytest.approx(-2 * value)
    assert found.logps[0].tolist() == pytest.approx([0.0, -2 * value / 2])
    found = our_loss([Gmpo()], one_row([2.0, 0.5], -2.0), aggregation="sequence")
    value = math.exp((math.log(2) - 0.4) / 2)
    assert float(found.value) == pytest.approx(2 * value)
    assert found.logps[0].tolist() == pytest.approx([2 * value / 2, 0.0])


def test_sapo_by_hand():
    loss, gradient = per_token(Sapo(), [1.0, 2.0], 3.0)
    p = 1 / (1 + math.exp(-1.0))
    assert loss == pytest.approx([-3 * 2, -3 * 4 * p])
    assert gradient == pytest.approx([-3.0, -3 * 4 * p * (1 - p) * 2])
    loss, _ = per_token(Sapo(), [2.0], -3.0)
    assert loss == pytest.approx([3 * 4 / 1.05 / (1 + math.exp(-1.05))])


# ---------------------------------------------------------------------------------------- references in float64


def reference(formula, step: Step, aggregation: str = "sequence") -> tuple[float, torch.Tensor]:
    """formula(d, A) of one row's log-ratios and its advantage, float64, summed up as means over rows."""
    logps = step.logps.double().requires_grad_()
    rows = step.takes_part.nonzero().squeeze(1).tolist()
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        inside = step.rollouts.mask[row]
        d = (logps[row] - step.old_logps[row].double())[inside]
        advantages = step.rollouts.advantages[row].double()[inside]
        total = total + formula(d, advantages).mean() / len(rows)
    (gradient,) = torch.autograd.grad(total, [logps])
    return float(total.detach()), gradient


def assert_is(found: Loss, expected: tuple[float, torch.Tensor]) -> None:
    assert float(found.value) == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    torch.testing.assert_close(found.logps.double(), expected[1], rtol=1e-5, atol=1e-5)


def geometric(d, advantages, low=0.4, high=0.4):
    """One row at a time, token by token, with the paper's one-sided clip written out."""
    terms = []
    for one, advantage in zip(d, advantages, strict=True):
        if advantage > 0:
            terms.append(one if one < high else torch.full_like(one, high))
        elif advantage < 0:
            terms.append(one if one > -low else torch.full_like(one, -low))
        else:
            terms.append(one * 0)
    return -advantages.mean() * torch.stack(terms).mean().exp()


@few
@given(steps(spread=1.0))
def test_gmpo_against_a_loop_over_rows_in_float64(step):
    assert_is(our_loss([Gmpo()], step, aggregation="sequence"), reference(geometric, step))


def two_sided(d, advantages):
    ratio = d.exp()
    loss = torch.maximum(-ratio * advantages, -ratio.clamp(0.8, 1.2) * advantages)
    return torch.where(advantages < 0, torch.minimum(loss, -2 * advantages), loss)


@few
@given(steps(spread=1.5))
def test_dual_clip_against_float64(step):
    assert_is(our_loss([DualClip(bound=2.0)], step, aggregation="sequence"), reference(two_sided, step))


# ------------------------------------------------------------------------------------------ what they all share

ALL = [ClipHigher(), DualClip(), Cispo(), Gspo(), Gspo(level="token"), Gmpo(), Sapo(), ClipCov(share=0.3), KlCov(0.3)]
IDS = [f"{type(one).__name__}-{i}" for i, one in enumerate(ALL)]


@few
@given(steps(), st.randoms(use_true_random=False), st.sampled_from(["token", "sequence", "constant"]))
@pytest.mark.parametrize("explorer", ALL, ids=IDS)
def test_micro_batches_add_up(explorer, step, random, aggregation):
    rows = step.takes_part.nonzero().squeeze(1).tolist()
    random.shuffle(rows)
    cut = random.randint(0, len(rows))
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    whole = our_loss([explorer], step, aggregation=aggregation)
    assert_same(our_loss([explorer], step, aggregation=aggregation, parts=parts), whole)


@pytest.mark.parametrize(
    "explorer", [one for one in ALL if not isinstance(one, ClipCov)], ids=lambda e: type(e).__name__
)
def test_the_first_pass_has_the_gradient_of_grpo(explorer):
    """The policy has not moved, so that no ratio differs from 1 and nothing is clipped or held."""
    step = make_step(5, (4, 3), 8, spread=0.0)
    expected = our_loss([], step, aggregation="sequence").logps
    torch.testing.assert_close(our_loss([explorer], step, aggregation="sequence").logps, expected)


LAWS = [
    ClipHigher(),
    DualClip(),
    DualClip(bound=None),
    Cispo(),
    Gspo(),
    Gspo(0.2, 0.2, "token"),
    Gmpo(),
    Sapo(2.0, 0.5),
]


@pytest.mark.parametrize("explorer", LAWS, ids=repr)
def test_laws(explorer):
    check_explorer(explorer, examples=2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClipHigher(clip_low=1.5), "clip_low must be between 0 and 1, not 1.5"),
        (lambda: ClipHigher(clip_high=-0.1), "clip_high must be a number of at least 0, not -0.1"),
        (lambda: DualClip(bound=1.0), "bound must be a number above 1, not 1.0"),
        (lambda: DualClip(clip_low=-1.0), "clip_low must be between 0 and 1"),
        (lambda: Cispo(0.0), "highest must be a number above 0, not 0.0"),
        (lambda: Gspo(level="row"), "level must be 'sequence' or 'token', not 'row'"),
        (lambda: Gmpo(clip_high=-1.0), "clip_high must be a number of at least 0, not -1.0"),
        (lambda: Sapo(temperature_negative=math.nan), "temperature_negative must be a number above 0, not nan"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def recipe(**train) -> Recipe:
    return Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": "python_calls",
            "data": {"source": "bfcl"},
            "rewards": {"use": ["ast_match"]},
            "train": train,
        }
    )


@pytest.mark.parametrize("explorer", [*ALL, Simko()], ids=lambda e: type(e).__name__)
def test_a_clip_range_that_counts_for_nothing_is_a_mistake(explorer):
    assert explorer.recipe_mistakes(recipe()) == []
    (text,) = explorer.recipe_mistakes(recipe(clip_high=0.99))
    assert "train.clip_high" in text
    if isinstance(explorer, ClipHigher):
        assert explorer.recipe_mistakes(recipe(clip_high=0.28)) == []
