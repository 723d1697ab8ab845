"""`callwright_rewards.bfcl.check` by itself: total, bounded, and what no peer can confirm."""

import ast

import pytest
from callwright import CallwrightError
from callwright_rewards.bfcl import CheckResult, check
from callwright_rewards.bfcl_decode import MAX_CHARACTERS
from hypothesis import given
from hypothesis import strategies as st

PROPERTIES = {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "dict"}}
FUNCTIONS = [{"name": "m.f", "parameters": {"type": "dict", "properties": PROPERTIES, "required": ["a"]}}]
KEY = [{"m.f": {"a": [1], "b": ["x", ""], "c": [{"k": [1, 2]}, ""]}}]


def result(reply, category="simple", functions=FUNCTIONS, key=KEY):
    return check(reply, functions, key, category)


@given(st.text(), st.sampled_from(["simple", "multiple", "parallel", "irrelevance", "live_relevance"]))
def test_total_over_text(text, category):
    verdict = result(text, category)
    assert verdict.valid == (verdict.error_type is None)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["m.f", "a", "b", "c", "k"]), inner),
)


@given(JSON_VALUES.filter(lambda value: not isinstance(value, str)))
def test_total_over_structured_replies(reply):
    verdict = result(reply)
    assert verdict.valid == (verdict.error_type is None)


@given(JSON_VALUES, JSON_VALUES)
def test_total_over_values_and_allowed_values(value, allowed):
    for kind in ("string", "integer", "float", "boolean", "array", "tuple", "dict", "any"):
        functions = [{"name": "f", "parameters": {"properties": {"a": {"type": kind}}, "required": ["a"]}}]
        assert check([{"f": {"a": value}}], functions, [{"f": {"a": allowed}}], "simple").valid in (True, False)


HOSTILE = [
    "m.f(a=10**10**10)",
    "m.f(a='x'*10**9)",
    "m.f(a=1<<10**9)",
    "m.f(a='%999999999d' % 1)",
    "m.f(a='%(k)999999999d' % {'k': 1})",
    "m.f(a='%*d' % (10**9, 1))",
    "m.f(a=[0]*99999+[0]*99999+" + "+".join(["[0]*99999"] * 500) + ")",
    "m.f(a=" + "[0]*9999," * 9000 + ")",
    "m.f(a=" + "2**90000%7+" * 5000 + "1)",
    "m.f(a=" + "-" * 50_000 + "1)",
    "m.f(a=" + "1+" * 40_000 + "1)",
    "m.f(a=0x" + "f" * 90_000 + ")",
    "[" * 1_000_000,
    "m.f(a=exit()+1)",
    "m.f(a=__import__('os').getpid()+0)",
    "m.f(a=().__class__+1)",
    "m.f(a='" + "x" * MAX_CHARACTERS + "')",
]


@pytest.mark.parametrize("reply", HOSTILE, ids=lambda reply: reply[:24])
def test_hostile_replies_are_invalid(reply):
    assert result(reply).error_type in ("ast_decoder:decoder_failed", "type_error:simple", "value_error:others")


def test_nothing_is_evaluated(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("model output was evaluated")

    for name in ("eval", "exec", "compile"):
        original = getattr(__builtins__, name, None) if not isinstance(__builtins__, dict) else __builtins__[name]
        monkeypatch.setattr(f"builtins.{name}", forbidden if name != "compile" else only_to_tree(original))
    assert result("m.f(a=1+0, c={'k': 3-1})").valid


def only_to_tree(compile_):
    def guarded(source, filename, mode, flags=0, *args, **kwargs):
        assert flags & ast.PyCF_ONLY_AST
        return compile_(source, filename, mode, flags, *args, **kwargs)

    return guarded


CRASHES = {
    "dict key that is a dict": ({"c": [{"k": {"x": 1}}]}, {"c": {"k": {"x": 1}}}),
    "dict key that is a number": ({"c": [{"k": 1}]}, {"c": {"k": 1}}),
    "list of dicts after the optional mark": ({"d": ["", [{"k": [1]}]]}, {"d": ["x"]}),
    "array without items": ({"e": [[1]]}, {"e": [1]}),
    "unknown type": ({"g": [1]}, {"g": 1}),
    "int too large for a float": ({"h": [1.0]}, {"h": 10**400}),
}


@pytest.mark.parametrize("name", CRASHES)
def test_where_the_peer_crashes_the_reply_is_invalid(peer, name):
    allowed, arguments = CRASHES[name]
    properties = {
        "c": {"type": "dict"},
        "d": {"type": "array", "items": {"type": "dict"}},
        "e": {"type": "array"},
        "g": {"type": "number"},
        "h": {"type": "float"},
    }
    functions = [{"name": "f", "parameters": {"properties": properties, "required": []}}]
    case = ([{"f": arguments}], functions, [{"f": allowed}], "simple")
    assert peer.judge_all([case])[0][0] == "crash"
    verdict = check(*case)
    assert not verdict.valid
    assert verdict.error_type
    assert "cannot be compared" in verdict.message


def test_key_for_a_function_that_is_not_offered(peer):
    case = ([{"g": {}}], FUNCTIONS, [{"g": {}}], "multiple")
    assert peer.judge_all([case])[0][0] == "crash"
    assert "not offered" in check(*case).message


def test_mistakes_of_the_user():
    with pytest.raises(CallwrightError, match="Python categories"):
        result("m.f(a=1)", "simple_java")
    with pytest.raises(CallwrightError, match="needs a possible_answer"):
        check("m.f(a=1)", FUNCTIONS, None, "simple")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("m.f(a=1, b='X.')", (True, None, None)),
        ("m.f(a=1), m.f(a=1)", ("simple_function_checker:wrong_count", None, None)),
        ("m.g(a=1)", ("simple_function_checker:wrong_func_name", 0, None)),
        ("m.f(1)", ("simple_function_checker:missing_required", 0, None)),
        ("m.f(a=1, z=1)", ("simple_function_checker:unexpected_param", 0, "z")),
        ("m.f(a='1')", ("type_error:simple", 0, "a")),
        ("m.f(a=1, c={'k': 3})", ("value_error:dict_value", 0, "c")),
    ],
)
def test_place_of_the_fault(reply, expected):
    verdict = result(reply)
    assert (verdict.valid or verdict.error_type, verdict.call, verdict.argument) == expected
    assert verdict.valid or verdict.message


def test_parallel_is_greedy_and_names_the_call_left():
    functions = [{"name": "f", "parameters": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}]
    key = [{"f": {"a": ["x", "y"]}}, {"f": {"a": ["y"]}}]
    assert check("f(a='x'), f(a='y')", functions, key, "parallel") == CheckResult(True)
    verdict = check("f(a='y'), f(a='x')", functions, key, "parallel")
    assert verdict.error_type == "parallel_function_checker_no_order:cannot_find_match"
    assert (verdict.call, verdict.argument) == (1, "a")


def test_underscores_for_dots():
    assert check("m_f(a=1)", FUNCTIONS, KEY, "simple", underscore_to_dot=True).valid
    assert not check("m.f(a=1)", FUNCTIONS, KEY, "simple", underscore_to_dot=True).valid
