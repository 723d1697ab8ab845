"""`callwright new`: what it writes installs, is listed, keeps the laws and trains; what it refuses, and why."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import json
import keyword
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from callwright import CallwrightError, __version__
from callwright.api_version import range_of
from callwright.cli import app
from callwright.scaffold import KINDS, TEMPLATES, new_plugin
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
LAWS_THAT_TAKE_LONG = ("reward", "explorer")
TINY = (
    "model={name: MODEL, device: cpu}",
    "train.steps=1",
    "train.max_new_tokens=4",
    "train.group_size=2",
    "train.prompts_per_step=2",
)
"""Lines that make a recipe train one step of a tiny model."""


def installed_into(place: Path, *folders: Path) -> Path:
    """Wheels of these folders, built and installed into a folder that holds nothing else."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "--no-build-isolation", "--target", place, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind, the folder of a new plugin called `zz-KIND`."""
    place = tmp_path_factory.mktemp("new")
    return {kind: new_plugin(kind, f"zz-{kind}", place / kind).folder for kind in KINDS}


@pytest.fixture(scope="module")
def site(written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all five are installed, from their wheels."""
    return installed_into(tmp_path_factory.mktemp("site"), *written.values())


@pytest.fixture
def found(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(site))
    return site


def test_they_are_listed(found: Path) -> None:
    rows = json.loads(CliRunner().invoke(app, ["plugins", "--json"]).stdout)
    ours = {row["kind"]: row for row in rows if row["name"].startswith("zz_")}
    assert set(ours) == set(KINDS)
    for kind, row in ours.items():
        assert (row["name"], row["distribution"]) == (f"zz_{kind}", f"callwright-zz-{kind}")
        assert (row["version"], row["written_for"], row["error"]) == ("0.1.0", range_of(__version__), None)
        assert row["description"].endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_names_it_at_once_and_trains_a_step(
    found: Path,
    kind: str,
    written: dict[str, Path],
    tmp_path: Path,
    tiny_model_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(written[kind])
    checked = CliRunner().invoke(app, ["check", "recipe.yaml"])
    assert checked.exit_code == 0, checked.output
    lines = [line.replace("MODEL", str(tiny_model_folder())) for line in TINY]
    done = CliRunner().invoke(app, ["train", "recipe.yaml", *lines, f"run={tmp_path / 'run'}"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert f"callwright-zz-{kind}" in (tmp_path / "run" / "versions.json").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass(found: Path, kind: str, written: dict[str, Path], tmp_path: Path) -> None:
    """All but the searches that take long, which the slow test runs in an environment of its own."""
    (path,) = (written[kind] / "tests").iterdir()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tests: list[Callable[..., Any]] = [value for name, value in vars(module).items() if name.startswith("test_")]
    laws = [test for test in tests if "laws" in test.__name__]
    assert len(laws) == 1
    assert len(tests) == 2
    for test in tests:
        if test not in laws or kind not in LAWS_THAT_TAKE_LONG:
            test(**{"tmp_path": tmp_path} if "tmp_path" in inspect.signature(test).parameters else {})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_three_commands_are_true_in_an_environment_of_its_own(
    kind: str, tmp_path: Path, tiny_model_folder: Callable[..., Path], clean_environment: Callable[[Path], Path]
) -> None:
    """With callwright and the plugin from their wheels, and nothing else of this repository."""
    python = clean_environment(tmp_path / "environment")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]

    def run(*command: object, cwd: Path = tmp_path) -> str:
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run([str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    callwright = python.parent / "callwright"
    run(*pip, "--no-build-isolation", ROOT)
    said = run(callwright, "new", kind, f"zz-{kind}")
    folder = tmp_path / f"callwright-zz-{kind}"
    install, test, check = [line.strip() for line in said.partition("next:\n")[2].splitlines()]
    assert install == f"cd {folder.name} && pip install --editable '.[test]'"
    run(*pip, "--no-build-isolation", "--editable", folder)
    assert test == "python -m pytest"
    assert "2 passed" in run(python, "-m", "pytest", cwd=folder)
    run(python.parent / check.split()[0], *check.split()[1:], cwd=folder)
    assert f"zz_{kind}" in run(callwright, "plugins", "--kind", kind)
    lines = [line.replace("MODEL", str(tiny_model_folder())) for line in TINY]
    run(callwright, "train", "recipe.yaml", *lines, cwd=folder)
    assert len((folder / "runs" / f"zz_{kind}" / "metrics.jsonl").read_text().splitlines()) == 1


# ------------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_has_at_most_twenty_lines_and_every_file_is_in_order(kind: str, written: dict[str, Path]) -> None:
    folder = written[kind]
    (module,) = folder.glob("*.py")
    assert len(module.read_text().splitlines()) <= 20
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == [f"callwright{range_of(__version__)}"]
    assert list(project["entry-points"]) == [f"callwright.{kind}s"]
    workflow = yaml.safe_load((folder / ".github/workflows/test.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    torch = importlib.metadata.version("torch").partition("+")[0]
    assert commands == [
        f"uv pip install torch=={torch}",
        "uv pip install --editable '.[test]'",
        "python -m pytest",
    ]
    assert workflow["jobs"]["test"]["env"]["UV_TORCH_BACKEND"] == "cpu"
    for path in folder.rglob("*"):
        assert path.is_dir() or "$" not in path.read_text(), path


def test_what_is_written_passes_the_checks_of_this_repository(written: dict[str, Path]) -> None:
    config = ["--config", ROOT / "pyproject.toml"]
    for command in (["check"], ["format", "--check"]):
        ruff = [Path(sys.executable).with_name("ruff"), *command, *config, *written.values()]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_written_is_typed(written: dict[str, Path]) -> None:
    modules = [path for folder in written.values() for path in folder.glob("*.py")]
    mypy = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *modules]
    done = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@settings(max_examples=40)
@given(st.from_regex(r"[a-z][a-z0-9]{0,6}([-_][a-z0-9]{1,5}){0,2}", fullmatch=True), st.sampled_from(sorted(KINDS)))
def test_any_name_makes_python_and_toml_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("any") / "new"
    try:
        made = new_plugin(kind, name, folder)
    except CallwrightError:
        assert not folder.exists()
        return
    for path in made.files:
        text = (folder / path).read_text()
        if path.suffix == ".py":
            compile(text, str(path), "exec")
        elif path.suffix == ".toml":
            (point,) = tomllib.loads(text)["project"]["entry-points"][f"callwright.{kind}s"].items()
            assert point[0] == name.removeprefix("callwright-").replace("-", "_")
            module, _, class_name = point[1].partition(":")
            assert f"class {class_name}" in (folder / f"{module}.py").read_text()
        elif path.suffix == ".yaml":
            assert yaml.safe_load(text)["run"].startswith("runs/")


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("rewrd", "short", r"no template for the kind 'rewrd'; did you mean 'reward'\? \(kinds: reward, explorer"),
        ("engine", "fast", "no template for the kind 'engine'"),
        ("reward", "ShortReply", "small letters and digits.*did you mean 'short-reply'"),
        ("reward", "short reply", "did you mean 'short-reply'"),
        ("reward", "2nd", "begins with a letter.*did you mean 'nd'"),
        ("reward", "a--b", "did you mean 'a-b'"),
        ("reward", "../evil", "did you mean 'evil'"),
        ("reward", "", "cannot be a plugin's name"),
        ("reward", "größe", "cannot be a plugin's name"),
        ("reward", "class", "a word of Python's"),
        ("source", "none", "a word of Python's"),
        ("reward", "ast-match", f"the reward 'ast_match' is there already, of callwright {__version__}"),
        ("explorer", "callwright-temperature", "the explorer 'temperature' is there already"),
        ("stage", "trl", "the module callwright_trl is there already"),
        ("stage", "dropped", "its class would be called Dropped"),
        ("reward", "verdict", "its class would be called Verdict"),
    ],
)
def test_a_bad_name_is_refused_with_a_repair(tmp_path: Path, kind: str, name: str, words: str) -> None:
    with pytest.raises(CallwrightError, match=words):
        new_plugin(kind, name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_word_of_python_is_refused(tmp_path: Path) -> None:
    for word in keyword.kwlist:
        with pytest.raises(CallwrightError):
            new_plugin("reward", word, tmp_path / "new")


def test_nothing_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = new_plugin("reward", "callwright-short_reply")
    assert made.folder == Path("callwright-short-reply")
    (made.folder / "README.md").write_text("mine")
    with pytest.raises(CallwrightError, match=r"not empty, and nothing is written over.*--out"):
        new_plugin("reward", "short-reply")
    assert (made.folder / "README.md").read_text() == "mine"
    Path("empty").mkdir()
    assert new_plugin("reward", "short-reply", Path("empty")).files == made.files
    Path("file").write_text("")
    with pytest.raises(CallwrightError, match="cannot be written"):
        new_plugin("reward", "short-reply", Path("file"))


def test_the_command_says_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    done = CliRunner().invoke(app, ["new", "stage", "short-questions", "--out", str(folder)])
    assert done.exit_code == 0
    files, _, commands = done.stdout.partition("\nnext:\n")
    assert sorted(files.splitlines()) == sorted(str(path) for path in folder.rglob("*") if path.is_file())
    assert commands.splitlines()[0] == f"  cd '{folder}' && pip install --editable '.[test]'"
    assert all(path.name.endswith(".tmpl") for path in TEMPLATES.iterdir())
