"""Replies that are still being written: `unfinished` of every dialect."""

from collections import Counter

import pytest
from callwright import ParseStatus, Segment
from callwright.rollouts import character_segments
from callwright.testing import tasks
from callwright.testing.hostile import TEXTS as HOSTILE_TEXTS
from callwright.testing.hostile import pumped
from callwright.testing.scoring import gold_text
from callwright_dialects.funrl import FunRL
from callwright_dialects.hermes import Hermes
from callwright_dialects.json_calls import JsonCalls
from callwright_dialects.llama3 import Llama3
from callwright_dialects.mistral import Mistral
from callwright_dialects.python_calls import PythonCalls
from callwright_dialects.unfinished import MAX_UNFINISHED
from dialect_replies import CASES, MARKS, TEXTS, UNMARKED, Writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")
every_dialect = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
LETTERS = dict(zip("hctfav.", [1, 2, 3, 4, 5, 6, 8], strict=True))


def newest(parse):
    return character_segments(parse)[-1]


# ------------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(
    ("dialect", "text", "kinds"),
    [
        (
            PythonCalls(),
            r"[add(x=-1.5e3, who='ce\'d'), m.ping(t=[1, {'a': None}])]",
            ".fffcacvvvvvvccaaacvvvvvvvcccffffffcacvvvvvvvvvvvvvvvvc.",
        ),
        (
            FunRL(),
            "<think>f(</think><answer>[f(a=[True, (1,)], b={'k': {1: 2}})]</answer>",
            "......thhhhhhhhht.......t.fcacvvvvvvvvvvvvccacvvvvvvvvvvvvvc.........t",
        ),
        (
            Hermes(),
            r'<tool_call> {"name": "f\n", "arguments": {"a": [1, {"b": true}], "c": -2}} </tool_call>',
            "............ccccccccccfffccccccccccccccccccacccvvvvvvvvvvvvvvvvcccacccvvcc............t",
        ),
        (
            Hermes(),
            '<tool_call>{"arguments": {"a": "x"}, "name": "f"}</tool_call>',
            "...........ccccccccccccccccacccvvvccccccccccccfcc...........t",
        ),
        (
            Llama3(),
            '<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {"a": ""}}',
            ".............tccccccccccfccccccccccccccccccccccccccccccccfcccccccccccccccccccacccvvcc",
        ),
        (
            Mistral(),
            '[TOOL_CALLS]go[ARGS]{"a": 10}',
            "............ffccccccccacccvvc",
        ),
        (
            Mistral(),
            '[TOOL_CALLS]go[CALL_ID]x1[ARGS]{"a": 10}',
            "............ffcccccccccccccccccccacccvvc",
        ),
        (
            Mistral(),
            '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]',
            ".............ccccccccccfccccccccccccccccccacccvcc.",
        ),
        (
            JsonCalls(),
            r'[{"type": "function", "function": {"name": "f", "arguments": "{\"a\": \"x\"}"}}]',
            ".cccccccccccccccccccccccccccccccccccccccccccfccccccccccccccccccccaccccvvvvvcccc.",
        ),
    ],
)
def test_the_newest_character_is_known_while_it_is_written(dialect, text, kinds):
    letters = {value: letter for letter, value in LETTERS.items()}
    found = "".join(letters[newest(dialect.unfinished(text[:end]))] for end in range(1, len(text) + 1))
    assert found == kinds


def test_an_unfinished_call_is_read_as_far_as_it_goes():
    text = "<think>x</think><answer>[f(a=1), get(b='y', ci"
    parse = FunRL().unfinished(text)
    assert (parse.text, parse.status) == (text, ParseStatus.CALLS)
    assert [text[slice(*span)] for span in (parse.thinking, parse.body)] == ["x", "[f(a=1), get(b='y', ci"]
    first, second = parse.calls
    assert first == FunRL().parse("<think>x</think><answer>[f(a=1)]</answer>").calls[0]
    assert text[slice(*second.span)] == "get(b='y', ci"
    assert [(a.name, a.value, text[slice(*a.value_span)]) for a in second.arguments] == [
        ("b", "y", "'y'"),
        ("ci", None, ""),
    ]
    parse = Hermes().unfinished('<tool_call>{"name": "get", "arguments": {"a": 1, "b": {"c": [2')
    assert [(a.name, a.value) for a in parse.calls[0].arguments] == [("a", 1), ("b", None)]
    written_out = r'[{"name": "f", "arguments": "{\n  \"a\": 1,\n  \"b\": 2'
    for goes_on in ("", "\\", "\\n", "\\u", "\\u000a}"):
        parse = JsonCalls().unfinished(written_out + goes_on)
        assert [(a.name, a.value) for a in parse.calls[0].arguments] == [("a", 1), ("b", 2)]
        assert newest(parse) == (Segment.CALL if goes_on else Segment.ARGUMENT_VALUE)
    parse = PythonCalls().unfinished("[f(), ")
    assert [(call.name, call.span) for call in parse.calls] == [("f", (1, 4)), ("", (6, 6))]


