"""`ast_match` in strict mode: reasons and places, values, defaults, assignment, data that cannot be judged."""

import pytest
from callwright import Answer, ExpectedCall, ReasonCode, Task, Tool
from callwright.testing import check_reward
from callwright_data.sources.bfcl import CATEGORIES, Bfcl
from callwright_dialects.funrl import FunRL
from callwright_dialects.hermes import Hermes
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.ast_match import AstMatch
from callwright_rewards.call_match import MatchCode
from callwright_rewards.value_match import Equality, accepted, normalised, same
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "default": 7},
        "hours": {"type": "array", "items": {"type": "number"}},
        "at": {"type": "object"},
        "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        "fast": {"type": "boolean", "default": None},
    },
    "required": ["city"],
}
TOOLS = (Tool("weather", "", SCHEMA), Tool("time"))
ARGUMENTS = {
    "city": ["Ulm", "New York"],
    "days": [3, ""],
    "hours": [[1.5, 2.0], ""],
    "at": [{"x": [1, 2], "y": ["", 3]}, ""],
}
TASK = Task("t", (), TOOLS, Answer((ExpectedCall("weather", ARGUMENTS),)))
NO_CALL = Task("n", (), TOOLS, Answer())


def judge(task, text, dialect=None):
    return AstMatch().judge(task, (dialect or PythonCalls()).parse(text))


@pytest.mark.parametrize(
    ("arguments", "code", "place"),
    [
        (
            "city='Ulm', hours=[1.5, 2], at={'x': 2}",
            ReasonCode.CORRECT,
            "weather(city='Ulm', hours=[1.5, 2], at={'x': 2})",
        ),
        ("'Ulm'", ReasonCode.POSITIONAL_ARGUMENT, "'Ulm'"),
        ("city='Ulm', *x", ReasonCode.POSITIONAL_ARGUMENT, "*x"),
        ("city='Bonn', city='Ulm'", ReasonCode.UNEXPECTED_ARGUMENT, "city"),
        ("city='Ulm', town='Ulm'", ReasonCode.UNEXPECTED_ARGUMENT, "town"),
        ("city=Ulm", ReasonCode.WRONG_TYPE, "Ulm"),
        ("city='U' 'lm'", ReasonCode.CORRECT, "weather(city='U' 'lm')"),
        ("city='U' + 'lm'", ReasonCode.WRONG_TYPE, "'U' + 'lm'"),
        ("city='Ulm', days=True", ReasonCode.WRONG_TYPE, "True"),
        ("city='Ulm', days=3.0", ReasonCode.WRONG_TYPE, "3.0"),
        ("city='Ulm', days='3'", ReasonCode.WRONG_TYPE, "'3'"),
        ("city='Ulm', hours=(1.5, 2.0)", ReasonCode.WRONG_TYPE, "(1.5, 2.0)"),
        ("city='Ulm', hours=[1.5, True]", ReasonCode.WRONG_TYPE, "[1.5, True]"),
        ("city='Ulm', hours=[2.0, 1.5]", ReasonCode.WRONG_VALUE, "[2.0, 1.5]"),
        ("city='Ulm', at={'x': True}", ReasonCode.WRONG_VALUE, "{'x': True}"),
        ("city='Ulm', at={'x': 1, 'y': ''}", ReasonCode.WRONG_VALUE, "{'x': 1, 'y': ''}"),
        ("city='Ulm', days=0", ReasonCode.WRONG_VALUE, "0"),
        ("city='Ulm', days=4", ReasonCode.WRONG_VALUE, "4"),
        ("city='Ulm', unit='F'", ReasonCode.UNEXPECTED_ARGUMENT, "unit"),
        ("city=''", ReasonCode.WRONG_VALUE, "''"),
        ("days=3", ReasonCode.MISSING_ARGUMENT, "weather(days=3)"),
        ("city='Ulm', days=1e999", ReasonCode.WRONG_TYPE, "1e999"),
    ],
)
def test_reasons_and_their_places(arguments, code, place):
    text = f"[weather({arguments})]"
    for reply, dialect in ((text, None), (f"<think>weather()</think><answer>{text}</answer>", FunRL())):
        verdict = judge(TASK, reply, dialect)
        assert verdict.reasons[0].code == code, verdict
        assert verdict.score == float(code is ReasonCode.CORRECT)
        assert reply[slice(*verdict.reasons[0].span)] == place


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[time(city='Ulm')]", ReasonCode.WRONG_FUNCTION),
        ("[Weather(city='Ulm')]", ReasonCode.WRONG_FUNCTION),
        ("[weather(city='Ulm'), time()]", ReasonCode.WRONG_CALL_COUNT),
        ("[weather(city='Ulm'", ReasonCode.UNPARSABLE),
        ("Sure: [weather(city='Ulm')]", ReasonCode.UNPARSABLE),
        ("I do not know.", ReasonCode.NO_CALL),
        ("[]", ReasonCode.NO_CALL),
    ],
)
def test_other_replies(text, code):
    verdict = judge(TASK, text)
    assert (verdict.score, verdict.reasons[0].code) == (0.0, code)
    assert verdict.reasons[0].span is not None
    assert verdict.reasons[0].message


