import importlib.util
import re
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from callwright import Answer, Argument, Call, ExpectedCall, Parse, ParseStatus, ReasonCode, Task, Tool
from callwright_dialects.funrl import FunRL
from callwright_rewards.grounding import Grounder, GroundingCode, Stated, Support, ground
from callwright_rewards.parameter_extraction import ParameterExtraction
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "1,0", "x**2"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=8,
)


def task_of(question, *tools):
    return Task("t", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": question}), tools)


def tool_of(required=(), **properties):
    return Tool("f", "Does f.", {"type": "object", "properties": properties, "required": list(required)})


def trace(question, value, schema=None, name="value", required=True):
    """The grounding of `f(value=...)`."""
    task = task_of(question, tool_of([name] if required else [], **{name: schema or {}}))
    call = Call("f", (Argument(name, value, None, (0, 0)),), (0, 0), (0, 0))
    (grounding,) = ground(task, Parse("", ParseStatus.CALLS, (call,)))
    return task, grounding


def reply(*arguments, thinking="Well."):
    return f"<think>{thinking}</think><answer>[{', '.join(f'f({a})' for a in arguments)}]</answer>"


@pytest.fixture
def judge(rollouts_of):
    def run(task, text, **options):
        (verdict,) = ParameterExtraction(**options).score(rollouts=rollouts_of(FunRL(), [task], [text]))
        return verdict

    return run


# One line for every reason code that the conversation or the tool can give.
FOUND = [
    ("Fly to Ulm.", "Ulm", {}, "grounded_exact", "Ulm"),
    ("fly to ULM", "Ulm", {}, "grounded_case", "ULM"),
    ("Find Wi-Fi in Málaga", "wifi", {}, "grounded_spacing", "Wi-Fi"),
    ("Zoom in on Málaga", "Malaga", {}, "grounded_spacing", "Málaga"),
    ("for 25 guests", 25, {}, "grounded_number", "25"),
    ("it costs $1,250,000.50", 1250000.5, {}, "grounded_number_format", "1,250,000.50"),
    ("some 3.5k people", 3500, {}, "grounded_number_format", "3.5k"),
    ("about 2 million people", 2_000_000, {}, "grounded_number_format", "2 million"),
    ("at 119.5 W", -119.5, {}, "grounded_number_format", "119.5 W"),
    ("one hundred and twenty-five euros", 125, {}, "grounded_number_word", "one hundred and twenty-five"),
    ("two dozen eggs", 24, {}, "grounded_number_word", "two dozen"),
    ("on October 3rd, 2023", "2023-10-03", {}, "grounded_date", "October 3rd, 2023"),
    ("on 2023.10.1 please", "2023-10-01", {}, "grounded_date", "2023.10.1"),
    ("wake me at 9 pm", "21:00", {}, "grounded_time", "9 pm"),
    ("in Colorado", "CO", {}, "grounded_spelling", "Colorado"),
    ("how many kilometers", "km", {}, "grounded_spelling", "kilometers"),
    ("tickets for the old museum of cars", "museum cars", {}, "grounded_words", "museum"),
    ("the United Nations Office", "UNO", {}, "grounded_acronym", "United Nations Office"),
    ("integrate x^2 + 3x", "x**2 + 3*x", {}, "grounded_formula", "x^2 + 3x"),
    ("from Boulder, Colorado to Ulm", "Boulder, CO", {}, "grounded_parts", "Boulder"),
    ("weather in Oslo", "Oslo, Norway", {"description": "City, Country"}, "grounded_completed", "Oslo"),
    ("news on airtificial brains", "artificial brains", {}, "grounded_typo", "airtificial"),
    ("fix the slow garden pump today", "fix slow garden pump quickly", {}, "grounded_most_words", "fix"),
    ("ironing in Ulm", 2, {"description": "1 for cleaning, 2 for ironing"}, "grounded_explained", "ironing"),
    ("Hi", "metric", {"default": "metric"}, "grounded_default", None),
    ("Hi", 10, {"description": "How many. Default is 10."}, "grounded_default", None),
    ("Hi", "only", {"enum": ["only"]}, "grounded_only_choice", None),
    ("see a cardiologist", "Cardiology", {"enum": ["Cardiology", "Dermatology"]}, "grounded_enum_word", "cardiologist"),
    ("including human impact", True, {"description": "human impact"}, "grounded_boolean", "impact"),
    ("take 3, 4 and 5", [3, 5], {"type": "array"}, "grounded_elements", "3"),
    ("named Ann, aged 7", {"name": "Ann", "age": 7}, {"type": "object"}, "grounded_elements", "Ann"),
    ("at a rate of 5%", 0.05, {}, "derived_percent", "5"),
    ("run for 2 hours", 7200, {"description": "in seconds"}, "derived_unit", "2"),
    ("1 hour 30 minutes", 90, {"description": "in minutes"}, "derived_unit", "1"),
    ("paid monthly", 12, {}, "derived_frequency", "monthly"),
    ("3 friends gave 10 euros each", 30, {}, "derived_arithmetic", "3"),
    ("Today is 2024-03-01. Remind me tomorrow.", "2024-03-02", {}, "derived_relative_date", "tomorrow"),
]
FAILING = [
    ("Hi", "Paris", {}, "invented"),
    ("7 guests", 8, {}, "invented"),
    ("on May 3, 2024", "2024-05-04", {}, "invented"),
    ("x^2", "x**3", {}, "invented"),
    ("take 3, 4 and 5", [3, 6], {}, "invented"),
    ("Hi", {"a": [1, {"b": "Ulm"}]}, {}, "invented"),
    ("Hi", "hot", {"enum": ["hot", "cold"]}, "enum_unsupported"),
    ("make it hot", "cold", {"enum": ["hot", "cold"], "default": "cold"}, "enum_unsupported"),
    ("Hi", "hot", {"description": "'hot' or 'cold'"}, "option_unsupported"),
    ("Hi", True, {"description": "human impact"}, "boolean_unsupported"),
    ("without human impact", True, {"description": "human impact"}, "boolean_unsupported"),
    ("Hi", "", {}, "empty_unsupported"),
]


@pytest.mark.parametrize(("question", "value", "schema", "code", "place"), FOUND)
def test_found(question, value, schema, code, place):
    name = "include_human_impact" if value is True else "value"
    task, grounding = trace(question, value, schema, name)
    assert grounding.code == code
    assert grounding.support is (Support.DERIVED if code.startswith("derived") else Support.GROUNDED)
    places = [task.messages[at.message]["content"][slice(*at.span)] for at in grounding.evidence]
    assert place == (places[0] if places else None)


@pytest.mark.parametrize(("question", "value", "schema", "code"), FAILING)
def test_failing(question, value, schema, code):
    _, grounding = trace(question, value, schema, "include_human_impact" if value is True else "value")
    assert grounding.code == code
    assert grounding.support.fails
    assert (grounding.support is Support.INVENTED) is (code == "invented")


def test_optional_parameters_may_be_left_empty():
    assert trace("Hi", None, required=False)[1].code == GroundingCode.LEFT_EMPTY


@given(st.integers(0, 10**9), st.sampled_from(["{}", "{:,}", "exactly {} of them", "({})", "${:,}.", "{}%", "n={}"]))
def test_a_number_in_any_format_and_no_other(number, form):
    text = form.format(number)
    assert not trace(text, number)[1].support.fails
    assert trace(text, 2 * number + 7)[1].support is Support.INVENTED


@given(
    st.dates(date(1950, 1, 1), date(2049, 12, 31)),
    st.dates(date(1950, 1, 1), date(2049, 12, 31)),
    st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%B %d, %Y", "%d %b %Y", "%Y%m%d"]),
)
def test_a_date_in_any_spelling_and_no_other(day, other, form):
    text = f"on {day.strftime(form)}"
    assert trace(text, day.isoformat())[1].support is Support.GROUNDED
    swapped = (other.year, other.day, other.month) == (day.year, day.month, day.day)
    if other != day and not swapped:
        assert trace(text, other.isoformat())[1].support is Support.INVENTED


@given(st.text(), ANYTHING, ANYTHING, ANYTHING)
def test_total(text, value, description, default):
    schema = {"description": description, "default": default, "enum": default, "items": description}
    for inner in (schema, {}, {"description": text}, description):
        _, grounding = trace(text, value, inner)
        assert isinstance(grounding.support, Support)


def test_values_that_python_cannot_write():
    deep = []
    for _ in range(5000):
        deep = [deep]
    for value in (10**9000, deep, [10**9000]):
        assert trace("Hi", value)[1].code == GroundingCode.INVENTED


def test_many_values_are_cut_off():
    arguments = tuple(Argument("value", f"word{n}", None, (0, 0)) for n in range(2000))
    call = Call("f", arguments, (0, 0), (0, 0))
    groundings = ground(task_of("word1999", tool_of(value={})), Parse("", ParseStatus.CALLS, (call,)))
    assert {grounding.code for grounding in groundings} == {GroundingCode.INVENTED}


# ---------------------------------------------------------------------------------------------------- the reward

TASK = task_of(
    "Find a table in Ulm for 4 guests.",
    tool_of(["city", "guests"], city={"type": "string"}, guests={"type": "integer"}, note={"type": "string"}),
)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (reply("city='Ulm', guests=4"), 1.0),
        (reply("city='Bonn', guests=4"), 1 / 2),
        (reply("city='Bonn', guests=5"), 0.0),
        (reply("city='Ulm'"), 1 / 2),
        (reply("city='Ulm', guests=4, note='table'"), 1.0),
        (reply("city='Bonn', guests=4, note='table'"), 1 / 2),
        (reply("city='Ulm', guests=4, note='candles'"), 2 / 3),
        (reply("city='Ulm', guests=4, unknown='Ulm'"), 2 / 3),
        (reply("city='Ulm', guests=4", "city='Ulm', guests=5"), 3 / 4),
        (reply("city='Ulm', guests=5", "guests=5, city='Ulm'"), 1 / 2),
        (reply("'Ulm', 4"), 1.0),
        (reply(""), 0.0),
        (reply("city='Ulm'").replace(")]", "]"), 0.0),
    ],
)
def test_score(judge, text, score):
    assert judge(TASK, text).score == pytest.approx(score)


