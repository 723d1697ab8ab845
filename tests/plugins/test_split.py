"""The stage `split`."""

import hashlib
import math
from collections import Counter

import pytest
from callwright import Task, Tool
from callwright.testing.strategies import tasks as any_task
from callwright_data.sources.bfcl import Bfcl
from callwright_data.stages.split import Split
from hypothesis import given, settings
from hypothesis import strategies as st

SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.4])
SPLITS = st.builds(Split, SHARES, SHARES, st.sampled_from(["id", "question", "tools"]), st.integers(0, 3))
ROWS = st.lists(any_task(max_tools=1), max_size=4, unique_by=lambda task: task.id)


def parts(stage, tasks):
    return {task.id: task.meta["split"] for task in stage.apply(tasks)}


@settings(max_examples=50)
@given(SPLITS, ROWS, ROWS, st.randoms(use_true_random=False))
def test_other_rows_never_change_a_part(stage, tasks, more, rng):
    together = list({task.id: task for task in [*tasks, *more]}.values())
    rng.shuffle(together)
    assert parts(stage, tasks).items() <= parts(stage, together).items()


@given(SPLITS, ROWS)
def test_only_the_part_is_written(stage, tasks):
    for before, after in zip(tasks, stage.apply(tasks), strict=True):
        assert after.meta == {**before.meta, "split": after.meta["split"]}
        assert after == Task(before.id, before.messages, before.tools, before.answer, after.meta)
        assert "split" not in before.meta
        assert next(iter(stage.apply([after]))) is after


@given(st.text(), st.integers(0, 9))
def test_the_part_is_where_the_hash_falls(name, seed):
    text = f"{seed}:{name}".encode(errors="surrogatepass")
    place = int(hashlib.sha256(text).hexdigest()[:16], 16) / 16**16
    expected = "held_out" if place < 0.3 else "validation" if place < 0.5 else "train"
    assert parts(Split(0.3, 0.2, seed=seed), [Task(name, ())]) == {name: expected}


@pytest.mark.parametrize("seed", range(5))
def test_shares_approach_the_target(seed):
    n = 20_000
    counts = Counter(parts(Split(0.1, 0.05, seed=seed), [Task(f"row-{i}", ()) for i in range(n)]).values())
    for part, share in (("held_out", 0.1), ("validation", 0.05), ("train", 0.85)):
        assert abs(counts[part] / n - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_a_part_that_grows_keeps_its_rows():
    tasks = [Task(f"row-{i}", ()) for i in range(1000)]
    before, after = parts(Split(0.1, 0.1), tasks), parts(Split(0.1, 0.3), tasks)
    assert all(after[name] == part for name, part in before.items() if part != "train")
    assert parts(Split(0.1, seed=1), tasks) != parts(Split(0.1, seed=2), tasks)


def test_rows_with_the_same_question_or_tools_stay_together():
    tasks = list(Bfcl(["live_multiple"]).load())
    by_tools = parts(Split(0.3, 0.2, by="tools"), tasks)
    groups = {}
    for task in tasks:
        names = frozenset((tool.name, frozenset(tool.parameters["properties"])) for tool in task.tools)
        groups.setdefault(names, set()).add(by_tools[task.id])
    assert len(groups) < len(tasks) / 3
    assert all(len(found) == 1 for found in groups.values())
    assert {part for found in groups.values() for part in found} == {"train", "validation", "held_out"}

    again = [Task(f"{t.id} again", ({"role": "user", "content": t.messages[-1]["content"].upper()},)) for t in tasks]
    first = [Task(t.id, ({"role": "user", "content": t.messages[-1]["content"]},), (Tool("f"),)) for t in tasks]
    by_question = parts(Split(0.3, 0.2, by="question"), [*first, *again])
    assert all(by_question[task.id] == by_question[f"{task.id} again"] for task in tasks)
