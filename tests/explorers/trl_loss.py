"""The same tensors through TRL 1.16's own `GRPOTrainer._compute_loss` and through callwright's hooks.

@given(steps())
def test_it_is_trls(step):
    ours = our_loss([ClipHigher(clip_high=0.28)], step, aggregation="sequence")
    assert_same(ours, trl_loss(step, loss_type="grpo", epsilon_high=0.28))
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from callwright import grpo
from callwright.hooks import Hooks, Named
from callwright.testing import tiny_model, tiny_tokenizer
from callwright.testing.explorer_steps import random_step
from callwright.types import MicroBatch, Rollouts
from hypothesis import strategies as st
from torch import Tensor

trl = pytest.importorskip("trl", reason="the peer is not installed")

MAX_LENGTH = 16
"""For the aggregation `constant`, which is TRL's `dr_grpo`."""
TOLERANCE = 1e-5


@dataclass
class Step:
    """One step before its update: `rollouts` with `advantages` (N, T) and `ref_logps`, and the policy's numbers."""

    rollouts: Rollouts
    logps: Tensor
    """(N, T): of the policy now."""
    old_logps: Tensor
    """(N, T): before the first update."""
    entropy: Tensor
    """(N, T), nats."""
    top_logps: Tensor | None = None
    """(N, T, K), for `Need.TOP_LOGPS`: now, before, and of which tokens."""
    old_top_logps: Tensor | None = None
    top_ids: Tensor | None = None

    @property
    def takes_part(self) -> Tensor:
        assert self.rollouts.total is not None
        return ~self.rollouts.total.isnan()


@dataclass
class Loss:
    value: Tensor
    """Scalar."""
    logps: Tensor
    """(N, T): gradient with respect to the log-probabilities."""
    entropy: Tensor
    """(N, T): gradient with respect to the entropies."""
    top_logps: Tensor | None = None
    """(N, T, K)."""


def make_step(seed: int = 0, sizes: tuple[int, ...] = (3, 2), tokens: int = 6, spread: float = 0.5) -> Step:
    """Ragged groups in any order; log-ratios up to `spread` nats; every row has one advantage for all its tokens, some
    have 0; from five rows on, one takes no part."""
    rollouts = random_step(seed, sizes, tokens)
    generator = torch.Generator().manual_seed(seed + 1)
    rows, mask = len(rollouts), rollouts.mask
    advantages = torch.randn(rows, generator=generator) * (torch.rand(rows, generator=generator) > 0.15)
    rollouts.advantages = advantages[:, None] * mask
    rollouts.policy_logps = rollouts.policy_logps.clamp(max=-0.01) * mask
    old = (rollouts.policy_logps + 0.01 * torch.rand(mask.shape, generator=generator)) * mask
    noise = (2 * torch.rand(mask.shape, generator=generator) - 1) * spread
    return Step(rollouts, (old + noise) * mask, old, rollouts.entropy)


def steps(spread: float = 0.5) -> st.SearchStrategy[Step]:
    sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
    return st.builds(make_step, st.integers(0, 10_000), sizes, st.integers(1, 10), st.just(spread))


def assert_same(first: Loss, second: Loss) -> None:
    for name in ("value", "logps", "entropy"):
        ours, theirs = getattr(first, name), getattr(second, name)
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


# ------------------------------------------------------------------------------------------------------ the peer


