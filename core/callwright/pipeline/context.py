"""What a data stage is told before it begins. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callwright.recipe import Components, Recipe
    from callwright.types import RowError, Task


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage with `prepare` gets."""

    recipe: Recipe
    components: Components
    """The recipe's dialect, source and rewards, built."""
    cache: Path
    """A folder of this stage's name that outlives interruptions and is shared by all recipes: what is kept there is
    named after all that it depends on. It may not exist yet."""
    progress: Callable[[int, int], None]
    """Reports that so many of so many rows, or requests, are done. Cheap. Only for a stage whose answers do not come
    row by row: those are counted as they come."""
    note: Callable[[str], None]
    """Shows a line."""

    def load(self, use: str, options: dict[str, object]) -> Iterator[Task | RowError]:
        """The rows of another source, such as one to be compared with: `use` and options as in a recipe.

        Raises PluginError for a source that cannot be found or built.
        """
        from callwright.plugins import build_component, find

        source_class, _ = find("source", use)
        yield from build_component(source_class, options, f"source {use}").load()
