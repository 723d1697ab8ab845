"""A whole run: its folder, its repeatability, and how it ends when it cannot go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from callwright import CallwrightError, checkpoint
from callwright.display import SilentDisplay
from callwright.evaluate import EvalResult
from callwright.recipe import RecipeError, load_recipe
from callwright.run import RunResult
from safetensors.torch import load_file

MakeRecipe = Callable[..., Path]
Load = Callable[..., Any]


class Listening(SilentDisplay):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    warn = note


@pytest.fixture
def run(load: Load) -> Callable[..., RunResult]:
    def run(path: Path, *overrides: str, resume: bool = False, display: Any = None) -> RunResult:
        recipe, components = load(path, *overrides)
        result: RunResult = components.engine.train(recipe, components, display or SilentDisplay(), resume)
        return result

    return run


Run = Callable[..., RunResult]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What a run measured, without what a clock measured."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    clocked = ("seconds", "tokens_per_second")
    return [{name: value for name, value in line.items() if not name.startswith(clocked)} for line in lines]


def final_weights(folder: Path) -> bytes:
    newest = checkpoint.latest(folder / "checkpoints")
    assert newest is not None
    return (newest / "model" / "model.safetensors").read_bytes()


# ------------------------------------------------------------------------------------------------- the folder


def test_the_folder_of_a_run(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    """All parts real: jsonl, python_calls, ast_match, temperature."""
    rewards = ["ast_match", {"use": f"{tmp_path / 'parts.py'}:Letters", "weight": 0.5}]
    path = make_recipe(rewards=rewards, train={"checkpoint_every": 1, "keep_checkpoints": 2, "evaluate_every": 2})
    result = run(path)
    folder = tmp_path / "run"
    assert {p.name for p in folder.iterdir()} == {
        "recipe.resolved.yaml",
        "versions.json",
        "metrics.jsonl",
        "rollouts",
        "checkpoints",
        "eval.json",
    }
    assert load_recipe(folder / "recipe.resolved.yaml") == load_recipe(path)
    versions = json.loads((folder / "versions.json").read_text())
    used = {(p["kind"], p["name"]): p for p in versions["plugins"]}
    assert used[("reward", "ast_match")]["distribution"] == "callwright"
    assert used[("reward", "Letters")]["version"].startswith("sha256:")
    assert versions["libraries"]["torch"]

    lines = metrics(folder)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert ["validation_accuracy" in line for line in lines] == [False, True, False]
    files = sorted(p.name for p in (folder / "rollouts").iterdir())
    assert files == [f"step-{n:06d}.parquet" for n in (1, 2, 3)]
    table = pq.read_table(folder / "rollouts").to_pylist()
    assert len(table) == 3 * 6
    assert set(json.loads(table[0]["rewards"])) == {"ast_match", "Letters"}
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-000002", "step-000003"]

    evaluation = json.loads((folder / "eval.json").read_text())
    for when in ("before", "after"):
        found = evaluation[when]
        assert found["rows"] == 4 == sum(found["reasons"].values())
        assert found["accuracy"] == found["reasons"].get("correct", 0) / 4
    assert evaluation["train_seconds"] == result.train_seconds > 0
    assert result.before == EvalResult(**{**evaluation["before"], "by_category": result.before.by_category})
    trained = {row["task"] for row in table}
    assert len(trained) <= 12 - 4 - 2


def test_the_same_recipe_gives_the_same_run(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path = make_recipe(explore=["Drift"], train={"kl": 0.05, "passes": 2})
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(path, f"run={tmp_path / name}", f"seed={seed}")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert final_weights(tmp_path / "a") == final_weights(tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")
    assert final_weights(tmp_path / "a") != final_weights(tmp_path / "c")


def test_evaluation_teaches_plugins_nothing(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    counting = """
from callwright import Verdict, hookimpl
class Counting:
    def __init__(self):
        self.rows = 0
    @hookimpl
    def score(self, rollouts):
        self.rows += len(rollouts)
        return [Verdict(float(self.rows))] * len(rollouts)
    def state_dict(self):
        return {"rows": self.rows}
    def load_state_dict(self, state):
        self.rows = state["rows"]
