"""The local engine, found like every plugin through its entry point; listing and checking do not load torch for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callwright.display import Display
    from callwright.recipe import Components, Recipe
    from callwright.run import RunResult


@dataclass
class LocalEngine:
    """Trains in this process, on a CPU or one GPU."""

    def train(self, recipe: Recipe, components: Components, display: Display, resume: bool = False) -> RunResult:
        from callwright.run import train

        return train(recipe, components, display, resume)