class TrlLoss:
    """One real trainer; its model's log-probabilities and entropies are replaced by ours."""

    def __init__(self) -> None:
        from datasets import Dataset

        self._folder = tempfile.TemporaryDirectory()
        arguments = trl.GRPOConfig(
            output_dir=self._folder.name,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=2,
            num_generations=2,
            report_to="none",
            save_strategy="no",
        )
        self.trainer = trl.GRPOTrainer(
            model=tiny_model(),
            reward_funcs=lambda **_: [0.0],
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": "x"}] * 2),
            processing_class=tiny_tokenizer(),
        )
        self.trainer.current_gradient_accumulation_steps = 1  # which `train()` would set
        self.trainer.model.train()
        self._defaults = copy.copy(arguments)

    def _configure(self, options: dict[str, Any]) -> None:
        """What the trainer's `__init__` makes of its config, for what `_compute_loss` reads."""
        trainer, args = self.trainer, copy.copy(self._defaults)
        args.steps_per_generation = 1
        args.max_completion_length = MAX_LENGTH
        args.beta = 0.0
        for name, value in options.items():
            if not hasattr(args, name):
                raise TypeError(f"GRPOConfig has no option {name}")
            setattr(args, name, value)
        trainer.args = args
        for name in (
            "loss_type",
            "importance_sampling_level",
            "off_policy_mask_threshold",
            "top_entropy_quantile",
            "entropy_coef",
            "use_adaptive_entropy",
            "beta",
            "max_completion_length",
            "use_vllm",
            "vllm_importance_sampling_correction",
        ):
            setattr(trainer, name, getattr(args, name))
        trainer.epsilon_low = args.epsilon
        trainer.epsilon_high = args.epsilon if args.epsilon_high is None else args.epsilon_high
        trainer._entropy_bonus_enabled = args.entropy_coef != 0.0 or args.use_adaptive_entropy
        trainer._last_world_entropy = float("inf")
        trainer._entropy_window_stats = None
        trainer._metrics["train"].clear()

    def __call__(
        self,
        step: Step,
        *,
        last_entropy: float | None = None,
        importance_sampling_ratio: Tensor | None = None,
        **options: Any,
    ) -> Loss:
        """Loss of the rows that take part, by TRL; gradients of other rows are 0.

        options: those of `GRPOConfig`. last_entropy: what `use_adaptive_entropy` measured in the step before.
        importance_sampling_ratio: (N, T), TRL's correction of what vLLM drew; it also needs `use_vllm=True`.
        """
        self._configure(options)
        if last_entropy is not None:
            self.trainer._last_world_entropy = last_entropy
        rows = step.takes_part.nonzero().squeeze(1)
        part = step.rollouts.select(rows)
        assert part.advantages is not None
        logps, entropy = step.logps.detach().clone().requires_grad_(), step.entropy.detach().clone().requires_grad_()
        self.trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps[rows], entropy[rows], None)
        mask = part.mask.int()
        inputs = {
            "prompt_ids": torch.ones(len(rows), 1, dtype=torch.long),
            "prompt_mask": torch.ones(len(rows), 1, dtype=torch.int),
            "completion_ids": part.completion_ids,
            "completion_mask": mask,
            "advantages": part.advantages,
            "old_per_token_logps": step.old_logps[rows],
            "sampling_per_token_logps": part.behaviour_logps,
            "ref_per_token_logps": part.ref_logps,
            "num_items_in_batch": mask.sum(),
        }
        if importance_sampling_ratio is not None:
            inputs["importance_sampling_ratio"] = importance_sampling_ratio[rows]
        loss = self.trainer._compute_loss(self.trainer.model, inputs)
        gradients = torch.autograd.grad(loss, [logps, entropy], allow_unused=True, materialize_grads=True)
        return Loss(loss.detach(), *gradients)

    @property
    def metrics(self) -> dict[str, list[float]]:
        """What the last call added to the trainer's metrics."""
        return dict(self.trainer._metrics["train"])


@functools.cache
def _peer() -> TrlLoss:
    return TrlLoss()


def trl_loss(step: Step, **options: Any) -> Loss:
    """See `TrlLoss.__call__`; the trainer is built once for all tests of a session."""
    return _peer()(step, **options)


def trl_metrics() -> dict[str, list[float]]:
    return _peer().metrics


# ------------------------------------------------------------------------------------------------------ our side


def our_loss(
    explorers: Sequence[object],
    step: Step,
    *,
    aggregation: grpo.Aggregation = "token",
    parts: Sequence[Sequence[int]] | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl: float = 0.0,
) -> Loss:
    """Loss and gradients through the hooks, as `Learner.update` and `Learner.backward` make them.

    parts: rows of each micro-batch; by default all rows that take part in one. The step's advantages are taken as they
    are; `token_weights`, `policy_loss` and `loss_terms` are asked.
    """
    named = [Named(f"explorer-{i}", explorer, "explorer") for i, explorer in enumerate(explorers)]
    hooks = Hooks(named, grpo.Defaults("group", clip_low, clip_high, kl), "sum")
    rollouts = step.rollouts
    rollouts.token_weights = hooks.token_weights(rollouts)
    shares = grpo.token_shares(rollouts.mask, step.takes_part, aggregation, MAX_LENGTH)
    leaves = [step.logps.detach().clone().requires_grad_(), step.entropy.detach().clone().requires_grad_()]
    if step.top_logps is not None:
        leaves.append(step.top_logps.detach().clone().requires_grad_())
    total = torch.zeros(())
    for rows in parts or [step.takes_part.nonzero().squeeze(1).tolist()]:
        batch = micro_batch(step, rows, shares, leaves)
        loss = batch.aggregate(hooks.policy_loss(batch) * batch.token_weights)
        total = total + torch.stack([loss, *hooks.loss_terms(batch).values()]).sum()
    return Loss(total.detach(), *torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))


def micro_batch(step: Step, rows: Sequence[int], shares: Tensor, leaves: Sequence[Tensor]) -> MicroBatch:
    """leaves: (N, T) log-probabilities and entropies, and (N, T, K) of the likeliest tokens if there are some."""
    index, part = torch.tensor(rows, dtype=torch.long), step.rollouts.select(rows)
    assert part.advantages is not None
    assert part.token_weights is not None
    return MicroBatch(
        logps=leaves[0][index],
        entropy=leaves[1][index],
        old_logps=step.old_logps[index],
        behaviour_logps=part.behaviour_logps,
        ref_logps=part.ref_logps,
        advantages=part.advantages,
        mask=part.mask,
        segments=part.segments,
        token_weights=part.token_weights,
        scale=shares[index],
        rows=index,
        rollouts=step.rollouts,
        top_logps=leaves[2][index] if len(leaves) > 2 else None,
        old_top_logps=None if step.old_top_logps is None else step.old_top_logps[index],
        top_ids=None if step.top_ids is None else step.top_ids[index],
    )
