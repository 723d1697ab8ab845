"""Every reward, dialect, explorer and stage of this distribution keeps the laws of its kind."""

from __future__ import annotations

from collections.abc import Callable
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
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {("reward", "overlong"): {"max_tokens": 60, "buffer": 20}}
"""For plugins with an option that has no default."""

FIRST_PARTY = [
    entry
    for entry in catalogue()
    if entry.distribution == "callwright" and entry.kind in CHECKS and entry.name not in ADAPTERS
]


@pytest.mark.parametrize("entry", FIRST_PARTY, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_a_first_party_plugin_keeps_the_laws(entry: Entry) -> None:
    CHECKS[entry.kind](plugin(entry.kind, f"callwright:{entry.name}", **OPTIONS.get((entry.kind, entry.name), {})))
