"""Loading models and tokenizers, and the choice of device and precision."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from callwright.locate import Notify, local_folder, resolve
from callwright.quiet import quiet
from callwright.types import CallwrightError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "LoadedModel",
    "autocast_dtype",
    "choose_device",
    "context_length",
    "load_model",
    "load_tokenizer",
    "model_folder",
    "resolve",
]


class LoraOptions(Protocol):
    """What `load_model` reads of a recipe's `lora`."""

    @property
    def rank(self) -> int: ...
    @property
    def alpha(self) -> float: ...
    @property
    def dropout(self) -> float: ...
    @property
    def targets(self) -> str | Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode on its device, and its tokenizer."""

    model: PreTrainedModel
    """With LoRA a peft model: only its adapter trains, and `with model.disable_adapter():` is the reference."""
    tokenizer: PreTrainedTokenizerBase
    name: str


def _silent(message: str) -> None:
    pass


def model_folder(name: str, *, notify: Notify = _silent) -> Path:
    """The local folder with a model's config and tokenizer, downloaded or converted if need be; an adapter's are its
    base's. Weights need not be there."""
    folder = local_folder(name, notify, weights=False)
    base = _base_of_adapter(folder)
    return model_folder(base, notify=notify) if base else folder


def load_tokenizer(name: str, *, notify: Notify = _silent) -> PreTrainedTokenizerBase:
    """The tokenizer alone, so that prompts can be measured before the model loads. It has a chat template and a pad
    token (the end-of-sequence token where the model names none)."""
    from transformers import AutoTokenizer

    folder = model_folder(name, notify=notify)
    with quiet(), _explained(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.chat_template is None:
        raise CallwrightError(
            f"model '{name}' has no chat template; name an instruction-tuned model,"
            " or put a chat_template.jinja into its folder"
        )
    if tokenizer.eos_token_id is None:
        raise CallwrightError(f"model '{name}' has no end-of-sequence token; set `eos_token` in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(name: str, *, notify: Notify = _silent) -> int | None:
    """Tokens that fit into the model's context, from its config alone; None where the config does not say."""
    config = json.loads((model_folder(name, notify=notify) / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    length = config.get("max_position_embeddings", config.get("n_positions"))
    return int(length) if length else None


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    gradient_checkpointing: bool = False,
    liger: bool = False,
    lora: LoraOptions | None = None,
    notify: Notify = _silent,
) -> LoadedModel:
    """Load a model for training or evaluation.

    `dtype` "auto" is float32 on every device, since these are the weights that the optimizer changes: at a learning
    rate of 1e-6 most updates are smaller than bfloat16's rounding, and would be lost. Speed comes from autocast
    (`autocast_dtype`). Name "bfloat16" where memory is short, above all with `lora`, whose adapter stays float32.

    The model is in evaluation mode. Gradient checkpointing and LoRA's dropout act only after `model.train()`. LoRA
    draws its first weights from torch's global generator.
    """
    tokenizer = load_tokenizer(name, notify=notify)
    model = _load_weights(name, choose_device(device), dtype, notify)
    if gradient_checkpointing:
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:  # transformers before 5.18, which vLLM is made for
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if liger:
        _use_liger(model, name)
    if lora is not None:
        model = _with_adapter(model, lora, name)
    return LoadedModel(model.eval(), tokenizer, name)


def _load_weights(name: str, device: torch.device, dtype: str, notify: Notify) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    folder = local_folder(name, notify, weights=True)
    if base := _base_of_adapter(folder):
        return _merged(_load_weights(base, device, dtype, notify), folder)
    wanted = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}.get(dtype)
    if wanted is None:
        raise CallwrightError(f"model.dtype '{dtype}': choose auto, float32 or bfloat16")
    with quiet(), _explained(name, "weights"):
        load: Any = AutoModelForCausalLM.from_pretrained  # its annotation does not know `output_loading_info`
        model, report = load(
            folder,
            dtype=wanted,
            device_map={"": device},
            local_files_only=True,
            use_safetensors=True,  # nothing pickled is ever loaded
            output_loading_info=True,
        )
    if report["missing_keys"]:  # transformers would fill them with random numbers
        missing = sorted(report["missing_keys"])
        raise CallwrightError(f"model '{name}': {len(missing)} weights are missing from {folder}, first {missing[0]}")
    return cast("PreTrainedModel", model)


def _base_of_adapter(folder: Path) -> str | None:
    """The name of the model that an adapter folder belongs to; None if the folder is a whole model."""
    config = folder / "adapter_config.json"
    return str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]) if config.is_file() else None


def _merged(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel

    with quiet(), _explained(str(adapter), "adapter"):
        adapted: Any = PeftModel.from_pretrained(base, adapter, local_files_only=True)
        return cast("PreTrainedModel", adapted.merge_and_unload())


def _use_liger(model: PreTrainedModel, name: str) -> None:
    """Liger's kernels in this model alone. Its fused losses are left out: the loss is ours."""
    from transformers.integrations.liger import apply_liger_kernel
    from transformers.utils.import_utils import is_liger_kernel_available

    if not is_liger_kernel_available():
        raise CallwrightError("model.liger needs Liger's kernels, which are not installed: pip install liger-kernel")
    # triton's interpreter stands in for a GPU in tests.
    if model.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise CallwrightError("model.liger needs a GPU, and the model is on the CPU: leave it out")
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise CallwrightError(
            f"model.liger: Liger has no kernels for models of type {model.config.model_type}, as '{name}' is:"
            " leave it out"
        )
    with quiet():
        apply_liger_kernel(model, {"fused_linear_cross_entropy": False, "cross_entropy": False})


def _with_adapter(model: PreTrainedModel, lora: LoraOptions, name: str) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # annotated as int; any number scales alike
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        with quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise CallwrightError(f"model.lora: {error}") from error
    # So that a saved adapter finds its base again, from any working folder; peft notes our cache's folder.
    base = str(Path(name).expanduser().resolve()) if Path(name).expanduser().exists() else name
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted  # type: ignore[return-value]  # a wrapper that passes everything on


# ------------------------------------------------------------------------------------ devices and precision


def choose_device(device: str = "auto") -> torch.device:
    """ "auto" is the first GPU, else Apple's, else the CPU. Any other name is torch's own."""
    import torch

    if device == "auto":
        accelerators = (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        device = next((kind for kind, there in accelerators if there), "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise CallwrightError(f"device '{device}': {str(error).splitlines()[0]}; try auto or cpu") from error
    return chosen


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype of the forward pass under autocast; None for none, so that it runs in the weights' own dtype.

    precision: "float32", "bfloat16", or "auto": bfloat16 where the hardware multiplies it natively. Elsewhere it is
    emulated: on a CPU without such instructions a product of matrices takes six times as long as in float32.
    """
    import torch

    if precision == "float32":
        return None
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise CallwrightError(f"precision '{precision}': choose auto, float32 or bfloat16")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: Mapping[str, Any] = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if native else None


@contextmanager
def _explained(name: str, what: str) -> Iterator[None]:
    """transformers' and safetensors' errors about a model's files, as ours."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise CallwrightError(f"model '{name}': its {what} cannot be loaded: {first}") from error
