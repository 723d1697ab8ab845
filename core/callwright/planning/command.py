"""From what is typed to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast, get_args

from callwright.planning.hardware import hardware
from callwright.planning.plan import Plan, make_plan, with_sharding
from callwright.planning.setting import SHARDINGS, Rollouts, Sharding, needs_a_reference, setting_of
from callwright.planning.shapes import shape_of
from callwright.types import CallwrightError

if TYPE_CHECKING:
    from callwright.recipe import Recipe


def plan_recipe(
    recipe: Recipe,
    *,
    gpu: str | None = None,
    gpus: int = 1,
    nodes: int = 1,
    sharding: str | None = None,
    rollouts: str | None = None,
    server_gpus: int | None = None,
    prompt_tokens: int = 1024,
    shared_tokens: int = 0,
    completion_tokens: int | None = None,
    model_shape: str | None = None,
    assumed: Sequence[str] = (),
) -> Plan:
    """What a recipe needs; the options are those of `callwright plan`. Raises CallwrightError for what cannot be."""
    if gpu is None:
        gpu = "cpu" if recipe.model.device == "cpu" else "h100"
    _one_of("--sharding", sharding, SHARDINGS)
    _one_of("--rollouts", rollouts, get_args(Rollouts))
    setting = setting_of(
        recipe,
        shape_of(recipe.model.name, model_shape),
        hardware(gpu),
        gpus=gpus,
        nodes=nodes,
        sharding=cast("Sharding | None", sharding),
        rollouts=cast("Rollouts | None", rollouts),
        server_gpus=server_gpus,
        prompt_tokens=prompt_tokens,
        shared_tokens=shared_tokens,
        completion_tokens=completion_tokens,
        needs_reference=_needs_reference(recipe),
        assumed=dict(map(_number, assumed)),
    )
    return make_plan(setting if sharding else with_sharding(setting))


def _needs_reference(recipe: Recipe) -> bool:
    """Of the explorers, which are loaded only where there are any."""
    from callwright.recipe import build

    if not recipe.explore:
        return False
    return needs_a_reference([explorer.plugin for explorer in build(recipe).explorers])


def _one_of(option: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise CallwrightError(f"{option} '{value}': choose {', '.join(allowed[:-1])} or {allowed[-1]}")


def _number(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        hint = f"'{value}' is no number" if equals else "write NAME=VALUE, such as bandwidth=0.7"
        raise CallwrightError(f"--assume {text}: {hint}") from error
