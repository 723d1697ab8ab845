"""Steps made of random numbers, and what a plugin's hooks say to them: for the laws and for regression tests."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from callwright.testing.scoring import gold_text, plugin
from callwright.testing.toys import fixed_tasks
from callwright.types import MicroBatch, Need, Rollouts, Task

if TYPE_CHECKING:
    from torch import Tensor

    from callwright.hooks import Hooks

Answers = dict[str, Any]
PLAN = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}


def random_step(seed: int, sizes: tuple[int, ...], tokens: int, step: int = 0) -> Rollouts:
    """A step of ragged groups with random numbers in the ranges that a run has: `sizes` rows each, and one row that
    takes no part if there are enough; the rows stand in any order."""
    import torch

    g = torch.Generator().manual_seed(seed)
    rows = sum(sizes)
    toys = fixed_tasks()
    group = torch.repeat_interleave(torch.arange(len(sizes)) * 3 + 1, torch.tensor(sizes))
    group = group[torch.randperm(rows, generator=g)]
    lengths = torch.randint(1, tokens + 1, (rows,), generator=g)
    mask = torch.arange(tokens)[None, :] < lengths[:, None]

    def noise(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(rows, tokens, generator=g)) * mask

    tasks: list[Task] = [toys[int(one) % len(toys)] for one in group]
    policy = noise(-5.0, 0.0)
    total = torch.randint(0, 5, (rows,), generator=g).float() / 4
    if rows > 4:
        total[rows // 2] = float("nan")
    dialect = plugin("dialect", "funrl")
    texts = [gold_text(dialect, task) for task in tasks]
    return Rollouts(
        step=step,
        tasks=tasks,
        group_ids=group,
        prompt_ids=[[int(one)] * 3 for one in group],
        texts=texts,
        parses=[dialect.parse(text) for text in texts],
        completion_ids=torch.randint(3, 50, (rows, tokens), generator=g) * mask,
        mask=mask,
        behaviour_logps=policy + noise(-0.1, 0.1),
        policy_logps=policy,
        entropy=noise(0.0, 4.0),
        segments=(torch.randint(1, 9, (rows, tokens), generator=g) * mask).to(torch.int8),
        truncated=torch.rand(rows, generator=g) < 0.2,
        temperature=torch.ones(rows),
        off_policy=torch.zeros(rows, dtype=torch.bool),
        ref_logps=policy + noise(-0.5, 0.5),
        rewards={"reward": total.clone()},
        total=total,
        advantages=noise(-2.0, 2.0),
        token_weights=mask.float(),
    )


def micro_batch(rollouts: Rollouts, top: int = 0) -> MicroBatch:
    """All rows of a step as one micro-batch, with gradients on `logps`, `entropy` and the `top` likeliest tokens."""
    assert rollouts.advantages is not None
    assert rollouts.token_weights is not None
    mask = rollouts.mask
    return MicroBatch(
        logps=(rollouts.policy_logps + 0.1 * rollouts.entropy).detach().requires_grad_(),
        entropy=rollouts.entropy.clone().requires_grad_(),
        old_logps=rollouts.policy_logps,
        behaviour_logps=rollouts.behaviour_logps,
        ref_logps=rollouts.ref_logps,
        advantages=rollouts.advantages,
        mask=mask,
        segments=rollouts.segments,
        token_weights=rollouts.token_weights,
        scale=mask.float() / mask.sum(),
        rows=_long(range(len(rollouts))),
        rollouts=rollouts,
        **_tops(rollouts, top),
    )


def _tops(rollouts: Rollouts, top: int) -> dict[str, Tensor]:
    """Log-probabilities of the `top` likeliest of 60 tokens, now and before the first update."""
    import torch

    if not top:
        return {}
    g = torch.Generator().manual_seed(0)
    # From numbers of the row itself, so that rows in another order have the same.
    noise = torch.randn(60, generator=g) + rollouts.entropy[..., None] * torch.randn(60, generator=g)
    old_logps, ids = noise.log_softmax(-1).topk(top, -1)
    new = old_logps + 0.1 * torch.randn(60, generator=g)[ids]
    return {"top_logps": new.requires_grad_(), "old_top_logps": old_logps, "top_ids": ids}


def _long(numbers: Any) -> Tensor:
    import torch

    return torch.tensor(list(numbers), dtype=torch.long)


# ------------------------------------------------------------------------------------------------------- asking


def implemented(explorer: object) -> dict[str, str]:
    """Hook -> method of the plugin that implements it."""
    manager = pluggy.PluginManager("callwright")
    options = {n: manager.parse_hookimpl_opts(explorer, n) for n in dir(explorer) if not n.startswith("__")}
    return {(given.get("specname") or name): name for name, given in options.items() if given is not None}


def _hooks(explorer: object) -> Hooks:
    from callwright import grpo
    from callwright.hooks import Hooks, Named

    return Hooks([Named("explorer", explorer, "explorer")], grpo.Defaults("group", 0.2, 0.2, 0.0), "sum")


def answers(explorer: object, rollouts: Rollouts, *, seed: int = 0) -> Answers:
    """What every hook of the plugin contributes in this step, checked and folded as a run does it.

    Raises `CallwrightError` for a contribution that a run would refuse.
    """
    import numpy
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    hooks, found = _hooks(explorer), Answers()
    base = rollouts.total.nan_to_num(0.5) * 2 - 1 if rollouts.total is not None else None
    logits = rollouts.entropy[:, :1] * torch.linspace(-1, 1, 13)[None, :]
    rows, toys = _long(range(len(rollouts))), fixed_tasks()
    calls: dict[str, Callable[[], Any]] = {
        "task_weights": lambda: hooks.task_weights(rollouts.step, toys),
        "sampling": lambda: hooks.sampling(rollouts.step, 10, rollouts.tasks, rollouts.group_ids, PLAN),
        "process_logits": lambda: hooks.process_logits(logits, rows, rollouts.lengths, lambda: rollouts.segments[:, 0]),
        "replay": lambda: [dataclasses.asdict(one) for one in hooks.replay(rollouts)],
        "shape_rewards": lambda: hooks.shape_rewards(rollouts),
        "keep_groups": lambda: hooks.keep_groups(rollouts),
        "advantages": lambda: hooks.advantages(rollouts),
        "shape_advantages": lambda: hooks.shape_advantages(rollouts, base),  # type: ignore[arg-type] # total is there
        "token_weights": lambda: hooks.token_weights(rollouts),
        "policy_loss": lambda: hooks.policy_loss(micro_batch(rollouts, hooks.top_logps)),
        "loss_terms": lambda: hooks.loss_terms(micro_batch(rollouts, hooks.top_logps)),
    }
    asked = implemented(explorer)
    for hook in [hook for hook in calls if hook in asked]:  # in a step's order: plugins may remember one for the next
        found[hook] = calls[hook]()
    return found


def end_step(explorer: object, rollouts: Rollouts) -> None:
    """Tell the plugin that the step ended, with the metrics of a run."""
    from callwright.loop import Control, describe

    hooks = _hooks(explorer)
    metrics = {**describe(rollouts, hooks), "loss": 0.1, "policy_loss": 0.1, "grad_norm": 1.0, "clip_share": 0.0}
    metrics |= {"tokens": float(rollouts.mask.sum()), "seconds": 1.0, "dropped_groups": 0.0, "refills": 0.0}
    hooks.step_ended(rollouts.step, metrics, rollouts, Control())


def _tensors(values: Any) -> Any:
    """Nested answers as (path, tensor) pairs."""
    import torch

    if isinstance(values, Mapping):
        for name, inner in values.items():
            yield from ((f"{name}.{path}".rstrip("."), tensor) for path, tensor in _tensors(inner))
    elif isinstance(values, Sequence) and not isinstance(values, str):
        yield from _tensors(dict(enumerate(values)))
    elif values is None or isinstance(values, str):
        yield "", torch.tensor([*str(values).encode()])
    else:
        yield "", torch.as_tensor(values).detach()


def differ(first: Any, second: Any) -> str | None:
    """Where two answers differ."""
    import torch

    left, right = dict(_tensors(first)), dict(_tensors(second))
    for path in sorted(left.keys() | right.keys()):
        if path not in left or path not in right or left[path].shape != right[path].shape:
            return path
        if not torch.allclose(left[path].double(), right[path].double(), rtol=1e-4, atol=1e-5, equal_nan=True):
            return path
    return None


def differs_from_core(explorer: object, rollouts: Rollouts) -> str | None:
    """Where a step with the plugin is not, bit for bit, what the core does alone; None if nowhere."""
    import torch

    class Core:
        """Asks for every hook and contributes to none."""

    for hook in implemented(explorer):
        setattr(Core, hook, _silent(hook))
    alone, given = answers(Core(), rollouts), answers(explorer, rollouts)
    for path, tensor in dict(_tensors(given)).items():
        expected = dict(_tensors(alone)).get(path, torch.zeros(()))  # a term of the loss must be 0
        hook = path.partition(".")[0]
        if hook == "task_weights":  # equal weights draw as no weights do
            expected = tensor[:1].expand_as(tensor) if tensor.dim() else tensor
        if tensor.shape != expected.shape or not torch.equal(tensor, expected.to(tensor.dtype)):
            return hook
    return None


def _silent(hook: str) -> Any:
    from callwright.hookspecs import hookimpl

    def contribute(self: object) -> None: ...

    contribute.__name__ = hook
    return hookimpl(contribute)


_CONSTANT = ("behaviour_logps", "policy_logps", "entropy", "ref_logps", "total", "advantages", "token_weights")


def gradient_leaks(explorer: object, rollouts: Rollouts) -> list[str]:
    """Names of constants through which a gradient flows into what the plugin contributes."""
    import torch

    parts = dataclasses.replace(rollouts, **{name: _leaf(getattr(rollouts, name)) for name in _CONSTANT})  # type: ignore[arg-type]
    hooks, asked = _hooks(explorer), implemented(explorer)
    assert rollouts.total is not None
    base, found = _leaf(rollouts.total.nan_to_num(0.5)), []
    whole: dict[str, Callable[[], Tensor]] = {
        "shape_rewards": lambda: hooks.shape_rewards(parts),
        "advantages": lambda: hooks.advantages(parts),
        "shape_advantages": lambda: hooks.shape_advantages(parts, base),
        "token_weights": lambda: hooks.token_weights(parts),
    }
    found = [f"`{hook}`" for hook in asked if hook in whole and whole[hook]().requires_grad]
    batch = micro_batch(rollouts, hooks.top_logps)
    names = ["old_logps", "behaviour_logps", "ref_logps", "advantages", "token_weights", "scale", "old_top_logps"]
    leaves = {name: _leaf(getattr(batch, name)) for name in names if getattr(batch, name) is not None}
    if Need.ENTROPY_GRADIENT not in hooks.needs:
        leaves["entropy"] = batch.entropy
    batch = dataclasses.replace(batch, **leaves)  # type: ignore[arg-type]
    losses: dict[str, Callable[[], Any]] = {
        "policy_loss": lambda: [hooks.policy_loss(batch).sum()],
        "loss_terms": lambda: list(hooks.loss_terms(batch).values()),
    }
    for hook in [hook for hook in asked if hook in losses]:
        total = torch.stack([torch.zeros(()), *losses[hook]()]).sum()
        if not total.requires_grad:
            continue
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        found += [
            f"`{name}` in `{hook}`"
            # The core's aggregate multiplies by the scale, which nobody differentiates.
            for name, gradient in zip(leaves, gradients, strict=True)
            if gradient is not None and name != "scale" and bool(gradient.any())
        ]
    return found


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def gradient_of_row(explorer: object, rollouts: Rollouts, row: int) -> float:
    """Size of the gradient that the plugin's `policy_loss` gives the log-probabilities of a row."""
    import torch

    hooks = _hooks(explorer)
    batch = micro_batch(rollouts, hooks.top_logps)
    inputs = [batch.logps, *([batch.top_logps] if batch.top_logps is not None else [])]
    gradients = torch.autograd.grad(hooks.policy_loss(batch).sum(), inputs, allow_unused=True)
    return sum(float(gradient[row].abs().sum()) for gradient in gradients if gradient is not None)


def same_answers(first: Answers, second: Answers) -> bool:
    """Whether two results of `answers` are the same, up to rounding."""
    return differ(first, second) is None


def moved(found: Answers, order: list[int]) -> Answers:
    """The result of `answers` with its rows in another order."""
    return _moved(found, order)


def _moved(value: Any, order: list[int], hook: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(inner, order, hook or name) for name, inner in value.items()}
    if hook in ("keep_groups", "loss_terms", "task_weights", "replay"):  # of groups, of the step, of all tasks
        return value
    if isinstance(value, list):
        return [value[row] for row in order]
    return value[_long(order)] if getattr(value, "dim", lambda: 0)() > 0 else value
