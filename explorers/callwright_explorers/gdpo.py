"""Explorer `gdpo`: each reward has its own advantage, and their sum is the completion's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from callwright import Rollouts, Verdict, hookimpl
from callwright.combine import Part, combined

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class Gdpo:
    """Normalise each reward in its group, sum with weights, and divide by the step's standard deviation.

        a_ki = (r_ki - mean of r_k) / (std of r_k + 1e-4)     reward k of row i, over the row's group
        s_i  = sum over k of w_k a_ki
        A_i  = s_i / (std of s + 1e-4)                        over all rows of the step

    r_k (N,) is the reward of that name as it was scored; standard deviations have Bessel's correction. Two rewards
    that vary differently keep their own signal, which the sum of raw rewards hides. Source: GDPO (arXiv 2601.05242) as
    in TRL 1.16 (`multi_objective_aggregation="normalize_then_sum"`), which also takes the mean of s off: it is 0. A
    reward that a row lacks adds nothing to it; rows that take no part in the step count nowhere.

    The rewards' weights are the option `weights`, not the recipe's, and what explorers add to the combined reward does
    not count. So `rewards.combine` may stay `all`, and the metric `reward` keeps its meaning. Where the combined reward
    may be the normalised sum, with scheduled weights and with what explorers add, `rewards.combine: sum` with
    `rewards.normalise: group` and `train.advantage_scale: batch` does the same without this explorer.

    Raises ValueError for weights that are negative, no numbers, or all 0.
    """

    weights: dict[str, float] = field(default_factory=dict)
    """w_k by the reward's name, at least 0; 1 for those that are not named."""

    # No `neutral`: even one reward alone is divided by the step's standard deviation once more.
    formula: ClassVar[str] = "A = Σ_k w_k·(r_k - mean)/std in the group, then divided by the step's std"
    source: ClassVar[str] = "arXiv 2601.05242, TRL"
    use_when: ClassVar[str] = "Several rewards with different spreads, and one of them drowns the others in the sum."

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"weights must be numbers of at least 0, not {weight} for {name!r}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        """Rewards normalised twice, and weights that say two things."""
        found = []
        if recipe.rewards.normalise == "group":
            found.append(
                "it normalises each reward itself; leave out `rewards.normalise: group`, or leave out this explorer and"
                " write `train.advantage_scale: batch`"
            )
        rewards = {config.name or config.use: config.weight for config in recipe.rewards.use}
        found += [
            f"weight of '{name}' is {self.weights.get(name, 1.0):g} here, but another under `rewards`; let them agree"
            for name, weight in rewards.items()
            if weight != self.weights.get(name, 1.0)
        ]
        if all(self.weights.get(name, 1.0) == 0 for name in rewards):
            found.append("every reward has weight 0; give one of them a weight")
        return found

    @hookimpl
    def advantages(self, rollouts: Rollouts) -> Tensor:
        """(N,); 0 where no reward differs in the group."""
        import torch  # here, so that listing and checking plugins stay quick
        from callwright import grpo

        assert rollouts.total is not None
        if unknown := sorted(self.weights.keys() - rollouts.rewards.keys()):
            raise ValueError(f"weights name rewards that the run lacks: {', '.join(unknown)}")
        absent = rollouts.total.isnan()
        # In the order of names: sums of floats depend on it in the last bit.
        parts = [Part(name, self.weights.get(name, 1.0)) for name in sorted(rollouts.rewards)]
        columns = {name: _verdicts(column.masked_fill(absent, math.nan)) for name, column in rollouts.rewards.items()}
        groups = rollouts.group_ids.tolist()
        sums = torch.tensor(combined(columns, parts, "sum", "group", step=rollouts.step, groups=groups)).to(
            absent.device
        )
        sums = torch.where(sums.abs() < _NOISE, 0.0, sums)
        _, std, _ = grpo.group_statistics(sums, torch.zeros_like(rollouts.group_ids))
        return (sums / (std + grpo.STD_EPSILON)).nan_to_num(nan=0.0)


_NOISE = 1e-9
"""A mean of equal rewards misses them in the last bit, which is no difference between rewards."""


def _verdicts(scores: Tensor) -> list[Verdict]:
    return [Verdict.abstain() if math.isnan(score) else Verdict(score) for score in scores.tolist()]
