"""`temperature`: schedules against their formulas, bounds, ends, and every mistake in the options."""

import itertools
import math

import pytest
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
    assert Temperature(start=start).sampling(step, steps) == {"temperature": start}


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
        ({"schedule": "stair"}, "schedule must be one of constant, linear, cosine, step"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Temperature(**options)


@unhurried
@given(schedules())
def test_options_from_a_recipe_make_the_same_explorer(explorer):
    assume(explorer.start != explorer.end)
    options = {key: value for key, value in vars(explorer).items() if value is not None}
    assert TypeAdapter(Temperature).validate_python(options) == explorer
    with pytest.raises(ValidationError, match="start must be a number above 0"):
        TypeAdapter(Temperature).validate_python(options | {"start": 0})
