"""`temperature`: schedules against their formulas, the held entropy, the ladder, and every mistake in the options."""

import itertools
import math

import pytest
import torch
from callwright.testing import check_explorer
from callwright_explorers.temperature import Temperature
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

unhurried = settings(deadline=None)  # the machine may be busy

degrees = st.floats(0.05, 5.0)
lengths = st.integers(1, 1000)


def curve(explorer, steps):
    return [explorer.at(step, steps) for step in range(steps)]


@st.composite
def schedules(draw):
    kind, start, end = draw(st.sampled_from(["linear", "cosine", "step"])), draw(degrees), draw(degrees)
    if kind != "step":
        return Temperature(kind, start, end, steps=draw(st.none() | lengths))
    factor = draw(st.floats(0.01, 0.99) if end < start else st.floats(1.01, 100.0))
    return Temperature(kind, start, end, every=draw(lengths), factor=factor)


@unhurried
@given(degrees, lengths, st.data())
def test_constant_is_the_start_at_every_step(start, steps, data):
    step = data.draw(st.integers(0, steps - 1))
    assert Temperature(start=start).sampling(step, steps, torch.zeros(3)) == {"temperature": start}


@unhurried
@given(schedules(), lengths)
def test_it_starts_at_start_goes_one_way_and_stays_between_start_and_end(explorer, steps):
    temperatures = curve(explorer, steps)
    assert temperatures[0] == pytest.approx(explorer.start)
    low, high = sorted((explorer.start, explorer.end))
    assert all(low * (1 - 1e-9) <= t <= high * (1 + 1e-9) for t in temperatures)
    down = explorer.end < explorer.start
    assert all(
        (later <= sooner + 1e-9) if down else (later >= sooner - 1e-9)
        for sooner, later in itertools.pairwise(temperatures)
    )


@unhurried
@given(st.sampled_from(["linear", "cosine"]), degrees, degrees, st.integers(2, 1000))
def test_the_last_step_is_at_the_end_and_the_curve_is_symmetric(schedule, start, end, steps):
    temperatures = curve(Temperature(schedule, start, end), steps)
    assert temperatures[-1] == pytest.approx(end)
    for sooner, later in zip(temperatures, reversed(temperatures), strict=True):
        assert sooner + later == pytest.approx(start + end)


@unhurried
@given(st.sampled_from(["linear", "cosine"]), degrees, degrees, st.integers(1, 50), st.integers(51, 100))
def test_own_steps_replace_those_of_the_run_and_the_end_holds_after_them(schedule, start, end, own, of_the_run):
    explorer, whole = Temperature(schedule, start, end, steps=own), Temperature(schedule, start, end)
    temperatures = curve(explorer, of_the_run)
    assert temperatures[:own] == curve(whole, own)
    assert all(t == pytest.approx(end) for t in temperatures[max(own, 2) :])


def test_formulas_by_hand():
    assert curve(Temperature("linear", 1.0, 0.6), 5) == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])
    quarter = 0.6 + 0.4 * (1 + math.cos(math.pi / 4)) / 2
    assert Temperature("cosine", 1.0, 0.6).at(1, 5) == pytest.approx(quarter)
    stairs = Temperature("step", 1.0, 0.3, every=2, factor=0.5)
    assert curve(stairs, 7) == pytest.approx([1.0, 1.0, 0.5, 0.5, 0.3, 0.3, 0.3])


