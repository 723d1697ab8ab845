"""Explorer `dynamic_sampling`: groups that teach nothing are replaced by others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import Rollouts, hookimpl

from callwright_explorers._success import check_threshold, scores, successes

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class DynamicSampling:
    """Keep a group only if its rewards differ and its accuracy is in a range; others are generated for the rest.

        keep g   <=>   (max of r_i > min of r_i over its rows, or not drop_flat)
                       and  min_accuracy <= a_g <= max_accuracy

    a_g is the share of the group's own rows with r_i >= threshold; replayed rows and rows that take no part are not in
    it, and the latter not in the maximum and minimum either. A group without own rows is kept only for the whole range.
    r_i is the reward of the name `reward`, or the combined one with what explorers added to it.

    The defaults are DAPO's constraint 0 < number of correct rows < G (arXiv 2503.14476, section 3.2) for rewards of 0
    and 1; verl's recipe, too, asks whether the rewards' standard deviation is above 0, but keeps a group of one row.
    The range of accuracy is not theirs. `train.refills` bounds the rounds of one step (verl: 10 batches of three times
    the prompts); a step that still lacks groups trains on those it has, and one that has none on the last round's.

    Raises ValueError for accuracies that are no range inside [0, 1], and for a threshold that is no number.
    """

    drop_flat: bool = True
    """Replace groups in which no two rewards differ."""
    min_accuracy: float = 0.0
    """Replace groups of which a smaller share is correct, 0 to 1."""
    max_accuracy: float = 1.0
    """Replace groups of which a larger share is correct, 0 to 1."""
    threshold: float = 1.0
    """A completion is correct from this reward on. It matters with a range of accuracy only."""
    reward: str | None = None
    """Name of the reward to look at. Default: the combined one, after what explorers add to it."""

    formula: ClassVar[str] = "keep a group iff its rewards differ (and low ≤ accuracy ≤ high); refill the rest"
    source: ClassVar[str] = "arXiv 2503.14476"
    use_when: ClassVar[str] = "Many groups are all right or all wrong, so that steps learn from few of their prompts."
    neutral: ClassVar[dict[str, Any]] = {"drop_flat": False, "min_accuracy": 0.0, "max_accuracy": 1.0}

    def __post_init__(self) -> None:
        if not 0 <= self.min_accuracy <= self.max_accuracy <= 1:
            raise ValueError(
                "min_accuracy and max_accuracy must be a range between 0 and 1,"
                f" not {self.min_accuracy} to {self.max_accuracy}"
            )
        check_threshold(self.threshold)

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        """A step that cannot refill only gets smaller."""
        if recipe.train.refills:
            return []
        return ["groups that it drops are never replaced with `train.refills: 0`; set it to at least 1"]

    @hookimpl
    def keep_groups(self, rollouts: Rollouts) -> Tensor:
        """(number of groups,) bool."""
        import torch
        from callwright import grpo

        values = scores(rollouts, self.reward)
        keep = torch.ones(len(rollouts.groups), dtype=torch.bool)
        if self.drop_flat:
            flat = grpo.flat_groups(values, rollouts.group_ids)
            keep &= torch.stack([~flat[rollouts.group_ids == group].all() for group in rollouts.groups])
        if self.min_accuracy > 0 or self.max_accuracy < 1:
            keep &= torch.stack([self._in_range(values[self._own(rollouts, group)]) for group in rollouts.groups])
        return keep

    @staticmethod
    def _own(rollouts: Rollouts, group: Tensor) -> Tensor:
        return (rollouts.group_ids == group) & ~rollouts.off_policy

    def _in_range(self, values: Tensor) -> Tensor:
        judged = values[~values.isnan()]
        accuracy = successes(judged, self.threshold).double().mean()  # NaN, and so outside, if nothing is judged
        return (self.min_accuracy <= accuracy) & (accuracy <= self.max_accuracy)
