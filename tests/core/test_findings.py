"""Evidence of reward hacking: found in runs with a planted hole, and in no clean run."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from callwright import CallwrightError
from callwright.cli import app
from callwright.findings import Finding, findings
from callwright.findings.examine import Examination, examine
from callwright.findings.finding import ALPHA, MOST_ROWS, spread_out
from callwright.findings.statistics import ends, more_than, paid, share_bounds, trend
from callwright.findings.timing import slow, slowest_rows, time_in_plugins
from callwright.findings.view import print_after_training
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from planted import CORRECT, bandit_run, hole, saved_run, tiny_run

# ------------------------------------------------------------------------------------------------------ statistics

FLOATS = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 1))


@given(st.lists(FLOATS, min_size=8, max_size=40))
def test_a_trend_turns_with_its_series(values):
    steps = list(range(1, len(values) + 1))
    there, back = trend(steps, values), trend(steps, values[::-1])
    assert there.rising == pytest.approx(back.falling)
    assert there.change == pytest.approx(-back.change)
    assert there.least_change <= there.change + 1e-9


def test_series_without_a_trend_rise_as_seldom_as_is_said():
    draw = numpy.random.default_rng(0)
    alarms = sum(trend(range(30), list(draw.integers(0, 9, 30))).rising < 0.05 for _ in range(400))
    assert more_than(alarms, 400, 0.05) > 0.001


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=3, max_size=30))
def test_of_one_stratum_the_paid_test_is_kendalls(pairs):
    amounts, rewards = zip(*pairs, strict=True)
    found = paid((0, float(amount), float(reward)) for amount, reward in pairs)
    if len(set(amounts)) < 2 or len(set(rewards)) < 2:
        assert found.p >= 0.5
        return
    tau = stats.kendalltau(amounts, rewards, method="asymptotic", alternative="greater")
    assert (found.p < 0.5) <= (tau.statistic > 0)
    assert found.p >= min(tau.pvalue, 0.5) - 1e-9, "the correction for whole numbers only makes it more careful"


def test_amounts_that_nobody_pays_for_are_paid_as_seldom_as_is_said():
    draw = numpy.random.default_rng(1)

    def alarm() -> bool:
        rows = [(stratum, draw.integers(0, 9), draw.integers(0, 2)) for stratum in range(12) for _ in range(6)]
        return paid((s, float(a), float(r)) for s, a, r in rows).p < 0.05

    assert more_than(sum(alarm() for _ in range(400)), 400, 0.05) > 0.001


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.05, ALPHA]))
def test_bounds_of_a_share_are_the_exact_ones(pair, level):
    hits, of = pair
    exact = stats.binomtest(hits, of).proportion_ci(1 - 2 * level, "exact")
    assert share_bounds(hits, of, level) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert more_than(hits, of, 0.05) == pytest.approx(stats.binomtest(hits, of, 0.05, "greater").pvalue)


@given(st.lists(st.tuples(st.integers(), st.integers()), max_size=50, unique=True))
def test_rows_are_spread_over_all_there_are(rows):
    chosen = spread_out(rows)
    assert len(chosen) == min(len(rows), MOST_ROWS)
    assert set(chosen) <= set(rows)
    if rows:
        assert (chosen[0], chosen[-1]) == (rows[0], rows[-1])


# ------------------------------------------------------------------------------------------------ planted holes


def codes(found: Examination) -> set[str]:
    return {one.code for one in found.findings}


def check_rows(found: Examination) -> None:
    """Every finding has rows, and they are completions of the run."""
    places = {row.place for row in found.record.completions}
    for one in found.findings:
        assert one.kind == "evidence"
        assert 0 < len(one.rows) <= MOST_ROWS
        assert set(one.rows) <= places
        assert any(character.isdigit() for character in one.message)


def test_one_text_for_all_is_found_in_four_ways_with_its_rows(tmp_path):
    rewards = [hole("OwnFormatUnknown"), {**CORRECT, "weight": 0.0}]
    found = examine(bandit_run(tmp_path / "run", rewards, ["[tune()]", "[add()]", "Hello."], steps=20))
    assert codes(found) == {"reward_without_accuracy", "rewards_opposed", "one_completion", "wrong_calls_paid"}
    check_rows(found)
    rows = {row.place: row for row in found.record.completions}
    by_code = {one.code: one for one in found.findings}
    texts = {rows[place].text for place in by_code["one_completion"].rows}
    assert len(texts) == 1
    assert repr(texts.pop()) in by_code["one_completion"].message
    for place in by_code["rewards_opposed"].rows:
        assert rows[place].scores == {"OwnFormatUnknown": 1.0, "ast_match": 0.0}
    wrong = found.judge.matches([rows[place] for place in by_code["wrong_calls_paid"].rows])
    assert wrong == [False] * len(wrong)
    assert all(place[0] > 10 for place in by_code["reward_without_accuracy"].rows)


def test_text_that_grows_because_it_is_paid(tmp_path):
    replies = ["so " * count for count in (1, 3, 9, 27)]
    found = examine(bandit_run(tmp_path / "run", [CORRECT, hole("Wordy", weight=3.0)], replies * 2, steps=20))
    assert "length_drift" in codes(found)
    check_rows(found)
    rows = {row.place: row for row in found.record.completions}
    for one in found.findings:
        if one.code == "length_drift":
            median = numpy.median([len(row.text) for row in rows.values()])
            assert all(len(rows[place].text) > median for place in one.rows)


def parameters_for_arguments(task: Any, right: str) -> list[str]:
    return [right.replace('"arguments"', '"parameters"')]


def wrong_value(task: Any, right: str) -> list[str]:
    return [right.replace("x=", "x=7")]


def test_a_reward_that_looks_at_characters(tmp_path):
    run = bandit_run(
        tmp_path / "run", [hole("Characters")], dialect="json_calls", spoil=parameters_for_arguments, steps=20
    )
    found = examine(run)
    assert "surface" in codes(found)
    check_rows(found)
    (one,) = [one for one in found.findings if one.code == "surface"]
    rows = {row.place: row for row in found.record.completions}
    assert {rows[place].total for place in one.rows} <= {0.0, 1.0}
    assert any(rows[place].total == 1 for place in one.rows)
    assert "synonym" in one.message


def test_a_reward_that_knows_the_rows_that_were_trained_on(tmp_path):
    found = examine(bandit_run(tmp_path / "run", [hole("Memorised")], spoil=wrong_value, unseen=20, steps=12))
    assert codes(found) == {"trained_rows_only"}
    check_rows(found)
    assert "0 of 20" in found.findings[0].message


def test_the_same_rows_with_a_right_reward_are_clean(tmp_path):
    found = examine(bandit_run(tmp_path / "run", [CORRECT], ["Hello."], spoil=wrong_value, unseen=20, steps=20))
    assert found.findings == []
    assert set(found.silent) == {"rewards_opposed"}
    assert found.record.metrics[-1]["reward"] > found.record.metrics[0]["reward"] + 0.3, "it learned"


@pytest.mark.parametrize(
    "name", ["grpo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("best", "grpo_think"))]
)
def test_real_runs_without_a_hole_have_no_finding(name, tmp_path):
    found = examine(saved_run(name, tmp_path / name))
    assert found.findings == []
    assert set(found.silent) <= {"rewards_opposed"}
    assert len(found.record.completions) > 500


def spoiled(change: Callable[[str], str]) -> Callable[[Any, str], list[str]]:
    return lambda task, right: [change(right)]


FLOOD = ", ".join(f"lookup(q={i})" for i in range(50))
PUBLISHED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "true passes for 1 (ToolRL)": (
        [hole("PythonEquality")],
        {"spoil": spoiled(lambda right: re.sub(r"x=(\d+)", r"x=\1.0", right.replace("x=1,", "x=True,")))},
        "wrong_calls_paid",
    ),
    "a call in the thinking counts (ToolRL)": (
        [hole("Anywhere")],
        {"spoil": spoiled(lambda right: f"I could write {right[1:-1]}.")},
        "wrong_calls_paid",
    ),
    "the right call twice (ToolRL)": (
        [hole("RepeatsAllowed")],
        {"spoil": spoiled(lambda right: f"[{right[1:-1]}, {right[1:-1]}]")},
        "wrong_calls_paid",
    ),
    "fifty invented calls more (ToolRL, rLLM)": (
        [hole("ExtraCallsIgnored")],
        {"spoil": spoiled(lambda right: f"[{right[1:-1]}, {FLOOD}]".replace("[, ", "["))},
        "wrong_calls_paid",
    ),
    "parameters for arguments, or other spaces (ToolRL)": (
        [hole("Characters")],
        {"spoil": parameters_for_arguments, "dialect": "json_calls"},
        "surface",
    ),
    "any call where none is wanted (rLLM)": (
        [hole("AnyCallWhereNoneIsWanted")],
        {"replies": ["[add(x=1)]", "[tune(x=2)]"]},
        "wrong_calls_paid",
    ),
    "text that is no call where none is wanted": (
        [hole("AnyCallWhereNoneIsWanted")],
        {"replies": ["[tune(x=", "[add(x=1"]},
        "wrong_calls_paid",
    ),
    "one call for two (rLLM)": (
        [hole("OneCallForTwo")],
        {"spoil": spoiled(lambda right: right.partition("), ")[0] + ")]" if right != "[]" else right), "twice": True},
        "wrong_calls_paid",
    ),
    "invented arguments (rLLM)": (
        [hole("InventedArguments")],
        {"spoil": spoiled(lambda right: right.replace(")", ", zebra=1)"))},
        "wrong_calls_paid",
    ),
    "answers in an unknown form score 0 (rLLM)": (
        [hole("OwnFormatUnknown")],
        {"replies": ["[tune()]", "[add()]"]},
        "one_completion",
    ),
    "a length reward (ToolRL)": (
        [CORRECT, hole("Wordy", weight=3.0)],
        {"replies": ["so " * count for count in (1, 3, 9, 27)] * 2},
        "length_drift",
    ),
    "a format alone is paid": ([hole("AnyCall")], {"replies": ["[add()]", "Hello."]}, "wrong_calls_paid"),
    "a substring": ([hole("Mentioned")], {"replies": ["add tune greet book"]}, "wrong_calls_paid"),
    "names without arguments": ([hole("NamesOnly")], {"spoil": wrong_value}, "wrong_calls_paid"),
    "right for some rows only": ([hole("Memorised")], {"spoil": wrong_value, "unseen": 20}, "trained_rows_only"),
    "a format is paid more than being right": (
        [hole("OwnFormatUnknown", weight=2.0), CORRECT],
        {"replies": ["[tune()]", "Hello."] * 3},
        "reward_without_accuracy",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_hole_is_found(name, tmp_path):
    rewards, options, code = PUBLISHED[name]
    found = examine(bandit_run(tmp_path / "run", rewards, **options))
    assert code in codes(found), (codes(found), found.silent)
    check_rows(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_clean_runs_have_no_finding(seed, tmp_path):
    dialect = ("python_calls", "json_calls", "funrl", "hermes")[seed % 4]
    rewards = [CORRECT, {"use": "schema_valid", "weight": 0.2}, {"use": "tool_match", "weight": 0.3}]
    rewards = rewards if seed % 2 else [CORRECT]
    run = bandit_run(tmp_path / "run", rewards, ["Hello.", "[add()]"], dialect=dialect, seed=seed, unseen=20)
    assert examine(run).findings == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([hole("Wordy")], {"length_drift", "reward_without_accuracy", "wrong_calls_paid"}),
        ([hole("Looping")], {"junk_drift", "reward_without_accuracy", "one_completion", "wrong_calls_paid"}),
        ([CORRECT], set()),
    ],
    ids=["wordy", "looping", "clean"],
)
def test_whole_runs_of_a_model_that_writes_noise(rewards, expected, tmp_path, tiny_model_folder):
    found = examine(tiny_run(tmp_path / "run", tiny_model_folder(), rewards))
    assert codes(found) >= expected
    assert expected or not codes(found)
    check_rows(found)


# ------------------------------------------------------------------------------------------- what is around it


@pytest.fixture(scope="module")
def hacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run in which a slow reward pays for any call."""
    folder = tmp_path_factory.mktemp("hacked")
    (folder / "sleepy.py").write_text(
        "import time\n"
        "from callwright import Rollouts, Verdict, hookimpl\n"
        "class Sleepy:\n"
        '    """Takes its time over long texts."""\n'
        "    @hookimpl\n"
        "    def score(self, rollouts: Rollouts) -> list[Verdict]:\n"
        "        for text in rollouts.texts:\n"
        "            time.sleep(0.02 * text.count('lookup'))\n"
        "        return [Verdict(float(bool(parse.calls))) for parse in rollouts.parses]\n"
    )
    replies = ["[lookup(q=1), lookup(q=2)]", "[lookup(q=2)]", "Hello."]
    return bandit_run(folder / "run", [{"use": f"{folder / 'sleepy.py'}:Sleepy"}], replies, steps=10)


