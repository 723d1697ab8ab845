"""A JSON Schema of the recipe, with the options of every installed plugin: editors complete and check by it.

It is put together from the models with which `callwright.recipe` and `callwright.plugins` check. It is draft 7, which
editors know best. What a schema cannot say (that two options exclude each other, that a file exists) is left to
`callwright check`.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import to_jsonable_python

from callwright.files import replacing
from callwright.plugins import ComponentError, Entry, PluginError, catalogue, documentation, options_model, summary
from callwright.recipe import Recipe
from callwright.types import CallwrightError

Schema = dict[str, Any]

PLACES = {
    ("Recipe", "dialect"): "dialect",
    ("DataConfig", "source"): "source",
    ("DataConfig", "stages"): "stage",
    ("RewardsConfig", "use"): "reward",
    ("Recipe", "explore"): "explorer",
    ("Recipe", "engine"): "engine",
    ("Recipe", "rollouts"): "rollout",
    ("Recipe", "trackers"): "tracker",
}
"""The kind of plugin at a key of a part of the recipe, or in the list there."""

_EXTENDS = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    "description": "The recipe, or recipes, that this one starts from, relative to this file. Mappings are merged, "
    "everything else is replaced.",
}


def recipe_schema() -> tuple[Schema, list[str]]:
    """The schema, and a text for each plugin that does not load or whose options it cannot describe: those take any.

    Imports every plugin that a recipe can name.
    """
    recipe = Recipe.model_json_schema(schema_generator=_Generator)
    parts: Schema = {"Recipe": recipe, **recipe.pop("$defs")}
    for (part, key), kind in PLACES.items():
        place = parts[part]["properties"][key]
        place.get("items", place)["$ref"] = f"#/$defs/{kind}"
    beside_use = {"explorer": parts.pop("ComponentConfig"), "reward": parts.pop("RewardConfig")}
    whole = _needed_in_a_whole_recipe(parts)
    del parts["Recipe"]
    mistakes: list[str] = []
    installed = catalogue()
    for kind in PLACES.values():
        properties = beside_use.get(kind, {"properties": {}})["properties"]
        common = {key: value for key, value in properties.items() if key not in ("use", "options")}
        parts |= _component(kind, [entry for entry in installed if entry.kind == kind], common, mistakes)
    recipe["properties"] = {"extends": _EXTENDS, **recipe["properties"]}
    recipe |= {"title": "A callwright recipe", "if": {"required": ["extends"]}, "else": whole, "$defs": parts}
    found: Schema = _draft_7({"$schema": "http://json-schema.org/draft-07/schema#", **recipe})
    return found, mistakes


def _needed_in_a_whole_recipe(parts: Schema) -> Schema:
    """Takes what has no default out of the recipe and its mappings, and returns a schema that asks for it.

    A recipe that extends another may leave it to that one. Entries of lists are never merged, so they stay whole.
    """
    recipe, use = parts["Recipe"], {"required": ["use"]}
    needed: Schema = {"dialect": use, "engine": use, "rollouts": use}
    for key, value in recipe["properties"].items():
        part = parts.get(value.get("$ref", "").rpartition("/")[2], {})
        if "required" in part:
            needed[key] = {"required": part.pop("required")}
    needed["data"]["properties"] = {"source": use}
    return {"required": [key for key in recipe.pop("required") if key != "run"], "properties": needed}


def write_schema(file: Path) -> list[str]:
    """Writes the schema to `file`, and returns the plugins that it could not describe, as `recipe_schema` does."""
    schema, mistakes = recipe_schema()
    try:
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CallwrightError(f"cannot write {file}: {error.strerror}") from error
    return mistakes


# ---------------------------------------------------------------------------------------------------- plugins


def _component(kind: str, entries: Sequence[Entry], common: Schema, mistakes: list[str]) -> Schema:
    """Definitions: the component of a kind, what its `use` may be, and the options of each plugin.

    common: properties that a recipe may give beside `use` to all plugins of this kind.
    """
    often = Counter(entry.name for entry in entries)
    names: dict[str, str] = {}
    parts: Schema = {}
    by_use = []
    for entry in entries:
        qualified = f"{entry.distribution}:{entry.name}"
        place = re.sub(r"[^\w.:-]", lambda odd: f"_{ord(odd[0]):x}_", f"{kind}.{qualified}")
        spelled = [entry.name, qualified] if often[entry.name] == 1 else [qualified]  # bare, it would be ambiguous
        try:
            loaded = entry.load()
            options, inner = _options(loaded, place)
        except PluginError as error:
            mistakes.append(f"{kind} '{entry.name}' of {entry.distribution} {entry.version}: {_first_line(error)}")
            names[spelled[0]] = "It does not load, or its options cannot be read; `callwright plugins` says why."
            continue
        names[spelled[0]] = (documentation(loaded) or entry.value).partition("\n")[0]
        options["properties"] = {"use": {"enum": spelled}, **options["properties"], **common}
        parts |= {place: options, **inner}
        chosen = {"properties": {"use": {"enum": spelled}}, "required": ["use"]}
        by_use.append({"if": chosen, "then": {"$ref": f"#/$defs/{place}"}})
    use = {
        "description": "An installed name, `distribution:name`, `package.module:Class` or `./file.py:Class`.",
        "anyOf": [
            {"enum": list(names), "enumDescriptions": list(names.values())},
            {"type": "string", "pattern": r"^.+:[^/\\]+$"},
        ],
    }
    mapping: Schema = {"type": "object", "properties": {"use": {"$ref": f"#/$defs/{kind}.use"}, **common}}
    if kind in ("stage", "reward", "explorer"):  # others may get theirs from the recipe that this one extends
        mapping["required"] = ["use"]
    if by_use:
        mapping["allOf"] = by_use
    return {f"{kind}.use": use, kind: {"anyOf": [{"$ref": f"#/$defs/{kind}.use"}, mapping]}, **parts}


def _first_line(error: PluginError) -> str:
    return summary(error.__cause__) if error.__cause__ else str(error).partition("\n")[0]


def _options(cls: Any, place: str) -> tuple[Schema, Schema]:
    """(schema of a component's options, definitions that it refers to as `place/Name`). Raises `PluginError`."""
    closed: Schema = {"type": "object", "properties": {}, "additionalProperties": False}
    if not inspect.isclass(cls):
        raise PluginError(f"{cls!r} is not a class; a plugin is a class whose methods are its hooks")
    inner: Schema = {}
    if dataclasses.is_dataclass(cls):
        try:
            model = options_model(cls, place)
            template = f"#/$defs/{place}.{{model}}"
            closed = model.model_json_schema(schema_generator=_Generator, ref_template=template)
        except ComponentError:
            raise
        except Exception as error:
            raise PluginError(f"its options cannot be described: {summary(error)}") from error
        inner = {f"{place}.{name}": part for name, part in closed.pop("$defs", {}).items()}
        closed.setdefault("properties", {})
        described = attribute_docs(cls)
        for option in dataclasses.fields(cls):
            if option.name in closed["properties"]:
                _complete(closed["properties"][option.name], option, described.get(option.name))
    closed.pop("title", None)
    if text := documentation(cls):
        closed["description"] = text
    return closed, inner


def _complete(schema: Schema, option: dataclasses.Field[Any], description: str | None) -> None:
    """Adds the option's description and its default, where that is JSON; the model's own default is always None."""
    schema.pop("default", None)
    if description is not None:
        schema.setdefault("description", description)
    factory = option.default_factory
    try:
        default = factory() if factory is not dataclasses.MISSING else option.default
        if default is not dataclasses.MISSING:
            schema["default"] = to_jsonable_python(default)
    except Exception:  # a stranger's object or factory: an editor can do without
        return


def attribute_docs(cls: type[Any]) -> dict[str, str]:
    """The texts below a class's annotated attributes, its bases' included; empty where there is no source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        with contextlib.suppress(KeyError, TypeError, OSError, SyntaxError, ValueError):
            found |= _file_docs(inspect.getsourcefile(sys.modules[base.__module__])).get(base.__qualname__, {})
    return found


@functools.cache
def _file_docs(path: str | None) -> dict[str, dict[str, str]]:
    """The texts below annotated attributes, by the qualified name of the class and the attribute's."""
    found: dict[str, dict[str, str]] = {}

    def read(body: Sequence[ast.stmt], prefix: str) -> None:
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                name = prefix + statement.name
                found[name] = dict(_below(statement.body))
                read(statement.body, f"{name}.")

    read(ast.parse(Path(path).read_bytes()).body if path else [], "")
    return found


def _below(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, below in itertools.pairwise(body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)


class _Generator(GenerateJsonSchema):
    """pydantic's, with descriptions from the texts below attributes, and without titles made of field names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}  # a type that JSON does not know: the plugin checks it when it is built

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        return _described(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        return _described(super().dataclass_schema(schema), schema["cls"])


def _described(schema: JsonSchemaValue, cls: type[Any]) -> JsonSchemaValue:
    texts = attribute_docs(cls)
    for name, value in schema.get("properties", {}).items():
        if name in texts:
            value.setdefault("description", texts[name])
    return schema


# ---------------------------------------------------------------------------------------------------- draft 7


def _draft_7(value: Any) -> Any:
    """A newer schema in the words of draft 7; defaults that JSON cannot hold are left out."""
    if isinstance(value, list):
        return [_draft_7(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    entries = {key: _draft_7(item) for key, item in value.items() if key != "default" or _is_json(item)}
    if "prefixItems" in entries and isinstance(entries["prefixItems"], list):
        rest = {"additionalItems": entries.pop("items")} if "items" in entries else {}
        entries |= {"items": entries.pop("prefixItems"), **rest}
    if len(entries) > 1 and isinstance(entries.get("$ref"), str):
        entries = {"allOf": [{"$ref": entries.pop("$ref")}], **entries}  # what stands beside a $ref is not read
    return entries


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
