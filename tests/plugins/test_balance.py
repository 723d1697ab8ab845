"""The stages `balance` and `limit`."""

import math
from collections import Counter

import pytest
from callwright import Answer, Dropped, ExpectedCall, Task, Tool
from callwright_data.sources.bfcl import Bfcl
from callwright_data.stages.balance import Balance
from callwright_data.stages.limit import Limit
from hypothesis import given
from hypothesis import strategies as st


def kept(stage, tasks):
    return [result for result in stage.apply(tasks) if isinstance(result, Task)]


def rows(categories):
    return [Task(f"t{n}", (), meta={"category": category}) for n, category in enumerate(categories)]


CLASSES = st.sampled_from(["a", "b", None, "None", 1, "1", True, 1.5, [1], {"x": []}])
ROWS = st.lists(CLASSES, max_size=30).map(rows)


def counts(tasks):
    return Counter(repr(task.meta["category"]) for task in tasks)


@given(ROWS, st.integers(1, 5), st.integers(0, 3))
def test_most(tasks, most, seed):
    left = kept(Balance(most=most, seed=seed), tasks)
    assert counts(left) == {name: min(size, most) for name, size in counts(tasks).items()}
    assert left == [task for task in tasks if task in left]


@given(ROWS, st.floats(1, 4))
def test_ratio(tasks, ratio):
    sizes = counts(tasks)
    most = math.floor(ratio * min(sizes.values(), default=0))
    assert counts(kept(Balance(ratio=ratio), tasks)) == {name: min(size, most) for name, size in sizes.items()}


@given(ROWS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_choose_them(tasks, most, rng):
    shuffled = rng.sample(tasks, len(tasks))
    for stage in (Balance(most=most, seed=1), Limit(most, seed=1)):
        assert sorted(t.id for t in kept(stage, shuffled)) == sorted(t.id for t in kept(stage, tasks))


@given(ROWS, ROWS, st.integers(1, 5))
def test_added_rows_let_no_other_row_in(tasks, more, most):
    more = [Task(f"more {task.id}", (), meta=task.meta) for task in more]
    for stage in (Balance(most=most), Limit(most, seed=1)):
        after = [task for task in kept(stage, [*tasks, *more]) if task in tasks]
        before = kept(stage, tasks)
        assert all(task in before for task in after)


def test_by_calls_and_by_tools():
    f, call = Tool("f"), ExpectedCall("f", {})
    answers = [None, None, Answer(), Answer((call,)), Answer((call, call)), Answer((call, call))]
    tasks = [Task(f"t{n}", (), (f,) * (n % 2), answer) for n, answer in enumerate(answers)]
    left = kept(Balance(by="calls", most=1), tasks)
    assert [task.answer and len(task.answer.calls) for task in left] == [None, 0, 1, 2]
    assert Counter(len(task.tools) for task in kept(Balance(by="tools", most=2), tasks)) == {0: 2, 1: 2}


def test_infinite_ratio_and_other_key():
    tasks = [Task(f"t{n}", (), meta={"level": n % 3 == 0}) for n in range(10)]
    assert kept(Balance(key="level", ratio=math.inf), tasks) == tasks
    assert len(kept(Balance(key="level", ratio=1), tasks)) == 8
    assert len(kept(Balance(most=3), tasks)) == 3  # no row has a category: one class


def test_bfcl_categories():
    tasks = list(Bfcl(["simple_python", "live_multiple", "live_parallel"]).load())
    results = list(Balance(most=200, seed=1).apply(tasks))
    assert Counter(r.meta["category"] for r in results if isinstance(r, Task)) == {
        "simple_python": 200,
        "live_multiple": 200,
        "live_parallel": 16,
    }
    messages = Counter((r.code, r.message) for r in results if isinstance(r, Dropped))
    assert messages == {
        ("over_represented", 'category "simple_python": 400 rows, of which 200 are kept'): 200,
        ("over_represented", 'category "live_multiple": 1053 rows, of which 200 are kept'): 853,
    }


# ---------------------------------------------------------------------------------------------------------- limit


@given(ROWS, st.integers(1, 40), st.none() | st.integers(0, 3))
def test_limit(tasks, limit, seed):
    left = kept(Limit(limit, seed), tasks)
    assert len(left) == min(limit, len(tasks))
    assert left == [task for task in tasks if task in left]
    if seed is None:
        assert left == tasks[:limit]


def test_limit_says_why():
    _, first = Limit(1).apply(rows("ab"))
    assert (first.code, first.message) == ("over_limit", "is not among the first 1 rows")
    dropped = [result for result in Limit(1, seed=4).apply(rows("ab")) if isinstance(result, Dropped)]
    assert [d.message for d in dropped] == ["is not in the sample of 1 of 2 rows (seed 4)"]


@pytest.mark.parametrize("stage", [Limit, lambda most, seed: Balance(most=most, seed=seed)], ids=["limit", "balance"])
def test_every_row_is_as_likely_as_the_others(stage):
    tasks, draws = rows("a" * 20), 2000
    times = Counter(task.id for seed in range(draws) for task in kept(stage(5, seed), tasks))
    deviation = math.sqrt(draws * 0.25 * 0.75)
    assert all(abs(times[task.id] - draws * 0.25) < 4.5 * deviation for task in tasks)
