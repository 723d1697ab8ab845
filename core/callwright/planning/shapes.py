"""Sizes of decoder-only language models: counts that follow from a model's config, and well-known configs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from callwright.locate import resolve
from callwright.planning.gguf_header import GgufError, gguf_config
from callwright.types import CallwrightError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""The `model_type`s whose layers are as described here."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model of the Llama family: RMSNorm, rotary positions, grouped attention, a gated MLP, nothing shared but
    perhaps embedding and output head."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """Embedding and output head are one matrix."""
    qkv_bias: bool = False
    output_bias: bool = False
    """Of the attention."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """Queries and keys are normalised head by head, as in Qwen3."""

    @property
    def query_width(self) -> int:
        """Numbers in the queries of one token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Numbers in the keys of one token, and as many in its values."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[tuple[int, int, bool], ...]:
        """(inputs, outputs, has a bias) of a layer's matrices: query, key, value, output, gate, up, down."""
        d, q, kv, f = self.hidden, self.query_width, self.kv_width, self.intermediate
        attention = ((d, q, self.qkv_bias), (d, kv, self.qkv_bias), (d, kv, self.qkv_bias), (q, d, self.output_bias))
        return (*attention, (d, f, self.mlp_bias), (d, f, self.mlp_bias), (f, d, self.mlp_bias))

    @property
    def layer_products(self) -> int:
        """Weights of one layer that are factors of a matrix product."""
        return sum(inputs * outputs for inputs, outputs, _ in self.linears)

    @property
    def products(self) -> int:
        """The same of all layers, without the output head."""
        return self.layers * self.layer_products

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """All weights of one layer: matrices, biases, two norms, and norms of queries and keys."""
        biases = sum(outputs for _, outputs, has_bias in self.linears if has_bias)
        return self.layer_products + biases + 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)

    @property
    def parameters(self) -> int:
        """All weights; a matrix that is embedding and head counts once."""
        return self.layers * self.layer_parameters + self.head * (1 if self.tied else 2) + self.hidden

    def adapter_parameters(self, rank: int) -> int:
        """Weights of a LoRA adapter on all linear layers: rank times inputs plus outputs of each (arXiv 2106.09685)."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs, _ in self.linears)

    def cache_numbers(self) -> int:
        """Numbers that one token has in the cache: keys and values of every layer."""
        return 2 * self.layers * self.kv_width


def _family(
    qk_norm: bool, qkv_bias: bool, rows: Mapping[str, tuple[int, int, int, int, int, int, int, bool]]
) -> dict[str, ModelShape]:
    return {name: ModelShape(name, *row, qkv_bias=qkv_bias, qk_norm=qk_norm) for name, row in rows.items()}


# From each model's published config.json: layers, hidden, intermediate, heads, KV heads, head dimension, vocabulary,
# tied.
SHAPES: dict[str, ModelShape] = {
    **_family(
        False,
        True,
        {
            "qwen2.5-0.5b": (24, 896, 4864, 14, 2, 64, 151936, True),
            "qwen2.5-1.5b": (28, 1536, 8960, 12, 2, 128, 151936, True),
            "qwen2.5-3b": (36, 2048, 11008, 16, 2, 128, 151936, True),
            "qwen2.5-7b": (28, 3584, 18944, 28, 4, 128, 152064, False),
            "qwen2.5-14b": (48, 5120, 13824, 40, 8, 128, 152064, False),
            "qwen2.5-32b": (64, 5120, 27648, 40, 8, 128, 152064, False),
        },
    ),
    **_family(
        True,
        False,
        {
            "qwen3-0.6b": (28, 1024, 3072, 16, 8, 128, 151936, True),
            "qwen3-1.7b": (28, 2048, 6144, 16, 8, 128, 151936, True),
            "qwen3-4b": (36, 2560, 9728, 32, 8, 128, 151936, True),
            "qwen3-8b": (36, 4096, 12288, 32, 8, 128, 151936, False),
            "qwen3-14b": (40, 5120, 17408, 40, 8, 128, 151936, False),
            "qwen3-32b": (64, 5120, 25600, 64, 8, 128, 151936, False),
        },
    ),
    **_family(
        False,
        False,
        {
            "llama-3.2-1b": (16, 2048, 8192, 32, 8, 64, 128256, True),
            "llama-3.2-3b": (28, 3072, 8192, 24, 8, 128, 128256, True),
            "llama-3.1-8b": (32, 4096, 14336, 32, 8, 128, 128256, False),
            "smollm2-135m": (30, 576, 1536, 9, 3, 64, 49152, True),
            "smollm2-360m": (32, 960, 2560, 15, 5, 64, 49152, True),
            "smollm2-1.7b": (24, 2048, 8192, 32, 32, 64, 49152, True),
        },
    ),
}

_OF_THE_SAME_SHAPE = re.compile(r"-(instruct|coder|math|base|chat|it|meta|thinking|2507|hf)(?=-|$)|^meta-|^hf-")
"""Parts of a hub name that say how a model was trained, and not how large it is."""
_ALIASES = {"llama-3-8b": "llama-3.1-8b"}


def known_shape(name: str) -> ModelShape | None:
    """The shape of a model by its hub name, such as Qwen/Qwen2.5-Coder-7B-Instruct; None if it is in no table."""
    plain = _OF_THE_SAME_SHAPE.sub("", name.rpartition("/")[2].lower())
    return SHAPES.get(_ALIASES.get(plain, plain))


def shape_of(name: str, wanted: str | None = None) -> ModelShape:
    """The shape of the model that a recipe names.

    wanted: what `--model-shape` says: a name of `SHAPES`, or a config.json. Otherwise the config is read where the
    model is: in its folder, GGUF file or the hub's cache; nothing is downloaded. Then `SHAPES` is asked.

    Raises CallwrightError if nothing says what shape the model has.
    """
    if wanted is not None:
        if Path(wanted).is_file():
            return _read(Path(wanted), "--model-shape")
        if (shape := known_shape(wanted)) is None:
            raise CallwrightError(f"--model-shape '{wanted}': there is no such file or known shape; {_near(wanted)}")
        return shape
    try:
        found = resolve(name)
    except CallwrightError as error:
        raise CallwrightError(f"{error}; or say how large it is: --model-shape {_near(name)}") from error
    if isinstance(found, Path):
        return _of_path(found, name)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return _read(Path(cached), f"model '{name}'")
    if (shape := known_shape(name)) is None:
        raise CallwrightError(
            f"model '{name}': its config is not on this machine, and its shape is in no table; write --model-shape with"
            f" a config.json or the name of a known shape; {_near(name)}"
        )
    return shape


def _near(name: str) -> str:
    close = get_close_matches(name.rpartition("/")[2].lower(), SHAPES, n=3, cutoff=0.5)
    return ", ".join(close or SHAPES)


def _of_path(path: Path, name: str) -> ModelShape:
    where = f"model '{name}'"
    if path.is_file():
        try:
            return shape_from_config(gguf_config(path), where)
        except GgufError as error:
            raise CallwrightError(f"{where}: {error}; write --model-shape with the name of a known shape") from error
    adapter = path / "adapter_config.json"
    if adapter.is_file():
        return shape_of(str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]))
    return _read(path / "config.json", where)


def _read(path: Path, where: str) -> ModelShape:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CallwrightError(f"{where}: {path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CallwrightError(f"{where}: {path} is no model's config: it is not a mapping")
    return shape_from_config(config, where)


def shape_from_config(config: Mapping[str, Any], where: str = "the config") -> ModelShape:
    """The shape that a Hugging Face config describes. Raises CallwrightError, which begins with `where`, for a kind of
    model that is not described here."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise CallwrightError(
            f"{where}: the memory of a model of the kind '{kind}' cannot be told (only of {', '.join(FAMILIES)});"
            " write --model-shape with the name of a known shape that is about as large"
        )
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        bias = bool(config.get("attention_bias", False))
        return ModelShape(
            name=str(config.get("_name_or_path") or kind),
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            # What transformers takes where a file does not say.
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=kind == "qwen2" or bias,
            output_bias=bias,
            mlp_bias=bool(config.get("mlp_bias", False)),
            qk_norm=kind == "qwen3",
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CallwrightError(f"{where}: its config lacks what tells its size: {error}") from error
