"""Every pair of strategies goes together, in any order, or is refused with a reason before anything runs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from callwright import grpo
from callwright.hooks import HOOKS, Hooks, RegistrationError
from callwright.judging import marked
from callwright.plugins import catalogue
from callwright.recipe import Components, Recipe, RecipeError, build
from callwright.testing.explorer_steps import PLAN, micro_batch, random_step

NAMES = sorted(e.name for e in catalogue() if e.kind == "explorer" and e.distribution == "callwright")
OPTIONS: dict[str, dict[str, Any]] = {}
"""For strategies with an option that has no default."""
SETTINGS: tuple[dict[str, Any], ...] = (
    {"refills": 2, "kl": 0.01},
    {"refills": 2},
    {"refills": 2, "kl": 0.01, "aggregation": "constant"},
    {"refills": 2, "aggregation": "constant"},
    {"refills": 2, "kl": 0.01, "advantage_scale": "batch"},
    {"refills": 2, "advantage_scale": "batch"},
)
"""What `train` may say: some strategies need a reference, others bring one, some need another aggregation."""
REFUSED: dict[frozenset[str], str] = {}
"""Pairs that are refused for another reason than that both answer a hook with one answer."""


def components_of(names: tuple[str, ...], train: dict[str, Any]) -> Components:
    """Raises RecipeError, or RegistrationError, with what `callwright check` shows."""
    recipe = Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": {"use": "funrl"},
            "data": {"source": {"use": "bfcl"}},
            "rewards": {"use": ["ast_match", "think_format"]},
            "explore": [{"use": name, **OPTIONS.get(name, {})} for name in names],
            "train": train,
        }
    )
    return build(recipe)


def hooks_of(names: tuple[str, ...], train: dict[str, Any]) -> Hooks:
    explorers = components_of(names, train).explorers
    return Hooks(explorers, grpo.Defaults("group", 0.2, 0.2, train.get("kl", 0.0)), "sum")


def mistakes(names: tuple[str, ...], train: dict[str, Any]) -> str:
    try:
        hooks_of(names, train)
    except (RecipeError, RegistrationError) as error:
        return str(error)
    return ""


def single_hooks(name: str) -> set[str]:
    """Hooks that one plugin of a recipe may answer."""
    (explorer,) = components_of((name,), fitting(name)).explorers
    return {"advantages", "policy_loss"} & set(marked(explorer.plugin))


def fitting(*names: str) -> dict[str, Any]:
    """Settings under which these run together; the first if there are none."""
    return next((train for train in SETTINGS if not mistakes(names, train)), SETTINGS[0])


def folded(hooks: Hooks, seed: int) -> dict[str, Any]:
    """Everything the hooks say of a step, folded."""
    step = random_step(seed, (3, 4, 2), 6)
    assert step.total is not None
    torch.manual_seed(seed)
    logits = torch.randn(len(step), 13)
    rows = torch.arange(len(step))
    found: dict[str, Any] = {
        "task_weights": hooks.task_weights(0, step.tasks),
        "sampling": hooks.sampling(0, 10, step.tasks, step.group_ids, PLAN),
        "process_logits": hooks.process_logits(logits, rows, step.lengths, lambda: step.segments[:, 0]),
        "replay": len(hooks.replay(step)),
        "shape_rewards": hooks.shape_rewards(step),
        "keep_groups": hooks.keep_groups(step),
        "advantages": hooks.advantages(step),
        "shape_advantages": hooks.shape_advantages(step, step.total.nan_to_num(0.5) - 0.5),
        "token_weights": hooks.token_weights(step),
        "policy_loss": hooks.policy_loss(micro_batch(step, hooks.top_logps)).detach(),
        "loss_terms": {n: t.detach() for n, t in hooks.loss_terms(micro_batch(step, hooks.top_logps)).items()},
    }
    assert found.keys() | {"score", "step_ended"} == set(HOOKS)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_runs_alone_under_some_settings(name: str) -> None:
    assert mistakes((name,), fitting(name)) == ""
    folded(hooks_of((name,), fitting(name)), 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_pair_composes_in_any_order_or_is_refused_with_a_reason(name: str) -> None:
    for other in NAMES[NAMES.index(name) + 1 :]:
        both = single_hooks(name) & single_hooks(other)
        reason = REFUSED.get(frozenset((name, other)))
        found = mistakes((name, other), fitting(name, other))
        if both or reason:
            assert (reason or f"only one plugin may answer `{both.pop()}`") in found
            assert name in found
            continue
        assert found == "", f"{name} and {other}"
        train = fitting(name, other)
        chained = {"sampling", "process_logits"}  # where the recipe's order counts
        first, second = (folded(hooks_of(pair, train), 1) for pair in ((name, other), (other, name)))
        for hook in first.keys() - chained:
            torch.testing.assert_close(first[hook], second[hook], rtol=0, atol=0, equal_nan=True, msg=f"{hook}, {other}")


def test_the_pairs_are_all_pairs() -> None:
    pairs = [(name, other) for name in NAMES for other in NAMES[NAMES.index(name) + 1 :]]
    assert len(pairs) == len(set(map(frozenset, pairs))) == len(list(itertools.combinations(NAMES, 2)))
    assert {name for pair in REFUSED for name in pair} <= set(NAMES)
