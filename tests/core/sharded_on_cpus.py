"""`callwright` in processes that accelerate takes for ones with a GPU each: torch and DeepSpeed shard a model over CPUs
as well, accelerate by itself does not."""

import os
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from callwright.cli import main

torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda self, *_: ("gloo", DistributedType.MULTI_GPU)
PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))


def not_for_cpus(state: type) -> None:
    begin = state.__init__

    def __init__(self: Any, *args: Any, **options: Any) -> None:
        os.environ.pop("ACCELERATE_USE_CPU", None)
        begin(self, *args, **options | {"cpu": False})

    state.__init__ = __init__  # type: ignore[misc]


not_for_cpus(PartialState)
not_for_cpus(AcceleratorState)
main()
