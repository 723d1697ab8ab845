"""Every pair of strategies goes together, in any order, or is refused with a reason before anything runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from callwright import grpo
from callwright.hooks import HOOKS, Hooks, Named, RegistrationError
from callwright.judging import marked
from callwright.plugins import catalogue, find
from callwright.recipe import Recipe, RecipeError, build
from callwright.testing.explorer_steps import PLAN, micro_batch, random_step
from callwright.types import MicroBatch, Rollouts

NAMES = sorted(e.name for e in catalogue() if e.kind == "explorer" and e.distribution == "callwright")
SETTINGS: tuple[dict[str, Any], ...] = tuple(
    {"refills": 2, **reference, **rest}
    for rest in ({}, {"aggregation": "constant"}, {"advantage_scale": "batch"})
    for reference in ({"kl": 0.01}, {})
)
"""What `train` may say: some strategies need a reference, others bring one, some need another aggregation."""
REFUSED: dict[frozenset[str], str] = {}
"""Pairs that are refused for another reason than that both answer a hook with one answer, and a word of that reason."""


def recipe_with(setting: int, *names: str) -> Recipe:
    return Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": {"use": "funrl"},
            "data": {"source": {"use": "bfcl"}},
            "rewards": {"use": ["ast_match", "think_format"]},
            "explore": [{"use": name} for name in names],
            "train": SETTINGS[setting],
        }
    )


@cache
def strategy(name: str) -> type[Any]:
    return find("explorer", name)[0]


def suitable(*names: str) -> list[int]:
    """The settings in which no strategy finds a mistake."""
    plugins = [strategy(name)() for name in names]

    def mistakes(setting: int) -> list[str]:
        recipe = recipe_with(setting, *names)
        return [text for plugin in plugins for text in getattr(plugin, "recipe_mistakes", lambda _: [])(recipe)]

    return [setting for setting in range(len(SETTINGS)) if not mistakes(setting)]


def hooks_of(names: tuple[str, ...], setting: int) -> Hooks:
    """Raises RegistrationError for strategies that cannot form a run together."""
    named = [Named(name, strategy(name)(), "explorer", place=f"explore.{i}") for i, name in enumerate(names)]
    return Hooks(named, grpo.Defaults("group", 0.2, 0.2, SETTINGS[setting].get("kl", 0.0)), "sum")


@cache
def step() -> Rollouts:
    return random_step(1, (3, 4, 2), 6)


@cache
def batch(top: int) -> MicroBatch:
    return micro_batch(step(), top)


def folded(hooks: Hooks) -> dict[str, Any]:
    """Everything the hooks say of a step, folded."""
    rollouts = step()
    assert rollouts.total is not None
    logits = torch.linspace(-2, 2, 13).repeat(len(rollouts), 1)
    rows = torch.arange(len(rollouts))
    found: dict[str, Any] = {
        "task_weights": hooks.task_weights(0, rollouts.tasks),
        "sampling": hooks.sampling(0, 10, rollouts.tasks, rollouts.group_ids, PLAN),
        "process_logits": hooks.process_logits(logits, rows, rollouts.lengths, lambda: rollouts.segments[:, 0]),
        "replay": len(hooks.replay(rollouts)),
        "shape_rewards": hooks.shape_rewards(rollouts),
        "keep_groups": hooks.keep_groups(rollouts),
        "advantages": hooks.advantages(rollouts),
        "shape_advantages": hooks.shape_advantages(rollouts, rollouts.total.nan_to_num(0.5) - 0.5),
        "token_weights": hooks.token_weights(rollouts),
        "policy_loss": hooks.policy_loss(batch(hooks.top_logps)).detach(),
        "loss_terms": {name: term.detach() for name, term in hooks.loss_terms(batch(hooks.top_logps)).items()},
    }
    assert found.keys() | {"score", "step_ended"} == set(HOOKS)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_runs_alone_under_some_settings(name: str) -> None:
    setting = suitable(name)[0]
    (explorer,) = build(recipe_with(setting, name)).explorers
    assert type(explorer.plugin) is strategy(name)
    folded(hooks_of((name,), setting))


@pytest.mark.parametrize("name", NAMES)
def test_every_pair_composes_in_any_order_or_is_refused_with_a_reason(name: str) -> None:
    for other in NAMES[NAMES.index(name) + 1 :]:
        both = {"advantages", "policy_loss"} & set(marked(strategy(name))) & set(marked(strategy(other)))
        settings = suitable(name, other)
        if reason := REFUSED.get(frozenset((name, other))):
            assert not settings, f"{name} and {other} go together"
            with pytest.raises(RecipeError, match=reason):
                build(recipe_with(0, name, other))
            continue
        assert settings, f"{name} and {other}: no settings suit both"
        if both:
            with pytest.raises(RegistrationError, match=f"only one plugin may answer `{both.pop()}`.*{name}.*{other}"):
                hooks_of((name, other), settings[0])
            continue
        first, second = (folded(hooks_of(pair, settings[0])) for pair in ((name, other), (other, name)))
        for hook in first.keys() - {"sampling", "process_logits"}:  # there the recipe's order counts
            torch.testing.assert_close(
                first[hook], second[hook], rtol=0, atol=0, equal_nan=True, msg=f"{hook} of {name} and {other}"
            )
