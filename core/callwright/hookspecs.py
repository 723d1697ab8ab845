"""Every hook, in the order in which a step calls it. This file is the reference for plugin authors.

A plugin is a class, usually a dataclass whose fields are its options in the recipe. It implements the hooks it cares
about and leaves the others out; a hook may also leave out arguments that it does not use:

    from dataclasses import dataclass
    from callwright import hookimpl

    @dataclass
    class Temperature:
        value: float = 1.0

        @hookimpl
        def sampling(self):
            return {"temperature": self.value}

Every hook returns a *contribution*, or None for none. The core folds the contributions of all plugins by the rule in
the hook's docstring. Except for `sampling` and `process_logits`, which follow the recipe's order, the rules commute:
the order of plugins in a recipe does not change a run. No hook changes what it receives.

Shapes: N rows (completions) of a step, T completion tokens, V vocabulary, n rows of a micro-batch.
Rewards have no unit; log-probabilities and entropies are in nats at the row's temperature.

A plugin may also have:
- `needs`: a collection of `callwright.Need`, what the core is to compute for it;
- `state_dict()` and `load_state_dict(state)`: JSON values that go into every checkpoint;
- `recipe_mistakes(recipe)`: texts that say why this recipe does not suit it; `callwright check` shows them;
- `neutral`: options with which it changes nothing; `callwright check --laws` holds it to that, bit for bit;
- `zero_without_advantage = True`, with `policy_loss`: rows whose advantages are all 0 have no gradient, and the core
  leaves them out of the update;
- `corrects_sampling = True`: it corrects for completions that another distribution than the policy drew. The core
  warns once when there are such completions and no such plugin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from torch import Tensor

    from callwright.loop import Control
    from callwright.types import MicroBatch, Replayed, Rollouts, Task, Verdict

hookspec = pluggy.HookspecMarker("callwright")
hookimpl = pluggy.HookimplMarker("callwright")


# ------------------------------------------------------------------------------------------------- generation


@hookspec
def task_weights(step: int, tasks: Sequence[Task]) -> Tensor | None:
    """How much each training task is wanted in this step.

    Called once before a step draws its prompts. step: int, from 0. tasks: all training tasks, always in one order.

    Returns weights (number of tasks,) float32, not negative. Prompts are drawn with probabilities in proportion to
    them, none twice in a step; when fewer have a weight than are wanted, the rest come in the usual order, in which
    one may come again.

    Fold: product. Without a plugin, tasks come in a shuffled order, each once in an epoch.

    Example, every second task only:

        @hookimpl
        def task_weights(self, tasks):
            return (torch.arange(len(tasks)) % 2).float()
    """


@hookspec
def sampling(
    step: int, steps: int, tasks: Sequence[Task], group_ids: Tensor
) -> Mapping[str, float | Tensor | str | Sequence[str]] | None:
    """Fields of the sampling plan for this step's completions.

    Called once before each generation (again when flat groups are refilled), not in greedy evaluation.

    step: int, from 0. steps: int, the recipe's total. tasks: the task of every row (N). group_ids: (N,) long.

    Returns a mapping with any of `temperature` (> 0), `top_p` (0, 1], `top_k` (>= 0, 0 is off), `min_p` [0, 1)
    and `seed` (int, for the whole step); each value a number, or a tensor (N,), one per row. `prefix` is the text with
    which a completion begins, one for all or N of them, "" for none: its tokens are not drawn (their behaviour
    log-probability is 0), and belong to the completion like all others.

    Fold: in recipe order, field by field, the later plugin wins. Before the first plugin the plan is the recipe's
    `train.temperature`, `top_p`, `top_k` and `min_p`.

    Example, a ladder of temperatures inside each group of eight:

        @hookimpl
        def sampling(self, group_ids):
            return {"temperature": torch.linspace(0.7, 1.3, 8).repeat(len(group_ids) // 8)}
    """


@hookspec
def process_logits(logits: Tensor, rows: Tensor, positions: Tensor, segments: Tensor) -> Tensor | None:
    """Change the logits from which the next token is sampled.

    Called for every generated token, after division by the row's temperature and before top-k, top-p and min-p; not
    in greedy evaluation. `behaviour_logps` are those of the result, `policy_logps` and `entropy` of what came in.

    logits: (n, V) float32, of the n rows not yet finished. rows: (n,) long, which of the N rows.
    positions: (n,) long, completion tokens so far. segments: (n,) int8, `Segment` of the last character so far
    (`Segment.OTHER` at the start), as the dialect's `unfinished` reads the text, if it has that, else `parse`; computed
    only if a plugin names the argument.

    Returns logits (n, V) float32; -inf forbids a token, and at least one token must stay allowed.

    Fold: in recipe order, each plugin receives what the one before it returned.

    Example, cold inside calls:

        @hookimpl
        def process_logits(self, logits, segments):
            inside = (segments != Segment.THINKING) & (segments != Segment.OTHER)
            return torch.where(inside[:, None], logits / 0.5, logits)
    """


@hookspec
def replay(rollouts: Rollouts) -> Sequence[Replayed] | None:
    """Let completions of earlier steps join this step's groups.

    rollouts: this step's completions, as for `score`.

    Returns completions with the groups that they join. They become rows like all others, marked in
    `rollouts.off_policy`: scored again, with `policy_logps` and `entropy` of the policy as it is now.

    Fold: union; in each group they stand behind this step's own, by the plugins' names.

    Example, the last correct completion of each task (remembered in `step_ended`):

        @hookimpl
        def replay(self, rollouts):
            seen = {t.id: g for t, g in zip(rollouts.tasks, rollouts.group_ids.tolist())}
            return [Replayed(seen[i], *self.pool[i]) for i in seen if i in self.pool]
    """


# --------------------------------------------------------------------------------------------------- rewards


@hookspec
def score(rollouts: Rollouts) -> Sequence[Verdict] | None:
    """Judge every completion. This is the hook of the plugins under the recipe's `rewards`.

    rollouts: texts, parses, tasks, token ids, log-probabilities, entropy and segments are there; rewards are not yet.

    Returns one `Verdict` per row (N), in order. A score must be finite; abstain with `Verdict.abstain`. An exception,
    a wrong number of verdicts and what is no verdict make rows of this reward failed, and so does a verdict that is
    `Verdict.failed`. Failed rows are counted and shown, and never a zero: they leave their groups, unless the recipe
    gives the reward an `on_failure`.

    `rollouts.group_ids` says which rows are siblings; all rewards share `rollouts.parses`. It may be an `async def`:
    all asynchronous rewards of a step run together on one event loop, the same one in every step. (A plain method that
    returns something to await says so by an attribute `asynchronous = True`.) A reward with `isolate` in the recipe
    is built once more in a worker process and sees only a part of the rows there. A reward may also have
    `take_metrics()`, which returns numbers by name; they appear in the step's metrics as `metric/REWARD/NAME`.

    Fold: kept apart by the reward's name, then combined row by row by the recipe's `rewards.combine`.

    Example:

        @hookimpl
        def score(self, rollouts):
            return [Verdict(float(len(p.calls) == 1)) for p in rollouts.parses]
    """


@hookspec
def shape_rewards(rollouts: Rollouts) -> Tensor | None:
    """Add to the combined reward.

    rollouts: as after scoring; `total` (N,) is the combined reward, NaN for rows that take no part.

    Returns delta (N,) float32, in units of the reward; it is ignored for rows that take no part.

    Fold: sum. Every plugin sees the same, unshaped `total`.

    Example, a small bonus for completions that stop by themselves:

        @hookimpl
        def shape_rewards(self, rollouts):
            return 0.1 * (~rollouts.truncated).float()
    """


@hookspec
def keep_groups(rollouts: Rollouts) -> Tensor | None:
    """Choose the groups to train on; the core generates others instead of the rest, up to `train.refills` times.

    rollouts: as after `shape_rewards`.

    Returns bool (number of groups,), in the order of `rollouts.groups`.

    Fold: logical and.

    Example, dynamic sampling as in DAPO (arXiv 2503.14476): keep groups whose rewards differ:

        @hookimpl
        def keep_groups(self, rollouts):
            totals = [rollouts.total[rollouts.group_ids == g] for g in rollouts.groups]
            return torch.tensor([bool(t.nanmean() != t[0]) for t in totals])
    """


# ------------------------------------------------------------------------------------------------- advantages


@hookspec(firstresult=True)
def advantages(rollouts: Rollouts) -> Tensor | None:
    """Turn rewards into advantages.

    rollouts: all groups of the step that were kept, `total` (N,) with NaN for rows that take no part.

    Returns (N,) float32; whatever is returned for rows that take no part is replaced by 0.

    Fold: exactly one plugin of a recipe may answer; two are an error that names both. Default: the reward minus the
    group's mean, divided by the group's standard deviation (`train.advantage_scale`).

    Example, leave-one-out (RLOO, arXiv 2402.14740) for groups of G rows:

        @hookimpl
        def advantages(self, rollouts):
            r = rollouts.total.view(-1, self.group_size)
            n = (~r.isnan()).sum(1, keepdim=True)
            return ((r - r.nanmean(1, keepdim=True)) * n / (n - 1).clamp(min=1)).flatten()
    """


@hookspec
def shape_advantages(rollouts: Rollouts, base: Tensor) -> Tensor | None:
    """Add to the advantages, token by token.

    rollouts: as for `advantages`. base: (N,) float32, what the `advantages` hook returned.

    Returns delta (N, T) float32; it is ignored off the mask and for rows that take no part.

    Fold: sum. Every plugin sees the same base, so no plugin depends on another's place in the recipe.

    Example, entropy-shaped advantages (arXiv 2506.14758): min(alpha * H, |A| / kappa):

        @hookimpl
        def shape_advantages(self, rollouts, base):
            return torch.minimum(0.4 * rollouts.entropy, base.abs()[:, None] / 2)
    """


@hookspec
def token_weights(rollouts: Rollouts) -> Tensor | None:
    """Weigh the policy loss, token by token.

    rollouts: the whole step, `advantages` (N, T) included, so that quantiles and means are the step's and not those
    of a micro-batch.

    Returns factor (N, T) float32, not negative.

    Fold: product. The weights multiply what `policy_loss` returns; the aggregation's denominators do not change.

    Example, the 20 % most uncertain tokens only (arXiv 2506.01939):

        @hookimpl
        def token_weights(self, rollouts):
            limit = rollouts.entropy[rollouts.mask].quantile(0.8)
            return (rollouts.entropy >= limit).float()
    """


# ------------------------------------------------------------------------------------------------------ update


@hookspec(firstresult=True)
def policy_loss(batch: MicroBatch) -> Tensor | None:
    """The loss of every token.

    batch: a micro-batch; `logps` (n, T) carries the gradient.

    Returns (n, T) float32 to be minimised, before token weights and aggregation; it is ignored off the mask.

    Fold: exactly one plugin of a recipe may answer; two are an error that names both. Default: the clipped surrogate
    with `train.clip_low` and `train.clip_high`.

    Example, plain policy gradient:

        @hookimpl
        def policy_loss(self, batch):
            return -batch.logps * batch.advantages
    """


@hookspec
def loss_terms(batch: MicroBatch) -> Mapping[str, Tensor] | None:
    """Add terms to the loss.

    batch: as for `policy_loss`. Use `batch.aggregate(values)` to turn (n, T) into a scalar that means the same
    however the step is cut into micro-batches.

    Returns named scalars, coefficient included. Each is shown under its name in the metrics.

    Fold: sum. The same name from two plugins is an error.

    Example, an entropy bonus (it also says `needs = (Need.ENTROPY_GRADIENT,)`):

        @hookimpl
        def loss_terms(self, batch):
            return {"entropy_bonus": -0.001 * batch.aggregate(batch.entropy)}
    """


@hookspec
def step_ended(step: int, metrics: Mapping[str, float], rollouts: Rollouts, control: Control) -> None:
    """Look at the step's metrics and completions, adapt own state, ask the loop for something.

    step: int, the step that ended. metrics: what goes into `metrics.jsonl`. rollouts: what the step trained on.
    control: `control.stop(reason)`, `control.save()`, `control.reset_reference()`, `control.sync_reference(share)`,
    `control.reset_optimizer()`.

    Returns nothing. Called in recipe order; nothing is folded.

    Example, stop when the entropy is gone:

        @hookimpl
        def step_ended(self, metrics, control):
            if metrics["entropy"] < 0.01:
                control.stop("entropy below 0.01 nats")
    """
