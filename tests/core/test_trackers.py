"""Trackers: every step reaches each of them once, whatever fails or is killed in between."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from accelerate.logging import get_logger
from accelerate.tracking import GeneralTracker
from callwright.recipe import RecipeError, build, check, load_recipe
from callwright.run import train
from callwright.trackers import sending
from callwright.trackers.plugins import (
    AnyOfAccelerate,
    MLflow,
    NamedTracker,
    Opening,
    TensorBoard,
    Trackio,
    Wandb,
    flat,
    loggable,
)
from callwright.trackers.sending import Trackers
from callwright.types import CallwrightError
from hypothesis import given, settings
from hypothesis import strategies as st

LINES = '''
    import json
    from dataclasses import dataclass
    from pathlib import Path

    from accelerate.tracking import GeneralTracker


    class LinesTracker(GeneralTracker):
        """A tracker as users write one for accelerate: a line for each step."""

        name, requires_logging_directory, tracker = "lines", False, None

        def __init__(self, path):
            super().__init__()
            self.path = path

        def store_init_configuration(self, values):
            self.write({"config": values})

        def log(self, values, step=None, **_):
            self.write({"step": step, **values})

        def write(self, line):
            with self.path.open("a") as file:
                file.write(json.dumps(line) + chr(10))


    @dataclass
    class Lines:
        """Lines of JSON in the run's folder."""

        to: str = "lines.jsonl"

        def open(self, opening):
            opening.kept["to"] = self.to
            return LinesTracker(opening.folder / self.to)

        def newest_step(self, tracker, opening):
            steps = [line["step"] for line in map(json.loads, tracker.path.read_text().splitlines()) if "step" in line]
            return max(steps, default=None)


    @dataclass
    class Broken:
        """Reaches nobody."""

        def open(self, opening):
            raise ConnectionError("no network")
