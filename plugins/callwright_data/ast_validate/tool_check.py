"""A tool's JSON Schema made ready to check values by, fast for the schemas that nearly all tools have.

The same verdicts as `callwright_rewards.tool_schema`, whose validator judges everything that is not simple.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from callwright import Tool
from callwright.types import JSON
from callwright_rewards import plain_schema
from callwright_rewards.bfcl_values import show
from callwright_rewards.tool_schema import SchemaError, ToolSchema

from callwright_data.ast_validate.findings import FindingCode

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
        if not plain_schema.is_plain(schema):
            self._validator()
        if "type" in schema and not plain_schema.has_type({}, schema["type"]):
            raise SchemaError(f"the schema of the tool '{self.name}' describes no object, but {show(schema['type'])}")
        self.properties = schema.get("properties", {})
        self.required = tuple(schema.get("required", ()))
        unlisted = schema.get("additionalProperties", "properties" not in schema)
        self.closed = "patternProperties" not in schema and unlisted is False
        self.judges_together = not plain_schema.is_simple({**schema, "properties": {}})
        self._simple = frozenset(name for name, inner in self.properties.items() if plain_schema.is_simple(inner))

    def mismatch(self, name: str, value: JSON) -> Mismatch | None:
        """Why `value` does not fit the parameter `name`; None if it does. May raise `SchemaError`."""
        if name in self._simple:
            quick = plain_schema.mismatch(self.properties[name], value)
            return None if quick is None else Mismatch(_CODES[quick.keyword], quick.message(name))
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
