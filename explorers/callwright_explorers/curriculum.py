"""Explorer `curriculum`: prompts that are sometimes solved come more often than those always or never solved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import Rollouts, Task, hookimpl
from callwright.types import JSON

from callwright_explorers._success import check_threshold, scores, successes

if TYPE_CHECKING:
    from torch import Tensor

Form = Literal["variance", "gaussian"]


@dataclass
class Curriculum:
    """Draw each task with a weight that depends on its running pass rate p.

        p <- (1 - rate) p + rate (share of the group's rows with reward >= threshold)       p starts at `target`
        w  = floor + (1 - floor) f(p)
        variance: f = 4 p (1 - p)        gaussian: f = exp(-(p - target)^2 / (2 width^2))

    f is 1 at the target, so that a task that was never drawn has the highest weight there is, and at least `floor`, so
    that no task dies. Every group that was generated counts once, those that a plugin dropped (`dynamic_sampling`)
    included: they are seen in `keep_groups`, and the rates change when the step ends. Replayed rows, and rows that take
    no part, do not count; a group without others leaves p as it is. The rates are in the checkpoints.

    Weights change how often a task is drawn and nothing else: the loss is not corrected for it. There is no order of
    epochs any more; a task may come again before another has come at all.

    p (1 - p), the variance of success, is "learnability" as Foster et al. take it for LLMs ("Learning to Reason at the
    Frontier of Learnability", 2025; the abstract was read, not the text), who measure p anew with extra rollouts. The
    running mean, the bell curve and the floor are this project's own, and so are the defaults.

    Raises ValueError for a rate, target or floor outside its range, a width that is not positive, a target or width
    that the form does not use, and a threshold that is no number.
    """

    form: Form = "variance"
    target: float = 0.5
    """Pass rate with the highest weight, 0 to 1; with `variance` it is 0.5."""
    width: float | None = None
    """gaussian: standard deviation of the bell curve, above 0; by default 0.25."""
    rate: float = 0.5
    """Share of the newest observation in the running pass rate, above 0 and at most 1."""
    floor: float = 0.05
    """Lowest weight, where the highest is 1; above 0 and at most 1. With 1 all tasks are drawn alike."""
    threshold: float = 1.0
    """A completion passes from this reward on."""
    reward: str | None = None
    """Name of the reward to look at. Default: the combined one, after what explorers add to it."""

    _rates: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    """Task id -> running pass rate."""
    _seen: dict[int, tuple[str, float]] = field(default_factory=dict, init=False, repr=False)
    """This step's groups: number -> task id and share of rows that passed. Empty between steps."""
    _step: int = field(default=-1, init=False, repr=False)

    formula: ClassVar[str] = "P(task) ∝ floor + (1 - floor)·4p(1 - p), p = running pass rate"
    source: ClassVar[str] = "p(1 - p): Foster et al. 2025, Learning to Reason at the Frontier of Learnability"
    use_when: ClassVar[str] = "The data mix easy and hard tasks, and most prompts of a step are solved always or never."
    neutral: ClassVar[dict[str, Any]] = {"floor": 1.0}

    def __post_init__(self) -> None:
        if self.form not in ("variance", "gaussian"):
            raise ValueError(f"form must be 'variance' or 'gaussian', not {self.form!r}")
        if not 0 <= self.target <= 1:
            raise ValueError(f"target must be between 0 and 1, not {self.target}")
        if self.form == "variance" and self.target != 0.5:
            raise ValueError(f"target is 0.5 with form 'variance', not {self.target}; take form 'gaussian'")
        if self.form == "variance" and self.width is not None:
            raise ValueError("width has no effect with form 'variance'; leave it out")
        if self.width is not None and not 0 < self.width < math.inf:
            raise ValueError(f"width must be a number above 0, not {self.width}")
        for name in ("rate", "floor"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, not {getattr(self, name)}")
        check_threshold(self.threshold)

    @hookimpl
    def task_weights(self, tasks: Sequence[Task]) -> Tensor:
        """(number of tasks,), between floor and 1."""
        import torch

        return torch.tensor([self.weight(self._rates.get(task.id, self.target)) for task in tasks])

    def weight(self, passed: float) -> float:
        """Of a task with this pass rate."""
        if self.form == "variance":
            best = 4 * passed * (1 - passed)
        else:
            best = math.exp(-((passed - self.target) ** 2) / (2 * (self.width or 0.25) ** 2))
        return self.floor + (1 - self.floor) * best

    @hookimpl
    def keep_groups(self, rollouts: Rollouts) -> None:
        """Keeps all; looks at each group once, before other plugins' dropped groups are gone."""
        self._look(rollouts)

    @hookimpl
    def step_ended(self, rollouts: Rollouts) -> None:
        """Move the running pass rates."""
        if self._step != rollouts.step:
            self._look(rollouts)  # nobody asked `keep_groups`
        for _, (task, passed) in sorted(self._seen.items()):
            self._rates[task] = (1 - self.rate) * self._rates.get(task, self.target) + self.rate * passed
        self._seen = {}

    def _look(self, rollouts: Rollouts) -> None:
        if self._step != rollouts.step:
            self._seen, self._step = {}, rollouts.step
        values = scores(rollouts, self.reward)
        passed, counts = successes(values, self.threshold), ~values.isnan() & ~rollouts.off_policy
        groups = rollouts.group_ids.tolist()
        for group in sorted(set(groups)):
            rows = counts & (rollouts.group_ids == group)
            if rows.any():
                task = rollouts.tasks[groups.index(group)].id
                self._seen[group] = (task, float(passed[rows].double().mean()))

    def state_dict(self) -> dict[str, JSON]:
        return {"rates": dict(self._rates)}

    def load_state_dict(self, state: dict[str, JSON]) -> None:
        self._rates = dict(state["rates"])
        self._seen, self._step = {}, -1
