"""The stage `distractors`: look-alike tools, and new names for tools and parameters."""

import json
import random
import re
from dataclasses import replace

import pytest
from callwright import Answer, ExpectedCall, Task, Tool
from callwright.testing import check_stage
from callwright.testing.scoring import gold_calls, rollouts_of
from callwright.testing.strategies import tasks as any_task
from callwright_data.sources.bfcl import CATEGORIES, Bfcl
from callwright_data.stages._look_alikes import OPPOSITES, LookAlikes, folded, opposite
from callwright_data.stages._renaming import PARAMETER_NAMES, TOOL_NAMES
from callwright_data.stages.distractors import Distractors
from callwright_dialects.json_calls import JsonCalls
from callwright_rewards.ast_match import AstMatch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

DIALECT = JsonCalls()  # writes every name and value


@pytest.fixture(scope="module")
def bfcl():
    return list(Bfcl(list(CATEGORIES), limit=30).load())


@pytest.fixture(scope="module")
def bfcl_golds(bfcl):
    """(task, right calls) of the rows whose first accepted values get full marks."""
    pairs = [(task, gold_calls(task)) for task in bfcl if task.answer is not None]
    verdicts = scores(AstMatch(), [task for task, _ in pairs], [calls for _, calls in pairs])
    return [pair for pair, score in zip(pairs, verdicts, strict=True) if score == 1.0]


def scores(reward, tasks, replies):
    texts = [DIALECT.render(calls) if calls else "I cannot do that." for calls in replies]
    return [verdict.score for verdict in reward.score(rollouts_of(DIALECT, tasks, texts))]


def names(tasks):
    return {tool.name for task in tasks for tool in task.tools}


def parameters(task):
    return {name for tool in task.tools for name in tool.parameters.get("properties", {})}


STAGES = [
    Distractors(add=1, opposites=True, rename="both"),
    Distractors(add=2, rename="tools"),
    Distractors(add=0, rename="parameters", share=0.5),
]


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_laws(stage):
    check_stage(stage, examples=5)


# ------------------------------------------------------------------------------------------------- the answer


@settings(max_examples=15)
@given(rows=st.lists(any_task(), min_size=1, max_size=5), stage=st.sampled_from(STAGES), seed=st.integers(0, 5))
def test_the_answer_stays_right(rows, stage, seed):
    """And the old one is wrong where its names changed."""
    rows = [replace(row, id=str(n)) for n, row in enumerate(rows)]
    results = list(replace(stage, seed=seed).apply(rows))
    for mode in ("strict", "bfcl"):
        reward = AstMatch(mode=mode)
        before = scores(reward, rows, [gold_calls(row) for row in rows])
        after = scores(reward, results, [gold_calls(result) for result in results])
        assert after == before
        old = scores(reward, results, [gold_calls(row) for row in rows])
        for row, result, score in zip(rows, results, old, strict=True):
            if row.answer != result.answer and row.answer.calls:
                assert score == 0.0


@pytest.mark.parametrize("mode", ["strict", "bfcl"])
def test_bfcl_answers_stay_right(bfcl_golds, mode):
    """Also by BFCL's own rules, which read BFCL's own form of functions and answer."""
    tasks = [task for task, _ in bfcl_golds]
    results = list(Distractors(add=3, opposites=True, rename="both").apply(tasks))
    new = [gold_calls(result) for result in results]
    assert scores(AstMatch(mode=mode), results, new) == [1.0] * len(tasks)
    changed = [i for i, (task, result) in enumerate(zip(tasks, results, strict=True)) if task.answer != result.answer]
    with_calls = sum(bool(calls) for _, calls in bfcl_golds)
    assert len(changed) > 0.5 * with_calls
    old = scores(AstMatch(mode=mode), [results[i] for i in changed], [bfcl_golds[i][1] for i in changed])
    assert old == [0.0] * len(changed)


def test_a_call_of_an_added_tool_is_wrong(bfcl_golds):
    tasks = [task for task, calls in bfcl_golds if len(calls) == 1]
    results = list(Distractors(add=3, opposites=True).apply(tasks))
    wrong = []
    for task, result in zip(tasks, results, strict=True):
        (gold,) = gold_calls(result)
        wrong += [(result, [replace(gold, name=name)]) for name in sorted(names([result]) - names([task]))]
    assert len(wrong) > 2 * len(tasks)
    assert set(scores(AstMatch(), [task for task, _ in wrong], [calls for _, calls in wrong])) == {0.0}


