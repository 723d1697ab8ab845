"""The stage `few_shot`: rows that become worked examples for all others."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from callwright import Answer, Dropped, ExpectedCall, ParseStatus, Task, Tool
from callwright.testing import check_stage
from callwright.testing.scoring import rollouts_of
from callwright.testing.strategies import tasks as any_task
from callwright_data.sources.bfcl import CATEGORIES, Bfcl
from callwright_data.stages.few_shot import FewShot
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.ast_match import AstMatch
from dialect_replies import CASES
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def bfcl():
    return list(Bfcl(list(CATEGORIES), limit=40).load())


def split(results):
    return [r for r in results if isinstance(r, Task)], [r.task for r in results if isinstance(r, Dropped)]


@pytest.mark.parametrize("examples", [1, 3])
def test_laws(examples):
    check_stage(FewShot(examples), examples=5)


@settings(max_examples=20)
@given(
    rows=st.lists(any_task(), max_size=6),
    examples=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_every_row_carries_what_was_taken_out(rows, examples, seed):
    rows = [replace(row, id=str(n)) for n, row in enumerate(rows)]
    results = list(FewShot(examples, seed=seed).apply(rows))
    kept, taken = split(results)
    assert len(taken) == max(0, min(examples, len(rows) - 1))
    carried = {json.dumps(task.meta.get("examples")) for task in kept}
    assert len(carried) <= 1
    questions = {example["question"] for task in kept for example in task.meta.get("examples", [])}
    assert questions == {task.messages[0]["content"] for task in taken}
    for before, after in zip(rows, results, strict=True):
        if isinstance(after, Task):
            assert after == replace(before, meta={**before.meta, **after.meta})
        else:
            assert after.task is before
            assert after.code == "used_as_example"


def test_examples_are_right(bfcl):
    """Each is what the rewards give full marks for, written in every dialect."""
    results = list(FewShot(10).apply(bfcl))
    kept, taken = split(results)
    examples = kept[0].meta["examples"]
    assert len(examples) == len(taken) == 10
    by_question = {task.messages[-1]["content"]: task for task in taken}
    for case in CASES.values():
        tasks = [by_question[example["question"]] for example in examples]
        prompt = case.dialect.prompt(replace(kept[0], meta={"examples": examples}))
        replies = [m["content"] for m in prompt.messages if m["role"] == "assistant"][:10]
        verdicts = AstMatch().score(rollouts_of(case.dialect, tasks, replies))
        assert [v.score for v in verdicts] == [1.0] * 10


def calls_of(task):
    return min(3, len(task.answer.calls))


def test_kinds_differ(bfcl):
    _, taken = split(list(FewShot(8).apply(bfcl)))
    assert Counter(map(calls_of, taken)) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert len({task.meta["category"] for task in taken}) >= 6


def test_short_ones_are_taken(bfcl):
    def length(task):
        return len(repr([task.messages, task.tools, task.answer]))

    _, taken = split(list(FewShot(8).apply(bfcl)))
    for task in taken:
        same = [t for t in bfcl if t.meta["category"] == task.meta["category"] and t.answer and len(t.messages) == 1]
        shorter = [t for t in same if calls_of(t) == calls_of(task) and length(t) < length(task)]
        assert len(shorter) < 16


def test_the_seed_chooses(bfcl):
    ids = [tuple(task.id for task in split(list(FewShot(3, seed=seed).apply(bfcl)))[1]) for seed in range(8)]
    assert len(set(ids)) > 4
    backwards = split(list(FewShot(3, seed=0).apply(bfcl[::-1])))[1]
    assert set(ids[0]) == {task.id for task in backwards}  # the order of the rows does not matter


def test_prompts_share_their_beginning(bfcl):
    kept, _ = split(list(FewShot(3).apply(bfcl)))
    dialect = PythonCalls(instruction="Call.")
    beginnings = Counter(json.dumps(dialect.prompt(task).messages[:7]) for task in kept if task.messages)
    assert len(beginnings) == 1


ADD = Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]})


def row(name, arguments, question="Add it.", tools=(ADD,)):
    answer = None if arguments is None else Answer((ExpectedCall("add", arguments),))
    return Task(name, ({"role": "user", "content": question},), tools, answer)


@pytest.mark.parametrize(
    "unsuited",
    [
        row("no answer", None),
        row("no list", {"a": 3}),
        row("no value", {"a": []}),
        row("no question", {"a": [3]}, question=" "),
        row("no such tool", {"a": [3]}, tools=()),
        replace(row("no message", {"a": [3]}), messages=("Add it.",)),
        replace(row("two turns", {"a": [3]}), messages=({"role": "user", "content": "a"},) * 2),
        replace(row("no text", {"a": [3]}), messages=({"role": "user", "content": [{"text": "a"}]},)),
    ],
    ids=lambda task: task.id,
)
def test_rows_that_are_no_examples(unsuited):
    _, taken = split(list(FewShot(1).apply([unsuited, row("good", {"a": [3]})])))
    assert [task.id for task in taken] == ["good"]


def test_optional_arguments_and_objects():
    tasks = [row("a", {"a": ["", 3], "b": [{"c": ["x", "y"], "d": [""]}], "e": [""]}), row("b", None)]
    _, kept = FewShot(1).apply(tasks)
    calls = [{"name": "add", "arguments": {"a": 3, "b": {"c": "x"}}}]
    assert kept.meta["examples"] == [{"question": "Add it.", "tools": [ADD.to_json()], "calls": calls}]


class _Context:
    class components:
        dialect = PythonCalls()


def test_a_row_that_the_dialect_cannot_write_is_not_taken():
    huge = row("huge", {"a": [float("inf")]})
    stage = FewShot(1)
    stage.prepare(_Context())
    assert [task.id for task in split(list(stage.apply([huge, row("good", {"a": [3]})])))[1]] == ["good"]


def test_no_call_is_shown_as_words():
    nothing = Task("none", ({"role": "user", "content": "Hello"},), (ADD,), Answer())
    kept, _ = split(list(FewShot(1).apply([nothing, row("b", None)])))
    for case in CASES.values():
        reply = case.dialect.prompt(kept[0]).messages[-2]["content"]
        parse = case.dialect.parse(reply)
        assert parse.status is ParseStatus.NO_CALL
        assert parse.problems == ()


def test_options():
    with pytest.raises(ValueError, match="at least 1"):
        FewShot(0)
