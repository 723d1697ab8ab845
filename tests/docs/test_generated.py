"""Documentation that is written by a program is what that program writes now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from callwright import Dropped
from callwright.cli import app
from callwright.hooks import HOOKS
from callwright.plugins import catalogue, find
from callwright.recipe import Recipe
from callwright.testing import check_stage
from callwright.testing.toys import fixed_tasks
from callwright_suites.bfcl.categories import scores
from typer.main import get_command

DOCS = Path(__file__).parents[2] / "docs"


def writer(name: str) -> ModuleType:
    """The program that writes the page of this name."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def strategies() -> ModuleType:
    return writer("strategies")


def test_the_page_of_hooks_is_that_of_the_specifications() -> None:
    hooks = writer("hooks")
    page = (DOCS / "hooks.md").read_text(encoding="utf-8")
    assert page == hooks.document(), "run `make docs`"
    assert list(hooks.THEN) == list(HOOKS), "the diagram says what the core does with every hook, in their order"
    for hook in HOOKS:
        assert f"\n### `{hook}`\n" in page


def test_the_table_of_strategies_is_that_of_the_strategies(strategies: ModuleType) -> None:
    assert (DOCS / "strategies.md").read_text(encoding="utf-8") == strategies.document(), "run `make docs`"


def test_the_page_of_recipes_is_that_of_the_models() -> None:
    recipes = writer("recipes")
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert page == recipes.document(), "run `make docs`"
    described = [
        name for name in Recipe.model_json_schema()["$defs"] if name not in ("ComponentConfig", "RewardConfig")
    ]
    assert set(described) <= set(recipes.PARTS.values()), "every part of a recipe has its table"


def test_the_api_reference_names_every_plugin_and_every_page_is_in_the_site() -> None:
    pages = writer("reference").documents()
    written = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")}
    assert written == pages, "run `make docs`"
    shipped = [entry for entry in catalogue() if entry.distribution == "callwright"]
    for entry in shipped:
        assert any(f"::: {entry.value.replace(':', '.')}\n" in text for text in pages.values()), entry
    nav = re.findall(r"([\w/-]+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(nav) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_every_strategy_says_when_to_use_it_and_where_it_comes_from(strategies: ModuleType) -> None:
    for name, cls in strategies.strategies():
        for attribute in ("formula", "source", "use_when"):
            assert len(getattr(cls, attribute, "")) > 3, f"{name} lacks {attribute}"
            assert "\n" not in getattr(cls, attribute), name


def test_every_source_and_stage_is_in_the_page_on_data() -> None:
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    names = [entry.name for entry in catalogue() if entry.kind in ("source", "stage")]
    assert len(names) > 20
    assert [name for name in names if f"\n| `{name}` | " not in page] == []


def test_the_page_on_evaluation_names_the_scores_and_the_options_that_are() -> None:
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    for score in scores({}):
        assert score.by in page
        assert score.name in page
    known = {option for parameter in get_command(app).commands["eval"].params for option in parameter.opts}  # type: ignore[attr-defined] # a group
    others = {"--no-deps", "--model", "--test-category", "--partial-eval"}  # pip's and bfcl-eval's
    assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", page)) - others <= known


def test_the_stage_in_the_page_on_data_keeps_the_laws(tmp_path: Path) -> None:
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# short_questions\.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "short_questions.py").write_text(code, encoding="utf-8")
    stage_class, _ = find("stage", f"{tmp_path / 'short_questions.py'}:ShortQuestions")
    check_stage(stage_class(limit=500))
    results = list(stage_class(limit=3).apply(fixed_tasks()))
    assert {type(result) for result in results} == {Dropped}
