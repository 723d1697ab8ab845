"""What holds for every dialect: round trips, spans, totality, three outcomes, prompts."""

import json
import unicodedata
from dataclasses import replace

import pytest
from callwright import Argument, Call, CallwrightError, Dialect, ParseStatus, ReasonCode, Task, Tool
from callwright_dialects.outcomes import MAX_CHARACTERS, MAX_INTEGER_BITS, MAX_NESTING, MAX_TEXT
from callwright_dialects.python_calls import PythonCalls
from dialect_replies import CASES, MARKS, NOWHERE, TEXTS, UNMARKED, Writer, call
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # of the tests' own literal_eval
every_dialect = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
THINKING = {name: case for name, case in CASES.items() if name != "python_calls"}


def contents(calls):
    """Exact: 1 is not True, and -0.0 is not 0.0."""
    return repr([(one.name, [(a.name, a.value) for a in one.arguments]) for one in calls])


def check(case, parse):
    """What holds for the parse of any text."""
    text = parse.text
    assert bool(parse.calls) == (parse.status is ParseStatus.CALLS)
    assert (parse.status is ParseStatus.UNPARSABLE) == (ReasonCode.UNPARSABLE in {p.code for p in parse.problems})
    spans = [*parse.tags, parse.thinking, parse.body, *(problem.span for problem in parse.problems)]
    for start, end in filter(None, spans):
        assert 0 <= start <= end <= len(text)
    flawed = {problem.span for problem in parse.problems if problem.code == ReasonCode.WRONG_TYPE}
    end = parse.body[0] if parse.calls else 0
    for one in parse.calls:
        assert end <= one.span[0] <= one.name_span[0] <= one.name_span[1] <= one.span[1] <= parse.body[1]
        assert same_name(case.name(text[slice(*one.name_span)]), one.name)
        end = one.span[0]
        for argument in one.arguments:
            assert end <= argument.value_span[0] < argument.value_span[1] <= one.span[1]
            if argument.name_span is not None:
                assert end <= argument.name_span[0] <= argument.name_span[1] < argument.value_span[0]
                assert same_name(case.key(text[slice(*argument.name_span)]), argument.name)
            if argument.value_span not in flawed:
                assert repr(case.value(text[slice(*argument.value_span)])) == repr(argument.value)
            end = argument.value_span[1]
        end = one.span[1]


def same_name(written, name):
    """Python folds names, and lets white space stand around the dots."""
    return written == name or "".join(unicodedata.normalize("NFKC", written).split()) == name or "\\" in written


@every_dialect
@settings(max_examples=15)
@given(data=st.data())
def test_render_is_read_back(case, data):
    calls = data.draw(case.calls(TEXTS))
    text = case.dialect.render(calls)
    parse = case.dialect.parse(text)
    assert contents(parse.calls) == contents(calls)
    assert parse.problems == ()
    check(case, parse)


@every_dialect
@settings(max_examples=15)
@given(data=st.data())
def test_style_does_not_matter(case, data):
    calls = data.draw(case.calls(UNMARKED))
    text = case.write(Writer(data.draw), calls)
    assume(len(text) <= MAX_CHARACTERS)  # escaped twice, every character may have become 36
    parse = case.dialect.parse(text)
    assert contents(parse.calls) == contents(calls)
    assert parse.problems == ()
    check(case, parse)


DEEP = {"a": 1}
for _ in range(MAX_NESTING):
    DEEP = [DEEP]
WILD = st.recursive(
    st.none()
    | st.integers(-(2**5000), 2**5000)
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.sampled_from([DEEP, DEEP[0], 1j, ..., frozenset(), ReasonCode.CORRECT, "x" * MAX_CHARACTERS, "\ud83d\ude00"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.none() | st.just(1.5), inner, max_size=2)
    ),
    max_leaves=4,
)
WILD_NAMES = st.sampled_from(["f", "a.b", "", "from", "a-b", "1a", "ﬁ", "a b", '"', "a[", "\ud800", "</think>"])


@st.composite
def wild_calls(draw):
    names = st.none() | WILD_NAMES
    arguments = draw(st.lists(st.builds(Argument, names, WILD, st.just(NOWHERE), st.just(NOWHERE)), max_size=3))
    return Call(draw(WILD_NAMES), tuple(arguments), NOWHERE, NOWHERE)


