"""Tools out of a user's own Python file, which is read and never imported or run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import libcst as cst
from callwright import CallwrightError, Tool
from callwright.plugins import near
from callwright.types import JSON

from callwright_data.tools_from_python.classes import NoSchema
from callwright_data.tools_from_python.docstrings import read_docstring
from callwright_data.tools_from_python.modules import PythonModule, docstring
from callwright_data.tools_from_python.references import Schema, adding, closed
from callwright_data.tools_from_python.schemas import PythonSchemas, object_schema

_CHOICES = re.compile(r"\s*\(choices:\s*(\[.*\])\)\s*$", re.IGNORECASE)


def tools_from_python(path: Path | str, names: Sequence[str] | None = None) -> list[Tool]:
    """The tools that a Python file defines: its top-level functions, with their docstrings and annotations.

    - Description and parameters' descriptions come from the docstring, in Google's, NumPy's or reST's style. As in
      transformers' `get_json_schema`, `(choices: ["a", "b"])` at the end of a parameter's becomes an `enum`.
    - Annotations become JSON Schema, in pydantic's sense: plain types, collections, Literal, unions, Annotated with
      pydantic's Field or annotated_types, and the file's own aliases, enums, TypedDicts, dataclasses and pydantic
      models. A parameter without an annotation has a schema without a type.
    - A parameter with a default is optional; the schema holds the default if it is a literal or an enum's member.
    - `*args` and `**kwargs`, which a call by name cannot give, are left out, and so is an unannotated `self` or `cls`
      that comes first.

    names: the functions, in this order; private ones too. Default: all whose names begin with no underscore, in the
    file's order. Raises `CallwrightError`: a file that is missing or no Python, a name that it does not define, no
    function at all, an annotation that has no JSON Schema.
    """
    module = PythonModule(Path(path))
    try:
        return [_tool(module, module.functions[name]) for name in _chosen(module, names)]
    except RecursionError as error:
        raise CallwrightError(f"{path}: definitions nest too deeply to be read") from error


def _chosen(module: PythonModule, names: Sequence[str] | None) -> list[str]:
    if names is None:
        public = [name for name in module.functions if not name.startswith("_")]
        if not public:
            raise CallwrightError(f"{module.path}: no top-level function whose name begins with no underscore")
        return public
    for name in [names] if isinstance(names, str) else names:
        if name not in module.functions:
            hint = near(name, module.functions)
            raise CallwrightError(f"{module.path}: there is no top-level function '{name}'{hint}")
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def _tool(module: PythonModule, function: cst.FunctionDef) -> Tool:
    description, described = read_docstring(docstring(function))
    schemas = PythonSchemas(module)
    properties: dict[str, JSON] = {}
    required = []
    for parameter in _parameters(function):
        name = parameter.name.value
        annotation = None if parameter.annotation is None else parameter.annotation.annotation
        words, choices = _choices(described.get(name, ""))
        try:
            read = schemas.parameter(annotation, parameter.default, words)
        except NoSchema as error:
            place = f"{module.path}: parameter '{name}' of {function.name.value}"
            raise CallwrightError(f"{place}: {error}") from error
        properties[name] = adding(read.schema, choices)
        required += [name] if read.required else []
    return Tool(function.name.value, description, closed(object_schema(properties, required), schemas.definitions))


def _parameters(function: cst.FunctionDef) -> list[cst.Param]:
    """Those that a tool has; positional-only ones too, as in transformers."""
    every = function.params
    named = [*every.posonly_params, *every.params, *every.kwonly_params]
    bound = bool(named) and named[0].name.value in ("self", "cls") and named[0].annotation is None
    return named[1:] if bound else named


def _choices(description: str) -> tuple[str, Schema]:
    match = _CHOICES.search(description)
    try:
        return (description[: match.start()], {"enum": json.loads(match[1])}) if match else (description, {})
    except (ValueError, RecursionError):
        return description, {}
