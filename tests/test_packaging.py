"""The wheel, built from the sdist and installed where nothing else of the repository can be seen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [Path(folder) for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
PLUGINS = {
    (group, name): value
    for group, names in PROJECT["project"]["entry-points"].items()
    if group.startswith("callwright.")  # pytest's own plugin is none of ours
    for name, value in names.items()
}


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """A folder with the sdist, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def installed(dist, tmp_path_factory, clean_environment):
    """`bin` of an environment whose callwright comes from the wheel; what it needs is this environment's."""
    python = clean_environment(tmp_path_factory.mktemp("clean"))
    (wheel,) = dist.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    return python.parent


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_sdist_holds_all_that_a_developer_needs(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run(["git", "ls-files"], cwd=ROOT).split() if (ROOT / ".git").exists() else []
    private = (".gitignore", ".ci/", ".github/")
    assert {name for name in tracked if not name.startswith(private) and (ROOT / name).exists()} <= names
    assert {"Makefile", "constraints.txt", "LICENSE", "README.md", "tests/test_packaging.py"} <= names


def test_the_wheel_holds_every_package_whole_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    expected = {
        f"{package.name}/{path.relative_to(ROOT / package)}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_package_is_typed_and_listed():
    for root in ("core", "rewards", "explorers", "plugins"):
        found = {p.parent.relative_to(ROOT) for p in (ROOT / root).glob("callwright*/__init__.py")}
        assert found <= set(PACKAGES)
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_the_wheel_lists_and_loads_every_plugin(installed, tmp_path):
    listed = json.loads(run([installed / "callwright", "plugins", "--json"], cwd=tmp_path))
    rows = listed if isinstance(listed, list) else listed["plugins"]
    # group "callwright.rewards", kind "reward" or "rewards"
    assert {(row["kind"].rstrip("s"), row["name"]) for row in rows} >= {
        (group.removeprefix("callwright.").rstrip("s"), name) for group, name in PLUGINS
    }
    code = "import json, sys; from importlib.metadata import EntryPoint\nfor e in json.loads(sys.argv[1]):\n"
    code += "    module = sys.modules[EntryPoint('', e, '').load().__module__]; print(module.__file__)"
    files = run([installed / "python", "-c", code, json.dumps(sorted(PLUGINS.values()))], cwd=tmp_path).split()
    assert len(files) == len(PLUGINS)
    assert all(Path(file).is_relative_to(installed.parent) for file in files)


def test_the_wheel_trains(installed, tmp_path, tiny_model_folder):
    tool = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    rows = [
        {"question": f"Add {a}.", "tools": [tool], "calls": [{"name": "add", "arguments": {"a": a}}]} for a in range(6)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {
        "run": "run",
        "model": {"name": str(tiny_model_folder()), "device": "cpu"},
        "dialect": {"use": "python_calls"},
        "data": {"source": {"use": "jsonl", "path": "rows.jsonl"}, "held_out": 2},
        "rewards": {"use": [{"use": "ast_match"}]},
        "train": {"steps": 2, "prompts_per_step": 2, "group_size": 2, "max_new_tokens": 4, "checkpoint_every": 1},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run([installed / "callwright", "check", "recipe.yaml"], cwd=tmp_path, env=environment)
    run([installed / "callwright", "train", "recipe.yaml"], cwd=tmp_path, env=environment)
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2
    evaluation = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert evaluation["before"]["rows"] == evaluation["after"]["rows"] == 2
    assert (tmp_path / "run" / "checkpoints" / "step-000002" / "model" / "model.safetensors").is_file()


def test_constraints_pin_every_requirement_exactly():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert len(pinned) == len(lines)
    project = PROJECT["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    wanted = [*project["dependencies"], *extras, *PROJECT["build-system"]["requires"]]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in wanted}
    assert names - {"callwright"} <= pinned
