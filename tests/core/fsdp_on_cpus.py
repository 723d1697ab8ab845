"""`callwright` in processes that accelerate takes for ones with a GPU each: torch shards a model over CPUs as well,
accelerate by itself does not."""

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from callwright.cli import main

torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda self, *_: ("gloo", DistributedType.MULTI_GPU)
PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
main()
