"""What the losses of the policy share: their clip range, ratios of whole completions, and what the recipe may say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callwright import MicroBatch

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class Clipped:
    """A clip range of the plugin's own, for which the recipe's `train.clip_low` and `train.clip_high` do not count.

    Raises ValueError for a range outside `clip_low` 0 to 1, `clip_high` at least 0.
    """

    clip_low: float = 0.2
    """The ratio is clipped below 1 minus this, 0 to 1."""
    clip_high: float = 0.2
    """The ratio is clipped above 1 plus this, at least 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip_low <= 1:
            raise ValueError(f"clip_low must be between 0 and 1, not {self.clip_low}")
        if not 0 <= self.clip_high < math.inf:
            raise ValueError(f"clip_high must be a number of at least 0, not {self.clip_high}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        """A range that the recipe sets and that the plugin does not use."""
        return [
            f"train.{name} {given} has no effect beside this plugin, whose own {name} is {own}; set it there"
            for name, given, own in (
                ("clip_low", recipe.train.clip_low, self.clip_low),
                ("clip_high", recipe.train.clip_high, self.clip_high),
            )
            if name in recipe.train.model_fields_set and given != own
        ]


def unused_range(recipe: Recipe, instead: str) -> list[str]:
    """For a plugin without such a range: what the recipe sets in vain. instead: what the plugin has for it."""
    return [
        f"train.{name} has no effect beside this plugin, which has {instead}; leave it out"
        for name in ("clip_low", "clip_high")
        if name in recipe.train.model_fields_set
    ]


def log_ratio(batch: MicroBatch) -> Tensor:
    """(n, T): log-probability now minus the one before the step's first update, with a gradient; 0 off the mask."""
    return (batch.logps - batch.old_logps.detach()).masked_fill(~batch.mask, 0.0)


def row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(n, 1): mean of `values` (n, T) over each row's tokens; `values` are 0 off the mask."""
    return values.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
