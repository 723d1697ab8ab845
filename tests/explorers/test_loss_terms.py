"""The terms of the loss: formulas by hand and in float64, what they pull at, schedules, controllers, and the laws."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from callwright import MicroBatch, Need, Rollouts, Segment, grpo
from callwright.recipe import Recipe
from callwright.testing import check_explorer
from callwright.testing.explorer_steps import micro_batch, random_step
from callwright_explorers.adaptive_entropy import AdaptiveEntropy
from callwright_explorers.entropy_bonus import EntropyBonus
from callwright_explorers.entropy_smoothing import EntropySmoothing
from callwright_explorers.kl import Kl
from hypothesis import given, settings
from hypothesis import strategies as st

few = settings(max_examples=25)
THINK, NAME, KEY, VALUE, CALL = (
    Segment.THINKING,
    Segment.FUNCTION_NAME,
    Segment.ARGUMENT_NAME,
    Segment.ARGUMENT_VALUE,
    Segment.CALL,
)
SCOPES = {
    "thinking": {THINK},
    "calls": {CALL, NAME, KEY, VALUE},
    "names": {NAME, KEY},
    "values": {VALUE},
    "all": set(Segment) - {Segment.PAD},
}


def step_of(entropy: list[list[float]], segments: list[list[int]] | None = None, step: int = 0) -> Rollouts:
    """A step whose rows have this entropy; the rest is random. NaN is padding, and rubbish stands there."""
    values = torch.tensor(entropy)
    mask = ~values.isnan()
    rows, width = values.shape
    found = random_step(0, (rows,), width, step)
    kinds = torch.full((rows, width), int(THINK)) if segments is None else torch.tensor(segments)
    return dataclasses.replace(
        found,
        entropy=values.nan_to_num(77.0),
        mask=mask,
        segments=(kinds * mask).to(torch.int8),
        total=torch.linspace(0, 1, rows),
        token_weights=mask.float(),
    )


def parts(rollouts: Rollouts, rows: list[int], share: str = "token") -> MicroBatch:
    """Some rows of a step as a micro-batch, with the shares of the whole step."""
    assert rollouts.total is not None
    takes_part = ~rollouts.total.isnan()
    whole = micro_batch(rollouts)
    scale = grpo.token_shares(rollouts.mask, takes_part, share, 16)  # type: ignore[arg-type] # one of three
    index = torch.tensor(rows, dtype=torch.long)
    taken = {
        f.name: value[index]
        for f in dataclasses.fields(whole)
        if isinstance(value := getattr(whole, f.name), torch.Tensor)
    }
    taken |= {name: taken[name].detach().requires_grad_() for name in ("logps", "entropy")}
    values: dict[str, Any] = {**taken, "scale": scale[index], "rows": index}
    return dataclasses.replace(whole, **values)


def whole(rollouts: Rollouts, share: str = "token") -> MicroBatch:
    assert rollouts.total is not None
    return parts(rollouts, (~rollouts.total.isnan()).nonzero().squeeze(1).tolist(), share)


def value_and_gradient(explorer: Any, batch: MicroBatch, of: str = "entropy") -> tuple[float, torch.Tensor]:
    (term,) = explorer.loss_terms(batch).values()
    (gradient,) = torch.autograd.grad(term, getattr(batch, of))
    return float(term.detach()), gradient


def ended(explorer: Any, **metrics: float) -> None:
    """A step ends, with a checkpoint and a resumption behind it."""
    arguments = {"step": 0} if isinstance(explorer, Kl) else {}
    explorer.step_ended(metrics=metrics, **arguments)
    explorer.load_state_dict(json.loads(json.dumps(explorer.state_dict(), allow_nan=False)))


# --------------------------------------------------------------------------------------------------- entropy_bonus


def test_the_bonus_by_hand() -> None:
    """Tokens of 0.2, 0.6 and 1.0 nats have the mean 0.6; the padding does not count."""
    batch = whole(step_of([[0.2, 0.6], [1.0, math.nan]]))
    value, gradient = value_and_gradient(EntropyBonus(coefficient=0.01), batch)
    assert value == pytest.approx(-0.01 * 0.6)
    torch.testing.assert_close(gradient, torch.tensor([[-0.01 / 3, -0.01 / 3], [-0.01 / 3, 0.0]]))
    assert EntropyBonus.needs == (Need.ENTROPY_GRADIENT,)


def test_a_scope_has_its_own_mean_and_its_own_name() -> None:
    """The value's tokens have 0.5 and 1.5 nats; what stands around them does not count."""
    rollouts = step_of([[9.0, 0.5], [1.5, 9.0]], [[NAME, VALUE], [VALUE, THINK]])
    explorer = EntropyBonus(coefficient=0.1, scope="values")
    assert list(explorer.loss_terms(whole(rollouts))) == ["entropy_bonus/values"]
    value, gradient = value_and_gradient(explorer, whole(rollouts))
    assert value == pytest.approx(-0.1)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, -0.05], [-0.05, 0.0]]))
    assert value_and_gradient(EntropyBonus(scope="calls"), whole(step_of([[1.0]])))[0] == 0, "no token in scope"


