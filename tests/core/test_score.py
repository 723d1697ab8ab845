"""`callwright score`: completions from a file, judged without a model."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from callwright import Parse, ParseStatus, Reason, Task, Verdict
from callwright.cli import app
from callwright.score import Scored, changes, strangeness
from callwright.score_rows import Row
from callwright.score_view import histogram, marked, print_explanation
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = [{"name": "add", "description": "Adds.", "parameters": SCHEMA}]
PARTS = '''
from callwright import Reason, Verdict, hookimpl

class Needy:
    """Looks at tokens."""
    @hookimpl
    def score(self, rollouts):
        return [Verdict(float(length)) for length in rollouts.lengths]

class Length:
    @hookimpl
    def score(self, rollouts):
        return [Verdict(len(text) / 100, (Reason("length", "m", (0, 1)),)) for text in rollouts.texts]

class Torch:
    @hookimpl
    def score(self, rollouts):
        import sys
        return [Verdict(float("torch" in sys.modules))] * len(rollouts.texts)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A source, a recipe and completions, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": f"t{i}", "question": f"add {i}", "tools": TOOLS, "calls": [{"name": "add", "arguments": {"a": i}}]}
        for i in range(4)
    ]
    Path("tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("parts.py").write_text(PARTS)
    write_recipe("r.yaml", [{"use": "ast_match"}, {"use": "./parts.py:Length", "weight": 0.5}])
    write_recipe("other.yaml", [{"use": "ast_match"}], combine="all")
    write_lines("c.jsonl", [completion("t0", 0), completion("t1", 9), completion("t1", 1), completion("t2", 2)])
    return tmp_path


def write_recipe(name, rewards, combine="sum"):
    content = {
        "model": {"name": "unused"},
        "dialect": {"use": "python_calls"},
        "data": {"source": {"use": "jsonl", "path": "tasks.jsonl"}},
        "rewards": {"combine": combine, "use": rewards},
    }
    Path(name).write_text(json.dumps(content))


def write_lines(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def completion(name, value):
    return {"id": name, "completion": f"[add(a={value})]"}


def run(*arguments):
    result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    return result.output, result.exception


def read(name):
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


# ------------------------------------------------------------------------------------------------------- scoring


def test_rows_are_joined_by_id_and_written_with_spans(folder):
    output, error = run("c.jsonl", "--recipe", "r.yaml", "--out", "s.jsonl")
    assert error is None, output
    rows = read("s.jsonl")
    assert [row["rewards"]["ast_match"] for row in rows] == [1.0, 0.0, 1.0, 1.0]
    assert [row["row"] for row in rows] == [1, 2, 3, 4]
    assert [row["group"] for row in rows] == ["t0", "t1", "t1", "t2"]
    assert rows[0]["total"] == pytest.approx(1.0 + 0.5 * 10 / 100)
    wrong = next(r for r in rows[1]["reasons"] if r["reward"] == "ast_match")
    assert rows[1]["completion"][slice(*wrong["span"])] == "9"
    for text in ("wrong_value", "75.0%", "slowest rows", "strangest rows", "rewards disagree", "combined"):
        assert text in output


def test_parquet_holds_the_same(folder):
    run("c.jsonl", "--recipe", "r.yaml", "--out", "s.jsonl")
    run("c.jsonl", "--recipe", "r.yaml", "--out", "s.parquet")
    for first, second in zip(read("s.jsonl"), pq.read_table("s.parquet").to_pylist(), strict=True):
        for name in ("row", "task", "completion", "total"):
            assert first[name] == second[name]
        for name in ("rewards", "reasons", "failures"):
            assert first[name] == json.loads(second[name])


def test_what_was_written_can_be_scored_again(folder):
    run("c.jsonl", "--recipe", "r.yaml", "--out", "s.jsonl")
    run("s.jsonl", "--recipe", "r.yaml", "--out", "again.jsonl")
    first, second = read("s.jsonl"), read("again.jsonl")
    assert [row["rewards"] for row in first] == [row["rewards"] for row in second]


def test_rows_may_carry_their_task_themselves(folder):
    write_lines("own.jsonl", [{"question": "add 7", "tools": TOOLS, "calls": [{"name": "add", "arguments": {"a": 7}}]}])
    row = {**json.loads(Path("own.jsonl").read_text()), "completion": "[add(a=7)]", "note": "mine"}
    write_lines("own.jsonl", [row])
    Path("tasks.jsonl").unlink()
    output, error = run("own.jsonl", "--recipe", "r.yaml", "--out", "s.jsonl")
    assert error is None, output
    assert read("s.jsonl")[0]["rewards"]["ast_match"] == 1.0


def test_a_runs_folder_brings_its_recipe(make_recipe, load):
    """Scores of rollouts that a run wrote are those that the run gave."""
    from callwright.display import SilentDisplay

    recipe, components = load(make_recipe(rewards=[{"use": "ast_match"}], train={"steps": 2}))
    components.engine.train(recipe, components, SilentDisplay(), False)
    out = recipe.run / "s.jsonl"
    output, error = run(recipe.run, "--out", out)
    assert error is None, output
    recorded = [
        row for file in sorted((recipe.run / "rollouts").glob("*.parquet")) for row in pq.read_table(file).to_pylist()
    ]
    for before, after in zip(recorded, read(out), strict=True):
        assert json.loads(before["rewards"]) == after["rewards"]
        assert [r["span"] for r in json.loads(before["reasons"])] == [r["span"] for r in after["reasons"]]
        assert before["total"] == pytest.approx(after["total"])


def test_tokens_that_are_not_there_are_a_failure_and_no_zero(folder):
    write_recipe("needy.yaml", [{"use": "./parts.py:Needy"}])
    output, _ = run("c.jsonl", "--recipe", "needy.yaml", "--out", "s.jsonl")
    rows = read("s.jsonl")
    assert all(row["rewards"]["Needy"] is None and row["total"] is None for row in rows)
    assert all("they came without it" in row["failures"]["Needy"] for row in rows)
    assert "Needy failed" in output


def test_against_shows_what_another_recipe_changes(folder):
    write_recipe("lengths.yaml", [{"use": "./parts.py:Length"}])
    output, _ = run("c.jsonl", "--recipe", "other.yaml", "--against", "lengths.yaml")
    assert "4 of 4 rows change: 1 up, 3 down" in output
    assert "Length: length" in output
    output, _ = run("c.jsonl", "--recipe", "other.yaml", "--against", "other.yaml")
    assert "0 of 4 rows change" in output


def test_explain_shows_one_row(folder):
    output, error = run("c.jsonl", "--recipe", "r.yaml", "--explain", 2)
    assert error is None, output
    for text in ("row 2, task t1", "add 1", "[add(a=9)]", "wrong_value", "characters 7 to 8: '9'"):
        assert text in output


def test_no_torch_is_loaded_for_rewards_of_texts(folder):
    import subprocess

    write_recipe("torch.yaml", [{"use": "./parts.py:Torch"}, {"use": "ast_match", "weight": 0.0}])
    code = "import sys; sys.argv[0] = 'callwright'; from callwright.cli import main; main()"
    command = [sys.executable, "-c", code, "score", "c.jsonl", "--recipe", "torch.yaml", "--out", "s.jsonl"]
    subprocess.run(command, check=True, capture_output=True)
    assert {row["rewards"]["Torch"] for row in read("s.jsonl")} == {0.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "t1x", "completion": "x"}, "field 'id': the recipe's source has no task 't1x'; did you mean 't1'?"),
        ({"id": "t1", "completon": "x"}, "field 'completion': missing; did you mean 'completon'?"),
        ({"id": "t1", "completion": 3}, "field 'completion': should be a text, not 3"),
        ({"completion": "x"}, "field 'id': missing; write the id of a task"),
        ({"completion": "x", "tools": TOOLS}, "field 'question': a row has either"),
        ({"completion": "x", "tools": 3, "question": "q"}, "field 'tools'"),
        ([1], "field '(whole line)': should be a JSON object"),
    ],
)
def test_rows_that_cannot_be_used_are_named_with_their_repair(folder, line, message):
    write_lines("bad.jsonl", [line])
    _, error = run("bad.jsonl", "--recipe", "r.yaml")
    assert message in str(error)
    assert "bad.jsonl, row 1" in str(error)


def test_files_that_cannot_be_used_are_named(folder):
    Path("broken.parquet").write_text("no")
    Path("empty.jsonl").write_text("\n")
    Path("broken.jsonl").write_text('{"id": ')
    for name, message in [
        ("nothing.jsonl", "there is no file or folder nothing.jsonl"),
        ("broken.parquet", "cannot be read as parquet"),
        ("empty.jsonl", "holds no completion"),
        ("broken.jsonl", "row 1, field '(whole line)': not JSON"),
        ("r.yaml", "should be .jsonl, .parquet or a run's folder"),
    ]:
        assert message in str(run(name, "--recipe", "r.yaml")[1])
    assert "write --recipe FILE" in str(run("c.jsonl")[1])
    assert "rows are 1 to 4" in str(run("c.jsonl", "--recipe", "r.yaml", "--explain", 5)[1])
    assert "should end in .jsonl or .parquet" in str(run("c.jsonl", "--recipe", "r.yaml", "--out", "x.txt")[1])


# ---------------------------------------------------------------------------------------------- parts of the view


spans = st.none() | st.tuples(st.integers(-3, 30), st.integers(-3, 30))
verdicts = st.builds(
    Verdict,
    st.sampled_from([None, 0.0, 0.5, 1.0]),
    st.lists(st.builds(Reason, st.sampled_from(["correct", "wrong"]), st.text(max_size=3), spans), max_size=3).map(
        tuple
    ),
    st.sampled_from([None, None, "timeout"]),
)


def row_of(text, verdicts, number=1, total=0.5):
    row = Row(number, Task("t", ({"role": "user", "content": "q"},)), text, "t")
    return Scored(row, Parse(text, ParseStatus.NO_CALL), verdicts, total, 0.1)


@given(st.text(max_size=20), st.dictionaries(st.sampled_from("ab"), verdicts))
def test_any_completion_and_any_spans_can_be_explained(text, given_verdicts):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    one = row_of(text, given_verdicts, total=math.nan)
    print_explanation(console, one)
    if text.isprintable() and text:
        assert marked(one).plain == text
    assert "\x1b[31m" not in marked(one).plain


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50))
def test_a_histogram_shows_every_bin_that_is_not_empty(scores):
    bars = histogram(scores)
    if min(scores) == max(scores):
        assert bars.startswith("all ")
        return
    assert len(bars) == 10
    for score in (min(scores), max(scores)):
        place = min(int((score - min(scores)) / (max(scores) - min(scores)) * 10), 9)
        assert bars[place] != " "


def test_strange_rows_come_in_the_stated_order():
    right, wrong = Verdict(1.0, (Reason("correct"),)), Verdict(0.0, (Reason("wrong"),))
    rows = [row_of("x", {"a": right, "b": right}, number) for number in range(1, 201)]
    rows += [row_of("x", {"a": wrong, "b": wrong}, 201)]
    rows += [row_of("x", {"a": Verdict(0.5), "b": right}, 202)]
    rows += [row_of("x", {"a": wrong, "b": right}, 203)]
    rows += [row_of("x", {"a": Verdict.failed("timeout"), "b": right}, 204)]
    found = [(one.row.number, why) for one, why in strangeness(rows)]
    assert [number for number, _ in found] == [204, 203, 202, 201]
    assert [why for _, why in found] == [
        "a failed",
        "rewards disagree: b 1, a 0",
        "rewards disagree: b 1, a 0.5",
        "a rare reason: wrong",
    ]


def test_nan_is_no_change():
    rows = [row_of("x", {"a": Verdict(None)}, total=math.nan)]
    assert changes(rows, rows) == []
