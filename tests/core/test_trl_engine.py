"""The engine `trl` makes the same run as the local one: the same completions, numbers, weights and files."""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command_parser
from callwright import CallwrightError, checkpoint
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


def assert_same_numbers(one: Path, other: Path, tolerance: float = CLOSE) -> None:
    """Of all steps."""
    assert len(metrics(one)) == len(metrics(other)) > 0
    for ours, theirs in zip(metrics(one), metrics(other), strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance, nan_ok=True)


def assert_same(one: Path, other: Path, tolerance: float = CLOSE) -> None:
    """All numbers, all evaluations and all weights."""
    assert_same_numbers(one, other, tolerance)
    ours, theirs = (json.loads((run / "eval.json").read_text()) for run in (one, other))
    assert {**ours, "train_seconds": 0} == {**theirs, "train_seconds": 0}
    expected, found = weights(other), weights(one)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        # A tenth of a step of Adam's, whose first steps are as long for a gradient of 1e-9 as for one of 1.
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=RATE / 10)


def assert_engines_agree(path: Path, tmp_path: Path, *overrides: str) -> int:
    """Returns how many optimizer steps were compared."""
    (ours, our_steps), (theirs, their_steps) = (seen_run(path, tmp_path, engine, *overrides) for engine in ENGINES)
    assert_same(ours, theirs)
    for mine, other in zip(our_steps, their_steps, strict=True):
        torch.testing.assert_close(mine, other, rtol=CLOSE, atol=CLOSE)
    return len(our_steps)


ENGINES = ("local", "trl")


def seen_run(path: Path, folder: Path, engine: str, *overrides: str) -> tuple[Path, list[list[torch.Tensor]]]:
    """The run's folder, and its gradients."""
    with gradients_seen() as seen:
        return train(path, f"engine={engine}", f"run={folder / engine}", *overrides), seen


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
    """One update of each: what Adam makes of a gradient that is 0 but for rounding is the engines' own."""
    path, folder = make_recipe(train={**train_settings, "steps": 1}), tmp_path_factory.mktemp("runs")
    (ours, our_steps), (theirs, their_steps) = (seen_run(path, folder, engine, f"seed={seed}") for engine in ENGINES)
    assert_same_numbers(ours, theirs)
    for mine, other in zip(our_steps, their_steps, strict=True):
        torch.testing.assert_close(mine, other, rtol=CLOSE, atol=CLOSE)


# ------------------------------------------------------------------------------------------- several processes

WHOLE_STEP = [
    "novel_calls",  # counts calls over groups and steps
    {"use": "entropy_quantile", "share": 0.5},
    {"use": "clip_cov"},
    "dynamic_sampling",
    {"use": "temperature", "schedule": "adaptive", "start": 1.0, "target": 3.0},
]
"""Strategies that look at all of a group or of a step, some of them with a memory."""

SHARDED = {
    "fsdp2": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    },
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
    },
}
"""What `accelerate launch` says to its processes for the configurations in recipes/accelerate."""

KEEPS = {
    "fsdp2": "pytorch_model_fsdp_0",
    "zero2": "pytorch_model/zero_pp_rank_1_mp_rank_00_optim_states.pt",
    "zero3": "pytorch_model/zero_pp_rank_1_mp_rank_00_model_states.pt",
}
"""What a checkpoint has where each process wrote its part."""

ZERO = [pytest.param(name, id=name, marks=pytest.mark.deepspeed) for name in ("zero2", "zero3")]


