"""Small fixed tasks: every law looks at these before it draws random ones, from the smallest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from callwright.pipeline.context import StageContext
from callwright.testing.python_code import call_of
from callwright.testing.strategies import answer_of, task_of
from callwright.types import JSON, Task, Tool

_Arguments = Mapping[str, JSON]
_KINDS: dict[type, dict[str, JSON]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
}


def _tool(name: str, arguments: _Arguments) -> Tool:
    properties = {key: _schema(value) for key, value in arguments.items()}
    return Tool(name, f"Does {name}.", {"type": "object", "properties": properties, "required": list(properties)})


def _schema(value: JSON) -> dict[str, JSON]:
    if isinstance(value, dict):
        properties = {key: _schema(inner) for key, inner in value.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(value, list):
        return {"type": "array", "items": _schema(value[0])}
    return _KINDS[type(value)]


def _task(number: int, wanted: Sequence[tuple[str, _Arguments]], offered: Mapping[str, _Arguments]) -> Task:
    tools = {name: _tool(name, arguments) for name, arguments in [*wanted, *offered.items()]}
    calls = [call_of(name, arguments) for name, arguments in wanted]
    return task_of(list(tools.values()), answer_of(calls), f"toy-{number}")


def fixed_tasks() -> list[Task]:
    """Ten tasks: one call, several, equal ones, none, and every type of argument."""
    asked: list[tuple[Sequence[tuple[str, _Arguments]], Mapping[str, _Arguments]]] = [
        ([], {"add": {"x": 1}}),
        ([("add", {"x": 1})], {}),
        ([("ping", {})], {"add": {"x": 1}}),
        ([("greet", {"who": "amber birch"})], {"add": {"x": 1}}),
        ([("add", {"x": 1, "y": 25})], {}),
        ([("add", {"x": 3}), ("add", {"x": 3})], {}),
        ([("add", {"x": 1}), ("add", {"x": 25})], {}),
        ([("add", {"x": 12}), ("greet", {"who": "cedar"})], {"ping": {}}),
        ([("tune", {"level": 2.5, "loud": True, "steps": [12, 4, 30]})], {}),
        ([("book", {"seat": {"row": 12, "side": "ember"}, "names": ["delta", "fjord"]})], {"ping": {}}),
    ]
    return [_task(number, wanted, offered) for number, (wanted, offered) in enumerate(asked)]


_RECIPE = """
model: {name: none}
dialect: {use: python_calls}
data: {source: {use: jsonl, path: none.jsonl}}
rewards: {use: [{use: ast_match}]}
"""


def stage_context(cache: Path) -> StageContext:
    """What a stage with `prepare` gets where there is no recipe: one without a model, and the empty folder `cache`."""
    from callwright.recipe import build, load_recipe

    path = cache / "recipe.yaml"
    path.write_text(_RECIPE, encoding="utf-8")
    recipe = load_recipe(path)
    return StageContext(recipe, build(recipe), cache / "stage", lambda done, total: None, lambda text: None)
