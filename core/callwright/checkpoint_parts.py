"""The parts of a checkpoint: model or adapter, optimizer, random generators. `checkpoint.py` puts them together.

Every state is cut into tensors, which go into safetensors, and a JSON value for the rest.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callwright.quiet import quiet
from callwright.types import JSON, CallwrightError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def require_json(place: str, value: JSON) -> None:
    """JSON would silently turn integer keys into strings and tuples into lists, and resuming would not be exact."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CallwrightError(f"{place}: the key {key!r} is no string, so a checkpoint cannot hold it")
            require_json(f"{place}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            require_json(f"{place}[{index}]", item)
    elif not isinstance(value, str | int | float | None):
        raise CallwrightError(f"{place}: a {type(value).__name__} is no JSON value, so a checkpoint cannot hold it")


def write_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """weights: the model's state, where its own is in parts elsewhere."""
    if _is_adapted(model):
        # save_embedding_layers="auto" would ask the hub whether the base model's vocabulary has changed
        model.save_pretrained(folder / "adapter", save_embedding_layers=False, state_dict=weights)
        return
    with quiet():
        model.save_pretrained(folder / "model", state_dict=weights)
        tokenizer.save_pretrained(folder / "model")


def read_model(path: Path, model: PreTrainedModel) -> None:
    if _is_adapted(model):
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        result: Any = set_peft_model_state_dict(model, load_file(path / "adapter" / "adapter_model.safetensors"))
        wrong = [key for key in result.missing_keys if "lora_" in key] + result.unexpected_keys
        if wrong:
            raise ValueError(f"the adapter's weights have other names, for instance {wrong[0]}")
        return
    # Through transformers and not key by key: it renames and joins the weights of some models when it saves them.
    load: Any = type(model).from_pretrained
    with quiet():
        saved, report = load(
            path / "model",
            config=model.config,  # a folder without config.json would become a default model of many gigabytes
            dtype=model.dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    if wrong := sorted({*report["missing_keys"], *report["unexpected_keys"]}):
        raise ValueError(f"the model's weights have other names, for instance {wrong[0]}")
    model.load_state_dict(saved.state_dict())


def _is_adapted(model: PreTrainedModel) -> bool:
    return hasattr(model, "peft_config")


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[JSON, dict[str, Tensor]]:
    """A `state_dict` cut in two: values with their keys, and tensors as "state/<parameter>/<key>" or "group/..."."""
    from torch import Tensor

    full = optimizer.state_dict()
    plain: dict[str, dict[str, dict[str, JSON]]] = {"state": {}, "group": {}}
    tensors: dict[str, Tensor] = {}
    for kind, entries in (("state", full["state"].items()), ("group", enumerate(full["param_groups"]))):
        for index, values in entries:
            tensors |= {f"{kind}/{index}/{key}": value for key, value in values.items() if isinstance(value, Tensor)}
            plain[kind][str(index)] = {key: value for key, value in values.items() if not isinstance(value, Tensor)}
    return plain, tensors


def read_optimizer(plain: JSON, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    for name, tensor in tensors.items():
        kind, index, key = name.split("/", 2)
        plain[kind][index][key] = tensor.clone()  # load_file's tensors are views into the file
    groups = [plain["group"][str(i)] for i in range(len(plain["group"]))]
    for saved, live in zip(groups, optimizer.param_groups, strict=True):
        saved |= {key: tuple(saved[key]) for key, value in live.items() if isinstance(value, tuple)}
    state = {int(index): values for index, values in plain["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_state(generators: Mapping[str, torch.Generator]) -> tuple[JSON, dict[str, Tensor]]:
    import numpy
    import torch

    version, words, gauss = random.getstate()
    legacy = numpy.random.get_state(legacy=False)
    legacy["state"]["key"] = legacy["state"]["key"].tolist()
    tensors = {f"generator/{name}": generator.get_state() for name, generator in generators.items()}
    tensors["torch"] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors |= {f"cuda/{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return {"python": [version, list(words), gauss], "numpy": legacy}, tensors


def read_random(plain: JSON, tensors: Mapping[str, Tensor], generators: Mapping[str, torch.Generator]) -> None:
    import numpy
    import torch

    saved = {name.removeprefix("generator/") for name in tensors if name.startswith("generator/")}
    if saved != set(generators):
        raise ValueError(f"it holds the generators {sorted(saved)}, and this run has {sorted(generators)}")
    for name, generator in generators.items():
        generator.set_state(tensors[f"generator/{name}"])
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    plain["numpy"]["state"]["key"] = numpy.array(plain["numpy"]["state"]["key"], dtype=numpy.uint32)
    numpy.random.set_state(plain["numpy"])
    torch.set_rng_state(tensors["torch"])
    for index in range(torch.cuda.device_count()):
        if f"cuda/{index}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda/{index}"], index)
