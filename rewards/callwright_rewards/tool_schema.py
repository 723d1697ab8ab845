"""A tool's JSON Schema, compiled once, and what is wrong with a call by it."""

from __future__ import annotations

import marshal
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema
import referencing
from callwright import Call, CallwrightError, ReasonCode, Tool
from callwright.types import JSON, Span
from referencing.exceptions import Unresolvable

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


_KEPT: OrderedDict[bytes, Any] = OrderedDict()
_MAX_KEPT = 4096


def _validator(schema: dict[str, JSON]) -> Any:
    """Made once for each content: checking a schema takes a millisecond, and the tasks of a data set share theirs."""
    try:
        key = marshal.dumps(schema, 2)  # version 2 depends on nothing but the content
    except ValueError:  # nested too deeply, or no JSON
        key = None
    if key is not None:
        if key in _KEPT:
            return _KEPT[key]
        schema = marshal.loads(key)  # a copy: what is kept must not change with somebody's tool
    _Validator.check_schema(schema)
    validator = _Validator(schema, registry=referencing.Registry())  # no schema is fetched from anywhere
    if key is not None:
        _KEPT[key] = validator
        if len(_KEPT) > _MAX_KEPT:
            _KEPT.popitem(last=False)
    return validator


class ToolSchema:
    """A tool's parameters, ready to check calls. Raises `SchemaError` for a schema that is none."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        schema = dict(tool.parameters)
        try:
            self.validator = _validator(schema)
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
        try:
            found = sorted(self.validator.iter_errors(dict(arguments)), key=lambda error: error.validator != "type")
        except Unresolvable as error:
            raise SchemaError(f"the schema of the tool '{self.tool.name}': {error}") from error
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
