"""JSON Schemas that say only simple things, as nearly all tools' do: what they make of a value, quickly.

The verdicts are jsonschema's with the exact types of `tool_schema`; but that takes one and a half milliseconds to read
a tool's schema and a tenth to check a call, and a data set has tens of thousands of them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jsonschema
from callwright.types import JSON

from callwright_rewards.bfcl_values import show

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
"""Exact types; besides, a number is finite."""
_SCALARS = (str, int, float, bool, type(None))
_SIMPLE = frozenset(("type", "properties", "required", "items", "enum", "additionalProperties", "format"))
"""Keywords that `mismatch` applies; `format` only describes."""
_BEYOND = frozenset(jsonschema.Draft202012Validator.VALIDATORS) - _SIMPLE


class Mismatch(NamedTuple):
    """Why a value does not fit a schema."""

    keyword: str
    """The schema's that it breaks: `type`, `enum`, `required` or `additionalProperties`."""
    text: str
    path: tuple[str, ...] = ()
    """Where in the value: keys, and places in lists."""

    def inside(self, key: object) -> Mismatch:
        return self._replace(path=(str(key), *self.path))

    def message(self, name: str) -> str:
        """name: of the value."""
        return f"{'.'.join((name, *self.path))}: {self.text}"


def simple_fits(schema: JSON, value: JSON) -> bool:
    """Whether a value fits a part of a valid schema; also True where the part says more than can be judged quickly."""
    return not is_simple(schema) or mismatch(schema, value) is None


def mismatch(schema: Any, value: Any) -> Mismatch | None:
    """As JSON Schema 2020-12 with exact types, for a schema that is valid and simple."""
    if schema is True:
        return None
    if "type" in schema and not has_type(value, schema["type"]):
        return Mismatch("type", f"{show(value)} is not of type {show(schema['type'])}")
    if "enum" in schema and not any(_is_equal(value, one) for one in schema["enum"]):
        return Mismatch("enum", f"{show(value)} is not one of {show(schema['enum'])}")
    if isinstance(value, dict):
        return _object_mismatch(schema, value)
    if type(value) is list and "items" in schema:
        for index, item in enumerate(value):
            found = mismatch(schema["items"], item)
            if found is not None:
                return found.inside(index)
    return None


def _is_equal(value: JSON, option: JSON) -> bool:
    """For scalar options; true is no 1."""
    return bool(value == option) and isinstance(value, bool) == isinstance(option, bool)


def _object_mismatch(schema: Any, value: dict[str, JSON]) -> Mismatch | None:
    for name in schema.get("required", ()):
        if name not in value:
            return Mismatch("required", f"the key '{name}' is missing")
    properties = schema.get("properties", {})
    for name, inner in value.items():
        if name not in properties:
            if schema.get("additionalProperties") is False:
                return Mismatch("additionalProperties", f"there is no key {show(name)}")
            continue
        found = mismatch(properties[name], inner)
        if found is not None:
            return found.inside(name)
    return None


def has_type(value: Any, kinds: Any) -> bool:
    """kinds: a type, or a list of them, that JSON Schema knows."""
    if not isinstance(kinds, str):
        return any(has_type(value, kind) for kind in kinds)
    kind = type(value)
    return kind in _TYPES[kinds] and (kind is not float or math.isfinite(value))


def is_simple(schema: Any) -> bool:
    """Whether `mismatch` applies all that a valid schema says."""
    if not isinstance(schema, dict):
        return schema is True
    if not _BEYOND.isdisjoint(schema) or not isinstance(schema.get("additionalProperties", True), bool):
        return False
    if not all(isinstance(one, _SCALARS) for one in schema.get("enum", ())):
        return False
    return is_simple(schema.get("items", True)) and all(map(is_simple, schema.get("properties", {}).values()))


def is_plain(schema: object) -> bool:
    """Whether the schema is certain to be valid: it says only what is listed here."""
    return isinstance(schema, dict) and all(_is_plain_keyword(key, value) for key, value in schema.items())


def _is_plain_keyword(key: object, value: Any) -> bool:
    match key:
        case "type":
            kinds = [value] if isinstance(value, str) else value
            return _are_names(kinds) and bool(kinds) and all(kind in _TYPES for kind in kinds)
        case "properties":
            return isinstance(value, dict) and all(isinstance(n, str) and is_plain(s) for n, s in value.items())
        case "items":
            return is_plain(value)
        case "required":
            return _are_names(value)
        case "enum":
            return isinstance(value, list)
        case "additionalProperties":
            return isinstance(value, bool)
        case "description" | "title" | "format":
            return isinstance(value, str)
        case _:
            return key in ("default", "optional")


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and len({*value}) == len(value)
