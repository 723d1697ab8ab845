"""Property tests for anybody's rewards, dialects, explorers, stages and sources.

    from callwright.testing import check_reward

    def test_my_reward() -> None:
        check_reward(MyReward())

Names are loaded when they are asked for: the pytest plugin stands in this package, and everybody who has callwright
installed would otherwise wait for hypothesis and torch at every run of pytest. Needs hypothesis.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callwright.testing.bandit import TablePolicy, make_bandit, toy_tasks
    from callwright.testing.check import (
        check_dialect,
        check_explorer,
        check_reward,
        check_source,
        check_stage,
        laws_of,
    )
    from callwright.testing.laws import Law, LawResult, LawsBroken
    from callwright.testing.mutations import Mutation, near_misses, rewrites
    from callwright.testing.scoring import gold_text, plugin, rollouts_of, scores_of, verdicts_of
    from callwright.testing.strategies import answers, calls, completions, tasks, tool_schemas
    from callwright.testing.tiny import tiny_model, tiny_tokenizer

_HOMES = {
    "bandit": ("TablePolicy", "make_bandit", "toy_tasks"),
    "check": ("check_dialect", "check_explorer", "check_reward", "check_source", "check_stage", "laws_of"),
    "laws": ("Law", "LawResult", "LawsBroken"),
    "mutations": ("Mutation", "near_misses", "rewrites"),
    "scoring": ("gold_text", "plugin", "rollouts_of", "scores_of", "verdicts_of"),
    "strategies": ("answers", "calls", "completions", "tasks", "tool_schemas"),
    "tiny": ("tiny_model", "tiny_tokenizer"),
}

__all__ = [
    "Law",
    "LawResult",
    "LawsBroken",
    "Mutation",
    "TablePolicy",
    "answers",
    "calls",
    "check_dialect",
    "check_explorer",
    "check_reward",
    "check_source",
    "check_stage",
    "completions",
    "gold_text",
    "laws_of",
    "make_bandit",
    "near_misses",
    "plugin",
    "rewrites",
    "rollouts_of",
    "scores_of",
    "tasks",
    "tiny_model",
    "tiny_tokenizer",
    "tool_schemas",
    "toy_tasks",
    "verdicts_of",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