@every_dialect
@settings(max_examples=15)
@given(calls=st.lists(wild_calls(), max_size=2))
@example(calls=[])
def test_render_refuses_what_would_not_be_read_back(case, calls):
    try:
        text = case.dialect.render(calls)
    except CallwrightError:
        return
    assert contents(case.dialect.parse(text).calls) == contents(calls)


PIECES = [*MARKS, "[", "}", "(", ")", ",", "=", ":", "f(", "a=1", '"name": "f"', '"arguments": {', '{"a": 1}', "f"]
PIECES += ["null", "1e999", "NaN", "9" * 1300, "\0", "\ud800", "\\ud800", "\r\n", " ", "é😀", "#", "lambda", "**"]
SOUP = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=15).map("".join)


@st.composite
def damaged(draw, texts):
    """A text with a few slices deleted, doubled, or replaced."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 8)))
        middle = draw(st.sampled_from(["", text[start:end] * 2]) | st.sampled_from(PIECES))
        text = text[:start] + middle + text[end:]
    return text


@every_dialect
@settings(max_examples=25)
@given(data=st.data())
def test_parse_is_total(case, data):
    valid = st.builds(lambda calls: case.write(Writer(data.draw), calls), case.calls(UNMARKED))
    text = data.draw(SOUP | damaged(valid))
    parse = case.dialect.parse(text)
    assert parse.text == text
    if "\ud800" not in text:  # in source text: literal_eval refuses it, where the parse gives the text
        check(case, parse)
    assert case.dialect.parse(text) == parse


@every_dialect
@settings(max_examples=15)
@given(data=st.data())
def test_a_call_cut_short_is_no_abstention(case, data):
    text = case.dialect.render(data.draw(case.calls(TEXTS)))
    parse = case.dialect.parse(text)
    first = parse.calls[0]
    cut = data.draw(st.integers(first.name_span[1] + 1, len(text)))
    assert case.dialect.parse(text[:cut]).status is not ParseStatus.NO_CALL


def body_of(case, calls):
    text = case.dialect.render(calls)
    return text[slice(*case.dialect.parse(text).body)].strip()


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("<think>{body}</think>I cannot do that.", ParseStatus.NO_CALL),
        ("<think>{body}</think><think>{body}</think>I cannot do that.", ParseStatus.NO_CALL),
        ("<think>x<think>{body}</think>I cannot do that.", ParseStatus.NO_CALL),
        ("<think>{body}", ParseStatus.NO_CALL),
        ("{body}<think>x</think>I cannot do that.", ParseStatus.UNPARSABLE),
        ("<think>x</think>{body}<think>x</think>", ParseStatus.UNPARSABLE),
        ("<think>x</think>{body}<think>{body}</think>{body}", ParseStatus.UNPARSABLE),
        ("{body}<think>{body}", ParseStatus.UNPARSABLE),
    ],
)
def test_thinking_makes_no_calls(name, reply, status):
    case = CASES[name]
    text = reply.format(body=body_of(case, [call("f", {"a": 1})]))
    parse = case.dialect.parse(text)
    assert parse.status is status
    assert ReasonCode.BAD_FORMAT in {p.code for p in parse.problems} or text.count("think>") == 2


@every_dialect
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", ParseStatus.NO_CALL),
        (" \n", ParseStatus.NO_CALL),
        ("I cannot help with that.", ParseStatus.NO_CALL),
        ("None of the function(s) fits.", ParseStatus.NO_CALL),
        ("[f(a=1", ParseStatus.UNPARSABLE),
        ("I would call f(a=1).", ParseStatus.UNPARSABLE),
        ('{"name": "f", "arguments": {"a": 1', ParseStatus.UNPARSABLE),
        ('Sure! {"name": "f", "arguments": {"a": 1}}', ParseStatus.UNPARSABLE),
        ('<tool_call>{"name": "f"}</tool_call>', ParseStatus.UNPARSABLE),
        ("<tool_call></tool_call>", ParseStatus.UNPARSABLE),
        ("[TOOL_CALLS]", ParseStatus.UNPARSABLE),
        ("<|python_tag|>", ParseStatus.UNPARSABLE),
    ],
)
def test_three_outcomes(case, text, status):
    assert case.dialect.parse(text).status is status


HOSTILE = {
    "open lists": "[" * 1_000_000,
    "open calls": "f(" * 500_000,
    "power": "[f(a=10**10**10)]",
    "exit": "[exit()+1]",
    "import": "[f(a=__import__('os').getpid())]",
    "nul": "[f(a='\0')]" * 3,
    "surrogates": "\ud800" * 1000,
    "megabyte": "x" * 1_000_000,
    "thinking": "<think>" * 100_000,
    "thinking again": "<think></think>" * (MAX_TEXT // 15),
    "long thinking": "<think>" + "x" * 1_000_000 + "</think>[f(a=1)]",
    "tags": "<tool_call>" * (MAX_CHARACTERS // 11),
    "marks": "[TOOL_CALLS]" * (MAX_CHARACTERS // 12),
    "spaces": " " * MAX_TEXT,
}
VALUES = {
    "deep list": "[" * 3000 + "]" * 3000,
    "deep object": '{"a":' * 1500 + "1" + "}" * 1500,
    "long integer": "9" * 9000,
    "long exponent": "1e" + "9" * 9000,
    "open string": '"' + "\\" * 9000,
    "surrogates": '"' + "\\ud800" * 1500 + '"',
    "NaN": "NaN",
    "Infinity": "[-Infinity]",
    "NUL": '"\0"',
}
FRAMES = {
    "python": "[f(a={})]",
    "json": '{{"name": "f", "arguments": {{"a": {}}}}}',
    "hermes": '<tool_call>{{"name": "f", "arguments": {{"a": {}}}}}</tool_call>',
    "named": '[TOOL_CALLS]f[ARGS]{{"a": {}}}',
}
HOSTILE |= {f"{a} {b}": frame.format(value) for a, frame in FRAMES.items() for b, value in VALUES.items()}


@every_dialect
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_data(case, text):
    parse = case.dialect.parse(text)
    assert parse.status in set(ParseStatus)
    json.dumps([one.to_json() for one in parse.calls], allow_nan=False)  # whatever was read can be written again


@every_dialect
def test_limits_are_stated(case):
    limits = {f"longer than {limit} characters" for limit in (MAX_TEXT, MAX_CHARACTERS)}
    assert case.dialect.parse("x " * MAX_TEXT).problems[0].message in limits
    with pytest.raises(CallwrightError, match="characters cannot be written"):
        case.dialect.render([call("f", {"a": "x" * MAX_CHARACTERS})])
    with pytest.raises(CallwrightError, match="nested deeper"):
        case.dialect.render([call("f", {"a": DEEP})])
    with pytest.raises(CallwrightError, match="read back"):
        case.dialect.render([call("f", {"a": -(2**MAX_INTEGER_BITS)})])
    most = [call("f", {"a": DEEP[0], "b": 2**MAX_INTEGER_BITS - 1})]
    assert contents(case.dialect.parse(case.dialect.render(most)).calls) == contents(most)


# ------------------------------------------------------------------------------------------------------- prompts

TOOL = Tool("weather.get", "Weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})
EXAMPLES = [
    {"tools": [TOOL.to_json()], "question": "In Ulm?", "calls": [{"name": "f", "arguments": {"city": "Ulm"}}]},
    {"question": "Who are you?", "reply": "A model.", "thinking": "No tool fits."},
]
TASK = Task("1", ({"role": "system", "content": "Be quick."}, {"role": "user", "content": "Oslo?"}), (TOOL,))


@every_dialect
def test_examples_are_earlier_turns_that_the_dialect_reads(case):
    dialect = type(case.dialect)(examples=EXAMPLES)
    assert isinstance(dialect, Dialect)
    messages = dialect.prompt(TASK).messages
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "Be quick." in messages[0]["content"] + messages[5]["content"]
    assert messages[1]["content"].endswith("In Ulm?")
    assert "weather.get" in messages[1]["content"]
    assert messages[5]["content"].endswith("Oslo?")
    called, replied = (dialect.parse(messages[i]["content"]) for i in (2, 4))
    assert contents(called.calls) == contents([call("f", {"city": "Ulm"})])
    assert called.problems == replied.problems == ()
    assert replied.status is ParseStatus.NO_CALL


@every_dialect
@settings(max_examples=10)
@given(own=st.lists(st.sampled_from(EXAMPLES), max_size=2), tasks=st.lists(st.sampled_from(EXAMPLES), max_size=2))
def test_a_tasks_own_examples_come_behind_the_dialects(case, own, tasks):
    """As if the dialect had been given all of them; and a prompt's messages are nobody else's."""
    given_both = type(case.dialect)(examples=[*own, *tasks]).prompt(TASK)
    dialect, task = type(case.dialect)(examples=own), replace(TASK, meta={"examples": tasks})
    for _ in range(2):
        prompt = dialect.prompt(task)
        assert prompt == given_both
        for message in prompt.messages:
            message["content"] = "changed"


@every_dialect
@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ("no list", "meta.examples: Input should be a valid list"),
        ([{"reply": "Yes."}], "meta.examples.0.question: Field required"),
        ([{"question": "q"}], "meta.examples.0: .*either 'calls' or 'reply'"),
        ([{"question": "q", "reply": "a", "call": []}], "meta.examples.0.call: Unexpected"),
        ([{"question": "q", "calls": [{"name": "f", "arguments": {"a": 1e999}}]}], "meta.examples cannot be written"),
        ([{"question": "q", "reply": object()}], "meta.examples cannot be written"),
    ],
    ids=["text", "no question", "no reply", "unknown key", "infinite", "no JSON"],
)
def test_a_tasks_examples_that_are_none_are_refused(case, examples, said):
    task = replace(TASK, meta={"examples": examples})
    for _ in range(2):
        with pytest.raises(CallwrightError, match=f"task '1': {said}.*mend its `meta`"):
            case.dialect.prompt(task)


def test_a_tasks_examples_are_checked_once(monkeypatch):
    dialect = PythonCalls()
    expected = dialect.prompt(replace(TASK, meta={"examples": EXAMPLES}))
    monkeypatch.setattr("callwright_dialects.prompting._EXAMPLES", None)
    copies = json.loads(json.dumps(EXAMPLES))  # equal content, as each row read from a disk has
    assert dialect.prompt(replace(TASK, meta={"examples": copies})) == expected
    with pytest.raises(AttributeError):
        dialect.prompt(replace(TASK, meta={"examples": EXAMPLES[:1]}))


@every_dialect
def test_tools_stand_in_the_template_or_in_the_text(case):
    prompt = case.dialect.prompt(TASK)
    text = json.dumps(prompt.messages)
    if getattr(case.dialect, "tools_in", "text") == "template":
        assert prompt.tools == [{"type": "function", "function": TOOL.to_json()}]
        assert "weather.get" not in text
        assert case.dialect.prompt(Task("1", TASK.messages)).tools is None
    else:
        assert prompt.tools is None
        assert "weather.get" in text


@every_dialect
def test_examples_that_cannot_be_written_are_refused(case):
    wrong = [{"question": "q", "calls": [{"name": "f", "arguments": {"a": 1e999}}]}]
    with pytest.raises(CallwrightError, match="inf cannot be"):
        type(case.dialect)(examples=wrong)


@pytest.mark.parametrize("name", [name for name in THINKING if "think" in name or name in ("funrl", "egpo")])
def test_thinking_is_written_and_asked_for(name):
    dialect = CASES[name].dialect
    text = dialect.render([call("f", {})], "Use f.")
    parse = dialect.parse(text)
    assert text[slice(*parse.thinking)].strip() == "Use f."
    assert parse.problems == ()
    assert "think" in dialect.prompt(TASK).messages[0]["content"].lower()
    with pytest.raises(CallwrightError, match="would end or repeat"):
        dialect.render([], "</think>")
    assert ReasonCode.BAD_FORMAT in {p.code for p in dialect.parse("I cannot.").problems}


def test_python_calls_knows_no_thinking():
    assert PythonCalls().parse("<think>x</think>[f(a=1)]").status is ParseStatus.UNPARSABLE