"""
    (tmp_path / "counting.py").write_text(counting)
    path = make_recipe(rewards=[f"{tmp_path / 'counting.py'}:Counting"], train={"steps": 2})
    run(path, "data.held_out=4", "data.validation=2", "train.evaluate_every=1")
    assert [line["reward"] for line in metrics(tmp_path / "run")] == [6, 12]


def test_what_rewards_report_is_of_the_steps_rows_alone(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    (tmp_path / "reports.py").write_text(
        """
from callwright import Verdict, hookimpl

class Rows:
    @hookimpl
    def score(self, rollouts):
        self.rows = len(rollouts.texts)
        return [Verdict(len(text) % 3) for text in rollouts.texts]

    def take_metrics(self):
        return {"count": self.rows}
"""
    )
    run(make_recipe(rewards=[f"{tmp_path / 'reports.py'}:Rows"], train={"evaluate_every": 1}))
    assert [line["metric/Rows/count"] for line in metrics(tmp_path / "run")] == [6, 6, 6]


def test_held_out_rows_are_watched_and_nothing_depends_on_it(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path = make_recipe(explore=["Drift"], train={"steps": 4, "evaluate_every": 2})
    run(path)
    run(path, f"run={tmp_path / 'watched'}", "train.watch_held_out=true")
    watched = metrics(tmp_path / "watched")
    seen = [line.pop("held_out_accuracy", None) for line in watched]
    assert watched == metrics(tmp_path / "run")
    assert seen[0] is seen[2] is None
    evaluation = json.loads((tmp_path / "watched" / "eval.json").read_text())
    assert seen[3] == evaluation["after"]["accuracy"], "the last step's is what the end finds"
    assert evaluation == json.loads((tmp_path / "run" / "eval.json").read_text()) | {
        "train_seconds": evaluation["train_seconds"]
    }
    right = evaluation["after"]["rows_correct"]
    assert sum(right.values()) == evaluation["after"]["reasons"].get("correct", 0)
    assert len(right) == 4


def test_the_reference_can_be_reset(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path = make_recipe(explore=["Refresh"], train={"steps": 4, "kl": 0.1, "learning_rate": 1e-2})
    run(path)
    distances = [line["kl"] for line in metrics(tmp_path / "run")]
    assert distances[1] > 1e-3
    assert distances[2] == pytest.approx(0, abs=1e-6), "the second step ended with a new reference"
    assert distances[3] > 1e-3


def test_the_reference_can_follow_and_the_optimizer_forget(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    lines = {}
    ways = {"never": [], "half": ["FollowsHalf"], "all": ["FollowsWholly"], "forget": ["FollowsAndForgets"]}
    for name, explore in ways.items():
        run(
            make_recipe(explore=explore, train={"steps": 4, "kl": 0.1, "learning_rate": 1e-2}), f"run={tmp_path / name}"
        )
        lines[name] = metrics(tmp_path / name)
    assert lines["all"][2]["kl"] == pytest.approx(0, abs=1e-6)
    assert 1e-4 < lines["half"][2]["kl"] < 0.6 * lines["never"][2]["kl"]
    assert lines["all"][2]["entropy"] == pytest.approx(lines["forget"][2]["entropy"]), "up to then nothing differs"
    assert lines["all"][3]["entropy"] != pytest.approx(lines["forget"][3]["entropy"], abs=1e-6)


def test_a_share_of_the_reference_is_above_zero_and_at_most_one() -> None:
    from callwright.loop import Control

    for share in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share must be above 0"):
            Control().sync_reference(share)


def test_without_a_copy_there_is_nothing_to_reset(make_recipe: MakeRecipe, run: Run) -> None:
    with pytest.raises(CallwrightError, match="asked to change the reference, but this run has no copy"):
        run(make_recipe(explore=["Refresh"]))


# ----------------------------------------------------------------------------------------------- bad steps, rows

FAULTY = """
import math, torch
from callwright import Verdict, hookimpl

class Infinite:
    @hookimpl
    def shape_rewards(self, rollouts):
        return torch.full((len(rollouts),), math.inf) if rollouts.step != 1 else None