'''


class Server(GeneralTracker):
    """A tracker whose runs outlive the process, and that fails when `failing` says so."""

    name, requires_logging_directory, tracker = "server", False, None

    def __init__(self, points: list[tuple[int, float]], failing: Callable[[], bool]) -> None:
        super().__init__()
        self.points, self.failing, self.configured = points, failing, 0

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        if self.failing():
            raise OSError("disk full")
        self.points.append((int(step or 0), values["reward"]))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        if self.failing():
            raise OSError("disk full")
        self.points.append((-1, 0.0))


@dataclasses.dataclass
class ServerPlugin:
    points: list[tuple[int, float]]
    failing: Callable[[], bool]
    knows: bool
    """It can say what it has."""

    def open(self, opening: Opening) -> Server:
        if self.failing():
            raise ConnectionError("no network")
        opening.kept["run"] = "r"
        return Server(self.points, self.failing)

    def newest_step(self, tracker: Server, opening: Opening) -> int | None:
        return max((step for step, _ in self.points), default=None) if self.knows else None


@settings(max_examples=50)
@given(
    failures=st.lists(st.booleans(), max_size=30),
    kills=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=4),
    knows=st.booleans(),
)
def test_every_step_arrives_once_whatever_fails_and_is_killed(failures, kills, knows, tmp_path_factory):
    """`failures`: whether the tracker's next calls fail. `kills`: after so many steps, with a checkpoint so many steps
    before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "LONGEST_PAUSE", 3)
        every_step_arrives_once(failures, kills, knows, tmp_path_factory)


def every_step_arrives_once(failures, kills, knows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    points: list[tuple[int, float]] = []
    script = iter(failures)
    plugin = ServerPlugin(points, lambda: next(script, False), knows)
    warnings: list[str] = []

    def opened(done: int) -> Trackers:
        trackers = Trackers(folder, [NamedTracker("server", plugin)], {"a": 1}, warnings.append)
        trackers.start(done)
        return trackers

    def keep(steps: int) -> None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "reward": s}) + "\n" for s in steps))

    done = highest = 0
    trackers = opened(0)
    for more, lost in kills:
        for _ in range(more):
            done += 1
            highest = max(highest, done)
            keep(range(1, done + 1))
            trackers.log(done, {"reward": float(done), "odd": None})
        done = max(0, done - lost)
        keep(range(1, done + 1))
        trackers = opened(done)
    script = iter([])  # all is well again
    for step in range(done + 1, highest + 8):
        trackers.log(step, {"reward": float(step)})
    trackers.finish()
    steps = [step for step, _ in points if step >= 0]
    assert steps == list(range(1, highest + 8)), "one point a step, in order"
    assert all(reward == step for step, reward in points if step >= 0)
    assert sum(step == -1 for step, _ in points) == 1, "the recipe once"
    assert not [text for text in warnings if "lacks" in text]


def test_trackers_of_accelerate_find_its_state(tmp_path):
    """Without it, its trackers of W&B and trackio fail."""
    PartialState._reset_state()
    trackers = Trackers(tmp_path, [NamedTracker("server", ServerPlugin([], lambda: False, True))], {}, pytest.fail)
    trackers.start(0)
    assert PartialState._shared_state
    get_logger(__name__).debug("as WandBTracker.start does")


def test_a_tracker_that_never_answers_costs_one_warning_and_a_count(tmp_path):
    asked = []

    def failing() -> bool:
        asked.append(1)
        return True

    warnings: list[str] = []
    plugins = [NamedTracker("server", ServerPlugin([], failing, True))]
    trackers = Trackers(tmp_path, plugins, {}, warnings.append)
    trackers.start(0)
    for step in range(1, 501):
        trackers.log(step, {"reward": 1.0})
    trackers.finish()
    assert len(warnings) == 2
    assert "no network" in warnings[0]
    assert "lacks 500 steps" in warnings[1]
    assert len(asked) < 20, "it is asked less and less often"


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
)


@given(NESTED)
def test_a_config_is_flat_and_loses_only_nulls(values):
    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        if isinstance(value, list):
            return [leaf for inner in value for leaf in leaves(inner)]
        return [] if value is None else [value]

    assert list(flat(values).values()) == leaves(values)


def test_names_have_letters_that_every_tracker_takes():
    assert loggable("reward/./mine.py:Polite") == "reward/mine.py_Polite"
    assert loggable("seconds/plugin/ast_match") == "seconds/plugin/ast_match"


# --------------------------------------------------------------------------------------------------- in a recipe


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.py"
    path.write_text(textwrap.dedent(LINES))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_reaches_its_trackers_and_a_broken_one_changes_nothing(make_recipe, load, lines, tmp_path):
    from callwright.display import SilentDisplay

    heard: list[str] = []

    class Heard(SilentDisplay):
        def warn(self, text: str) -> None:
            heard.append(text)

    path = make_recipe(trackers=[f"{lines}:Lines", {"use": f"{lines}:Lines", "to": "b.jsonl"}, f"{lines}:Broken"])
    train(*load(path), Heard(), resume=False)
    config, before, *steps = read(tmp_path / "run/lines.jsonl")
    assert config["config"]["train.steps"] == 3
    assert config["config"]["trackers.1.to"] == "b.jsonl"
    assert before.keys() == {"step", "held_out/accuracy"}
    assert before["step"] == 0
    after = steps.pop()
    recorded = read(tmp_path / "run/metrics.jsonl")
    assert steps == [{key: v for key, v in line.items() if v is not None} for line in recorded]
    assert after["step"] == 3
    assert "held_out/accuracy" in after
    assert len(read(tmp_path / "run/b.jsonl")) == 6
    assert sum("Broken" in text for text in heard) == 2
    assert "trackers" not in (tmp_path / "run/versions.json").read_text()


@pytest.mark.slow
def test_killed_and_resumed_the_curve_is_that_of_the_run(make_recipe, launch, lines, tmp_path):
    train_settings = {"steps": 5, "checkpoint_every": 2}
    path = make_recipe(trackers=[f"{lines}:Lines"], train=train_settings, explore=["Slow"])
    ended = launch("train", path, kill_after=1.9)
    assert ended.code == -9
    assert (tmp_path / "run/lines.jsonl").exists()
    ended = launch("train", path, "--resume")
    assert ended.code == 0, ended.text
    config, *lines_ = read(tmp_path / "run/lines.jsonl")
    assert "config" in config
    steps = [line for line in lines_ if "reward" in line]
    assert [line["step"] for line in steps] == list(range(1, 6))
    recorded = read(tmp_path / "run/metrics.jsonl")
    assert [line["reward"] for line in steps] == [line["reward"] for line in recorded]


def test_trackers_may_change_when_a_run_goes_on(make_recipe, load, lines, tmp_path):
    from callwright.display import SilentDisplay

    train(*load(make_recipe(train={"steps": 2})), SilentDisplay(), resume=False)
    path = make_recipe(train={"steps": 4}, trackers=[f"{lines}:Lines"])
    train(*load(path), SilentDisplay(), resume=True)
    steps = [line["step"] for line in read(tmp_path / "run/lines.jsonl") if "reward" in line]
    assert steps == [1, 2, 3, 4], "what was before it came along, too"


def test_mistakes_name_their_place_and_repair(make_recipe, lines, monkeypatch):
    wanted = ["tensorbord", {"use": "trackio", "porject": "x"}, {"use": "accelerate", "tracker": "swanlap"}]
    wanted += [{"use": "wandb", "mode": "of"}, f"{lines}:LinesTracker"]
    found = {mistake.place: str(mistake) for mistake in check(make_recipe(trackers=wanted))}
    assert "did you mean 'tensorboard'?" in found["trackers.0.use"]
    assert "unknown option; did you mean 'project'?" in found["trackers.1.porject"]
    assert "did you mean 'swanlab'?" in found["trackers.2"]
    assert "offline" in found["trackers.3.mode"]
    assert "trackers.4" in found


def test_a_missing_package_is_named_with_its_pip_command_where_it_is_needed(make_recipe, load, monkeypatch):
    from callwright.display import SilentDisplay
    from callwright.trackers import plugins

    monkeypatch.setattr(plugins.importlib.util, "find_spec", lambda name: None)
    path = make_recipe(trackers=["mlflow"])
    (mistake,) = check(path)
    assert mistake.place == "trackers.0.use"
    assert mistake.repair == "run pip install mlflow"
    build(load_recipe(path))  # what only reads a run needs no tracker
    with pytest.raises(RecipeError, match="pip install mlflow"):
        train(*load(path), SilentDisplay(), resume=False)


def test_plugins_that_are_listed_open_as_they_say():
    assert {cls.package for cls in (TensorBoard, Wandb, Trackio, MLflow)} == {
        "tensorboard",
        "wandb",
        "trackio",
        "mlflow",
    }
    assert AnyOfAccelerate("comet_ml").package == "comet-ml"
    with pytest.raises((ValueError, CallwrightError), match="swanlab"):
        AnyOfAccelerate("swan")
