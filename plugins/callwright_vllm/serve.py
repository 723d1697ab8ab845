"""A vLLM server that draws a run's completions: `python -m callwright_vllm.serve RECIPE [-- OPTIONS]`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer
from callwright.types import CallwrightError

from callwright_vllm import ENGINE

app = typer.Typer(add_completion=False)


@app.command(context_settings={"allow_interspersed_args": True})
def serve(
    recipe: Annotated[Path, typer.Argument(help="The run's recipe. Of it count `model` and `seed`.")],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]... [-- OPTIONS]", help="Overrides, and vLLM's own options behind `--`."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Whoever reaches it can change the weights: an address in a network you trust.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where the trainer finds it: rollouts.url=http://HOST:PORT.")] = 8000,
) -> None:
    """Serve the model of a recipe with vLLM, for a run with `rollouts: vllm_server` that sends it the weights.

    It starts with random weights, and needs the model's config and tokenizer only. On GPUs of its own:

    CUDA_VISIBLE_DEVICES=1 python -m callwright_vllm.serve recipe.yaml -- --tensor-parallel-size 1
    """
    words = more or []
    overrides = list(takewhile(lambda word: not word.startswith("-"), words))
    options = words[len(overrides) :]
    command = command_line(recipe, overrides, host, port, options)
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # with which it has /collective_rpc and /reset_prefix_cache
    os.execv(command[0], command)


def command_line(recipe: Path, overrides: list[str], host: str, port: int, options: list[str]) -> list[str]:
    """The vLLM server's. Raises CallwrightError where vLLM is missing, or the recipe or its model is wrong."""
    from callwright.models import autocast_dtype, choose_device, model_folder
    from callwright.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    if find_spec("vllm") is None:
        raise CallwrightError("vLLM is not installed here: pip install 'callwright[vllm]' in an environment of its own")
    model = loaded.model
    arithmetic = autocast_dtype(model.precision, choose_device(model.device))
    dtype = "bfloat16" if arithmetic or model.dtype == "bfloat16" else "float32"
    return [
        # What `vllm serve` runs. That looks for a distribution of the name vllm, which the build for CPUs is not.
        *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"),
        *("--model", str(model_folder(model.name))),
        *("--served-model-name", model.name),
        *("--worker-extension-cls", "callwright_vllm.worker.WeightsFromFiles"),
        *("--dtype", dtype),
        *("--seed", str(loaded.seed)),
        *(f"--{name.replace('_', '-')}={value}" for name, value in ENGINE.items() if value is not True),
        *(f"--{name.replace('_', '-')}" for name, value in ENGINE.items() if value is True),
        *("--host", host, "--port", str(port)),
        *options,
    ]


def main() -> None:
    try:
        app()
    except CallwrightError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
