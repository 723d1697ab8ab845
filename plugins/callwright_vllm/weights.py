"""A policy's weights as vLLM reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from callwright.types import CallwrightError
from torch import Tensor, nn


def require_followable(model: Any) -> None:
    """Raises CallwrightError for a causal language model that `checkpoint_weights` would not do justice."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    if get_model_conversion_mapping(model, add_legacy=False):
        raise CallwrightError(
            f"rollouts: vllm cannot follow a {type(model).__name__}: transformers keeps its weights (experts, mostly)"
            " in other tensors than vLLM reads; write rollouts: local"
        )
    for name, layer in _adapted(model).items():
        if not isinstance(layer.get_base_layer(), nn.Linear) or layer is model.get_output_embeddings():
            raise CallwrightError(
                f"rollouts: vllm cannot follow an adapter on '{name}': only those of linear layers inside the model can"
                " be merged; leave it out of model.lora.targets, or write rollouts: local"
            )


@torch.no_grad()
def checkpoint_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the model's checkpoint with its name, tied ones once.

    LoRA adapters are merged on the way, layer by layer into new tensors: the model's own weights are not touched, so
    that no rounding of a merge and an unmerge is left in them.
    """
    adapted = _adapted(model)
    for name, tensor in _tensors(model):
        owner, base, kind = name.rpartition(".base_layer.")
        if base:
            yield f"{owner}.{kind}", _merged(tensor, adapted[owner]) if kind == "weight" else tensor
        elif name.rpartition(".lora_")[0] not in adapted:
            yield name, tensor


FILE_BYTES = 2**31
"""About as many go into one file."""


def write_weights(model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
    """`checkpoint_weights` as safetensors files in `folder`, floating-point tensors in `dtype`. Holds the tensors of
    one file in memory at a time."""
    from safetensors.torch import save_file

    held: dict[str, Tensor] = {}
    size = files = 0
    for name, tensor in checkpoint_weights(model):
        held[name] = tensor.to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        size += held[name].nbytes
        if size >= FILE_BYTES:
            save_file(held, folder / f"{files}.safetensors")
            held, size, files = {}, 0, files + 1
    if held:
        save_file(held, folder / f"{files}.safetensors")


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What `state_dict` has. That itself would take a model apart again whose parts FSDP2 has just put together."""
    yield from model.named_parameters()
    for owner, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield f"{owner}.{name}", buffer


def _adapted(model: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _merged(weight: Tensor, layer: Any) -> Tensor:
    """What a linear layer's weight and its active adapters are together; summed in float32, then rounded once."""
    deltas = [layer.get_delta_weight(name).float() for name in layer.active_adapters if name in layer.lora_A]
    return sum(deltas, weight.float()).to(weight.dtype)
