"""`entropy_advantage`: both papers' formulas by hand and in float64, and the laws of a shaped advantage."""

import dataclasses
import math

import pytest
import torch
from callwright import Need, Parse, ParseStatus, Rollouts, Segment, Task
from callwright.testing import check_explorer
from callwright_explorers.entropy_advantage import EntropyAdvantage
from hypothesis import given, settings
from hypothesis import strategies as st

unhurried = settings(deadline=None, max_examples=40)  # the machine may be busy

CALL_SEGMENTS = {Segment.CALL, Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME, Segment.ARGUMENT_VALUE}


def rollouts_of(entropy, segments, mask=None):
    """A step whose rows have this entropy and these segments; the rest is filled in."""
    entropy, segments = torch.as_tensor(entropy), torch.as_tensor(segments, dtype=torch.int8)
    rows = len(entropy)
    blank = torch.zeros_like(entropy)
    return Rollouts(
        step=0,
        tasks=[Task("t", ())] * rows,
        group_ids=torch.zeros(rows, dtype=torch.long),
        prompt_ids=[[0]] * rows,
        texts=[""] * rows,
        parses=[Parse("", ParseStatus.NO_CALL)] * rows,
        completion_ids=blank.long(),
        mask=segments != Segment.PAD if mask is None else mask,
        behaviour_logps=blank,
        policy_logps=blank,
        entropy=entropy,
        segments=segments,
        truncated=torch.zeros(rows, dtype=torch.bool),
        temperature=torch.ones(rows),
        off_policy=torch.zeros(rows, dtype=torch.bool),
    )


@st.composite
def steps(draw):
    """Rollouts of ragged rows, with rubbish in the padding, and a base advantage."""
    rows, width = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    lengths = draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows))
    cell = st.tuples(st.floats(0, 12, width=32), st.sampled_from([s for s in Segment if s is not Segment.PAD]))
    cells = draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=rows, max_size=rows))
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    entropy = torch.tensor([[h for h, _ in row] for row in cells]).masked_fill(~mask, math.nan)
    segments = torch.tensor([[int(s) for _, s in row] for row in cells])
    base = torch.tensor(draw(st.lists(st.floats(-4, 4, width=32), min_size=rows, max_size=rows)))
    return rollouts_of(entropy, segments, mask), base


explorers = st.builds(
    EntropyAdvantage,
    form=st.sampled_from(["sequence", "token"]),
    alpha=st.floats(0, 5),
    kappa=st.floats(1.01, 10),
    scope=st.sampled_from(["thinking", "calls", "all", "names", "values"]),
)


def reference(explorer, rollouts, base):
    """The papers' formulas in Python floats, token by token."""
    scopes = {"thinking": {Segment.THINKING}, "calls": CALL_SEGMENTS, "all": set(Segment) - {Segment.PAD}}
    scopes |= {"names": {Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME}, "values": {Segment.ARGUMENT_VALUE}}
    delta = torch.zeros(rollouts.mask.shape, dtype=torch.float64)
    for row, length in enumerate(rollouts.lengths.tolist()):
        entropy, segments = rollouts.entropy[row, :length].tolist(), rollouts.segments[row, :length].tolist()
        chosen = [t for t in range(length) if segments[t] in scopes[explorer.scope]]
        cap = abs(base[row].item()) / explorer.kappa
        if explorer.form == "token":
            for t in chosen:
                delta[row, t] = min(explorer.alpha * entropy[t], cap)
        elif chosen:
            mean = math.fsum(entropy[t] for t in chosen) / len(chosen)
            delta[row, :length] = min(explorer.alpha * mean, cap)
    return delta


@unhurried
@given(explorers, steps())
def test_it_agrees_with_the_formulas_in_float64(explorer, step):
    rollouts, base = step
    delta = explorer.shape_advantages(rollouts, base)
    assert delta.shape == rollouts.mask.shape
    torch.testing.assert_close(delta.double(), reference(explorer, rollouts, base), rtol=1e-5, atol=1e-6)


@unhurried
@given(explorers, steps())
def test_it_is_capped_zero_off_the_mask_and_never_turns_an_advantage(explorer, step):
    rollouts, base = step
    delta = explorer.shape_advantages(rollouts, base)
    assert (delta >= 0).all()
    assert (delta <= base.abs()[:, None] / explorer.kappa).all()
    assert (delta[~rollouts.mask] == 0).all()
    shaped = base[:, None] + delta
    assert (shaped.sign() == base.sign()[:, None]).all()


