"""plugins/example, as a stranger's distribution: installed from its wheel, tested where it is, named in a recipe."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from callwright.cli import app
from packaging.requirements import Requirement
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "plugins" / "example"
PROJECT = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def example() -> Path:
    """Where the wheel is installed, with what it needs beside callwright."""
    place = ROOT / ".venvs" / "example"
    assert (place / ".installed").is_file(), f"{place} is missing: run `make test`, which makes it"
    return place


def distribution(place: Path) -> importlib.metadata.Distribution:
    (found,) = importlib.metadata.distributions(name=PROJECT["name"], path=[str(place)])
    return found


def test_the_wheel_is_that_of_the_source_and_has_what_it_needs(example: Path) -> None:
    installed = distribution(example)
    for path in (SOURCE / "src").rglob("*.py"):
        assert (example / path.relative_to(SOURCE / "src")).read_text() == path.read_text(), "run `make test`"
    assert installed.version == PROJECT["version"]
    ours = [Requirement(line) for line in installed.requires or [] if "extra" not in line]
    assert {requirement.name for requirement in ours} == {"callwright", "pint"}
    (pint,) = importlib.metadata.distributions(name="pint", path=[str(example)])
    assert next(r for r in ours if r.name == "pint").specifier.contains(pint.version)


def test_its_own_tests_pass_where_it_is_installed(example: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(example)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SOURCE / "tests"]
    done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 30


def test_callwright_knows_nothing_of_it() -> None:
    assert importlib.util.find_spec("callwright_units") is None
    names = [PROJECT["name"], "callwright_units"]
    for folder in ("core", "rewards", "explorers", "plugins/callwright_data", "plugins/callwright_dialects"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not any(name in path.read_text() for name in names), path


def test_a_recipe_names_it_and_trains(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_folder: Callable[..., Path]
) -> None:
    monkeypatch.syspath_prepend(str(example))
    monkeypatch.chdir(tmp_path)
    tool = {"name": "run", "parameters": {"type": "object", "properties": {"distance": {"type": "string"}}}}
    rows = [
        {"question": f"Run {n} km.", "tools": [tool], "calls": [{"name": "run", "arguments": {"distance": f"{n} km"}}]}
        for n in range(1, 5)
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {
        "run": "run",
        "model": {"name": str(tiny_model_folder()), "device": "cpu"},
        "dialect": "python_calls",
        "data": {"source": {"use": "jsonl", "path": "rows.jsonl"}},
        "rewards": {"use": [{"use": "same_quantity", "tolerance": 0.01}]},
        "explore": [{"use": "unit_credit", "steps": 9}],
        "train": {"steps": 1, "prompts_per_step": 2, "group_size": 2, "max_new_tokens": 4},
    }
    Path("recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    done = CliRunner().invoke(app, ["train", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    versions = json.loads(Path("run/versions.json").read_text())
    assert json.dumps(versions).count('"callwright-units"') == 2
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 1
    alone = CliRunner().invoke(app, ["check", "recipe.yaml", "rewards.use=[ast_match]"])
    assert alone.exit_code == 2
    assert "name same_quantity under rewards.use" in alone.output
