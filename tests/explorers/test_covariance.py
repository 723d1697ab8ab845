"""`clip_cov` and `kl_cov`: numbers by hand, loops in float64, and a choice that nothing but the tokens decides."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from callwright.testing import check_explorer
from callwright.types import Rollouts
from callwright_explorers._covariance import covariance, drawn
from callwright_explorers.clip_cov import ClipCov
from callwright_explorers.kl_cov import KlCov
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trl_loss import Step, make_step, our_loss, steps

few = settings(max_examples=20, derandomize=True, phases=(Phase.generate,))
shares = st.sampled_from([0.01, 0.1, 0.3, 1.0])


def two_rows(ratios: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> Step:
    """Advantages 2 and -2, log-probabilities -1 and -3 in each row; the means are 0 and -2, and so

    c = (2) (1), (2) (-1)
        (-2) (1), (-2) (-1)
    """
    step = make_step(0, (2,), 2)
    rollouts = step.rollouts
    rollouts.mask = torch.ones(2, 2, dtype=torch.bool)
    rollouts.completion_ids = torch.tensor([[11, 12], [21, 22]])
    rollouts.advantages = torch.tensor([[2.0, 2.0], [-2.0, -2.0]])
    rollouts.policy_logps = torch.tensor([[-1.0, -3.0], [-1.0, -3.0]])
    step.old_logps = rollouts.policy_logps
    step.logps = step.old_logps + torch.tensor(ratios).view(2, 2).log()
    return step


# -------------------------------------------------------------------------------------------------- by hand


def test_the_covariance_by_hand():
    assert covariance(two_rows().rollouts).tolist() == [[2.0, -2.0], [-2.0, 2.0]]


def test_clip_cov_by_hand():
    """Half of four tokens, from those between 1 and 5: the two with c = 2. The rest are as in the surrogate."""
    found = our_loss([ClipCov(share=0.5)], two_rows((1.5, 1.5, 1.5, 1.5)))
    assert found.logps.tolist() == [[0.0, pytest.approx(-2 * 1.5 / 4)], [pytest.approx(2 * 1.5 / 4), 0.0]]
    assert float(found.value) == pytest.approx(0.0)
    one = our_loss([ClipCov()], two_rows()).logps.flatten()  # 2e-4 of four tokens is 0, but at least one
    assert sorted(one.abs().tolist()) == pytest.approx([0.0, 0.5, 0.5, 0.5])
    for outside in ({"low": 2.0}, {"high": 2.0}, {"share": 0.0}):
        assert our_loss([ClipCov(**{"share": 0.5, **outside})], two_rows()).logps.abs().tolist() == [[0.5] * 2] * 2


def test_kl_cov_by_hand():
    """Both tokens with c = 2 tie, so both are held: -rho A + 0.5 |log rho|."""
    found = our_loss([KlCov(0.25, coefficient=0.5)], two_rows((2.0, 2.0, 0.5, 0.5)))
    ln2 = math.log(2)
    losses = [-4 + 0.5 * ln2, -4.0, 1.0, 1.0 + 0.5 * ln2]
    assert float(found.value) == pytest.approx(sum(losses) / 4)
    assert (4 * found.logps).flatten().tolist() == pytest.approx([-4 + 0.5, -4.0, 1.0, 1.0 - 0.5])


def test_kl_cov_never_clips():
    found = our_loss([KlCov(0.0)], two_rows((3.0, 3.0, 0.1, 0.1)))
    assert (4 * found.logps).flatten().tolist() == pytest.approx([-6.0, -6.0, 0.2, 0.2])


# --------------------------------------------------------------------------------------- against loops, float64


def loop(rollouts: Rollouts) -> dict[tuple[int, int], float]:
    """Each token's part of the covariance."""
    rows = [row for row in range(len(rollouts)) if not rollouts.total[row].isnan()]
    places = [(row, t) for row in rows for t in range(rollouts.mask.shape[1]) if rollouts.mask[row, t]]
    a = {place: float(rollouts.advantages[place]) for place in places}
    p = {place: float(rollouts.policy_logps[place]) for place in places}
    mean_a, mean_p = sum(a.values()) / len(a), sum(p.values()) / len(p)
    return {place: (a[place] - mean_a) * (p[place] - mean_p) for place in places}


def chosen(mask: torch.Tensor) -> set[tuple[int, int]]:
    return {(row, t) for row, t in mask.nonzero().tolist()}


@few
@given(steps(), shares)
def test_kl_cov_holds_the_highest(step, share):
    values = loop(step.rollouts)
    number = max(1, int(len(values) * share))
    least = sorted(values.values(), reverse=True)[number - 1]
    assert chosen(KlCov(share).held(step.rollouts)) == {place for place, c in values.items() if c >= least - 1e-12}


@few
@given(steps(), shares)
def test_clip_cov_draws_from_the_range(step, share):
    explorer = ClipCov(share=share, low=0.1, high=1.5)
    values = loop(step.rollouts)
    eligible = {place for place, c in values.items() if 0.1 < c < 1.5}
    found = chosen(explorer.silenced(step.rollouts))
    assert found <= eligible
    assert len(found) == min(len(eligible), max(1, int(len(values) * share)))


