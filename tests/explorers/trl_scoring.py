"""What TRL 1.16's own `GRPOTrainer._generate_and_score_completions` makes of given log-probabilities and rewards."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from trl_loss import TrlLoss


@functools.cache
def _trainer() -> Any:
    return TrlLoss().trainer


def trl_scored(
    lengths: list[int],
    *,
    rewards: Tensor | None = None,
    weights: list[float] | None = None,
    policy_logps: Tensor | None = None,
    sampling_logps: Tensor | None = None,
    **attributes: Any,
) -> dict[str, Tensor]:
    """The trainer's inputs of the loss, among them `advantages` and, with `use_vllm=True`,
    `importance_sampling_ratio` (N, T) or (N, 1).

    lengths: of each completion. rewards: (N, number of rewards), NaN where a function returned None. attributes: of the
    trainer, such as `scale_rewards` and `vllm_importance_sampling_mode`. Groups are of `num_generations` rows.
    """
    trainer, rows = _trainer(), len(lengths)
    rewards = torch.zeros(rows, 1) if rewards is None else rewards
    zeros = torch.zeros(rows, max(lengths))
    policy = zeros if policy_logps is None else policy_logps
    sampled = zeros if sampling_logps is None else sampling_logps
    names = [f"reward_{i}" for i in range(rewards.shape[1])]
    settings = {
        "reward_funcs": names,
        "reward_func_names": names,
        "reward_weights": torch.tensor(weights or [1.0] * len(names)),
        "num_generations": rows,
        "beta": 0.0,
        "scale_rewards": "group",
        "multi_objective_aggregation": "sum_then_normalize",
        "use_vllm": False,
        "vllm_importance_sampling_correction": True,
        "_calculate_rewards": lambda *_: rewards,
        "_tokenize_prompts": lambda _: ([[4, 5]] * rows, None, {}),
        "_generate_single_turn": lambda *_: (
            [[7] * length for length in lengths],
            [row[:length] for row, length in zip(sampled.tolist(), lengths, strict=True)],
        ),
        "_get_per_token_logps_and_entropies": lambda *_, **__: (policy, zeros, None),
    }
    for name, value in (settings | attributes).items():
        setattr(trainer, name, value)
    return trainer._generate_and_score_completions([{"prompt": "x"} for _ in lengths])
