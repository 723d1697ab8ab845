"""Near misses and rewrites: what they change, and that they change nothing else."""

from __future__ import annotations

import ast
import json

import pytest
from callwright import CallwrightError
from callwright.testing import answers, calls, near_misses, rewrites, tasks, tool_schemas
from callwright.testing.mutations import completion_near_misses, completion_rewrites, same_calls
from callwright.testing.python_code import from_python, to_python
from callwright.testing.python_code import near_misses as all_near_misses
from callwright.testing.python_rewrites import rewrites as all_rewrites
from callwright.testing.scoring import gold_calls, gold_text, plugin
from callwright.testing.toys import fixed_tasks
from callwright.testing.values import same_value, wrong_values
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

ODD = "[ get_x( a=1 ,  b = 'it is',c=[1,2],\n  d={'k':1.5,  'z' : 2000}, ), g( ) ]"


def plain(source):
    return [call.to_json() for call in from_python(source)]


def test_rewrites_keep_the_meaning_and_near_misses_change_it() -> None:
    for kind, text in all_rewrites(ODD):
        assert same_value(plain(text), plain(ODD)), (kind, text)
    for kind, text in all_near_misses(ODD):
        assert not same_value(plain(text), plain(ODD)), (kind, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("rename_function", ODD.replace("get_x", "get_x_x")),
        ("wrong_case_argument", ODD.replace("b =", "B =")),
        ("off_by_one", ODD.replace("a=1", "a=2")),
        ("off_by_one", ODD.replace("2000", "2001").replace("'k':1.5,  'z' :", "'k': 1.5, 'z':")),
        ("swap_values", ODD.replace("a=1", "a='it is'").replace("b = 'it is'", "b = 1")),
        ("add_call", ODD.replace("g( ) ]", "g( ), lookup_zebra(quartz=1) ]")),
    ],
)
def test_all_that_is_not_changed_stays_to_the_character(kind: str, text: str) -> None:
    assert (kind, text) in list(all_near_misses(ODD))


def test_every_kind_of_mutation_is_there() -> None:
    near = {kind for kind, _ in all_near_misses(ODD)}
    assert near == {
        "rename_function", "wrong_case_function", "rename_argument", "wrong_case_argument", "drop_argument",
        "add_argument", "swap_values", "wrong_value", "wrong_type", "off_by_one", "reorder", "drop", "add", "rename",
        "duplicate_call", "add_call", "drop_call",
    }  # fmt: skip
    kept = {kind for kind, _ in all_rewrites(ODD)}
    assert kept == {
        "argument_order", "quotes", "white_space", "line_break", "number_spelling", "trailing_comma", "key_order",
    }  # fmt: skip


@given(tool_schemas().flatmap(calls).flatmap(lambda call: st.tuples(st.just(call), rewrites(call))))
@settings(max_examples=30)
def test_rewrites_of_a_drawn_call_mean_the_call(pair) -> None:
    call, mutation = pair
    assert same_value(plain(mutation.text), [call.to_json()])


@given(tool_schemas().flatmap(calls).flatmap(lambda call: st.tuples(st.just(call), near_misses(call))))
@settings(max_examples=30)
def test_near_misses_of_a_drawn_call_mean_another(pair) -> None:
    call, mutation = pair
    assert not same_value(plain(mutation.text), [call.to_json()])


@given(rewrites('{"name": "f", "arguments": {"b": 1.5, "a": [true, "x\\n"]}}'))
def test_rewrites_of_json(mutation) -> None:
    value = json.loads(mutation.text)
    arguments = value.pop("parameters" if mutation.kind == "synonym" else "arguments")
    assert (value, arguments) == ({"name": "f"}, {"b": 1.5, "a": [True, "x\n"]})


@pytest.mark.parametrize("text", ["", "1 +", "f(", "[f(), 3]", "hello there"])
def test_what_is_no_call_is_refused(text: str) -> None:
    with pytest.raises(CallwrightError):
        near_misses(text)


@given(tool_schemas().flatmap(lambda tool: st.tuples(st.just(tool), calls(tool))))
@settings(max_examples=40)
def test_calls_fit_their_schema(pair) -> None:
    tool, call = pair
    Draft202012Validator.check_schema(tool.parameters)
    Draft202012Validator(tool.parameters).validate(call.to_json()["arguments"])
    assert from_python(to_python([call])) == [call]


@given(tasks())
@settings(max_examples=30)
def test_a_question_mentions_every_value(task) -> None:
    question = task.messages[-1]["content"]
    names = {tool.name for tool in task.tools}
    for call in gold_calls(task):
        assert call.name in names
        for argument in call.arguments:
            if isinstance(argument.value, str | int | float) and not isinstance(argument.value, bool):
                assert str(argument.value) in question
    assert task.answer == type(task.answer).from_json(task.answer.to_json())


@given(answers())
@settings(max_examples=20)
def test_answers_are_json(answer) -> None:
    assert type(answer).from_json(answer.to_json()) == answer


@given(st.recursive(st.integers() | st.text() | st.booleans() | st.floats(allow_nan=False), st.lists, max_leaves=4))
def test_wrong_values_are_wrong(value) -> None:
    for _, wrong in wrong_values(value):
        assert repr(wrong) != repr(value)


@pytest.mark.parametrize("name", ["funrl", "python_calls", "hermes"])
def test_completions_in_any_dialect(name: str) -> None:
    dialect = plugin("dialect", name)
    for task in fixed_tasks():
        gold = dialect.parse(gold_text(dialect, task))
        for mutation in completion_rewrites(dialect, task):
            assert same_calls(dialect.parse(mutation.text), gold), mutation
        near = completion_near_misses(dialect, task)
        assert near
        assert len({mutation.text for mutation in near}) == len(near)
    assert {"only_in_thinking", "reply_twice", "cut_call", "swap_values"} <= {
        mutation.kind for mutation in completion_near_misses(dialect, fixed_tasks()[4])
    }


def test_evaluates_nothing() -> None:
    """Values that are no literals are refused, not computed."""
    assert ast.parse("[f(a=9**9**9)]")
    with pytest.raises(CallwrightError):
        from_python("[f(a=9**9**9)]")
    with pytest.raises(ValueError, match=r"\S"):
        list(all_near_misses("[f(a=9**9**9)]"))
