"""The recipe's JSON Schema accepts what `callwright check` accepts, and refuses what is mistyped."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from callwright.cli import app
from callwright.plugins import ComponentError, build_component, catalogue, checked, options_model
from callwright.recipe import RecipeError, _Reader, build, load_recipe
from callwright.recipe_schema import PLACES, recipe_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import BaseModel
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
RECIPES = sorted(p for p in (ROOT / "recipes").rglob("*.yaml") if p.parent.name != "accelerate")
WHOLE = [path for path in RECIPES if "extends:" not in path.read_text(encoding="utf-8")]
SCHEMA, MISTAKES = recipe_schema()
VALID = Draft7Validator(SCHEMA)
COMPONENTS = [entry for entry in catalogue() if entry.kind in PLACES.values() and entry.distribution == "callwright"]


def plain(path: Path) -> Any:
    node = _Reader().text(path.read_text(encoding="utf-8"), str(path))
    assert node is not None
    return node.plain()


def of_kind(kind: str, value: Any, schema: dict[str, Any] = SCHEMA) -> bool:
    """Whether a component of this kind fits the schema."""
    return Draft7Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}).is_valid(value)


def accepted(path: Path) -> bool:
    try:
        build(load_recipe(path))
    except RecipeError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ whole recipes


def test_the_schema_is_one_and_describes_every_plugin() -> None:
    Draft7Validator.check_schema(SCHEMA)
    json.dumps(SCHEMA, allow_nan=False)
    assert MISTAKES == []
    for entry in COMPONENTS:
        place = SCHEMA["$defs"][f"{entry.kind}.callwright:{entry.name}"]
        assert place["additionalProperties"] is False
        assert place["description"], f"{entry.kind} {entry.name} says nothing"


def test_every_reference_leads_somewhere_and_stands_alone() -> None:
    def walk(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            yield value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from walk(inner)

    references = [found for found in walk(SCHEMA) if isinstance(found.get("$ref"), str)]
    assert len(references) > 100
    for found in references:
        assert found["$ref"].removeprefix("#/$defs/") in SCHEMA["$defs"]
        assert len(found) == 1, "draft 7 reads nothing beside a $ref"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_ship_fit_as_written_and_with_all_defaults(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    assert [error.message for error in VALID.iter_errors(plain(path))] == []
    (tmp_path / "resolved.yaml").write_text(load_recipe(path).to_yaml(), encoding="utf-8")
    assert [error.message for error in VALID.iter_errors(plain(tmp_path / "resolved.yaml"))] == []


def keys_of(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        if isinstance(key, str):
            yield (*place, key)
        yield from keys_of(inner, (*place, key))


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_a_mistyped_key_is_refused_wherever_check_refuses_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    installed = catalogue()
    monkeypatch.setattr("callwright.plugins.catalogue", lambda: installed)  # reading it takes most of the time
    recipe = plain(path)
    refused = 0
    for *way, key in keys_of(recipe):
        if "parameters" in way or "arguments" in way:
            continue  # a tool's own words, and nobody's keys
        changed = copy.deepcopy(recipe)
        holder = changed
        for step in way:
            holder = holder[step]
        holder[f"{key}x"] = holder.pop(key)
        (tmp_path / "changed.yaml").write_text(json.dumps(changed), encoding="utf-8")
        assert VALID.is_valid(changed) == accepted(tmp_path / "changed.yaml"), (*way, key)
        refused += not VALID.is_valid(changed)
    assert refused > 10


BROKEN = (
    {"train": {"steps": "many"}},
    {"train": {"stpes": 3}},
    {"train": {"steps": 0}},
    {"trian": {}},
    {"model": {"dtype": "float16"}},
    {"model": {"lora": {"rnak": 4}}},
    {"explore": {"use": "temperature"}},
    {"explore": ["temprature"]},
    {"explore": ["./mine.py"]},
    {"explore": [{"start": 1.0}]},
    {"explore": [{"use": "temperature", "stat": 1.0}]},
    {"explore": [{"use": "temperature", "start": "hot"}]},
    {"explore": [{"use": "temperature", "ladder": [1.0]}]},
    {"explore": [{"use": "temperature", "weight": 1.0}]},
    {"rewards": {"use": ["temperature"]}},
    {"rewards": {"use": []}},
    {"rewards": {"use": [{"use": "ast_match", "weight": "much"}]}},
    {"rewards": {"use": [{"use": "./mine.py:Mine", "workers": 0}]}},
    {"data": {"stages": [{"use": "llm_evaluate", "judge": {"modle": "m"}}]}},
    {"engine": "locale"},
    {"extends": 3},
)
FINE = (
    {"extends": ["a.yaml", "b.yaml"]},
    {"train": {"learning_rate": 1e-6, "kl": 0}},
    {"model": {"dtype": "float32"}},
    {"dialect": {"examples": []}},
    {"dialect": "hermes", "engine": "trl", "rollouts": {"use": "vllm", "max_model_len": None}},
    {"rewards": {"use": ["ast_match", "callwright:think_format", "./mine.py:Mine", "my.package:Mine"]}},
    {"rewards": {"use": [{"use": "./mine.py:Mine", "anything": {"goes": [1]}, "weight": 0.5, "isolate": "group"}]}},
    {"rewards": {"use": [{"use": "ast_match", "weight": {"start": 1, "end": 0}, "name": "calls"}]}},
    {"explore": [{"use": "callwright:temperature", "start": 1, "ladder": [0.5, 2]}]},
    {"explore": [{"use": "segment_weights", "tag": 1, "argument": {"start": 0, "end": 1, "steps": 3}}]},
    {"data": {"stages": ["ast_validate", {"use": "llm_evaluate", "judge": {"local": "m"}, "attempts": 1}]}},
)


@pytest.mark.parametrize("part", BROKEN, ids=json.dumps)
def test_what_is_mistyped_does_not_fit(part: dict[str, Any]) -> None:
    assert not VALID.is_valid({"extends": "base.yaml", **part})


@pytest.mark.parametrize("part", FINE, ids=json.dumps)
def test_short_forms_and_parts_of_a_recipe_fit(part: dict[str, Any]) -> None:
    assert [error.message for error in VALID.iter_errors({"extends": "base.yaml", **part})] == []


# ------------------------------------------------------------------------------------------------------ plugins


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema as pydantic writes them."""
    if "$ref" in schema:
        return st.deferred(lambda: values(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]))
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return st.one_of([values(one) for one in schema[several]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low = schema.get("minimum", schema.get("exclusiveMinimum", -5) + 1)
    match schema.get("type"):
        case "object" if schema.get("properties"):
            fields = {key: values(inner) for key, inner in schema["properties"].items()}
            needed = {key: fields.pop(key) for key in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=fields)
        case "object":
            rest = schema.get("additionalProperties", True)
            return st.dictionaries(st.text(max_size=3), values(rest if isinstance(rest, dict) else {}), max_size=2)
        case "array" if isinstance(schema.get("items"), list):
            return st.tuples(*map(values, schema["items"])).map(list)
        case "array":
            return st.lists(values(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=2)
        case "string":
            return st.text(max_size=4)
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(int(low), int(low) + 9)
        case "number":
            return st.integers(int(low), int(low) + 9) | st.floats(low, low + 9)
        case "null":
            return st.none()
    return st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)


@functools.cache
def options_of(number: int) -> tuple[type[BaseModel], dict[str, Any], st.SearchStrategy[dict[str, Any]]]:
    """Of a component: the model that checks its options, their schemas, and options that fit them."""
    entry = COMPONENTS[number]
    place = SCHEMA["$defs"][f"{entry.kind}.callwright:{entry.name}"]
    beside = {"use", "name"} if entry.kind == "explorer" else {"use"}
    if entry.kind == "reward":
        beside |= SCHEMA["$defs"]["reward"]["anyOf"][1]["properties"].keys()
    schemas = {key: inner for key, inner in place["properties"].items() if key not in beside}
    optional = {key: values(inner) for key, inner in schemas.items()}
    needed = {key: optional.pop(key) for key in place.get("required", ())}
    model = options_model(entry.load(), entry.name)
    return model, schemas, st.fixed_dictionaries(needed, optional=optional)


@settings(max_examples=250, database=None)
@given(st.data(), st.integers(0, len(COMPONENTS) - 1))
def test_options_that_fit_are_those_that_the_plugin_checks(data: st.DataObject, number: int) -> None:
    """Types and names are the schema's; what a plugin's own `__post_init__` refuses is not."""
    entry = COMPONENTS[number]
    model, schemas, fitting = options_of(number)
    options = data.draw(fitting)
    assert of_kind(entry.kind, {"use": entry.name, **options}), options
    found, mistakes = checked(model, options, "option")
    assert found is not None or all("either 'calls' or 'reply'" in text for _, text in mistakes), mistakes
    odd = st.none() | st.booleans() | st.text(max_size=2) | st.just([{}]) | st.just({"x": []})
    key = data.draw(st.sampled_from([*schemas, "unheard_of"]))
    changed = {**options, key: data.draw(odd)}
    if checked(model, changed, "option")[0] is not None:
        assert of_kind(entry.kind, {"use": entry.name, **changed}), changed
    if key == "unheard_of":
        assert not of_kind(entry.kind, {"use": entry.name, **changed})


def test_defaults_are_the_plugins_own() -> None:
    for number, entry in enumerate(COMPONENTS):
        _, schemas, _ = options_of(number)
        options = {key: schema["default"] for key, schema in schemas.items() if "default" in schema}
        cls = entry.load()
        try:
            default = build_component(cls, {}, entry.name)
        except ComponentError:
            continue  # something has no default
        said = build_component(cls, options, entry.name)
        assert [getattr(said, key) for key in options] == [getattr(default, key) for key in options]


STRANGER = '''
from __future__ import annotations
from dataclasses import dataclass, field
from fractions import Fraction

@dataclass
class Odd:
    """Options that JSON does not know."""
    share: Fraction = Fraction(1, 3)
    limit: float = float("inf")
    """The longest text that counts."""
    words: list[str] = field(default_factory=lambda: 1 / 0)

@dataclass
class Nowhere:
    limit: Missing = 3

def function():
    pass
'''


def test_a_broken_plugin_is_named_and_harms_no_other(install, tmp_path: Path) -> None:
    names = {"odd": "cw_odd:Odd", "nowhere": "cw_odd:Nowhere", "function": "cw_odd:function", "falls": "cw_falls:X"}
    points = {"rewards": names | {"ast_match": "cw_odd:Odd", "a/b ~c": "cw_odd:Odd"}}
    install("zz-odd", "3.1", points, cw_odd=STRANGER, cw_falls="raise RuntimeError('out of order')")
    result = CliRunner().invoke(app, ["schema", str(tmp_path / "s.json")])
    assert result.exit_code == 0, result.output
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    for name, why in (("falls", "out of order"), ("function", "is not a class"), ("nowhere", "Missing")):
        (line,) = [line for line in warnings if f"reward '{name}' of zz-odd 3.1" in line]
        assert why in line
    found = json.loads((tmp_path / "s.json").read_text())
    Draft7Validator.check_schema(found)

    def fits(value: Any) -> bool:
        return of_kind("reward", value, found)

    assert fits("falls")
    assert fits({"use": "falls", "any": 1, "weight": 2})
    assert fits({"use": "odd", "share": "1/3", "limit": 3, "words": []})
    assert not fits({"use": "odd", "lmiit": 3})
    assert not fits({"use": "a/b ~c", "lmiit": 3})
    assert found["$defs"]["reward.zz-odd:odd"]["properties"]["limit"]["description"] == "The longest text that counts."
    assert not fits("ast_match"), "two distributions offer it"
    assert fits("zz-odd:ast_match")
    assert fits({"use": "callwright:ast_match", "mode": "bfcl"})
    assert not fits({"use": "callwright:ast_match", "limit": 3})
    assert fits({"use": "think_format", "min_characters": 3})


def test_where_it_cannot_be_written_the_message_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["schema", str(tmp_path / "missing" / "s.json")])
    assert result.exit_code == 1
    assert "cannot write" in str(result.exception)
