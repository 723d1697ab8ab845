"""The report: what is in the page is what the run recorded, whatever it recorded, and writing it never fails a run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from callwright import CallwrightError
from callwright.cli import app
from callwright.html_page import as_json, document
from callwright.report.choose import choose
from callwright.report.command import PAGE, completions_limit, report_afterwards, write_report
from callwright.report.completions import PER_TOKEN, read_completions
from callwright.report.folder import names_of, read_folder, read_metrics
from callwright.report.page import ASSETS, SCRIPTS, STYLES, packed, report_page, script, style, unpacked
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

Write = Callable[..., Path]
MakeRecipe = Callable[..., Path]
anything = st.text(st.characters(), max_size=30)  # lone surrogates, NUL and all


class Blocks(HTMLParser):
    """The scripts of a page: its data by id, and what runs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.data: dict[str, Any] = {}
        self.scripts: list[str] = []
        self.policy = ""
        self._id: str | None = None
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._inside, self._id = tag == "script", values.get("id")
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])

    def handle_data(self, data: str) -> None:
        if self._inside and self._id is None:
            self.scripts.append(data)
        elif self._inside:
            content = json.loads(data)
            self.data[str(self._id)] = unpacked(content) if isinstance(content, str) else content
        self._inside = False


def ignored(done: int, total: int) -> None: ...


def rows_of(step: int) -> list[dict[str, Any]]:
    wrong = ("wrong_value", "22 is not 1", (7, 9))
    return [
        {"text": "[add(a=1)]", "task": "t0", "score": 1.0, "reasons": [("correct", "", (1, 9))]},
        {"text": f"[add(a=22)] {step}", "task": "t0", "score": 0.0, "reasons": [wrong, ("odd", "", None)]},
        {"text": "", "task": "t1", "group": 1, "score": None, "reasons": [("reward_failed", "no answer", None)]},
    ]


@pytest.fixture
def run(write_run: Write, tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", [rows_of(step) for step in range(1, 4)])


# ------------------------------------------------------------------------------------------- texts in a page


@given(st.recursive(anything, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3)))
def test_any_text_comes_back_from_the_page_as_it_was(value: Any) -> None:
    written = as_json(value)
    assert json.loads(written) == value
    assert written.isascii()
    assert not set("<>&\u2028\u2029\0") & set(written)
    assert unpacked(packed(value)) == value


@given(anything, anything)
def test_a_page_holds_its_data_and_one_script_whatever_was_written(name: str, text: str) -> None:
    run = {"name": name, "notes": [text, "</script><script>alert(1)</script>"]}
    page = report_page(name, [run], [{"columns": {"text": [text]}}])
    found = Blocks(page)
    assert found.data["runs"] == [run]
    assert found.data["completions-0"] == {"columns": {"text": [text]}}
    assert found.scripts == [script()]
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in found.policy
    assert "default-src 'none'" in found.policy
    assert "unsafe" not in found.policy
    assert "connect-src" not in found.policy


def test_a_script_that_would_end_in_its_middle_is_refused() -> None:
    for inside in ("'</script>'", "'</SCRIPT '", "'<!--'"):
        with pytest.raises(ValueError, match="end"):
            document("page", "", [], script=f"let a = {inside};")


