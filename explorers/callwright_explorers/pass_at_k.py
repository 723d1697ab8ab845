"""Explorer `pass_at_k`: reward groups in which one of k completions is right, rather than each completion."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, sqrt
from typing import TYPE_CHECKING, ClassVar

from callwright import Rollouts, hookimpl

from callwright_explorers._success import check_threshold, scores, successes

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor

_EPSILON = 1e-6
"""Added to sigma before dividing by it; the authors' value."""


@dataclass
class PassAtK:
    """Advantages of the reward "at least one of k is correct", averaged over all subsets of k rows of a group.

    Of a group's n rows c are correct (r_i >= threshold). With C(a, b) the binomial coefficient, 0 where b > a:

        R = 1 - C(n - c, k) / C(n, k)        share of subsets with a correct row
        sigma = sqrt(R (1 - R))
        A = (1 - R) / (sigma + 1e-6)                                          for a correct row
        A = (1 - R - C(n - c - 1, k - 1) / C(n - 1, k - 1)) / (sigma + 1e-6)  for a wrong one

    r_i (N,) is the combined reward, after what explorers add to it, or the reward of the name `reward`. Advantages have
    no unit and sum to 0 in a group. Source: Pass@k training, arXiv 2508.10751, its analytical form as in the authors'
    published `passk_adv.py`, in which rewards are 0 or 1. k is an argument there; that the default 4 is one of the
    paper's values was not checked.

    With k 1 it is GRPO with a standard deviation without Bessel's correction. The larger k, the more a group with few
    correct rows weighs, and all advantages are 0 as soon as fewer than k rows are wrong. Groups of k rows or fewer
    have 0 throughout: there is only one subset of them.

    Raises ValueError for a k below 1 and for a threshold that is no number.
    """

    k: int = 4
    """Completions of which one has to be correct, at least 1."""
    threshold: float = 1.0
    """A completion is correct from this reward on."""
    reward: str | None = None
    """Name of the reward to look at. Default: the combined one."""

    # No `neutral`: with k 1 it still differs from the core by the standard deviation's correction.
    formula: ClassVar[str] = (
        "R = 1 - C(n-c,k)/C(n,k); A⁺ = (1-R)/s, A⁻ = (1-R-C(n-c-1,k-1)/C(n-1,k-1))/s, s = √(R(1-R))"
    )
    source: ClassVar[str] = "arXiv 2508.10751"
    use_when: ClassVar[str] = (
        "Prompts are hard, and finding a right call once in k matters more than finding it always."
    )

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, not {self.k}")
        check_threshold(self.threshold)

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        """A group must have more than one subset."""
        size = recipe.train.group_size
        if self.k < size:
            return []
        return [f"k {self.k} must be below `train.group_size`, which is {size}; else every advantage is 0"]

    @hookimpl
    def advantages(self, rollouts: Rollouts) -> Tensor:
        """(N,); 0 for rows without the reward."""
        import torch  # here, so that listing and checking plugins stay quick

        values = scores(rollouts, self.reward)
        correct = successes(values, self.threshold)
        advantages = torch.zeros_like(values)
        for group in rollouts.groups:
            rows = (rollouts.group_ids == group) & ~values.isnan()
            of_correct, of_wrong = self.of_group(int(rows.sum()), int((rows & correct).sum()))
            advantages[rows & correct], advantages[rows & ~correct] = of_correct, of_wrong
        return advantages

    def of_group(self, n: int, c: int) -> tuple[float, float]:
        """Advantage of a correct and of a wrong row in a group of n rows of which c are correct."""
        if n <= self.k or c == 0 or n - c < self.k:
            return 0.0, 0.0
        fails = comb(n - c, self.k) / comb(n, self.k)
        sigma = sqrt(fails * (1 - fails)) + _EPSILON
        return fails / sigma, (fails - comb(n - c - 1, self.k - 1) / comb(n - 1, self.k - 1)) / sigma
