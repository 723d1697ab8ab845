"""Explorer `unlikeliness`: of a group's correct completions, the likely ones are worth less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import Rollouts, hookimpl

from callwright_explorers._success import check_threshold, successes

if TYPE_CHECKING:
    from torch import Tensor

Likelihood = Literal["mean", "sum"]

TIE = 1e-4
"""Nats by which two log-probabilities may differ and still count as equal: the same tokens scored in two batches do."""


@dataclass
class Unlikeliness:
    """Take a share of the reward from correct completions, the more the likelier they are among their siblings.

    In a group of G rows let rank_i be the number of rows that are less likely than row i, from 0 for the least likely
    to G - 1 for the likeliest; rows that are equally likely share the mean of their ranks. Then

        r_i <- r_i (1 - beta rank_i / G)        where r_i >= threshold, else r_i stays.

    The likelihood of a row is the log-probability in nats that the policy gives its tokens, their mean (`mean`) or
    their sum (`sum`). Wrong rows take ranks too. A group whose rows are all correct is no longer flat: its rare
    completions gain on the common ones.

    This is what the paper's published code does, with beta 0.25 (`rank_penalty` in its run script) and the mean over
    tokens, for rewards of 0 and 1; there it multiplies every reward, and ties fall as the sort leaves them. A third
    party describes the paper's equation as 1 - beta (G - rank) / G with rank 0 for the likeliest, which is the same up
    to beta / G; the paper's text was not checked. Rewards of rows that take no part count nowhere.

    Raises ValueError for a beta outside [0, 1], an unknown likelihood, and a threshold that is no number.
    """

    beta: float = 0.25
    """Share of the reward that the likeliest completion of a very large group loses, 0 to 1."""
    likelihood: Likelihood = "mean"
    """Compare log-probabilities per token, or of the whole completion; the sum takes long completions for unlikely."""
    threshold: float = 1.0
    """A completion is correct from this combined reward on."""

    formula: ClassVar[str] = "r ← r·(1 - β·rank/G) for correct rows, rank 0 = least likely of its group"
    source: ClassVar[str] = "arXiv 2506.02355"
    use_when: ClassVar[str] = "Many completions are right but all of one kind, and pass@k falls as pass@1 rises."
    neutral: ClassVar[dict[str, Any]] = {"beta": 0.0}

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta must be between 0 and 1, not {self.beta}")
        if self.likelihood not in ("mean", "sum"):
            raise ValueError(f"likelihood must be 'mean' or 'sum', not {self.likelihood!r}")
        check_threshold(self.threshold)

    @hookimpl
    def shape_rewards(self, rollouts: Rollouts) -> Tensor:
        """delta (N,), at most 0 for positive rewards; 0 for wrong rows."""
        import torch

        assert rollouts.total is not None
        total = rollouts.total.detach()
        logps = torch.where(rollouts.mask, rollouts.policy_logps.detach(), 0.0).double().sum(1)
        if self.likelihood == "mean":
            logps = logps / rollouts.lengths.clamp(min=1)
        delta = torch.zeros_like(total)
        takes_part = ~total.isnan()
        for group in rollouts.groups:
            rows = ((rollouts.group_ids == group) & takes_part).nonzero().squeeze(1)
            delta[rows] = -self.beta * (_ranks(logps[rows]) / max(len(rows), 1)).to(delta) * total[rows]
        return torch.where(successes(total, self.threshold), delta, 0.0)


def _ranks(values: Tensor) -> Tensor:
    """Of each value of (G,): how many are smaller, and half of how many others are equal to it."""
    ahead = values[:, None] - values
    return (ahead > TIE).sum(1) + ((ahead.abs() <= TIE).sum(1) - 1) / 2
