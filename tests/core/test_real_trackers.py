"""Runs that are killed and resumed, read back from the trackers themselves: `make test-trackers` runs these."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("tensorboard", "mlflow", "trackio")), reason="needs make test-trackers"
)

STEPS = 7
Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture
def command(make_recipe, tmp_path, monkeypatch):
    """The command line of a run of seven half seconds with all three trackers."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trackers = ["tensorboard", "trackio", {"use": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}]
    settings = {"steps": STEPS, "checkpoint_every": 2}
    path = make_recipe(trackers=trackers, train=settings, explore=["Slow"])
    return [sys.executable, "-m", "callwright", "train", str(path)]


def metrics_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def killed_after(command: list[str], run: Path, steps: int) -> None:
    """Start the run, and kill it with SIGKILL when so many steps are recorded."""
    with (run.parent / "screen.txt").open("w") as screen:
        process = subprocess.Popen(command, stdout=screen, stderr=subprocess.STDOUT)
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if (run / "metrics.jsonl").exists() and len(metrics_of(run)) >= steps:
                break
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -9, (run.parent / "screen.txt").read_text()


def tensorboard_curves(run: Path) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def mlflow_curves(folder: Path) -> Curves:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "callwright"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "run"
    assert found.info.status == "FINISHED"
    assert found.data.params["train.steps"] == str(STEPS)
    assert found.data.params["rewards.combine"] == "sum"
    history = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    return {name: [(point.step, point.value) for point in points] for name, points in history.items()}


def trackio_curves() -> Curves:
    """In a process of its own: trackio reads TRACKIO_DIR when it is loaded."""
    script = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as s; (run,) = s.get_runs('callwright');"
        "assert s.get_run_config('callwright', run)['train.steps'] == 7;"
        "print(json.dumps(s.get_logs('callwright', run)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    curves: Curves = defaultdict(list)
    for line in json.loads(done.stdout):
        step = line.pop("step")
        for name, value in line.items():
            if isinstance(value, int | float):
                curves[name].append((step, value))
    return dict(curves)


@pytest.mark.slow
def test_a_run_that_was_killed_twice_is_one_curve_in_every_tracker(command, tmp_path):
    run = tmp_path / "run"
    killed_after(command, run, 3)  # a checkpoint is behind step 2
    killed_after([*command, "--resume"], run, 5)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: tracker" not in done.stdout
    recorded = metrics_of(run)
    held_out = json.loads((run / "eval.json").read_text())
    for curves in (tensorboard_curves(run), mlflow_curves(tmp_path), trackio_curves()):
        assert [step for step, _ in curves["reward"]] == list(range(1, STEPS + 1))
        for name in ("reward", "entropy", "loss", "completion_length", "reward/Letters"):
            expected = [line.get(name) for line in recorded]
            assert [value for _, value in curves[name]] == pytest.approx(expected, rel=1e-6), name
        accuracy = [(0, held_out["before"]["accuracy"]), (STEPS, held_out["after"]["accuracy"])]
        assert curves["held_out/accuracy"] == accuracy
        assert {name for line in recorded for name in line if name != "step"} <= curves.keys()


@pytest.mark.slow
def test_a_server_that_nobody_answers_for_does_not_stop_a_run(make_recipe, tmp_path):
    trackers = [{"use": "mlflow", "tracking_uri": "http://127.0.0.1:9"}]
    path = make_recipe(trackers=trackers)
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    command = [sys.executable, "-m", "callwright", "train", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert text.count("tracker 'mlflow' fails, and the run goes on without it") == 1
    assert "tracker 'mlflow' lacks 5 steps" in text  # three, and the evaluations before and after
    assert len(metrics_of(tmp_path / "run")) == 3
