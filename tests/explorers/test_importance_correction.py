"""Explorer `importance_correction`: TRL's own ratios and loss, numbers by hand, replayed and forced rows."""

import math

import pytest
import torch
from callwright import grpo
from callwright.hooks import Hooks, Named
from callwright.testing import check_explorer
from callwright.testing.explorer_steps import random_step
from callwright_explorers.importance_correction import ImportanceCorrection
from hypothesis import given, settings
from hypothesis import strategies as st
from trl_loss import assert_same, our_loss, steps, trl_loss
from trl_scoring import trl_scored

quick = settings(max_examples=12)
FORMS = [(level, form) for level in ("token", "sequence") for form in ("truncate", "mask")]


def step_of(differences):
    """One group whose rows have these log-ratios in nats; NaN is padding."""
    rollouts = random_step(0, (len(differences),), len(differences[0]))
    ratios = torch.tensor(differences)
    rollouts.mask = ~ratios.isnan()
    rollouts.behaviour_logps = torch.full_like(ratios, -3.0)
    rollouts.policy_logps = rollouts.behaviour_logps + ratios  # NaN in the padding
    return rollouts


@pytest.mark.parametrize("explorer", [ImportanceCorrection(), ImportanceCorrection("token", "truncate", 1.05, 0.95)])
def test_laws(explorer):
    check_explorer(explorer, examples=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "row"}, "level must be 'token' or 'sequence', not 'row'"),
        ({"form": "clip"}, "form must be 'truncate' or 'mask', not 'clip'"),
        ({"high": 0.0}, "high must be a number above 0, not 0.0"),
        ({"high": math.inf}, "high must be a number above 0, not inf"),
        ({"low": -0.1}, "low must be a number of at least 0, not -0.1"),
        ({"low": 4.0}, "low must be at most high 3.0, not 4.0"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        ImportanceCorrection(**options)


def test_by_hand():
    """Log-ratios ln 2, ln 4 and ln 1/8 in row 0: as a row ln 1. Row 1: ln 5."""
    two = math.log(2)
    rollouts = step_of([[two, 2 * two, -3 * two], [math.log(5), math.nan, math.nan]])

    def weights(*options):
        return ImportanceCorrection(*options).token_weights(rollouts)[rollouts.mask].tolist()

    assert weights("token", "truncate", 3.0, 0.5) == pytest.approx([2, 3, 0.5, 3])
    assert weights("token", "mask", 3.0, 0.5) == pytest.approx([2, 0, 0, 0])
    assert weights("sequence", "truncate") == pytest.approx([1, 1, 1, 3])
    assert weights() == pytest.approx([1, 1, 1, 0])
    assert weights("token", "mask", None, None) == pytest.approx([2, 4, 1 / 8, 5])


def test_ratios_stay_finite():
    rollouts = step_of([[500.0, 1.0], [-500.0, 1.0]])
    for level, form in FORMS:
        assert ImportanceCorrection(level, form, None).token_weights(rollouts).isfinite().all()
    assert ImportanceCorrection("token", "truncate").token_weights(rollouts)[0, 0] == 3.0
    assert ImportanceCorrection("token", "mask").token_weights(rollouts)[:, 0].tolist() == [0.0, 0.0]


def test_the_core_knows_that_it_corrects():
    def hooks(*named):
        return Hooks(list(named), grpo.Defaults("group", 0.2, 0.2, 0.0), "sum")

    assert hooks(Named("importance_correction", ImportanceCorrection(), "explorer")).corrects_sampling
    assert not hooks().corrects_sampling


def test_replayed_rows_are_weighed_against_the_policy_that_drew_them():
    """Their `behaviour_logps` are of then, `policy_logps` of now; nothing else tells them apart."""
    rollouts = step_of([[0.5, 0.25], [0.5, 0.25]])
    rollouts.off_policy[1] = True
    weights = ImportanceCorrection(high=9.0).token_weights(rollouts)
    assert weights.tolist() == [[pytest.approx(math.exp(0.75))] * 2] * 2


def test_a_forced_token_counts_with_the_policys_probability():
    rollouts = step_of([[0.0, 0.0]])
    rollouts.behaviour_logps[0, 0] = 0.0  # not drawn
    assert ImportanceCorrection("token").token_weights(rollouts)[0].tolist() == pytest.approx([math.exp(-3.0), 1.0])


@pytest.mark.parametrize(("level", "form"), FORMS)
@quick
@given(
    step=steps(),
    bounds=st.sampled_from([(3.0, None), (1.1, 0.9), (None, 0.8), (1.5, None)]),
    spread=st.sampled_from([1.0, 10.0]),
    loss=st.sampled_from([("grpo", "sequence"), ("bnpo", "token"), ("dr_grpo", "constant")]),
)
def test_ratio_loss_and_gradient_are_trls(level, form, step, bounds, spread, loss):
    """TRL's trainer makes the ratios of the same log-probabilities, then the loss with them."""
    rollouts = step.rollouts
    noise = (rollouts.behaviour_logps - rollouts.policy_logps) * spread
    rollouts.behaviour_logps = (rollouts.policy_logps + noise) * rollouts.mask
    scored = trl_scored(
        rollouts.lengths.tolist(),
        policy_logps=rollouts.policy_logps[:, : int(rollouts.lengths.max())],
        sampling_logps=rollouts.behaviour_logps,
        use_vllm=True,
        vllm_importance_sampling_mode=f"{level}_{form}",
        vllm_importance_sampling_clip_max=bounds[0],
        vllm_importance_sampling_clip_min=bounds[1],
    )
    ratio = torch.zeros(rollouts.mask.shape)
    theirs = scored["importance_sampling_ratio"]
    ratio[:, : scored["completion_mask"].shape[1]] = theirs.expand(-1, scored["completion_mask"].shape[1])
    explorer = ImportanceCorrection(level, form, *bounds)
    mask = rollouts.mask
    torch.testing.assert_close(explorer.token_weights(rollouts)[mask], ratio[mask], rtol=1e-5, atol=1e-5)
    ours = our_loss([explorer], step, aggregation=loss[1])
    assert_same(ours, trl_loss(step, loss_type=loss[0], use_vllm=True, importance_sampling_ratio=ratio))
