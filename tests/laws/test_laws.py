"""Every reward, dialect, explorer and stage of this distribution keeps the laws of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callwright.plugins import Entry, catalogue
from callwright.testing import check_dialect, check_explorer, check_reward, check_stage, plugin

CHECKS: dict[str, Callable[..., None]] = {
    "reward": check_reward,
    "dialect": check_dialect,
    "explorer": check_explorer,
    "stage": check_stage,
}
ADAPTERS = ("trl", "verl", "ms_swift")
"""Rewards that only carry somebody else's function."""
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("reward", "overlong"): {"max_tokens": 60, "buffer": 20},
    ("stage", "balance"): {"by": "calls", "ratio": 1.5},
    ("stage", "limit"): {"rows": 3},
}
"""For plugins with an option that has no default."""
WITH_A_MODEL = {
    "difficulty": "tests/plugins/test_difficulty.py",
    "llm_evaluate": "tests/plugins/test_llm_evaluate.py",
    "llm_final_check": "tests/plugins/test_llm_evaluate.py",
}
"""Stages that ask a model: the file that makes one for them and checks their laws there."""

FIRST_PARTY = [
    entry
    for entry in catalogue()
    if entry.distribution == "callwright" and entry.kind in CHECKS and entry.name not in (*ADAPTERS, *WITH_A_MODEL)
]


@pytest.mark.parametrize("examples", [3, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("entry", FIRST_PARTY, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_a_first_party_plugin_keeps_the_laws(entry: Entry, examples: int) -> None:
    """Random examples of each search, beside the fixed ones: few here, as many as authors get in `make test-all`."""
    options = OPTIONS.get((entry.kind, entry.name), {})
    CHECKS[entry.kind](plugin(entry.kind, f"callwright:{entry.name}", **options), examples=examples)


@pytest.mark.parametrize(("stage", "file"), WITH_A_MODEL.items())
def test_stages_that_ask_a_model_are_checked_where_they_have_one(stage: str, file: str) -> None:
    text = (Path(__file__).parents[2] / file).read_text()
    assert "".join(map(str.title, stage.split("_"))) in text
    assert "check_stage(" in text
