"""`simko`: numbers by hand, the authors' formula written out in float64, and what it does to probabilities."""

from __future__ import annotations

import math

import pytest
import torch
from callwright.testing import check_explorer
from callwright_explorers.simko import Simko
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trl_loss import Step, assert_same, make_step, our_loss

few = settings(max_examples=20, derandomize=True, phases=(Phase.generate,))
WORDS = 50


def with_tops(step: Step, seed: int, candidates: int, spread: float = 0.4) -> Step:
    """The step under distributions over 50 tokens before and now; half of the drawn tokens are the likeliest."""
    g = torch.Generator().manual_seed(seed)
    mask, rollouts = step.rollouts.mask, step.rollouts
    before = (3 * torch.rand(*mask.shape, 1, generator=g) * torch.randn(*mask.shape, WORDS, generator=g)).log_softmax(
        -1
    )
    now = (before + spread * torch.randn(before.shape, generator=g)).log_softmax(-1)
    likeliest = torch.rand(mask.shape, generator=g) < 0.5
    rollouts.completion_ids = torch.where(likeliest, before.argmax(-1), rollouts.completion_ids) * mask
    rollouts.entropy = -(before.exp() * before).sum(-1) * mask
    drawn = rollouts.completion_ids[..., None]
    step.old_logps, step.logps = (logps.gather(-1, drawn)[..., 0] * mask for logps in (before, now))
    step.old_top_logps, step.top_ids = before.topk(candidates, -1)
    step.top_logps = now.gather(-1, step.top_ids)
    return step


@st.composite
def cases(draw):
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    seed = draw(st.integers(0, 10_000))
    candidates = draw(st.sampled_from([1, 3, 5]))
    return with_tops(make_step(seed, sizes, draw(st.integers(1, 8))), seed, candidates), candidates


def one_row(advantage: float) -> Step:
    """Two tokens, both drawn as the likeliest; the second has the higher entropy. Now is as before."""
    step = make_step(0, (1,), 2)
    rollouts = step.rollouts
    rollouts.mask = torch.ones(1, 2, dtype=torch.bool)
    rollouts.completion_ids = torch.tensor([[7, 8]])
    rollouts.entropy = torch.tensor([[0.1, 0.9]])
    rollouts.advantages = torch.full((1, 2), advantage)
    step.old_logps = step.logps = torch.tensor([[-0.1, -0.7]])
    step.top_ids = torch.tensor([[[7, 1, 2], [8, 3, 4]]])
    step.top_logps = step.old_top_logps = torch.tensor([[[-0.1, -3.0, -4.0], [-0.7, -1.0, -2.0]]])
    return step


# -------------------------------------------------------------------------------------------------------- by hand


def test_a_right_completion_by_hand():
    """A = 1 and rho = 1: the uncertain token's 1 goes to 0.7 of itself and 0.1 of each of the three likeliest."""
    found = our_loss([Simko(share=0.3)], one_row(1.0), aggregation="sequence")
    assert float(found.value) == pytest.approx(-1.0)
    assert (2 * found.logps)[0].tolist() == pytest.approx([-1.0, -0.7])
    assert (2 * found.top_logps)[0].tolist() == [[0.0] * 3, pytest.approx([-0.1] * 3)]


def test_a_wrong_completion_by_hand():
    found = our_loss([Simko()], one_row(-1.0), aggregation="sequence")
    assert (2 * found.logps)[0].tolist() == pytest.approx([1.0, 1.1])
    assert not found.top_logps.any()
    step = one_row(-1.0)
    step.top_ids = torch.tensor([[[7, 1, 2], [3, 8, 4]]])  # the drawn token was the second
    assert (2 * our_loss([Simko()], step, aggregation="sequence").logps)[0].tolist() == pytest.approx([1.0, 1.0])


def test_a_completion_without_advantage_stays():
    found = our_loss([Simko()], one_row(0.0))
    assert not found.logps.any()
    assert not found.top_logps.any()


# --------------------------------------------------------------------------------------------------- in float64


