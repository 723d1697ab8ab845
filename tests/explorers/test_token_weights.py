"""Explorers that weigh tokens: entropy_quantile and segment_weights."""

import math

import pytest
import torch
from callwright import Segment
from callwright.testing import check_explorer
from callwright.testing.explorer_steps import random_step
from callwright_explorers.entropy_quantile import EntropyQuantile
from callwright_explorers.segment_weights import Ramp, SegmentWeights
from hypothesis import given, settings
from hypothesis import strategies as st
from trl_loss import assert_same, our_loss, steps, trl_loss

quick = settings(max_examples=12)
some_steps = st.builds(
    random_step,
    st.integers(0, 999),
    st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    st.integers(1, 9),
    st.integers(0, 400),
)


@pytest.mark.parametrize(
    "explorer",
    [EntropyQuantile(), SegmentWeights(), SegmentWeights(thinking=Ramp(1.0, 0.0, 5, "cosine"), normalise="none")],
    ids=["entropy_quantile", "rest", "ramp"],
)
def test_laws(explorer):
    check_explorer(explorer, examples=1)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: EntropyQuantile(share=0.0), "share must be above 0 and at most 1, not 0.0"),
        (lambda: EntropyQuantile(share=1.1), "share must be above 0 and at most 1, not 1.1"),
        (lambda: SegmentWeights(tag=-1.0), "tag must be a number of at least 0, not -1.0"),
        (lambda: SegmentWeights(name=Ramp(1.0, math.inf, 2)), "name must be a number of at least 0, not inf"),
        (lambda: SegmentWeights(name=Ramp(1.0, 2.0, 0)), "name: steps must be at least 1, not 0"),
        (lambda: SegmentWeights(name=Ramp(1.0, 2.0, 2, "up")), "name: schedule must be linear, cosine or step"),
        (lambda: SegmentWeights(normalise="step"), "normalise must be 'row' or 'none', not 'step'"),
        (lambda: SegmentWeights(0.0, 0.0, 0.0, 0.0), "every weight is 0"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()


# ------------------------------------------------------------------------------------------------- entropy_quantile


def entropies(rows, absent=()):
    """A step whose rows have these entropies; NaN is padding."""
    rollouts = random_step(0, (len(rows),), len(rows[0]))
    rollouts.entropy = torch.tensor(rows)
    rollouts.mask = ~rollouts.entropy.isnan()
    rollouts.total = torch.tensor([math.nan if row in absent else 1.0 for row in range(len(rows))])
    return rollouts


def test_entropy_quantile_by_hand():
    """Six tokens 0 to 5: the 0.8 quantile stands at place 4 of 0 to 5, so that 4 and 5 stay: one in each row."""
    rollouts = entropies([[0.0, 4.0, 2.0], [5.0, 1.0, 3.0]])
    assert EntropyQuantile().token_weights(rollouts).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert EntropyQuantile(share=1.0).token_weights(rollouts).min() == 1


def test_padding_and_rows_that_take_no_part_have_no_say():
    rollouts = entropies([[0.0, 4.0, math.nan], [2.0, 9.0, math.nan], [5.0, 1.0, 3.0]], absent=[1])
    # Of 0, 4, 5, 1, 3 the upper half starts at the median, 3.
    weights = EntropyQuantile(share=0.5).token_weights(rollouts)
    assert weights[0, :2].tolist() == [0.0, 1.0]
    assert weights[2].tolist() == [1.0, 0.0, 1.0]


def test_ties_at_the_limit_stay_and_a_step_without_rows_is_nothing_special():
    assert EntropyQuantile().token_weights(entropies([[1.0, 1.0, 1.0]])).tolist() == [[1.0, 1.0, 1.0]]
    assert EntropyQuantile().token_weights(entropies([[1.0, 2.0]], absent=[0])).tolist() == [[1.0, 1.0]]


def test_rounding_does_not_break_a_tie():
    """The same prompt in another batch, or in another process: 4.0469728 or 4.0469723."""
    tied = entropies([[4.0469728, 1.0], [4.0469723, 1.0], [4.0469728, 1.0]])
    assert EntropyQuantile(share=0.2).token_weights(tied).tolist() == [[1.0, 0.0]] * 3


@quick
@given(steps(), st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.sampled_from([("grpo", "sequence"), ("bnpo", "token")]))
def test_entropy_quantile_is_trls(step, share, loss):
    """Loss and gradient of TRL's `top_entropy_quantile`, whose batch is the whole step here."""
    theirs = trl_loss(step, loss_type=loss[0], top_entropy_quantile=share)
    assert_same(our_loss([EntropyQuantile(share=share)], step, aggregation=loss[1]), theirs)


@quick
@given(steps())
def test_the_limit_does_not_depend_on_how_the_step_is_cut(step):
    rows = step.takes_part.nonzero().squeeze(1).tolist()
    whole = our_loss([EntropyQuantile()], step)
    assert_same(whole, our_loss([EntropyQuantile()], step, parts=[[row] for row in rows]))


# -------------------------------------------------------------------------------------------------- segment_weights


def segments(rows, step=0):
    """A step whose rows have these segments; 0 is padding."""
    rollouts = random_step(0, (len(rows),), len(rows[0]), step)
    rollouts.segments = torch.tensor(rows, dtype=torch.int8)
    rollouts.mask = rollouts.segments != Segment.PAD
    return rollouts


def test_segment_weights_by_hand():
    """Step 0: tag 1, name 1.2, argument 0.6, thinking 0.6, the rest 0. Their mean in row 0 is 3.4 / 4 = 0.85."""
    s = Segment
    row = [s.TAG, s.THINKING, s.CALL, s.FUNCTION_NAME, s.ARGUMENT_VALUE, s.OTHER]
    rollouts = segments([row, [s.OTHER, s.CALL, 0, 0, 0, 0], [s.THINKING, 0, 0, 0, 0, 0]])
    expected = torch.zeros(3, 6)
    expected[0, [0, 1, 3, 4]] = torch.tensor([1.0, 0.6, 1.2, 0.6]) / 0.85
    expected[2, 0] = 1.0
    torch.testing.assert_close(SegmentWeights().token_weights(rollouts), expected)
    plain = SegmentWeights(normalise="none", other=0.5).token_weights(rollouts)
    torch.testing.assert_close(plain[0], torch.tensor([1.0, 0.6, 0.0, 1.2, 0.6, 0.5]))


@pytest.mark.parametrize("step", [0, 1, 100, 200, 201, 300, 301, 5000])
def test_the_defaults_are_rests_schedules(step):
    weights = SegmentWeights().at(step)
    assert weights["argument"] == pytest.approx(min(0.6 + 0.002 * step, 1.2))
    assert weights["thinking"] == pytest.approx(min(0.6 + 0.002 * step, 1.0))
    assert (weights["tag"], weights["name"], weights["call"], weights["other"]) == (1.0, 1.2, 0.0, 0.0)


def test_ramps_come_from_a_recipe():
    from callwright.plugins import build_component

    ramp = {"start": 1.0, "end": 0.0, "steps": 3, "schedule": "step"}
    explorer = build_component(SegmentWeights, {"tag": ramp, "call": 1}, "explore.0")
    assert [explorer.at(step)["tag"] for step in range(5)] == [1.0, 1.0, 1.0, 0.0, 0.0]


@quick
@given(some_steps, st.lists(st.floats(0.01, 8), min_size=6, max_size=6), st.integers(0, 5))
def test_segment_weights_in_float64(rollouts, numbers, silent):
    numbers[silent] = 0.0
    kinds = {Segment.TAG: 0, Segment.FUNCTION_NAME: 1, Segment.ARGUMENT_NAME: 2, Segment.ARGUMENT_VALUE: 2}
    kinds |= {Segment.THINKING: 3, Segment.CALL: 4, Segment.OTHER: 5, Segment.OBSERVATION: 5}
    given = SegmentWeights(*numbers).token_weights(rollouts)
    for row, length in enumerate(rollouts.lengths.tolist()):
        raw = [numbers[kinds[Segment(s)]] for s in rollouts.segments[row, :length].tolist()]
        positive = [weight for weight in raw if weight > 0]
        mean = math.fsum(positive) / len(positive) if positive else 1.0
        assert given[row].tolist() == pytest.approx(
            [w / mean for w in raw] + [0.0] * (given.shape[1] - length), rel=1e-5
        )
