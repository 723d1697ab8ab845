"""`model.liger`: a run with Liger's kernels is the run without them. `make test-liger` runs these without a GPU."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from callwright import CallwrightError, checkpoint
from callwright.display import SilentDisplay
from callwright.models import load_model
from callwright.recipe import build, load_recipe
from safetensors.torch import load_file

RATE = 1e-3


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What triton's interpreter lacks: numbers that are no integers, as arguments, and `rsqrt` of CUDA's library."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    others = interpreter._implicit_cvt

    def convert(argument: Any) -> Any:
        if isinstance(argument, float):
            handle = interpreter.TensorHandle(np.array([argument], dtype=np.float32), tl.float32)
            return tl.tensor(handle, tl.float32)
        return others(argument)

    monkeypatch.setattr(interpreter, "_implicit_cvt", convert)
    kernels = importlib.import_module("liger_kernel.ops.rms_norm")
    monkeypatch.setattr(kernels, "rsqrt", lambda x: 1.0 / tl.sqrt(x))


def run_of(path: Path, folder: Path, *overrides: str) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    recipe = load_recipe(path, [f"run={folder}", *overrides])
    components = build(recipe)
    components.engine.train(recipe, components, SilentDisplay(), False)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    newest = checkpoint.latest(folder / "checkpoints")
    assert newest is not None
    weights = {name: tensor for file in newest.glob("*/*model.safetensors") for name, tensor in load_file(file).items()}
    clocked = ("seconds", "tokens_per_second")
    return [{name: value for name, value in line.items() if not name.startswith(clocked)} for line in lines], weights


@pytest.mark.liger
@pytest.mark.parametrize(
    ("engine", "model"), [("local", {}), ("local", {"lora": {"rank": 2}}), ("trl", {"gradient_checkpointing": True})]
)
def test_the_same_run(
    make_recipe: Callable[..., Path], tmp_path: Path, interpreted: None, model: dict[str, Any], engine: str
) -> None:
    # The interpreter takes its time: few tokens.
    path = make_recipe(train={"kl": 0.1, "steps": 2, "prompts_per_step": 1, "max_new_tokens": 3}, rows=8)
    content = json.loads(path.read_text())
    content["model"] |= model
    path.write_text(json.dumps(content))
    plain, plain_weights = run_of(path, tmp_path / "plain", f"engine={engine}")
    liger, liger_weights = run_of(path, tmp_path / "liger", f"engine={engine}", "model.liger=true")
    assert len(plain) == len(liger) > 0
    for ours, theirs in zip(liger, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4, nan_ok=True)
    assert liger_weights.keys() == plain_weights.keys() != set()
    for name, tensor in liger_weights.items():
        torch.testing.assert_close(tensor, plain_weights[name], rtol=0, atol=RATE / 10)


@pytest.mark.liger
def test_the_kernels_are_in_the_model(tiny_model_folder: Callable[..., Path], interpreted: None) -> None:
    model = load_model(str(tiny_model_folder()), device="cpu", liger=True).model
    forwards = [module.forward.__func__.__qualname__ for module in model.modules() if hasattr(module, "weight")]
    assert "LigerRMSNorm.forward" in forwards
    assert model.get_submodule("model.layers.0.mlp").forward.__func__.__qualname__ == "LigerSwiGLUMLP.forward"


@pytest.mark.liger
def test_a_model_on_a_cpu_is_refused(tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(CallwrightError, match=r"model\.liger needs a GPU, and the model is on the CPU"):
        load_model(str(tiny_model_folder()), device="cpu", liger=True)


def test_without_liger_it_says_what_to_install(
    tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_liger_kernel_available", lambda: False)
    with pytest.raises(CallwrightError, match="pip install liger-kernel"):
        load_model(str(tiny_model_folder()), device="cpu", liger=True)
