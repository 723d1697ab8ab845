"""GRPO as pure functions of tensors: group advantages, ratio, clipped surrogate, KL, aggregation.

Sources: GRPO, arXiv 2402.03300; Dr. GRPO, arXiv 2503.20783; separate clip ranges and token-level aggregation, DAPO,
arXiv 2503.14476. Shapes: N rows of a step, n of a micro-batch, T completion tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from callwright.hookspecs import hookimpl
from callwright.types import MicroBatch, Need, Rollouts

AdvantageScale = Literal["group", "batch", "none"]
Aggregation = Literal["token", "sequence", "constant"]

STD_EPSILON = 1e-4
"""Added to a standard deviation before dividing by it; TRL's value, so that both give the same advantages."""


def group_statistics(rewards: Tensor, group_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and number of the rewards in each row's group, spread over the rows.

    rewards: (N,) float; NaN marks a row that takes no part. group_ids: (N,) long; groups may differ in size.

    Returns mean, std, count, each (N,) in the dtype of `rewards`. The standard deviation has Bessel's correction and
    is 0 for fewer than two rewards; the mean of a group without rewards is 0.
    """
    _, index = torch.unique(group_ids, return_inverse=True)
    groups = int(index.max()) + 1 if len(index) else 0
    takes_part = ~rewards.isnan()
    values = torch.where(takes_part, rewards, 0.0)

    def sum_by_group(x: Tensor) -> Tensor:
        return rewards.new_zeros(groups).index_add(0, index, x)

    count = sum_by_group(takes_part.to(rewards.dtype))
    mean = sum_by_group(values) / count.clamp(min=1)
    deviation = torch.where(takes_part, rewards - mean[index], 0.0)
    std = (sum_by_group(deviation.square()) / (count - 1).clamp(min=1)).sqrt()
    return mean[index], std[index], count[index]


def group_advantages(rewards: Tensor, group_ids: Tensor, scale: AdvantageScale = "group") -> Tensor:
    """Reward minus the group's mean, divided by a standard deviation.

    rewards: (N,) float; NaN marks a row that takes no part: it does not count in its group and gets 0.
    group_ids: (N,) long. scale: divide by the group's standard deviation ("group", arXiv 2402.03300), by that of the
    whole step ("batch"), or not at all ("none", Dr. GRPO, arXiv 2503.20783).

    Returns (N,). Rows of a group whose rewards are all equal get exactly 0.
    """
    mean, std, count = group_statistics(rewards, group_ids)
    if scale == "batch":
        _, std, _ = group_statistics(rewards, torch.zeros_like(group_ids))
    centred = rewards - mean
    flat = rewards.isnan() | (count < 2) | flat_groups(rewards, group_ids)
    advantages = centred if scale == "none" else centred / (std + STD_EPSILON)
    return torch.where(flat, 0.0, advantages)


def flat_groups(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """(N,) bool: True on rows of groups in which no two rewards differ, so that plain GRPO learns nothing from them."""
    _, index = torch.unique(group_ids, return_inverse=True)
    groups = int(index.max()) + 1 if len(index) else 0
    low = rewards.new_full((groups,), torch.inf).scatter_reduce(0, index, rewards.nan_to_num(nan=torch.inf), "amin")
    high = rewards.new_full((groups,), -torch.inf).scatter_reduce(0, index, rewards.nan_to_num(nan=-torch.inf), "amax")
    return (high <= low)[index]


def clipped_surrogate(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, clip_low: float = 0.2, clip_high: float = 0.2
) -> Tensor:
    """Loss of every token: -min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A), ratio = exp(new - old).

    All tensors have one shape, usually (n, T); the gradient flows through `logps`. With `clip_high` above `clip_low`
    this is DAPO's clip-higher (arXiv 2503.14476).
    """
    ratio = (logps - old_logps).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def clip_mask(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, clip_low: float = 0.2, clip_high: float = 0.2
) -> Tensor:
    """Bool, same shape: tokens whose gradient the clip removes."""
    ratio = (logps - old_logps).exp()
    return ((ratio < 1 - clip_low) & (advantages < 0)) | ((ratio > 1 + clip_high) & (advantages > 0))


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """The k3 estimate of KL(policy || reference) at every token: exp(d) - d - 1 with d = ref - policy; never negative.

    Source: Schulman, "Approximating KL divergence" (2020), as used by GRPO (arXiv 2402.03300, eq. 4).
    """
    difference = ref_logps - logps
    return difference.exp() - difference - 1


def token_shares(mask: Tensor, takes_part: Tensor, aggregation: Aggregation, max_length: int) -> Tensor:
    """Each token's share of the step's loss: the loss is the sum of `share * loss` over all tokens of the step.

    mask: (N, T) bool. takes_part: (N,) bool; rows that are False get 0 and do not count.
    aggregation: "token" divides by the step's number of tokens (DAPO, arXiv 2503.14476), "sequence" takes the mean
    over rows of each row's mean over tokens (GRPO, arXiv 2402.03300), "constant" divides by rows times `max_length`
    (Dr. GRPO, arXiv 2503.20783).

    Returns (N, T) float32.
    """
    tokens = (mask & takes_part[:, None]).float()
    rows = takes_part.sum().clamp(min=1)
    if aggregation == "token":
        return tokens / tokens.sum().clamp(min=1)
    if aggregation == "sequence":
        return tokens / tokens.sum(1, keepdim=True).clamp(min=1) / rows
    return tokens / (rows * max_length)


class Defaults:
    """The core's own GRPO, registered behind all plugins: they answer first."""

    def __init__(self, advantage_scale: AdvantageScale, clip_low: float, clip_high: float, kl: float) -> None:
        self.advantage_scale = advantage_scale
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.kl = kl
        self.needs = (Need.REF_LOGPS,) if kl else ()

    @hookimpl
    def advantages(self, rollouts: Rollouts) -> Tensor:
        assert rollouts.total is not None
        return group_advantages(rollouts.total, rollouts.group_ids, self.advantage_scale)

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        return clipped_surrogate(batch.logps, batch.old_logps, batch.advantages, self.clip_low, self.clip_high)

    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor] | None:
        if not self.kl:
            return None
        assert batch.ref_logps is not None
        return {"kl_loss": self.kl * batch.aggregate(kl_k3(batch.logps, batch.ref_logps))}
