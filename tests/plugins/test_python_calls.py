"""Python calls as text: totality, spans, round trips, and the prompt."""

import ast
import keyword
import unicodedata
import warnings

import pytest
from callwright import Argument, Call, CallwrightError, Dialect, ParseStatus, ReasonCode, Task, Tool
from callwright_dialects.python_calls import PythonCalls
from callwright_dialects.python_syntax import MAX_CHARACTERS, MAX_NESTING
from hypothesis import example, given
from hypothesis import strategies as st

DIALECT = PythonCalls()


def writable(name):
    return name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name


IDENTIFIERS = st.one_of(
    st.sampled_from(["a", "city", "größe", "名前", "_x1"]),
    st.text(st.characters(categories=["L", "Nd", "Pc"]), min_size=1, max_size=6).filter(writable),
)
NAMES = st.lists(IDENTIFIERS, min_size=1, max_size=3).map(".".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@st.composite
def calls(draw):
    arguments = draw(st.dictionaries(IDENTIFIERS, VALUES, max_size=3))
    return Call(draw(NAMES), tuple(Argument(n, v, (0, 0), (0, 0)) for n, v in arguments.items()), (0, 0), (0, 0))


PIECES = [
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    "=",
    ":",
    "'",
    '"',
    ".",
    "*",
    "**",
    "-",
    "+",
    "f(",
    "f(a=",
    "a=1",
    "'é名'",
    "#",
    "`",
    "lambda",
    "not",
    "for",
    "0x",
    "None",
]
PIECES += [" ", "\n", "\\", "\0", "\ud800", '"""', "\r", "\r\n"]
SOUP = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


def check_spans(parse):
    """Every span lies inside what holds it, and the text there is what the parse says."""
    for call in parse.calls:
        assert parse.body[0] <= call.span[0] <= call.name_span[0] < call.name_span[1] < call.span[1] <= parse.body[1]
        assert (
            unicodedata.normalize("NFKC", parse.text[slice(*call.name_span)])
            .split(".")[0]
            .strip()
            .startswith(call.name.split(".")[0])
        )
        end = call.name_span[1]
        for argument in call.arguments:
            assert end <= argument.value_span[0] < argument.value_span[1] < call.span[1]
            if argument.name_span is not None:
                assert end <= argument.name_span[0] < argument.name_span[1] < argument.value_span[0]
                written = parse.text[slice(*argument.name_span)]
                assert unicodedata.normalize("NFKC", written) == argument.name
            end = argument.value_span[1]
    for problem in parse.problems:
        assert problem.span is None or 0 <= problem.span[0] <= problem.span[1] <= len(parse.text)


@given(st.text() | SOUP)
@example("f(a=1)\r\n")
@example("[f(\uff41=1, b='é', \ufb01=2)]")  # a full-width letter and a ligature
@example("f(a # =\n = 1)")
@example("[f(a\\\n=1)]")
def test_parse_is_total(text):
    parse = DIALECT.parse(text)
    assert parse.text == text
    assert bool(parse.calls) == (parse.status is ParseStatus.CALLS)
    check_spans(parse)


HOSTILE = [
    "[" * 1_000_000,
    "(" * 199,
    "f(" * 4900,
    "[f(a=" + "[" * 150 + "]" * 150 + ")]",
    "f(a=" + "-" * 9_900 + "1)",
    "f(a=" + "1+" * 4900 + "1)",
    "f" + ".a" * 4900 + "(a=1)",
    "f(a=" + "d" + "[0]" * 3300 + ")",
    "a" * MAX_CHARACTERS,
    "a." * (MAX_CHARACTERS // 2),
    "<tool" * 1900,
    "f(a=10**10**10)",
    "f(a=0x" + "f" * 9_900 + ")",
    "f(a=" + "9" * 9_900 + ")",
    "f(a='\0')",
    "f(a='\ud800')",
    "x" * 1_000_000,
    "f(a=__import__('os').getpid())",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_hostile_text_is_data(text):
    parse = DIALECT.parse(text)
    assert parse.status in set(ParseStatus)
    for call in parse.calls:  # whatever was read can be written again
        repr(call)


@given(st.lists(calls(), min_size=1, max_size=3))
def test_round_trip(expected):
    text = DIALECT.render(expected)
    parse = DIALECT.parse(text)
    assert parse.status is ParseStatus.CALLS
    assert not parse.problems
    assert [call.to_json() for call in parse.calls] == [call.to_json() for call in expected]
    assert [repr(call.to_json()) for call in parse.calls] == [
        repr(call.to_json()) for call in expected
    ]  # 1 is not True
    check_spans(parse)
    for call in parse.calls:
        assert DIALECT.parse(text[slice(*call.span)]).calls[0].to_json() == call.to_json()
        for argument in call.arguments:
            assert ast.literal_eval(text[slice(*argument.value_span)]) == argument.value


@given(calls(), st.sampled_from(["", "  ", "\n", "```\n"]), st.booleans())
def test_spans_survive_what_surrounds_the_list(call, around, brackets):
    inner = DIALECT.render([call])
    text = around + (inner if brackets else inner[1:-1]) + around[::-1]
    parse = DIALECT.parse(text)
    assert parse.calls[0].to_json() == call.to_json()
    assert text[slice(*parse.calls[0].span)] == inner[1:-1]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[f(a=1)]", ParseStatus.CALLS),
        ("f(a=1), g()", ParseStatus.CALLS),
        ("", ParseStatus.NO_CALL),
        ("[]", ParseStatus.NO_CALL),
        ("None of the function(s) can help you (sorry).", ParseStatus.NO_CALL),
        ("hello", ParseStatus.NO_CALL),
        ("[f(a=1", ParseStatus.UNPARSABLE),
        ("Sure: f(a=1)", ParseStatus.UNPARSABLE),
        ("[f(a=1)] done", ParseStatus.UNPARSABLE),
        ("[f]", ParseStatus.UNPARSABLE),
        ("f(from='x')", ParseStatus.UNPARSABLE),
        ('{"name": "f", "arguments": {}}', ParseStatus.UNPARSABLE),
        ('<tool_call>{"name": "f"}</tool_call>', ParseStatus.UNPARSABLE),
        ("x[0].f(a=1)", ParseStatus.UNPARSABLE),
        ("[f(a=" + "[" * (MAX_NESTING + 2) + "]" * (MAX_NESTING + 2) + ")]", ParseStatus.UNPARSABLE),
        ("[f(a='" + "x" * MAX_CHARACTERS + "')]", ParseStatus.UNPARSABLE),
    ],
    ids=lambda value: str(value)[:20],
)
def test_three_outcomes(text, status):
    assert DIALECT.parse(text).status is status


def test_long_prose_is_unparsable_by_the_stated_limit():
    assert DIALECT.parse("x " * MAX_CHARACTERS).problems[0].message == f"longer than {MAX_CHARACTERS} characters"


@pytest.mark.parametrize(
    ("argument", "value", "code", "span"),
    [
        ("celsius", "celsius", ReasonCode.POSITIONAL_ARGUMENT, "celsius"),
        ("1", 1, ReasonCode.POSITIONAL_ARGUMENT, "1"),
        ("a=celsius", "celsius", ReasonCode.WRONG_TYPE, "celsius"),
        ("a=Color.RED", "Color.RED", ReasonCode.WRONG_TYPE, "Color.RED"),
        ("a=g(1)", "g(1)", ReasonCode.WRONG_TYPE, "g(1)"),
        ("a=1+1", "1+1", ReasonCode.WRONG_TYPE, "1+1"),
        ("a=not True", "not True", ReasonCode.WRONG_TYPE, "not True"),
        ("a={1, 2}", "{1, 2}", ReasonCode.WRONG_TYPE, "{1, 2}"),
        ("a={[]: 1}", "{[]: 1}", ReasonCode.WRONG_TYPE, "{[]: 1}"),
        ("a=1, a=2", 2, ReasonCode.UNEXPECTED_ARGUMENT, "a"),
        ("**k", "k", ReasonCode.UNEXPECTED_ARGUMENT, "k"),
    ],
)
def test_problems_have_a_place(argument, value, code, span):
    text = f"[f({argument})]"
    parse = DIALECT.parse(text)
    assert parse.calls[0].arguments[-1].value == value
    assert code in [problem.code for problem in parse.problems]
    assert span in [text[slice(*problem.span)] for problem in parse.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [("-5", -5), ("+5", 5), ("-0.5", -0.5), ("(1, [2])", (1, [2])), ("{'a': {'b': None}}", {"a": {"b": None}})],
)
def test_literals(text, value):
    parse = DIALECT.parse(f"f(a={text})")
    assert parse.calls[0].arguments[0].value == value
    assert not parse.problems


def test_no_warning_reaches_the_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DIALECT.parse(r"f(a='\d', b=1 is 1)").status is ParseStatus.CALLS


@pytest.mark.parametrize("name", ["from", "a-b", "", "ﬁ", "1a"])
def test_render_refuses_names_that_python_cannot_write(name):
    with pytest.raises(CallwrightError, match="cannot be a name"):
        DIALECT.render([Call("f", (Argument(name, 1, (0, 0), (0, 0)),), (0, 0), (0, 0))])


# ------------------------------------------------------------------------------------------------------- prompts

WEATHER = {
    "name": "weather.get",
    "description": "Weather\n of a city.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Its name."},
            "days": {"type": "array", "items": {"type": "integer"}},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "place": {"type": "object", "properties": {"x": {"type": "number"}}},
            "other": {},
        },
        "required": ["city"],
    },
}
SIGNATURE = (
    "weather.get(city: str, days: list[int] = optional, unit: 'C' | 'F' = optional, place: {x: float} = optional, "
    "other: any = optional)  # Weather of a city."
)
EXAMPLES = [
    {"tools": [WEATHER], "question": "In Ulm?", "calls": [{"name": "weather.get", "arguments": {"city": "Ulm"}}]},
    {"question": "Who are you?", "reply": "A model."},
]


