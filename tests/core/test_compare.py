"""`callwright compare`: what runs when, what is compared with what, and what the figures and the page say."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from callwright import CallwrightError, cli
from callwright.compare import runner
from callwright.compare.arms import Comparison, compare_what, own_overrides, seeds_from, unfair
from callwright.compare.figures import Curve, held_out_curve, over_seeds, smoothed
from callwright.compare.readings import HeldOut, Reading, call_key, read_run
from callwright.compare.report import report
from callwright.compare.runner import INTERRUPTED, Ended, Job, jobs_of, run_all
from callwright.compare.statistics import Pair, deviation, difference, pair, student_interval
from callwright.compare.summary import Summary, print_summary
from callwright.display import SilentDisplay
from callwright.recipe import RecipeError, build, load_recipe
from callwright_dialects.python_calls import PythonCalls
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

Make = Callable[..., Path]
PNG = b"\x89PNG\r\n\x1a\n"


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def text_of(one: Console) -> str:
    assert isinstance(one.file, io.StringIO)
    return one.file.getvalue()


class InProcess:
    """Trains here instead of in a process of its own. `interrupt`: the run that gets Ctrl-C in its first step."""

    def __init__(self, interrupt: str = "", fail: str = "") -> None:
        self.interrupt, self.fail = interrupt, fail
        self.started: list[tuple[str, bool]] = []

    def __call__(self, job: Job, resume: bool) -> int:
        self.started.append((job.key, resume))
        if job.key == self.fail:
            return -9
        settings = load_recipe(job.recipe, [*job.overrides, *own_overrides(job.seed, job.folder)])
        components = build(settings)
        display = Interrupting() if job.key == self.interrupt else SilentDisplay()
        result = components.engine.train(settings, components, display, resume)
        return INTERRUPTED if result.stopped == "interrupted" else 0


class Interrupting(SilentDisplay):
    """Ctrl-C in the first update."""

    sent = False

    def phase(self, name: str, done: int, total: int) -> None:
        if name == "update" and not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def two_arms(make_recipe: Make, tmp_path: Path) -> list[str]:
    """Plain GRPO, and GRPO with a hot temperature."""
    train = {"steps": 2, "kl": 0.01, "evaluate_every": 1, "watch_held_out": True, "checkpoint_every": 1}
    rewards = ["ast_match", {"use": f"{tmp_path / 'parts.py'}:Letters", "weight": 0.0}]
    paths = [
        make_recipe("plain", rewards=rewards, train=train),
        make_recipe("drift", rewards=rewards, explore=["Drift"], train={**train, "temperature": 1.5}),
    ]
    return [str(path) for path in paths]


def compared(comparison: Comparison, launch: runner.Launch) -> tuple[Ended, Summary, str]:
    screen = console()
    ended = run_all(comparison, screen, launch)
    summary = report(comparison, screen, unfair(comparison), ended.failed)
    return ended, summary, text_of(screen)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds."""
    monkeypatch.setattr("callwright.compare.report.draw_all", lambda *_: ([], []))


def without_clocks(path: Path) -> Any:
    content = json.loads(path.read_text())
    for arm in content["arms"]:
        del arm["minutes"]
        for one in arm["runs"]:
            del one["train_minutes"], one["folder"]
    return content


# -------------------------------------------------------------------------------------------- real training


