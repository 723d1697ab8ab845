"""The explorer `unit_credit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import Rollouts, Verdict, hookimpl

from callwright_units.same_quantity import UnitCode

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class UnitCredit:
    """Early in training, a completion that is right but for its amounts earns something: credit (1 - step / steps).

    A group in which nobody is right has no advantages. With the credit, "5 m" for "5 km" leads towards the right unit,
    while nothing is paid any more when the model could come to rest on it.
    """

    credit: float = 0.3
    """Of the first step, in units of the reward."""
    steps: int = 50
    """From this step on, counted from 0, there is none."""
    neutral: ClassVar = {"credit": 0.0}

    def __post_init__(self) -> None:
        if self.credit < 0 or self.steps < 1:
            raise ValueError(f"credit must not be negative, nor steps below 1: {self.credit}, {self.steps}")

    def recipe_mistakes(self, recipe: Any) -> Iterator[str]:
        """It reads what the reward `same_quantity` says."""
        if not any("same_quantity" in reward.use for reward in recipe.rewards.use):
            yield "nobody says which completions it is to pay for; name same_quantity under rewards.use"

    @hookimpl
    def shape_rewards(self, rollouts: Rollouts) -> Tensor | None:
        """(N,) float32, at least 0."""
        import torch

        credit = self.credit * (1 - rollouts.step / self.steps)
        if credit <= 0:
            return None
        near = [any(map(_is_near, verdicts)) for verdicts in zip(*rollouts.verdicts.values(), strict=True)]
        return credit * torch.tensor(near or [False] * len(rollouts), dtype=torch.float32)


def _is_near(verdict: Verdict) -> bool:
    return any(reason.code == UnitCode.OTHER_AMOUNT for reason in verdict.reasons)
