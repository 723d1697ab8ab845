"""What the processes of a run share: the group's rows, a verdict, a number. All of it also works with one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from callwright.checkpoint_parts import random_state, read_random
from torch import nn
from torch.distributed.fsdp import FSDPModule

T = TypeVar("T")


def share_of(count: int, index: int, processes: int) -> range:
    """Which of `count` things the process `index` takes care of: neighbours, and at most one more than any other."""
    return range(count * index // processes, count * (index + 1) // processes)


def gathered(mine: T) -> list[T]:
    """What every process has, in the order of the processes. Every process must call this."""
    return list(gather_object([mine])) if PartialState().num_processes > 1 else [mine]


def from_main(value: T) -> T:
    """What the main process has. Every process must call this; the others' `value` is not looked at."""
    if PartialState().num_processes == 1:
        return value
    held: list[T] = [value]
    broadcast_object_list(held)
    return held[0]


def share_generators() -> None:
    """Give every process the global random generators of the main one, where rewards may have drawn from them: plugins
    draw the same everywhere. Every process must call this."""
    if PartialState().num_processes == 1:
        return
    plain, tensors = random_state({})
    # A GPU's generator is its process' own.
    read_random(*from_main((plain, {"torch": tensors["torch"]})), {})


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Within this, every process has all weights of a model that is sharded, so that each may run it on its own.

    FSDP2 keeps the layers that it has gathered until the end; DeepSpeed ZeRO-3 gathers all at once, and must not let go
    of a layer that has run.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if sharded:
        for module in sharded:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            for module in sharded:
                module.reshard()
                module.set_reshard_after_forward(True, recurse=False)
    elif any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        import deepspeed
        from trl.models.utils import add_hooks, remove_hooks

        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            remove_hooks(model)
            try:
                yield
            finally:
                add_hooks(model)
    else:
        yield


def through(wrapper: nn.Module, inner: nn.Module, function: Any, *arguments: Any) -> Any:
    """`function(*arguments)`, called as the wrapped model's forward.

    DDP, FSDP and DeepSpeed prepare gradients and gather weights in their own forward; what computes a loss with parts
    of a model must run inside it.
    """
    before = inner.__dict__.get("forward")

    def forward(*_: Any, **__: Any) -> Any:
        restore()
        return function(*arguments)

    def restore() -> None:
        if before is None:
            inner.__dict__.pop("forward", None)
        else:
            inner.forward = before  # accelerate puts one there, for autocast

    inner.forward = forward
    try:
        # The argument makes DDP and FSDP find the device; nothing reads it.
        return wrapper(torch.zeros(0))
    finally:
        restore()