def test_prompt_shows_examples_first_and_the_task_last():
    task = Task(
        "1", ({"role": "system", "content": "Be quick."}, {"role": "user", "content": "Oslo?"}), (Tool(**WEATHER),)
    )
    prompt = PythonCalls(instruction="Call.", examples=EXAMPLES).prompt(task)
    assert prompt.tools is None
    assert prompt.messages == [
        {"role": "system", "content": "Call."},
        {"role": "user", "content": f"Functions:\n{SIGNATURE}\n\nIn Ulm?"},
        {"role": "assistant", "content": "[weather.get(city='Ulm')]"},
        {"role": "user", "content": "Functions:\nnone\n\nWho are you?"},
        {"role": "assistant", "content": "A model."},
        {"role": "user", "content": f"Functions:\n{SIGNATURE}\n\nBe quick.\nOslo?"},
    ]


def test_prompt_styles():
    task = Task("1", ({"role": "user", "content": "Oslo?"},), (Tool(**WEATHER),))
    described = PythonCalls(parameter_descriptions=True).prompt(task).messages[-1]["content"]
    assert described == f"Functions:\n{SIGNATURE}\n    city: Its name.\n\nOslo?"
    assert '\n{"name": "weather.get", "desc' in PythonCalls(tool_style="json").prompt(task).messages[-1]["content"]


def test_prompt_keeps_a_conversation():
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"})
    contents = [m["content"] for m in DIALECT.prompt(Task("1", turns)).messages[1:]]
    assert contents == ["Functions:\nnone\n\na", "b", "c"]


@pytest.mark.parametrize(
    "wrong", [{"question": "q"}, {"question": "q", "reply": "a", "calls": []}, {"question": "q", "replly": "a"}]
)
def test_examples_are_checked(wrong):
    with pytest.raises(ValueError, match=r"either 'calls' or 'reply'|Unexpected keyword"):
        PythonCalls(examples=[wrong])


def test_is_a_dialect():
    assert isinstance(DIALECT, Dialect)
    assert DIALECT.stop == ()
