"""The JSON reader against the standard library's, and the places that it finds."""

import json
import math

import pytest
from callwright import ReasonCode
from callwright_dialects.json_syntax import JsonReader
from callwright_dialects.outcomes import MAX_INTEGER_BITS, Unreadable, too_deep
from dialect_replies import TEXTS, Writer, json_values
from hypothesis import example, given
from hypothesis import strategies as st

PIECES = ["{", "}", "[", "]", ":", ",", '"', "\\", "\\u00e9", "\\ud83d\\ude00", "\\ud800", "1", "-0", "1e5", "null"]
PIECES += ['"a":', '{"a": ', "true", "NaN", "-Infinity", "1e999", "é", "😀", "\n", "\0", "01", ".5", "+1", "'a'", "//"]
SOUP = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
OBJECTS = SOUP.map(lambda soup: f'{{"k": {soup}}}')


def members(text):
    """As `json.loads` gives them, with the repeated ones; or None."""
    try:
        pairs = json.loads(text, object_pairs_hook=tuple, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return None
    return None if not isinstance(pairs, tuple) else pairs


@given(SOUP | OBJECTS | st.text().map(lambda text: f'{{"k": {text}}}'))
@example('{"a": 1, "a": 2}')
@example('{"a" : [1 , {"b":2}] }\n')
@example("{}")
def test_reads_what_the_standard_library_reads(text):
    reader = JsonReader(text)
    expected = members(text)
    try:
        found, end = reader.members(reader.skip(0))
    except Unreadable:
        assert expected is None
        return
    if reader.skip(end) < len(text):
        return  # `json.loads` refuses text behind the value, which is the caller's matter here
    assert expected is not None
    assert [member.key for member in found] == [key for key, _ in expected]
    for member in found:
        assert json.loads(f'"{text[slice(*member.key_at)]}"') == member.key
        if not member.out_of_range:
            assert repr(json.loads(text[slice(*member.value_at)])) == repr(member.value)


@given(st.data(), st.dictionaries(TEXTS, json_values(TEXTS), max_size=3))
def test_places_inside_a_string_go_through_its_escapes(data, value):
    writer = Writer(data.draw)
    text = "[" + writer.json_text(writer.json(value)) + "]"
    decoded = json.loads(text)[0]
    reader = JsonReader(text)
    inner = reader.inside(decoded, (1, len(text) - 1))
    assert len(inner.places) == len(decoded) + 1
    assert list(inner.places) == sorted(set(inner.places))
    for start in range(len(decoded)):
        written = text[slice(*inner.span((start, start + 1)))]
        assert json.loads(f'"{written}"') == decoded[start]
    found, end = inner.members(inner.skip(0))
    assert {member.key: member.value for member in found} == value
    assert inner.skip(end) == len(decoded)


@pytest.mark.parametrize(
    ("value", "given_as", "code"),
    [
        ("9" * 1300, "9" * 1300, ReasonCode.WRONG_TYPE),
        ("[-" + "9" * 5000 + "]", "[-" + "9" * 5000 + "]", ReasonCode.WRONG_TYPE),
        ("-1e999", "-1e999", ReasonCode.WRONG_TYPE),
        ('{"b": {"c": 1, "c": 2}}', {"b": {"c": 2}}, ReasonCode.UNEXPECTED_ARGUMENT),
        (str(2**MAX_INTEGER_BITS - 1), 2**MAX_INTEGER_BITS - 1, None),
        ("1e-999", 0.0, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_faults_in_a_value_are_problems(value, given_as, code):
    reader = JsonReader(f'{{"a": {value}}}')
    (member,), _ = reader.members(0)
    assert reader.settle(member) == given_as
    assert [problem.code for problem in reader.problems] == ([code] if code else [])
    assert all(reader.source[slice(*problem.span)] == value for problem in reader.problems)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": [Infinity]}', '{"a": "\n"}', '{"a": 1,}', "{'a': 1}", '{"a" 1}'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(Unreadable):
        JsonReader(text).members(0)


def test_too_deep_does_not_recurse():
    value = []
    for _ in range(100_000):
        value = [value]
    assert too_deep(value)
    while value:  # or freeing it would recurse
        value = value[0]
    cycle = {}
    cycle["a"] = cycle
    assert too_deep(cycle)
    assert not too_deep([math.inf])
