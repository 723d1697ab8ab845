"""The GRPO step on one machine. Read this first.

A step is: take prompts -> generate a group of completions for each -> score -> advantages -> update -> record.
Plugins act at the hooks of `hookspecs.py` and nowhere else; `Hooks` folds what they contribute.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from callwright import grpo
from callwright.data import Deck
from callwright.display import Display, Sample
from callwright.engine import LocalSampler
from callwright.hooks import BadNumber, Hooks
from callwright.packing import Policy
from callwright.recipe import Recipe, TrainConfig
from callwright.rollouts import character_segments, decode, make_rollouts
from callwright.sampling import Generation, GenerationRequest, Sampler, SamplingPlan
from callwright.timeline import Timeline
from callwright.types import CallwrightError, Dialect, MicroBatch, Need, Rollouts, Segment

SAMPLING_TOLERANCE = 1e-3
"""Nats by which a token's log-probability may differ from the policy's before completions count as another's."""


@dataclass
class Control:
    """What a plugin may ask of the loop in `step_ended`. Requests are carried out before the next step."""

    stopped: str | None = None
    wants_save: bool = False
    reference_share: float = 0.0
    wants_new_optimizer: bool = False

    def stop(self, reason: str) -> None:
        """End the run after this step, as if it had been the last; `reason` is shown."""
        self.stopped = self.stopped or reason

    def save(self) -> None:
        """Write a checkpoint after this step."""
        self.wants_save = True

    def reset_reference(self) -> None:
        """Make the policy as it is now the reference model."""
        self.sync_reference(1.0)

    def sync_reference(self, share: float) -> None:
        """Move the reference model towards the policy: (1 - share) of what it is, plus `share` of the policy's weights.

        Raises ValueError for a share that is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {share}")
        self.reference_share = share

    def reset_optimizer(self) -> None:
        """Let the optimizer forget its running means."""
        self.wants_new_optimizer = True


@dataclass
class OldScores:
    """Of the policy before this step's first update: filled in the first optimisation pass, read in the others."""

    logps: Tensor
    """(N, T) float32."""
    top_logps: Tensor
    """(N, T, K) float32; K is 0 unless a plugin needs them."""
    top_ids: Tensor
    """(N, T, K) long."""

    @classmethod
    def empty(cls, rollouts: Rollouts, top: int, device: torch.device) -> OldScores:
        shape = rollouts.mask.shape
        return cls(
            torch.zeros(shape, device=device),
            torch.zeros(*shape, top, device=device),
            torch.zeros(*shape, top, dtype=torch.long, device=device),
        )