def test_the_script_makes_no_markup_out_of_texts() -> None:
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in script()
    assert {path.stem for path in ASSETS.glob("*.js")} == set(SCRIPTS)
    assert {path.stem for path in ASSETS.glob("*.css")} == set(STYLES)
    for text in (script(), style()):
        addresses = set(re.findall(r"https?:[^\s\"')]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, "it loads nothing"
        assert "@import" not in text


# --------------------------------------------------------------------------------------------- what is in it


def test_the_page_holds_what_the_run_recorded(run: Path, tmp_path: Path) -> None:
    remarks = write_report([run], tmp_path / "page.html")
    assert remarks == []
    found = Blocks((tmp_path / "page.html").read_text()).data
    (shown,), rows = found["runs"], found["completions-0"]
    assert shown["planned"] == 3
    assert shown["metrics"]["steps"] == [1, 2, 3]
    assert shown["metrics"]["series"]["reward"] == [0.5] * 3
    assert shown["metrics"]["series"]["reason/judge/wrong_value"] == [1.0] * 3
    columns = rows["columns"]
    assert columns["step"] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert columns["row"] == [0, 1, 2] * 3
    assert columns["text"][:3] == ["[add(a=1)]", "[add(a=22)] 1", ""]
    assert columns["total"][:3] == [1, 0, None]
    assert rows["rewards"]["judge"][:3] == [1, 0, None]
    assert [rows["tasks"][number][0] for number in columns["task"][:3]] == ["t0", "t0", "t1"]
    assert len(rows["tasks"]) == 2, "a task is written once"
    number, start, end = columns["reasons"][1][:3]
    assert (rows["reasons"][number], start, end) == (["judge", "wrong_value", "22 is not 1"], 7, 9)
    assert columns["reasons"][1][4:] == [-1, -1], "a reason without a span"
    recorded = pq.read_table(run / "rollouts" / "step-000001.parquet").to_pylist()
    assert columns["characters"][:3] == [row["characters"] for row in recorded]
    assert columns["entropy"][0] == [round(100 * value) for value in recorded[0]["entropy"]]
    assert columns["segments"][0] == "6" * len(recorded[0]["segments"])
    assert columns["advantages"][0] == round(100 * recorded[0]["advantages"][0]), "the same for all tokens: once"


def test_a_row_takes_little_room(write_run: Write, tmp_path: Path) -> None:
    steps = [
        [{"text": f"[call_{row}(argument={row * step})] " * 4, "group": row // 8} for row in range(48)]
        for step in range(10)
    ]
    write_report([write_run(tmp_path / "run", steps)], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < len(script()) + len(style()) + 20_000 + 480 * 400


def test_runs_of_one_name_are_told_apart() -> None:
    assert names_of([Path("/a/b/run")]) == ["run"]
    assert names_of([Path("/a/grpo/seed-2")]) == ["grpo/seed-2"]
    assert names_of([Path("/a/grpo/seed-2"), Path("/a/kl/seed-2")]) == ["grpo/seed-2", "kl/seed-2"]
    assert names_of([Path("/a/x/run"), Path("/b/x/run")]) == ["a/x/run", "b/x/run"]


def test_evidence_is_shown_with_its_rows(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from callwright.findings import Finding

    one = Finding("copied", "Copies", "The example is copied.", ((2, 1),))
    monkeypatch.setattr("callwright.findings.findings", lambda folder, progress: [one])
    shown = read_folder(run, "run", read_metrics(run), ignored)
    assert shown["findings"] == [
        {"code": "copied", "title": "Copies", "message": "The example is copied.", "rows": [[2, 1]]}
    ]


def test_evidence_that_cannot_be_looked_for_is_a_remark(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, progress: object) -> None:
        raise CallwrightError("the reward is not installed here")

    monkeypatch.setattr("callwright.findings.findings", fail)
    shown = read_folder(run, "run", read_metrics(run), ignored)
    assert shown["findings"] == []
    assert "not installed here" in shown["notes"][0]


# -------------------------------------------------------------------------------------------------- a sample

rows_to_choose = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=60).map(
    lambda places: [((step, row), str(group), f"t{(group + step) % 5}") for row, (step, group) in enumerate(places)]
)


@given(rows_to_choose, st.integers(0, 70), st.sets(st.integers(0, 59), max_size=3))
def test_a_sample_is_of_whole_groups(rows: list[Any], limit: int, asked: set[int]) -> None:
    wanted = [rows[index][0] for index in asked if index < len(rows)]
    chosen = choose(rows, limit, wanted)
    assert len(chosen) <= limit or len(rows) <= limit
    assert len(set(chosen)) == len(chosen)
    groups: dict[Any, set[Any]] = {}
    for key, group, _ in rows:
        groups.setdefault((key[0], group), set()).add(key)
    for keys in groups.values():
        assert keys <= set(chosen) or not keys & set(chosen)
    first = [keys for keys in groups.values() if keys & set(wanted)]
    if sum(map(len, first)) <= limit:
        assert all(keys <= set(chosen) for keys in first), "what a finding points at comes first"
    assert choose(rows, None) == [key for key, _, _ in rows]


def test_a_sample_shows_a_prompt_in_all_of_its_steps() -> None:
    rows = [((step, row), str(row // 2), f"t{row // 2}") for step in range(1, 11) for row in range(20)]
    chosen = set(choose(rows, 60))
    tasks: dict[str, int] = {}
    for key, _, task in rows:
        tasks[task] = tasks.get(task, 0) + (key in chosen)
    assert sorted(tasks.values()) == [0] * 7 + [20] * 3


def test_what_is_left_out_is_said(run: Path, tmp_path: Path) -> None:
    (remark,) = write_report([run], tmp_path / "page.html", limit=4)
    assert "3 of 9 completions" in remark or "4 of 9 completions" in remark
    rows = Blocks((tmp_path / "page.html").read_text()).data["completions-0"]
    assert rows["total"] == 9
    assert len(rows["columns"]["text"]) <= 4


# ------------------------------------------------------------------------------------------ old and broken folders


def test_a_folder_of_an_earlier_version_opens_without_the_tint(run: Path, tmp_path: Path) -> None:
    for path in (run / "rollouts").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["characters", "off_policy"]), path)
    remarks = write_report([run], tmp_path / "page.html")
    assert "no tint" in remarks[-1]
    columns = Blocks((tmp_path / "page.html").read_text()).data["completions-0"]["columns"]
    assert columns["characters"] == [None] * 9
    assert len(columns["text"]) == 9


def test_what_cannot_be_read_is_left_out_and_said(run: Path, tmp_path: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('nonsense\n[1]\n{"step": 4, "reward": NaN, "odd": "text", "huge": 1e999}\n{"step": 5, "rew')
    (run / "eval.json").write_text("{")
    (run / "versions.json").write_text("[]")
    (run / "recipe.resolved.yaml").write_text("a: [")
    (run / "rollouts" / "step-000001.parquet").write_bytes(b"PAR1 half")
    pq.write_table(pa.table({"other": [1]}), run / "rollouts" / "step-000004.parquet")
    table = pq.read_table(run / "rollouts" / "step-000002.parquet")
    broken = {"reasons": ["{", '[1, {"span": [1]}]', None], "rewards": ["[]", None, '{"judge": "high"}']}
    broken |= {"characters": [[1], [999] * 5, None], "tools": ["(", None, "{}"], "completion": ["a", None, "b"]}
    for name, values in broken.items():
        index = table.column_names.index(name)
        table = table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    pq.write_table(table, run / "rollouts" / "step-000002.parquet")
    remarks = "\n".join(write_report([run], tmp_path / "page.html"))
    said = ("2 lines of metrics.jsonl", "eval.json", "recipe.resolved.yaml", "step-000001.parquet", "versions.json")
    for part in (*said, "step-000004.parquet", "without a completion", "reasons cannot be read"):
        assert part in remarks
    found = Blocks((tmp_path / "page.html").read_text()).data
    (shown,) = found["runs"]
    assert shown["metrics"]["steps"] == [1, 2, 3, 4]
    assert shown["metrics"]["series"]["reward"] == [0.5, 0.5, 0.5, None]
    assert shown["metrics"]["series"]["huge"] == [None] * 4
    assert "odd" not in shown["metrics"]["series"]
    assert found["completions-0"]["columns"]["text"] == ["a", "b", *(row["text"] for row in rows_of(3))]


@given(st.binary(max_size=200))
def test_any_metrics_are_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "metrics.jsonl").write_bytes(content)
    (folder / "eval.json").write_bytes(content)
    (folder / "recipe.resolved.yaml").write_bytes(content)
    as_json(read_folder(folder, "run", read_metrics(folder)))


def test_a_row_has_its_tokens_or_none(run: Path) -> None:
    rows = read_completions(run)
    lengths = {name: [len(str(value)) and value for value in rows.columns[name]] for name in PER_TOKEN}
    for characters, entropy, segments in zip(*(lengths[name] for name in PER_TOKEN[:3]), strict=True):
        assert len(characters) == len(entropy) == len(segments)


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_names_what_it_wrote(run: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0
    assert f"report: {run / PAGE}" in done.output.replace("\n", "")
    assert "grpo" not in (run / PAGE).read_text()[:500]


def test_several_runs_are_one_page(run: Path, write_run: Write, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", [rows_of(1)])
    out = tmp_path / "deep" / "page.html"
    done = CliRunner().invoke(app, ["report", str(run), str(other), "--out", str(out), "--completions", "all"])
    assert done.exit_code == 0
    found = Blocks(out.read_text()).data
    assert [one["name"] for one in found["runs"]] == ["run", "other"]
    assert len(found["completions-1"]["columns"]["text"]) == 3


@pytest.mark.parametrize("text", ["some", "-3", "1e4", ""])
def test_a_wrong_number_of_completions_is_a_mistake(text: str) -> None:
    with pytest.raises(CallwrightError, match=r"--completions .* or all"):
        completions_limit(text)


def test_a_folder_without_a_run_is_a_mistake(write_run: Write, tmp_path: Path) -> None:
    with pytest.raises(CallwrightError, match="no run folder"):
        write_report([tmp_path / "nothing"], tmp_path / "page.html")
    write_run(tmp_path / "grpo" / "seed-0", [rows_of(1)])
    with pytest.raises(CallwrightError, match=r"did you mean .*seed-0"):
        write_report([tmp_path / "grpo"], tmp_path / "page.html")


def test_a_place_that_cannot_be_written_is_a_mistake(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CallwrightError, match="--out"):
        write_report([run], tmp_path / "file" / "page.html")


def test_neither_torch_nor_arrow_is_loaded_until_a_report_is_written() -> None:
    code = "import sys, callwright.report.command; print({'torch', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --------------------------------------------------------------------------------------------- after a run


def said_by(run: Path, inside: Callable[[], None] = lambda: None) -> str:
    console = Console(record=True, width=400)
    with report_afterwards(run, console):
        inside()
    return console.export_text()


def test_a_report_that_cannot_be_written_does_not_fail_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ValueError("odd"), KeyboardInterrupt(), MemoryError()):

        def fail(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("callwright.report.command.write_report", fail)
        assert "no report was written" in said_by(run)


def test_a_run_that_ended_with_a_mistake_has_a_report_of_what_it_did(run: Path) -> None:
    def trains_and_fails() -> None:
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"step": 4}\n')
        raise CallwrightError("a reward failed")

    def fails() -> None:
        raise CallwrightError("another recipe")

    with pytest.raises(CallwrightError, match="another recipe"):
        said_by(run, fails)
    assert not (run / PAGE).exists()
    with pytest.raises(CallwrightError, match="a reward failed"):
        said_by(run, trains_and_fails)
    assert Blocks((run / PAGE).read_text()).data["runs"][0]["metrics"]["steps"] == [1, 2, 3, 4]


def test_a_run_ends_with_its_report(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """All real: a tiny model trains, and its tokens lie on its texts."""
    path = make_recipe(rewards=["ast_match"])
    done = CliRunner().invoke(app, ["train", str(path)])
    assert done.exit_code == 0, done.output
    page = tmp_path / "run" / PAGE
    assert str(page) in done.output.replace("\n", "")
    found = Blocks(page.read_text()).data
    assert found["runs"][0]["metrics"]["steps"] == [1, 2, 3]
    assert found["runs"][0]["evaluation"]["after"]["rows"] == 4
    assert found["runs"][0]["recipe"]["settings"]["train.steps"] == "3"
    columns = found["completions-0"]["columns"]
    assert len(columns["text"]) == 3 * 2 * 3
    for text, characters, tokens in zip(columns["text"], columns["characters"], columns["tokens"], strict=True):
        assert sum(characters) == len(text)
        assert len(characters) == tokens
    done = CliRunner().invoke(app, ["train", str(path), "--fresh", "train.steps=1"])
    assert done.exit_code == 0, done.output
    assert Blocks(page.read_text()).data["runs"][0]["metrics"]["steps"] == [1]


@pytest.mark.slow
def test_a_run_that_is_interrupted_has_its_report(
    make_recipe: MakeRecipe, launch: Callable[..., Any], tmp_path: Path
) -> None:
    ended = launch("train", make_recipe(explore=["Slow"], train={"steps": 50}), interrupt_at="in step 2")
    assert ended.code == 130
    assert f"report: {tmp_path / 'run' / PAGE}" in ended.text
    steps = Blocks((tmp_path / "run" / PAGE).read_text()).data["runs"][0]["metrics"]["steps"]
    assert 1 < len(steps) < 50
