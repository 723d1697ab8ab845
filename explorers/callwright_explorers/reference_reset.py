"""Explorer `reference_reset`: from time to time the policy becomes its own reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import hookimpl

from callwright_explorers._coefficient import require, require_count
from callwright_explorers._reference import reference_mistakes

if TYPE_CHECKING:
    from callwright.loop import Control
    from callwright.recipe import Recipe


@dataclass
class ReferenceReset:
    """Replace the reference model by the policy, and let the optimizer forget, when training stands still.

    reference := policy, and the optimizer's running means are cleared, after a step when

    - `every` steps have passed since the last reset (or the beginning), or
    - `metric` is measured and not better, by more than `margin`, than its best value since the last reset, and that
      value is at least `patience` steps old. (`validation_accuracy` is measured every `train.evaluate_every` steps.)

    Afterwards both counts begin again and the best value is forgotten. So the divergence, which by then holds the
    policy back, is 0 in the next step, and training goes on from where it is.

    This is ProRL's reference policy reset (arXiv 2505.24864): a hard reset of reference and optimizer, periodically,
    taken from summaries of the paper, whose text was not checked. It resets by hand when validation stands still or
    falls, after some hundred steps each; the numbers here are not the paper's. A mean `reward` is noisy, so that a
    best value stays unbeaten by chance: give it much patience, or use `validation_accuracy`.

    Raises ValueError for a number of steps below 1, a margin below 0, and if neither `every` nor `patience` is given.
    """

    every: int | None = 200
    """Steps between two resets; null for resets by `patience` alone."""
    patience: int | None = None
    """Age of the best value, in steps, from which on training stands still; by default that is not looked at."""
    metric: Literal["reward", "validation_accuracy"] = "validation_accuracy"
    margin: float = 0.0
    """By how much a value must be better, at least 0."""
    forget: bool = True
    """Clear the optimizer's running means too."""
    _since: int = field(default=0, init=False, repr=False, compare=False)
    _waited: int = field(default=0, init=False, repr=False, compare=False)
    _best: float | None = field(default=None, init=False, repr=False, compare=False)

    # There are no `neutral` options: it contributes to no hook, and without a reset it has no purpose.
    formula: ClassVar[str] = "π_ref ← π and Adam's means ← 0, every N steps or when a metric has stagnated for N"
    source: ClassVar[str] = "arXiv 2505.24864 (ProRL)"
    use_when: ClassVar[str] = "A long run with a KL term stops getting better."

    def __post_init__(self) -> None:
        require_count("every", self.every)
        require_count("patience", self.patience)
        require("margin", self.margin, 0)
        if self.every is None and self.patience is None:
            raise ValueError("one of every and patience must be given")
        if self.metric not in ("reward", "validation_accuracy"):
            raise ValueError(f"metric must be 'reward' or 'validation_accuracy', not {self.metric!r}")

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        found = reference_mistakes(recipe)
        measured = bool(recipe.train.evaluate_every and recipe.data.validation)
        if self.patience is not None and self.metric == "validation_accuracy" and not measured:
            text = "patience waits for validation_accuracy, which is not measured; set train.evaluate_every and"
            found.append(f"{text} data.validation above 0, or metric: reward")
        return found

    @hookimpl
    def step_ended(self, metrics: Mapping[str, float], control: Control) -> None:
        self._since += 1
        self._waited += 1
        value = metrics.get(self.metric, math.nan)
        measured = math.isfinite(value)
        if measured and (self._best is None or value > self._best + self.margin):
            self._best, self._waited = value, 0
        due = self.every is not None and self._since >= self.every
        stagnates = self.patience is not None and measured and self._waited >= self.patience
        if due or stagnates:
            control.reset_reference()
            if self.forget:
                control.reset_optimizer()
            self._since, self._waited, self._best = 0, 0, None

    def state_dict(self) -> dict[str, Any]:
        return {"since": self._since, "waited": self._waited, "best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._since, self._waited, self._best = state["since"], state["waited"], state["best"]
