"""Literals, enums and classes with fields, as they stand in Python source."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import libcst as cst
from callwright.types import JSON

from callwright_data.tools_from_python.modules import PythonModule, statements, too_nested


class NoSchema(Exception):
    """Why something in the source has no JSON Schema."""


class NoLiteral(Exception):
    """An expression whose value is known only to Python, or has no JSON."""


class Kind(Enum):
    """Classes that stand for JSON values."""

    ENUM = auto()
    TYPED_DICT = auto()
    DATACLASS = auto()
    MODEL = auto()


_KINDS = {
    "enum.Enum": Kind.ENUM,
    "enum.IntEnum": Kind.ENUM,
    "enum.StrEnum": Kind.ENUM,
    "TypedDict": Kind.TYPED_DICT,
    "pydantic.BaseModel": Kind.MODEL,
    "pydantic.main.BaseModel": Kind.MODEL,
}
_MIXINS = {"str": str, "int": int, "float": float, "enum.IntEnum": int, "enum.StrEnum": str}
_DATACLASS = ("dataclasses.dataclass", "pydantic.dataclasses.dataclass")


@dataclass
class ClassField:
    """An annotated variable of a class, and the string below it."""

    annotation: cst.BaseExpression
    value: cst.BaseExpression | None
    total: bool | None
    """In a `TypedDict`, whether its fields are required unless they say otherwise; None in other classes."""
    description: str = ""


def literal(node: cst.BaseExpression) -> JSON:
    """The JSON value of a literal; a tuple is a list. Raises `NoLiteral`."""
    try:
        value = ast.literal_eval(cst.Module([]).code_for_node(node).strip())
        text = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, MemoryError) as error:
        raise NoLiteral from error
    result = json.loads(text)
    if result != _lists(value):  # keys that are no strings
        raise NoLiteral
    return result


def _lists(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    return {key: _lists(item) for key, item in value.items()} if isinstance(value, dict) else value


def ancestors(module: PythonModule, cls: cst.ClassDef) -> list[cst.ClassDef]:
    """The class and all its bases in the file, each once, bases before those that are derived from them."""
    order: list[cst.ClassDef] = []
    seen: list[cst.ClassDef] = []  # by identity: nodes compare so

    def visit(node: cst.ClassDef) -> None:
        if node not in seen:
            seen.append(node)
            for base in reversed(node.bases):
                found = module.resolve(base.value)
                if isinstance(found, cst.ClassDef):
                    visit(found)
            order.append(node)

    visit(cls)
    return order


def kind(module: PythonModule, cls: cst.ClassDef) -> Kind | None:
    """None for a class of another kind."""
    if _is_dataclass(module, cls):
        return Kind.DATACLASS
    for node in ancestors(module, cls):
        for base in node.bases:
            found = module.resolve(base.value)
            if isinstance(found, str) and found in _KINDS:
                return _KINDS[found]
    return None


def _is_dataclass(module: PythonModule, cls: cst.ClassDef) -> bool:
    return any((module.called(d.decorator) or module.resolve(d.decorator)) in _DATACLASS for d in cls.decorators)


def fields(module: PythonModule, cls: cst.ClassDef) -> dict[str, ClassField]:
    """A class's own and inherited fields, in order; class variables and a model's private names are none."""
    of_kind = kind(module, cls)
    found: dict[str, ClassField] = {}
    for node in ancestors(module, cls):
        if of_kind is not Kind.DATACLASS or _is_dataclass(module, node):
            found.update(_own_fields(module, node, _total(node) if of_kind is Kind.TYPED_DICT else None))
    return {name: field for name, field in found.items() if not (of_kind is Kind.MODEL and name.startswith("_"))}


def _total(cls: cst.ClassDef) -> bool:
    keywords = {argument.keyword.value: argument.value for argument in cls.keywords if argument.keyword}
    return not is_name(keywords.get("total"), "False")


def is_name(node: cst.BaseExpression | None, name: str) -> bool:
    """Whether an expression is just this name."""
    return isinstance(node, cst.Name) and node.value == name


def _own_fields(module: PythonModule, cls: cst.ClassDef, total: bool | None) -> Iterator[tuple[str, ClassField]]:
    above: ClassField | None = None
    for statement in statements([cls.body]):
        match statement:
            case cst.AnnAssign(target=cst.Name(value=name), annotation=annotation, value=value):
                above = ClassField(annotation.annotation, value, total)
                if _origin(module, annotation.annotation) not in ("ClassVar", "dataclasses.KW_ONLY"):
                    yield name, above
            case cst.Expr(value=cst.SimpleString() as text) if above is not None:
                above.description = text_of(text)
                above = None
            case _:
                above = None


def _origin(module: PythonModule, annotation: cst.BaseExpression) -> str | None:
    """The full name that an annotation begins with, such as `ClassVar` of `ClassVar[int]`, also in quotes."""
    node = unquoted(annotation)
    name = module.resolve(node.value if isinstance(node, cst.Subscript) else node)
    return name if isinstance(name, str) else None


def text_of(node: cst.BaseExpression | None) -> str:
    """A literal text without its indentation; nothing for anything else."""
    try:
        text = "" if node is None else literal(node)
    except NoLiteral:
        return ""
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def unquoted(node: cst.BaseExpression) -> cst.BaseExpression:
    """The expression that a quoted annotation stands for. Raises `NoSchema`."""
    while isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        try:
            text = literal(node).strip()
            if too_nested(text):
                raise NoLiteral
            node = cst.parse_expression(text)
        except (NoLiteral, cst.ParserSyntaxError) as error:
            raise NoSchema(f"the annotation {source(node)} is not Python") from error
    return node


def source(node: cst.CSTNode) -> str:
    """A node as it stands in the file, shortened, for messages."""
    text = cst.Module([]).code_for_node(node)
    return text if len(text) <= 80 else f"{text[:80]}..."


def enum_values(module: PythonModule, cls: cst.ClassDef) -> dict[str, JSON]:
    """The values of an enum's members by name, as Python's `enum` gives them. Raises `NoSchema`."""
    bases = [module.resolve(base.value) for node in ancestors(module, cls) for base in node.bases]
    mixin = next((_MIXINS[base] for base in bases if isinstance(base, str) and base in _MIXINS), None)
    values: dict[str, JSON] = {}
    for statement in statements([cls.body]):
        match statement:
            case cst.Assign(
                targets=[cst.AssignTarget(target=cst.Name(value=name))], value=cst.BaseExpression() as node
            ):
                pass
            case cst.AnnAssign(target=cst.Name(value=name), value=cst.BaseExpression() as node):
                pass
            case _:
                continue
        if not (name.startswith("_") and name.endswith("_")):  # of those, enum makes no members
            automatic = name.lower() if "enum.StrEnum" in bases else _next(values)
            value = automatic if module.called(node) == "enum.auto" else _scalar(node, cls, name)
            try:
                values[name] = mixin(value) if mixin else value
            except (TypeError, ValueError, OverflowError) as error:
                raise NoSchema(f"the member {cls.name.value}.{name} is {value!r}, which its base refuses") from error
    if not values:
        raise NoSchema(f"the enum {cls.name.value} has no members, so no value is right")
    return values


def _next(values: dict[str, JSON]) -> int:
    return max((value for value in values.values() if isinstance(value, int)), default=0) + 1


def _scalar(node: cst.BaseExpression, cls: cst.ClassDef, name: str) -> JSON:
    try:
        value = literal(node)
    except NoLiteral:
        value = []
    if isinstance(value, (list, dict)):
        raise NoSchema(
            f"the member {cls.name.value}.{name} is {source(node)}, and no literal text, number, bool or None"
        )
    return value
