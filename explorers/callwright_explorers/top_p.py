"""Explorer `top_p`: sample from the likeliest tokens that together hold a share of the probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from callwright import hookimpl

from callwright_explorers._sampling import Schedule, Scheduled


@dataclass
class TopP(Scheduled):
    """Nucleus sampling by a schedule over the run, the same for every row of a step.

    A token is drawn from the fewest tokens whose probabilities, at the row's temperature, reach p in sum; p follows the
    schedule constant, linear, cosine or step, as for `temperature`. It takes the place of the recipe's `train.top_p`.
    From arXiv 1904.09751 (there for generation, with p between 0.9 and 1; the schedules are ours).

    Completions come from the filtered distribution, the loss is of the whole one: `importance_correction` corrects for
    it. Raises ValueError for an option out of its range, and for one that the schedule lacks or does not use.
    """

    schedule: Schedule = "constant"
    start: float = 0.95
    """Probability of the tokens to choose from in the first step, above 0 and at most 1; 1 is off."""
    end: float | None = None
    """Probability that the schedule arrives at, above 0 and at most 1."""

    formula: ClassVar[str] = "fewest tokens with Σπ ≥ p(s)"
    source: ClassVar[str] = "arXiv 1904.09751"
    use_when: ClassVar[str] = "Hot sampling strays into nonsense tokens; a rising p explores more as the run goes on."
    neutral: ClassVar[dict[str, Any]] = {"schedule": "constant", "start": 1.0} | dict.fromkeys(
        ("end", "steps", "every", "factor")
    )
    allowed: ClassVar[str] = "above 0 and at most 1"

    def allows(self, value: float) -> bool:
        return 0 < value <= 1

    @hookimpl
    def sampling(self, step: int, steps: int) -> Mapping[str, float]:
        return {"top_p": self.at(step, steps)}
