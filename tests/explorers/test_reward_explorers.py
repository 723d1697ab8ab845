"""Explorers that add to the reward: unlikeliness, novel_calls, diversity."""

import json
import math
from collections import Counter

import pytest
import torch
from callwright import Argument, Call, Parse, ParseStatus, Task
from callwright.call_keys import canonical, key_of_calls
from callwright.testing import check_explorer, rollouts_of
from callwright_dialects.python_calls import PythonCalls
from callwright_explorers._calls import items_of, similarity
from callwright_explorers.diversity import Diversity
from callwright_explorers.novel_calls import NovelCalls
from callwright_explorers.unlikeliness import Unlikeliness
from hypothesis import given, settings
from hypothesis import strategies as st

NAN = math.nan
quick = settings(max_examples=25)


def step_of(texts, totals, groups=None, logps=None):
    """Rows with these texts and combined rewards; `logps`: log-probabilities of their tokens, the rest is padding."""
    rollouts = rollouts_of(PythonCalls(instruction="Call."), Task("t", ()), texts)
    rollouts.group_ids = torch.tensor([0] * len(texts) if groups is None else groups)
    rollouts.tasks = [Task(f"t{group}", ()) for group in rollouts.group_ids.tolist()]
    rollouts.total = torch.tensor(totals, dtype=torch.float32)
    rollouts.rewards = {"reward": rollouts.total.clone()}
    if logps is not None:
        width = max(map(len, logps))
        rollouts.mask = torch.arange(width) < torch.tensor([len(row) for row in logps])[:, None]
        rollouts.policy_logps = torch.tensor([row + [-99.0] * (width - len(row)) for row in logps])
    return rollouts