class Raises:
    @hookimpl
    def score(self, rollouts):
        raise LookupError("no such tool")
"""


def test_a_run_stops_after_bad_steps_in_a_row(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    listening = Listening()
    path = make_recipe(train={"steps": 9, "max_bad_steps": 3})
    result = run(path, f"explore=[{tmp_path / 'faulty.py'}:Infinite]", display=listening)
    assert [line["bad_steps"] for line in metrics(tmp_path / "run")] == [1, 0, 1, 2, 3]
    assert result.steps == 5
    assert result.stopped == "3 updates in a row were skipped; see the warnings above"
    assert sum("`shape_rewards` of 'Infinite' is inf" in line for line in listening.lines) == 4


def test_a_broken_reward_is_shown_once_and_counted(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    listening = Listening()
    rewards = [f"{tmp_path / 'parts.py'}:Letters", f"{tmp_path / 'faulty.py'}:Raises"]
    with pytest.raises(CallwrightError, match="no row could be evaluated"):
        run(make_recipe(rewards=rewards))
    path = make_recipe(rewards=rewards)
    run(path, "data.held_out=0", f"run={tmp_path / 'other'}", display=listening)
    assert [line["failed_rows"] for line in metrics(tmp_path / "other")] == [6, 6, 6]
    assert [line["reward"] for line in metrics(tmp_path / "other")] == [None, None, None]
    shown = [line for line in listening.lines if "LookupError: no such tool" in line]
    assert len(shown) == 1
    assert "reward 'Raises' failed on 6 rows" in shown[0]
    assert "Traceback" in shown[0]


# ------------------------------------------------------------------------------------------- refused beforehand


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.group_size=1"], "a group of one has no baseline"),
        (["train.stesp=3"], "did you mean 'steps'"),
        (["data.source.path=nowhere.jsonl"], "data file not found"),
        (["data.held_out=12"], "12 rows are too few for 12 held-out"),
        (["rewards.use=[ast_macth]"], "did you mean 'ast_match'"),
        (["train.max_new_tokens=1020"], "every one of the 6 prompts has more than 4 tokens"),
    ],
)
def test_mistakes_are_found_before_a_model_loads(
    overrides: list[str], words: str, make_recipe: MakeRecipe, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr("callwright.run.load_model", never)
    with pytest.raises((RecipeError, CallwrightError), match=words):
        run(make_recipe(), *overrides)


def test_a_row_that_cannot_be_read_is_named(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path = make_recipe()
    with (tmp_path / "tasks.jsonl").open("a") as file:
        file.write('{"question": "hi"}\n')
    with pytest.raises(CallwrightError, match=r"tasks\.jsonl, row 13, field 'tools'"):
        run(path)


def test_prompts_that_are_too_long_are_skipped_and_said(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path = make_recipe()
    with (tmp_path / "tasks.jsonl").open("a") as file:
        file.write(json.dumps({"id": "long", "question": "x" * 2000, "tools": []}) + "\n")
    listening = Listening()
    run(path, "train.steps=1", "data.held_out=0", "data.validation=0", display=listening)
    assert any("1 of 13 training prompts do not fit" in line for line in listening.lines)


# --------------------------------------------------------------------------------------------------- resuming


def test_resuming_with_another_recipe_is_refused(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path = make_recipe(train={"steps": 1})
    with pytest.raises(CallwrightError, match="there is no run to resume"):
        run(path, resume=True)
    run(path)
    changes = ["train.learning_rate=0.5", "seed=7", "data.source.path=other.jsonl", "train.steps=2"]
    (Path.cwd() / tmp_path / "other.jsonl").write_text((tmp_path / "tasks.jsonl").read_text())
    changes[2] = f"data.source.path={tmp_path / 'other.jsonl'}"
    with pytest.raises(CallwrightError, match=r"these differ: data\.source\.path, seed, train\.learning_rate\. "):
        run(path, *changes, resume=True)
    longer = run(path, "train.steps=2", "train.checkpoint_every=1", resume=True)
    assert longer.steps == 2
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2]


def test_a_finished_run_resumes_to_its_end(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path = make_recipe()
    first, again = run(path), run(path, resume=True)
    assert (again.before, again.after, again.steps) == (first.before, first.after, 3)
    assert len(metrics(tmp_path / "run")) == 3


def test_other_versions_on_resume_are_told(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    path, file = make_recipe(train={"steps": 1}), tmp_path / "run" / "versions.json"
    run(path)
    display = Listening()
    run(path, resume=True, display=display)
    assert not any(line.startswith("other versions") for line in display.lines)
    older = json.loads(file.read_text())
    older["libraries"]["torch"] = "2.0.0"
    file.write_text(json.dumps(older))
    run(path, resume=True, display=display)
    assert [line for line in display.lines if line.startswith("other versions") and "libraries.torch" in line]
    assert json.loads(file.read_text()) == older, "it says what the run began with"


# -------------------------------------------------------------------------------- what happens to the process


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_resume(
    make_recipe: MakeRecipe, launch: Callable[..., Any], tmp_path: Path
) -> None:
    path = make_recipe(explore=["Slow"], train={"steps": 4, "checkpoint_every": 0})
    first = launch("train", path, interrupt_at="in step 2")
    text = " ".join(first.text.split())
    assert first.code == 130, text
    assert "finishing this step, then saving" in text
    assert "interrupted after step 2: the same command with --resume goes on from there" in text
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2]
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000002"]
    assert "after" not in json.loads((tmp_path / "run" / "eval.json").read_text())

    resumed = launch("train", path, "--resume")
    assert resumed.code == 0, resumed.text
    assert "resuming after step 2" in resumed.text
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3, 4]
    assert "after" in json.loads((tmp_path / "run" / "eval.json").read_text())


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (2_000, "cannot write to the run folder"),  # a step's record does not fit
        (40_000, "cannot write the checkpoint of step"),  # nor does a model
    ],
)
def test_a_full_disk_ends_the_run_clearly(
    limit: int, words: str, make_recipe: MakeRecipe, launch: Callable[..., Any], tmp_path: Path
) -> None:
    path = make_recipe(train={"steps": 2, "checkpoint_every": 1})
    first = launch("train", path, "train.steps=1")
    assert first.code == 0, first.text
    before = final_weights(tmp_path / "run")

    full = launch("train", path, "--resume", limit=limit)
    text = " ".join(full.text.split())
    assert full.code == 1, text
    assert words in text
    assert "File too large" in text
    assert "step-000001" in text, "the checkpoint from which it will go on"
    assert "Traceback" not in text
    assert final_weights(tmp_path / "run") == before

    after = launch("train", path, "--resume")
    assert after.code == 0, after.text
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2]


def test_a_folder_that_cannot_be_written(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        CallwrightError, match=r"cannot write to the run folder .*/file/run: Not a directory; make room"
    ):
        run(make_recipe(), f"run={tmp_path / 'file' / 'run'}")


def test_an_error_of_a_plugin_is_not_taken_for_a_full_disk(
    make_recipe: MakeRecipe, run: Run, tmp_path: Path, load: Load
) -> None:
    source = "class Source:\n    def load(self):\n        return open('/nowhere/at/all')\n"
    (tmp_path / "source.py").write_text(source)
    with pytest.raises(FileNotFoundError, match="/nowhere/at/all"):
        run(make_recipe(), f"data.source={{use: '{tmp_path / 'source.py'}:Source'}}")


def test_the_whole_loop_learns(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    run(make_recipe(train={"steps": 25, "group_size": 16, "learning_rate": 1e-2}))
    rewards = [line["reward"] for line in metrics(tmp_path / "run")]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3


def test_weights_of_a_run_are_a_model(make_recipe: MakeRecipe, run: Run, tmp_path: Path) -> None:
    from callwright.models import load_model

    run(make_recipe())
    loaded = load_model(str(tmp_path / "run"), device="cpu", dtype="float32")
    stored = load_file(tmp_path / "run" / "checkpoints" / "step-000003" / "model" / "model.safetensors")
    assert dict(loaded.model.named_parameters())["model.norm.weight"].equal(stored["model.norm.weight"])
