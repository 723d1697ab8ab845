"""The benchmarks run and write what they promise; how fast anything is, is no matter for a test."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytest.importorskip("trl", reason="the peer is not installed")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


step_worker, step = load("step_worker"), load("step")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="plain"),
        pytest.param(
            ["--kl", "--dtype", "bfloat16-autocast", "--shared-prefix", "40", "--rows-per-forward", "3"],
            id="kl",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_step_writes_finite_figures(tiny_model_folder: Callable[..., Path], tmp_path: Path, options: list[str]) -> None:
    file = tmp_path / "step.json"
    command = [sys.executable, str(BENCHMARKS / "step.py"), "--model", str(tiny_model_folder())]
    shape = ["--prompts", "2", "--group", "3", "--prompt-tokens", "60", "--max-new-tokens", "6"]
    done = subprocess.run(
        [*command, *shape, "--repeats", "1", "--json", str(file), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    names = {"cpu_ratio", "wall_ratio", "memory_ratio", "rollout_cpu_ratio", "update_cpu_ratio", "limit", "hook_share"}
    figures = {name: result[name] for name in names} | result["callwright"]
    figures |= {name: value for name, value in result["trl"].items() if not name.startswith("hook")}
    for name, value in figures.items():
        assert math.isfinite(value), f"{name} is {value}"
        assert value > 0, f"{name} is {value}"
    assert result["callwright"]["completion_tokens"] == result["trl"]["completion_tokens"] == 36
    assert result["hook_share"] < 1
    assert "padded path" not in done.stdout


@given(
    prompts=st.integers(1, 9),
    group=st.integers(2, 32),
    prompt=st.integers(1, 2048),
    new=st.integers(1, 256),
    kl=st.booleans(),
)
def test_the_limit_counts_every_prompt_once(prompts: int, group: int, prompt: int, new: int, kl: bool) -> None:
    setting = step_worker.Setting(
        model="",
        device="cpu",
        dtype="float32",
        prompts=prompts,
        group=group,
        prompt_tokens=prompt,
        shared_prefix=0,
        max_new_tokens=new,
        kl=0.1 * kl,
        steps=1,
        rows_per_forward=1,
        gradient_checkpointing=False,
    )
    assert step.limit(setting) == pytest.approx(group * (prompt + new) / (prompt + group * new))


def test_prompts_are_cut_to_length_and_differ_from_their_start(smol_tokenizer) -> None:
    options = step.parse(["--prompts", "6", "--prompt-tokens", "300", "--shared-prefix", "100"])
    prompts = step_worker.make_prompts(smol_tokenizer, step.setting_of(options))
    assert {len(prompt) for prompt in prompts} == {300}
    assert len(prompts) == 12
    assert len({tuple(prompt[:100]) for prompt in prompts}) == 1
    assert len({tuple(prompt[100:108]) for prompt in prompts}) == 12
