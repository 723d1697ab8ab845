"""How laws are run, switched off and reported."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import defects
import pytest
from callwright import CallwrightError
from callwright.testing import LawsBroken, check_explorer, check_reward, check_stage, laws_of
from callwright.testing.laws import LawResult
from typer.testing import CliRunner

KINDS = ("reward", "dialect", "explorer", "stage", "source")


def only(law: str, kind: str = "reward") -> dict[str, str]:
    return {other.name: "another law is tried" for other in laws_of(kind) if other.name != law}


def broken(reward: object, law: str) -> LawResult:
    with pytest.raises(LawsBroken) as caught:
        check_reward(reward, skip=only(law))
    (result,) = caught.value.results
    assert result.test in str(caught.value)
    return result


@pytest.mark.parametrize(
    ("reward", "law"),
    [
        (defects.TrueIsOne(), "near_misses_score_less"),
        (defects.ComparesText(), "rewrites_keep_score"),
        (defects.RaisesOnNul(), "total"),
        (defects.BonusAboveOne(), "in_range"),
        (defects.PunishesNearness(), "mending_never_lowers"),
        (defects.LengthBonus(), "junk_never_pays"),
        (defects.Recall(), "extra_calls_cost"),
        (defects.Inverted(), "gold_never_beaten"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_counterexample_is_a_test_that_fails(reward: object, law: str) -> None:
    """Pasted into a file it runs, and fails where the law does."""
    names: dict[str, object] = {}
    exec(broken(reward, law).test, names)  # our own source, made by the kit from our own data
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    with pytest.raises((AssertionError, CallwrightError)):
        test()  # type: ignore[operator] # a function of the test's text


def test_a_counterexample_is_small() -> None:
    """The first of the fixed tasks that shows it, with one call of one argument."""
    test = broken(defects.TrueIsOne(), "near_misses_score_less").test
    assert "[add(x=True)]" in test
    assert "toy-1" in test


def test_a_law_is_switched_off_by_name_and_with_a_reason() -> None:
    check_reward(defects.BonusAboveOne(), skip=only("total"))
    check_reward(defects.BonusAboveOne(), range=(0.0, 1.5), skip=only("in_range"))
    with pytest.raises(CallwrightError, match="did you mean 'near_misses_score_less'"):
        check_reward(defects.Right(), skip={"near_miss_score_less": "typed badly"})
    with pytest.raises(CallwrightError, match="without a reason"):
        check_reward(defects.Right(), skip={"total": " "})


def test_a_plugin_states_its_range_and_what_does_not_apply() -> None:
    class Doubled(defects.Right):
        range: ClassVar = (0.0, 2.0)
        laws: ClassVar = {"linear_cost": "it calls a slow service"}

        def judge(self, task, parse):
            return 2 * super().judge(task, parse)

    check_reward(Doubled(), skip={name: reason for name, reason in only("in_range").items() if name != "linear_cost"})


def test_every_law_says_what_it_means() -> None:
    for kind in KINDS:
        laws = laws_of(kind)
        assert len({law.name for law in laws}) == len(laws)
        assert all(law.statement.endswith(".") for law in laws)
    with pytest.raises(CallwrightError, match="but none for the kind engine"):
        laws_of("engine")


def test_the_page_names_every_law_and_strategy() -> None:
    page = (Path(__file__).parents[3] / "docs" / "testing-kit.md").read_text()
    laws = [law.name for kind in KINDS for law in laws_of(kind)]
    strategies = ["tool_schemas", "tasks", "calls", "answers", "completions", "near_misses", "rewrites"]
    assert [name for name in (*laws, *strategies) if f"`{name}" not in page] == []


@pytest.mark.parametrize("dialect", ["hermes", "mistral"])
def test_rewards_are_checked_in_formats_of_json_too(dialect: str) -> None:
    check_reward(defects.Right(), dialect=dialect, examples=3, skip={"total": "no body", "linear_cost": "slow"})
    with pytest.raises(LawsBroken):
        check_reward(defects.TrueIsOne(), dialect=dialect, skip=only("near_misses_score_less"))


def test_results_are_the_same_at_every_run() -> None:
    first, second = (broken(defects.LengthBonus(), "junk_never_pays") for _ in range(2))
    assert first.test == second.test


def test_stages_and_explorers_give_tests_that_fail() -> None:
    for check, plugin in ((check_explorer, defects.PaintsPadding()), (check_stage, defects.LosesTasks())):
        with pytest.raises(LawsBroken) as caught:
            check(plugin)
        names: dict[str, object] = {}
        exec(caught.value.results[0].test, names)  # our own source, made by the kit from our own data
        (test,) = [value for name, value in names.items() if name.startswith("test_")]
        with pytest.raises(AssertionError):
            test()  # type: ignore[operator] # a function of the test's text


# ------------------------------------------------------------------------------------------- callwright check --laws


def run(*arguments: str) -> tuple[int, str]:
    from callwright.cli import app

    result = CliRunner().invoke(app, ["check", *arguments])
    if isinstance(result.exception, CallwrightError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_the_command_shows_every_law() -> None:
    code, text = run("--laws", "python_calls")
    assert code == 0
    for law in laws_of("dialect"):
        assert f"held    {law.name}" in text


def test_the_command_takes_a_file_and_its_options(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "from callwright import hookimpl\n\n\n"
        "@dataclass\n"
        "class Warm:\n"
        "    heat: float = 1.0\n\n"
        "    @hookimpl\n"
        "    def sampling(self, step):\n"
        "        return {'temperature': self.heat - step}\n"
    )
    code, text = run("--laws", f"{path}:Warm", "heat=20")
    assert code == 0, text
    code, text = run("--laws", f"{path}:Warm")
    assert code == 1
    assert "broken  contributions" in text
    assert "def test_warm() -> None:" in text


def test_the_command_suggests_the_near_name() -> None:
    code, text = run("--laws", "pyton_calls")
    assert code == 1
    assert "did you mean 'python_calls'?" in text
    assert run()[0] == 2
