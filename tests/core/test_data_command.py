"""`callwright data`: what it writes, what it prints, and what a user who erred is told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from callwright import Task, cli
from callwright.pipeline.prepared import CHANGES
from callwright.plugins import build_component, find
from callwright.recipe import check
from typer.testing import CliRunner, Result

HERE = Path(__file__).with_name("pipeline_plugins.py")
BFCL = {"use": "bfcl", "categories": ["simple_python", "live_simple"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(source: dict[str, Any], *stages: dict[str, Any], **data: Any) -> str:
    values = {
        "model": {"name": "none"},
        "dialect": {"use": "python_calls"},
        "data": {"source": source, "stages": list(stages), **data},
        "rewards": {"use": [{"use": "ast_match", "mode": "bfcl"}]},
    }
    Path("recipe.yaml").write_text(json.dumps(values))
    return "recipe.yaml"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["data", *words])


def own(name: str, **options: Any) -> dict[str, Any]:
    return {"use": f"{HERE}:{name}", **options}


def loaded(path: str) -> list[Task]:
    source_class, _ = find("source", "prepared")
    return list(build_component(source_class, {"path": path}, "data.source").load())


def test_it_writes_the_rows_the_reasons_the_report_and_the_card(folder: Path) -> None:
    result = run(write(own("Numbers", rows=30, unreadable=[4]), own("Sieve", by=3), unreadable="drop"), "--out", "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "README.md",
        "data-report.html",
        "dropped.parquet",
        "train.parquet",
    ]
    kept = [n for n in range(30) if n % 3 and n != 4]
    assert [int(task.id) for task in loaded("out")] == kept
    table = pq.read_table("out/dropped.parquet")
    assert table.schema.equals(CHANGES)
    assert Counter(zip(table["stage"].to_pylist(), table["outcome"].to_pylist(), strict=True)) == {
        ("source", "unreadable"): 1,
        (f"{HERE}:Sieve", "dropped"): 10,
        (f"{HERE}:Sieve", "corrected"): 9,
    }
    assert [name for name in ("30", "29", "19", "unreadable", "multiple", "next") if name not in result.output] == []


def test_other_programs_can_read_what_it_writes(folder: Path) -> None:
    assert run(write(BFCL), "--out", "out").exit_code == 0
    rows = datasets.load_dataset("parquet", data_files="out/train.parquet", split="train", cache_dir=str(folder / "c"))
    assert len(rows) == 400 + 258
    for row in rows.select(range(5)):
        assert [call["name"] for call in json.loads(row["answer"])] == [json.loads(row["tools"])[0]["name"]]


def test_what_it_wrote_is_a_source_that_gives_the_same_tasks(folder: Path) -> None:
    assert run(write(BFCL), "--out", "out").exit_code == 0
    source_class, _ = find("source", "bfcl")
    original = list(build_component(source_class, {"categories": BFCL["categories"]}, "data.source").load())
    assert loaded("out") == original
    write({"use": "prepared", "path": "out"})
    assert check(Path("recipe.yaml")) == []


def test_rows_that_say_their_part_go_to_its_file_and_a_part_that_is_gone_takes_its_file_along(folder: Path) -> None:
    path = write(BFCL, {"use": "split", "held_out": 0.2, "validation": 0.1})
    assert run(path, "--out", "out").exit_code == 0
    sizes = {name.stem: pq.read_metadata(name).num_rows for name in Path("out").glob("*.parquet")}
    assert sizes.keys() == {"train", "validation", "held_out", "dropped"}
    assert sizes["train"] + sizes["validation"] + sizes["held_out"] == 658
    assert 0.13 < sizes["held_out"] / 658 < 0.27
    tasks = loaded("out")
    assert len({task.id for task in tasks}) == 658
    assert Counter(task.meta["split"] for task in tasks) == {name: sizes[name] for name in sizes if name != "dropped"}
    assert run(path, "--out", "out", "data.stages.0.validation=0").exit_code == 0
    assert {name.stem for name in Path("out").glob("*.parquet")} == {"train", "held_out", "dropped"}


def test_a_dry_run_says_what_a_model_would_be_asked_and_writes_nothing(folder: Path) -> None:
    path = write(own("Numbers"), own("Sieve", by=2), own("Asks"))
    result = run(path, "--dry-run", "--out", "out")
    assert (result.exit_code, result.output.strip()) == (0, "data.stages.1: 5 questions")
    assert not Path("out").exists()
    assert run(path, "--out", "out").exit_code == 0
    assert "no stage asks a model" in run(path, "--dry-run").output


def test_check_runs_no_stage_that_asks_a_model(folder: Path) -> None:
    path = write(own("Numbers"), own("Sieve", by=2), own("Asks", fail_after=0))
    assert check(Path(path)) == []
    result = CliRunner().invoke(cli.app, ["check", path])
    assert "has not been run yet; `callwright data` runs it" in result.output


@pytest.mark.parametrize(
    ("source", "stages", "place", "message"),
    [
        ({"rows": 0}, [], "data.source", "gives no rows"),
        ({"unreadable": [2]}, [], "data.source", "numbers, row 3, field 'tools': is no list"),
        ({}, [{"use": "Broken"}], "data.stages.0", "one result per row, in their order"),
        ({}, [{"use": "Sieve", "by": 2}, {"use": "Broken", "how": "raises"}], "data.stages.1", "ZeroDivisionError"),
        ({}, [{"use": "Sieve", "by": 1}], "data", "0 rows are too few"),
    ],
)
def test_check_names_the_place_of_what_is_wrong_with_the_data(
    folder: Path, source: dict[str, Any], stages: list[dict[str, Any]], place: str, message: str
) -> None:
    path = write(own("Numbers", **source), *({**stage, "use": f"{HERE}:{stage['use']}"} for stage in stages))
    (mistake,) = check(Path(path))
    assert (mistake.place, mistake.line) == (place, 1)
    assert message in str(mistake)


def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    (folder / "file").write_text("")
    result = CliRunner().invoke(cli.app, ["data", write(own("Numbers")), "--out", str(folder / "file" / "out")])
    assert result.exit_code == 1
    assert "cannot write to" in str(result.exception)
    assert "name another folder with --out" in str(result.exception)


@pytest.mark.parametrize("content", ["no parquet", None])
def test_the_source_prepared_says_what_it_needs(folder: Path, content: str | None) -> None:
    Path("out").mkdir()
    if content is not None:
        (folder / "out" / "train.parquet").write_text(content)
    (mistake,) = check(Path(write({"use": "prepared", "path": "out"})))
    wanted = "is no parquet file" if content else "`callwright data RECIPE --out out` writes it"
    assert wanted in str(mistake)
