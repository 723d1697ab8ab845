"""Tools out of a Python file, against transformers' `get_json_schema` and pydantic's schemas of the same file."""

import ast
import importlib.util
import inspect
import itertools
import json
import keyword
import statistics
import sys
import textwrap
import typing
from pathlib import Path

import jsonschema
import pytest
from callwright import CallwrightError, Tool
from callwright_data.tools_from_python import tools_from_python
from callwright_data.tools_from_python.docstrings import read_docstring
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from transformers.utils import get_json_schema
from transformers.utils.chat_template_utils import DocstringParsingException, TypeHintParsingException

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


@pytest.mark.parametrize(
    ("function", "schema"),
    [
        ("def tool(x):\n    'Words.\\n\\nArgs:\\n    x: A thing.'", {"description": "A thing."}),
        ("def tool(x: int):\n    'Words.'", {"type": "integer"}),
        ("def tool(x: int): ...", {"type": "integer"}),
    ],
    ids=["no annotation", "no description", "no docstring"],
)
def test_where_transformers_raises(folder, function, schema):
    with pytest.raises((TypeHintParsingException, DocstringParsingException)):
        get_json_schema(imported(folder, HEAD + function).tool)
    (ours,) = read(folder, HEAD + function)
    assert ours.parameters == {"type": "object", "properties": {"x": schema}, "required": ["x"]}


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
    around = {"description": schema.pop("description")} if "description" in schema else {}
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


