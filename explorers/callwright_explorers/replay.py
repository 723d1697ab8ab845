"""Explorer `replay`: successes of earlier steps join the groups of their tasks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from callwright import Replayed, Rollouts, hookimpl
from callwright.types import JSON

from callwright_explorers._success import check_threshold, scores, successes


@dataclass
class _Success:
    """A completion in the pool."""

    task: str
    ids: list[int]
    logps: list[float]
    """Of each token, in nats, when it was drawn."""

    def order(self, step: int) -> str:
        """A number by which to choose at random, the same whenever this step is run."""
        return hashlib.sha256(f"{step}:{self.task}:{self.ids}".encode(errors="surrogatepass")).hexdigest()


@dataclass
class Replay:
    """Add up to `add` verified successes of earlier steps to the group of a task when it comes again.

        G' = G + min(add, successes in the task's pool that the group has not drawn itself)

    and advantages are those of all G' rows.

    After each step the pool takes the step's own completions that reach `threshold`, end by themselves and take part
    in training; of those with the same tokens it keeps the newest. What is replayed is drawn from the task's pool
    at random. Replayed rows are scored again; a ratio in the loss compares with the policy before the step's first
    update, as RLEP's code does by scoring them with the others. Nothing corrects for their age, unless
    `importance_correction` is in the recipe.

    RLEP (arXiv 2507.07451) adds 2 to groups of 16 (its `rlep_training.sh`), from a pool that an earlier run has
    filled once; here the run fills its own pool as it goes, so that the first time a task comes nothing joins it. An
    option to help only groups without a success of their own is impossible: replayed rows join before anything is
    scored. The bounds of the pool are this project's own. The pool is in the checkpoints as text: about 25 bytes for
    each token.

    Raises ValueError for an `add` below 0, a bound below 1, and a threshold that is no number.
    """

    add: int = 2
    """Most successes that join one group."""
    threshold: float = 1.0
    """A completion is a success from this reward on."""
    reward: str | None = None
    """Name of the reward to look at. Default: the combined one, after what explorers add to it."""
    per_task: int = 8
    """Most successes of one task in the pool; the oldest leaves."""
    total: int = 2000
    """Most successes in the pool; the oldest leaves."""

    _pool: list[_Success] = field(default_factory=list, init=False, repr=False)
    """The oldest first."""

    formula: ClassVar[str] = "G + M rows in a group, M verified successes of earlier steps; advantages over all of them"
    source: ClassVar[str] = "arXiv 2507.07451"
    use_when: ClassVar[str] = "Hard tasks are solved once in a while, and the next time not at all."
    neutral: ClassVar[dict[str, Any]] = {"add": 0}

    def __post_init__(self) -> None:
        if self.add < 0:
            raise ValueError(f"add must be at least 0, not {self.add}")
        for name in ("per_task", "total"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        check_threshold(self.threshold)

    @hookimpl
    def replay(self, rollouts: Rollouts) -> list[Replayed]:
        """At most `add` completions for each group."""
        groups = rollouts.group_ids.tolist()
        drawn: dict[int, list[list[int]]] = {group: [] for group in sorted(groups)}
        tasks = dict(zip(groups, (task.id for task in rollouts.tasks), strict=True))
        for row, group in enumerate(groups):
            drawn[group].append(_tokens(rollouts, row))
        found = []
        for group, own in drawn.items():
            pool = [one for one in self._pool if one.task == tasks[group] and one.ids not in own]
            pool.sort(key=lambda one: one.order(rollouts.step))
            found += [Replayed(group, one.ids, one.logps) for one in pool[: self.add]]
        return found

    @hookimpl
    def step_ended(self, rollouts: Rollouts) -> None:
        """Put the step's own successes into the pool."""
        for new in self._successes(rollouts):
            same = [one for one in self._pool if one.task == new.task]
            leaves = [one for one in same if one.ids == new.ids] or same[: max(0, len(same) - self.per_task + 1)]
            self._pool = [one for one in self._pool if all(one is not old for old in leaves)]
            self._pool.append(new)
        del self._pool[: max(0, len(self._pool) - self.total)]

    def _successes(self, rollouts: Rollouts) -> Iterator[_Success]:
        """In an order that is not that of the rows."""
        good = successes(scores(rollouts, self.reward), self.threshold) & ~rollouts.off_policy & ~rollouts.truncated
        found = []
        for row in good.nonzero().squeeze(1).tolist():
            logps = rollouts.behaviour_logps[row][rollouts.mask[row]].tolist()
            if logps and all(map(math.isfinite, logps)):
                found.append(_Success(rollouts.tasks[row].id, _tokens(rollouts, row), logps))
        yield from sorted(found, key=lambda one: (one.order(rollouts.step), one.logps))

    def state_dict(self) -> dict[str, JSON]:
        return {"pool": [[one.task, one.ids, one.logps] for one in self._pool]}

    def load_state_dict(self, state: dict[str, JSON]) -> None:
        self._pool = [_Success(task, list(ids), list(logps)) for task, ids, logps in state["pool"]]


def _tokens(rollouts: Rollouts, row: int) -> list[int]:
    return rollouts.completion_ids[row][rollouts.mask[row]].tolist()