def test_a_call_only_in_the_thinking_is_none():
    reply = "<think>[weather(city='Ulm')]</think><answer>I cannot.</answer>"
    assert judge(TASK, reply, FunRL()).reasons[0].code == ReasonCode.NO_CALL
    assert judge(NO_CALL, reply, FunRL()).score == 1.0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("There is no function for that.", ReasonCode.CORRECT),
        ("[]", ReasonCode.CORRECT),
        ("[weather(city='Ulm')]", ReasonCode.UNEXPECTED_CALL),
        ("[weather(city=", ReasonCode.UNPARSABLE),
    ],
)
def test_a_malformed_call_is_no_abstention(text, code):
    verdict = judge(NO_CALL, text)
    assert (verdict.score, verdict.reasons[0].code) == (float(code is ReasonCode.CORRECT), code)


@pytest.mark.parametrize("value", ["7", "'C'", "None"])
def test_a_default_may_be_given(value):
    name = {"7": "days", "'C'": "unit", "None": "fast"}[value]
    verdict = judge(TASK, f"[weather(city='Ulm', {name}={value})]")
    assert (verdict.score, [reason.code for reason in verdict.reasons]) == (
        1.0,
        [ReasonCode.CORRECT, MatchCode.DEFAULT_GIVEN],
    )


def test_a_default_is_wrong_where_the_answer_needs_another_value():
    task = Task("d", (), TOOLS, Answer((ExpectedCall("weather", {"city": ["Ulm"], "days": [3]}),)))
    assert judge(task, "[weather(city='Ulm', days=7)]").reasons[0].code == ReasonCode.WRONG_VALUE
    assert judge(task, "[weather(city='Ulm')]").reasons[0].code == ReasonCode.MISSING_ARGUMENT


def test_right_but_for_its_spelling():
    text = "[weather(city='new  york')]"
    verdict = judge(TASK, text)
    assert (verdict.score, verdict.reasons[1].code) == (1.0, MatchCode.EQUAL_AFTER_NORMALISATION)
    assert text[slice(*verdict.reasons[1].span)] == "'new  york'"


