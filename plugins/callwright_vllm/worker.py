"""What runs inside vLLM's workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

COMPARED = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "tie_word_embeddings",
)
"""Of a model's config: with these the same, weights of the one are weights of the other."""


class WeightsFromFiles:
    """Methods that vLLM adds to its worker class (`--worker-extension-cls`), called over HTTP by `/collective_rpc`."""

    vllm_config: Any
    get_model: Any
    reload_weights: Any

    def callwright_served(self) -> dict[str, Any]:
        """What is served: a part of the model's config, and the number format of the weights."""
        model = self.vllm_config.model_config
        config = model.hf_config.to_dict()
        return {"dtype": str(model.dtype).removeprefix("torch."), **{name: config.get(name) for name in COMPARED}}

    def callwright_load(self, folder: str) -> None:
        """Take the weights in the folder's safetensors files. Raises where there are none: with data parallelism vLLM
        passes on what the first engine answers, but what any of them raises."""
        files = sorted(Path(folder).glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"no weights in {folder}: rollouts.folder must be a place that both machines see")
        self.reload_weights(weights_iterator=_tensors(files))
        if self.vllm_config.device_config.device_type == "cpu":
            repack_heads(self.get_model())


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    from safetensors.torch import load_file

    for file in files:
        yield from load_file(file).items()


def repack_heads(model: nn.Module) -> None:
    """vLLM's CPU backend multiplies by packed copies of the weights. Reloading packs each layer anew that it loads; an
    output head that is tied to the embedding is never loaded, and would stay what it was."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for layer in model.modules():
        if isinstance(layer, VocabParallelEmbedding):
            layer.quant_method.process_weights_after_loading(layer)
