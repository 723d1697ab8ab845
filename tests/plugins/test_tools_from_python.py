"""Tools out of a Python file, against transformers' `get_json_schema` and pydantic's schemas of the same file."""

import importlib.util
import inspect
import itertools
import json
import sys
import textwrap

import jsonschema
import pytest
from callwright_data.tools_from_python import tools_from_python
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from transformers.utils import get_json_schema

HEAD = """\
from __future__ import annotations
import collections.abc
import dataclasses
import enum
import typing
import typing as t
from dataclasses import dataclass, field
from typing import Annotated, Any, Dict, List, List as L, Literal, Mapping, NewType, Optional, Sequence, Set, Tuple
from typing import Union
from typing_extensions import NotRequired, Required, TypedDict
import pydantic
from pydantic import BaseModel, Field

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"

class Level(enum.IntEnum):
    LOW = 1
    HIGH = enum.auto()

Id = NewType("Id", int)
Ids = List[Id]
"""
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("modules")


def read(folder, source, names=None):
    """Our tools of a source, which are checked to be JSON Schemas in the state in which they are stored."""
    path = folder / "tools.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass"))
    tools = tools_from_python(path, names)
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool.parameters)
        assert json.loads(json.dumps(tool.parameters, allow_nan=False)) == tool.parameters
    return tools


def parameter(folder, annotation, head=HEAD):
    """Our schema of one annotation; its classes are where pydantic has them."""
    (tool,) = read(folder, f"{head}\ndef f(x: {annotation}): ...\n")
    schema = dict(tool.parameters["properties"]["x"])
    return {**schema, "$defs": tool.parameters["$defs"]} if "$defs" in tool.parameters else schema


def imported(folder, source):
    """The same source as a module, run by Python."""
    name = f"made_{next(NUMBERS)}"
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for pydantic, which looks names up there
    try:
        spec.loader.exec_module(module)
    finally:
        path.unlink()
    return module


# -------------------------------------------------------------------------------------------- against transformers

PLAIN = ("str", "int", "float", "bool", "Any", "t.Any", "list", "dict", "tuple", "List", "Dict", "typing.Tuple")
LEAVES = st.sampled_from([*PLAIN, "Colour", "Level", 'Literal["a", "b"]', "Literal[1, True, None, 'x']", "'int'"])


@st.composite
def annotations(draw, leaves, templates, depth=3):
    """Annotations in which the templates' `{}` hold other annotations."""
    template = draw(st.sampled_from([None, None, "{} | {}", *templates])) if depth else None
    if template is None:
        return draw(leaves)
    inner = [draw(annotations(leaves, templates, depth - 1)) for _ in range(template.count("{}"))]
    if "|" in template:  # Python has none of texts, nor of None and None
        assume(not any(part.startswith("'") for part in inner) and inner not in (["None"], ["None", "None"]))
    return template.format(*inner)


COMMON = (
    *("list[{}]", "List[{}]", "L[{}]", "t.List[{}]", "dict[str, {}]", "typing.Dict[str, {}]", "tuple[{}, {}]"),
    *("Tuple[{}, {}, {}]", "{} | None", "Optional[{}]", "t.Optional[{}]", "Union[{}, {}]", "t.Union[{}, {}, {}]"),
)
WORDS = st.lists(
    st.sampled_from(
        ["the", "city", "note:", "e.g.", "(optional)", "Größe", "x=1,", "int", "[a]", "3.", "`b`", "-", "Args"]
    ),
    min_size=1,
    max_size=4,
).map(" ".join)
DEFAULTS = st.sampled_from(["None", "1", "-2.5", "'a'", "'a' 'b'", "True", "[1, 'b']", "{'k': (1, 2)}", "(1,)"]) | (
    st.sampled_from(["Colour.RED", "float('inf')", "{1: 2}", "b'x'", "...", "object()", "lambda: 1", "max"])
)


