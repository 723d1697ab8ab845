"""What `Annotated`, pydantic's `Field` and dataclasses' `field` say of a value: constraints, description, default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import libcst as cst

from callwright_data.tools_from_python.classes import NoLiteral, literal, unquoted
from callwright_data.tools_from_python.modules import PythonModule, arguments
from callwright_data.tools_from_python.references import Reference, Schema, adding

Options = dict[str, cst.BaseExpression]

FIELDS = frozenset(("pydantic.Field", "pydantic.fields.Field", "dataclasses.field"))
TRANSPARENT = frozenset(("Required", "NotRequired", "ReadOnly", "Final", "dataclasses.InitVar"))
"""Generics that say nothing of the value."""

_POSITIONAL: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(FIELDS, ("default",)),
    "pydantic.StringConstraints": (),
    "pydantic.types.StringConstraints": (),
    "annotated_types.Ge": ("ge",),
    "annotated_types.Gt": ("gt",),
    "annotated_types.Le": ("le",),
    "annotated_types.Lt": ("lt",),
    "annotated_types.Interval": ("gt", "ge", "lt", "le"),
    "annotated_types.MultipleOf": ("multiple_of",),
    "annotated_types.MinLen": ("min_length",),
    "annotated_types.MaxLen": ("max_length",),
    "annotated_types.Len": ("min_length", "max_length"),
    "Doc": ("description",),
}
"""What may stand in `Annotated`, and the names of its positional arguments."""
_KEYWORDS = {
    "description": "description",
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
    "examples": "examples",
}
_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}


def options(module: PythonModule, node: cst.BaseExpression | None) -> Options:
    """What one thing in `Annotated`, or a default, says by name; nothing for what is not known here."""
    if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        return {"description": node}
    name = None if node is None else module.called(node)
    if not isinstance(node, cst.Call) or name is None or name not in _POSITIONAL:
        return {}
    found: Options = {}
    positional = iter(_POSITIONAL[name])
    for argument in node.args:
        key = next(positional, None) if argument.keyword is None else argument.keyword.value
        if key is not None and not argument.star:
            found[key] = argument.value
    return found


def is_field(module: PythonModule, node: cst.BaseExpression | None) -> bool:
    """Whether a default is a call of `Field` or `field`, and no value."""
    return node is not None and module.called(node) in FIELDS


def wrappers(
    module: PythonModule, annotation: cst.BaseExpression
) -> Iterator[tuple[str, Sequence[cst.BaseExpression]]]:
    """The generics around an annotation's type, `Annotated` and `TRANSPARENT`, and what else each holds."""
    node = unquoted(annotation)
    while isinstance(node, cst.Subscript):
        name, inner = module.resolve(node.value), arguments(node)
        if not isinstance(name, str) or name not in TRANSPARENT | {"Annotated"} or not inner:
            return
        yield name, inner[1:]
        node = unquoted(inner[0])


def constrained(schema: Schema, found: Options) -> Schema:
    """The schema with the constraints, description and examples among the options that are literals."""
    keywords: Schema = {}
    for name, node in found.items():
        try:
            value = literal(node)
        except NoLiteral:
            continue
        if name in _KEYWORDS and value is not None:
            keywords[_KEYWORDS[name]] = value
        elif name in ("min_length", "max_length") and value is not None:
            for kind in sorted(_types(schema)):
                keywords[name[:3] + _LENGTHS[kind]] = value
    return adding(schema, keywords)


def _types(schema: Schema) -> set[str]:
    """Those of the types with a length that a schema allows. The keywords of one say nothing of the others."""
    if isinstance(schema, Reference):
        return {"object"}
    if "anyOf" in schema:
        return {kind for inner in schema["anyOf"] for kind in _types(inner)}
    kinds = schema.get("type", list(_LENGTHS))
    return _LENGTHS.keys() & ({kinds} if isinstance(kinds, str) else set(kinds))