def launch(path: Path, run: Path, *more: str, sharded: str | None = None) -> subprocess.Popen[str]:
    """Two processes, as a user starts them."""
    port = str(free_port())
    if sharded:
        start = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port, str(ON_CPUS)]
    else:
        # Not with --cpu: that starts one process, whatever their number.
        start = ["-m", "accelerate.commands.launch", "--config_file", str(DDP), "--num_processes", "2"]
        start += ["--main_process_port", port, "-m", "callwright"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (SHARDED[sharded] if sharded else {})
    return subprocess.Popen(
        [sys.executable, *start, "train", str(path), "engine=trl", f"run={run}", *more],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


ON_CPUS = Path(__file__).parent / "sharded_on_cpus.py"
DDP = Path(__file__).parents[2] / "recipes" / "accelerate" / "ddp.yaml"


def assert_two(run: Path) -> None:
    """Each process leaves its generators in a checkpoint."""
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    assert len(list((newest / "trainer").glob("random_states_*.pkl"))) == 2


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


@pytest.fixture
def whole_step(make_recipe: MakeRecipe) -> Path:
    """A recipe with strategies that must not see a process' slice only, and with all that a checkpoint has to keep."""
    path = make_recipe(train={"steps": 4, "passes": 2, "kl": 0.05, "prompts_per_step": 3, "refills": 2})
    content = json.loads(path.read_text())
    content["explore"] = WHOLE_STEP
    content["train"] |= {"checkpoint_every": 1, "evaluate_every": 2, "tokens_per_micro_batch": 120}
    path.write_text(json.dumps(content))
    return path


def test_two_processes_make_the_run_of_one(whole_step: Path, tmp_path: Path) -> None:
    """Copies of the model (DDP). The files are written once, and one process speaks."""
    said = finished(launch(whole_step, tmp_path / "two"))
    one = train(whole_step, f"run={tmp_path / 'one'}")
    assert_same(tmp_path / "two", one)
    assert {p.name for p in (tmp_path / "two").iterdir()} == {"report.html", *(p.name for p in one.iterdir())}
    rollouts = [sorted((run / "rollouts").iterdir()) for run in (tmp_path / "two", one)]
    for theirs, ours in zip(*rollouts, strict=True):
        exact = ["step", "task", "group", "completion", "token_ids", "segments", "reasons"]
        assert pq.read_table(theirs, columns=exact).equals(pq.read_table(ours, columns=exact))
    assert said.count("step 4/4") == said.count("run folder") == 1
    assert_two(tmp_path / "two")


@pytest.mark.parametrize("sharded", ["fsdp2", *ZERO])
def test_a_sharded_model_makes_the_run_of_one_process(whole_step: Path, tmp_path: Path, sharded: str) -> None:
    finished(launch(whole_step, tmp_path / "two", sharded=sharded))
    one = train(whole_step, f"run={tmp_path / 'one'}")
    assert_same(tmp_path / "two", one, tolerance=1e-4)
    newest = checkpoint.latest(tmp_path / "two" / "checkpoints")
    assert newest is not None
    assert (newest / "trainer" / KEEPS[sharded]).exists(), "the model was not sharded"


def test_fsdp_keeps_no_whole_gradient_between_parts(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """As `callwright plan` calculates."""
    (tmp_path / "looks.py").write_text(LOOKS)
    path = make_recipe(train={"steps": 1, "tokens_per_micro_batch": 40})
    content = json.loads(path.read_text())
    content["explore"] = [f"{tmp_path / 'looks.py'}:Looks"]
    path.write_text(json.dumps(content))
    finished(launch(path, tmp_path / "two", sharded="fsdp2"))
    for rank in "01":
        seen = [json.loads(line) for line in (tmp_path / f"seen-{rank}").read_text().splitlines()]
        assert len(seen) > 1, "one part only"
        assert all(parameters > 0 and whole == 0 for parameters, whole in seen)


LOOKS = """
import gc
import json
import os
from pathlib import Path

from callwright import hookimpl
from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

class Looks:
    @hookimpl
    def loss_terms(self, batch):
        found = [one for one in gc.get_objects() if type(one) is FSDPParam]
        whole = [one for one in found if one._unsharded_param.grad is not None]
        with Path(__file__).with_name(f"seen-{os.environ['RANK']}").open("a") as file:
            print(json.dumps([len(found), len(whole)]), file=file)
"""


SLOW = [pytest.param(moment, sharded, marks=pytest.mark.slow) for moment in (1, 2, 3) for sharded in (None, "fsdp2")]


@pytest.mark.parametrize(
    ("moment", "sharded"), [(1, None), *SLOW[1:], *(pytest.param(2, *one.values, marks=one.marks) for one in ZERO)]
)
def test_killed_and_resumed(whole_step: Path, tmp_path: Path, moment: int, sharded: str | None) -> None:
    """kill -9 of all processes, some time after the checkpoint of step `moment`."""
    run = tmp_path / "two"
    process = launch(whole_step, run, "train.steps=8", sharded=sharded)
    deadline = time.monotonic() + 200
    while not (run / "checkpoints" / f"step-{moment:06d}").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for one in processes_of(run):
        os.kill(one, signal.SIGKILL)
    process.communicate()
    finished(launch(whole_step, run, "train.steps=8", "--resume", sharded=sharded))
    one = train(whole_step, f"run={tmp_path / 'one'}", "train.steps=8")
    assert_same(run, one, tolerance=1e-4 if sharded else CLOSE)
    assert_two(run)


def test_plugins_draw_the_same_in_every_process(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Also where rewards, which are asked in one process only, draw from the same generators."""
    (tmp_path / "draws.py").write_text(DRAWS)
    path = make_recipe(train={"steps": 2})
    content = json.loads(path.read_text())
    content["rewards"]["use"].append(f"{tmp_path / 'draws.py'}:Dice")
    content["explore"] = [f"{tmp_path / 'draws.py'}:Noise"]
    path.write_text(json.dumps(content))
    finished(launch(path, tmp_path / "two"))
    first, second = ((tmp_path / f"draws-{rank}").read_text().splitlines() for rank in "01")
    assert first == second
    assert len(set(first)) == 2


DRAWS = """
import os
import random
from pathlib import Path

import numpy
import torch
from callwright import Verdict, hookimpl

class Dice:
    @hookimpl
    def score(self, rollouts):
        return [Verdict(random.random() * numpy.random.rand() * float(torch.rand(()))) for _ in rollouts.texts]

class Noise:
    @hookimpl
    def shape_rewards(self, rollouts):
        drawn = random.random(), numpy.random.rand(), float(torch.rand(()))
        with Path(__file__).with_name(f"draws-{os.environ['RANK']}").open("a") as file:
            print(*drawn, file=file)
"""


def processes_of(run: Path) -> list[int]:
    """Launchers start their processes in sessions of their own; all of them name the run's folder."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"run={run}".encode() in line.read_bytes().split(b"\0"):
                found.append(int(line.parent.name))
        except OSError:  # it has ended
            continue
    return found


# --------------------------------------------------------------------------------- what goes wrong, what is refused

BROKEN_PARTS = ("InfiniteLoss", "InfiniteLossInOne", "InfiniteGradient", "InfiniteReward", "NoAdvantage")


def test_processes_that_do_not_see_each_other_are_refused(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each would write the run's folder."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for engine, words in (("local", "write engine=trl"), ("trl", "accelerate sees 1")):
        with pytest.raises(CallwrightError, match=words):
            train(make_recipe(), f"engine={engine}", f"run={tmp_path / engine}")
        assert not (tmp_path / engine).exists()


def test_a_process_that_sees_several_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would copy the model to all of them in every step."""
    from callwright_trl.run import processes_of_the_launcher

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(CallwrightError, match=r"one process sees 2 GPUs.*accelerate launch.*CUDA_VISIBLE_DEVICES=0"):
        processes_of_the_launcher("auto")


@pytest.mark.parametrize(
    ("part", "sharded"),
    [
        ("InfiniteLoss", None),
        *(pytest.param(part, None, marks=pytest.mark.slow) for part in BROKEN_PARTS[1:]),
        *(pytest.param(part, "fsdp2", marks=pytest.mark.slow) for part in BROKEN_PARTS),
        *(pytest.param(part, *one.values, marks=one.marks) for part in BROKEN_PARTS for one in ZERO),
    ],
)
def test_several_processes_make_no_update_for_it(
    make_recipe: MakeRecipe, tmp_path: Path, part: str, sharded: str | None
) -> None:
    """DeepSpeed changes the weights before anybody is asked, but not for a gradient that is no number."""
    path = broken_recipe(make_recipe, tmp_path, part)
    said = finished(launch(path, tmp_path / "two", sharded=sharded))
    assert_same(tmp_path / "two", train(path, f"run={tmp_path / 'one'}"), tolerance=1e-4)
    assert said.count("the update is skipped") == (part != "NoAdvantage")


def broken_recipe(make_recipe: MakeRecipe, tmp_path: Path, part: str) -> Path:
    (tmp_path / "broken.py").write_text(BROKEN)
    path = make_recipe(train={"steps": 3, "tokens_per_micro_batch": 40})
    content = json.loads(path.read_text())
    content["explore"] = [f"{tmp_path / 'broken.py'}:{part}"]
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("sharded", ZERO)
@pytest.mark.parametrize("changes", ["schedule", "lora"])
def test_deepspeed_makes_the_run_of_one_process(
    make_recipe: MakeRecipe, tmp_path: Path, changes: str, sharded: str
) -> None:
    train_settings: dict[str, Any] = {"tokens_per_micro_batch": 40, "passes": 2}
    if changes == "schedule":
        train_settings |= {"schedule": "cosine", "warmup_steps": 1, "weight_decay": 0.1}
    path = make_recipe(train=train_settings | ({"kl": 0.1} if changes == "lora" else {}))
    if changes == "lora":
        content = json.loads(path.read_text())
        content["model"]["lora"] = {"rank": 2}
        path.write_text(json.dumps(content))
    finished(launch(path, tmp_path / "two", sharded=sharded))
    assert_same(tmp_path / "two", train(path, f"run={tmp_path / 'one'}"), tolerance=1e-4)


@pytest.mark.deepspeed
def test_parts_of_weights_that_cannot_be_saved_are_refused_before_the_first_step(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHARDED["zero3"], "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "false")
    process = launch(make_recipe(), tmp_path / "two", sharded="zero3")
    said, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "write `zero3_save_16bit_model: true` in accelerate's configuration" in said
    assert not (tmp_path / "two" / "metrics.jsonl").exists()


@pytest.mark.parametrize("part", ["InfiniteLoss", "InfiniteGradient"])
def test_no_update_for_what_is_no_number(make_recipe: MakeRecipe, tmp_path: Path, part: str) -> None:
    """As in the local engine: said, counted, and the weights stay."""
    path = broken_recipe(make_recipe, tmp_path, part)
    runs = [train(path, f"engine={engine}", f"run={tmp_path / engine}") for engine in ("local", "trl")]
    skipped = [[line.get("skipped_update", 0) for line in metrics(run)] for run in runs]
    assert skipped == [[0, 1, 0]] * 2
    for name, tensor in weights(runs[0]).items():
        torch.testing.assert_close(tensor, weights(runs[1])[name], rtol=0, atol=RATE / 10)


BROKEN = """
from callwright import hookimpl

class InfiniteLoss:
    @hookimpl
    def loss_terms(self, batch):
        if batch.rollouts.step == 1:
            return {"broken": (batch.logps * 1e30 * 1e30).sum() * 0.0}

class InfiniteLossInOne:
    # Of the first row, which one process has.
    @hookimpl
    def loss_terms(self, batch):
        if batch.rollouts.step == 1 and int(batch.rows[0]) == 0:
            return {"broken": (batch.logps * 1e30 * 1e30).sum() * 0.0}

class InfiniteGradient:
    # The loss is 0; the slope of the root there is not finite.
    @hookimpl
    def loss_terms(self, batch):
        if batch.rollouts.step == 1:
            return {"broken": (batch.logps * 0.0).abs().sqrt().sum()}

class InfiniteReward:
    @hookimpl
    def shape_rewards(self, rollouts):
        if rollouts.step == 1:
            return rollouts.total * float("inf")

class NoAdvantage:
    @hookimpl
    def advantages(self, rollouts):
        if rollouts.step == 1:
            return rollouts.total * 0.0
"""


def test_a_plugin_can_end_the_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ENDS)
    path = make_recipe(train={"steps": 9})
    content = json.loads(path.read_text())
    content["explore"] = [f"{tmp_path / 'ends.py'}:EndsAfterTwo"]
    path.write_text(json.dumps(content))
    runs = [train(path, f"engine={engine}", f"run={tmp_path / engine}") for engine in ("local", "trl")]
    assert_same(*runs)
    assert [len(metrics(run)) for run in runs] == [2, 2]


ENDS = """
from callwright import hookimpl

class EndsAfterTwo:
    @hookimpl
    def step_ended(self, step, control):
        if step == 1:
            control.stop("enough")
"""


def test_what_is_overridden_is_still_there() -> None:
    """TRL and transformers may change what is not public: then this says what."""
    from callwright_trl.trainer import OVERRIDDEN, CallwrightTrainer
    from transformers import Trainer
    from trl import GRPOTrainer

    own = {name for name, value in vars(CallwrightTrainer).items() if callable(value) or isinstance(value, bool)}
    private = {name for name in own if name.startswith("_") and not name.startswith("__")}
    inherited = {name for name in private if hasattr(GRPOTrainer, name)}
    assert inherited == {*OVERRIDDEN}
    for name in OVERRIDDEN:
        parameters = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)
        assert len(parameters) == len(inspect.signature(getattr(CallwrightTrainer, name)).parameters), (
            f"TRL's {name} takes {parameters} now"
        )
    body = inspect.getsource(Trainer.training_step)
    assert "self._prepare_inputs(inputs)" in body, "transformers no longer asks _prepare_inputs for a part's inputs"
    assert GRPOTrainer.loss_is_scaled_for_ga is True, "TRL scales the loss over accumulated parts in another way now"


@pytest.mark.parametrize(
    ("installed", "words"),
    [("0.29.1", "0.29.1 is installed"), ("1.17.0", "1.17.0 is installed"), (None, "not installed")],
)
def test_another_trl_is_refused(monkeypatch: pytest.MonkeyPatch, installed: str | None, words: str) -> None:
    from callwright_trl import engine

    def version(_: str) -> str:
        if installed is None:
            raise engine.PackageNotFoundError
        return installed

    monkeypatch.setattr(engine, "version", version)
    with pytest.raises(CallwrightError, match=words) as error:
        engine.require_trl()
    assert "pip install" in str(error.value)


def test_the_oldest_trl_makes_the_same_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """The newest one is what all other tests run."""
    oldest = ROOT / ".venvs" / "trl-1.0.0"
    assert (oldest / "trl").is_dir(), f"{oldest} is missing: run `make test`, which makes it"
    path = make_recipe(train={"passes": 2, "kl": 0.1, "tokens_per_micro_batch": 60})
    command = [sys.executable, "-c", OLDEST, "train", str(path), "engine=trl", f"run={tmp_path / 'trl'}"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(oldest)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "trl", train(path, f"run={tmp_path / 'local'}"))


OLDEST = """
import trl
from callwright.cli import main
assert trl.__version__ == "1.0.0", trl.__version__
main()
"""


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2", "zero3"])
def test_accelerates_configurations_are_valid(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    path = ROOT / "recipes" / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.num_processes == 8
    assert f"--config_file {path.relative_to(ROOT)} -m callwright train" in path.read_text()
    known = set(launch_command_parser().parse_args(["x"]).__dict__)
    named = yaml.safe_load(path.read_text())
    for key in [*named.get("fsdp_config", {}), *named.get("deepspeed_config", {})]:
        assert key in known, f"accelerate launch knows no {key}"
