"""A run that is killed at any moment and resumed is the run that was never killed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callwright import checkpoint

Make = Callable[..., Path]
Launch = Callable[..., Any]

TRAIN = {"steps": 8, "checkpoint_every": 2, "kl": 0.05, "passes": 2, "learning_rate": 1e-2}


class Training:
    """`callwright train` in processes of its own."""

    def __init__(self, launch: Launch, recipe: Path, folder: Path) -> None:
        self.launch, self.recipe, self.folder = launch, recipe, folder

    def run(self, kill_after: float | None = None) -> Any:
        """Start or resume; kill it after so many seconds."""
        resume = ["--resume"] * (self.folder / "recipe.resolved.yaml").exists()
        return self.launch("train", self.recipe, f"run={self.folder}", *resume, kill_after=kill_after)

    def metrics(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        clocked = ("seconds", "tokens_per_second")
        return [{k: v for k, v in line.items() if not k.startswith(clocked)} for line in lines]

    def tensors(self) -> dict[str, bytes]:
        """All that a checkpoint holds in tensors: weights, optimizer, generators, reference."""
        newest = checkpoint.latest(self.folder / "checkpoints")
        assert newest is not None
        assert newest.name == "step-000008"
        return {str(p.relative_to(newest)): p.read_bytes() for p in newest.rglob("*.safetensors")}

    def state(self) -> dict[str, Any]:
        newest = checkpoint.latest(self.folder / "checkpoints")
        assert newest is not None
        state = json.loads((newest / "state.json").read_text())["state"]
        state["counters"].pop("seconds")
        return dict(state)


def check(recipe: Path, launch: Launch, tmp_path: Path, seed: int, rounds: int) -> None:
    print(f"seed {seed}")  # pytest shows it if the test fails
    chance = random.Random(seed)
    straight = Training(launch, recipe, tmp_path / "straight")
    ended = straight.run()
    assert ended.code == 0, ended.text
    metrics, tensors, state = straight.metrics(), straight.tensors(), straight.state()
    assert [line["step"] for line in metrics] == list(range(1, 9))

    landed = 0
    for _ in range(rounds):
        broken = Training(launch, recipe, tmp_path / "broken")
        shutil.rmtree(broken.folder, ignore_errors=True)
        for latest in (0.6, 0.8, 1.0, 1.0):
            found = broken.run(kill_after=chance.uniform(0.0, latest * ended.seconds))
            landed += found.code != 0
            if found.code == 0:
                break
            assert found.code == -9, found.text
        else:
            found = broken.run()
        assert found.code == 0, found.text
        assert broken.metrics() == metrics
        assert broken.tensors() == tensors
        assert broken.state() == state
        stored = sorted(p.name for p in (broken.folder / "rollouts").glob("*.parquet"))
        assert stored == [f"step-{n:06d}.parquet" for n in range(1, 9)]
    assert landed, "no kill came before the end"


def test_a_killed_run_ends_like_one_that_was_not(make_recipe: Make, launch: Launch, tmp_path: Path) -> None:
    recipe = make_recipe(explore=["Drift", "Refresh"], train=TRAIN)
    check(recipe, launch, tmp_path, seed=int.from_bytes(os.urandom(3)), rounds=2)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 4, "dropout": 0.1}])
@pytest.mark.parametrize("attempt", range(4))
def test_many_kills(make_recipe: Make, launch: Launch, tmp_path: Path, attempt: int, lora: Any) -> None:
    recipe = make_recipe(explore=["Drift"] if lora else ["Drift", "Refresh"], train=TRAIN)
    if lora:
        content = json.loads(recipe.read_text())
        content["model"]["lora"] = lora
        recipe.write_text(json.dumps(content))
    check(recipe, launch, tmp_path, seed=int.from_bytes(os.urandom(3)), rounds=5)


def test_a_kill_in_the_middle_of_a_checkpoint(make_recipe: Make, launch: Launch, tmp_path: Path) -> None:
    """What is half-written does not count, and does not stay."""
    recipe = make_recipe(explore=["Drift"], train={**TRAIN, "steps": 2})
    training = Training(launch, recipe, tmp_path / "broken")
    ended = training.run()
    assert ended.code == 0, ended.text
    checkpoints = training.folder / "checkpoints"
    half = checkpoints / ".new-step-000004"
    shutil.copytree(checkpoints / "step-000002", half)
    (half / "state.json").unlink()
    with (training.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "reward": 0.1}\n{"step": 4, "rew')
    (training.folder / "rollouts" / ".step-000004.parquet.new").write_text("half")
    (training.folder / "rollouts" / "step-000003.parquet").write_text("of a step that is done again")

    straight = Training(launch, recipe, tmp_path / "straight")
    for one in (training, straight):
        content = json.loads(recipe.read_text())
        content["train"]["steps"] = 4
        longer = recipe.with_name("longer.yaml")
        longer.write_text(json.dumps(content))
        one.recipe = longer
        ended = one.run()
        assert ended.code == 0, ended.text
    assert training.metrics() == straight.metrics()
    assert sorted(p.name for p in checkpoints.iterdir()) == ["step-000002", "step-000004"]
    for name in ("checkpoints/step-000004/model/model.safetensors", "checkpoints/step-000004/optimizer.safetensors"):
        assert (training.folder / name).read_bytes() == (straight.folder / name).read_bytes()
