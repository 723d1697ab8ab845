"""Explorer `diversity`: completions that make the same calls share a reward."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import Rollouts, hookimpl

from callwright_explorers._calls import Item, items_of, similarity

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Diversity:
    """Divide each reward by how much the completion resembles its group, itself included.

        r_i <- (1 - strength) r_i + strength r_i / sum over j of s_ij        s_ii = 1, so the sum is 1 to G

    s_ij is the similarity of two rows' calls: the Jaccard index of two multisets that hold, for every call, its
    function, and for every argument (function, argument name, value). So order does not matter, values are compared by
    type and content, and equal calls count as often as they are made. Completions without a call are equal to each
    other; an unparsable one is equal only to one with the same text. The sum runs over the rows of the group that take
    part in training. Rewards are divided whatever their sign, so that a redundant punishment is smaller, too.

    The formula with `strength: 1` is DRA-GRPO's (arXiv 2505.09655), which takes the cosine of text embeddings for s
    and adds 1e-6 to the sum; a sum of at least 1 needs no such constant. Its published code compares all rows on a
    device with each other, although the formula is about a group; here it is the group.

    Raises ValueError for a strength outside [0, 1].
    """

    strength: float = 1.0
    """0 leaves rewards as they are, 1 divides them in full."""

    formula: ClassVar[str] = "r ← r / Σⱼ s(i, j) over the group, s = Jaccard index of (function, argument, value)"
    source: ClassVar[str] = "arXiv 2505.09655, with calls for embeddings"
    use_when: ClassVar[str] = "Several answers are accepted, or rewards are graded, and groups repeat one answer."
    neutral: ClassVar[dict[str, Any]] = {"strength": 0.0}

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, not {self.strength}")

    @hookimpl
    def shape_rewards(self, rollouts: Rollouts) -> Tensor:
        """delta (N,): 0 for a completion that resembles none of its siblings."""
        import torch

        assert rollouts.total is not None
        total = rollouts.total.detach()
        groups: dict[int, list[int]] = defaultdict(list)
        for row, group in enumerate(rollouts.group_ids.tolist()):
            if not math.isnan(float(total[row])):
                groups[group].append(row)
        crowd = torch.ones(len(rollouts), dtype=torch.float64)
        for rows in groups.values():
            items = [items_of(rollouts.parses[row]) for row in rows]
            for row, own in zip(rows, items, strict=True):
                crowd[row] = _resemblance(own, items)
        return (self.strength * (total / crowd - total)).masked_fill(total.isnan(), 0.0).to(total.dtype)


def _resemblance(own: Counter[Item], items: list[Counter[Item]]) -> float:
    """Sum of the similarities to all, the same in whatever order they stand."""
    return math.fsum(similarity(own, other) for other in items)