def test_two_arms_and_two_seeds(two_arms: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    out, training = tmp_path / "out", InProcess()
    ended, summary, screen = compared(compare_what(two_arms, [0, 1], out, None), training)
    assert ended == Ended()
    order = ["plain/seed-0", "drift/seed-0", "plain/seed-1", "drift/seed-1"]
    assert training.started == [(key, False) for key in order], "a seed of all arms, then the next"
    for key in order:
        settings = load_recipe(out / key / "recipe.resolved.yaml")
        assert settings.seed == settings.data.split_seed == int(key[-1])
    names = {"summary.json", "summary.csv", "report.html", "comparison.json", "figures", "plain", "drift", ".lock"}
    assert {path.name for path in out.iterdir()} == names
    drawn = {path.stem for path in (out / "figures").iterdir()}
    assert drawn == {
        *("held_out", "validation", "reward", "entropy", "kl", "flat_groups", "distinct_calls", "completion_length")
    }
    assert all(path.read_bytes().startswith(PNG) for path in (out / "figures").iterdir())

    found = {key: json.loads((out / key / "eval.json").read_text())["after"] for key in order}
    by_hand = []
    for seed in (0, 1):
        new, old = (found[f"{arm}/seed-{seed}"]["rows_correct"] for arm in ("drift", "plain"))
        assert new.keys() == old.keys(), "the same rows are held out"
        by_hand.append(sum(new[row] - old[row] for row in new) / len(new))
    row = summary.row("drift")
    assert row.difference is not None
    assert row.difference.mean == pytest.approx(sum(by_hand) / 2)
    assert row.after == pytest.approx((found["drift/seed-0"]["accuracy"] + found["drift/seed-1"]["accuracy"]) / 2)
    assert summary.row("plain").difference is None
    assert summary.row("plain").entropy_ratio == 1
    assert f"{100 * sum(by_hand) / 2:+.1f}" in screen
    assert "with 2 seeds a bootstrap interval is too narrow" in screen

    lines = list(csv.DictReader((out / "summary.csv").open()))
    assert [(line["arm"], line["seed"], line["steps"]) for line in lines] == [
        (arm, seed, "2") for arm in ("plain", "drift") for seed in ("0", "1")
    ]
    request.getfixturevalue("undrawn")
    again = InProcess()
    before = without_clocks(out / "summary.json")
    ended, _, _ = compared(compare_what(two_arms, [0, 1], out, None), again)
    assert again.started == [], "what is finished is not run again"
    assert without_clocks(out / "summary.json") == before
    report(compare_what([], [0], out, None), console(), [], {})
    assert without_clocks(out / "summary.json") == before, "without arms: those that are there, in their order"


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_comparison_goes_on_and_ends_alike(two_arms: list[str], tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    compared(compare_what(two_arms, [0], straight, "plain"), InProcess())
    training = InProcess(interrupt="drift/seed-0")
    ended, summary, screen = compared(compare_what(two_arms, [0], broken, "plain"), training)
    assert ended.interrupted
    assert "the same command goes on" in screen
    assert "'drift', seed 0 has done 1 of 2 steps" in summary.remarks
    assert summary.row("plain").seeds == [0], "what is there is shown"
    training = InProcess()
    ended, _, screen = compared(compare_what(two_arms, [0], broken, "plain"), training)
    assert training.started == [("drift/seed-0", True)]
    assert "run 2 of 2: arm 'drift', seed 0, 0:" in screen, "time left, from the run that is finished"
    assert without_clocks(broken / "summary.json") == without_clocks(straight / "summary.json")


def test_a_failed_run_keeps_no_other_from_running(
    two_arms: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = InProcess(fail="plain/seed-0")
    monkeypatch.setattr(runner, "_launch_with", lambda _: training)
    out = tmp_path / "out"
    words = ["compare", *two_arms, "--seeds", "1", "--out", str(out), "train.steps=1", "train.kl=0"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 1
    assert [key for key, _ in training.started] == ["plain/seed-0", "drift/seed-0"]
    assert "plain/seed-0 failed: ended by SIGKILL, perhaps for want of memory" in result.stdout
    assert load_recipe(out / "drift/seed-0/recipe.resolved.yaml").train.steps == 1
    assert "'plain', seed 0 has not begun" in json.loads((out / "summary.json").read_text())["remarks"]
    assert "KL divergence" in (out / "report.html").read_text(), "it is named as having nothing to draw"
    assert not (out / "figures" / "kl.png").exists()

    monkeypatch.setattr("callwright.compare.report.draw_all", lambda *_: ([], []))
    training.fail = ""
    (out / "drift/seed-0/notes.txt").write_text("mine")
    assert CliRunner().invoke(cli.app, [*words, "--report-only"]).exit_code == 0
    assert len(training.started) == 2
    refused = CliRunner().invoke(cli.app, [*words, "train.temperature=0.9"])
    assert "these differ: train.temperature" in str(refused.exception)
    assert CliRunner().invoke(cli.app, [*words, "train.temperature=0.9", "--fresh"]).exit_code == 0
    assert [key for key, _ in training.started[2:]] == ["plain/seed-0", "drift/seed-0"]
    assert (out / "drift/seed-0/notes.txt").read_text() == "mine"


COMMAND = [sys.executable, "-P", "-m", "callwright", "compare"]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_processes_of_their_own_save_and_end(make_recipe: Make, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches the run once; when the comparison is killed, its run still saves, and then ends."""
    out, log = tmp_path / "out", tmp_path / "log"
    recipe = make_recipe("slow", explore=["Slow"], train={"steps": 400, "checkpoint_every": 0})
    with log.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, str(recipe), "--seeds", "3,", "--out", str(out)], stdout=file, stderr=file
        )
    while process.poll() is None and "in step 2" not in log.read_text():
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait() == (130 if number == signal.SIGINT else -9), log.read_text()
    while is_locked(out):  # until the run has ended
        time.sleep(0.05)
    folder = out / "slow" / "seed-3"
    assert len(list((folder / "checkpoints").iterdir())) == 1, log.read_text()
    assert "interrupted: finishing this step, then saving" in log.read_text()
    assert (out / "report.html").exists() == (number == signal.SIGINT)


def is_locked(out: Path) -> bool:
    try:
        with runner.locked(out):
            return False
    except CallwrightError:
        return True


# ------------------------------------------------------------------------------------------------ run folders

RECIPE = """
    model: {name: nobody/nothing}
    dialect: python_calls
    data: {source: {use: jsonl, path: nowhere}, held_out: 4, validation: 2}
    rewards: {use: [ast_match]}
    train: {steps: 4, prompts_per_step: 2, group_size: 3}
"""


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_run("arm/seed-0", seed=0, correct=[1, 0], steps=4, overrides=[], **metrics)`: a run folder, no model."""

    def make(
        name: str,
        seed: int = 0,
        correct: list[int] | None = None,
        steps: int = 4,
        overrides: tuple[str, ...] = (),
        **metrics: list[float | None],
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        source = tmp_path / "source.yaml"
        source.write_text(RECIPE)
        recipe = load_recipe(source, [f"seed={seed}", f"data.split_seed={seed}", f"run={folder}", *overrides])
        (folder / "recipe.resolved.yaml").write_text(recipe.to_yaml())
        values = {"seconds": [30.0] * steps, "entropy": [0.5] * steps, **metrics}
        lines = [{"step": i + 1, **{key: column[i] for key, column in values.items()}} for i in range(steps)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if correct is not None:
            rows = {f"t{i}": bool(right) for i, right in enumerate(correct)}
            one = {"accuracy": sum(correct) / len(correct), "rows": len(correct), "reasons": {}, "by_category": {}}
            content = {"before": {**one, "accuracy": 0.0}, "after": {**one, "rows_correct": rows}}
            (folder / "eval.json").write_text(json.dumps(content))
        return folder

    return make


def test_folders_are_named_and_have_the_seed_of_their_recipe(make_run: Make, tmp_path: Path) -> None:
    make_run("lab/grpo/seed-0", 0), make_run("lab/grpo/seed-1", 1)
    other, mine = make_run("lab/cheng/seed-1", 1), make_run("mine", 7)
    words = [str(tmp_path / "lab" / "grpo"), str(other), str(mine), f"again={mine}"]
    found = compare_what(words, [0], tmp_path / "out", None)
    assert {arm.name: sorted(arm.folders) for arm in found.arms} == {
        "grpo": [0, 1],
        "cheng": [1],
        "mine": [7],
        "again": [7],
    }
    assert jobs_of(found) == [], "folders are only read"
    assert any("'mine' has seeds that the baseline lacks" in remark for remark in unfair(found))
    everything = compare_what([], [0], tmp_path / "lab", "grpo")
    assert [arm.name for arm in everything.arms] == ["grpo", "cheng"], "the baseline first"


@pytest.mark.usefixtures("undrawn")
def test_paired_differences_and_entropy_by_hand(make_run: Make, tmp_path: Path) -> None:
    make_run("a/seed-0", 0, [1, 1, 0, 0], entropy=[0.9, 0.1, 0.1, 0.1])  # mean of all four steps: 0.3
    make_run("a/seed-1", 1, [1, 0, 0, 0], entropy=[0.1] * 4)
    make_run("b/seed-0", 0, [1, 1, 1, 1], entropy=[1.0] * 4)
    make_run("b/seed-1", 1, [0, 0, 0, 0], entropy=[2.0] * 4)
    make_run("b/seed-2", 2, [1, 1, 1, 1])
    comparison = compare_what([str(tmp_path / "b"), str(tmp_path / "a")], [0], tmp_path / "out", "a")
    summary = report(comparison, console(), [], {})
    row = summary.row("b")
    assert row.difference is not None
    assert row.difference.mean == pytest.approx((0.5 - 0.25) / 2), "seed 2 has no partner"
    assert (row.difference.seeds, row.difference.method) == (2, "seeds and rows")
    assert row.after == pytest.approx(2 / 3)
    assert row.after_sd == pytest.approx(math.sqrt(1 / 3)), "of 1, 0, 1"
    assert row.entropy_ratio == pytest.approx(1.5 / 0.2)
    narrow = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    print_summary(narrow, summary)
    heading, _, line = text_of(narrow).splitlines()[1:4]
    assert heading.split() == [
        "arm",
        "seeds",
        "after",
        "\u00b1",
        "sd",
        "difference",
        "90%",
        "interval",
        "entropy",
        "ratio",
    ]
    assert line.split()[:3] == ["a", "2", "37.5%"], "the baseline first"
    assert (row.minutes, summary.row("a").before) == (2.0, 0.0)


@pytest.mark.usefixtures("undrawn")
def test_folders_without_rows_and_unfinished_ones_are_said(make_run: Make, tmp_path: Path) -> None:
    make_run("a", 0, [1, 0], entropy=[None, 0.2, 0.3, 0.1])
    old, broken = make_run("b", 0, [1, 1]), make_run("c", 0, steps=2)
    content = json.loads((old / "eval.json").read_text())
    del content["after"]["rows_correct"]
    (old / "eval.json").write_text(json.dumps(content))
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "entr')
    names = [str(tmp_path / name) for name in "abc"]
    summary = report(compare_what(names, [0], tmp_path / "out", None), console(), [], {})
    assert "'c', seed 0 has done 2 of 4 steps" in summary.remarks
    assert any("do not say which rows they got right" in remark for remark in summary.remarks)
    assert any("it says nothing of other seeds" in remark for remark in summary.remarks)
    row = summary.row("b").difference
    assert row is not None
    assert (row.mean, row.low, row.high) == (0.5, 0.5, 0.5)
    assert summary.row("a").entropy == pytest.approx(0.2), "a step without a number is left out"
    assert "NaN" not in (tmp_path / "out" / "summary.json").read_text()


def test_another_budget_is_warned_of(make_run: Make, tmp_path: Path) -> None:
    make_run("a"), make_run("b", overrides=("train.group_size=8", "train.temperature=0.5"))
    make_run("c", overrides=("rewards.use=[ast_match, think_format]", "data.split_seed=9"))
    remarks = unfair(compare_what([str(tmp_path / name) for name in "abc"], [0], tmp_path / "out", None))
    assert remarks == [
        "a reduced comparison: 'b' has another budget or other data than the baseline: train.group_size is 8, not 3",
        "'c' has other rewards than the baseline, and accuracy is judged by each arm's own",
        "'c' holds out other rows than the baseline (data.split_seed) at the seeds 0",
    ]


def write_rollouts(folder: Path, step: int, rows: list[tuple[int, str, bool]]) -> None:
    (folder / "rollouts").mkdir(exist_ok=True)
    group, completion, off_policy = zip(*rows, strict=True)
    table = pa.table({"group": group, "completion": completion, "off_policy": off_policy})
    pq.write_table(table, folder / "rollouts" / f"step-{step:06d}.parquet")


def test_distinct_calls_are_counted_by_meaning(make_run: Make) -> None:
    folder = make_run("a", steps=3)
    same = [(0, "[f(a=1, b='x')]", False), (0, "[ f( b = 'x', a = 1 ) ]", False), (0, "[f(a=1, b='x'", False)]
    other = [(1, "[f(a=1)]", False), (1, "[f(a=2)]", False), (1, "I cannot.", False), (1, "[g(a=9)]", True)]
    write_rollouts(folder, 1, same + other)
    (folder / "rollouts" / "step-000002.parquet").write_bytes(b"half")
    run = read_run("a", 0, folder, load_recipe(folder / "recipe.resolved.yaml"))
    counts = run.series["distinct_calls"]
    assert counts[0] == (1 + 3) / 2, "an unreadable one counts as none, no call as one, a replayed one not at all"
    assert np.isnan(counts[1:]).all()
    assert not run.counts_texts
    (problem,) = run.problems
    assert problem.startswith("1 files of rollouts cannot be read")
    strange = load_recipe(folder / "recipe.resolved.yaml", ["dialect=./nowhere.py:Lost"])
    run = read_run("a", 0, folder, strange)
    assert run.counts_texts
    assert run.series["distinct_calls"][0] == 3, "then texts are counted"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), unique_by=lambda pair: pair[0]), st.randoms())
def test_the_order_of_arguments_makes_no_other_call(arguments: list[tuple[str, int]], chance: Any) -> None:
    def key(pairs: list[tuple[str, int]], name: str = "f") -> str | None:
        return call_key(PythonCalls().parse(f"[{name}({', '.join(f'{k}={v}' for k, v in pairs)})]"))

    shuffled = list(arguments)
    chance.shuffle(shuffled)
    assert key(arguments) == key(shuffled) is not None
    assert key(arguments) != key(arguments, "g")
    assert key(arguments) != key([*arguments, ("d", 1)])


# --------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.yaml"], "there is no recipe and no run folder missing.yaml; look at the spelling"),
        (["one.yaml", "other/one.yaml"], "two arms are called 'one': one.yaml and other/one.yaml; name one of them"),
        (["one.yaml", "one=run"], "two arms are called 'one'"),
        (["run", "x/seed-0", "x=run"], "both seed 0 of the arm 'x'; leave one out"),
        (["empty"], "empty is no run folder: it holds no recipe.resolved.yaml"),
        (["one.yaml", "no=where"], "`no` is no key of a recipe, and where no recipe or run folder; write KEY=VALUE"),
        (["one.yaml", "seed=3"], "a comparison sets `seed` for each run; use --seeds"),
        (["one.yaml", "run=x"], "a comparison sets `run` for each run; use --out"),
        (["run", "train.steps=3"], "train.steps=3 changes nothing: run folders are as they are"),
        (["figures=run"], "an arm cannot be called 'figures'"),
        (["a/b=run"], "an arm cannot be called 'a/b'"),
        ([], "nothing to compare: name recipes or run folders"),
    ],
)
def test_wrong_arms_are_named_with_a_repair(
    words: list[str], message: str, make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run("run"), make_run("x/seed-0")
    for name in ("other", "empty"):
        (tmp_path / name).mkdir()
    for name in ("one.yaml", "other/one.yaml"):
        (tmp_path / name).write_text(RECIPE)
    with pytest.raises(CallwrightError) as caught:
        compare_what(words, [0], Path("out"), None)
    assert message in str(caught.value)
    assert not Path("out").exists()


def test_an_unknown_baseline_and_every_mistake_of_every_recipe(make_recipe: Make, tmp_path: Path) -> None:
    paths = [str(make_recipe(name, explore=[name])) for name in ("Slow", "Refresh")]
    with pytest.raises(CallwrightError, match="--baseline grpo: there is no such arm; the arms are Slow, Refresh"):
        compare_what(paths, [0], tmp_path / "out", "grpo")
    with pytest.raises(RecipeError) as caught:
        compare_what([*paths, "train.stpes=3", "explore.0=no_such"], [0, 1], tmp_path / "out", None)
    text = str(caught.value)
    assert text.count("did you mean 'steps'") == 1, "the same mistake of an override is said once"
    assert "no_such" in text
    words = ["compare", *paths, "--report-only", "--fresh"]
    assert CliRunner().invoke(cli.app, words).exit_code == 2


@pytest.mark.parametrize(("text", "seeds"), [("1", [0]), ("3", [0, 1, 2]), ("0,3, 7", [0, 3, 7]), ("5,", [5])])
def test_seeds(text: str, seeds: list[int]) -> None:
    assert seeds_from(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1,x", "2,2", "1.5", ","])
def test_wrong_seeds(text: str) -> None:
    with pytest.raises(CallwrightError, match="--seeds"):
        seeds_from(text)


def test_two_comparisons_in_one_folder_are_refused(tmp_path: Path) -> None:
    with runner.locked(tmp_path), pytest.raises(CallwrightError, match="another comparison is at work"):  # noqa: SIM117
        with runner.locked(tmp_path):
            pass


# ---------------------------------------------------------------------------------------------- statistics

outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


def evaluations(rows: list[tuple[bool, bool]]) -> tuple[HeldOut, HeldOut]:
    columns = [{f"t{i}": row[side] for i, row in enumerate(rows)} for side in (0, 1)]
    new, old = (HeldOut(sum(column.values()) / len(column), len(column), column) for column in columns)
    return new, old


@settings(max_examples=30)
@given(st.lists(outcomes, min_size=1, max_size=6))
def test_the_difference_is_that_of_the_accuracies_and_inside_its_interval(seeds: list[list[tuple[bool, bool]]]) -> None:
    pairs = [pair(*evaluations(rows)) for rows in seeds]
    expected = [sum(a - b for a, b in rows) / len(rows) for rows in seeds]
    found = difference(pairs, resamples=2000)
    assert [one.difference for one in pairs] == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.low - 1e-9 <= found.mean + 0.1
    assert found.high + 1e-9 >= found.mean - 0.1
    assert -1 <= found.low <= found.high <= 1
    swapped = difference([pair(*reversed(evaluations(rows))) for rows in seeds], resamples=2000)
    assert swapped.mean == pytest.approx(-found.mean)
    assert found == difference(pairs, resamples=2000), "repeatable"


@settings(max_examples=20)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=5))
def test_equal_arms_differ_by_nothing(seeds: list[list[bool]]) -> None:
    found = difference([pair(*evaluations([(row, row) for row in rows])) for rows in seeds], resamples=500)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_the_bootstrap_has_the_spread_of_its_closed_form() -> None:
    """Over rows: n rows, of which a share gains: the standard deviation of a mean. Over seeds: of two, resampled."""
    one = difference([Pair(0.3, 100, 30, 0)], resamples=40_000)
    assert (one.high - one.low) / (2 * 1.645) == pytest.approx(math.sqrt(0.3 * 0.7 / 100), abs=0.005)
    two = difference([Pair(0.0, 0, 0, 0), Pair(1.0, 0, 0, 0)])
    assert (two.mean, two.low, two.high, two.method) == (0.5, 0.0, 1.0, "seeds"), "0 and 1 with a quarter each"
    many = difference([Pair(x, 0, 0, 0) for x in np.linspace(-1, 1, 41)], resamples=40_000)
    spread = float(np.std(np.linspace(-1, 1, 41))) / math.sqrt(41)
    assert (many.high - many.low) / (2 * 1.645) == pytest.approx(spread, rel=0.05)
    nothing = difference([])
    assert nothing.seeds == 0
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.low)


def test_students_interval_and_the_deviation_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert deviation(values) == 1
    low, high = student_interval(values)
    assert high - 2 == pytest.approx(2.9200 / math.sqrt(3), abs=1e-4), "t of 2 degrees of freedom at 95 %"
    assert low == pytest.approx(4 - high)
    assert math.isnan(student_interval(np.array([1.0]))[0])
    assert math.isnan(deviation([1.0]))


# ------------------------------------------------------------------------------------------ figures, the page

curves = st.lists(
    st.dictionaries(st.integers(1, 12), st.floats(-10, 10), min_size=1, max_size=12), min_size=1, max_size=4
)


@given(curves, st.integers(1, 5))
def test_bands_and_running_means(runs: list[dict[int, float]], window: int) -> None:
    made = [
        Curve(np.array(sorted(run), float), np.array(sorted(run)) / 2, np.array([run[s] for s in sorted(run)]))
        for run in runs
    ]
    band = over_seeds(made)
    assert band.x.tolist() == sorted(set.intersection(*map(set, runs))), "no mean jumps where one run ends"
    for i, step in enumerate(band.x):
        values = [run[int(step)] for run in runs]
        assert band.mean[i] == pytest.approx(np.mean(values))
        assert (band.low[i], band.high[i]) == (min(values), max(values))
        assert band.minutes[i] == step / 2
    for curve in made:
        expected = [np.mean(curve.y[max(0, i + 1 - window) : i + 1]) for i in range(len(curve.y))]
        assert smoothed(curve, window).y == pytest.approx(np.array(expected))


def test_the_held_out_curve_joins_what_was_watched(make_run: Make) -> None:
    folder = make_run("a", 0, [1, 0], held_out_accuracy=[None, 0.25, None, 0.4])
    run: Reading = read_run("a", 0, folder, load_recipe(folder / "recipe.resolved.yaml"))
    curve = held_out_curve(run)
    assert curve is not None
    assert curve.x.tolist() == [0, 2, 4]
    assert curve.y.tolist() == [0.0, 0.25, 0.5], "the end is eval.json's"
    assert curve.minutes.tolist() == [0, 1, 2]


TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "div", "p", "strong", "ul", "li"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "figure", "img", "figcaption"}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_hostile_names_and_options_stay_text(make_run: Make, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    folders = [make_run("a", 0, [1, 0], reward=[0.1] * 4), make_run("b", 0, [0, 1])]
    folders.append(
        make_run("c", overrides=('dialect={use: python_calls, instruction: "</td><script>alert(2)</script>"}',))
    )
    names = [evil, "$\\frac{1}{", "_[red]\x1b[2J\u4e2d"]
    words = [f"{name}={folder}" for name, folder in zip(["A", *names[1:]], folders, strict=True)]
    comparison = compare_what(words, [0], tmp_path / "out", None)
    comparison.arms[0].name = evil  # the command line cannot name it: a file's stem can
    screen = console()
    report(Comparison(comparison.out, comparison.arms, evil, []), screen, ["<b>mind</b>"], {})
    page = Tags()
    html = (tmp_path / "out" / "report.html").read_text()
    page.feed(html)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert not {key for _, attributes in page.tags for key in attributes if key.startswith("on")}
    assert all(str(a.get("src")).startswith("data:image/png;base64,") for tag, a in page.tags if tag == "img")
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "http://" not in html
    assert "https://" not in html
    assert "\x1b" not in html + text_of(screen)
    for text in (evil, "<b>mind</b>", "</td><script>alert(2)</script>", "$\\frac{1}{", "_[red]\\x1b[2J\u4e2d"):
        assert text in page.words


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = "import sys, callwright.cli, callwright.compare.report\n"
    code += "print({'torch', 'matplotlib', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
