"""Writes the table in docs/scaling.md: `make docs`; a test holds the page to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from callwright.planning import HARDWARE, SHAPES, Assumptions, Plan, Setting, make_plan
from callwright.planning.hardware import GIB
from callwright.planning.memory import memory

PAGE = Path(__file__).with_name("scaling.md")
BEGIN, END = "<!-- written by docs/scaling.py -->\n", "<!-- end -->\n"
MODELS = (
    "qwen2.5-0.5b",
    "qwen2.5-1.5b",
    "qwen3-4b",
    "qwen2.5-7b",
    "llama-3.1-8b",
    "qwen3-14b",
    "qwen2.5-32b",
)
MACHINES = (("h100", 1), ("h200", 1), ("h100", 8), ("h200", 8))


def settings(shape: str, gpu: str, gpus: int, lora: int | None, numbers: str) -> Iterator[Setting]:
    """Every way to run the same step: 64 x 8 completions, prompts of 1,024 tokens, 256 new tokens, at most 512."""
    shardings = ("ddp", "fsdp") if gpus > 1 else ("none",)
    # vLLM with its cache as assumed, and with a small one.
    samplers = (("local", 16), ("vllm", 16), ("vllm", 4))
    for sharding, (rollouts, gib), checkpointing, tokens in product(shardings, samplers, (False, True), (16384, 4096)):
        values: dict[str, Any] = {
            "shape": SHAPES[shape],
            "hardware": HARDWARE[gpu],
            "gpus": gpus,
            "nodes": 1,
            "sharding": sharding,
            "rollouts": rollouts,
            "numbers": numbers,
            "lora_rank": lora,
            "checkpointing": checkpointing,
            "packed": True,
            "reference": False,
            "prompts": 64,
            "group": 8,
            "prompt_tokens": 1024,
            "shared_tokens": 0,
            "completion_tokens": 256,
            "max_new_tokens": 512,
            "tokens_per_micro_batch": tokens,
            "passes": 1,
            "steps": 500,
            "assumptions": Assumptions().changed({"vllm_cache": gib * GIB}),
        }
        yield Setting(**values)


def fastest(shape: str, gpu: str, gpus: int, lora: int | None, numbers: str) -> Plan | None:
    """Of the ways that fit."""
    fitting = (s for s in settings(shape, gpu, gpus, lora, numbers) if memory(s).fits)
    return min(map(make_plan, fitting), key=lambda plan: plan.time.seconds, default=None)


def cell(shape: str, gpu: str, gpus: int, lora: int | None) -> str:
    plan, star = None if lora else fastest(shape, gpu, gpus, lora, "autocast"), ""
    if plan is None:
        plan, star = fastest(shape, gpu, gpus, lora, "bfloat16"), "" if lora else " †"
    if plan is None:
        return "no"
    setting = plan.setting
    how = [setting.rollouts] if gpus == 1 else [setting.sharding, setting.rollouts]
    how += ["checkpointing"] if setting.checkpointing else []
    return f"{plan.time.seconds:.0f} s, {plan.memory.peak / GIB:.0f} GiB{star} ({', '.join(how)})"


def table() -> str:
    lines = ["| | " + " | ".join(f"{gpus} x {gpu.upper()}" for gpu, gpus in MACHINES) + " |"]
    lines.append("|---" * (len(MACHINES) + 1) + "|")
    for title, lora in (("all weights", None), ("LoRA, rank 16, on bfloat16 weights", 16)):
        lines.append(f"| **{title}** |" + " |" * len(MACHINES))
        lines += [
            f"| {name} ({SHAPES[name].parameters / 1e9:.1f} B) | "
            + " | ".join(cell(name, gpu, gpus, lora) for gpu, gpus in MACHINES)
            + " |"
            for name in MODELS
        ]
    return "\n".join(lines) + "\n"


def document() -> str:
    """The page with the table as it is now."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
