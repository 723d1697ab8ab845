"""Explorer `dr_grpo`: advantages that are not divided by the group's standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from callwright import Rollouts, hookimpl

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class DrGrpo:
    """The reward minus the group's mean is the advantage, and nothing more is done to it.

        A_i = r_i - mean of r over the group

    r_i is the combined reward of row i, (N,), and so is A. Dividing by the standard deviation, as GRPO does, lets
    questions that are nearly always or nearly never answered count most; dividing a completion's loss by its own length
    lets long wrong ones count less. Dr. GRPO (arXiv 2503.20783) does neither: use it with
    `train.aggregation: constant`, which divides by `train.max_new_tokens` for every row. TRL has the same as
    `scale_rewards="none"` with `loss_type="dr_grpo"`. It takes the place of `train.advantage_scale`, and does what its
    value `none` does.

    A row alone in its group, and rows of a group whose rewards are all equal, have 0.
    """

    # No `neutral`: it has no options, and the core divides by the standard deviation unless the recipe says otherwise.
    formula: ClassVar[str] = "A = r - mean(r) of the group; loss divided by a constant length"
    source: ClassVar[str] = "arXiv 2503.20783"
    use_when: ClassVar[str] = "Very easy and very hard prompts dominate the update, or wrong completions grow longer."

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        """The other half of the method is the recipe's aggregation."""
        if recipe.train.aggregation == "constant":
            return []
        return [f"Dr. GRPO also needs `train.aggregation: constant`, but it is '{recipe.train.aggregation}'"]

    @hookimpl
    def advantages(self, rollouts: Rollouts) -> Tensor:
        """(N,) in units of the reward."""
        from callwright import grpo

        assert rollouts.total is not None
        return grpo.group_advantages(rollouts.total.detach(), rollouts.group_ids, "none")