@dataclass
class Learner:
    """Everything that a step needs."""

    recipe: Recipe
    hooks: Hooks
    dialect: Dialect
    policy: Policy
    tokenizer: PreTrainedTokenizerBase
    optimizer: torch.optim.Optimizer
    deck: Deck
    """Training tasks with their prompts, in a shuffled order that a checkpoint can restore."""
    ends: list[int]
    """Tokens that end a completion."""
    display: Display
    reference: Policy | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    """Draws the completions."""
    sampler: Sampler = field(default_factory=LocalSampler)
    """What draws the completions."""
    timeline: Timeline = field(default_factory=Timeline)
    """Where to write when each part of a step ran."""
    warned_of_sampling: bool = False

    def __post_init__(self) -> None:
        self.sampler.start(self.policy, self.tokenizer, self.recipe)
        self.hooks.record_in(self.timeline)

    def step(self, step: int) -> tuple[dict[str, float], Rollouts]:
        """One GRPO step: the metrics, and the completions that it trained on."""
        started = time.perf_counter()
        self.hooks.take_seconds()
        rollouts, metrics, problem = self.collect(step)
        collected = time.perf_counter()
        try:
            if problem is not None:
                raise problem
            with self.timeline.span("advantages"):
                self.judge(rollouts)
            with self.timeline.span("update"):
                metrics |= self.update(rollouts)
        except BadNumber as error:
            # A skipped update is better than a broken model.
            self.optimizer.zero_grad(set_to_none=True)
            self.display.warn(f"{error}; the update is skipped")
            metrics["skipped_update"] = 1.0
        return metrics | self.figures(rollouts, metrics["tokens"], started, collected), rollouts

    def figures(self, rollouts: Rollouts, tokens: float, started: float, collected: float) -> dict[str, float]:
        """What there is to say of a step that ends now, and was `started` and had its completions at these times."""
        metrics = describe(rollouts, self.hooks)
        ended = time.perf_counter()
        metrics |= {f"seconds/plugin/{name}": seconds for name, seconds in self.hooks.take_seconds().items()}
        metrics |= {"seconds": ended - started, "seconds/collect": collected - started}
        metrics |= {"seconds/update": ended - collected, "tokens_per_second": tokens / (ended - started)}
        return metrics

    # ------------------------------------------------------------------------------------------ completions

    def collect(self, step: int) -> tuple[Rollouts, dict[str, float], BadNumber | None]:
        """Completions and rewards for this step, figures, and the first bad number among the rewards.

        Groups that a plugin does not keep are replaced by others, in at most `train.refills` more rounds; when none is
        kept at all, the last round's are used.
        """
        train = self.recipe.train
        problem: BadNumber | None = None
        kept: list[Rollouts] = []
        groups = rounds = dropped = tokens = failed = 0
        weights = self.hooks.task_weights(step, self.deck.tasks)
        while groups < train.prompts_per_step and rounds <= train.refills:
            rollouts = self.generate(step, train.prompts_per_step - groups, groups + dropped, weights)
            tokens += int(rollouts.mask.sum())
            rollouts = self.with_replayed(rollouts)
            with self.timeline.span("score"):
                problem = self.reward(rollouts) or problem
            failed += sum(any(v[row].failure for v in rollouts.verdicts.values()) for row in range(len(rollouts)))
            rounds += 1
            keep = self.hooks.keep_groups(rollouts)
            names = rollouts.groups[keep]
            groups, dropped = groups + len(names), dropped + int((~keep).sum())
            if len(names):
                kept.append(rollouts.select(torch.isin(rollouts.group_ids, names).nonzero().squeeze(1)))
        metrics = {"tokens": float(tokens), "dropped_groups": float(dropped), "refills": float(rounds - 1)}
        metrics["failed_rows"] = float(failed)  # of dropped groups too
        return Rollouts.concatenate(kept) if kept else rollouts, metrics, problem

    def reward(self, rollouts: Rollouts) -> BadNumber | None:
        """Fill `verdicts`, `rewards` and `total`. Returns the first number that is not finite, if there is one."""
        return self.total(rollouts, self.hooks.score(rollouts))

    def total(self, rollouts: Rollouts, problem: BadNumber | None) -> BadNumber | None:
        """Fill `total` from the verdicts, which are there. `problem`: the first score that is not finite."""
        rollouts.total = self.hooks.combine(rollouts)
        try:
            rollouts.total = rollouts.total + self.hooks.shape_rewards(rollouts)
        except BadNumber as error:
            problem = problem or error
        return problem

    def generate(self, step: int, prompts: int, first_group: int, weights: list[float] | None) -> Rollouts:
        """A group of completions for each of the next prompts of the deck, parsed but not scored."""
        train = self.recipe.train
        drawn = [self.deck.draw(weights) for _ in range(prompts)]
        group = torch.arange(prompts).repeat_interleave(train.group_size)
        tasks = [drawn[g][0] for g in group.tolist()]
        defaults = {"temperature": train.temperature, "top_p": train.top_p, "top_k": train.top_k, "min_p": train.min_p}
        fields: dict[str, Any] = self.hooks.sampling(step, train.steps, tasks, group + first_group, defaults)
        if (seed := fields.pop("seed", None)) is not None:
            self.generator.manual_seed(int(seed))
        forced = self._tokens(fields.pop("prefix", None))
        plan = SamplingPlan(**fields)
        request = GenerationRequest(
            [list(ids) for _, ids in drawn],
            group,
            plan,
            max_new_tokens=train.max_new_tokens,
            end_ids=self.ends,
            stop=self.dialect.stop,
            generator=self.generator,
            forced=forced,
            process_logits=self.hooks.process_logits if self.hooks.processes_logits else None,
            segments=self._newest_segments,
            progress=lambda done, total: self.display.phase("generate", done, total),
        )

        def completed(rows: list[int], generation: Generation) -> Rollouts:
            return make_rollouts(
                step,
                [tasks[row] for row in rows],
                group[rows] + first_group,
                [drawn[g][1] for g in group[rows].tolist()],
                generation,
                plan.temperature.cpu()[rows],
                tokenizer=self.tokenizer,
                dialect=self.dialect,
                ends=self.ends,
            )

        if self.hooks.begins_early:
            request.finished = lambda rows, generation: self.hooks.begin_scoring(completed(rows, generation))
        with self.timeline.span("generate"):
            generation = self.draw(request)
        return completed(list(range(len(group))), generation)

    def draw(self, request: GenerationRequest) -> Generation:
        """What the sampler draws, with the policy's own log-probabilities and entropy where it does not know them."""
        if request.uniforms is None:
            self.draw_uniforms(request)
        self.sampler.synchronise()
        generation = self.sampler.generate(request)
        if generation.policy_logps is None or generation.entropy is None:
            self.score(request, generation)
        return generation

    def draw_uniforms(self, request: GenerationRequest) -> None:
        """One number for each row and place, ahead: a completion depends on no other row, nor on who draws it."""
        shape = (len(request.group), request.max_new_tokens)
        request.uniforms = torch.rand(shape, generator=self.generator, dtype=torch.float64)

    @torch.no_grad()
    def score(self, request: GenerationRequest, generation: Generation) -> None:
        """Fill `policy_logps` and `entropy` from the policy as it is now."""
        self.policy.model.eval()
        logps, entropy = (torch.zeros(generation.mask.shape) for _ in range(2))
        prompts, lengths = [request.prompts[i] for i in request.group.tolist()], generation.mask.sum(1).tolist()
        for rows in self.cut(list(range(len(prompts))), prompts, lengths, request.group.tolist()):
            of = torch.tensor(rows)
            temperature = request.plan.temperature[of]
            own = [prompts[row] for row in rows]
            scored, spread = self.policy.score(own, generation.ids[of], generation.mask[of], temperature)
            assert spread is not None
            logps[of], entropy[of] = scored.cpu(), spread.cpu()
        generation.policy_logps, generation.entropy = logps, entropy

    def _tokens(self, texts: list[str] | None) -> list[list[int]] | None:
        """Of texts with which completions begin."""
        if texts is None:
            return None
        tokens = {text: self.tokenizer.encode(text, add_special_tokens=False) for text in set(texts)}
        return [tokens[text][: self.recipe.train.max_new_tokens] for text in texts]

    def with_replayed(self, rollouts: Rollouts) -> Rollouts:
        """This round's completions, and behind those of each group the ones that plugins replay."""
        replayed = self.hooks.replay(rollouts)
        if not replayed:
            return rollouts
        first = {int(group): row for row, group in reversed(list(enumerate(rollouts.group_ids)))}
        rows = [first[one.group] for one in replayed]
        lengths = torch.tensor([len(one.completion_ids) for one in replayed])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.full(mask.shape, self.ends[0])
        ids[mask] = torch.tensor([token for one in replayed for token in one.completion_ids])
        behaviour = torch.zeros(mask.shape)
        behaviour[mask] = torch.tensor([logp for one in replayed for logp in one.behaviour_logps])
        like = rollouts.select(rows)  # one row of the same group, for prompt and temperature
        with torch.no_grad():
            logps, entropy = self.policy.score(like.prompt_ids, ids, mask, like.temperature)
        assert entropy is not None
        whole = torch.zeros(len(rows), dtype=torch.bool)
        added = make_rollouts(
            rollouts.step,
            like.tasks,
            like.group_ids,
            like.prompt_ids,
            Generation(ids, mask, whole, behaviour, logps.cpu(), entropy.cpu()),
            like.temperature,
            tokenizer=self.tokenizer,
            dialect=self.dialect,
            ends=self.ends,
            off_policy=True,
        )
        together = Rollouts.concatenate([rollouts, added])
        return together.select(together.group_ids.argsort(stable=True))

    def _newest_segments(self, tokens: Sequence[list[int]]) -> Tensor:
        texts = [decode(self.tokenizer, ids, self.ends) for ids in tokens]
        read = getattr(self.dialect, "unfinished", self.dialect.parse)
        last = [character_segments(read(text))[-1:] or [int(Segment.OTHER)] for text in texts]
        return torch.tensor([segment[0] for segment in last], dtype=torch.int8)

    # ------------------------------------------------------------------------------------------- advantages

    def judge(self, rollouts: Rollouts) -> None:
        """Fill `ref_logps` if a plugin needs them, then `advantages` and `token_weights`."""
        self._warn_of_sampling(rollouts)
        if Need.REF_LOGPS in self.hooks.needs:
            rollouts.ref_logps = self.reference_logps(rollouts)
        base = self.hooks.advantages(rollouts)
        rollouts.advantages = base[:, None] * rollouts.mask + self.hooks.shape_advantages(rollouts, base)
        rollouts.token_weights = self.hooks.token_weights(rollouts)

    def _warn_of_sampling(self, rollouts: Rollouts) -> None:
        """Say once when the loss takes completions for the policy's own that another distribution drew."""
        if self.hooks.corrects_sampling or self.warned_of_sampling:
            return
        difference = (rollouts.behaviour_logps - rollouts.policy_logps)[rollouts.mask].abs()
        if bool((difference > SAMPLING_TOLERANCE).any()):
            self.warned_of_sampling = True
            self.display.warn(
                "completions are not drawn from the policy as it is (filters, forced tokens, a temperature by token, or"
                f" replay): log-probabilities differ by up to {float(difference.max()):.2g} nats, and nothing corrects"
                " for it; add `use: importance_correction` under explore, or accept the bias"
            )

    @torch.no_grad()
    def reference_logps(self, rollouts: Rollouts) -> Tensor:
        """(N, T) float32 on the CPU: from the frozen copy, or with LoRA from the model without its adapter."""
        result = torch.zeros(rollouts.mask.shape)
        for rows in self.micro_batches(rollouts, list(range(len(rollouts)))):
            part = rollouts.select(rows)
            arguments = (part.prompt_ids, part.completion_ids, part.mask, part.temperature)
            if self.reference is not None:
                logps, _ = self.reference.score(*arguments, entropy=False)
            else:
                with self.policy.model.disable_adapter():
                    logps, _ = self.policy.score(*arguments, entropy=False)
            result[rows] = logps.cpu()
        return result

    # ----------------------------------------------------------------------------------------------- update

    def update(self, rollouts: Rollouts) -> dict[str, float]:
        """Change the weights: `train.passes` optimizer steps over all rows. Returns the means over the passes."""
        train = self.recipe.train
        rows, shares = self.rows_to_learn(rollouts)
        if not rows:
            return {"loss": 0.0, "grad_norm": 0.0}
        self.policy.model.train()
        # In the first pass the policy is still the one before the update, so its log-probabilities are the old ones.
        old = OldScores.empty(rollouts, self.hooks.top_logps, self.policy.device)
        sums: defaultdict[str, float] = defaultdict(float)
        for number in range(train.passes):
            self.optimizer.zero_grad(set_to_none=True)
            done = number * len(rows)
            for part in self.micro_batches(rollouts, rows):
                batch = self.micro_batch(rollouts, part, shares, old, first_pass=number == 0)
                for name, value in self.backward(batch).items():
                    sums[name] += value
                done += len(part)
                self.display.phase("update", done, train.passes * len(rows))
            sums["grad_norm"] += self.apply_gradient(rollouts.step)
            self.sampler.weights_changed()
        return {name: value / train.passes for name, value in sums.items()}

    def rows_to_learn(self, rollouts: Rollouts) -> tuple[list[int], Tensor]:
        """The rows that have a gradient, and each token's share of the step's loss."""
        train = self.recipe.train
        assert rollouts.total is not None
        assert rollouts.advantages is not None
        takes_part = ~rollouts.total.isnan()
        shares = grpo.token_shares(rollouts.mask, takes_part, train.aggregation, train.max_new_tokens)
        rows = takes_part.nonzero().squeeze(1).tolist()
        if not self.hooks.learns_without_advantage:
            # The gradient of such a row is exactly zero: most of a step's rows once the model is nearly always right.
            learns = (rollouts.advantages != 0).any(1)
            rows = [row for row in rows if learns[row]]
        return rows, shares

    def micro_batches(self, rollouts: Rollouts, rows: list[int]) -> Iterator[list[int]]:
        """Cut rows into parts of at most `train.tokens_per_micro_batch` tokens; rows of a prompt stay together as far
        as they fit, since they share its tokens."""
        return self.cut(rows, rollouts.prompt_ids, rollouts.lengths.tolist(), rollouts.group_ids.tolist())

    def cut(
        self, rows: list[int], prompts: Sequence[Sequence[int]], lengths: Sequence[int], groups: Sequence[int]
    ) -> Iterator[list[int]]:
        """As `micro_batches`, of rows with these prompts, completion lengths and groups."""
        budget = self.recipe.train.tokens_per_micro_batch
        part: list[int] = []
        used = 0
        for row in rows:
            shared = self.policy.packed and part and groups[part[-1]] == groups[row]
            cost = lengths[row] + (0 if shared else len(prompts[row]))
            if part and used + cost > budget:
                yield part
                part, used = [], 0
                cost = lengths[row] + len(prompts[row])
            part.append(row)
            used += cost
        yield part

    def micro_batch(
        self, rollouts: Rollouts, rows: list[int], shares: Tensor, old: OldScores, *, first_pass: bool
    ) -> MicroBatch:
        """Score the rows under the policy as it is now, with a gradient."""
        part, device, index = rollouts.select(rows), self.policy.device, torch.tensor(rows)
        top = self.hooks.top_logps
        scores = self.policy.score_tokens(
            part.prompt_ids,
            part.completion_ids,
            part.mask,
            part.temperature,
            entropy=Need.ENTROPY_GRADIENT in self.hooks.needs,
            top=top if first_pass else 0,
            top_ids=old.top_ids[index] if top and not first_pass else None,
        )
        if first_pass:
            old.logps[index] = scores.logps.detach()
            if scores.top_logps is not None and scores.top_ids is not None:
                old.top_logps[index], old.top_ids[index] = scores.top_logps.detach(), scores.top_ids
        assert part.advantages is not None
        assert part.token_weights is not None
        return MicroBatch(
            logps=scores.logps,
            entropy=part.entropy.to(device) if scores.entropy is None else scores.entropy,
            old_logps=old.logps[index],
            behaviour_logps=part.behaviour_logps.to(device),
            ref_logps=None if part.ref_logps is None else part.ref_logps.to(device),
            advantages=part.advantages.to(device),
            mask=part.mask.to(device),
            segments=part.segments.to(device),
            token_weights=part.token_weights.to(device),
            scale=shares[index].to(device),
            rows=index,
            rollouts=rollouts,
            top_logps=scores.top_logps,
            old_top_logps=old.top_logps[index] if top else None,
            top_ids=old.top_ids[index] if top else None,
        )

    def backward(self, batch: MicroBatch) -> dict[str, float]:
        """Add the micro-batch's gradient. Returns its part of the step's loss, by term."""
        loss, metrics = self.loss_of(batch)
        loss.backward()
        return metrics

    def loss_of(self, batch: MicroBatch) -> tuple[Tensor, dict[str, float]]:
        """The micro-batch's part of the step's loss, and its figures by term. Raises BadNumber if it is not finite."""
        train = self.recipe.train
        policy_loss = batch.aggregate(self.hooks.policy_loss(batch) * batch.token_weights)
        terms = {"policy_loss": policy_loss, **self.hooks.loss_terms(batch)}
        loss = torch.stack(list(terms.values())).sum()
        if not loss.requires_grad:
            raise CallwrightError(
                "no part of the loss depends on the model, so that nothing can be learned: `policy_loss` must be"
                " computed from `batch.logps`"
            )
        if not bool(loss.isfinite()):  # each part of it is: their sum is too large
            raise BadNumber("the loss", "sum", batch.rollouts.step, None, float(loss.detach()))
        metrics = {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}
        clipped = grpo.clip_mask(
            batch.logps.detach(), batch.old_logps, batch.advantages, train.clip_low, train.clip_high
        )
        metrics["clip_share"] = float(batch.aggregate(clipped.float()))
        return loss, metrics

    def apply_gradient(self, step: int) -> float:
        """Clip the gradient to `train.max_grad_norm` and change the weights. Returns the norm before clipping."""
        train = self.recipe.train
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, train.max_grad_norm))
        if not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise BadNumber("the loss", "gradient", step, None, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = train.learning_rate * learning_rate_factor(step, train)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


def learning_rate_factor(step: int, train: TrainConfig) -> float:
    """Share of `train.learning_rate` at a step (from 0): a linear warm-up, then the recipe's schedule."""
    if step < train.warmup_steps:
        return (step + 1) / (train.warmup_steps + 1)
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    if train.schedule == "linear":
        return 1 - progress
    return (1 + math.cos(math.pi * progress)) / 2 if train.schedule == "cosine" else 1.0


def describe(rollouts: Rollouts, hooks: Hooks) -> dict[str, float]:
    """The step's figures that need no gradient: rewards, reasons, entropy by segment, lengths, groups."""
    assert rollouts.total is not None
    flat = grpo.flat_groups(rollouts.total, rollouts.group_ids)
    flat_groups = float((flat.float() / _group_sizes(rollouts.group_ids)).sum() / len(rollouts.groups))
    replayed = int(rollouts.off_policy.sum())
    if replayed:  # they say nothing of the policy as it is
        rollouts = rollouts.select((~rollouts.off_policy).nonzero().squeeze(1))
    assert rollouts.total is not None
    judged = ~rollouts.total.isnan()
    shown = hooks.combine(rollouts, normalise=False) if hooks.normalises else rollouts.total
    metrics = {
        "reward": float(shown[judged].mean()) if judged.any() else math.nan,
        "rows": float(len(rollouts)),
        "replayed_rows": float(replayed),
        "flat_groups": flat_groups,
        "entropy": float(rollouts.entropy[rollouts.mask].mean()),
        "completion_length": float(rollouts.lengths.float().mean()),
        "truncated": float(rollouts.truncated.float().mean()),
        "temperature": float(rollouts.temperature.mean()),
    }
    elsewhere = (rollouts.behaviour_logps - rollouts.policy_logps)[rollouts.mask].abs()
    if bool((elsewhere > 0).any()):  # nats by which what was drawn from is not the policy
        metrics |= {"sampling_difference": float(elsewhere.mean()), "sampling_difference/max": float(elsewhere.max())}
    if rollouts.ref_logps is not None:
        metrics["kl"] = float(grpo.kl_k3(rollouts.policy_logps, rollouts.ref_logps)[rollouts.mask].mean())
    for segment in (Segment.THINKING, Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME, Segment.ARGUMENT_VALUE):
        inside = rollouts.segments == segment
        if inside.any():
            metrics[f"entropy/{segment.name.lower()}"] = float(rollouts.entropy[inside].mean())
    for name, verdicts in rollouts.verdicts.items():
        scores = rollouts.rewards[name]
        metrics[f"reward/{name}"] = float(scores.nanmean())
        if failed := sum(v.failure is not None for v in verdicts):
            metrics[f"failed/{name}"] = float(failed)
        for code, count in Counter(str(v.reasons[0].code) for v in verdicts if v.reasons).items():
            metrics[f"reason/{name}/{code}"] = float(count)
    return metrics | hooks.take_metrics()


def _group_sizes(group_ids: Tensor) -> Tensor:
    """(N,) long: the number of rows in each row's group."""
    _, index, counts = torch.unique(group_ids, return_inverse=True, return_counts=True)
    return counts[index]


def sample_of(rollouts: Rollouts, row: int) -> Sample:
    """One completion to show."""
    assert rollouts.total is not None
    questions = [str(m["content"]) for m in rollouts.tasks[row].messages if m.get("role") == "user"]
    verdicts = {name: verdicts[row] for name, verdicts in rollouts.verdicts.items()}
    return Sample(questions[-1] if questions else "", rollouts.texts[row], float(rollouts.total[row]), verdicts)