@unhurried
@given(steps(), st.sampled_from(["sequence", "token"]), st.sampled_from(["thinking", "calls", "all"]))
def test_alpha_zero_changes_nothing(step, form, scope):
    delta = EntropyAdvantage(form=form, alpha=0.0, scope=scope).shape_advantages(*step)
    assert torch.equal(delta, torch.zeros_like(delta))


@unhurried
@given(explorers, steps(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(explorer, step, random):
    rollouts, base = step
    order = random.sample(range(len(rollouts)), len(rollouts))
    moved = explorer.shape_advantages(rollouts.select(order), base[order])
    torch.testing.assert_close(moved, explorer.shape_advantages(rollouts, base)[order])


@unhurried
@given(explorers, steps())
def test_what_it_receives_stays_as_it_was(explorer, step):
    rollouts, base = step
    before = rollouts.entropy.clone(), rollouts.segments.clone(), base.clone()
    explorer.shape_advantages(rollouts, base)
    for kept, now in zip(before, (rollouts.entropy, rollouts.segments, base), strict=True):
        torch.testing.assert_close(now, kept, rtol=0, atol=0, equal_nan=True)


def test_equations_4_and_5_of_the_paper_by_hand():
    """Two thinking tokens of 0.2 and 0.6 nats: E = 0.4, so lambda E = 0.16; the call's entropy does not count."""
    think, call = Segment.THINKING, Segment.CALL
    rollouts = rollouts_of(
        [[0.2, 0.6, 9.0, 0.0], [0.2, 0.6, 9.0, 9.0]], [[think, think, call, 0], [think, think, call, call]]
    )
    delta = EntropyAdvantage().shape_advantages(rollouts, torch.tensor([1.0, -0.2]))
    # Row 0: 0.16 is below |A| / 2 = 0.5. Row 1: it is above |A| / 2 = 0.1, so the cap holds.
    torch.testing.assert_close(delta, torch.tensor([[0.16, 0.16, 0.16, 0.0], [0.1, 0.1, 0.1, 0.1]]))


def test_the_token_form_by_hand():
    rollouts = rollouts_of([[0.5, 2.0, 3.0]], [[Segment.THINKING, Segment.TAG, Segment.ARGUMENT_VALUE]])
    delta = EntropyAdvantage(form="token", scope="all").shape_advantages(rollouts, torch.tensor([-2.0]))
    torch.testing.assert_close(delta, torch.tensor([[0.2, 0.8, 1.0]]))


@unhurried
@given(explorers, steps(), st.booleans(), st.floats(0, 3))
def test_neither_centred_nor_without_an_advantage_does_it_turn_one(explorer, step, centre, zero_cap):
    """kappa is above 1: what has a sign keeps it, and what has none moves by at most `zero_cap`."""
    rollouts, base = step
    base = torch.where(base.abs() < 1e-30, 0.0, base)  # the smallest numbers of float32 have no half
    rollouts.group_ids = torch.arange(len(rollouts)) // 2
    explorer = dataclasses.replace(explorer, centre=centre, zero_cap=zero_cap)
    delta = explorer.shape_advantages(rollouts, base)
    zero = base == 0
    assert ((base[:, None] + delta).sign() == base.sign()[:, None])[~zero].all()
    assert (delta[zero].abs() <= zero_cap * (1 + 1e-6)).all()
    assert (delta[~rollouts.mask] == 0).all()
    plain = dataclasses.replace(explorer, zero_cap=0.0).shape_advantages(rollouts, base)
    assert torch.equal(plain[~zero], delta[~zero])


@unhurried
@given(steps(), st.sampled_from(["sequence", "token"]))
def test_centred_bonuses_sum_to_nothing_where_no_cap_holds(step, form):
    rollouts, base = step
    rollouts.group_ids = torch.arange(len(rollouts)) % 2
    explorer = EntropyAdvantage(form=form, scope="all", kappa=1e-6, centre=True)
    delta = explorer.shape_advantages(rollouts, base.sign() + 2)
    per_row = delta if form == "token" else delta[:, :1]  # the rows' bonus; 0 for a row without a token
    for group in (0, 1):
        assert abs(float(per_row[rollouts.group_ids == group].sum())) < 1e-4


def test_centring_by_hand():
    """Group 0: E of 0.2 and 0.6, mean 0.4, so alpha (E - mean) = -0.08 and 0.08, capped at 0.05 in row 1. Row 2 does
    not think, row 3 takes no part, and row 4 is alone in its group."""
    think = Segment.THINKING
    segments = [[think, think], [think, 0], [Segment.TAG, 0], [think, 0], [think, 0]]
    rollouts = rollouts_of([[0.1, 0.3], [0.6, 0.0], [9.0, 0.0], [9.0, 0.0], [5.0, 0.0]], segments)
    rollouts.group_ids = torch.tensor([0, 0, 0, 0, 7])
    rollouts.total = torch.tensor([1.0, 0.0, 0.0, math.nan, 0.0])
    base = torch.tensor([1.0, -0.1, 0.5, 0.0, 1.0])
    delta = EntropyAdvantage(centre=True).shape_advantages(rollouts, base)
    torch.testing.assert_close(delta[:, 0], torch.tensor([-0.08, 0.05, 0.0, 0.0, 0.0]))
    # By token: the mean of 0.1, 0.3 and 0.6 is 1/3.
    delta = EntropyAdvantage(form="token", centre=True).shape_advantages(rollouts, base)
    torch.testing.assert_close(delta[0], torch.tensor([0.4 * (0.1 - 1 / 3), 0.4 * (0.3 - 1 / 3)]))


def test_where_there_is_no_advantage_by_hand():
    """alpha E = 0.08 and 0.24; zero_cap 0.1 bounds the second. Row 2 has an advantage, and its own cap."""
    rollouts = rollouts_of([[0.2], [0.6], [0.6]], [[Segment.THINKING]] * 3)
    base = torch.tensor([0.0, 0.0, -0.1])
    delta = EntropyAdvantage(zero_cap=0.1).shape_advantages(rollouts, base)
    torch.testing.assert_close(delta.squeeze(1), torch.tensor([0.08, 0.1, 0.05]))
    # Centred: 0.4 (0.2 - 1.4 / 3) and twice 0.4 (0.6 - 1.4 / 3), of which row 2 keeps at most 0.05.
    delta = EntropyAdvantage(zero_cap=0.1, centre=True).shape_advantages(rollouts, base)
    torch.testing.assert_close(delta.squeeze(1), torch.tensor([-0.1, 0.16 / 3, 0.05]))


@pytest.mark.parametrize(
    "explorer",
    [EntropyAdvantage(centre=True, zero_cap=0.2), EntropyAdvantage("token", scope="values", centre=True)],
    ids=["sequence", "token"],
)
def test_laws(explorer):
    check_explorer(explorer, examples=1)


def test_a_row_that_does_not_think_gets_nothing():
    rollouts = rollouts_of([[3.0, 3.0]], [[Segment.FUNCTION_NAME, Segment.CALL]])
    assert EntropyAdvantage().shape_advantages(rollouts, torch.tensor([1.0])).abs().sum() == 0


def test_no_gradient_flows_through_the_bonus():
    entropy = torch.tensor([[1.0, 2.0]], requires_grad=True)
    rollouts = rollouts_of(entropy, [[Segment.THINKING, Segment.THINKING]])
    for form in ("sequence", "token"):
        assert not EntropyAdvantage(form=form).shape_advantages(rollouts, torch.tensor([1.0])).requires_grad


def test_it_asks_the_core_for_entropy():
    assert EntropyAdvantage.needs == (Need.ENTROPY,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -0.1}, "alpha must be a number of at least 0"),
        ({"alpha": math.nan}, "alpha must be a number of at least 0"),
        ({"kappa": 0.0}, "kappa must be a number above 0"),
        ({"kappa": math.inf}, "kappa must be a number above 0"),
        ({"zero_cap": -1.0}, "zero_cap must be a number of at least 0, not -1.0"),
        ({"zero_cap": math.inf}, "zero_cap must be a number of at least 0, not inf"),
        ({"form": "row"}, "form must be 'sequence' or 'token'"),
        ({"scope": "answer"}, "scope must be one of thinking, calls, names, values, all"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        EntropyAdvantage(**options)
