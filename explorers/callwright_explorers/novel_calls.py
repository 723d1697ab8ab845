"""Explorer `novel_calls`: a bonus for calls that were seldom made."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import Rollouts, hookimpl
from callwright.call_keys import key_of_calls
from callwright.types import JSON

from callwright_explorers._success import check_threshold, successes

if TYPE_CHECKING:
    from torch import Tensor

Over = Literal["group", "history"]


@dataclass
class NovelCalls:
    """Add a bonus that falls with the number of completions that made the same calls.

        r_i <- r_i + strength / sqrt(n_i)        for rows that make calls

    n_i is how many rows of the group make the same calls, row i included; `over: history` adds how often they were made
    for this task in earlier steps. The same are calls of equal functions with equal arguments and, with `values`,
    equal values, in any order. Rows without a call and rows that take no part get nothing and do not count.

    The history holds a hash and a count for each pair of task and calls, of the steps' own completions that entered
    training (not of groups that a plugin dropped, nor of replayed rows), and forgets what it has not seen for longest
    when there are more than `remember` of them. It is in the checkpoints.

    The bonus pays for wrong calls, too, so that a strength near the reward's own size teaches variety for its own sake;
    `only_correct` leaves it to right ones.

    A bonus that falls with the root of a hash's count is #Exploration's (arXiv 1611.04717; the abstract was read);
    taking the calls for what is counted is this project's own. Outcome-based exploration (arXiv 2509.06941) rewards
    seldom seen final answers in a similar way; its formula and constants could not be checked and are not offered. The
    strength has no published value; 0.1 keeps the bonus well below a reward of 1.

    Raises ValueError for a strength that is not a number of at least 0, an unknown `over`, `remember` below 1, and a
    threshold that is no number.
    """

    strength: float = 0.1
    """Bonus of calls that nobody else made, in units of the reward."""
    over: Over = "group"
    """Count in the group only, or in all earlier steps, too."""
    values: bool = True
    """Whether other values make other calls; without, only functions and names of arguments count."""
    only_correct: bool = False
    """Give the bonus to correct completions only, those whose combined reward reaches `threshold`."""
    threshold: float = 1.0
    """For `only_correct`."""
    remember: int = 50_000
    """history: most pairs of task and calls that are kept."""

    _history: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    """Hash -> count, the one seen longest ago first."""

    formula: ClassVar[str] = "r ← r + β/√n, n = how often these calls were made in the group or the history"
    source: ClassVar[str] = "count-based exploration (arXiv 1611.04717) on calls"
    use_when: ClassVar[str] = "The model repeats one wrong call per task and no sibling tries another."
    neutral: ClassVar[dict[str, Any]] = {"strength": 0.0}

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"strength must be a number of at least 0, not {self.strength}")
        if self.over not in ("group", "history"):
            raise ValueError(f"over must be 'group' or 'history', not {self.over!r}")
        if self.remember < 1:
            raise ValueError(f"remember must be at least 1, not {self.remember}")
        check_threshold(self.threshold)

    @hookimpl
    def shape_rewards(self, rollouts: Rollouts) -> Tensor:
        """delta (N,), between 0 and strength."""
        import torch

        assert rollouts.total is not None
        total = rollouts.total.detach()
        keys, groups = self._keys(rollouts), rollouts.group_ids.tolist()
        counts = Counter(zip(groups, keys, strict=True))
        delta = torch.zeros_like(total)
        for row, (group, key) in enumerate(zip(groups, keys, strict=True)):
            if key is not None:
                delta[row] = self.strength / math.sqrt(counts[group, key] + self._history.get(key, 0))
        return torch.where(successes(total, self.threshold), delta, 0.0) if self.only_correct else delta

    @hookimpl
    def step_ended(self, rollouts: Rollouts) -> None:
        """Count this step's calls."""
        if self.over != "history":
            return
        new = Counter(
            key
            for key, old in zip(self._keys(rollouts), rollouts.off_policy.tolist(), strict=True)
            if key is not None and not old
        )
        for key in sorted(new):  # rows in another order leave the same history
            self._history[key] = self._history.pop(key, 0) + new[key]
        for key in list(self._history)[: max(0, len(self._history) - self.remember)]:
            del self._history[key]

    def state_dict(self) -> dict[str, JSON]:
        return {"history": [[key, count] for key, count in self._history.items()]}

    def load_state_dict(self, state: dict[str, JSON]) -> None:
        self._history = dict(state["history"])

    def _keys(self, rollouts: Rollouts) -> list[str | None]:
        """Hash of each row's task and calls; None for rows without calls and rows that take no part."""
        assert rollouts.total is not None
        outside = rollouts.total.isnan().tolist()
        return [
            None if not parse.calls or out else self._key(task.id, key_of_calls(parse.calls, values=self.values))
            for task, parse, out in zip(rollouts.tasks, rollouts.parses, outside, strict=True)
        ]

    @staticmethod
    def _key(task: str, calls: str) -> str:
        """A hash that takes little room in a checkpoint."""
        return hashlib.sha256(f"{len(task)}:{task}{calls}".encode(errors="surrogatepass")).hexdigest()[:24]
