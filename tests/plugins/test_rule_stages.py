"""What all rule stages over the whole set hold to: the laws, any row, rows on disk; and the keys that they compare."""

import json
import pickle
import random

import pyarrow as pa
import pytest
from callwright import Answer, CallwrightError, Corrected, Dropped, ExpectedCall, Task, Tool
from callwright.pipeline.rows import SCHEMA, Rows, to_row
from callwright.plugins import build_component
from callwright.testing import check_stage
from callwright.testing.stage_laws import odd_tasks
from callwright_data.sources.bfcl import Bfcl
from callwright_data.stages._row_keys import exact_key, normalised, question, tool_set, words
from callwright_data.stages.balance import Balance
from callwright_data.stages.decontaminate import Decontaminate
from callwright_data.stages.deduplicate import Deduplicate
from callwright_data.stages.limit import Limit
from callwright_data.stages.split import Split
from hypothesis import given
from hypothesis import strategies as st

FEW = [{"use": "bfcl", "limit": 3}]
STAGES = [
    Deduplicate(),
    Deduplicate(threshold=None),
    Deduplicate(threshold=0.3, ngram=1, within="anywhere", permutations=64, seed=3),
    Decontaminate(),
    Decontaminate(against=FEW, ngram=1, shortest=2, threshold=0.1, near_ngram=1, same_tools=True),
    Split(),
    Split(held_out=0.3, validation=0.3, by="question", seed=1),
    Split(by="tools"),
    Balance(most=1),
    Balance(by="calls", ratio=1.5),
    Balance(by="tools", ratio=1),
    Limit(3),
    Limit(3, seed=1),
]


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def very_odd_tasks():
    """Rows that are no valid rows at all."""
    contents = [None, 3, ["a", None, {"type": "text", "text": "b"}], {"text": 3}, {"url": "x"}, "\ud800", deep(5000)]
    itself = {}
    itself["a"] = itself
    return [
        Task("no message", ("text", 3, None, {}, {"role": ["user"], "content": "x"}, {"tool_calls": [{1: 2, "a": 3}]})),
        *(Task(f"content {n}", ({"role": "user", "content": c},)) for n, c in enumerate(contents)),
        Task("tools", (), (Tool(None, 3, None), Tool("f", "", []), Tool(["f"], "", {"properties": [1]}))),
        Task("schema", (), (Tool("f", "", {"properties": {1: {}, "a": {}}, "enum": [[], {}]}),)),
        Task("values", (), (), Answer((ExpectedCall(None, None), ExpectedCall("f", {"a": {1, 2}, 3: float("nan")})))),
        Task("circle", (), (Tool("f", "", itself),), Answer((ExpectedCall("f", itself),))),
        Task("huge", ({"role": "user", "content": "word " * 20000},), (), None, {"category": 10**5000}),
        Task("\ud800", (), (), None, {"category": {"b": [1], "a": "\ud800"}}),
        Task("meta", (), (), None, {"category": {1: 2, "a": {1}}, "split": ["train"]}),
    ]


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_laws(stage):
    check_stage(stage, examples=3)


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_any_row(stage):
    tasks = [*very_odd_tasks(), *odd_tasks()]
    results = list(stage.apply(tasks))
    assert [r.task.id if isinstance(r, Dropped) else r.id for r in results] == [task.id for task in tasks]
    assert not any(isinstance(r, Corrected) for r in results)
    for task, result in zip(tasks, results, strict=True):
        if isinstance(result, Dropped):
            assert result.task is task
            result.message.encode()
        else:
            assert result is task or (isinstance(stage, Split) and result.meta["split"])


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_rows_on_disk(stage, tmp_path):
    tasks = list(Bfcl(["simple_python", "live_multiple"], limit=60).load())
    tasks += [Task(f"again {task.id}", task.messages, task.tools, task.answer, task.meta) for task in tasks[::7]]
    random.Random(0).shuffle(tasks)
    with pa.OSFile(str(tmp_path / "rows"), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist([to_row(task) for task in tasks], SCHEMA))
    copied = pickle.loads(pickle.dumps(stage))  # as it goes to another process
    assert list(copied.apply(Rows.open(tmp_path / "rows"))) == list(stage.apply(tasks))


