"""Generation for GRPO: each prompt is encoded once, its group shares the result, rows that have drawn the same tokens
so far are one, and finished rows leave the batch.

Behaviour log-probabilities (of the distribution that was sampled from), policy log-probabilities and entropy (of the
distribution at the row's temperature) are taken from the logits that are there anyway, without a second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache, PreTrainedTokenizerBase

from callwright.packing import Policy, prompt_tree

if TYPE_CHECKING:
    from callwright.recipe import Recipe

ProcessLogits = Callable[[Tensor, Tensor, Tensor, Callable[[], Tensor]], Tensor]
"""(logits (n, V), rows (n,), positions (n,), segments of the rows so far) -> logits (n, V); see the hook."""


@dataclass
class SamplingPlan:
    """How to draw N completions; each tensor (N,)."""

    temperature: Tensor
    top_p: Tensor | None = None
    top_k: Tensor | None = None
    min_p: Tensor | None = None
    greedy: bool = field(default=False, kw_only=True)

    @classmethod
    def greedily(cls, rows: int) -> SamplingPlan:
        return cls(torch.ones(rows), greedy=True)

    def to(self, device: torch.device) -> SamplingPlan:
        filters = (None if f is None else f.to(device) for f in (self.top_p, self.top_k, self.min_p))
        return SamplingPlan(self.temperature.to(device), *filters, greedy=self.greedy)

    def __post_init__(self) -> None:
        """Filters that filter nothing are dropped: each costs a sort of the vocabulary at every token."""
        for name, off in (("top_p", 1.0), ("top_k", 0), ("min_p", 0.0)):
            values = getattr(self, name)
            if values is not None and bool((values == off).all()):
                setattr(self, name, None)

    def select(self, rows: Tensor) -> SamplingPlan:
        """The plan of some rows."""
        filters = (None if f is None else f[rows] for f in (self.top_p, self.top_k, self.min_p))
        return SamplingPlan(self.temperature[rows], *filters, greedy=self.greedy)


@dataclass
class GenerationRequest:
    """What a step wants generated: N completions of B prompts."""

    prompts: list[list[int]]
    """B lists of tokens."""
    group: Tensor
    """(N,) long: which prompt each completion continues."""
    plan: SamplingPlan
    max_new_tokens: int
    end_ids: Sequence[int]
    """Tokens that end a completion and belong to it."""
    stop: Sequence[str] = ()
    """Strings that end it; the text keeps them."""
    generator: torch.Generator | None = None
    """Where to draw from, unless `uniforms` are given."""
    uniforms: Tensor | None = None
    """(N, max_new_tokens) float64 in [0, 1): the number that draws each token, so that a row's completion depends on
    no other row."""
    forced: Sequence[Sequence[int]] | None = None
    """Tokens with which each completion begins, by row; they are not drawn."""
    process_logits: ProcessLogits | None = None
    segments: Callable[[Sequence[list[int]]], Tensor] | None = None
    """What `process_logits` may ask for: the rows' tokens so far -> (n,) int8."""
    progress: Callable[[int, int], None] | None = None
    """Called with (tokens so far, `max_new_tokens`)."""
    finished: Callable[[list[int], Generation], None] | None = None
    """Called with rows that have ended while others go on, and their completions; a sampler may leave that out."""

    def of_prompts(self, prompts: range) -> GenerationRequest:
        """The part of the request that concerns some neighbouring prompts. `process_logits` still sees row numbers of
        the whole."""
        rows = ((self.group >= prompts.start) & (self.group < prompts.stop)).nonzero().squeeze(1)
        process = self.process_logits
        return replace(
            self,
            prompts=[self.prompts[i] for i in prompts],
            group=self.group[rows] - prompts.start,
            plan=self.plan.select(rows),
            uniforms=None if self.uniforms is None else self.uniforms[rows],
            forced=None if self.forced is None else [self.forced[row] for row in rows.tolist()],
            process_logits=process and (lambda logits, here, *more: process(logits, rows.to(here.device)[here], *more)),
        )


