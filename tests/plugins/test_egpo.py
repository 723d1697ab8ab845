"""EGPO's own rules; what it shares with the other dialects is in `test_dialects.py`."""

from callwright import ParseStatus, ReasonCode
from callwright_dialects.egpo import Egpo

DIALECT = Egpo()


def test_a_good_reply():
    text = "<think>The é is a letter.</think>\n[f(a='é', b=2)]"
    parse = DIALECT.parse(text)
    assert parse.status is ParseStatus.CALLS
    assert parse.problems == ()
    assert text[slice(*parse.thinking)] == "The é is a letter."
    assert text[slice(*parse.body)] == "\n[f(a='é', b=2)]"
    assert [text[slice(*tag)] for tag in parse.tags] == ["<think>", "</think>"]
    assert [text[slice(*argument.value_span)] for argument in parse.calls[0].arguments] == ["'é'", "2"]


def problems(text):
    return [(p.message, p.span and text[slice(*p.span)]) for p in DIALECT.parse(text).problems]


def test_faults_of_the_tags():
    assert problems("[f()]") == [("there is no thinking", None)]
    assert problems("x</think>[f()]") == [("the thinking has no opening tag", None)]
    assert problems("Hm. <think>x</think>[f()]") == [("text in front of the thinking", "Hm. ")]
    assert problems("<think>x <think>y</think>[f()]") == [("a thinking tag is repeated", "<think>")]
    assert problems("<think>[f()]") == [("the thinking has no closing tag", None)]
    assert problems("<think>x</think>[f()]</think>")[0] == ("a thinking tag is repeated", "</think>")


def test_calls_without_thinking_are_read():
    parse = DIALECT.parse("[f(a=1)]")
    assert parse.status is ParseStatus.CALLS
    assert parse.body == (0, 8)


def test_without_an_opening_tag_everything_up_to_the_closing_one_is_thinking():
    parse = DIALECT.parse("[f(a=1)]</think>no")
    assert parse.status is ParseStatus.NO_CALL
    assert parse.thinking == (0, 8)


def test_an_unfinished_thought_has_no_body():
    parse = DIALECT.parse("<think>[f(a=1)]")
    assert parse.body is None
    assert parse.thinking == (7, 15)
    assert {problem.code for problem in parse.problems} == {ReasonCode.BAD_FORMAT}