# ------------------------------------------------------------------------------------------------ added tools


@settings(max_examples=15)
@given(rows=st.lists(any_task(), max_size=6), add=st.integers(0, 3), opposites=st.booleans())
def test_added_tools(rows, add, opposites):
    rows = [replace(row, id=str(n)) for n, row in enumerate(rows)]
    for row, result in zip(rows, Distractors(add=add, opposites=opposites).apply(rows), strict=True):
        assert (result.id, result.messages, result.answer, result.meta) == (row.id, row.messages, row.answer, row.meta)
        added = [tool for tool in result.tools if tool not in row.tools]
        assert sorted(map(repr, result.tools)) == sorted(map(repr, [*row.tools, *added]))
        assert len(added) <= add + opposites
        folded_names = [folded(tool.name) for tool in result.tools]
        assert len(set(folded_names)) == len(folded_names)
        offered = {repr(tool) for other in rows if other is not row for tool in other.tools}
        assert sum(repr(tool) not in offered for tool in added) <= opposites


def test_bfcl_rows_get_look_alikes(bfcl):
    results = list(Distractors(add=2).apply(bfcl))
    added = [len(result.tools) - len(task.tools) for task, result in zip(bfcl, results, strict=True)]
    assert added.count(2) > 0.95 * len(bfcl)
    order = [
        [tool.name for tool in result.tools].index(task.tools[0].name)
        for task, result in zip(bfcl, results, strict=True)
        if task.tools
    ]
    assert len(set(order)) > 2  # not always in front


def test_likeness(bfcl):
    known = LookAlikes(tool for task in bfcl for tool in task.tools)
    area = next(tool for task in bfcl for tool in task.tools if tool.name == "calculate_triangle_area")
    nearest = known.like(area)[:5]
    assert area.name not in {tool.name for tool in nearest}
    for tool in nearest:
        assert {"triangle", "area"} & set(re.findall("[a-z]+", f"{tool.name} {tool.description}".lower()))


def tool(name, description="", *parameters):
    properties = {name: {"type": "integer"} for name in parameters}
    return Tool(name, description, {"type": "object", "properties": properties, "required": list(parameters)})


def row(question, tools, answer=(), name="r"):
    calls = tuple(ExpectedCall(called, arguments) for called, arguments in answer)
    return Task(name, ({"role": "user", "content": question},), tuple(tools), Answer(calls))


def test_a_tool_that_would_do_as_well_is_not_added():
    others = [
        row("?", [tool("math.fac", "Calculates the factorial of a number.")], name="same"),
        row("?", [tool("calculate_root", "Calculates the root of a number.")], name="other"),
    ]
    asks = row(
        "What is the factorial of 5?", [tool("calculate_factorial", "", "n")], [("calculate_factorial", {"n": [5]})]
    )
    result = list(Distractors(add=5).apply([*others, asks]))[-1]
    assert names([result]) == {"calculate_factorial", "calculate_root"}
    none = replace(asks, answer=Answer(), messages=({"role": "user", "content": "Draw a root."},))
    result = list(Distractors(add=5).apply([*others, none]))[-1]
    assert names([result]) == {"calculate_factorial", "math.fac"}


def test_names_that_read_alike_are_one():
    others = [row("?", [tool("open-door"), tool("OpenDoor_"), tool("open_window")], name="other")]
    asks = row("Go.", [tool("open.door")], [("open.door", {})])
    assert names(list(Distractors(add=5).apply([*others, asks]))[-1:]) == {"open.door", "open_window"}
    missing = row("Go.", [tool("open_gate")], [("open_window", {})])  # a name that is not offered, but called
    assert "open_window" not in names(list(Distractors(add=5).apply([*others, missing]))[-1:])


def test_odd_tools_are_not_passed_on():
    odd = [Tool("open a", "", {}), Tool("open_b", "", {"properties": 3}), Tool("open_c", "", {"required": "a"})]
    asks = row("Go.", [tool("open_door")], [("open_door", {})])
    assert names(list(Distractors(add=5).apply([row("?", odd, name="odd"), asks]))[-1:]) == {"open_door"}


def test_opposites():
    assert opposite(tool("lock_door", "Locks a door."), "Lock it.") == tool("unlock_door", "Unlock door.")
    assert opposite(tool("lock_door"), "Lock it, then unlock it.") is None
    assert opposite(tool("door"), "Lock it.") is None
    assert all(OPPOSITES[OPPOSITES[word]] == word for word in OPPOSITES)