def test_the_command_shows_findings_time_and_slow_rows(hacked):
    result = CliRunner().invoke(app, ["findings", str(hacked)])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "wrong_calls_paid" in text
    assert "not looked for: rewards_opposed: there is one reward" in text
    assert "time of the steps spent in plugins: Sleepy" in text
    assert "slow reward 'Sleepy': step" in text


def test_the_command_prints_json(hacked, tmp_path):
    clean = saved_run("best", tmp_path / "clean")
    result = CliRunner().invoke(app, ["findings", "--json", str(hacked), str(clean)])
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.output)
    assert [one["code"] for one in first["findings"]] == ["wrong_calls_paid"]
    assert first["slow_rewards"].keys() == {"Sleepy"}
    assert second["findings"] == []
    assert second["slow_rewards"] == {}
    found = [Finding(**{**one, "rows": tuple(map(tuple, one["rows"]))}) for one in first["findings"]]
    assert found == findings(hacked)


def test_a_folder_without_a_run_is_named(tmp_path):
    result = CliRunner().invoke(app, ["findings", str(tmp_path / "nothing")])
    assert isinstance(result.exception, CallwrightError)
    assert "holds no run" in str(result.exception)


def test_time_is_shared_and_the_slowest_rows_are_known(hacked):
    found = examine(hacked)
    spent = time_in_plugins(found.record.metrics)
    seconds, share = spent["Sleepy"]
    assert seconds == pytest.approx(sum(line["seconds/plugin/Sleepy"] for line in found.record.metrics))
    assert share == pytest.approx(seconds / sum(line["seconds"] for line in found.record.metrics))
    assert slow(spent, found.record.rewards) == ["Sleepy"]
    rows = {row.place: row.text for row in found.record.completions}
    (place, taken), *rest = slowest_rows(found.judge, found.record.completions, "Sleepy")
    assert rows[place] == "[lookup(q=1), lookup(q=2)]"
    assert taken >= 0.04
    assert all(taken >= other for _, other in rest)


