"""Writes docs/recipes.md from the models that check a recipe: `make docs`; a test holds the file to it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callwright.recipe_schema import PLACES, recipe_schema

HEAD = """# Recipes

A recipe is a YAML file that says all of a run: model, data, rewards, exploration, training. This page has every key,
from the models that check them (`make docs`).

```yaml
extends: recipe.yaml                      # start from another recipe, or a list of them, relative to this file
rewards:
  combine: sum
  use:
    - think_format                        # a plugin's name alone, where it needs no option
    - {use: ast_match, weight: 2}         # or with its options beside `use`
    - {use: callwright:schema_valid}      # distribution:name, where two distributions offer the same name
    - use: ./judge.py:Judge               # a class in a file, relative to the working directory
train: {steps: 20, learning_rate: 1e-6}
```

**`extends`.** Mappings are merged, key by key; lists and plain values are replaced, and so is a component whose `use`
is another one. Of several recipes in a list the later ones win.

**On the command line.** Every line can be set behind the recipe, as in
`callwright train recipe.yaml train.steps=20 explore.0.alpha=0.2`; the value is YAML.

**Mistakes.** `callwright check recipe.yaml` finds all of them at once, those of plugins and data included, with file
and line, and loads no model. `callwright schema` writes a JSON Schema from which editors complete and check while you
type, after this first line:

```yaml
# yaml-language-server: $schema=recipe.schema.json
```

**Words and numbers** are read after YAML 1.2: `1e-6` is a number, `no` is text. A run writes `recipe.resolved.yaml`,
the whole recipe with all defaults, into its folder.
"""

PARTS = {
    "A whole recipe": "",
    "`model`": "ModelConfig",
    "`model.lora`": "LoraConfig",
    "`data`": "DataConfig",
    "`rewards`": "RewardsConfig",
    "A reward": "reward",
    "A reward's `weight`, when it changes": "WeightConfig",
    "`train`": "TrainConfig",
    "`evaluate`": "EvaluateConfig",
}
"""Heading -> definition in the schema; "" is the schema itself."""
PAGES = {
    "dialect": "[dialect](dialects.md)",
    "source": "[source](data.md#sources)",
    "stage": "[stage](data.md#stages)",
    "reward": "[reward](rewards.md)",
    "explorer": "[explorer](strategies.md)",
    "engine": "engine: `local`, or [`trl`](trl.md)",
    "rollout": "sampler: `local`, or [`vllm`, `vllm_server`](vllm.md)",
    "tracker": "[tracker](trackers.md)",
}


def document() -> str:
    """The whole text of docs/recipes.md."""
    schema, _ = recipe_schema()
    whole = schema["else"]
    needed_of = {f"{key.capitalize()}Config": one.get("required", []) for key, one in whole["properties"].items()}
    parts = [HEAD]
    for heading, name in PARTS.items():
        part = schema["$defs"][name] if name else schema
        needed = part.get("required", needed_of.get(name, [])) if name else whole["required"]
        if name == "reward":
            part = {
                "properties": part["anyOf"][1]["properties"],
                "description": "What may stand beside `use`, for any reward; the plugin's own options come on top.",
            }
        said = f"{part['description']}\n\n" if name else ""
        rows = "\n".join(_rows(part["properties"], needed))
        parts.append(f"## {heading}\n\n{said}| key | value | default | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _rows(properties: dict[str, Any], needed: list[str]) -> Iterator[str]:
    for key, value in properties.items():
        if key != "use" or "$ref" not in value:
            default = "(required)" if key in needed else _default(value.get("default"))
            cells = [f"`{key}`", _shown(value), default, value.get("description", "")]
            yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _default(value: Any) -> str:
    """Nothing for what is off, and for mappings, whose keys have defaults of their own."""
    if value is None or isinstance(value, dict | list):
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _shown(value: dict[str, Any]) -> str:
    """What a schema allows, in words."""
    for several in ("anyOf", "allOf"):
        if several in value:
            kinds = [_shown(one) for one in value[several] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "$ref" in value:
        return _referred(value["$ref"].rpartition("/")[2])
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        inside = _shown(value.get("items", {}))
        return f"list of: {inside}" if inside else "list"
    words = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text"}
    return words.get(str(value.get("type")), "mapping") + "".join(_bounds(value))


def _bounds(value: dict[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    for key, word in words.items():
        if key in value:
            yield f", {word} {value[key]:g}"


def _referred(name: str) -> str:
    if name in PLACES.values():
        return PAGES.get(name, name)
    heading = next((heading for heading, part in PARTS.items() if part == name), name)
    anchor = "".join(c for c in heading.lower() if c.isalnum() or c in " -_").replace(" ", "-")
    return f"[mapping](#{anchor})"


if __name__ == "__main__":
    target = Path(inspect.getfile(document)).with_suffix(".md")
    target.write_text(document(), encoding="utf-8")
    print(f"wrote {target.name}")