def test_rows_that_nothing_can_be_done_for_are_the_same_objects(bfcl):
    assert all(a is b for a, b in zip(bfcl[:50], Distractors(add=0).apply(bfcl[:50]), strict=True) if len(a.tools) < 2)


def test_seed(bfcl):
    results = [list(Distractors(rename="both", seed=seed).apply(bfcl)) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


# ------------------------------------------------------------------------------------------------------ names


@settings(max_examples=30)
@given(drawn=any_task(), which=st.sampled_from(["tools", "parameters", "both"]), seed=st.integers(0, 9))
def test_new_names(drawn, which, seed):
    """They are distinct, were nowhere in the row, and replace all old ones, or none."""
    # In the drawn question the names are words, and no row could be renamed.
    drawn = replace(drawn, messages=({"role": "user", "content": "Go."},))
    (result,) = Distractors(add=0, rename=which, seed=seed).apply([drawn])
    old = json.dumps([drawn.messages, [t.to_json() for t in drawn.tools], drawn.answer.to_json()])
    fresh = (names([result]) - names([drawn])) | (parameters(result) - parameters(drawn))
    assert not any(name in old for name in fresh)
    assert len(names([result])) == len(names([drawn]))
    assert len(parameters(result)) == len(parameters(drawn))
    assume(not names([drawn]) & parameters(drawn))
    assert bool(names([result]) & names([drawn])) == (which == "parameters")
    assert bool(parameters(result) & parameters(drawn)) == (which == "tools" and bool(parameters(drawn)))
    schemas = sorted((len(t.parameters["properties"]), len(t.parameters["required"])) for t in drawn.tools)
    assert schemas == sorted((len(t.parameters["properties"]), len(t.parameters["required"])) for t in result.tools)


def renamed(task, which="both", **options):
    (result,) = Distractors(add=0, rename=which, **options).apply([task])
    return result


USER = tool("get_user", "Call get_user with a user_id. Not forget_user.", "user_id", "depth")
CONVERSATION = Task(
    "c",
    (
        {"role": "system", "content": "Use get_user, with user_id=..., where you can; (get_user) and get_user."},
        {"role": "user", "content": "Look him up, as get_user_name and x.get_user and get_user.all do."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "get_user", "arguments": '{"user_id": 1}'}},
                {"id": "2", "type": "function", "function": {"name": "get_user", "arguments": {"user_id": 2}}},
            ],
        },
        {"role": "tool", "name": "get_user", "tool_call_id": "1", "content": "found"},
    ),
    (USER,),
    Answer((ExpectedCall("get_user", {"user_id": [3], "depth": [1, ""]}),)),
    {"functions": [USER.to_json()], "possible_answer": [{"get_user": {"user_id": [3], "depth": [1, ""]}}], "other": 1},
)


def test_every_place_of_a_name():
    result = renamed(CONVERSATION)
    (new,) = names([result])
    user_id, depth = result.tools[0].parameters["properties"]
    assert new in TOOL_NAMES
    assert {user_id, depth} < set(PARAMETER_NAMES)
    text = json.dumps([result.messages, result.tools[0].to_json(), result.answer.to_json(), result.meta])
    wanted = json.dumps([CONVERSATION.messages, USER.to_json(), CONVERSATION.answer.to_json(), CONVERSATION.meta])
    for keep in ("get_user_name", "x.get_user", "get_user.all", "forget_user"):
        wanted = wanted.replace(keep, keep.upper())
    wanted = wanted.replace("get_user", new).replace("user_id", user_id).replace("depth", depth)
    for keep in ("get_user_name", "x.get_user", "get_user.all", "forget_user"):
        wanted = wanted.replace(keep.upper(), keep)
    assert text == wanted
    assert result.tools[0].parameters["required"] == [user_id, depth]


def with_schema(**more):
    return replace(CONVERSATION, tools=(Tool("get_user", "", {**USER.parameters, **more}),))


def with_message(**message):
    return replace(CONVERSATION, messages=({"role": "user", "content": "Go.", **message},))


