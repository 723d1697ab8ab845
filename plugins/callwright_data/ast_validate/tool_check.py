"""A tool's JSON Schema made ready to check values by, fast for the schemas that nearly all tools have.

The same verdicts as `callwright_rewards.tool_schema`, whose validator judges everything that is not simple; but that
takes a millisecond and a half for a tool and a tenth for a call, and a data set has tens of thousands of them.
"""

from __future__ import annotations

import marshal
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jsonschema
from callwright import Tool
from callwright.types import JSON
from callwright_rewards.bfcl_values import show
from callwright_rewards.tool_schema import SchemaError, ToolSchema

from callwright_data.ast_validate.findings import FindingCode

_TYPES: dict[str, Callable[[object], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) is int or (type(value) is float and math.isfinite(value)),
    "boolean": lambda value: type(value) is bool,
    "array": lambda value: type(value) is list,
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
_SCALARS = (str, int, float, bool, type(None))
_SIMPLE = frozenset(("type", "properties", "required", "items", "enum", "additionalProperties", "format"))
"""Keywords that `_mismatch` applies; `format` only describes."""
_BEYOND = frozenset(jsonschema.Draft202012Validator.VALIDATORS) - _SIMPLE
_CODES = {
    "type": FindingCode.WRONG_TYPE,
    "enum": FindingCode.NOT_IN_ENUM,
    "const": FindingCode.NOT_IN_ENUM,
    "required": FindingCode.MISSING_REQUIRED,
    "additionalProperties": FindingCode.UNKNOWN_PARAMETER,
}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a value does not fit a schema."""

    code: FindingCode
    message: str


class ToolCheck:
    """A tool's parameters. Total over any tool: `fault` says what is wrong with one that nothing can be checked by."""

    MAX_KEPT: ClassVar[int] = 8192
    """Tools that are kept ready, by content: data sets repeat them."""
    _kept: ClassVar[dict[tuple[str, bytes], ToolCheck]] = {}

    @classmethod
    def of(cls, tool: Tool) -> ToolCheck:
        """The check of a tool, from those that are kept if one of the same content is among them."""
        try:
            content: Any = tool.parameters
            key = str(tool.name), marshal.dumps(content, 2)  # version 2 depends on nothing but the content
        except ValueError:  # nested too deeply, or no JSON
            return cls(tool)
        found = cls._kept.get(key)
        if found is None:
            if len(cls._kept) >= cls.MAX_KEPT:
                del cls._kept[next(iter(cls._kept))]
            found = cls._kept[key] = cls(tool)
        return found

    def __init__(self, tool: Tool) -> None:
        self._tool, self.name = tool, str(tool.name)
        self.fault: str | None = None
        self.properties: Mapping[str, JSON] = {}
        self.required: Sequence[str] = ()
        self.closed = False
        """Whether a parameter that is not listed is invented."""
        self.judges_together = False
        """Whether the schema says more of the arguments than what each may be, and which are required."""
        self._validator_made: Any = None
        try:
            self._read(tool.parameters)
        except SchemaError as error:
            self.fault = str(error)
        except Exception as error:  # what a validator makes of a schema that is none is not to be foreseen
            self.fault = f"the schema of the tool '{self.name}' cannot be read: {type(error).__name__}"

    def _read(self, schema: object) -> None:
        if not isinstance(schema, Mapping):
            raise SchemaError(f"the parameters of the tool '{self.name}' are no JSON Schema: {show(schema)}")
        if not _is_plain(schema):
            self._validator()
        if "type" in schema and not _has_type({}, schema["type"]):
            raise SchemaError(f"the schema of the tool '{self.name}' describes no object, but {show(schema['type'])}")
        self.properties = schema.get("properties", {})
        self.required = tuple(schema.get("required", ()))
        unlisted = schema.get("additionalProperties", "properties" not in schema)
        self.closed = "patternProperties" not in schema and unlisted is False
        self.judges_together = not _is_simple({**schema, "properties": {}})
        self._simple = frozenset(name for name, inner in self.properties.items() if _is_simple(inner))

    def mismatch(self, name: str, value: JSON) -> Mismatch | None:
        """Why `value` does not fit the parameter `name`; None if it does. May raise `SchemaError`."""
        if name in self._simple:
            return _mismatch(self.properties[name], value, name)
        return self._first_error(self._validator().evolve(schema=self.properties.get(name, True)), value, name)

    def together(self, arguments: Mapping[str, JSON]) -> Mismatch | None:
        """Why the arguments do not fit the schema; None if they do. May raise `SchemaError`."""
        return self._first_error(self._validator(), arguments, "")

    def _validator(self) -> Any:
        if self._validator_made is None:
            self._validator_made = ToolSchema(self._tool).validator
        return self._validator_made

    def _first_error(self, validator: Any, value: JSON, place: str) -> Mismatch | None:
        try:
            error = min(validator.iter_errors(value), key=lambda one: one.validator != "type", default=None)
        except Exception as failure:  # a reference that leads nowhere, a pattern that is none, a number too large
            raise SchemaError(f"{self.name}: its schema cannot be applied: {type(failure).__name__}") from failure
        if error is None:
            return None
        path = ".".join([place, *map(str, error.absolute_path)]).strip(".")
        code = _CODES.get(str(error.validator), FindingCode.UNSATISFIABLE)
        return Mismatch(code, f"{path}: {error.message[:300]}" if path else error.message[:300])


def simple_fits(schema: JSON, value: JSON) -> bool:
    """Whether a value fits a part of a valid schema; also True where the part says more than can be judged quickly."""
    return not _is_simple(schema) or _mismatch(schema, value, "") is None


def _mismatch(schema: Any, value: Any, place: str) -> Mismatch | None:
    """As JSON Schema 2020-12 with exact types, for a schema that is valid and simple."""
    if schema is True:
        return None
    if "type" in schema and not _has_type(value, schema["type"]):
        return Mismatch(FindingCode.WRONG_TYPE, f"{place}: {show(value)} is not of type {show(schema['type'])}")
    if "enum" in schema and not any(_is_equal(value, one) for one in schema["enum"]):
        return Mismatch(FindingCode.NOT_IN_ENUM, f"{place}: {show(value)} is not one of {show(schema['enum'])}")
    if isinstance(value, dict):
        return _object_mismatch(schema, value, place)
    if type(value) is list and "items" in schema:
        for index, item in enumerate(value):
            found = _mismatch(schema["items"], item, f"{place}.{index}")
            if found is not None:
                return found
    return None


def _is_equal(value: JSON, option: JSON) -> bool:
    """For scalar options; true is no 1."""
    return bool(value == option) and isinstance(value, bool) == isinstance(option, bool)


def _object_mismatch(schema: Any, value: dict[str, JSON], place: str) -> Mismatch | None:
    for name in schema.get("required", ()):
        if name not in value:
            return Mismatch(FindingCode.MISSING_REQUIRED, f"{place}: the key '{name}' is missing")
    properties = schema.get("properties", {})
    for name, inner in value.items():
        if name not in properties:
            if schema.get("additionalProperties") is False:
                return Mismatch(FindingCode.UNKNOWN_PARAMETER, f"{place}: there is no key {show(name)}")
            continue
        found = _mismatch(properties[name], inner, f"{place}.{name}")
        if found is not None:
            return found
    return None


def _has_type(value: object, kinds: Any) -> bool:
    if isinstance(kinds, str):
        return _TYPES[kinds](value)
    return any(_TYPES[kind](value) for kind in kinds)


def _is_simple(schema: Any) -> bool:
    """Whether `_mismatch` applies all that a valid schema says."""
    if not isinstance(schema, Mapping):
        return schema is True
    if not _BEYOND.isdisjoint(schema) or not isinstance(schema.get("additionalProperties", True), bool):
        return False
    if not all(isinstance(one, _SCALARS) for one in schema.get("enum", ())):
        return False
    return _is_simple(schema.get("items", True)) and all(map(_is_simple, schema.get("properties", {}).values()))


def _is_plain(schema: object) -> bool:
    """Whether the schema is certain to be valid: it says only what is listed here."""
    return isinstance(schema, Mapping) and all(_is_plain_keyword(key, value) for key, value in schema.items())


def _is_plain_keyword(key: object, value: Any) -> bool:
    match key:
        case "type":
            kinds = [value] if isinstance(value, str) else value
            return _are_names(kinds) and bool(kinds) and all(kind in _TYPES for kind in kinds)
        case "properties":
            return isinstance(value, Mapping) and all(isinstance(n, str) and _is_plain(s) for n, s in value.items())
        case "items":
            return _is_plain(value)
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