@few
@given(st.integers(0, 999), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from(sorted(SCOPES)))
def test_the_bonus_in_float64_in_any_parts_and_any_aggregation(seed: int, sizes: list[int], scope: Any) -> None:
    rollouts = random_step(seed, tuple(sizes), 6)
    assert rollouts.total is not None
    rows = (~rollouts.total.isnan()).nonzero().squeeze(1).tolist()
    chosen = [
        (row, t)
        for row in rows
        for t in range(int(rollouts.lengths[row]))
        if int(rollouts.segments[row, t]) in SCOPES[scope]
    ]
    expected = -0.5 * math.fsum(float(rollouts.entropy[at]) for at in chosen) / max(len(chosen), 1)
    explorer = EntropyBonus(coefficient=0.5, scope=scope)
    for share in ("token", "sequence", "constant"):
        pieces = [parts(rollouts, rows[:1], share), *([parts(rollouts, rows[1:], share)] if rows[1:] else [])]
        found = [value_and_gradient(explorer, piece) for piece in pieces]
        assert sum(value for value, _ in found) == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert sum(int((gradient != 0).sum()) for _, gradient in found) == len(chosen)


def test_the_coefficient_follows_its_schedule() -> None:
    linear = EntropyBonus(coefficient=0.01, schedule="linear", end=0.0, steps=5)
    assert [linear.at(step) for step in range(6)] == pytest.approx([0.01, 0.0075, 0.005, 0.0025, 0, 0])
    cosine = EntropyBonus(coefficient=0.01, schedule="cosine", end=0.002, steps=5)
    assert cosine.at(1) == pytest.approx(0.002 + 0.008 * (1 + math.cos(math.pi / 4)) / 2)
    assert value_and_gradient(linear, whole(step_of([[1.0]], step=3)))[0] == pytest.approx(-0.0025)
    assert Kl(coefficient=0.01, schedule="linear", end=0.03, steps=3).at(1) == pytest.approx(0.02)


# ------------------------------------------------------------------------------------------------ adaptive_entropy


@pytest.mark.parametrize(
    ("form", "applied"),
    [
        # Entropies of the steps: 0.1, 0.2, 0.3, 0.1. Coefficients skywork: 3, 4, 3, 2, 3; trl: 3, 4, 5, 4, 5.
        ("skywork", [0.003, 0.004, 0.0, 0.0, 0.003]),
        ("trl", [0.0, 0.004, 0.005, 0.0, 0.005]),
    ],
)
def test_the_controller_by_hand(form: Any, applied: list[float]) -> None:
    explorer = AdaptiveEntropy(coefficient=0.003, delta=0.001, form=form)
    found = [explorer.applied]
    for entropy in (0.1, 0.2, 0.3, 0.1):
        ended(explorer, entropy=entropy)
        found.append(explorer.applied)
    assert found == pytest.approx(applied)
    value, gradient = value_and_gradient(explorer, whole(step_of([[0.5, 1.5]])))
    assert value == pytest.approx(-applied[-1] * 1.0)
    torch.testing.assert_close(gradient, torch.full((1, 2), -applied[-1] / 2))