def test_strict(judge):
    assert judge(TASK, reply("city='Ulm', guests=4"), strict=True).score == 1.0
    for wrong in ("city='Bonn', guests=4", "city='Ulm'", "city='Ulm', guests=4, note='candles'"):
        assert judge(TASK, reply(wrong), strict=True).score == 0.0


def test_reasons_point_both_ways(judge):
    text = reply("city='Ulm', guests=4", thinking="They said Ulm and 4.")
    (city, guests) = judge(TASK, text).reasons
    assert (city.code, text[slice(*city.span)]) == (GroundingCode.EXACT, "'Ulm'")
    assert (guests.code, text[slice(*guests.span)]) == (GroundingCode.NUMBER, "4")
    parameter, support, places, stated = city.message.split(" | ")
    message, start, end = map(int, re.fullmatch(r"(\d+):(\d+)-(\d+)", places).groups())
    assert (parameter, support) == ("city", "grounded")
    assert TASK.messages[message]["content"][start:end] == "Ulm"
    state, _, at = stated.partition(" ")
    assert (state, text[slice(*map(int, at.split("-")))]) == ("stated", "Ulm")


@pytest.mark.parametrize(
    ("thinking", "stated"),
    [
        ("There are 4 guests.", Stated.STATED),
        ("guests = 4", Stated.STATED),
        ("guests is 5, no, guests is 4", Stated.STATED),
        ("guests = 4, hm, guests = 5", Stated.CONTRADICTED),
        ("The number of guests is 5.", Stated.CONTRADICTED),
        ("guests: four", Stated.STATED),
        ("A table, then.", Stated.NOT_STATED),
    ],
)
def test_thinking(judge, thinking, stated):
    text = reply("city='Ulm', guests=4", thinking=thinking)
    grounding = ground(TASK, FunRL().parse(text))[1]
    assert grounding.stated is stated
    assert judge(TASK, text).score == (1 / 2 if stated is Stated.CONTRADICTED else 1.0)
    assert (GroundingCode.THINKING_CONTRADICTS in {r.code for r in judge(TASK, text).reasons}) is (
        stated is Stated.CONTRADICTED
    )