def written_out(step: Step, explorer: Simko) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The authors' formula, row by row: the new ratio has terms of its own, and nothing is cancelled."""
    logps, tops = step.logps.double().requires_grad_(), step.top_logps.double().requires_grad_()
    rows = step.takes_part.nonzero().squeeze(1).tolist()
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        length = int(step.rollouts.mask[row].sum())
        entropy = step.rollouts.entropy[row, :length].double()
        threshold = torch.quantile(entropy, explorer.quantile)
        for t in range(length):
            advantage = step.rollouts.advantages[row, t].double()
            ratio = (logps[row, t] - step.old_logps[row, t].double()).exp()
            uncertain = entropy[t] > threshold + 1e-7
            if uncertain and advantage > 0:
                others = (tops[row, t] - step.old_top_logps[row, t].double()).exp()
                mixed = (ratio.detach() / others.detach() * others).sum() / explorer.candidates
                ratio = (1 - explorer.share) * ratio + explorer.share * mixed
            if uncertain and advantage < 0 and step.rollouts.completion_ids[row, t] == step.top_ids[row, t, 0]:
                advantage = explorer.penalty * advantage
            loss = torch.maximum(-ratio * advantage, -ratio.clamp(0.8, 1.2) * advantage)
            total = total + loss / length / len(rows)
    return (total.detach(), *torch.autograd.grad(total, [logps, tops], allow_unused=True, materialize_grads=True))


@few
@given(cases(), st.sampled_from([0.01, 0.4, 1.0]), st.sampled_from([0.0, 0.5, 0.8]))
def test_against_the_authors_formula(case, share, quantile):
    step, candidates = case
    explorer = Simko(candidates=candidates, share=share, quantile=quantile)
    found = our_loss([explorer], step, aggregation="sequence")
    value, logps, tops = written_out(step, explorer)
    assert float(found.value) == pytest.approx(float(value), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(found.logps.double(), logps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.top_logps.double(), tops, rtol=1e-5, atol=1e-5)


def test_the_cases_reach_both_sides():
    step = with_tops(make_step(8, (4, 4, 4), 8), 8, 3)
    plain = our_loss([Simko(share=0.0, penalty=1.0)], step, aggregation="sequence").logps
    found = our_loss([Simko(quantile=0.5)], step, aggregation="sequence")
    assert int((found.top_logps != 0).any(-1).sum()) >= 3
    punished = torch.isclose(found.logps, 1.1 * plain) & (plain != 0)
    assert int(punished.sum()) >= 2


@few
@given(cases(), st.randoms(use_true_random=False))
def test_micro_batches_add_up(case, random):
    step, candidates = case
    explorer = Simko(candidates=candidates, share=0.3)
    rows = step.takes_part.nonzero().squeeze(1).tolist()
    random.shuffle(rows)
    whole, parts = our_loss([explorer], step), our_loss([explorer], step, parts=[[row] for row in rows])
    assert_same(parts, whole)
    torch.testing.assert_close(parts.top_logps, whole.top_logps)


def test_right_completions_raise_what_was_not_drawn():
    """One step of descent on the logits: the other likely tokens lose less than under GRPO, the rest more."""
    torch.manual_seed(0)
    logits = torch.randn(WORDS).requires_grad_()
    ids = logits.topk(3).indices
    gradients = []
    for share in (0.0, 0.5):
        step, logps = one_row(1.0), logits.log_softmax(-1)
        drawn = logps[ids[0]]
        found = our_loss([Simko(share=share)], step, aggregation="sequence")
        inner = found.logps[0, 1] * drawn + (found.top_logps[0, 1] * logps[ids]).sum()
        gradients.append(torch.autograd.grad(inner, logits)[0])
    plain, smooth = gradients
    assert bool((-smooth[ids[1:]] > -plain[ids[1:]]).all())
    assert float(-smooth[ids[0]]) < float(-plain[ids[0]])
    rest = torch.ones(WORDS, dtype=torch.bool).index_fill(0, ids, False)
    torch.testing.assert_close(smooth[rest], plain[rest])


# ----------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("explorer", [Simko(), Simko(candidates=1, share=0.5, quantile=0.0, penalty=2.0)], ids=repr)
def test_laws(explorer):
    check_explorer(explorer, examples=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"candidates": 0}, "candidates must be at least 1, not 0"),
        ({"share": 1.5}, "share must be between 0 and 1, not 1.5"),
        ({"quantile": -0.1}, "quantile must be between 0 and 1, not -0.1"),
        ({"penalty": -1.0}, "penalty must be a number of at least 0, not -1.0"),
        ({"penalty": math.inf}, "penalty must be a number of at least 0, not inf"),
        ({"clip_high": -1.0}, "clip_high must be a number of at least 0"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Simko(**options)


def test_another_plugin_may_ask_for_more_tokens():
    from callwright.testing.explorer_steps import micro_batch, random_step

    rollouts = random_step(3, (4, 3), 6)
    losses, gradients = [], []
    for top in (3, 5):
        batch = micro_batch(rollouts, top)
        loss = Simko(share=0.5).policy_loss(batch)
        loss.sum().backward()
        losses.append(loss.detach())
        gradients.append(batch.top_logps.grad[..., :3])
    assert torch.equal(*losses)
    torch.testing.assert_close(*gradients)
    assert gradients[0].any()