def test_nothing_is_drawn_from_global_random_numbers():
    random.seed(7)
    before = random.getstate()
    for stage in STAGES:
        list(stage.apply(odd_tasks()))
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        (Deduplicate, {"threshold": 0.0}, "threshold should be above 0"),
        (Deduplicate, {"threshold": float("nan")}, "threshold should be"),
        (Deduplicate, {"ngram": 0}, "at least 1 word"),
        (Deduplicate, {"permutations": 8}, "16 to 1024"),
        (Deduplicate, {"seed": -1}, "seed should be 0 to"),
        (Deduplicate, {"within": "tool"}, "'tools' or 'anywhere'"),
        (Decontaminate, {"against": []}, "at least one source"),
        (Decontaminate, {"against": [{"path": "x"}]}, "a mapping with `use`"),
        (Decontaminate, {"ngram": 0}, "ngram should be at least 1"),
        (Decontaminate, {"shortest": 1}, "shortest should be at least 2"),
        (Decontaminate, {"threshold": 2.0}, "threshold should be"),
        (Split, {"held_out": 1.0}, "held_out should be"),
        (Split, {"held_out": 0.5, "validation": 0.5}, "together should be less than 1"),
        (Split, {"validation": -0.1}, "validation should be"),
        (Balance, {}, "give either `most`"),
        (Balance, {"most": 3, "ratio": 2.0}, "give either `most`"),
        (Balance, {"most": 0}, "most should be at least 1"),
        (Balance, {"ratio": 0.5}, "ratio should be at least 1"),
        (Limit, {}, "missing"),
        (Limit, {"rows": 0}, "rows should be at least 1"),
    ],
)
def test_options(stage, options, message):
    with pytest.raises(CallwrightError, match=message):
        build_component(stage, options, "data.stages.0")


# ---------------------------------------------------------------------------------------------------------- the keys


def asked(text, tools=(), answer=None):
    return Task("t", ({"role": "user", "content": text},), tools, answer)


@given(st.text())
def test_normalised_texts_stay_as_they_are(text):
    assert normalised(normalised(text)) == normalised(text)
    assert words(normalised(text)) == words(text)


def test_words():
    assert words("What's  the WEATHER, in\tStraße 5?") == ["what", "s", "the", "weather", "in", "strasse", "5"]
    assert words("\uff46\uff55\uff4c\uff4c \ufb01ne get_name") == ["full", "fine", "get_name"]
    assert words("查看 iPhone价格") == ["查", "看", "iphone", "价", "格"]
    assert words("?! \x00 \ud800") == []
    assert normalised("?  !") == "? !"


def test_question_is_the_conversation_without_system_messages():
    call = {"function": {"name": "f", "arguments": "{}"}}
    messages = (
        {"role": "system", "content": "Today is Monday."},
        {"role": "user", "content": [{"type": "text", "text": "Rain?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "yes"},
    )
    assert question(Task("t", messages)) == f"Rain?\n{json.dumps(call, sort_keys=True)}\nyes"


def test_exact_key():
    f, g = Tool("f", "F.", {"properties": {"a": {}, "b": {}}}), Tool("g")
    calls = (ExpectedCall("f", {"a": [1], "b": [2]}), ExpectedCall("g", {}))
    same = exact_key(asked("Do it!", (f, g), Answer(calls)))
    turned = Tool("f", "F.", {"properties": {"b": {}, "a": {}}})
    other_order = Answer((calls[1], ExpectedCall("f", {"b": [2], "a": [1]})))
    assert exact_key(asked(" do IT", (g, turned), other_order)) == same
    different = [
        asked("Do that!", (f, g), Answer(calls)),
        asked("Do it!", (f,), Answer(calls)),
        asked("Do it!", (f, Tool("g", "G.")), Answer(calls)),
        asked("Do it!", (f, g), Answer(calls[:1])),
        asked("Do it!", (f, g), Answer()),
        asked("Do it!", (f, g)),
        asked("Do it!", (f, g), Answer((ExpectedCall("f", {"a": [True], "b": [2]}), calls[1]))),
        asked("Do it!", (f, g), Answer((ExpectedCall("f", {"a": [1.0], "b": [2]}), calls[1]))),
    ]
    assert len({exact_key(task) for task in different} | {same}) == len(different) + 1


def test_tool_set():
    one = Tool("math.gcd", "Of two.", {"properties": {"b": {"type": "integer"}, "a": {}}})
    other = Tool("math_GCD", "", {"properties": {"a": {}, "b": {}}, "required": ["a"]})
    assert tool_set(asked("", (one, Tool("f")))) == tool_set(asked("", (Tool("f"), other, other)))
    assert tool_set(asked("", (one,))) != tool_set(asked("", (one, Tool("f"))))
    assert tool_set(asked("", (one,))) != tool_set(asked("", (Tool("math.gcd"),)))
    assert tool_set(asked("")) == ""