def test_thinking_that_must_state(judge):
    assert judge(TASK, reply("city='Ulm', guests=4", thinking="In Ulm."), must_state=True).score == 1 / 2
    assert judge(TASK, reply("city='Ulm', guests=4", thinking="Ulm, 4."), must_state=True).score == 1.0


def test_abstains_without_arguments(judge):
    nullary = task_of("Go.", tool_of())
    assert judge(nullary, reply("")).score is None
    assert judge(TASK, "<think>Well.</think><answer>I cannot.</answer>").reasons[0].code == ReasonCode.NOT_APPLICABLE


def test_admitting_what_was_never_given(judge):
    tool = tool_of(["radius"], radius={"type": "integer", "description": "The radius."})
    admitted = "<think>Hm.</think><answer>Please tell me the radius.</answer>"
    verdict = judge(task_of("What is the area of a circle?", tool), admitted)
    assert (verdict.score, verdict.reasons[0].code) == (1.0, GroundingCode.ADMITTED)
    assert admitted[slice(*verdict.reasons[0].span)] == "radius"
    assert judge(task_of("What is the area of a circle?", tool), reply("radius=5")).score == 0.0
    assert judge(task_of("Area of a circle of radius 5?", tool), admitted).score is None
    assert judge(task_of("What is the area?", tool, tool_of()), admitted).score is None
    assert judge(task_of("What is the area?", tool), admitted.replace("radius", "side")).score is None


