from callwright import Dialect, ParseStatus, ReasonCode, Task
from callwright_dialects.funrl import FunRL
from hypothesis import given
from hypothesis import strategies as st

DIALECT = FunRL()
GOOD = "<think>The é is a letter.</think>\n<answer>[f(a='é', b=2)]</answer>"
PIECES = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "[f(a=1)]", "f(", "no", " ", "\n", "é"])


def problems(text):
    return [problem.message for problem in DIALECT.parse(text).problems]


def test_a_good_reply():
    parse = DIALECT.parse(GOOD)
    assert parse.status is ParseStatus.CALLS
    assert parse.problems == ()
    assert GOOD[slice(*parse.thinking)] == "The é is a letter."
    assert GOOD[slice(*parse.body)] == "[f(a='é', b=2)]"
    assert [GOOD[slice(*tag)] for tag in parse.tags] == ["<think>", "</think>", "<answer>", "</answer>"]
    call = parse.calls[0]
    assert GOOD[slice(*call.span)] == "f(a='é', b=2)"
    assert [GOOD[slice(*argument.value_span)] for argument in call.arguments] == ["'é'", "2"]


def test_prose_in_the_answer_is_no_call():
    parse = DIALECT.parse("<think>Should I use f(a=1)?</think><answer>I cannot do that.</answer>")
    assert parse.status is ParseStatus.NO_CALL
    assert parse.problems == ()


def test_calls_while_thinking_are_no_calls():
    assert DIALECT.parse("<think>f(a=1)").status is ParseStatus.NO_CALL
    assert DIALECT.parse("<think>x</think>f(a=1)").status is ParseStatus.UNPARSABLE
    assert DIALECT.parse("f(a=1)").status is ParseStatus.UNPARSABLE


def test_missing_tags():
    assert problems("[f(a=1)]")[:4] == [f"{tag} is missing" for tag in ("<think>", "</think>", "<answer>", "</answer>")]
    parse = DIALECT.parse("<think>x</think><answer>[f(a=1)]")
    assert [problem.code for problem in parse.problems] == [ReasonCode.BAD_FORMAT, ReasonCode.UNPARSABLE]
    assert parse.problems[0].message == "</answer> is missing"
    assert parse.body is None
    assert parse.thinking == (7, 8)


def test_unclosed_thinking_runs_to_the_next_tag_or_the_end():
    assert DIALECT.parse("<think>abc").thinking == (7, 10)
    parse = DIALECT.parse("<think>abc<answer>[f(a=1)]</answer>")
    assert parse.thinking == (7, 10)
    assert parse.body is not None


def test_repeated_and_misplaced_tags():
    assert "<think> is repeated" in problems("<think>a<think>b</think><answer>[]</answer>")
    parse = DIALECT.parse("<think>a</think><answer>[f()]</answer><answer>[g()]</answer>")
    assert parse.body is None
    assert "the tags are out of order" in problems("<answer>[f()]</answer><think>a</think>")
    assert DIALECT.parse("<think>a</think></answer>[f()]<answer>").body is None


def test_text_outside_the_tags():
    for text in (f"x{GOOD}", f"{GOOD}x", GOOD.replace("\n", "x")):
        (problem,) = DIALECT.parse(text).problems
        assert problem.code == ReasonCode.BAD_FORMAT
        assert text[slice(*problem.span)] == "x"
    assert problems(f" {GOOD}\n") == []


@given(st.lists(PIECES, max_size=15).map("".join) | st.text())
def test_parse_is_total(text):
    parse = DIALECT.parse(text)
    assert parse.text == text
    assert bool(parse.calls) == (parse.status is ParseStatus.CALLS)
    for start, end in [*parse.tags, *filter(None, (parse.thinking, parse.body)), *(call.span for call in parse.calls)]:
        assert 0 <= start <= end <= len(text)
    well_formed = not [problem for problem in parse.problems if problem.code == ReasonCode.BAD_FORMAT]
    names = [text[slice(*tag)] for tag in parse.tags]
    assert well_formed <= (names == ["<think>", "</think>", "<answer>", "</answer>"])


def test_hostile_text():
    for text in ("<think>" * 100_000, "</answer>" * 100_000, "<answer>" + "[" * 1_000_000 + "</answer>"):
        assert DIALECT.parse(text).calls == ()


@given(st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"])))
def test_render_is_read_back(thinking):
    calls = DIALECT.parse(GOOD).calls
    parse = DIALECT.parse(DIALECT.render(calls, thinking))
    assert [call.to_json() for call in parse.calls] == [call.to_json() for call in calls]
    assert parse.text[slice(*parse.thinking)] == thinking
    assert parse.problems == ()


def test_prompt_examples_think():
    example = {"question": "q", "calls": [{"name": "f"}], "thinking": "Use f."}
    messages = FunRL(examples=[example]).prompt(Task("1", ({"role": "user", "content": "x"},))).messages
    assert messages[2]["content"] == "<think>Use f.</think><answer>[f()]</answer>"
    assert isinstance(DIALECT, Dialect)
    assert DIALECT.stop == ("</answer>",)
