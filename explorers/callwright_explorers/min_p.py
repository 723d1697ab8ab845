"""Explorer `min_p`: sample from the tokens that are not far less likely than the likeliest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from callwright import hookimpl

from callwright_explorers._sampling import Schedule, Scheduled


@dataclass
class MinP(Scheduled):
    """Min-p sampling by a schedule over the run, the same for every row of a step.

    A token v may be drawn where pi(v) >= m max pi, both at the row's temperature; m follows the schedule constant,
    linear, cosine or step, as for `temperature`. It takes the place of the recipe's `train.min_p`. So the choice is
    wide where the policy is unsure and narrow where it is sure. From arXiv 2407.01082; usual values are 0.01 to 0.2
    (TRL's help). The schedules are ours.

    Completions come from the filtered distribution, the loss is of the whole one: `importance_correction` corrects for
    it. Raises ValueError for an option out of its range, and for one that the schedule lacks or does not use; `step`
    multiplies, so it starts and ends above 0.
    """

    schedule: Schedule = "constant"
    start: float = 0.1
    """Share of the likeliest token's probability in the first step, at least 0 and below 1; 0 is off."""
    end: float | None = None
    """Share that the schedule arrives at, at least 0 and below 1."""

    formula: ClassVar[str] = "tokens with π ≥ m(s)·max π"
    source: ClassVar[str] = "arXiv 2407.01082"
    use_when: ClassVar[str] = "A high temperature is wanted for diversity, without its nonsense tokens."
    neutral: ClassVar[dict[str, Any]] = {"schedule": "constant", "start": 0.0} | dict.fromkeys(
        ("end", "steps", "every", "factor")
    )
    allowed: ClassVar[str] = "at least 0 and below 1"

    def allows(self, value: float) -> bool:
        return 0 <= value < 1

    @hookimpl
    def sampling(self, step: int, steps: int) -> Mapping[str, float]:
        return {"min_p": self.at(step, steps)}