GOOD = st.sampled_from(["city='Ulm', guests=4", "city='Ulm'", "guests=4", "city='Bonn', guests=4", "city='Bonn'"])
MORE = st.sampled_from(["note='table'", "note='candles'", "other='Ulm'", "note=''", "city='Bonn'"])


@given(GOOD, st.lists(MORE, max_size=3))
def test_added_arguments_never_raise_the_score(call, more):
    task_parse = [FunRL().parse(reply(", ".join([call, *more[:count]]))) for count in range(len(more) + 1)]
    reward = ParameterExtraction()
    scores = [score_of(reward, parse) for parse in task_parse if parse.status is ParseStatus.CALLS]
    assert scores == sorted(scores, reverse=True)


@given(GOOD, st.integers(1, 4))
def test_a_repeated_call_changes_nothing(call, times):
    reward = ParameterExtraction()
    once, often = (score_of(reward, FunRL().parse(reply(*[call] * n))) for n in (1, times))
    assert once == often


def score_of(reward, parse):
    return reward._judge(TASK, Grounder(TASK), parse).score


def test_the_answer_is_never_looked_at(judge):
    text = reply("city='Bonn', guests=4")
    answers = (None, Answer(), Answer((ExpectedCall("f", {"city": ["Bonn"], "guests": [4]}),)))
    verdicts = [judge(replace(TASK, answer=answer, meta={"possible_answer": []}), text) for answer in answers]
    assert verdicts[0] == verdicts[1] == verdicts[2]


def test_on_bfcl():
    """The reward's targets on the half that no rule was written from: few right values are called invented, most
    plausible wrong ones are noticed."""
    spec = importlib.util.spec_from_file_location("grounding_benchmark", ROOT / "benchmarks" / "grounding.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    count = module.measure("held-out").counts["all"]
    assert count.gold > 4000
    assert count.invented / count.gold < 0.02
    assert count.noticed / count.swapped > 0.9