def test_stairs_stay_finite_in_a_very_long_run():
    assert Temperature("step", 1.0, 2.0, every=1, factor=10.0).at(10**6, 10**6) == 2.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 0.0}, "start must be a number above 0"),
        ({"start": math.nan}, "start must be a number above 0"),
        ({"start": math.inf}, "start must be a number above 0"),
        ({"schedule": "linear"}, "also takes end"),
        ({"schedule": "cosine", "end": -1.0}, "end must be a number above 0"),
        ({"schedule": "constant", "end": 0.5}, "end has no effect"),
        ({"schedule": "linear", "end": 0.5, "factor": 0.5}, "factor has no effect"),
        ({"schedule": "linear", "end": 0.5, "steps": 0}, "steps must be at least 1"),
        ({"schedule": "step", "end": 0.5, "every": 5}, "also takes factor"),
        ({"schedule": "step", "end": 0.5, "every": 0, "factor": 0.5}, "every must be at least 1"),
        ({"schedule": "step", "end": 0.5, "every": 5, "factor": 1.5}, "never leads from start 1.0 to end 0.5"),
        ({"schedule": "step", "end": 1.5, "every": 5, "factor": 1.0}, "never leads"),
        ({"schedule": "stair"}, "schedule must be one of constant, linear, cosine, step, adaptive"),
        ({"target": 0.5}, "target has no effect with schedule 'constant'"),
        ({"schedule": "adaptive", "end": 0.5}, "end has no effect"),
        ({"schedule": "adaptive", "target": 0.0}, "target must be a number above 0, not 0.0"),
        ({"schedule": "adaptive", "anneal": 1.5}, "anneal must be above 0 and at most 1, not 1.5"),
        ({"schedule": "adaptive", "anneal": 0.9, "anneal_share": 0.0}, "anneal_share must be above 0 and at most 1"),
        ({"schedule": "adaptive", "anneal_share": 0.4}, "anneal_share has no effect without anneal"),
        ({"schedule": "adaptive", "lowest": -1.0}, "lowest must be a number above 0, not -1.0"),
        ({"schedule": "adaptive", "highest": math.nan}, "highest must be a number above 0, not nan"),
        ({"schedule": "adaptive", "start": 3.0}, "start must lie between lowest 0.1 and highest 2.0, not 3.0"),
        ({"schedule": "adaptive", "vocabulary": 2}, "vocabulary must be at least 3, not 2"),
        ({"ladder": (0.0, 1.0)}, "ladder must hold two numbers above 0"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Temperature(**options)


@unhurried
@given(schedules())
def test_options_from_a_recipe_make_the_same_explorer(explorer):
    assume(explorer.start != explorer.end)
    options = {key: value for key, value in vars(explorer).items() if value is not None and key[0] != "_"}
    assert TypeAdapter(Temperature).validate_python(options) == explorer
    with pytest.raises(ValidationError, match="start must be a number above 0"):
        TypeAdapter(Temperature).validate_python(options | {"start": 0})


# ------------------------------------------------------------------------------------------------ a held entropy

GAIN = math.log(151_936) + math.log(math.log(151_936))


def after(explorer, entropies, steps=10):
    """Temperatures of the steps behind each of these entropies."""
    found = []
    for step, entropy in enumerate(entropies):
        explorer.sampling(step, steps, torch.zeros(1))
        explorer.step_ended(step, {"entropy": entropy})
        found.append(explorer.at(step + 1, steps))
    return found


def test_the_first_step_measures_and_the_next_ones_move_towards_it_by_hand():
    first = after(Temperature("adaptive"), [0.4, 0.2, 0.2, 0.8])
    second = 1 + math.log(0.4 / 0.2) / GAIN  # T (1 + T ln(H* / H) / (ln V + ln ln V)) with T = 1
    third = second * (1 + second * math.log(2) / GAIN)
    assert first == pytest.approx([1.0, second, third, third * (1 - third * math.log(2) / GAIN)])
    assert second == pytest.approx(1.0481, abs=1e-4)


def test_a_given_target_is_held_from_the_first_step_on_and_the_vocabulary_sets_the_pace():
    (degrees,) = after(Temperature("adaptive", target=0.3, start=0.8, vocabulary=1000), [0.6])
    assert degrees == pytest.approx(0.8 * (1 + 0.8 * math.log(0.3 / 0.6) / (math.log(1000) + math.log(math.log(1000)))))


def test_the_target_falls_along_a_cosine_as_in_e3():
    """E3's own lines: N steps counted from 1, a = N - int(0.4 N); the target set in step n holds in step n + 1."""
    steps, factor = 10, 0.9
    begin = steps - int(steps * 0.4)
    target, expected, degrees = 0.5, [], 1.0
    for n in range(1, steps + 1):
        degrees *= 1 + degrees * math.log(target / 0.45) / GAIN
        expected.append(degrees)
        if n >= begin:
            progress = (n - begin) / (steps - begin)
            target = 0.5 * ((1 - factor) * 0.5 * (1 + math.cos(math.pi * progress)) + factor)
    assert after(Temperature("adaptive", target=0.5, anneal=0.9), [0.45] * steps, steps) == pytest.approx(expected)
    own = Temperature("adaptive", target=0.5, anneal=0.9, steps=steps)
    assert after(own, [0.45] * steps, steps=1000) == pytest.approx(expected)


@unhurried
@given(st.lists(st.floats(0, 12) | st.just(math.nan), min_size=1, max_size=30), st.floats(0.1, 2.0))
def test_it_stays_within_its_bounds_whatever_the_entropy(entropies, start):
    assert all(0.1 <= degrees <= 2.0 for degrees in after(Temperature("adaptive", start=start), entropies))


def entropy_at(degrees, sharpness=1.0):
    """Mean entropy of a policy of 50 prompts and 40 tokens at a temperature."""
    logits = sharpness * 3 * torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) / degrees
    return float(torch.distributions.Categorical(logits=logits).entropy().mean())