@few
@given(steps(spread=1.0), st.sampled_from([0.1, 0.5]), st.sampled_from([0.3, 1.0]))
def test_kl_cov_against_float64(step, share, coefficient):
    explorer = KlCov(share, coefficient)
    held, tokens = chosen(explorer.held(step.rollouts)), loop(step.rollouts)
    logps = step.logps.double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for place in tokens:
        d = logps[place] - step.old_logps[place].double()
        loss = -d.exp() * step.rollouts.advantages[place].double()
        total = total + (loss + coefficient * d.abs() if place in held else loss) / len(tokens)
    (gradient,) = torch.autograd.grad(total, [logps])
    found = our_loss([explorer], step)
    assert float(found.value) == pytest.approx(float(total.detach()), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(found.logps.double(), gradient, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------- what the choice sees


@few
@given(steps(), st.randoms(use_true_random=False), st.integers(0, 5))
def test_the_choice_is_blind_to_rows_padding_and_other_passes(step, random, wider):
    explorer = ClipCov(share=0.2, low=0.0, high=9.0)
    first = explorer.silenced(step.rollouts)
    order = list(range(len(step.rollouts)))
    random.shuffle(order)
    turned = step.rollouts.select(order)
    pad = {
        name: torch.nn.functional.pad(getattr(turned, name), (0, wider))
        for name in ("completion_ids", "mask", "policy_logps", "advantages")
    }
    second = explorer.silenced(dataclasses.replace(turned, **pad))
    assert torch.equal(second[:, : first.shape[1]], first[order])
    assert not second[:, first.shape[1] :].any()


def test_the_same_completion_twice_is_treated_the_same():
    step = make_step(4, (6,), 8)
    rollouts = step.rollouts.select([0, 1, 2, 0, 1, 2])
    for mask in (ClipCov(share=0.1, low=-9.0, high=9.0).silenced(rollouts), KlCov(0.1).held(rollouts)):
        assert torch.equal(mask[:3], mask[3:])
        assert mask.any()


def test_another_step_draws_others():
    rollouts = make_step(2, (4, 4, 4), 10).rollouts
    explorer = ClipCov(share=0.2, low=-9.0, high=9.0)
    later = explorer.silenced(dataclasses.replace(rollouts, step=1))
    assert not torch.equal(explorer.silenced(rollouts), later)


def test_draws_are_spread_evenly():
    """Over 400 steps every token of a step is among the lowest 30 % about as often: within 5 standard deviations."""
    rollouts = make_step(0, (4,), 8).rollouts
    numbers = torch.stack([drawn(dataclasses.replace(rollouts, step=step)) for step in range(400)])[:, rollouts.mask]
    low = numbers < int(2**63 * (2 * 0.3 - 1))
    rate = low.double().mean(0)
    assert float((rate - 0.3).abs().max()) < 5 * math.sqrt(0.3 * 0.7 / 400)
    pairs = torch.corrcoef(low.double().T).fill_diagonal_(0.0)
    assert float(pairs.abs().max()) < 5 / math.sqrt(400)
    assert len(numbers.unique()) == numbers.numel()


# ------------------------------------------------------------------------------------------------- edges and laws


def test_rows_that_take_no_part_do_not_count():
    step = make_step(6, (4, 4), 6)
    rows = step.takes_part.nonzero().squeeze(1)
    alone = step.rollouts.select(rows)
    assert len(alone) < len(step.rollouts)
    torch.testing.assert_close(covariance(step.rollouts)[rows], covariance(alone))
    assert torch.equal(KlCov(0.2).held(step.rollouts)[rows], KlCov(0.2).held(alone))
    nobody = dataclasses.replace(alone, total=torch.full((len(alone),), math.nan))
    assert not KlCov(0.2).held(nobody).any()
    assert not ClipCov(share=0.2, low=-9.0, high=9.0).silenced(nobody).any()


def test_one_token_is_its_own_mean():
    step = make_step(0, (1,), 1)
    assert covariance(step.rollouts).tolist() == [[0.0]]
    assert not ClipCov().silenced(step.rollouts).any()


@pytest.mark.parametrize(
    "explorer", [ClipCov(), ClipCov(share=0.3, low=-1.0, high=3.0), KlCov(), KlCov(0.3, 0.5)], ids=repr
)
def test_laws(explorer):
    check_explorer(explorer, examples=2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClipCov(share=1.5), "share must be between 0 and 1, not 1.5"),
        (lambda: ClipCov(low=5.0), "low and high must be numbers, low below high, not 5.0 and 5.0"),
        (lambda: ClipCov(high=math.inf), "low and high must be numbers"),
        (lambda: ClipCov(clip_low=2.0), "clip_low must be between 0 and 1"),
        (lambda: KlCov(-0.1), "share must be between 0 and 1, not -0.1"),
        (lambda: KlCov(coefficient=-1.0), "coefficient must be a number of at least 0, not -1.0"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
