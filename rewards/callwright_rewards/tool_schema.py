"""A tool's JSON Schema, compiled once, and what is wrong with a call by it."""

from __future__ import annotations

import marshal
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema
import referencing
from callwright import Call, CallwrightError, ReasonCode, Tool
from callwright.types import JSON, Span
from referencing.exceptions import Unresolvable

from callwright_rewards import plain_schema
from callwright_rewards.bfcl_values import show
from callwright_rewards.value_match import Equality, same

MAX_FAULTS = 20
"""Faults that are listed of one call; the first decides."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a call, and where in the completion."""

    code: str
    message: str
    span: Span


class SchemaError(CallwrightError):
    """A tool's schema that nothing can be checked by: a mistake in the data, not in a completion."""


def _is_integer(checker: object, value: object) -> bool:
    return type(value) is int


def _is_number(checker: object, value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_array(checker: object, value: object) -> bool:
    return type(value) is list


_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
    {"integer": _is_integer, "number": _is_number, "array": _is_array}
)
_Validator: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]  # jsonschema's stubs leave it so
    jsonschema.Draft202012Validator, type_checker=_TYPES
)
"""JSON Schema 2020-12 with exact types: 5.0 is no integer, true is no number, a tuple is no array."""
_CODES = {
    "type": ReasonCode.WRONG_TYPE,
    "required": ReasonCode.MISSING_ARGUMENT,
    "additionalProperties": ReasonCode.UNEXPECTED_ARGUMENT,
    "unevaluatedProperties": ReasonCode.UNEXPECTED_ARGUMENT,
    "propertyNames": ReasonCode.UNEXPECTED_ARGUMENT,
}


_KEPT: OrderedDict[tuple[str, bytes], ToolSchema] = OrderedDict()
_MAX_KEPT = 4096


class ToolSchema:
    """A tool's parameters, ready to check calls. Raises `SchemaError` for a schema that is none.

    `of` is made once for each content: the tasks of a data set share their tools.
    """

    def __init__(self, tool: Tool) -> None:
        self.name = tool.name
        self._schema = schema = dict(tool.parameters)
        if not plain_schema.is_plain(schema):
            try:
                _Validator.check_schema(schema)
            except jsonschema.SchemaError as error:
                raise SchemaError(f"the schema of the tool '{tool.name}' is invalid: {error.message}") from error
        self.properties: Mapping[str, JSON] = schema.get("properties", {})
        self.closed = (
            "properties" in schema
            and "patternProperties" not in schema
            and schema.get("additionalProperties", False) is False
        )
        """Whether a parameter that is not listed is invented. Tools rarely say `additionalProperties: false`."""
        self.required: frozenset[str] = frozenset(schema.get("required", ()))
        self._simple = plain_schema.is_simple(schema)
        self._simple_parameters = {name for name, inner in self.properties.items() if plain_schema.is_simple(inner)}

    @classmethod
    def of(cls, tool: Tool) -> ToolSchema:
        """The schema of a tool, from those that are kept if one of the same name and content is among them."""
        try:
            content = marshal.dumps(dict(tool.parameters), 2)  # version 2 depends on nothing but the content
        except ValueError:  # nested too deeply, or no JSON
            return cls(tool)
        found = _KEPT.get((tool.name, content))
        if found is None:
            # A copy: what is kept must not change with somebody's tool.
            found = cls(Tool(tool.name, parameters=marshal.loads(content)))
            _KEPT[tool.name, content] = found
            if len(_KEPT) > _MAX_KEPT:
                _KEPT.popitem(last=False)
        return found

    @cached_property
    def validator(self) -> Any:
        """jsonschema's, with exact types. No schema is fetched from anywhere."""
        return _Validator(self._schema, registry=referencing.Registry())

    def fits(self, name: str, value: JSON) -> bool:
        """Whether a parameter may have this value. Raises what jsonschema raises where it cannot tell."""
        if name in self._simple_parameters:
            return plain_schema.mismatch(self.properties[name], value) is None
        return bool(self.validator.evolve(schema=self.properties.get(name, True)).is_valid(value))

    def is_default(self, name: str, value: JSON) -> bool:
        """Whether `value` is what the schema says an optional parameter has when it is left out."""
        schema = self.properties.get(name)
        if name in self.required or not isinstance(schema, Mapping) or "default" not in schema:
            return False
        return same(value, schema["default"], literal=True) is Equality.EXACT

    def errors(self, arguments: Mapping[str, JSON]) -> Iterator[tuple[str, str | None, str]]:
        """(code, argument or None, message) of everything that breaks the schema; wrong types first.

        Raises `SchemaError` for a reference that leads nowhere.
        """
        if self._simple and plain_schema.mismatch(self._schema, arguments) is None:
            return
        try:
            found = sorted(self.validator.iter_errors(dict(arguments)), key=lambda error: error.validator != "type")
        except Unresolvable as error:
            raise SchemaError(f"the schema of the tool '{self.name}': {error}") from error
        except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
            # a value that jsonschema's arithmetic cannot take, such as a huge number by `multipleOf`
            yield ReasonCode.WRONG_VALUE, None, f"the arguments cannot be checked: {type(error).__name__}"
            return
        for fault in found[:MAX_FAULTS]:
            argument = str(fault.absolute_path[0]) if fault.absolute_path else None
            message = fault.message if len(fault.message) <= 300 else f"{fault.message[:300]}..."
            code = _CODES.get(str(fault.validator), ReasonCode.WRONG_VALUE)
            if argument is not None and code != ReasonCode.WRONG_TYPE:
                code = ReasonCode.WRONG_VALUE  # what is missing or too much inside an argument's value
            yield code, argument, message


def form_faults(call: Call) -> Iterator[Fault]:
    """What no schema is needed for: arguments without a name, and names given twice."""
    seen: set[str] = set()
    for argument in call.arguments:
        if argument.name is None:
            message = f"{show(argument.value)} stands without an argument's name"
            yield Fault(ReasonCode.POSITIONAL_ARGUMENT, message, argument.value_span)
        elif argument.name in seen:
            span = argument.name_span or argument.value_span
            yield Fault(ReasonCode.UNEXPECTED_ARGUMENT, f"the argument {argument.name!r} is given twice", span)
        else:
            seen.add(argument.name)


def schema_faults(call: Call, schema: ToolSchema) -> Iterator[Fault]:
    """Unknown parameters, and everything else in which the call's arguments break the schema. Defaults are right."""
    given = {a.name: a for a in call.arguments if a.name is not None}
    checked = {}
    for name, argument in given.items():
        if schema.closed and name not in schema.properties:
            message = f"{call.name} has no parameter {name!r}"
            yield Fault(ReasonCode.UNEXPECTED_ARGUMENT, message, argument.name_span or argument.value_span)
        elif not schema.is_default(name, argument.value):
            checked[name] = argument.value
    for code, place, message in schema.errors(checked):
        span = given[place].value_span if place in given else call.span
        yield Fault(code, message if place is None else f"{place}: {message}", span)
