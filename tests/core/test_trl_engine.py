"""The engine `trl` makes the same run as the local one: the same completions, numbers, weights and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from callwright import checkpoint
from callwright.display import SilentDisplay
from callwright.recipe import build, load_recipe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

ROOT = Path(__file__).parents[2]
LAB = sorted((ROOT / "recipes" / "lab").glob("*.yaml"))
CLOCKED = ("seconds", "tokens_per_second")
CLOSE = 1e-5
RATE = 1e-3
"""The learning rate of the recipes here."""

MakeRecipe = Callable[..., Path]


def train(path: Path, *overrides: str, resume: bool = False) -> Path:
    recipe = load_recipe(path, overrides)
    components = build(recipe)
    components.engine.train(recipe, components, SilentDisplay(), resume)
    return Path(recipe.run)


@contextmanager
def gradients_seen() -> Iterator[list[list[torch.Tensor]]]:
    """The clipped gradients of every optimizer step within this, whoever makes it."""
    seen: list[list[torch.Tensor]] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found = [p.grad.clone() for p in sorted(parameters, key=lambda p: p.shape) if p.grad is not None]
        if found:  # a step of which nothing is to be learned is no step
            seen.append(found)

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(CLOCKED)} for line in lines]


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    folder = newest / ("adapter" if (newest / "adapter").exists() else "model")
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_same(one: Path, other: Path, tolerance: float = CLOSE) -> None:
    """All numbers, all evaluations and all weights."""
    assert len(metrics(one)) == len(metrics(other)) > 0
    for ours, theirs in zip(metrics(one), metrics(other), strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance, nan_ok=True)
    ours, theirs = (json.loads((run / "eval.json").read_text()) for run in (one, other))
    assert {**ours, "train_seconds": 0} == {**theirs, "train_seconds": 0}
    expected, found = weights(other), weights(one)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        # A tenth of a step of Adam's, whose first steps are as long for a gradient of 1e-9 as for one of 1.
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=RATE / 10)


def assert_engines_agree(path: Path, tmp_path: Path, *overrides: str) -> int:
    """Returns how many optimizer steps were compared."""
    runs, steps = [], []
    for engine in ("local", "trl"):
        with gradients_seen() as seen:
            runs.append(train(path, f"engine={engine}", f"run={tmp_path / engine}", *overrides))
        steps.append(seen)
    assert_same(*runs)
    assert len(steps[0]) == len(steps[1])
    for ours, theirs in zip(*steps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=CLOSE, atol=CLOSE)
    return len(steps[0])


# ------------------------------------------------------------------------------------------------- one process


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train": {"passes": 3, "kl": 0.1}},
        {"train": {"tokens_per_micro_batch": 40, "aggregation": "sequence"}},
        {"train": {"schedule": "cosine", "warmup_steps": 1, "weight_decay": 0.1, "advantage_scale": "batch"}},
        {"model": {"packing": "padded"}, "train": {"tokens_per_micro_batch": 80}},
        {"model": {"gradient_checkpointing": True}},
        {"model": {"lora": {"rank": 2}}, "train": {"kl": 0.1}},
        {"model": {"precision": "bfloat16"}},
    ],
    ids=["plain", "passes", "parts", "schedule", "padded", "checkpointing", "lora", "bfloat16"],
)
def test_the_same_run(changes: dict[str, Any], make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = make_recipe(train=changes.get("train"))
    content = json.loads(path.read_text())
    content["model"] |= changes.get("model", {})
    path.write_text(json.dumps(content))
    assert assert_engines_agree(path, tmp_path) > 0


@pytest.mark.parametrize("lab", LAB, ids=lambda path: path.stem)
def test_the_same_run_for_every_arm_of_the_laboratory(lab: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Its strategies and what it says of training, on a tiny model that writes few tokens."""
    arm = load_recipe(lab)
    path = make_recipe(train={"passes": arm.train.passes, "refills": arm.train.refills, "kl": arm.train.kl})
    content = json.loads(path.read_text())
    content["explore"] = arm.model_dump(mode="json")["explore"]
    path.write_text(json.dumps(content))
    assert assert_engines_agree(path, tmp_path, f"train.temperature={arm.train.temperature}") > 0


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {
            "prompts_per_step": st.integers(1, 3),
            "group_size": st.integers(2, 4),
            "max_new_tokens": st.integers(1, 7),
            "passes": st.integers(1, 2),
            "aggregation": st.sampled_from(["token", "sequence", "constant"]),
            "advantage_scale": st.sampled_from(["group", "batch", "none"]),
            "tokens_per_micro_batch": st.sampled_from([30, 100, 16384]),
            "kl": st.sampled_from([0.0, 0.05]),
            "temperature": st.sampled_from([0.5, 1.0, 1.7]),
        }
    ),
    st.integers(0, 2**20),
)
def test_the_same_run_for_any_batch(
    make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory, train_settings: dict[str, Any], seed: int
) -> None:
    path = make_recipe(train={**train_settings, "steps": 2})
    assert_engines_agree(path, tmp_path_factory.mktemp("runs"), f"seed={seed}")
