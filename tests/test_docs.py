"""Documentation that is written by a program is what that program writes now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def strategies() -> ModuleType:
    spec = importlib.util.spec_from_file_location("strategies", DOCS / "strategies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_strategies_is_that_of_the_strategies(strategies: ModuleType) -> None:
    assert (DOCS / "strategies.md").read_text(encoding="utf-8") == strategies.document(), "run `make docs`"


def test_every_strategy_says_when_to_use_it_and_where_it_comes_from(strategies: ModuleType) -> None:
    for name, cls in strategies.strategies():
        for attribute in ("formula", "source", "use_when"):
            assert len(getattr(cls, attribute, "")) > 3, f"{name} lacks {attribute}"
            assert "\n" not in getattr(cls, attribute), name