def test_the_controller_stays_within_its_bounds_and_learns_nothing_from_a_bad_number() -> None:
    explorer = AdaptiveEntropy(delta=0.003)
    for _ in range(3):
        ended(explorer, entropy=0.01)
    assert explorer.applied == 0.005
    ended(explorer, entropy=math.nan)
    assert explorer.applied == 0.005
    for _ in range(3):
        ended(explorer, entropy=3.0)
    assert explorer.state_dict() == {"coefficient": 0.0, "on": False}


# ----------------------------------------------------------------------------------------------- entropy_smoothing


def test_smoothing_by_hand() -> None:
    """The usual entropy is 1, the band [0.8, 1.2]. Tokens of 0.5, 1.0 and 1.5 nats: P = 0.3, 0, 0.3; mean H 1, mean P
    0.2. Below the band the pull up is doubled, above it is gone."""
    batch, c = whole(step_of([[0.5, 1.0, 1.5]])), 0.01
    explorer = EntropySmoothing(coefficient=c)
    assert value_and_gradient(explorer, batch)[0] == pytest.approx(-c), "in the first step there is no band"
    ended(explorer, entropy=0.8)
    ended(explorer, entropy=1.2)
    assert explorer.usual == pytest.approx(1.0)
    value, gradient = value_and_gradient(explorer, batch)
    assert value == pytest.approx(-c * (1.0 - 0.2))
    torch.testing.assert_close(gradient, torch.tensor([[-2 * c / 3, -c / 3, 0.0]]), atol=1e-8, rtol=1e-5)


def test_the_authors_step_is_seen_in_the_loss_and_pulls_at_nothing() -> None:
    """Two of three tokens cost 0.1: mean P 0.2 / 3."""
    batch, c = whole(step_of([[0.5, 1.0, 1.5]])), 0.01
    explorer = EntropySmoothing(coefficient=c, form="step")
    ended(explorer, entropy=1.0)
    value, gradient = value_and_gradient(explorer, batch)
    assert value == pytest.approx(-c * (1.0 - 0.2 / 3))
    torch.testing.assert_close(gradient, torch.full((1, 3), -c / 3))


def test_a_row_is_compared_by_its_mean() -> None:
    """Means 1.0 (inside) and 2.0 (0.8 above): P = 0, 0 and 0.8, 0.8; the padding of the first row does not count."""
    batch, c = whole(step_of([[0.5, 1.5, math.nan], [1.0, 2.0, 3.0]])), 0.01
    explorer = EntropySmoothing(coefficient=c, level="sequence")
    ended(explorer, entropy=1.0)
    value, gradient = value_and_gradient(explorer, batch)
    assert value == pytest.approx(-c * (8.0 / 5 - 3 * 0.8 / 5))
    # Each token of the second row moves its own H and a third of three tokens' P: nothing is left.
    torch.testing.assert_close(gradient, torch.tensor([[-c / 5, -c / 5, 0], [0.0, 0, 0]]), atol=1e-8, rtol=1e-5)


def test_the_history_may_have_a_window() -> None:
    all_of_it, two = EntropySmoothing(), EntropySmoothing(window=2)
    for entropy in (4.0, 1.0, math.nan, 3.0):
        ended(all_of_it, entropy=entropy)
        ended(two, entropy=entropy)
    assert all_of_it.usual == pytest.approx(8 / 3)
    assert two.usual == 2.0


def test_the_phases_by_hand() -> None:
    explorer = EntropySmoothing(phases=10)
    weights = [explorer.weight(step) for step in (0, 5, 6, 10, 11)]
    half = 1 - 0.2 * (1 - math.exp(-2))
    last = 0.8 * math.exp(-3)
    assert weights == pytest.approx([1.0, half, 0.8 * math.exp(-0.6), last, last])
    assert EntropySmoothing().weight(7) == EntropySmoothing(phases=1).weight(0) == 1.0


# -------------------------------------------------------------------------------------------------------------- kl


def divergence_batch(difference: list[float], ratio: float = 1.0) -> MicroBatch:
    """A row whose log-probabilities lie `difference` below the reference's."""
    batch = whole(step_of([[1.0] * len(difference)]))
    logps = batch.logps.detach().clone().requires_grad_()
    reference = logps.detach() + torch.tensor([difference])
    return dataclasses.replace(batch, logps=logps, ref_logps=reference, old_logps=logps.detach() - math.log(ratio))