@st.composite
def functions(draw, annotation):
    """The source of a function with a Google docstring."""
    names = draw(st.lists(st.sampled_from(["a", "b", "city", "x_1", "größe", "class_"]), max_size=4, unique=True))
    defaults = draw(st.integers(0, len(names)))
    star = draw(st.sampled_from([None, *range(len(names))]))
    parts, lines = [], []
    for index, name in enumerate(names):
        if index == star:
            parts.append("*")
        default = f" = {draw(DEFAULTS)}" if index >= defaults else ""
        choices = draw(st.sampled_from(["", "", ' (choices: ["a", 1])', ' (Choices: ["x, (y)"])']))
        parts.append(f"{name}: {draw(st.sampled_from(['str', 'list[int]']) if choices else annotation)}{default}")
        described = draw(st.lists(WORDS, min_size=1, max_size=3))
        lines += [f"{name}: " + "\n        ".join(described) + choices]
    sections = ["\n\n".join(draw(st.lists(WORDS, min_size=1, max_size=2)))]
    if lines:
        sections.append("Args:\n    " + "\n    ".join(lines))
    sections += draw(st.sampled_from([[], ["Returns:\n    the city"], ["Returns:\n    a\n\nRaises:\n    OSError: b"]]))
    body = textwrap.indent('"""' + "\n\n".join(sections) + '\n"""\nraise RuntimeError', "    ")
    result = draw(st.sampled_from(["", " -> int", " -> 'list[str]'", " -> object"]))
    return f"{draw(st.sampled_from(['', 'async ']))}def tool({', '.join(parts)}){result}:\n{body}\n"


def is_json(value):
    try:
        return value != {1: 2} and bool(json.dumps(value, allow_nan=False))  # keys of JSON are texts
    except (TypeError, ValueError):
        return False


def in_our_words(schema):
    """transformers' schema of an annotation as ours is. The differences, all of them on purpose:

    - null: OpenAPI 3.0's `nullable` there, JSON Schema's type here;
    - a tuple has its own length;
    - the same schema stands once in a union.
    """
    schema = {name: in_our_words(value) if isinstance(value, dict) else value for name, value in schema.items()}
    for name in ("anyOf", "prefixItems"):
        if name in schema:
            schema[name] = [in_our_words(item) for item in schema[name]]
    if "prefixItems" in schema:
        schema |= {"minItems": len(schema["prefixItems"]), "maxItems": len(schema["prefixItems"])}
    kinds = schema.get("type") if isinstance(schema.get("type"), list) and "enum" not in schema else None
    if "anyOf" not in schema and kinds is None and not schema.get("nullable"):
        return schema
    nullable = schema.pop("nullable", False)
    around = {name: schema.pop(name) for name in ("description",) if name in schema}
    every = schema["anyOf"] if "anyOf" in schema else [{"type": kind} for kind in kinds] if kinds else [schema]
    return {**union([*every, *([{"type": "null"}] if nullable else [])]), **around}


def union(schemas):
    """A union without repetitions; in it, order means nothing."""
    every = []
    for schema in schemas:
        inner = schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]
        every += [one for one in inner if one not in every]
    return every[0] if len(every) == 1 else {"anyOf": sorted(every, key=lambda one: json.dumps(one, sort_keys=True))}


def ordered(schema):
    """Ours, unions written out and sorted."""
    schema = {name: ordered(value) if isinstance(value, dict) else value for name, value in schema.items()}
    for name in ("anyOf", "prefixItems"):
        if name in schema:
            schema[name] = [ordered(item) for item in schema[name]]
    if isinstance(schema.get("type"), list) and "enum" not in schema:
        schema["anyOf"] = [{"type": kind} for kind in schema.pop("type")]
    return {**schema, **union(schema.pop("anyOf"))} if "anyOf" in schema else schema


@given(functions(annotations(LEAVES, COMMON)))
def test_as_transformers_does(folder, function):
    """Two differences: no `return`, which is no part of a call, and defaults, which transformers leaves out."""
    source = HEAD + function
    module = imported(folder, source)
    theirs = get_json_schema(module.tool)["function"]
    (ours,) = read(folder, source)
    assert (ours.name, ours.description) == (theirs["name"], theirs["description"])
    assert ours.parameters.get("required", []) == theirs["parameters"].get("required", [])
    properties = theirs["parameters"]["properties"]
    assert list(ours.parameters["properties"]) == list(properties)
    defaults = {name: one.default for name, one in inspect.signature(module.tool).parameters.items()}
    for name, schema in ours.parameters["properties"].items():
        default = defaults[name].value if isinstance(defaults[name], module.Colour) else defaults[name]
        assert ("default" in schema) == is_json(default)
        if "default" in schema:
            assert schema["default"] == json.loads(json.dumps(default))
        if "choices" in function and schema.get("enum") in (["a", 1], ["x, (y)"]):
            assert schema["enum"] == properties[name].pop("enum")
            schema = without(schema, "enum")
        assert ordered(without(schema, "default")) == in_our_words(properties[name]), name
    assert ours.parameters.keys() <= {"type", "properties", "required"}


# ------------------------------------------------------------------------------------------------- against pydantic