def close(given, expected):
    torch.testing.assert_close(given, torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "explorer",
    [
        Unlikeliness(threshold=0.25),
        Unlikeliness(beta=1.0, likelihood="sum", threshold=0.0),
        NovelCalls(),
        NovelCalls(over="history", strength=0.5, values=False, only_correct=True, threshold=0.5, remember=3),
        Diversity(strength=0.3),
    ],
    ids=repr,
)
def test_laws(explorer):
    check_explorer(explorer, examples=2)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Unlikeliness(beta=1.1), "beta must be between 0 and 1, not 1.1"),
        (lambda: Unlikeliness(likelihood="max"), "likelihood must be 'mean' or 'sum', not 'max'"),
        (lambda: Unlikeliness(threshold=NAN), "threshold must be a finite number, not nan"),
        (lambda: NovelCalls(strength=-1.0), "strength must be a number of at least 0, not -1.0"),
        (lambda: NovelCalls(strength=math.inf), "strength must be a number of at least 0, not inf"),
        (lambda: NovelCalls(over="run"), "over must be 'group' or 'history', not 'run'"),
        (lambda: NovelCalls(remember=0), "remember must be at least 1, not 0"),
        (lambda: NovelCalls(threshold=math.inf), "threshold must be a finite number, not inf"),
        (lambda: Diversity(strength=-0.1), "strength must be between 0 and 1, not -0.1"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()


# ----------------------------------------------------------------------------------------------------- unlikeliness


def test_unlikeliness_by_hand():
    """Means of -1, -2, -3, -4 nats: ranks 3, 2, 1, 0 of 4. Row 1 is wrong: it takes its rank and loses nothing."""
    logps = [[-1.0], [-2.0, -2.0], [-2.0, -4.0], [-4.0]]
    rollouts = step_of(["a"] * 4, [1.0, 0.0, 1.0, 1.0], logps=logps)
    close(Unlikeliness().shape_rewards(rollouts), [-0.25 * 3 / 4, 0.0, -0.25 * 1 / 4, 0.0])
    # Sums of -1, -4, -6, -4: ranks 3, 1.5, 0, 1.5.
    close(Unlikeliness(likelihood="sum").shape_rewards(rollouts), [-0.25 * 3 / 4, 0.0, 0.0, -0.25 * 1.5 / 4])


def test_unlikeliness_of_equals_of_one_row_and_without_rows():
    rollouts = step_of(
        ["a"] * 6,
        [1.0, 1.0, 2.0, 1.0, NAN, NAN],
        groups=[0, 0, 0, 1, 1, 2],
        logps=[[-1.0], [-1.00002], [-1.0], [-1.0], [0.0], [0.0]],
    )
    # Three equals: each has rank (0 + 1 + 2) / 3 = 1 of 3. A row alone has rank 0.
    close(Unlikeliness().shape_rewards(rollouts), [-0.25 / 3, -0.25 / 3, -0.5 / 3, 0.0, 0.0, 0.0])


def test_a_group_of_right_rows_is_not_flat_any_more():
    rollouts = step_of(["a"] * 4, [1.0] * 4, logps=[[-1.0], [-2.0], [-3.0], [-4.0]])
    shaped = rollouts.total + Unlikeliness().shape_rewards(rollouts)
    assert shaped.tolist() == sorted(shaped.tolist())
    assert len(set(shaped.tolist())) == 4


@quick
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, NAN]), st.integers(-9, 0)), min_size=1, max_size=9)
)
def test_unlikeliness_is_the_published_code_for_distinct_likelihoods(rows):
    """Of 0 and 1, its `score * (1 - argsort(argsort(mean logp)) / G * penalty)` in plain Python."""
    groups, totals, logps = zip(*rows, strict=True)
    logps = [float(logp) + place / 16 for place, logp in enumerate(logps)]
    delta = Unlikeliness().shape_rewards(step_of(["a"] * len(rows), list(totals), list(groups), [[x] for x in logps]))
    for row, (group, total) in enumerate(zip(groups, totals, strict=True)):
        own = [i for i, other in enumerate(groups) if other == group and not math.isnan(totals[i])]
        rank = sorted(own, key=lambda i: logps[i]).index(row) if row in own else 0
        expected = total * (1 - rank / len(own) * 0.25) - total if total == 1.0 else 0.0
        assert float(delta[row]) == pytest.approx(expected, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ novel_calls


def test_novel_calls_by_hand():
    """[f(a=1), g()] in either order twice, f(a=2) once; no bonus without a call or for a row that takes no part."""
    texts = ["[f(a=1), g()]", "[g(), f(a=1)]", "[f(a=2)]", "No.", "[f(a=2)]"]
    rollouts = step_of(texts, [0.0, 1.0, 1.0, 1.0, NAN])
    shared = 0.1 / math.sqrt(2)
    close(NovelCalls().shape_rewards(rollouts), [shared, shared, 0.1, 0.0, 0.0])
    close(NovelCalls(only_correct=True).shape_rewards(rollouts), [0.0, shared, 0.1, 0.0, 0.0])


def test_values_may_be_left_out():
    rollouts = step_of(["[f(a=1)]", "[f(a=2)]", "[f(b=2)]", "[f(a=1)]"], [0.0] * 4, groups=[0, 0, 0, 1])
    shared = 0.1 / math.sqrt(2)
    close(NovelCalls(values=False).shape_rewards(rollouts), [shared, shared, 0.1, 0.1])
    close(NovelCalls().shape_rewards(rollouts), [0.1] * 4)


def test_the_history_counts_by_task_and_not_what_was_replayed():
    explorer = NovelCalls(over="history")
    rollouts = step_of(["[f(a=1)]", "[f(a=1)]", "[f(a=1)]", "[f(a=1)]"], [0.0] * 4, groups=[0, 0, 0, 1])
    rollouts.off_policy[2] = True
    close(explorer.shape_rewards(rollouts), [0.1 / math.sqrt(3)] * 3 + [0.1])
    explorer.step_ended(rollouts)  # twice for task t0, once for t1
    close(explorer.shape_rewards(rollouts), [0.1 / math.sqrt(5)] * 3 + [0.1 / math.sqrt(2)])
    again = NovelCalls(over="history")
    again.load_state_dict(json.loads(json.dumps(explorer.state_dict())))
    assert torch.equal(again.shape_rewards(rollouts), explorer.shape_rewards(rollouts))
    plain = NovelCalls()
    plain.step_ended(rollouts)
    assert plain.state_dict() == {"history": []}


def test_the_history_forgets_what_it_has_not_seen_for_longest():
    explorer = NovelCalls(over="history", remember=2)
    for value in (1, 2, 1, 3):  # 2 is the one not seen for longest when 3 comes
        explorer.step_ended(step_of([f"[f(a={value})]"], [0.0]))
    assert sorted(count for _, count in explorer.state_dict()["history"]) == [1, 2]
    fresh = [float(explorer.shape_rewards(step_of([f"[f(a={value})]"], [0.0]))) for value in (1, 2, 3)]
    assert fresh == pytest.approx([0.1 / math.sqrt(3), 0.1, 0.1 / math.sqrt(2)])


# ------------------------------------------------------------------------------------------------------------- keys

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
calls = st.lists(
    st.builds(
        lambda name, arguments: Call(
            name, tuple(Argument(key, value, None, (0, 0)) for key, value in arguments.items()), (0, 0), (0, 0)
        ),
        st.text(max_size=4),
        st.dictionaries(st.text(max_size=3), values, max_size=3),
    ),
    max_size=4,
)


def shuffled(call, random):
    return Call(call.name, tuple(random.sample(call.arguments, len(call.arguments))), call.span, call.name_span)


@quick
@given(calls, st.booleans(), st.randoms(use_true_random=False))
def test_keys_and_items_are_free_of_order(calls, values, random):
    other = [shuffled(call, random) for call in random.sample(calls, len(calls))]
    assert key_of_calls(tuple(calls), values=values) == key_of_calls(tuple(other), values=values)
    first, second = (Parse("", ParseStatus.CALLS, tuple(some)) for some in (calls, other))
    assert items_of(first) == items_of(second)
    assert similarity(items_of(first), items_of(second)) == 1.0


@quick
@given(calls, calls)
def test_similarity_is_a_symmetric_share(first, second):
    one, two = (items_of(Parse("", ParseStatus.CALLS, tuple(some))) for some in (first, second))
    assert 0.0 <= similarity(one, two) <= 1.0
    assert similarity(one, two) == similarity(two, one)


def test_keys_tell_types_positions_and_boundaries_apart():
    assert len({canonical(value) for value in (1, 1.0, True, "1", None, [1], {"1": 1}, NAN)}) == 8
    assert canonical({"b": 1, "a": [(2,), {3, 4}]}) == canonical({"a": [[2], [3, 4]], "b": 1})
    assert canonical({1: 2, "a": 3}) == '{"a":3,1:2}'

    def key(text):
        return key_of_calls(PythonCalls(instruction="").parse(text).calls)

    texts = ["[f(a=1)]", "[f(1)]", "[f(a='1')]", "[f(a=1), f(a=1)]", "[f(), f(a=1)]", "[f(a=1, b=2)]", "[f(1, 2)]"]
    assert len(set(map(key, texts))) == len(texts)
    assert key("[f(2, 1)]") != key("[f(1, 2)]")


# -------------------------------------------------------------------------------------------------------- diversity


def test_diversity_by_hand():
    """Items of f(a=1, b=2): f, (f, a, 1), (f, b, 2). With f(a=1, b=3) it shares 2 of 4, with g(a=1) nothing."""
    texts = ["[f(a=1, b=2)]", "[f(b=3, a=1)]", "[g(a=1)]", "[f(a=1, b=2)]"]
    rollouts = step_of(texts, [1.0, 1.0, 0.5, NAN])
    close(Diversity().shape_rewards(rollouts), [1 / 1.5 - 1, 1 / 1.5 - 1, 0.0, 0.0])
    close(Diversity(strength=0.3).shape_rewards(rollouts)[:3], [0.3 * (1 / 1.5 - 1)] * 2 + [0.0])


def test_similarity_counts_equal_calls_as_often_as_they_are_made():
    """One f(a=1) beside two: 2 shared items of 4."""
    one, two = (items_of(PythonCalls(instruction="").parse(text)) for text in ("[f(a=1)]", "[f(a=1), f(a=1)]"))
    assert similarity(one, two) == 0.5


def test_completions_without_calls():
    parses = [
        Parse("no", ParseStatus.NO_CALL),
        Parse("never", ParseStatus.NO_CALL),
        Parse("[f(", ParseStatus.UNPARSABLE),
        Parse("[g(", ParseStatus.UNPARSABLE),
        Parse("[g(", ParseStatus.UNPARSABLE),
    ]
    rollouts = step_of(["a"] * 5, [1.0] * 5)
    rollouts.parses = parses
    close(Diversity().shape_rewards(rollouts), [-0.5, -0.5, 0.0, -0.5, -0.5])


@quick
@given(st.lists(st.sampled_from([0.25, 1.0, -1.0]), min_size=1, max_size=8))
def test_equal_calls_share_the_reward(totals):
    rollouts = step_of(["[f(a=1)]"] * len(totals), totals)
    close(rollouts.total + Diversity().shape_rewards(rollouts), [total / len(totals) for total in totals])


rows = st.lists(
    st.tuples(st.sampled_from(["[f(a=1)]", "[f(a=2)]", "[g(a=1), f()]", "No."]), st.sampled_from([0.0, 1.0, NAN])),
    min_size=1,
    max_size=7,
)


@quick
@given(st.lists(rows, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_groups_do_not_see_each_other(groups, random):
    """Alone or together and in any order, a row's bonus is the same."""
    explorers = [Diversity(), NovelCalls(), Unlikeliness()]
    together = [(number, *row) for number, rows in enumerate(groups) for row in rows]
    random.shuffle(together)
    numbers, texts, totals = zip(*together, strict=True)
    for explorer in explorers:
        joint = explorer.shape_rewards(step_of(texts, list(totals), list(numbers)))
        for number in range(len(groups)):
            own = [i for i, n in enumerate(numbers) if n == number]
            alone = explorer.shape_rewards(step_of([texts[i] for i in own], [totals[i] for i in own]))
            torch.testing.assert_close(joint[own], alone, equal_nan=True)


@quick
@given(rows)
def test_the_bonus_of_all_distinct_calls_is_a_root_of_how_often_they_were_made(rows):
    """Summed over the rows of one key, n strength / sqrt(n)."""
    texts, totals = zip(*rows, strict=True)
    delta = NovelCalls(strength=1.0).shape_rewards(step_of(texts, list(totals)))
    counts = Counter(text for text, total in rows if text != "No." and not math.isnan(total))
    assert float(delta.sum()) == pytest.approx(sum(map(math.sqrt, counts.values())), abs=1e-4)