@pytest.mark.parametrize(
    ("estimator", "values", "slopes"),
    [
        ("k1", [-0.5, 1.0], [1.0, 1.0]),
        ("k2", [0.125, 0.5], [-0.5, 1.0]),
        ("k3", [math.exp(0.5) - 1.5, math.exp(-1.0)], [1 - math.exp(0.5), 1 - math.exp(-1.0)]),
    ],
)
def test_the_estimators_by_hand(estimator: Any, values: list[float], slopes: list[float]) -> None:
    batch = divergence_batch([0.5, -1.0])
    value, gradient = value_and_gradient(Kl(coefficient=0.1, estimator=estimator), batch, "logps")
    assert value == pytest.approx(0.1 * sum(values) / 2, abs=1e-6)
    torch.testing.assert_close(gradient, 0.1 * torch.tensor([slopes]) / 2, atol=1e-6, rtol=1e-5)
    # With the ratio 2: (2 k)' = 2 k' + 2 k.
    value, gradient = value_and_gradient(
        Kl(coefficient=0.1, estimator=estimator, corrected=True), divergence_batch([0.5, -1.0], ratio=2.0), "logps"
    )
    assert value == pytest.approx(0.1 * sum(values), abs=1e-6)
    expected = 0.1 * (torch.tensor([slopes]) + torch.tensor([values]))
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


def test_k3_is_the_cores_term_bit_for_bit() -> None:
    for share in ("token", "sequence", "constant"):
        batch = whole(random_step(3, (3, 4, 2), 6), share)
        ours, core = Kl(coefficient=0.04).loss_terms(batch), grpo.Defaults("group", 0.2, 0.2, 0.04).loss_terms(batch)
        assert core is not None
        assert ours.keys() == core.keys() == {"kl_loss"}
        assert torch.equal(ours["kl_loss"], core["kl_loss"])