@pytest.mark.parametrize(("start", "target"), [(1.0, 0.8), (1.0, 2.2), (0.4, 1.2), (1.8, 1.0)])
def test_it_arrives_at_the_entropy_that_it_is_to_hold(start, target):
    explorer = Temperature("adaptive", start=start, target=target, vocabulary=40)
    for step in range(300):
        explorer.step_ended(step, {"entropy": entropy_at(explorer.at(step, 300))})
    assert entropy_at(explorer.at(300, 300)) == pytest.approx(target, rel=1e-3)


def test_it_holds_the_first_entropy_while_the_policy_grows_sure():
    """The logits grow by 60 % in 100 steps: alone the entropy falls by more than a third, held by less than a tenth."""
    explorer = Temperature("adaptive", vocabulary=40)
    first = entropy_at(1.0)
    assert entropy_at(1.0, 1.6) < first * 0.65
    for step in range(100):
        explorer.step_ended(step, {"entropy": entropy_at(explorer.at(step, 100), 1 + 0.006 * step)})
    assert entropy_at(explorer.at(100, 100), 1.6) == pytest.approx(first, rel=0.1)


def test_a_resumed_run_goes_on_as_it_was():
    entropies = [0.5, 0.3, 0.7, 0.2, 0.6, 0.4, 0.4, 0.3, 0.5, 0.1]
    whole = after(Temperature("adaptive", anneal=0.8), entropies)
    first, second = (Temperature("adaptive", anneal=0.8) for _ in range(2))
    after(first, entropies[:4])
    second.load_state_dict(first.state_dict())
    for step, entropy in list(enumerate(entropies))[4:]:
        second.sampling(step, 10, torch.zeros(1))
        second.step_ended(step, {"entropy": entropy})
        assert second.at(step + 1, 10) == whole[step]


# ---------------------------------------------------------------------------------------------------- the ladder


def test_rows_of_ragged_groups_stand_on_a_ladder():
    groups = torch.tensor([4, 4, 7, 4, 9, 9, 4])
    (degrees,) = Temperature("linear", 1.0, 2.0, ladder=(0.7, 1.3)).sampling(10, 11, groups).values()
    # The last step's temperature is 2; ranks 0, 1, -, 2, 0, 1, 3 of 4, 4, 1, 4, 2, 2, 4 rows.
    assert degrees.tolist() == pytest.approx([1.4, 1.8, 2.0, 2.2, 1.4, 2.6, 2.6])


@unhurried
@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), degrees, degrees)
def test_ladder_against_one_group_at_a_time(groups, low, high):
    (found,) = Temperature(ladder=(low, high)).sampling(0, 1, torch.tensor(groups)).values()
    for group in set(groups):
        rungs = [t for t, g in zip(found.tolist(), groups, strict=True) if g == group]
        n = len(rungs)
        expected = [low + (high - low) * g / (n - 1) for g in range(n)] if n > 1 else [(low + high) / 2]
        assert rungs == pytest.approx(expected, rel=1e-5)


def test_a_ladder_multiplies_a_held_entropy_too():
    explorer = Temperature("adaptive", target=0.3, ladder=(0.5, 1.5))
    after(explorer, [0.6])
    (found,) = explorer.sampling(1, 10, torch.tensor([0, 0])).values()
    assert found.tolist() == pytest.approx([0.5 * explorer.at(1, 10), 1.5 * explorer.at(1, 10)])
    assert TypeAdapter(Temperature).validate_python({"ladder": [0.5, 1.5]}) == Temperature(ladder=(0.5, 1.5))


@pytest.mark.parametrize(
    "explorer",
    [
        Temperature("cosine", 1.2, 0.7),
        Temperature("adaptive"),
        Temperature("adaptive", target=1.0, anneal=0.9, ladder=(0.8, 1.2)),
    ],
)
def test_laws(explorer):
    check_explorer(explorer, examples=4)
