"""`callwright_rewards.bfcl.check` against the real bfcl-eval on random schemas, keys, replies and texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c.d", "c_d"])
SCALARS = st.one_of(
    st.sampled_from(["", "x", "X.", "-", "it's", 'it"s', "y z", None, True, False, 0, 1, 2, -1, 0.0, 1.0, 1.5]),
    st.text(max_size=3),
    st.integers(-2, 2),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2),
    max_leaves=4,
)
TYPES = ("string", "integer", "float", "boolean", "array", "tuple", "dict", "any")


@st.composite
def schemas(draw):
    kind = draw(st.sampled_from(TYPES))
    return (
        {"type": kind, "items": {"type": draw(st.sampled_from(TYPES))}}
        if kind in ("array", "tuple")
        else {"type": kind}
    )


def values_of(schema):
    """Values that often fit the schema, and sometimes do not."""
    fitting = {
        "string": st.sampled_from(["x", "X.", "y z", "yz", "it's", ""]),
        "any": st.sampled_from(["x", "y z"]),
        "integer": st.integers(0, 2),
        "float": st.sampled_from([0.0, 1.0, 1.5, 1, 0]),
        "boolean": st.booleans(),
        "dict": st.dictionaries(
            st.sampled_from(["a", "b"]), st.sampled_from(["x", "X", 1, True, 1.0, [1]]), max_size=2
        ),
    }
    kind = schema["type"]
    if kind in ("array", "tuple"):
        return st.one_of(st.lists(values_of(schema.get("items", {"type": "any"})), max_size=2), PLAIN)
    return st.one_of(fitting[kind], fitting[kind], PLAIN)


def as_allowed(draw, value):
    if isinstance(value, dict) and draw(st.integers(0, 9)):
        return {name: [item, *draw(st.sampled_from([[], [""], ["x", 1]]))] for name, item in value.items()}
    if isinstance(value, list):
        return [as_allowed(draw, item) for item in value]
    return value


@st.composite
def random_cases(draw):
    """Functions, a key and a reply that agree about as often as they disagree."""
    functions, key, calls = [], [], []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        properties = draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), schemas(), max_size=3))
        required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
        functions.append({"name": name, "parameters": {"properties": properties, "required": required}})
    for function in draw(st.lists(st.sampled_from(functions), min_size=1, max_size=3)):
        allowed, arguments = {}, {}
        for name, schema in function["parameters"]["properties"].items():
            options = draw(st.lists(values_of(schema), max_size=2))
            allowed[name] = [as_allowed(draw, option) for option in options]
            if draw(st.booleans()):
                allowed[name].insert(draw(st.integers(0, 2)), "")
            if draw(st.integers(0, 4)):
                arguments[name] = draw(
                    st.sampled_from(options) if options and draw(st.booleans()) else values_of(schema)
                )
        if draw(st.integers(0, 9)) == 0:
            allowed = {name: values for name, values in allowed.items() if draw(st.booleans())}
        if draw(st.integers(0, 9)) == 0:
            arguments[draw(st.sampled_from(["a", "b", "z"]))] = draw(PLAIN)
        key.append({function["name"]: allowed})
        calls.append({draw(NAMES) if draw(st.integers(0, 9)) == 0 else function["name"]: arguments})
    calls = draw(st.permutations(calls))
    if draw(st.integers(0, 9)) == 0:
        calls = calls[1:]
    category = draw(st.sampled_from(["simple", "multiple", "parallel", "parallel", "irrelevance", "relevance"]))
    if len(key) == 1 or category in ("simple", "multiple"):
        key, calls = key[:1], calls[:1]
    if category == "simple":
        functions = [function for function in functions if function["name"] in key[0]]
    return calls, functions, key, category


def as_text(calls):
    pairs = [pair for call in calls for pair in call.items()]
    return (
        f"[{', '.join(name + '(' + ', '.join(f'{k}={v!r}' for k, v in given.items()) + ')' for name, given in pairs)}]"
    )


def compare_random(peer, case, as_python, underscore_to_dot):
    calls, functions, key, category = case
    peer.assert_same(as_text(calls) if as_python else calls, functions, key, category, underscore_to_dot)


@settings(max_examples=200, deadline=None)
@given(random_cases(), st.booleans(), st.booleans())
def test_random_cases(peer, case, as_python, underscore_to_dot):
    compare_random(peer, case, as_python, underscore_to_dot)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(random_cases(), st.booleans(), st.booleans())
def test_random_cases_fully(peer, case, as_python, underscore_to_dot):
    compare_random(peer, case, as_python, underscore_to_dot)


MALFORMED = [None, [], {}, [None], [[]], [{}], [{"a": {}, "b": {}}], [{"a": None}], [{"a": []}], ["a"], {"a": {}}, 1]


@pytest.mark.parametrize("category", ["simple", "multiple", "parallel", "irrelevance", "live_relevance"])
@pytest.mark.parametrize("calls", MALFORMED, ids=repr)
def test_calls_of_another_shape(peer, calls, category):
    functions = [{"name": "a", "parameters": {"properties": {}, "required": []}}]
    peer.assert_same(calls, functions, [{"a": {}}], category)


OPERANDS = st.sampled_from(
    ["1", "0", "-2", "1.5", "'ab'", "''", "'%s'", "[1]", "(1, 2)", "{1}", "True", "None", "1j", "b'a'"]
)


@settings(max_examples=250, deadline=None)
@given(
    st.recursive(
        OPERANDS,
        lambda inner: (
            st.builds(
                "({} {} {})".format,
                inner,
                st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<<", ">>", "|", "&", "^", "@"]),
                inner,
            )
            | st.builds("{}{}".format, st.sampled_from(["-", "+", "~", "not "]), inner)
            | st.builds("[{}, {}]".format, inner, inner)
        ),
        max_leaves=5,
    )
)
def test_random_operations(peer, expression):
    functions = [{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}]
    peer.assert_same(f"f(a={expression})", functions, [{"f": {"a": [1, ""]}}], "simple")


PIECES = (
    "[ ] ( ) { } , = : ' \" . * ** f g a b 1 -1 None True x.y # \n \t ` lambda for in not if else [f(a=1)] f(a='x')"
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*PIECES.split(" "), " "]), max_size=12).map("".join) | st.text(max_size=30))
def test_random_texts(peer, text):
    functions = [{"name": "f", "parameters": {"properties": {"a": {"type": "string"}}, "required": []}}]
    for category in ("simple", "irrelevance"):
        peer.assert_same(text, functions, [{"f": {"a": ["x", ""]}}], category)