def mean_gradient(explorer: Kl, logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Of the term, over all tokens that the policy may draw, each with its probability."""
    logits = logits.clone().requires_grad_()
    logps = logits.log_softmax(0)
    batch = whole(step_of([[1.0]] * len(logits)))
    batch = dataclasses.replace(
        batch,
        logps=logps[:, None],
        old_logps=logps.detach()[:, None],
        ref_logps=reference.log_softmax(0)[:, None],
        scale=logps.detach().exp()[:, None],
    )
    return torch.autograd.grad(explorer.loss_terms(batch)["kl_loss"], logits)[0]


@pytest.mark.parametrize(
    ("estimator", "corrected", "pulls"),
    [
        ("k1", False, "nowhere"),
        ("k2", False, "KL(policy || reference)"),
        ("k3", False, "KL(reference || policy)"),
        ("k1", True, "KL(policy || reference)"),
        ("k3", True, "KL(policy || reference)"),
    ],
)
def test_what_the_estimators_pull_at(estimator: Any, corrected: bool, pulls: str) -> None:
    """What the docstring says of the mean gradients, on a vocabulary of five, exactly and in float64."""
    generator = torch.Generator().manual_seed(5)
    logits, reference = torch.randn(2, 5, generator=generator, dtype=torch.float64) * 2
    explorer = Kl(coefficient=1.0, estimator=estimator, corrected=corrected)
    leaf = logits.clone().requires_grad_()
    policy, other = leaf.log_softmax(0), reference.log_softmax(0)
    wanted = {
        "nowhere": 0.0 * policy.sum(),
        "KL(policy || reference)": (policy.exp() * (policy - other)).sum(),
        "KL(reference || policy)": (other.exp() * (other - policy)).sum(),
    }
    for name, divergence in wanted.items():
        gradient = torch.autograd.grad(divergence, leaf, retain_graph=True)[0]
        same = torch.allclose(mean_gradient(explorer, logits, reference), gradient, rtol=1e-9, atol=1e-9)
        assert same == (name == pulls), name


def test_the_divergence_is_held() -> None:
    """3 times the target counts as 1.2 times it, 0 as 0.8 times."""
    explorer = Kl(coefficient=0.1, schedule="adaptive", target=0.01)
    found = []
    for kl in (0.03, 0.011, 0.0, math.nan):
        ended(explorer, kl=kl, entropy=1.0)
        found.append(explorer.at(7))
    assert found == pytest.approx([0.102, 0.102 * 1.01, 0.102 * 1.01 * 0.98, 0.102 * 1.01 * 0.98])
    ended(explorer, entropy=1.0)
    assert explorer.at(0) == found[-1], "without the metric nothing changes"
    slow = Kl(coefficient=0.1)
    ended(slow, kl=3.0)
    assert slow.at(0) == 0.1


def test_two_divergences_are_a_mistake() -> None:
    plain = {
        "run": Path("unused"),
        "model": {"name": "unused"},
        "dialect": "funrl",
        "data": {"source": "bfcl"},
        "rewards": {"use": ["ast_match"]},
    }
    assert Kl().recipe_mistakes(Recipe.model_validate(plain)) == []
    (text,) = Kl().recipe_mistakes(Recipe.model_validate({**plain, "train": {"kl": 0.02}}))
    assert "train.kl 0.02 adds a divergence already; set train.kl: 0" in text


# ------------------------------------------------------------------------------------------------- laws, mistakes


@pytest.mark.parametrize(
    "explorer",
    [
        EntropyBonus(schedule="cosine", end=0.0, steps=9, scope="values"),
        AdaptiveEntropy(coefficient=0.001, target=2.0),
        EntropySmoothing(phases=9, window=2),
        Kl(schedule="adaptive", corrected=True),
    ],
    ids=lambda explorer: type(explorer).__name__,
)
def test_the_laws_hold(explorer: object) -> None:
    check_explorer(explorer, examples=1)


@pytest.mark.parametrize(
    ("plugin", "options", "words"),
    [
        (EntropyBonus, {"coefficient": -0.1}, "coefficient must be a number of at least 0, not -0.1"),
        (EntropyBonus, {"coefficient": math.nan}, "coefficient must be a number of at least 0"),
        (EntropyBonus, {"scope": "answer"}, "scope must be one of thinking, calls, names, values, all, not 'answer'"),
        (EntropyBonus, {"schedule": "step"}, "schedule must be one of constant, linear, cosine"),
        (EntropyBonus, {"schedule": "linear", "steps": 5}, "also takes end"),
        (EntropyBonus, {"schedule": "linear", "end": 0.0}, "also takes steps"),
        (EntropyBonus, {"end": 0.0}, "end has no effect with schedule 'constant'"),
        (EntropyBonus, {"schedule": "linear", "end": 0.0, "steps": 0}, "steps must be at least 1, not 0"),
        (AdaptiveEntropy, {"form": "sky"}, "form must be 'skywork' or 'trl'"),
        (AdaptiveEntropy, {"target": -1.0}, "target must be a number of at least 0"),
        (AdaptiveEntropy, {"coefficient": 0.1}, "coefficient must lie between lowest 0.0 and highest 0.005, not 0.1"),
        (AdaptiveEntropy, {"highest": math.inf}, "highest must be a number of at least 0, not inf"),
        (EntropySmoothing, {"low": 1.1}, "low must be a number of at least 0 and at most 1, not 1.1"),
        (EntropySmoothing, {"high": 0.9}, "high must be a number of at least 1, not 0.9"),
        (EntropySmoothing, {"form": "flat"}, "form must be 'distance' or 'step'"),
        (EntropySmoothing, {"level": "row"}, "level must be 'token' or 'sequence'"),
        (EntropySmoothing, {"window": 0}, "window must be at least 1"),
        (EntropySmoothing, {"phases": 0}, "phases must be at least 1"),
        (Kl, {"estimator": "k4"}, "estimator must be one of k1, k2, k3, not 'k4'"),
        (Kl, {"target": 0.1}, "target has no effect with schedule 'constant'"),
        (Kl, {"schedule": "adaptive", "target": 0.0}, "target must be a number above 0, not 0.0"),
        (Kl, {"schedule": "adaptive", "gain": 6.0}, "gain must be a number above 0 and at most 5, not 6.0"),
        (Kl, {"schedule": "adaptive", "coefficient": 0.0}, "coefficient must be above 0 with schedule 'adaptive'"),
        (Kl, {"schedule": "adaptive", "end": 0.1}, "end has no effect with schedule 'adaptive'"),
    ],
)
def test_mistakes_are_named(plugin: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        plugin(**options)