OTHERS = st.sampled_from(
    [
        *("None", "Sequence", "set", "Set", "frozenset", "Mapping", "Id", "Ids", "'Ids'", "object", "tuple[()]"),
        *("Annotated[int, Field(ge=1, lt=9)]", "Annotated[str, Field(min_length=2, pattern='a+')]"),
        *("t.Annotated[float, pydantic.Field(gt=0, le=1.5, multiple_of=0.5, description='share')]",),
        *("Annotated[list[Colour], Field(min_length=1, max_length=3)]", "Literal[Colour.RED]", "Literal['one']"),
        *("Literal['a', Literal['b', 2]]", "typing.Annotated[Dict[str, Any], Field(max_length=3)]"),
    ]
)
MORE = (
    *("Sequence[{}]", "set[{}]", "Set[{}]", "frozenset[{}]", "t.Mapping[str, {}]", "tuple[{}, ...]", "tuple[{}]"),
    *("collections.abc.Sequence[{}]", "collections.abc.Iterable[{}]", "Annotated[{}, Field(description='d')]"),
)
TYPES = annotations(LEAVES | OTHERS, (*COMMON, *MORE))
KINDS = {
    "TypedDict": "class Made(TypedDict{total}):\n",
    "dataclass": "@dataclass{keywords}\nclass Made:\n",
    "pydantic": "class Made(BaseModel):\n",
}


@st.composite
def classes(draw):
    kind = draw(st.sampled_from(list(KINDS)))
    head = KINDS[kind].format(
        total=draw(st.sampled_from(["", ", total=False", ", total=True"])),
        keywords=draw(st.sampled_from(["", "()", "(kw_only=True)"])),
    )
    names = draw(st.lists(st.sampled_from(["a", "b", "city", "x_1"]), min_size=1, max_size=3, unique=True))
    defaults = draw(st.integers(0, len(names))) if kind != "TypedDict" else len(names)
    lines = ['"""Words."""'] if draw(st.booleans()) else []
    for index, name in enumerate(names):
        wrapped = st.sampled_from(["{}", "Required[{}]", "NotRequired[{}]"] if kind == "TypedDict" else ["{}"])
        default = draw(st.sampled_from(_DEFAULTS[kind])) if index >= defaults else ""
        lines.append(f"{name}: {draw(wrapped).format(draw(TYPES))}{default}")
    return head + textwrap.indent("\n".join(lines), "    ") + "\n"


_DEFAULTS = {
    "TypedDict": [""],
    "dataclass": [" = 1", " = None", " = field(default_factory=list)", " = field(default='a')", " = Colour.BLUE"],
    "pydantic": [
        *(" = 1", " = [2]", " = Field(default_factory=list)", " = Field(3, description='words')", " = Level.HIGH"),
        *(" = Field(default='z', title='T')", " = Field({'a': 1}, alias='other')"),
    ],
}


def meaning(schema, definitions=None):
    """A schema in the one form in which pydantic's and ours agree: references followed, no titles, unions sorted."""
    if definitions is None:
        definitions = schema.get("$defs", {})
    if isinstance(schema, list):
        return [meaning(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {**meaning(definitions[schema["$ref"].rpartition("/")[2]], definitions), **without(schema, "$ref")}
    result = without(schema, "$defs", "title")
    for name in ("items", "additionalProperties", "propertyNames", "anyOf", "prefixItems"):
        if name in result:
            result[name] = meaning(result[name], definitions)
    if "properties" in result:
        result["properties"] = {name: meaning(value, definitions) for name, value in result["properties"].items()}
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if "enum" in result:
        result.pop("type", None)
    if result.get("items") == {}:
        del result["items"]
    if result.get("additionalProperties") in (True, {}):
        del result["additionalProperties"]
    if isinstance(result.get("type"), list):
        result["anyOf"] = [{"type": kind} for kind in result.pop("type")]
    return {**result, **union(result.pop("anyOf"))} if "anyOf" in result else result


def without(schema, *names):
    return {name: value for name, value in schema.items() if name not in names}


def pydantics(folder, source, annotation):
    module = imported(folder, f"{source}\ntarget: t.Any = None\n")
    kind = t_eval(module, annotation)
    return TypeAdapter(kind).json_schema()


def t_eval(module, annotation):
    """The type, quoted parts of it resolved."""
    holder = {"target": annotation}
    vars(module)["__annotations__"] = holder
    import typing

    return typing.get_type_hints(module, include_extras=True)["target"]


@given(TYPES)
def test_annotations_as_pydantic_reads_them(folder, annotation):
    assert meaning(parameter(folder, annotation)) == meaning(pydantics(folder, HEAD, annotation)), annotation


@given(classes())
def test_classes_as_pydantic_reads_them(folder, source):
    head = HEAD + source
    assert meaning(parameter(folder, "Made", head)) == meaning(pydantics(folder, head, "Made")), source