def test_calls_are_assigned_optimally():
    """BFCL's greedy rule rejects the second order: the first key takes the only call that the second one fits."""
    tool = Tool("f", "", {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    task = Task("p", (), (tool,), Answer((ExpectedCall("f", {"a": ["x", "y"]}), ExpectedCall("f", {"a": ["x"]}))))
    for text in ("[f(a='y'), f(a='x')]", "[f(a='x'), f(a='y')]"):
        assert judge(task, text).score == 1.0
    assert AstMatch(mode="bfcl").judge(task, PythonCalls().parse("[f(a='x'), f(a='y')]")).score == 0.0
    wrong = judge(task, "[f(a='y'), f(a='z')]")
    assert "'z'" in wrong.reasons[0].message
    surplus = judge(task, text := "[f(a='x'), f(a='q'), f(a='y')]")
    assert text[slice(*surplus.reasons[0].span)] == "f(a='q')"


@pytest.mark.parametrize(
    "task",
    [
        Task("no answer", (), TOOLS),
        Task("not offered", (), TOOLS, Answer((ExpectedCall("f", {}),))),
        Task("wrong type", (), TOOLS, Answer((ExpectedCall("weather", {"city": [1]}),))),
        Task("required", (), TOOLS, Answer((ExpectedCall("weather", {"days": [1]}),))),
        Task("invented", (), TOOLS, Answer((ExpectedCall("weather", {"city": ["Ulm"], "z": [1]}),))),
        Task("schema", (), (Tool("f", "", {"type": "nothing"}),), Answer((ExpectedCall("f", {}),))),
        Task("ref", (), (Tool("f", "", {"$ref": "http://localhost/x.json"}),), Answer((ExpectedCall("f", {}),))),
    ],
    ids=lambda task: task.id,
)
def test_what_cannot_be_judged_is_abstained_from(task):
    verdict = judge(task, "[weather(city='Ulm')]")
    assert (verdict.score, verdict.failure) == (None, None)
    assert verdict.reasons[0].message


def test_json_calls_are_judged_alike():
    text = '<tool_call>{"name": "weather", "arguments": {"city": "Ulm", "days": true}}</tool_call>'
    verdict = judge(TASK, text, Hermes())
    assert (verdict.reasons[0].code, text[slice(*verdict.reasons[0].span)]) == (ReasonCode.WRONG_TYPE, "true")
    assert judge(TASK, text.replace("true", "3"), Hermes()).score == 1.0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x**2", "x-2"),
        ("x**2", "x*2"),
        ("3x**2 + 2x - 1", "3x-2 + 2x / 1"),
        ("1.5 kg", "15 kg"),
        ("10.0.0.1", "100.01"),
        ("2023-11-1", "2023-1-11"),
        ("1. 5 eggs", "1.5 eggs"),
        ("x\u00b2", "x2"),
        ("a_b", "a b"),
        ("1,000", "1000"),
        ("", " "),
    ],
)
def test_operators_are_not_erased(left, right):
    assert same(left, right) is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("April 1, 2024", "april 1,2024"),
        ("April 1, 2024", "April 1 2024"),
        ("x ** 2", "X**2"),
        ("it\u2019s", 'it"s'),
        ("2020\u20132021", "2020-2021"),
        ("caf\u00e9", "cafe\u0301"),
        ("a  b\n", "a b"),
    ],
)
def test_spelling_is_forgiven(left, right):
    assert same(left, right) is Equality.NORMALISED


@given(st.text(max_size=20))
def test_normalising_twice_changes_nothing_more(text):
    assert normalised(normalised(text)) in (normalised(text), normalised(normalised(normalised(text))))
    assert same(text, text) is Equality.EXACT


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


@given(JSON_VALUES, JSON_VALUES)
def test_a_value_is_itself_and_equality_is_symmetric(left, right):
    assert same(left, left, literal=True) is Equality.EXACT
    assert same(left, right, literal=True) is same(right, left, literal=True)


@given(JSON_VALUES, st.lists(JSON_VALUES, max_size=3))
def test_the_mark_of_an_optional_argument_is_no_value(value, options):
    assert accepted("", ["", *[option for option in options if option != ""]]) is None
    assert accepted(value, ["", *options]) is accepted(value, options)


@pytest.mark.parametrize("dialect", ["funrl", "hermes"])
@pytest.mark.slow
def test_it_keeps_the_laws(dialect):
    check_reward(AstMatch(), dialect=dialect)


@pytest.mark.slow
def test_bfcl_answers_are_right_or_unjudgeable():
    from bfcl_replies import gold, text_of

    counts = {1.0: 0, 0.0: 0, None: 0}
    for task in Bfcl(list(CATEGORIES)).load():
        if key := task.meta.get("possible_answer"):
            counts[judge(task, text_of(gold(key))).score] += 1
    assert counts[1.0] > 2300
    assert counts[None] < 30
    assert counts[0.0] < 30
