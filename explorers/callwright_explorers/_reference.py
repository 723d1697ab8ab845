"""What the strategies that move the reference model share: in which recipes there is one that can move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callwright import Need
from callwright.plugins import PluginError, find

if TYPE_CHECKING:
    from callwright.recipe import Recipe


def reference_mistakes(recipe: Recipe) -> list[str]:
    """Why there is no reference model to move, if so."""
    found = []
    if recipe.model.lora is not None:
        found.append("with LoRA the reference is the base model and cannot move; train all weights, or leave it out")
    if not recipe.train.kl and not any(_may_use_a_reference(part.use) for part in recipe.explore):
        found.append(
            "nothing uses a reference model; set train.kl above 0, add `use: kl` under explore, or leave it out"
        )
    return found


def _may_use_a_reference(use: str) -> bool:
    try:
        plugin, _ = find("explorer", use)
    except PluginError:
        return True  # a mistake of its own
    needs = getattr(plugin, "needs", ())
    # What is no collection depends on the options.
    return Need.REF_LOGPS in needs if isinstance(needs, (tuple, list, set, frozenset)) else True