UNSAFE = {
    "an ordinary word": with_message(content="At which Depth is he?"),
    "also a value": replace(
        with_message(content="Who has the user_id?"),
        answer=Answer((ExpectedCall("get_user", {"user_id": ["user_id"]}),)),
    ),
    "also an allowed value": replace(
        with_message(content="Which user_id?"),
        tools=(tool("get_user", "", "user_id"), Tool("b", "", {"properties": {"what": {"enum": ["user_id"]}}})),
    ),
    "tool and parameter": replace(CONVERSATION, tools=(USER, tool("user_id"))),
    "$ref": with_schema(properties={"user_id": {"$ref": "#/properties/depth"}, "depth": {}}),
    "other keys": with_schema(dependentRequired={"user_id": ["depth"]}),
    "required is no list": with_schema(required="user_id"),
    "parts": with_message(content=[{"type": "text", "text": "Go."}]),
    "an old form of calls": with_message(function_call={"name": "get_user", "arguments": "{}"}),
    "arguments that are no JSON": with_message(tool_calls=[{"function": {"name": "get_user", "arguments": "{"}}]),
    "odd functions": replace(CONVERSATION, meta={"functions": ["get_user"]}),
    "odd answer": replace(CONVERSATION, meta={"possible_answer": {"get_user": {}}}),
}


@pytest.mark.parametrize("task", UNSAFE.values(), ids=UNSAFE)
def test_rows_that_keep_their_names(task):
    result = renamed(task)
    assert replace(result, tools=task.tools) == task
    assert sorted(map(repr, result.tools)) == sorted(map(repr, task.tools))


@pytest.mark.parametrize("which", ["tools", "parameters"])
def test_only_the_wanted_names(which):
    result = renamed(with_message(content="Look at user_id in get_user."), which)
    text = result.messages[0]["content"]
    assert ("get_user" in text, "user_id" in text) == (which == "parameters", which == "tools")
    word = with_message(content="Which depth?")
    assert (renamed(word, which) is word) == (which == "parameters")


def test_added_tools_are_renamed_too(bfcl):
    """Else the names alone would tell which tools are the row's own."""
    results = list(Distractors(add=2, rename="tools").apply(bfcl))
    changed = [r for t, r in zip(bfcl, results, strict=True) if names([r]) - names([t]) and not names([r]) & names([t])]
    assert len(changed) > 0.8 * len(bfcl)
    assert all(name in TOOL_NAMES for result in changed for name in names([result]))


def test_more_tools_than_names():
    many = row("Go.", [tool(f"tool_{n}", "", f"arg_{n}") for n in range(300)], [("tool_7", {"arg_7": [1]})])
    result = renamed(many)
    assert len(names([result])) == len(parameters(result)) == 300
    assert not names([result]) & names([many])
    assert scores(AstMatch(), [result], [gold_calls(result)]) == [1.0]


def test_share(bfcl):
    results = list(Distractors(add=0, rename="tools", share=0.3).apply(bfcl))
    share = sum(names([t]) != names([r]) for t, r in zip(bfcl, results, strict=True)) / len(bfcl)
    assert 0.2 < share < 0.4
    assert all(
        names([t]) == names([r])
        for t, r in zip(bfcl, Distractors(0, rename="tools", share=0.0).apply(bfcl), strict=True)
    )


HOSTILE = [
    Tool("\ud800", "\x00", {"type": "object", "properties": {"\ud800": {"enum": [[1], {"a": 1}]}}}),
    Tool("f", "", {"properties": {"a": {"items": [1, None]}}, "required": None}),
    Tool("(a|b)*", "", {"properties": {"": {}}}),
    Tool("g", "", {"properties": {str(n): {"description": "x" * 1000} for n in range(300)}}),
]


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_hostile_rows(stage):
    odd = random.Random(0)
    calls = [ExpectedCall("\ud800", {"\ud800": 3}), ExpectedCall("f", {"a": [[], {}]}), ExpectedCall("nobody", {})]
    tasks = [
        Task(
            f"{n}\ud800",
            ({"role": "user", "content": odd.choice(["\ud800", "(a|b)*", None, [1], "f g"])},),
            tuple(tools),
            Answer((c,)),
        )
        for n, (tools, c) in enumerate((odd.sample(HOSTILE, 3), odd.choice(calls)) for _ in range(40))
    ]
    tasks.append(Task("text", ("Go.",), (USER,), Answer()))
    assert [task.id for task in stage.apply(tasks)] == [task.id for task in tasks]


@pytest.mark.parametrize("options", [{"add": -1}, {"share": 1.5}, {"share": -0.1}])
def test_options(options):
    with pytest.raises(ValueError, match="must be"):
        Distractors(**options)