@pytest.mark.parametrize(
    ("text", "read", "whole"),
    [
        ("[f(tru", Segment.ARGUMENT_NAME, "[f(tru)]"),
        ("[f(a=(1 ", Segment.CALL, "[f(a=(1 , 2))]"),
        ("[f(), ", Segment.CALL, "[f(), ]"),
        ("[f({1: 2, 3", Segment.ARGUMENT_VALUE, "[f({1: 2, 3: 4})]"),
    ],
)
def test_what_may_go_on_in_several_ways(text, read, whole):
    assert newest(PythonCalls().unfinished(text)) == read
    assert PythonCalls().parse(whole).calls


# ------------------------------------------------------------------------------------- prefixes of whole replies

FLOORS = {"json_calls-string": 0.97}
"""There a backslash at the end may begin a quotation mark or an escape inside the arguments' string."""


def judge(dialect, text, counts):
    """Count how the last characters of all prefixes of a whole reply are read."""
    whole = dialect.parse(text)
    kinds = character_segments(whole)
    assert dialect.unfinished(text) == whole
    for end in range(1, len(text)):
        prefix = text[:end]
        found = newest(dialect.unfinished(prefix))
        if any(call.span[0] < end <= call.span[1] for call in whole.calls):
            counts[found == kinds[end - 1]] += 1
        elif found != newest(dialect.parse(prefix)):  # behind a comma another call is expected
            assert found == Segment.CALL
            assert prefix.rstrip()[-1] in ",;"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["plain", "odd"])
def test_prefixes_are_read_as_the_whole_reply(name, kind):
    case, counts = CASES[name], Counter()
    replies = tasks().map(lambda task: gold_text(case.dialect, task))
    if kind == "odd":
        replies = case.calls(TEXTS).map(case.dialect.render).filter(lambda text: len(text) < 500)

    @settings(max_examples=6, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(replies)
    def count(text):
        judge(case.dialect, text, counts)

    count()
    floor = FLOORS.get(name, 0.99)
    assert counts[True] >= floor * counts.total() > 100, counts


# ----------------------------------------------------------------------------------------------------- any text


def check(text, parse):
    assert parse.text == text
    assert bool(parse.calls) == (parse.status is ParseStatus.CALLS)
    spans = [*parse.tags, parse.thinking, parse.body, *(problem.span for problem in parse.problems)]
    spans += [span for call in parse.calls for span in (call.span, call.name_span)]
    spans += [span for call in parse.calls for a in call.arguments for span in (a.name_span, a.value_span)]
    assert all(0 <= start <= end <= len(text) for start, end in filter(None, spans))
    assert len(character_segments(parse)) == len(text)


PIECES = [*MARKS, "[", "}", "(", ")", ",", "=", ":", ".", "f(", "a=1", "[f(a=", '{"name": "f", ', '"arguments": {', "f"]
PIECES += ["null", "1e", "-", "9" * 1300, "\0", "\ud800", "\\u", "\\x", "\r\n", " ", "é😀", "#", "lambda ", "**", "'''"]
SOUP = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=15).map("".join)


@every_dialect
@settings(max_examples=12)
@given(data=st.data())
def test_any_text_is_read(case, data):
    valid = st.builds(lambda calls: case.write(Writer(data.draw), calls), case.calls(UNMARKED))
    text = data.draw(valid)
    text = text[: data.draw(st.integers(0, len(text)))] + data.draw(SOUP)
    check(text, case.dialect.unfinished(text))


class Counting:
    """Counts how often a dialect parses."""

    def __init__(self, dialect):
        self.parse, self.count = dialect.parse, 0

    def __call__(self, text):
        self.count += 1
        return self.parse(text)


@every_dialect
def test_hostile_texts_are_survived_in_three_attempts(case, monkeypatch):
    opened = [case.dialect.render([])[: -len("</answer>")], "[f(a=", '<tool_call>{"name": "f", "arguments": {"a": ']
    opened += ['[{"name": "f", "arguments": {"a": ', '{"name": "f", "parameters": {"a": ', '[TOOL_CALLS]f{"a": ']
    hostile = [*HOSTILE_TEXTS, *pumped("[f(a=1)]", 1500), *pumped('{"a": 1}', 1500)]
    for text in [*hostile, *(before + after for before in opened for after in hostile[::2])]:
        counting = Counting(case.dialect)
        with monkeypatch.context() as patch:
            patch.setattr(case.dialect, "parse", counting)
            parse = case.dialect.unfinished(text)
        check(text, parse)
        assert counting.count <= 3


@every_dialect
def test_long_calls_are_left_to_parse(case):
    """Nothing is tried where that would take long."""
    for text in ("[f(a='", '<tool_call>{"name": "', '{"name": "', '[TOOL_CALLS]f{"a": "', '[TOOL_CALLS][{"name": "'):
        full = text + "x" * MAX_UNFINISHED
        counting = Counting(case.dialect)
        assert case.dialect.unfinished(full) == counting(full)
