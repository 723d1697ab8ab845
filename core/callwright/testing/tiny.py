"""A tokenizer of bytes and random models of a few thousand weights: real architectures without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TINY_VOCABULARY = 259
"""256 bytes and three special tokens."""

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


def tiny_model(kind: str = "llama", seed: int = 0, **config: Any) -> PreTrainedModel:
    """A fresh random model for `tiny_tokenizer`, float32, CPU, evaluation mode; the global generator stays as it is.

    kind: llama, qwen2, qwen3, gemma2 or gemma3 (text). Further arguments change its config.
    """
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
