"""What `clip_cov` and `kl_cov` share: the covariance of log-probability and advantage, and tokens drawn by a hash."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from callwright import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

_MULTIPLIERS = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
"""Those of splitmix64, as signed numbers."""


def counted(rollouts: Rollouts) -> Tensor:
    """(N, T) bool: tokens of the rows that take part."""
    return rollouts.mask if rollouts.total is None else rollouts.mask & ~rollouts.total.isnan()[:, None]


def covariance(rollouts: Rollouts) -> Tensor:
    """(N, T) float64: each token's part of the covariance over the whole step, in nats times units of the advantage.

    (A_it - mean of A) (log pi_it - mean of log pi), of the policy that drew the step; means over all tokens of the rows
    that take part. -inf elsewhere.
    """
    import torch  # here, so that listing and checking plugins stay quick

    assert rollouts.advantages is not None
    tokens = counted(rollouts)
    advantages, logps = rollouts.advantages.detach().double(), rollouts.policy_logps.detach().double()
    product = (advantages - advantages[tokens].mean()) * (logps - logps[tokens].mean())
    return torch.where(tokens, product, -torch.inf)


def number_of(share: float, rollouts: Rollouts) -> int:
    """That share of the step's tokens, at least one of them; 0 for a share of 0."""
    return max(int(share * int(counted(rollouts).sum())), 1) if share else 0


def highest(values: Tensor, eligible: Tensor, number: int) -> Tensor:
    """Bool: the `number` eligible places with the highest values, and all that equal the last of them.

    So rows that are the same are treated the same, and no order of rows counts.
    """
    import torch

    places = min(number, int(eligible.sum()))
    if not places:
        return torch.zeros_like(eligible)
    return eligible & (values >= values[eligible].topk(places).values[-1])


def drawn(rollouts: Rollouts) -> Tensor:
    """(N, T) long: a random number for each token, from the step, the prompt, and the tokens up to it alone.

    The same in every pass, whatever the order of rows, the padding and the micro-batches.
    """
    import torch

    seeds = torch.tensor([_seed(rollouts.step, tuple(ids)) for ids in rollouts.prompt_ids], dtype=torch.long)
    position = torch.arange(rollouts.mask.shape[1]) * _MULTIPLIERS[0]
    mixed = _mix(rollouts.completion_ids + position) * rollouts.mask
    return _mix(mixed.cumsum(1) + seeds[:, None])


def _seed(step: int, prompt: tuple[int, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr((step, prompt)).encode(), digest_size=8).digest(), "big", signed=True)


def _mix(x: Tensor) -> Tensor:
    """splitmix64 on signed numbers, which wrap around."""
    for shift, multiplier in ((30, _MULTIPLIERS[1]), (27, _MULTIPLIERS[2])):
        x = (x ^ _shifted(x, shift)) * multiplier
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, with zeros on the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
