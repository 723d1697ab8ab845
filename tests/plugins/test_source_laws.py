"""Every source of this distribution keeps the laws of sources, on a small file of its format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from callwright.cli import app
from callwright.plugins import catalogue
from callwright.testing import check_source, plugin
from typer.testing import CliRunner

DATA = Path(__file__).parent / "data"
ROWS = [
    {
        "question": f"Add {n} and 1.",
        "tools": [{"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}],
        "calls": [{"name": "add", "arguments": {"a": n}}],
    }
    for n in range(5)
]
RECIPE = """
model: {name: nobody/nothing}
dialect: python_calls
data: {source: {use: jsonl, path: rows.jsonl}, held_out: 2}
rewards: {use: [ast_match]}
"""


def own_rows() -> dict[str, Any]:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return {"path": "rows.jsonl"}


def prepared_rows() -> dict[str, Any]:
    own_rows()
    Path("recipe.yaml").write_text(RECIPE)
    done = CliRunner().invoke(app, ["data", "recipe.yaml", "--out", "prepared"])
    assert done.exit_code == 0, done.output
    return {"path": "prepared"}


def a_set() -> dict[str, Any]:
    texts = [{key: value if key == "question" else json.dumps(value) for key, value in row.items()} for row in ROWS]
    datasets.Dataset.from_list(texts).save_to_disk("set")
    return {"name": "set"}


SOURCES: dict[str, Callable[[], dict[str, Any]]] = {
    "bfcl": lambda: {"categories": ["simple_python", "live_irrelevance", "live_relevance"]},
    "glaive": lambda: {"path": str(DATA / "glaive.json"), "turns": "all", "prose": "no_call"},
    "hermes": lambda: {"path": str(DATA / "hermes.json"), "turns": "all"},
    "hub": a_set,
    "jsonl": own_rows,
    "openai": lambda: {"path": str(DATA / "openai.jsonl"), "turns": "all"},
    "prepared": prepared_rows,
    "toolace": lambda: {"path": str(DATA / "toolace.json"), "turns": "all", "prose": "no_call"},
    "xlam": lambda: {"path": str(DATA / "xlam.json")},
}


def test_none_is_left_out() -> None:
    assert {e.name for e in catalogue() if (e.kind, e.distribution) == ("source", "callwright")} == SOURCES.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_keeps_the_laws(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    check_source(plugin("source", f"callwright:{name}", **SOURCES[name]()), rows=2000)
