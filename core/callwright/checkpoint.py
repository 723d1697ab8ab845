"""Checkpoints that are whole or absent, and from which a run goes on as if it had never stopped.

    checkpoints/step-000010/
      model/                  a Hugging Face folder; with LoRA `adapter/` instead, in peft's format
      optimizer.safetensors, random.safetensors, tensors.safetensors
      state.json              everything that is no tensor

A checkpoint is written into a hidden folder and renamed when it is complete and on the disk. Only safetensors and
JSON are ever read back: nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from callwright.checkpoint_parts import (
    optimizer_state,
    random_state,
    read_model,
    read_optimizer,
    read_random,
    require_json,
    write_model,
)
from callwright.types import JSON, CallwrightError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FORMAT = 1
_NAME = re.compile(r"(\.old-)?step-(\d{6,})")


@dataclass(slots=True)
class State:
    """What a run knows besides model, optimizer and generators. JSON values only, but for `tensors`."""

    step: int
    """Steps completed."""
    data: JSON = None
    """Position in the data."""
    plugins: dict[str, JSON] = field(default_factory=dict)
    """By the component's name in the run, what its `state_dict()` returned."""
    counters: dict[str, JSON] = field(default_factory=dict)
    """Whatever else must go on: tokens and seconds so far, failures in a row, ..."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Anything large, for instance the weights of a reference model that the run has reset. On the CPU after `load`.
    Two of them must not share memory."""

    def to_json(self) -> dict[str, JSON]:
        """All but the tensors."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tensors"}


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in a run's `checkpoints` folder; None if there is none."""
    whole = _whole(folder)
    return whole[-1] if whole else None


def save(
    folder: Path,
    state: State,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer,
    generators: Mapping[str, torch.Generator] | None = None,
    keep: int = 2,
) -> Path:
    """Write the checkpoint of `state.step`, and remove all but the `keep` newest.

    The states of the global generators of random, numpy and torch are saved too. Saving a step again replaces it.
    Tensors are written from where they lie: no copy of the model is made.

    Raises CallwrightError if it cannot be written; the checkpoints that were there stay as they were.
    """
    with writing(folder, state, keep=keep) as temporary:
        write_model(temporary, model, tokenizer)
        write_state(temporary, state, optimizer, generators or {})
    return folder / temporary.name.removeprefix(".new-")


@contextmanager
def writing(folder: Path, state: State, *, keep: int) -> Iterator[Path]:
    """A folder to write a checkpoint of `state` into, which takes its name when all is there and on the disk.

    `write_state` must write the last file. Removes all but the `keep` newest checkpoints. Raises as `save` does.
    """
    for name, value in state.to_json().items():
        require_json(f"state.{name}", value)
    final = folder / f"step-{state.step:06d}"
    temporary = folder / f".new-{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        temporary.mkdir()
        yield temporary
        _flush(temporary)
        _put_in_place(temporary, final)
        for old in _whole(folder)[: -max(keep, 1)]:
            _remove(old)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if _is_disk_error(error):
            raise CallwrightError(_cannot_write(folder, state.step, error)) from error
        raise


def load(
    path: Path,
    *,
    model: PreTrainedModel | None,
    optimizer: torch.optim.Optimizer | None,
    generators: Mapping[str, torch.Generator] | None = None,
) -> State:
    """Put model, optimizer, generators and the global generators back to what they were at `save`, bit for bit; model
    and optimizer are None where another library keeps them.

    Raises CallwrightError if the checkpoint is damaged or belongs to another model, optimizer or set of generators;
    then some of them may have changed already.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"it has format {content['format']}, and this callwright reads format {_FORMAT}")
        if model is not None:
            read_model(path, model)
        if optimizer is not None:
            read_optimizer(content["optimizer"], load_file(path / "optimizer.safetensors"), optimizer)
        read_random(content["random"], load_file(path / "random.safetensors"), generators or {})
        return State(**content["state"], tensors=load_file(path / "tensors.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise CallwrightError(
            f"the checkpoint {path} is damaged or belongs to another recipe: {type(error).__name__}: {reason}. Resume"
            " with the recipe it was made with, or remove this folder to resume from the one before"
        ) from error


def write_state(
    folder: Path, state: State, optimizer: torch.optim.Optimizer | None, generators: Mapping[str, torch.Generator]
) -> None:
    """All but the model. optimizer: None where another library keeps it."""
    from safetensors.torch import save_file

    plain_optimizer, optimizer_tensors = (None, {}) if optimizer is None else optimizer_state(optimizer)
    plain_random, random_tensors = random_state(generators)
    save_file(optimizer_tensors, folder / "optimizer.safetensors")
    save_file(random_tensors, folder / "random.safetensors")
    save_file(state.tensors, folder / "tensors.safetensors")
    content = {"format": _FORMAT, "state": state.to_json(), "optimizer": plain_optimizer, "random": plain_random}
    (folder / "state.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


# --------------------------------------------------------------------------------------------- folders


def _whole(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first. `.old-` is one that was being replaced when the process died."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:  # ".old-" sorts before "step-", which wins
        match = _NAME.fullmatch(path.name)
        if match and (path / "state.json").is_file():
            found[int(match[2])] = path
    return [found[step] for step in sorted(found)]


def _clean(folder: Path) -> None:
    """Finish or undo what a process that died in the middle of `save` left behind."""
    for path in folder.glob(".new-step-*"):
        shutil.rmtree(path)
    for old in folder.glob(".old-step-*"):
        replaced = folder / old.name.removeprefix(".old-")
        if replaced.exists():
            shutil.rmtree(old)
        else:
            old.rename(replaced)


def _put_in_place(temporary: Path, final: Path) -> None:
    old = final.with_name(f".old-{final.name}")
    if final.exists():
        final.rename(old)
    temporary.rename(final)
    _flush_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove(path: Path) -> None:
    """Rename first: a folder with a checkpoint's name is always whole."""
    doomed = path.with_name(f".new-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        else:
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_disk_error(error: BaseException) -> bool:
    from safetensors import SafetensorError

    return isinstance(error, OSError | SafetensorError)


def _cannot_write(folder: Path, step: int, error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    newest = latest(folder)
    rest = f"the newest whole checkpoint is {newest}" if newest else "there is no earlier checkpoint"
    return (
        f"cannot write the checkpoint of step {step} into {folder}: {reason}; {rest}."
        " Make room there or make the folder writable, then resume"
    )
