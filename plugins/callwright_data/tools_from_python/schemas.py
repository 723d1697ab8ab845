"""JSON Schema (2020-12) of the annotations in a Python file, without running it.

The schemas mean what pydantic's do (https://docs.pydantic.dev/latest/concepts/json_schema/), and are written shorter:
without titles, a union of plain types as a list of types, and a class or an alias in place where it is used once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import libcst as cst
from callwright.plugins import near
from callwright.types import JSON

from callwright_data.tools_from_python.classes import (
    ClassField,
    Kind,
    NoLiteral,
    NoSchema,
    enum_values,
    fields,
    is_name,
    kind,
    literal,
    source,
    text_of,
    unquoted,
)
from callwright_data.tools_from_python.docstrings import read_docstring
from callwright_data.tools_from_python.field_options import (
    TRANSPARENT,
    Options,
    constrained,
    is_field,
    options,
    wrappers,
)
from callwright_data.tools_from_python.modules import PythonModule, arguments, docstring
from callwright_data.tools_from_python.references import Reference, Schema, adding
from callwright_data.tools_from_python.types import COLLECTIONS, DICTS, FORMS, KNOWN, PLAIN, TUPLES

_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_COMPOUND = frozenset(("properties", "items", "prefixItems", "additionalProperties", "propertyNames", "anyOf"))
"""Keywords that hold schemas. A schema without them is short enough to be repeated."""


@dataclass(frozen=True)
class Parameter:
    """A function's parameter or a class's field."""

    schema: Schema
    required: bool
    alias: str
    """The name in JSON where it is another one, otherwise empty."""


class PythonSchemas:
    """The schemas of one function's annotations; classes that hold themselves, or are used twice, are shared."""

    def __init__(self, module: PythonModule) -> None:
        self.module = module
        self.definitions: dict[str, Schema] = {}
        """Classes and aliases by name; one that is being read is missing."""
        self._reading: set[str] = set()

    # ----------------------------------------------------------------------------------------------- annotations

    def of(self, annotation: cst.BaseExpression, inside: tuple[str, ...] = ()) -> Schema:
        """The schema of an annotation, its references by bare name. Raises `NoSchema`.

        inside: the aliases that it is all of, not just a part: an alias that is itself has no meaning.
        """
        node = unquoted(annotation)
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.BitOr):
            return self._union([node.left, node.right], inside)
        if isinstance(node, cst.Subscript):
            return self._generic(node, inside)
        found = self.module.resolve(node)
        if isinstance(found, str):
            return self._plain(found, node)
        if isinstance(found, cst.ClassDef):
            cls = found
            return self._named(cls.name.value, lambda: self._class(cls))
        if isinstance(found, cst.BaseExpression) and isinstance(node, cst.Name):
            name, value = node.value, found
            if name in inside:
                raise NoSchema(f"the type alias {name} is defined by itself")
            return self._named(name, lambda: self._alias(value, (*inside, name)))
        if isinstance(node, cst.Name):
            hint = near(node.value, [*self.module.names, *KNOWN])
            raise NoSchema(f"{node.value} is neither defined nor imported in this file{hint}")
        raise NoSchema(f"{source(node)} is not a type")

    def _plain(self, name: str, node: cst.BaseExpression) -> Schema:
        if name in PLAIN:
            return PLAIN[name]
        if name in COLLECTIONS:
            return COLLECTIONS[name]
        if name in TUPLES | DICTS:
            return {"type": "array" if name in TUPLES else "object"}
        raise NoSchema(
            f"{source(node)} has no JSON Schema; write a type that JSON has, or define it in this file as an Enum, "
            "TypedDict, dataclass or pydantic model"
        )

    def _alias(self, value: cst.BaseExpression, inside: tuple[str, ...]) -> Schema:
        if isinstance(value, cst.Call) and self.module.called(value) == "NewType" and len(value.args) == 2:
            value = value.args[1].value
        return self.of(value, inside)

    def _generic(self, node: cst.Subscript, inside: tuple[str, ...]) -> Schema:
        name, inner = self.module.resolve(node.value), arguments(node)
        if not isinstance(name, str):
            raise NoSchema(f"{source(node)} is no generic type with a JSON Schema")
        if name == "Union" and inner:
            return self._union(inner, inside)
        if name == "Optional" and len(inner) == 1:
            return self._union([*inner, cst.Name("None")], inside)
        if name == "Literal" and inner:
            return _enumeration([value for argument in inner for value in self._literals(argument)])
        if name == "Annotated" and len(inner) > 1:
            schema = self.of(inner[0], inside)
            for metadata in inner[1:]:
                schema = constrained(schema, options(self.module, metadata))
            return schema
        if name in TRANSPARENT and len(inner) == 1:
            return self.of(inner[0], inside)
        if name in COLLECTIONS and len(inner) == 1:
            return {**COLLECTIONS[name], "items": self.of(inner[0])}
        if name in TUPLES:
            return self._tuple(inner)
        if name in DICTS and len(inner) == 2:
            return self._dict(*inner)
        if name in FORMS | TRANSPARENT or name in KNOWN:
            raise NoSchema(f"{source(node)}: {name} does not take {len(inner)} type arguments")
        return self._plain(name, node)

    def _tuple(self, inner: Sequence[cst.BaseExpression]) -> Schema:
        if len(inner) == 2 and isinstance(inner[1], cst.Ellipsis):
            return {"type": "array", "items": self.of(inner[0])}
        items = {"prefixItems": [self.of(argument) for argument in inner]} if inner else {}
        return {"type": "array", **items, "minItems": len(inner), "maxItems": len(inner)}

    def _dict(self, key: cst.BaseExpression, value: cst.BaseExpression) -> Schema:
        names = self.of(key)
        limited = names.get("type") == "string" and len(names) > 1  # whatever Python has, keys of JSON are texts
        return {
            "type": "object",
            **({"propertyNames": names} if limited else {}),
            "additionalProperties": self.of(value),
        }

    def _union(self, inner: Sequence[cst.BaseExpression], inside: tuple[str, ...]) -> Schema:
        schemas: list[Schema] = []
        for argument in inner:
            for schema in _alternatives(self.of(argument, inside)):
                if schema not in schemas:
                    schemas.append(schema)
        if len(schemas) == 1:
            return schemas[0]
        if all(schema.keys() == {"type"} for schema in schemas):
            return {"type": [schema["type"] for schema in schemas]}
        return {"anyOf": schemas}

    def _literals(self, node: cst.BaseExpression) -> Iterator[JSON]:
        if isinstance(node, cst.Subscript) and self.module.resolve(node.value) == "Literal":  # may be nested
            for argument in arguments(node):
                yield from self._literals(argument)
            return
        try:
            value = self.value(node)
        except NoLiteral:
            value = []
        if isinstance(value, (list, dict)):
            raise NoSchema(f"Literal cannot hold {source(node)}, only texts, numbers, bools, None and enum members")
        yield value

    def value(self, node: cst.BaseExpression) -> JSON:
        """The JSON value of a literal or of an enum's member. Raises `NoLiteral`."""
        if isinstance(node, cst.Attribute):
            owner = self.module.resolve(node.value)
            if isinstance(owner, cst.ClassDef) and kind(self.module, owner) is Kind.ENUM:
                values = enum_values(self.module, owner)
                if node.attr.value in values:
                    return values[node.attr.value]
        return literal(node)

    # ------------------------------------------------------------------------------------------ classes and fields

    def _named(self, name: str, read: Callable[[], Schema]) -> Schema:
        if name in self._reading:
            return Reference({"$ref": name})
        if name not in self.definitions:
            self._reading.add(name)
            self.definitions[name] = read()
            self._reading.remove(name)
        schema = self.definitions[name]
        return schema if _COMPOUND.isdisjoint(schema) else Reference({"$ref": name})

    def _class(self, cls: cst.ClassDef) -> Schema:
        description, described = read_docstring(docstring(cls))
        schema: Schema = {"description": description} if description else {}
        of_kind = kind(self.module, cls)
        if of_kind is Kind.ENUM:
            return schema | _enumeration(list(enum_values(self.module, cls).values()))
        if of_kind is None:
            raise NoSchema(
                f"the class {cls.name.value} is, by this file, no Enum, TypedDict, dataclass or pydantic model"
            )
        properties, required = {}, []
        for name, field in fields(self.module, cls).items():
            if is_name(options(self.module, field.value).get("init"), "False"):
                continue
            try:
                parameter = self._field(field, described.get(name, field.description))
            except NoSchema as error:
                raise NoSchema(f"field '{name}' of {cls.name.value}: {error}") from error
            properties[parameter.alias or name] = parameter.schema
            required += [parameter.alias or name] if parameter.required else []
        return schema | object_schema(properties, required)

    def _field(self, field: ClassField, description: str) -> Parameter:
        value = None if isinstance(field.value, cst.Ellipsis) else field.value
        parameter = self.parameter(field.annotation, value, description)
        if field.total is None:
            return parameter
        names = {name for name, _ in wrappers(self.module, field.annotation)}
        required = "Required" in names or (field.total and "NotRequired" not in names)
        return Parameter(parameter.schema, required, parameter.alias)

    def parameter(
        self, annotation: cst.BaseExpression | None, default: cst.BaseExpression | None, description: str
    ) -> Parameter:
        """What a parameter's annotation, default and docstring say. Raises `NoSchema`.

        A default that is no literal makes it optional, and no more. A description in `Field` goes before the docstring.
        """
        schema = self.of(annotation) if annotation else {}
        found: Options = {}
        for _, metadata in wrappers(self.module, annotation) if annotation else ():
            for node in metadata:
                found |= options(self.module, node)
        optional = default is not None
        if is_field(self.module, default):
            field = options(self.module, default)
            schema = constrained(schema, field)
            found |= field
            default = None if isinstance(field.get("default"), cst.Ellipsis) else field.get("default")
            optional = default is not None or "default_factory" in field
        if description and not text_of(found.get("description")):
            schema = adding(schema, {"description": description})
        with suppress(NoLiteral):
            schema = schema if default is None else adding(schema, {"default": self.value(default)})
        return Parameter(schema, not optional, text_of(found.get("validation_alias")) or text_of(found.get("alias")))


def object_schema(properties: Schema, required: Sequence[str]) -> Schema:
    """The schema of an object; `required` is left out where nothing is."""
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _enumeration(values: Sequence[JSON]) -> Schema:
    distinct: list[JSON] = []
    for value in values:
        if not any(type(value) is type(other) and value == other for other in distinct):
            distinct.append(value)
    types = list(dict.fromkeys(_JSON_TYPES[type(value)] for value in distinct))
    return {"type": types[0] if len(types) == 1 else types, "enum": distinct}


def _alternatives(schema: Schema) -> list[Schema]:
    if schema.keys() == {"anyOf"}:
        return list(schema["anyOf"])
    if schema.keys() == {"type"} and isinstance(schema["type"], list):
        return [{"type": name} for name in schema["type"]]
    return [schema]
