"""Tools of data sets as JSON Schema, against jsonschema and pydantic."""

import typing

import jsonschema
import pytest
from callwright_data.sources._json_schema import (
    NoSchema,
    json_schema,
    parameters_schema,
    python_type,
    tool,
    xlam_parameters,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(["", "a", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
KEYWORDS = st.sampled_from(
    [
        *("type", "properties", "required", "items", "enum", "default", "description", "minimum", "minLength", "anyOf"),
        *("additionalProperties", "uniqueItems", "prefixItems", "format", "const", "title", "x-unknown", "optional"),
    ]
)
TYPES = st.sampled_from(
    ["string", "dict", "any", "", "List[int]", "tuple", "HashMap", "Optional[str]", "nonsense", "int"]
)
SCHEMAS = st.recursive(
    VALUES | TYPES | st.lists(TYPES, max_size=3),
    lambda inner: (
        st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.dictionaries(KEYWORDS, TYPES | st.dictionaries(st.sampled_from("ab"), inner, max_size=2), max_size=3)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=12,
)
NAMES = {
    name: getattr(typing, name) for name in ("Any", "Dict", "List", "Literal", "Optional", "Set", "Tuple", "Union")
}
PYTHON = st.recursive(
    st.sampled_from(["str", "int", "float", "bool", "list", "dict", "None", "Any", "List", "Dict", "tuple", "set"]),
    lambda inner: (
        st.builds("List[{}]".format, inner)
        | st.builds("Dict[str, {}]".format, inner)
        | st.builds("Optional[{}]".format, inner)
        | st.builds("Tuple[{}, {}]".format, inner, inner)
        | st.builds("tuple[{}, ...]".format, inner)
        | st.builds("Union[{}, {}]".format, inner, inner)
        | st.just("Literal['a', 1]")
    ),
    max_leaves=4,
)


@given(schema=SCHEMAS)
def test_what_is_accepted_is_json_schema_and_stays_as_it_is(schema):
    try:
        result = json_schema(schema)
    except NoSchema:
        return
    jsonschema.Draft202012Validator.check_schema(result)
    assert json_schema(result) == result


@given(text=PYTHON, value=VALUES)
def test_python_types_allow_what_pydantic_says_they_allow(text, value):
    theirs = TypeAdapter(eval(text, dict(NAMES))).json_schema()  # a text that this test has made
    ours = python_type(text)
    jsonschema.Draft202012Validator.check_schema(ours)
    assert jsonschema.Draft202012Validator(ours).is_valid(value) == jsonschema.Draft202012Validator(theirs).is_valid(
        value
    )


@given(text=st.text(max_size=20) | st.sampled_from(["List[", "f(x)", "a.b[c]", "1", "lambda: 0", "int[", "(" * 300]))
def test_any_text_is_a_type_or_none(text):
    try:
        found = python_type(text)
    except ValueError:
        return
    jsonschema.Draft202012Validator.check_schema(found)


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str, optional", {"type": "string"}),
        ("int, default 5", {"type": "integer"}),
        ("List[int] (optional)", {"type": "array", "items": {"type": "integer"}}),
        ("typing.List[int]", {"type": "array", "items": {"type": "integer"}}),
        ("np.ndarray", {"type": "array"}),
        ("Set[str]", {"type": "array", "uniqueItems": True, "items": {"type": "string"}}),
        ("Tuple[float, float]", {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
        ("Union[int, float]", {"type": ["integer", "number"]}),
        ("int | None", {"type": ["integer", "null"]}),
        ("Literal['a', -1]", {"enum": ["a", -1]}),
        ("Callable[[float], float]", {"type": "string"}),
        ("Union[str, Any]", {}),
        ("List['int']", {"type": "array", "items": {"type": "integer"}}),
        ("STRING", {"type": "string"}),
    ],
)
def test_python_types(text, schema):
    assert python_type(text) == schema


def test_xlam_parameters():
    described = {
        "type": {"type": "str", "description": "d", "default": "game"},
        "n": {"type": "int, optional"},
        "o": {"type": "Optional[str]"},
        "must": {"type": "List[int]"},
        "said": {"type": "str", "default": "x", "required": True, "enum": ["x", "y"]},
        "properties": {"type": "Dict[str, Any]"},
    }
    assert xlam_parameters(described) == {
        "type": "object",
        "properties": {
            "type": {"type": "string", "description": "d", "default": "game"},
            "n": {"type": "integer"},
            "o": {"type": ["string", "null"]},
            "must": {"type": "array", "items": {"type": "integer"}},
            "said": {"type": "string", "default": "x", "enum": ["x", "y"]},
            "properties": {"type": "object"},
        },
        "required": ["must", "said", "properties"],
    }
    assert xlam_parameters(None) == xlam_parameters({}) == {"type": "object", "properties": {}}
    plain = {"type": "dict", "properties": {"a": {"type": "int"}}, "required": ["a"]}
    assert xlam_parameters(plain) == {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def test_required_inside_properties_goes_to_the_list():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "required": True}, "b": {"type": "string", "required": False}, "c": {}},
        "required": ["c"],
    }
    assert json_schema(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {}},
        "required": ["c", "a"],
    }
    assert schema["properties"]["a"]["required"] is True


def test_tools():
    inner = {"name": "f", "description": None, "parameters": {"type": "object", "properties": {}}, "strict": True}
    assert tool({"type": "function", "function": inner}) == tool({"type": "function", **inner}) == tool(inner)
    assert tool({"name": "f"}).parameters == parameters_schema({}) == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("described", "place"),
    [
        (3, ""),
        ({"name": 3}, "name"),
        ({"type": "function", "function": {"name": None}}, "function.name"),
        ({"name": "f", "description": []}, "description"),
        ({"type": "web_search"}, "type"),
        ({"name": "f", "parameters": []}, "parameters"),
        ({"name": "f", "parameters": {"type": "array"}}, "parameters.type"),
        ({"name": "f", "parameters": {"properties": []}}, "parameters.properties"),
        ({"name": "f", "parameters": {"properties": {"a": {"type": "strin"}}}}, "parameters.properties.a.type"),
        ({"name": "f", "parameters": {"properties": {"a": {"enum": "x"}}}}, "parameters.properties.a.enum"),
        ({"name": "f", "parameters": {"required": [1]}}, "parameters.required"),
        ({"name": "f", "parameters": {"properties": {"a": {"anyOf": [3]}}}}, "parameters.properties.a.anyOf[0]"),
        ({"name": "f", "parameters": {"properties": {"a": {"minimum": "0"}}}}, "parameters.properties.a.minimum"),
        (
            {"name": "f", "parameters": {"properties": {"a": {"items": {"type": 1}}}}},
            "parameters.properties.a.items.type",
        ),
    ],
)
def test_what_is_no_schema_names_its_place(described, place):
    with pytest.raises(NoSchema) as caught:
        tool(described)
    assert caught.value.place == place
