"""Explorer `position_temperature`: completions begin hot and cool down token by token."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from callwright import hookimpl

if TYPE_CHECKING:
    from callwright.recipe import Recipe
    from torch import Tensor


@dataclass
class PositionTemperature:
    """Multiply the row's temperature by a factor that falls from token to token (EAD, arXiv 2510.05251).

    Token t of a completion, from 0, in step s, from 0, is drawn at T tau_t, with T the row's temperature and

        tau_t = max(1 + hottest - exp(t / (stretch d_s)), coldest), d_s = min(decay + growth s, longest)

    and tau_t = 1 for the first `warm_up` tokens, which belong to the format. So tau starts at `hottest`, and reaches
    `coldest` at t = stretch d_s ln(1 + hottest - coldest): 371 tokens in the first step with the defaults.

    Formula and defaults are those of the authors' `annealed_sampling.py` (mode `negexp`) and their training script. The
    code has the factor 20 that is `stretch` here; third parties quote the paper's formula without it (the paper itself
    was not checked): that is stretch 1. The authors correct by truncated importance sampling, here
    `importance_correction`. Raises ValueError for a number out of its range.
    """

    hottest: float = 1.2
    """Factor at the first token, above 0."""
    coldest: float = 0.1
    """Least factor, above 0 and at most `hottest`."""
    decay: float = 25.0
    """d_0, how slowly the first step's completions cool; above 0."""
    growth: float = 5.0
    """What each step adds to d, at least 0: completions get longer in a run."""
    longest: float = 40_000.0
    """Where d stops growing, at least `decay`."""
    stretch: float = 20.0
    """Tokens to one unit of d, above 0."""
    warm_up: int = 10
    """Tokens at the start that keep the row's temperature, at least 0."""
    _step: int = field(default=0, init=False, repr=False, compare=False)

    formula: ClassVar[str] = "τ_t = max(1 + τ_max - exp(t/(20·d_s)), τ_min), d_s = min(d_0 + 5s, 40000)"
    source: ClassVar[str] = "arXiv 2510.05251"
    use_when: ClassVar[str] = "Completions should differ in their plan, that is early, and end in orderly calls."
    neutral: ClassVar[dict[str, float]] = {"hottest": 1.0, "coldest": 1.0}

    def __post_init__(self) -> None:
        for name in ("hottest", "coldest", "decay", "stretch"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {getattr(self, name)}")
        if self.coldest > self.hottest:
            raise ValueError(f"coldest must be at most hottest {self.hottest}, not {self.coldest}")
        if not 0 <= self.growth < math.inf:
            raise ValueError(f"growth must be a number of at least 0, not {self.growth}")
        if not self.decay <= self.longest < math.inf:
            raise ValueError(f"longest must be a number of at least decay {self.decay}, not {self.longest}")
        if self.warm_up < 0:
            raise ValueError(f"warm_up must be at least 0, not {self.warm_up}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        if self.warm_up >= recipe.train.max_new_tokens:
            return [f"warm_up {self.warm_up} leaves none of train.max_new_tokens {recipe.train.max_new_tokens} to cool"]
        return []

    def factors(self, positions: Tensor, step: int) -> Tensor:
        """tau (n,) float32 of the tokens at these positions, both counted from 0."""
        import torch  # here, so that listing and checking plugins stay quick

        scale = self.stretch * min(self.decay + self.growth * step, self.longest)
        cooling = (1 + self.hottest - torch.exp(positions / scale)).clamp(min=self.coldest)
        return torch.where(positions < self.warm_up, 1.0, cooling)

    @hookimpl
    def sampling(self, step: int) -> None:
        self._step = step  # asked before every generation, and `process_logits` is not told

    @hookimpl(specname="process_logits")
    def temper(self, logits: Tensor, positions: Tensor) -> Tensor:
        return logits / self.factors(positions, self._step)[:, None]
