"""The tables of `callwright plan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from callwright.display import safe
from callwright.planning.hardware import GIB
from callwright.planning.memory import vllm_cache_bytes, vllm_weight_bytes
from callwright.planning.plan import Change, Plan
from callwright.planning.timing import StepTime
from callwright.tables import plain_table, right

if TYPE_CHECKING:
    from callwright.recipe import ComponentConfig

NAMES = {
    "prefill": "encode prompts",
    "decode": "draw completions",
    "score": "score what vLLM drew",
    "reference": "score by the reference",
    "update": "update",
    "exchange": "exchange between GPUs",
    "weight_sync": "weights to the sampler",
}
SHARDED = {
    "none": "",
    "ddp": ", a copy of the model in each (ddp)",
    "fsdp": ", the model in parts (fsdp)",
    "zero2": ", gradients and optimizer in parts (zero2)",
    "zero3": ", the model in parts (zero3)",
}
FILES = {"ddp": "ddp", "fsdp": "fsdp2", "zero2": "zero2", "zero3": "zero3"}


def print_plan(console: Console, plan: Plan, recipe: str, written: ComponentConfig) -> None:
    """Memory by part, whether it fits and what would make it fit, time by part, and what was assumed.

    recipe: what was typed, file and overrides. written: what that says under `rollouts`.
    """

    def line(text: str, style: str = "") -> None:
        console.print(Text(safe(text), style=style), soft_wrap=True)

    line(_what(plan))
    console.print(_memory(plan))
    _print_verdict(plan, line)
    console.print(_time(plan))
    line(
        f"{plan.tokens_per_second:,.0f} completion tokens/s, {plan.steps_per_hour:,.1f} steps an hour,"
        f" {plan.hours:,.1f} hours for {plan.setting.steps} steps; rewards, evaluations and checkpoints come on top"
    )
    if plan.setting.rollouts == "vllm_server":
        line(f"on the server's GPUs: {server_command(plan, recipe)}")
    line(f"to run it: {command(plan, recipe, written)}")
    line(_assumed(plan), "dim")


def command(plan: Plan, recipe: str, written: ComponentConfig) -> str:
    """What is typed on (each of) the machine(s)."""
    setting = plan.setting
    same = written.use.rpartition(":")[2] == setting.rollouts
    overrides = "" if same else f" rollouts={setting.rollouts}"
    if setting.rollouts == "vllm" and not (same and {"cache_gib", "gpu_memory_utilization"} & written.options.keys()):
        # Two GiB more than weights and cache: vLLM counts what it computes with, too.
        share = (vllm_weight_bytes(setting) + vllm_cache_bytes(setting) + 2 * GIB) / setting.hardware.memory
        overrides += f" rollouts.gpu_memory_utilization={min(share, 0.95):.2f}"
    if setting.gpus == 1:
        return f"callwright train {recipe}{overrides}"
    words = f"accelerate launch --config_file recipes/accelerate/{FILES[setting.sharding]}.yaml"
    words += f" --num_processes {setting.gpus}"
    if setting.nodes > 1:
        words += f" --num_machines {setting.nodes} --machine_rank RANK --main_process_ip HOST --main_process_port 29500"
    return f"{words} -m callwright train {recipe} engine=trl{overrides}"


def server_command(plan: Plan, recipe: str) -> str:
    """What is typed where vLLM's server runs, before the training starts."""
    engines = plan.setting.server_gpus
    more = f" -- --data-parallel-size {engines}" if engines > 1 else ""
    return f"python -m callwright_vllm.serve {recipe}{more}"


def _what(plan: Plan) -> str:
    setting, shape = plan.setting, plan.setting.shape
    trained = f"LoRA of rank {setting.lora_rank}" if setting.lora_rank else "all weights trained"
    machines = f"{setting.gpus} x {setting.hardware.name}" if setting.hardware.name != "cpu" else "this CPU"
    machines += f" in {setting.nodes} machines" if setting.nodes > 1 else ""
    server = f" from {setting.server_gpus} x {setting.hardware.name} more" if setting.server_gpus else ""
    return (
        f"{shape.name}: {shape.parameters / 1e9:.2f} billion weights, {trained}, {setting.numbers};"
        f" {setting.prompts} x {setting.group} completions of at most {setting.max_new_tokens} tokens a step;"
        f" {machines}{SHARDED[setting.sharding]}; {setting.rollouts} rollouts{server}"
    )


def _memory(plan: Plan) -> Table:
    table = plain_table("memory of a GPU, GiB" if plan.setting.gpus > 1 else "memory, GiB", *map(right, _COLUMNS))
    for part in plan.memory.parts:
        table.add_row(part.name, *map(_gib, (part.loading, part.generating, part.updating)))
    total = plan.memory.total
    table.add_row(
        f"in all, of {plan.memory.available / GIB:.1f}",
        *map(_gib, (total.loading, total.generating, total.updating)),
        style="bold",
    )
    return table


_COLUMNS = ("loading", "generating", "updating")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}" if size else "-"


def _print_verdict(plan: Plan, line: Callable[[str, str], None]) -> None:
    if plan.memory.fits:
        line(f"it fits, with {(plan.memory.available - plan.memory.peak) / GIB:.1f} GiB to spare", "green")
        return
    line(f"it does not fit: {(plan.memory.peak - plan.memory.available) / GIB:.1f} GiB too much", "bold red")
    if not plan.repairs:
        line("nothing that is known here makes it fit; take a smaller model, shorter completions or other GPUs", "")
    for changes in plan.repairs:
        line("it fits with " + " and ".join(map(_change, changes)), "")


def _change(change: Change) -> str:
    return f"{change.text} ({change.remark})"


def _time(plan: Plan) -> Table:
    table = plain_table("time of a step", right("seconds"), right("share"))
    total = plan.time.seconds
    for field in fields(StepTime):
        if seconds := getattr(plan.time, field.name):
            table.add_row(NAMES[field.name], f"{seconds:,.2f}", f"{seconds / total:.0%}")
    table.add_row("in all", f"{total:,.2f}", "", style="bold")
    return table


def _assumed(plan: Plan) -> str:
    setting = plan.setting
    own = setting.completion_tokens
    shared = f", of which all share {setting.shared_tokens}" if setting.shared_tokens else ""
    longest = " (the longest allowed)" if own == setting.max_new_tokens else ""
    numbers = ", ".join(f"{name}={value:g}" for name, value in _relevant(plan).items())
    return (
        f"calculated, not measured. Assumed: prompts of {setting.prompt_tokens} tokens{shared} (--prompt-tokens,"
        f" --shared-tokens), completions"
        f" of {own}{longest} (--completion-tokens), every group with a gradient; {numbers} (--assume NAME=VALUE;"
        " docs/scaling.md)"
    )


def _relevant(plan: Plan) -> dict[str, float]:
    setting = plan.setting
    vllm, alone = setting.rollouts != "local", setting.gpus == 1
    left_out = {"layer_launch"} if vllm else {"vllm_layer", "vllm_cache"}
    left_out |= set() if setting.rollouts == "vllm_server" else {"weight_files"}
    left_out |= {"link", "node_link"} if alone else {"node_link"} if setting.nodes == 1 else set()
    left_out |= {"reserve"} if setting.hardware.name == "cpu" else set()
    return {name: value for name, value in asdict(setting.assumptions).items() if name not in left_out}
