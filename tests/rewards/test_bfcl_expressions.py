"""Replies in unusual Python, against the real bfcl-eval, and the quick reading against Python's parser."""

import ast
import random
import re

import pytest
from bfcl_replies import MUTATIONS, gold
from callwright_rewards import bfcl_decode, bfcl_scan
from callwright_rewards.bfcl_fold import Folder
from hypothesis import given, settings
from hypothesis import strategies as st

ATOMS = st.sampled_from(
    re.split(
        r"\s+",
        """1 0 2 0x3 1e3 1.5 1e400 3j 'ab' '' "it's" 'a' 'b' '%s' '%d' '%(k)s' b'a' u'x' r'\\d' f'{1}' f'{"a"!r:>4}' ...
        True False None x value int str print [] () {} [1,2] (1,2) {1,2} {'k':1} 'É' '\\u00e9' -1 1.real""".strip(),
    )
)
# no powers and no shifts to the left: the peer would compute them, however large (test_bfcl_random.py has small ones)
INFIX = re.split(" ", "+ - * / // % >> | & ^ @ and or < <= == != in is not_in")
TEMPLATES = (
    "({0})",
    "-{0}",
    "~{0}",
    "not {0}",
    "[{0}]",
    "({0},)",
    "[{0}, {1}]",
    "{{{0}: {1}}}",
    "{{{0}, {1}}}",
    "{0}[{1}]",
    "{0}[{1}:{0}]",
    "({0} if {1} else {0})",
    "[*{0}]",
    "{{**{0}}}",
    "(y := {0})",
    "[i for i in {0}]",
    "[i for i in {0} if {1}]",
    "{{i: {1} for i in {0}}}",
    "{{i for i in {0}}}",
    "(i for i in {0})",
    "(lambda: {0})",
    "{0}.real",
    "{0}.upper",
    "f'{{{0}}}'",
    "{0} {1}",
)
CALLS = ("g({0})", "g(a={0})", "g(*{0})", "g(**{0})", "g.h[0]({0})", "g({0}).h(b={1})")


def combined(inner):
    two = st.tuples(inner, inner)
    return st.one_of(
        st.builds(lambda pair, sign: f"{pair[0]} {sign.replace('_', ' ')} {pair[1]}", two, st.sampled_from(INFIX)),
        st.builds(lambda pair, template: template.format(*pair), two, st.sampled_from(TEMPLATES)),
    )


EXPRESSIONS = st.recursive(ATOMS, combined, max_leaves=6)
LARGE = st.sampled_from(["1_000", "123456789012345678901234567890", "1" * 4300, "1" * 4301, "0x" + "f" * 4000])
VALUES = EXPRESSIONS | LARGE | st.builds(lambda call, *pair: call.format(*pair), st.sampled_from(CALLS), ATOMS, ATOMS)


def compare(peer, expression, kind):
    schema = {"type": kind, "items": {"type": "integer"}}
    functions = [{"name": "f", "parameters": {"properties": {"a": schema, "b": schema}, "required": ["a"]}}]
    key = [{"f": {"a": [1, "ab", [1, 2], True, 2.5, {"k": [1]}], "b": ["", 2]}}]
    peer.assert_same(f"[f(a={expression}, b={expression})]", functions, key, "simple")


KINDS = st.sampled_from(["string", "integer", "float", "boolean", "array", "tuple", "dict", "any"])


@settings(max_examples=300)
@given(VALUES, KINDS)
def test_unusual_values(peer, expression, kind):
    compare(peer, expression, kind)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(VALUES, KINDS)
def test_unusual_values_fully(peer, expression, kind):
    compare(peer, expression, kind)


def parsed(text):
    """What `decode` reads without the quick reading."""
    tree = bfcl_decode._parse(text)
    if not isinstance(tree, ast.List) or not all(isinstance(node, ast.Call) for node in tree.elts):
        return None
    try:
        return [bfcl_decode._call(node, Folder()) for node in tree.elts]
    except Exception:
        return None


def scanned(text):
    """(whether the quick reading decided, what it read)"""
    try:
        calls = bfcl_scan.scan(text, lambda value: bfcl_decode._value(bfcl_decode._parse(f"({value})"), Folder()))
    except Exception:
        return True, None
    return (True, calls) if calls is not None else (bfcl_scan.is_prose(text), None)


PIECES = st.sampled_from(
    re.split(
        " ",
        "f( g.h( a= b= if= lambda: x for y in not ) ] , , 1 -2 1.5 01 1_0 'x' \"y\" '' ''' \\ # \n \t : ; ! = == := * "
        "** [ { } None True é \ud800 \0 f'z' r'q' 5A 3pm [1,2] {'k':1} (1,) 'it's don't J'ai . .. ...",
    )
)


@settings(max_examples=1000)
@given(st.lists(PIECES, max_size=12).map(" ".join) | st.lists(PIECES, max_size=12).map("".join))
def test_the_quick_reading_reads_as_python_does(text):
    for reply in (f"[{text}]", f"[f({text})]", f"[f(a={text})]", f"[f(a=1, {text}]"):
        decided, calls = scanned(reply)
        if decided:
            assert repr(calls) == repr(parsed(reply)), reply


def test_the_quick_reading_of_mutated_replies(bfcl_tasks):
    rng = random.Random(5)
    tasks = [task for task in bfcl_tasks if "possible_answer" in task.meta]
    quick = total = 0
    for mutate in MUTATIONS.values():
        for task in rng.sample(tasks, 5):
            reply = mutate(gold(task.meta["possible_answer"], rng.randrange(3)), rng, task)
            reply = f"[{reply.strip('[]')}]"
            decided, calls = scanned(reply)
            quick, total = quick + decided, total + 1
            assert not decided or repr(calls) == repr(parsed(reply)), reply
    assert quick / total > 0.7