class Sampler(Protocol):
    """Draws completions for a run: a plugin of the kind `rollout`.

    It may have `refuses`, a mapping from the names of hooks that cannot act in it (`process_logits`) to the reason;
    `callwright check` refuses recipes with plugins that have such a hook.
    """

    def start(self, policy: Policy, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
        """Called once, when the model is loaded and before anything is drawn. Raises CallwrightError for what is
        missing."""
        ...

    def weights_changed(self) -> None:
        """Called when the policy's weights are others than before: after every update, and after a resumption."""
        ...

    def synchronise(self) -> None:
        """Called before completions are drawn, in every process of a run, also in those that draw none: now the sampler
        takes the weights, if they have changed."""
        ...

    def generate(self, request: GenerationRequest) -> Generation:
        """Draw the completions. Where the plan is greedy, log-probabilities do not matter."""
        ...

    def close(self) -> None:
        """Nothing more will be drawn."""
        ...


@dataclass
class Generation:
    """N completions, right-padded to T tokens; on the CPU. Greedy ones have no log-probabilities and no entropy."""

    ids: Tensor
    """(N, T) long."""
    mask: Tensor
    """(N, T) bool; the end-of-turn token counts."""
    truncated: Tensor
    """(N,) bool: neither an end-of-turn token nor a stop string came in time."""
    behaviour_logps: Tensor
    """(N, T) float32."""
    policy_logps: Tensor | None = None
    """(N, T) float32; None where the sampler does not know them, as the policy is elsewhere."""
    entropy: Tensor | None = None
    """(N, T) float32, nats; None like `policy_logps`."""

    @classmethod
    def concatenate(cls, parts: Sequence[Generation]) -> Generation:
        """The rows of all parts, in order."""
        width = max(part.ids.shape[1] for part in parts)

        def joined(name: str) -> Tensor | None:
            values = [getattr(part, name) for part in parts]
            if any(value is None for value in values):
                return None
            wide = [v if v.dim() == 1 else functional.pad(v, (0, width - v.shape[1])) for v in values]
            return torch.cat(wide)

        return cls(**{f.name: joined(f.name) for f in fields(cls)})  # type: ignore[arg-type] # three are never None


# ------------------------------------------------------------------------------------------------------ products


class _WeightFirst(TorchFunctionMode):
    """Computes linear(x, W) as (W x^T)^T."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.linear or kwargs or len(args[1].shape) != 2:
            return func(*args, **(kwargs or {}))
        x, weight, bias = (*args, None)[:3]
        product = (weight @ x.reshape(-1, x.shape[-1]).T).T.contiguous().view(*x.shape[:-1], -1)
        return product if bias is None else product + bias


def narrow_products(device: torch.device) -> AbstractContextManager[object]:
    """For few rows on a CPU: with the weight as the left factor MKL takes half the time at 8 rows, two thirds at 48."""
    return _WeightFirst() if device.type == "cpu" else nullcontext()


# ------------------------------------------------------------------------------------------------------- caches


@dataclass
class DecodeLayout:
    """Attention of n rows that each add one token: to what all prompts share, to the row's own prompt, to the row.

    Nothing of a prompt is repeated for its group: the queries of a group are one matrix against the prompt's keys.
    """

    prefix: list[tuple[Tensor, Tensor]]
    """By layer: keys and values of the shared prefix, (K, P0, D)."""
    prompts: list[tuple[Tensor, Tensor]]
    """By layer: keys and values of the prompts' own parts, right-padded, (B, K, P, D)."""
    lengths: Tensor
    """(B,) long: tokens in each prompt's own part."""
    group: Tensor
    """(n,) long: which prompt each row continues."""
    place: Tensor = field(init=False)
    """(n,) long: each row's place among the rows of its group."""
    table: Tensor = field(init=False)
    """(B, places) long: the row at each place of a group."""
    padding: Tensor = field(init=False)
    """(B, P) bool: behind the end of a prompt's own part."""

    def __post_init__(self) -> None:
        self.arrange()

    def arrange(self) -> None:
        """Find what follows from `group` and `lengths`."""
        device, n = self.group.device, len(self.group)
        same = self.group[:, None] == self.group[None, :]
        self.place = (same & torch.ones(n, n, dtype=torch.bool, device=device).tril(-1)).sum(1)
        size = int(self.place.max()) + 1
        self.table = torch.zeros(len(self.lengths), size, dtype=torch.long, device=device)
        self.table[self.group, self.place] = torch.arange(n, device=device)
        width = self.prompts[0][0].shape[2]
        self.padding = torch.arange(width, device=device) >= self.lengths[:, None]
        self.bias = torch.zeros(self.padding.shape, device=device).masked_fill(self.padding, -torch.inf)[:, None, None]
        self.longest_prompt = self.prefix[0][0].shape[1] + int(self.lengths.max())

    def keep(self, rows: Tensor) -> None:
        """Only the given rows go on; prompts that no row continues are forgotten."""
        groups, self.group = torch.unique(self.group[rows], return_inverse=True)
        if len(groups) < len(self.lengths):
            self.lengths = self.lengths[groups]
            width = int(self.lengths.max())
            self.prompts = [(k[groups, :, :width], v[groups, :, :width]) for k, v in self.prompts]
        self.arrange()

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        """query (n, H, 1, D); key and value (n, K, t, D): the row's own tokens so far -> (n, H, 1, D)."""
        if window is not None and window >= self.longest_prompt + key.shape[2]:
            window = None
        if query.device.type == "cpu" and window is None and cap is None:
            return self._attend_fused(layer, query, key, value, scale)
        return self._attend_dense(layer, query, key, value, scale, window, cap)

    def _attend_fused(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Each of the three parts in torch's fused CPU kernel, merged by their normalisers."""
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        (prefix_key, prefix_value), (prompt_key, prompt_value) = self.prefix[layer], self.prompts[layer]
        out, log_sum = kernel(query, key, value, 0.0, False, scale=scale)
        outs, log_sums = [out], [log_sum]
        grouped = query.squeeze(2)[self.table].transpose(1, 2)
        bias = self.bias.to(query.dtype).expand(-1, 1, grouped.shape[2], -1)
        out, log_sum = kernel(grouped, prompt_key, prompt_value, 0.0, False, attn_mask=bias, scale=scale)
        outs.append(out[self.group, :, self.place].unsqueeze(2))
        log_sums.append(log_sum[self.group, :, self.place].unsqueeze(2))
        if prefix_key.shape[1]:
            out, log_sum = kernel(query.transpose(0, 2), prefix_key[None], prefix_value[None], 0.0, False, scale=scale)
            outs.append(out.transpose(0, 2))
            log_sums.append(log_sum.transpose(0, 2))
        shares = torch.stack(log_sums).softmax(0).unsqueeze(-1).to(value.dtype)
        merged = outs[0] * shares[0]
        for out, share in zip(outs[1:], shares[1:], strict=True):
            merged = torch.addcmul(merged, out, share)
        return merged

    def _attend_dense(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        """With the scores of all keys at once, for a GPU, sliding windows and soft caps."""
        (n, heads, _, width), kv_heads = query.shape, key.shape[1]
        repeat = heads // kv_heads
        query = (query * scale).view(n, kv_heads, repeat, width)
        (prefix_key, prefix_value), (prompt_key, prompt_value) = self.prefix[layer], self.prompts[layer]

        shared = query.transpose(0, 1).reshape(kv_heads, n * repeat, width)
        prefix_scores = (shared @ prefix_key.transpose(1, 2)).view(kv_heads, n, repeat, -1).transpose(0, 1)
        prompt_scores = self._to_rows(self._to_groups(query) @ prompt_key.transpose(2, 3), repeat)
        own_scores = query @ key.transpose(2, 3)

        parts = (prefix_scores, prompt_scores, own_scores)
        scores = torch.cat(parts, -1).float()
        if cap is not None:
            scores = torch.tanh(scores / cap) * cap
        hidden = self._hidden(prefix_scores.shape[-1], own_scores.shape[-1], window)
        weights = scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(-1).to(value.dtype)
        on_prefix, on_prompt, on_own = weights.split([part.shape[-1] for part in parts], -1)
        out = on_own @ value
        out = out + self._to_rows(self._to_groups(on_prompt) @ prompt_value, repeat)
        flat = on_prefix.transpose(0, 1).reshape(kv_heads, n * repeat, -1)
        out = out + (flat @ prefix_value).view(kv_heads, n, repeat, width).transpose(0, 1)
        return out.reshape(n, heads, 1, width)

    def _hidden(self, prefix: int, own: int, window: int | None) -> Tensor:
        """(n, prefix + P + own) bool: keys a row does not see, being padding or behind its sliding window."""
        padding = self.padding[self.group]
        hidden = functional.pad(functional.pad(padding, (prefix, 0)), (0, own))
        if window is None:
            return hidden
        length = prefix + self.lengths[self.group]
        beginning = torch.arange(prefix + padding.shape[1], device=hidden.device).expand(len(length), -1)
        behind = length[:, None] + torch.arange(own, device=hidden.device)
        return hidden | (behind[:, -1:] - torch.cat([beginning, behind], 1) >= window)

    def _to_groups(self, x: Tensor) -> Tensor:
        """(n, K, r, C) -> (B, K, places * r, C) ; places without a row hold another's values and are not read back."""
        grouped = x[self.table].transpose(1, 2)
        return grouped.reshape(grouped.shape[0], grouped.shape[1], -1, grouped.shape[-1])

    def _to_rows(self, x: Tensor, repeat: int) -> Tensor:
        """(B, K, places * r, C) -> (n, K, r, C)."""
        return x.unflatten(2, (-1, repeat))[self.group, :, self.place]


class SharedPrompts:
    """Generation state of the packed path."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], group: Tensor) -> None:
        self.policy = policy
        tree, runs, prefix = prompt_tree(prompts, policy.device)
        output = policy.hidden(
            tree.inputs(), "callwright", callwright_layout=tree, past_key_values=DynamicCache(), use_cache=True
        )
        ends = torch.tensor([tree.runs[run].end for run in runs], device=policy.device)
        starts = torch.tensor([tree.runs[run].start for run in runs], device=policy.device)
        lengths = ends - starts
        index = (starts[:, None] + torch.arange(int(lengths.max()), device=policy.device)).clamp(max=len(tree.ids) - 1)
        keys_values = [(layer.keys[0], layer.values[0]) for layer in output.past_key_values.layers]
        self.layout = DecodeLayout(
            prefix=[(k[:, :prefix], v[:, :prefix]) for k, v in keys_values],
            prompts=[(k[:, index].transpose(0, 1), v[:, index].transpose(0, 1)) for k, v in keys_values],
            lengths=lengths,
            group=group.to(policy.device),
        )
        self.cache = DynamicCache()
        self.position = (lengths + prefix)[self.layout.group]
        self.first_logits = policy.logits(output.last_hidden_state[0, ends - 1])[self.layout.group]

    def step(self, ids: Tensor) -> Tensor:
        """The rows' newest tokens (n,) -> logits of the next ones (n, V) float32."""
        inputs = {"input_ids": ids[:, None], "position_ids": self.position[:, None]}
        with narrow_products(self.policy.device):
            output = self.policy.hidden(
                inputs, "callwright", callwright_layout=self.layout, past_key_values=self.cache, use_cache=True
            )
            self.position = self.position + 1
            return self.policy.logits(output.last_hidden_state[:, -1])

    def keep(self, rows: Tensor) -> None:
        self.layout.keep(rows)
        self.cache.batch_select_indices(rows)
        self.position = self.position[rows]


class RepeatedPrompts:
    """Generation state of the padded path: transformers' own cache and attention, one row per completion."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], group: Tensor) -> None:
        self.policy = policy
        width, device = max(len(prompt) for prompt in prompts), policy.device
        ids = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
        self.visible = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(list(prompt), device=device)
            self.visible[row, width - len(prompt) :] = 1
        positions = (self.visible.cumsum(1) - 1).clamp(min=0)
        self.cache = DynamicCache()
        output = self._forward(ids, positions)
        group = group.to(device)
        self.cache.batch_select_indices(group)
        self.visible = self.visible[group]
        self.position = positions[group, -1] + 1
        self.first_logits = policy.logits(output.last_hidden_state[:, -1])[group]

    def _forward(self, ids: Tensor, positions: Tensor) -> Any:
        inputs = {"input_ids": ids, "attention_mask": self.visible, "position_ids": positions}
        return self.policy.hidden(inputs, self.policy.plain_attention, past_key_values=self.cache, use_cache=True)

    def step(self, ids: Tensor) -> Tensor:
        self.visible = functional.pad(self.visible, (0, 1), value=1)
        with narrow_products(self.policy.device):
            output = self._forward(ids[:, None], self.position[:, None])
            self.position = self.position + 1
            return self.policy.logits(output.last_hidden_state[:, -1])

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.visible, self.position = self.visible[rows], self.position[rows]


# ----------------------------------------------------------------------------------------------------- sampling


def filter_logits(logits: Tensor, top_k: Tensor | None, top_p: Tensor | None, min_p: Tensor | None) -> Tensor:
    """-inf for the tokens that the filters leave out; each filter looks at what the one before left.

    logits: (n, V). top_k: (n,) long, 0 keeps all. top_p: (n,): the fewest tokens whose probabilities reach it.
    min_p: (n,): tokens at least this share of the likeliest one's probability (arXiv 2407.01082).
    """
    if top_k is not None:
        order = logits.sort(-1, descending=True).values
        last = torch.where(top_k > 0, top_k, logits.shape[-1]).clamp(max=logits.shape[-1]) - 1
        logits = logits.masked_fill(logits < order.gather(1, last[:, None]), -torch.inf)
    if top_p is not None:
        order, places = torch.sort(logits, dim=-1, descending=True, stable=True)
        probabilities = order.softmax(-1)
        surplus = probabilities.cumsum(-1) - probabilities >= top_p[:, None]  # the likeliest token always stays
        surplus[:, 0] = False
        logits = logits.masked_fill(torch.zeros_like(surplus).scatter(1, places, surplus), -torch.inf)
    if min_p is not None:
        probabilities = logits.softmax(-1)
        least = min_p[:, None] * probabilities.amax(-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, -torch.inf)
    return logits


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """One token per row by inverting the distribution function at one uniform number: (n, V), (n,) -> (n,) long."""
    # On a CPU torch adds float32 up in float64 and rounds each sum; CUDA does so only where asked.
    cumulative = probabilities.cumsum(-1, dtype=torch.float64 if probabilities.is_cuda else None)
    total = cumulative[:, -1:]
    # Below the total after rounding too: behind it are only tokens that have no probability.
    target = (uniform.to(total)[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


@torch.no_grad()
def generate(
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    group: Tensor,
    plan: SamplingPlan,
    *,
    max_new_tokens: int,
    end_ids: Sequence[int],
    stop: Sequence[str] = (),
    generator: torch.Generator | None = None,
    uniforms: Tensor | None = None,
    forced: Sequence[Sequence[int]] | None = None,
    process_logits: ProcessLogits | None = None,
    segments: Callable[[Sequence[list[int]]], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
    finished: Callable[[list[int], Generation], None] | None = None,
) -> Generation:
    """Draw N completions. See `GenerationRequest` for what the arguments mean."""
    rows = len(group)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    scores = torch.zeros(3, rows, max_new_tokens)
    truncated = torch.ones(rows, dtype=torch.bool)
    active = torch.arange(rows)
    plan = plan.to(policy.device)
    with policy.autocast():  # around all tokens: it casts the weights once and keeps them until its end
        # Rows of a group are one until they draw different tokens: the model sees each distinct beginning once.
        state = (SharedPrompts if policy.packed else RepeatedPrompts)(policy, prompts, torch.arange(len(prompts)))
        distinct, place = state.first_logits, group.to(policy.device)
        for position in range(max_new_tokens):
            logits = distinct[place]
            here = active.to(logits.device)
            if plan.greedy:
                chosen = logits.argmax(-1)
            else:
                logits = logits / plan.temperature[here, None]
                probabilities = logits.softmax(-1)
                sampled_from = logits
                if process_logits is not None:
                    positions = torch.full_like(here, position)
                    so_far = [tokens[row] for row in active.tolist()]
                    sampled_from = process_logits(logits, here, positions, lambda so_far=so_far: segments(so_far))  # type: ignore[misc]
                sampled_from = filter_logits(
                    sampled_from, *(_rows(f, here) for f in (plan.top_k, plan.top_p, plan.min_p))
                )
                behaviour = probabilities if sampled_from is logits else sampled_from.softmax(-1)
                chance = (
                    torch.rand(len(active), generator=generator, dtype=torch.float64)
                    if uniforms is None
                    else uniforms[active, position]
                )
                chosen = draw(behaviour, chance)
                given = _forced(forced, active, position)
                if given is not None:
                    chosen = torch.where(given.to(chosen) < 0, chosen, given.to(chosen))
                scores[:, active, position] = _score(logits, probabilities, sampled_from, behaviour, chosen).cpu()
                if given is not None:
                    scores[0, active[given >= 0], position] = 0.0  # nothing else could come
            ended = []
            for row, token in zip(active.tolist(), chosen.tolist(), strict=True):
                tokens[row].append(token)
                ended.append(token in end_ids or _stops(tokenizer, tokens[row], stop))
            if progress is not None:
                progress(position + 1, max_new_tokens)
            going = (~torch.tensor(ended)).nonzero().squeeze(1)
            done = active[torch.tensor(ended)]
            truncated[done] = False
            active = active[going]
            if not len(active) or position + 1 == max_new_tokens:
                break
            if finished is not None and len(done):
                finished(done.tolist(), _completions(tokens, truncated, scores, done, end_ids[0]))
            going = going.to(logits.device)
            beginnings, place = torch.unique(torch.stack([place[going], chosen[going]], 1), dim=0, return_inverse=True)
            if not torch.equal(beginnings[:, 0], torch.arange(len(distinct), device=logits.device)):
                state.keep(beginnings[:, 0])
            distinct = state.step(beginnings[:, 1])
    return _completions(tokens, truncated, scores, torch.arange(rows), end_ids[0])


def _completions(
    tokens: Sequence[list[int]], truncated: Tensor, scores: Tensor, rows: Tensor, padding: int
) -> Generation:
    """What some rows have drawn. scores: (3, N, max_new_tokens)."""
    own = [tokens[row] for row in rows.tolist()]
    longest = max(map(len, own))
    ids = torch.tensor([row + [padding] * (longest - len(row)) for row in own])
    mask = torch.arange(longest) < torch.tensor([len(row) for row in own])[:, None]
    return Generation(ids, mask, truncated[rows], *scores[:, rows, :longest])


def _forced(tokens: Sequence[Sequence[int]] | None, rows: Tensor, position: int) -> Tensor | None:
    """(n,) long: the token that each row must take, -1 where it is free; None where all are."""
    if tokens is None or not any(len(tokens[row]) > position for row in rows.tolist()):
        return None
    return torch.tensor([tokens[row][position] if position < len(tokens[row]) else -1 for row in rows.tolist()])


def _rows(values: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if values is None else values[rows]


def _score(logits: Tensor, policy: Tensor, sampled_from: Tensor, behaviour: Tensor, chosen: Tensor) -> Tensor:
    """Behaviour log-probability, policy log-probability and policy entropy: (3, n)."""
    log_sum = _log_sum(logits, policy)
    entropy = log_sum - (policy * logits).sum(-1)
    if bool(entropy.isnan().any()):  # 0 x -inf, where a model masks tokens itself
        entropy = log_sum - (policy * logits).nansum(-1)
    at = chosen[:, None]
    policy_logps = logits.gather(1, at).squeeze(1) - log_sum
    if sampled_from is logits:
        return torch.stack([policy_logps, policy_logps, entropy])
    behaviour_logps = sampled_from.gather(1, at).squeeze(1) - _log_sum(sampled_from, behaviour)
    return torch.stack([behaviour_logps, policy_logps, entropy])


def _log_sum(logits: Tensor, probabilities: Tensor) -> Tensor:
    """(n,) logsumexp of the logits, by way of the likeliest token, whose probability is never zero."""
    return logits.amax(-1) - probabilities.amax(-1).log()


def _stops(tokenizer: PreTrainedTokenizerBase, ids: list[int], stop: Sequence[str]) -> bool:
    """Whether a stop string stands at the end of what the newest token completed."""
    if not stop:
        return False
    # A token holds at least one byte, so k bytes are k tokens at most; four more finish a split character.
    window = max(len(s.encode()) for s in stop) + 4
    text = tokenizer.decode(ids[-window:])
    return any(s in text for s in stop)


# ------------------------------------------------------------------------------------------- which path to take


def choose_path(policy: Policy, prompts: Sequence[Sequence[int]], warn: Callable[[str], None]) -> None:
    """Take the packed path if it reproduces the padded one on these prompts, else the padded, and say so.

    Compared are the log-probabilities of a few tokens behind the first prompts: padded, packed, and generated one by
    one. Beginnings and ends of prompts are enough: what can differ is the model's code, not its input.
    """
    short = [list(p) if len(p) <= 96 else [*p[:64], *p[-32:]] for p in prompts[:2]]
    rows = [short[0], short[0], short[-1]]
    completions = torch.tensor([row[-8:] for row in ([*short[0]] * 8, [*reversed(short[0])] * 8, [*short[-1]] * 8)])
    autocast, policy.autocast_dtype = policy.autocast_dtype, None
    exact = next(policy.model.parameters()).dtype == torch.float32
    try:
        difference = _path_difference(policy, short, rows, completions)
        reason = f"log-probabilities differ by {difference:.1g} nats" if difference > (1e-3 if exact else 0.3) else ""
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, IndexError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    finally:
        policy.autocast_dtype = autocast
    policy.packed = not reason
    if reason:
        warn(
            f"{type(policy.causal_lm).__name__} takes the padded path, which is slower: packed rows do not reproduce"
            f" padded ones ({reason}). Say `model.packing: padded` to skip this check"
        )


@torch.no_grad()
def _path_difference(
    policy: Policy, prompts: Sequence[list[int]], rows: Sequence[list[int]], completions: Tensor
) -> float:
    """Mean difference between the padded path's log-probabilities and those of packed scoring or decoding."""
    mask, temperature = torch.ones_like(completions, dtype=torch.bool), torch.ones(len(rows))
    policy.packed = False
    expected, _ = policy.score(rows, completions, mask, temperature, entropy=False)
    policy.packed = True
    scored, _ = policy.score(rows, completions, mask, temperature, entropy=False)
    state = SharedPrompts(policy, prompts, torch.tensor([0, 0, len(prompts) - 1]))
    logits, decoded = state.first_logits, []
    for column in completions.to(policy.device).T:
        decoded.append(logits.log_softmax(-1).gather(1, column[:, None]))
        logits = state.step(column)
    # A mean over tokens: under bfloat16 weights single tokens differ by chance.
    worst = torch.stack([(scored - expected).abs().mean(), (torch.cat(decoded, 1) - expected).abs().mean()]).max()
    return float(worst) if worst.isfinite() else float("inf")