FIELD_DEFAULTS = {
    "TypedDict": [""],
    "dataclass": [" = 1", " = None", " = field(default_factory=list)", " = field(default='a')", " = Colour.BLUE"],
    "pydantic": [
        *(" = 1", " = [2]", " = Field(default_factory=list)", " = Field(3, description='words')", " = Level.HIGH"),
        *(" = Field(default='z', title='T')", " = Field({'a': 1}, alias='other')"),
    ],
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
        default = draw(st.sampled_from(FIELD_DEFAULTS[kind])) if index >= defaults else ""
        lines.append(f"{name}: {draw(wrapped).format(draw(TYPES))}{default}")
    return head + textwrap.indent("\n".join(lines), "    ") + "\n"


def meaning(schema, definitions=None):
    """A schema in the one form in which pydantic's and ours agree: references followed, no titles, unions sorted."""
    if definitions is None:
        definitions = schema.get("$defs", {})
    if isinstance(schema, list):
        return [meaning(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {
            **meaning(definitions[schema["$ref"].rpartition("/")[2]], definitions),
            **without(schema, "$ref", "$defs"),
        }
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
    module = imported(folder, source)
    module.__annotations__ = {"target": annotation}
    return TypeAdapter(typing.get_type_hints(module, include_extras=True)["target"]).json_schema()


@given(TYPES)
def test_annotations_as_pydantic_reads_them(folder, annotation):
    assert meaning(parameter(folder, annotation)) == meaning(pydantics(folder, HEAD, annotation)), annotation


@given(classes())
def test_classes_as_pydantic_reads_them(folder, source):
    head = HEAD + source
    assert meaning(parameter(folder, "Made", head)) == meaning(pydantics(folder, head, "Made")), source


RECURSIVE = '''
class Node(BaseModel):
    """A part of a tree."""
    value: int
    children: "list[Node]" = []
    other: Optional[Tree] = None

@dataclass
class Tree:
    root: Node
    level: Level = Level.HIGH
    parent: "Tree | None" = None

class Link(TypedDict):
    to: NotRequired["Link"]
    tree: Tree
'''


@pytest.mark.parametrize("name", ["Node", "Tree", "Link"])
def test_classes_that_hold_themselves(folder, name):
    """What is right, here and by pydantic, for values of depth three; meanings cannot be compared, they have no end."""
    head = HEAD + RECURSIVE
    schema = parameter(folder, name, head)
    theirs = pydantics(folder, head, name)
    assert schema["$defs"].keys() <= {"Node", "Tree", "Link"}
    nodes = [{"value": 1}, {"value": "1"}, {"children": []}, 3]
    for _ in range(2):
        trees = [
            {"root": node, **more} for node in nodes for more in ({}, {"level": 2}, {"level": 3}, {"parent": None})
        ]
        nodes += [
            {"value": 1, "children": nodes[:3]},
            {"value": 1, "children": nodes[:1]},
            {"value": 2, "other": trees[0]},
        ]
        nodes += [{"value": 2, "other": tree} for tree in trees[4:6]]
    links = [{"tree": tree, **more} for tree in trees for more in ({}, {"to": {}}, {"to": {"tree": trees[0]}})]
    verdicts = set()
    for value in [*nodes, *trees, *links]:
        right = jsonschema.Draft202012Validator(schema).is_valid(value)
        assert right == jsonschema.Draft202012Validator(theirs).is_valid(value), value
        verdicts.add(right)
    assert verdicts == {True, False}


# ----------------------------------------------------------------------------------------------------- any file at all

PIECES = st.sampled_from(
    [
        *(
            "def ",
            "async def ",
            "class ",
            "f",
            "g",
            "A",
            "x",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ":",
            ",",
            "=",
            "->",
            "*",
            "|",
        ),
        *("**", "/", ".", "\n", "\n    ", "    ", " ", "...", "int", "str", "None", "Literal", "Optional", "Annotated"),
        *(
            "'A'",
            '"""',
            "'",
            "\\",
            "#",
            "@",
            "if 1:",
            "try:",
            "else:",
            "type ",
            "import t",
            "from t import *",
            "1",
            "-",
        ),
        *(
            "TypedDict",
            "BaseModel",
            "Enum",
            "dataclass",
            "Field(ge=1)",
            "auto()",
            "\0",
            "\ud800",
            "é",
            "\t",
            "\r",
            "\x0c",
        ),
        *(
            "def f(x: A): ...\n",
            "class A(Enum):\n",
            "class A(BaseModel):\n",
            "class A(A):\n",
            "A = A\n",
            "    x: A = A.x\n",
        ),
        *("Args:\n", "    x: y\n", ":param x: y\n", "Parameters\n-----\n", "(choices: [", "$ref", "import A as int\n"),
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60)


@given(st.one_of(TEXTS, TEXTS.map(lambda text: HEAD + text), st.binary(max_size=60)))
@example("# coding: nonsense\n")
@example("# coding: latin-1\ndef f(): 'é'")
@example(b"# coding: latin-1\ndef f(): '\xe9'")
@example("\ufeffdef f(): ...")
@example("def f(x: " + "[" * 5000)
@example("def f(x: " + "(" * 900 + "int" + ")" * 900 + "): ...")
@example("def f(x: " + "list[" * 40 + "int" + "]" * 40 + "): ...")
@example("def f(x: " + "|".join(["int"] * 900) + "): ...")
@example("def f(x: '" + "|".join(["A"] * 100_000) + "'): ...")
@example("x = " + "-" * 100_000 + "1\ndef f(): ...")
@example("def f(x: A): ...\nclass A(A): x: A")
@example("def f(x=" + "9" * 5000 + "): ...")
@example("def f(x=1e999, y={[]: 1}, z=-'a', w={*()}): ...")
@example("".join(f"A{n} = A{n + 1}\n" for n in range(3000)) + "def f(x: A0): ...")
@example("".join(f"A{n} = tuple[A{n + 1}, A{n + 1}]\n" for n in range(40)) + "A40 = int\ndef f(x: A0): ...")
def test_any_file_gives_tools_or_a_clear_error(folder, text):
    try:
        tools = read(folder, text)
    except CallwrightError as error:
        tools, message = [], str(error)
    assert str(folder / "tools.py") in message if not tools else all(isinstance(tool, Tool) for tool in tools)


def test_deep_annotations(tmp_path):
    """Deeper than jsonschema can check, and deeper than libcst can read."""
    path = tmp_path / "tools.py"
    path.write_text(f"def f(x: {'list[' * 200}int{']' * 200}): ...")
    (tool,) = tools_from_python(path)
    schema = tool.parameters["properties"]["x"]
    for _ in range(200):
        assert schema["type"] == "array"
        schema = schema["items"]
    assert schema == {"type": "integer"}
    path.write_text(f"def f(x: {'list[' * 600}int{']' * 600}): ...")
    with pytest.raises(CallwrightError, match="an expression of more than 1000 nested parts"):
        tools_from_python(path)


@given(st.lists(PIECES | WORDS, max_size=20).map(" ".join) | st.text(max_size=40) | TEXTS)
def test_any_docstring_can_be_read(text):
    description, parameters = read_docstring(text)
    assert isinstance(description, str)
    assert all(isinstance(words, str) and words for words in parameters.values())


def test_nothing_of_the_file_runs(folder, tmp_path):
    written = tmp_path / "written"
    ran = f"open({str(written)!r}, 'w').close()"
    run = f"__import__('pathlib').Path({str(written)!r}).touch()"
    source = f"""
import callwright_made_up_for_this_test
{ran}
class Colour(__import__("enum").Enum):
    {ran}
    RED = "red"
@{run}
def f(x: "{run}" = {run}, y: Colour = {run}, *z: {run}) -> {run}:
    {run}
def g(x: int = {run}, y=[{run}]) -> {run}: f"{{ {run} }}"
"""
    (tool,) = read(folder, source, ["g"])
    assert tool.parameters["properties"] == {"x": {"type": "integer"}, "y": {}}
    with pytest.raises(CallwrightError, match="parameter 'x' of f"):
        read(folder, source, ["f"])
    assert "callwright_made_up_for_this_test" not in sys.modules
    assert not written.exists()
    with pytest.raises(ModuleNotFoundError):
        imported(tmp_path, source)
    imported(tmp_path, source.replace("import callwright_made_up_for_this_test", "").partition("class")[0])
    assert written.exists()  # it would have


@pytest.mark.parametrize("module", [ast, json, statistics, textwrap, importlib.util, keyword])
def test_libraries_have_the_functions_that_python_finds(module):
    path = Path(module.__file__)
    found = [node.name for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)]
    public = [name for name in dict.fromkeys(found) if not name.startswith("_")]
    if not public:
        with pytest.raises(CallwrightError, match="no top-level function whose name begins with no underscore"):
            tools_from_python(path)
    else:
        tools = tools_from_python(path)
        assert [tool.name for tool in tools] == public
        for tool in tools:
            known = inspect.signature(getattr(module, tool.name)).parameters.values()
            assert list(tool.parameters["properties"]) == [one.name for one in known if one.kind not in (2, 4)]


# ------------------------------------------------------------------------------------------------------------ examples

DOCSTRINGS = {
    "google": """Find a flight.

    In the evening, too.

    Args:
        start (str): Where from,
            as a code.
        seats (int, optional): How many. Defaults to 1.
        *rest: Not of interest.

    Returns:
        list: Flights.

    Raises:
        OSError: No network.
    """,
    "numpy": """Find a flight.

    In the evening, too.

    Parameters
    ----------
    start : str
        Where from,
        as a code.
    seats : int, optional
        How many. Defaults to 1.

    Returns
    -------
    list
        Flights.
    """,
    "rest": """Find a flight.

    In the evening, too.

    :param str start: Where from,
        as a code.
    :param seats: How many. Defaults to 1.
    :type seats: int, optional
    :returns: Flights.
    :raises OSError: No network.
    """,
}


@pytest.mark.parametrize("style", DOCSTRINGS)
def test_docstrings(folder, style):
    source = f'async def flight(start, /, *rest: int, seats: int = 1, **more: str):\n    r"""{DOCSTRINGS[style]}"""\n'
    assert read(folder, source) == [
        Tool(
            "flight",
            "Find a flight.\n\nIn the evening, too.",
            {
                "type": "object",
                "properties": {
                    "start": {"description": "Where from, as a code."},
                    "seats": {"type": "integer", "description": "How many. Defaults to 1.", "default": 1},
                },
                "required": ["start"],
            },
        )
    ]


def test_which_functions(folder):
    source = """
class Service:
    def method(self): ...
def second(self, x: int): ...
def _private(cls: int): ...
if True:
    def conditional(): ...
async def first():
    def inner(): ...
def second(cls, y: int): ...
lambda_ = lambda: 1
"""
    tools = read(folder, source)
    assert [tool.name for tool in tools] == ["second", "first"]
    assert list(tools[0].parameters["properties"]) == ["y"]  # Python, too, has the last
    assert tools[1].parameters == {"type": "object", "properties": {}}
    assert [tool.name for tool in read(folder, source, ["first", "_private", "first"])] == ["first", "_private"]
    assert [tool.name for tool in read(folder, source, "first")] == ["first"]
    assert list(read(folder, source, ["_private"])[0].parameters["properties"]) == ["cls"]
    assert read(folder, source, []) == []
    assert tools_from_python(str(folder / "tools.py")) == tools


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("Annotated[int, 'Metres']", {"type": "integer", "description": "Metres"}),
        ("Annotated[str, Field(description='A'), 'B', Other(3), 5]", {"type": "string", "description": "B"}),
        ("Annotated[Id, Field(ge=LIMIT)]", {"type": "integer"}),
        ("Meters", {"type": "number", "minimum": 0}),
        ("'dict[str, Meters]'", {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}),
        ("Typed", {"type": "array", "items": {"type": ["integer", "null"]}}),
        ("Version.Colour | None", None),
        ("Flag", {"type": "integer", "enum": [1, 5, 6]}),
        ("Name", {"description": "Words.", "type": "string", "enum": ["first", "2"]}),
        ("datetime.date", {"type": "string", "format": "date"}),
        ("when", {"type": "string", "format": "date-time"}),
        ("Fallback", {"type": "string"}),
        ("Literal[Flag.A, None]", {"type": ["integer", "null"], "enum": [1, None]}),
    ],
)
def test_annotations_of_our_own_reading(folder, annotation, schema):
    """What pydantic reads otherwise (a text in `Annotated` is a description here), or Python 3.11 does not run."""
    head = HEAD + (
        """
import datetime, collections.abc as abc
from datetime import datetime as when
import enum as e
LIMIT = 3
type Meters = Annotated[float, Field(ge=0)]
type Typed = abc.Sequence[Optional[Id]]
class Flag(e.IntEnum):
    A = 1
    _ignore_ = []
    B = 5
    C = e.auto()
    def method(self): ...
class Name(str, enum.Enum):
    '''Words.'''
    FIRST: str = "first"
    SECOND = 2
try:
    Fallback = str
except ImportError:
    Fallback = int
"""
    )
    if schema is None:
        with pytest.raises(CallwrightError, match=r"Version\.Colour is not a type"):
            parameter(folder, annotation, head)
    else:
        assert parameter(folder, annotation, head) == schema


def test_a_models_inheritance_and_fields(folder):
    head = (
        HEAD
        + '''
class Base(BaseModel):
    """Words.

    Attributes:
        a: From the docstring.
        b: Not this one.
    """
    model_config = {"extra": "forbid"}
    kind: t.ClassVar[str] = "x"
    _hidden: int = 1
    a: int
    b: str = Field(..., description="From the field.", pattern="^b")
    c: Optional[Colour] = Colour.RED
    """From below."""
    def method(self) -> int: ...

class Made(Base):
    a: float = Field(default=0.5, gt=0, validation_alias="A")
'''
    )
    assert parameter(folder, "Made", head) == {
        "type": "object",
        "properties": {
            "A": {"type": "number", "exclusiveMinimum": 0, "default": 0.5},
            "b": {"type": "string", "pattern": "^b", "description": "From the field."},
            "c": {
                "anyOf": [{"type": "string", "enum": ["red", "blue"]}, {"type": "null"}],
                "description": "From below.",
                "default": "red",
            },
        },
        "required": ["b"],
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(x: Colr): ...", "Colr is neither defined nor imported in this file; did you mean"),
        ("def f(x: socket.socket): ...\nimport socket", "socket.socket has no JSON Schema; write a type that JSON has"),
        (
            "def f(x: Plain): ...\nclass Plain: ...",
            "the class Plain is, by this file, no Enum, TypedDict, dataclass or",
        ),
        ("def f(x: 3): ...", "3 is not a type"),
        ("def f(x: list[int, str]): ...", r"list\[int, str\]: list does not take 2 type arguments"),
        ("def f(x: 'list['): ...", r"the annotation 'list\[' is not Python"),
        ("def f(x: A): ...\nA = 'B'\nB = A", "the type alias A is defined by itself"),
        ("def f(x: Literal[y]): ...", r"Literal cannot hold y, only texts, numbers"),
        ("def f(x: A): ...\nclass A(enum.Enum): ...", "the enum A has no members"),
        ("def f(x: A): ...\nclass A(enum.Enum):\n    B = f()", r"the member A.B is f\(\), and no literal"),
        ("def f(x: A): ...\nclass A(enum.IntEnum):\n    B = 'b'", "the member A.B is 'b', which its base refuses"),
        ("def f(x: A): ...\nclass A(TypedDict):\n    b: Foo", "field 'b' of A: Foo is neither defined nor imported"),
    ],
)
def test_annotations_without_a_schema(folder, source, message):
    with pytest.raises(CallwrightError, match=f"tools.py: parameter 'x' of f: .*{message}"):
        read(folder, HEAD + source)


def test_files_that_cannot_be_read(folder, tmp_path):
    with pytest.raises(CallwrightError, match=r"tools.py, line 3: not Python: invalid syntax"):
        read(folder, "def f():\n    pass\ndef g(:\n    pass\n")
    with pytest.raises(CallwrightError, match=r"tools.py, line 5: not Python: unterminated triple-quoted"):
        read(folder, "def f():\n    pass\n\ndef g():\n    '''words")
    with pytest.raises(CallwrightError, match=r"tools.py, line 3: not Python: unindent does not match"):
        read(folder, "def f():\n        pass\n   return\n")
    with pytest.raises(CallwrightError, match=r"'wether'; did you mean 'weather'\?"):
        read(folder, "def weather(): ...", ["wether"])
    with pytest.raises(CallwrightError, match=r"cannot be read.*No such file"):
        tools_from_python(tmp_path / "missing.py")
    with pytest.raises(CallwrightError, match=r"cannot be read.*directory"):
        tools_from_python(tmp_path)
    with pytest.raises(CallwrightError, match="cannot be read"):
        tools_from_python(Path("a\0b"))