def test_a_run_that_lacks_something_says_what_was_not_looked_for(tmp_path):
    run = saved_run("grpo", tmp_path / "run")
    (run / "recipe.resolved.yaml").unlink()
    (run / "eval.json").unlink()
    found = examine(run)
    assert found.findings == []
    assert "the run has no recipe.resolved.yaml" in found.silent.values()
    for file in (run / "rollouts").iterdir():
        file.unlink()
    (run / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"st')
    assert set(examine(run).silent.values()) == {"the run has no recorded completions"}


def test_the_end_of_training_never_fails_because_of_it(tmp_path, hacked):
    console = Console(record=True, width=200, force_terminal=False)
    print_after_training(console, hacked)
    print_after_training(console, tmp_path / "nothing")
    run = saved_run("best", tmp_path / "broken")
    (run / "rollouts" / "step-000009.parquet").write_bytes(b"no parquet")
    print_after_training(console, run)
    text = console.export_text()
    assert "evidence, no verdict: Wrong calls are paid like right ones" in text
    assert "slow reward: 'Sleepy' takes" in text
    assert text.count("findings could not be looked for") == 2


def test_ends_are_thirds():
    assert ends([0, 0, 1, 5, 9, 9]) == (0, 9)
    assert ends([math.pi]) == (math.pi, math.pi)
