"""Many completions as one row: what they share is encoded once.

A row is a tree of token runs in depth-first order: [what all prompts share, rest of prompt 1, its completions ...,
rest of prompt 2, ...], where completions that begin alike share that beginning too. A token attends to its own run up
to itself and to all runs above it; positions restart in every run where the run above ended. Log-probabilities, entropy
and gradients are those of padded rows, for a fraction of the tokens.

`callwright` is registered as an attention implementation of transformers; the tree reaches it as a keyword of the
model's forward. On a CPU the tree is cut into rectangles that each run in the fused kernel, so that no mask exists; on
a GPU FlexAttention skips the empty blocks. Layers with a sliding window or a soft cap take a dense mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedModel

Block = tuple[int, int, int, int, bool]
"""Queries [q0, q1) attend to keys [k0, k1), causally or fully."""

SHORTEST_SHARED_PREFIX = 16
"""Tokens that prompts must share before sharing them is worth a run of its own."""
FEWEST_SHARED_TOKENS = 4
"""Tokens that completions must save by sharing a beginning before it is worth a run of its own."""
LOGITS_PER_CHUNK = 2**24
"""Elements of the largest logits tensor held at once: 64 MiB in float32."""


class Layout(Protocol):
    """What the attention of one forward pass looks like."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        """query (b, H, s, D), key and value (b, K, s', D) -> (b, H, s, D)."""
        ...


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    callwright_layout: Layout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if callwright_layout is None:
        raise RuntimeError("this model's forward does not hand its keywords to the attention")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    # Under autocast the rotary embedding leaves queries and keys in float32 beside values in bfloat16.
    query, key = query.to(value.dtype), key.to(value.dtype)
    out = callwright_layout.attend(module.layer_idx, query, key, value, scale, sliding_window, softcap)
    return out.transpose(1, 2), None


AttentionInterface.register("callwright", _attention)


def _is_checkpointing(model: PreTrainedModel) -> bool:
    """Under the name of transformers before 5.18 too: vLLM is not made for later ones."""
    newer = hasattr(type(model), "is_activation_checkpointing")
    return bool(model.is_activation_checkpointing if newer else model.is_gradient_checkpointing)


@contextmanager
def attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Switch the attention implementation for the time of the block.

    Under gradient checkpointing the switch stays: the backward pass runs the forward again, and must find the same.
    """
    before = model.config._attn_implementation
    if before == implementation:
        yield
        return
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        if not (_is_checkpointing(model) and torch.is_grad_enabled()):
            model.set_attn_implementation(before)


# ------------------------------------------------------------------------------------------------------- trees


@dataclass
class Run:
    """Consecutive tokens of a row, [start, end), the first at position `depth`; `parent` is a run's index or -1."""

    start: int
    end: int
    parent: int
    depth: int


@dataclass
class Tree:
    """One packed row of S tokens. Runs are in depth-first order, so a run's descendants stand right behind it."""

    ids: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def add(self, ids: Sequence[int], parent: int = -1) -> int:
        """Append a run; its parent must be the last run or one of that one's ancestors. Returns the run's index."""
        depth = 0
        if parent >= 0:
            above = self.runs[parent]
            depth = above.depth + above.end - above.start
        self.runs.append(Run(len(self.ids), len(self.ids) + len(ids), parent, depth))
        self.ids.extend(ids)
        return len(self.runs) - 1

    def inputs(self) -> dict[str, Tensor]:
        """Token ids and positions, each (1, S)."""
        positions = [position for run in self.runs for position in range(run.depth, run.depth + run.end - run.start)]
        return {
            "input_ids": torch.tensor([self.ids], device=self.device),
            "position_ids": torch.tensor([positions], device=self.device),
        }

    @property
    def longest(self) -> int:
        """Tokens on the longest path from the top of the tree to its end."""
        return max(run.depth + run.end - run.start for run in self.runs)

    def blocks(self) -> list[Block]:
        """The rectangles of the attention matrix that are not empty: a run with itself, and its descendants with it."""
        last = [run.end for run in self.runs]
        for index in range(len(self.runs) - 1, -1, -1):
            parent = self.runs[index].parent
            if parent >= 0:
                last[parent] = max(last[parent], last[index])
        own = [(run.start, run.end, run.start, run.end, True) for run in self.runs if run.end > run.start]
        below = [
            (run.end, end, run.start, run.end, False)
            for run, end in zip(self.runs, last, strict=True)
            if end > run.end > run.start
        ]
        return own + below

    def run_of_token(self) -> Tensor:
        """(S,) long."""
        lengths = torch.tensor([run.end - run.start for run in self.runs])
        return torch.repeat_interleave(torch.arange(len(self.runs)), lengths).to(self.device)

    def ancestors(self) -> Tensor:
        """(R, R) bool: run j is run i or above it."""
        table = torch.zeros(len(self.runs), len(self.runs), dtype=torch.bool)
        for index, run in enumerate(self.runs):
            if run.parent >= 0:
                table[index] = table[run.parent]
            table[index, index] = True
        return table.to(self.device)

    def dense_mask(self, window: int | None) -> Tensor:
        """(S, S) bool, queries by keys; a sliding window counts positions, not places in the row."""
        run, place = self.run_of_token(), torch.arange(len(self.ids), device=self.device)
        mask = self.ancestors()[run[:, None], run[None, :]] & (place[None, :] <= place[:, None])
        if window is not None:
            position = self.inputs()["position_ids"][0]
            mask &= position[:, None] - position[None, :] < window
        return mask

    # The layout's own view of the tree, made once per row and used by every layer.

    def __post_init__(self) -> None:
        self._cached: dict[Any, Any] = {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._cached:
            self._cached[key] = make()
        return self._cached[key]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        if window is not None and window >= self.longest:
            window = None
        if window is not None or cap is not None:
            mask = self._once(("mask", window), lambda: self.dense_mask(window))
            return dense_attention(query, key, value, mask, scale, cap)
        if query.device.type == "cpu":
            return BlockAttention.apply(query, key, value, self._once("blocks", self.blocks), scale)  # type: ignore[no-untyped-call]
        return _flex_attention()(
            query, key, value, block_mask=self._once("flex", self._flex_mask), scale=scale, enable_gqa=True
        )

    def _flex_mask(self) -> Any:
        from torch.nn.attention.flex_attention import create_block_mask

        run, ancestors = self.run_of_token(), self.ancestors()

        def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return ancestors[run[query], run[key]] & (key <= query)

        size = len(self.ids)
        return create_block_mask(visible, None, None, size, size, device=str(self.device))


@lru_cache(maxsize=1)
def _flex_attention() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Rows differ in length at every step: without dynamic shapes each would compile a kernel of its own.
    return torch.compile(flex_attention, dynamic=True)


def dense_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, cap: float | None) -> Tensor:
    """Attention under an explicit mask (s, s'), with an optional soft cap on the scores (Gemma 2, arXiv 2408.00118)."""
    if cap is None:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = torch.tanh(query @ key.transpose(-1, -2) * scale / cap) * cap
    weights = scores.float().masked_fill(~mask, -torch.inf).softmax(-1)
    return weights.to(value.dtype) @ value


class BlockAttention(torch.autograd.Function):
    """Exact attention over the rectangles of a tree, each in torch's fused CPU kernel.

    The kernel returns the log of every query's normaliser, by which the partial results of a query's rectangles are
    merged. Given the merged output and normaliser, the kernel's backward yields each rectangle's share of the gradient
    (the decomposition of ring attention, arXiv 2310.01889).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: list[Block], scale: float) -> Tensor:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out = torch.empty_like(query)
        normaliser = query.new_empty(query.shape[:3], dtype=torch.float32)
        for q0, q1, k0, k1, causal in blocks:
            part, log_sum = kernel(query[:, :, q0:q1], key[:, :, k0:k1], value[:, :, k0:k1], 0.0, causal, scale=scale)
            if causal:  # a run's own block comes first and sets the place for the others
                out[:, :, q0:q1], normaliser[:, :, q0:q1] = part, log_sum
                continue
            so_far = normaliser[:, :, q0:q1]
            merged = torch.logaddexp(so_far, log_sum)
            old_share, new_share = (so_far - merged).exp().unsqueeze(-1), (log_sum - merged).exp().unsqueeze(-1)
            out[:, :, q0:q1] = out[:, :, q0:q1] * old_share + part * new_share
            normaliser[:, :, q0:q1] = merged
        ctx.save_for_backward(query, key, value, out, normaliser)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        query, key, value, out, normaliser = ctx.saved_tensors
        # A tree has many small blocks under few large ones: sum their shares in float32 also under bfloat16.
        grads = [torch.zeros_like(x, dtype=torch.float32) for x in (query, key, value)]
        gradient = gradient.to(query.dtype)
        for q0, q1, k0, k1, causal in ctx.blocks:
            q, k = slice(q0, q1), slice(k0, k1)
            parts = kernel(
                gradient[:, :, q],
                query[:, :, q],
                key[:, :, k],
                value[:, :, k],
                out[:, :, q],
                normaliser[:, :, q],
                0.0,
                causal,
                scale=ctx.scale,
            )
            for grad, place, part in zip(grads, (q, k, k), parts, strict=True):
                grad[:, :, place] += part
        return grads[0].to(query.dtype), grads[1].to(key.dtype), grads[2].to(value.dtype), None, None


def agreement(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of the common beginning."""
    differ = (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differ, min(len(first), len(second)))


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the prefix that all prompts share, less one token at least; 0 if not worth sharing."""
    length = agreement(min(map(tuple, prompts)), max(map(tuple, prompts)))
    length = min(length, min(len(p) for p in prompts) - 1)
    return length if len(prompts) > 1 and length >= SHORTEST_SHARED_PREFIX else 0


Branch = tuple[list[int], int]
"""The tokens of a completion that need a place in the row, and the completion's row in the batch."""


def add_branches(tree: Tree, branches: Sequence[Branch], parent: int, done: int, index: Tensor) -> None:
    """Add sorted completions below `parent`, whose first `done` tokens stand above already; what some of them begin
    with alike becomes one run. Sets in `index` (n, T), for every token behind those, the place that predicts it.

    Completions of a group agree for long: a confident policy hardly varies the name of the function.
    """
    left = [(tokens, row) for tokens, row in branches if len(tokens) > done]
    while left:
        first = left[0][0]
        shared = [branch for branch in left if branch[0][done] == first[done]]
        end = agreement(first, shared[-1][0])
        if (len(shared) - 1) * (end - done) < FEWEST_SHARED_TOKENS:
            # Too little for all of them. Neighbours in the order agree for longer: take as many as save the most.
            saved, many = max(
                ((n - 1) * (agreement(first, shared[n - 1][0]) - done), n) for n in range(1, len(shared) + 1)
            )
            many = many if saved >= FEWEST_SHARED_TOKENS else 1
            shared, end = shared[:many], agreement(first, shared[many - 1][0])
        run = tree.add(first[done:end], parent)
        for _, row in shared:
            start = tree.runs[run].start
            index[row, done + 1 : end + 1] = torch.arange(start, start + end - done)
        add_branches(tree, shared, run, end, index)
        left = left[len(shared) :]


def prompt_tree(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tree, list[int], int]:
    """A tree of distinct prompts: the tree, the run of every prompt's own part, the shared prefix's length."""
    tree = Tree(device=device)
    prefix = shared_prefix(prompts)
    top = tree.add(prompts[0][:prefix]) if prefix else -1
    return tree, [tree.add(prompt[prefix:], top) for prompt in prompts], prefix


# -------------------------------------------------------------------------------------------------- the policy


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a policy says of completion tokens: (n, T), or (M,) of a part of them. In nats, 0 off the mask."""

    logps: Tensor
    entropy: Tensor | None
    top_logps: Tensor | None = None
    """(n, T, K): of the tokens in `top_ids`."""
    top_ids: Tensor | None = None
    """(n, T, K) long."""


class Policy:
    """A causal language model that scores completions: log-probabilities and entropy of every token.

    Completions of one prompt are packed behind it, and prompts that share their beginning share it, unless `packed` is
    False: then each completion is a padded row with its prompt.
    """

    def __init__(self, model: Any, *, autocast: torch.dtype | None = None, packed: bool = True) -> None:
        self.model = model
        self.causal_lm: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.autocast_dtype = autocast
        self.packed = packed

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def hidden(self, inputs: dict[str, Tensor], implementation: str, **keywords: Any) -> Any:
        """The decoder's output (last hidden states, cache) without the output head."""
        with attention(self.causal_lm, implementation):
            return self.causal_lm.base_model(**inputs, **keywords)

    def logits(self, hidden: Tensor) -> Tensor:
        """(rows, D) -> (rows, V) float32, with the scalings that some families apply behind the output head."""
        config = self.causal_lm.config.get_text_config()
        logits = self.causal_lm.get_output_embeddings()(hidden).float()
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
            logits = torch.tanh(logits / cap) * cap
        if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
            logits = logits / divisor
        if (factor := getattr(config, "logit_scale", None)) is not None:  # Cohere
            logits = logits * factor
        return logits

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Tensor,
        mask: Tensor,
        temperature: Tensor,
        *,
        entropy: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probability, and entropy over the full vocabulary, of every completion token.

        prompts: n lists of tokens, equal ones need not be the same object. completions: (n, T) long, right-padded.
        mask: (n, T) bool. temperature: (n,), which divides the logits.

        Returns two (n, T) float32 tensors on the model's device, in nats, 0 off the mask; the second is None without
        `entropy`. Gradients flow if they are enabled.
        """
        scores = self.score_tokens(prompts, completions, mask, temperature, entropy=entropy)
        return scores.logps, scores.entropy

    def score_tokens(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Tensor,
        mask: Tensor,
        temperature: Tensor,
        *,
        entropy: bool = True,
        top: int = 0,
        top_ids: Tensor | None = None,
    ) -> TokenScores:
        """As `score`, and log-probabilities of the `top` likeliest tokens, or of those in `top_ids` (n, T, K)."""
        device = self.device
        completions, mask, temperature = completions.to(device), mask.to(device), temperature.to(device)
        with self.autocast():
            encode = self._encode_packed if self.packed else self._encode_padded
            states, index = encode(prompts, completions, mask)
            where = mask.nonzero(as_tuple=True)
            wanted = top_ids.to(device)[where] if top_ids is not None else completions.new_empty(len(where[0]), 0)
            parts = self._score_chunks(
                states[index[where]], completions[where], temperature[where[0]], wanted, entropy, top
            )

        def placed(values: Tensor) -> Tensor:
            return values.new_zeros(*mask.shape, *values.shape[1:]).index_put(where, values)

        logps, entropies, top_logps, top_found = map(placed, parts)
        tops = (top_logps, top_found) if top or top_ids is not None else (None, None)
        return TokenScores(logps, entropies if entropy else None, *tops)

    def _encode_packed(
        self, prompts: Sequence[Sequence[int]], completions: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (S, D), and for every completion token (n, T) the place of the state that predicts it."""
        lengths = mask.sum(1).tolist()
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            by_prompt.setdefault(tuple(prompt), []).append(row)
        distinct = list(by_prompt)
        tree = Tree(device=completions.device)
        prefix = shared_prefix(distinct)
        top = tree.add(distinct[0][:prefix]) if prefix else -1
        index = torch.zeros(completions.shape, dtype=torch.long)
        tokens = completions.tolist()
        for prompt, rows in by_prompt.items():
            own = tree.add(prompt[prefix:], top)
            index[rows, 0] = tree.runs[own].end - 1
            # The last token predicts nothing that is scored, so it needs no place in the row.
            branches = sorted((tokens[row][: max(0, lengths[row] - 1)], row) for row in rows)
            add_branches(tree, branches, own, 0, index)
        output = self.hidden(tree.inputs(), "callwright", callwright_layout=tree, use_cache=False)
        return output.last_hidden_state[0], index.to(completions.device)

    def _encode_padded(
        self, prompts: Sequence[Sequence[int]], completions: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `_encode_packed`, from one left-padded row per completion."""
        lengths = [len(prompt) for prompt in prompts]
        width, (n, steps) = max(lengths), completions.shape
        ids = torch.zeros(n, width + steps, dtype=torch.long, device=completions.device)
        visible = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - lengths[row] : width] = torch.tensor(list(prompt), device=ids.device)
            visible[row, width - lengths[row] : width] = 1
        ids[:, width:], visible[:, width:] = completions, mask.long()
        positions = (visible.cumsum(1) - 1).clamp(min=0)
        inputs = {"input_ids": ids, "attention_mask": visible, "position_ids": positions}
        output = self.hidden(inputs, self.plain_attention, use_cache=False)
        states = output.last_hidden_state
        first = torch.arange(n, device=ids.device)[:, None] * (width + steps) + width - 1
        return states.reshape(-1, states.shape[-1]), first + torch.arange(steps, device=ids.device)

    @property
    def plain_attention(self) -> str:
        """Soft-capped attention exists only in transformers' eager implementation."""
        config = self.causal_lm.config.get_text_config()
        return "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"

    def _score_chunks(
        self, states: Tensor, targets: Tensor, temperature: Tensor, wanted: Tensor, entropy: bool, top: int
    ) -> tuple[Tensor, ...]:
        """Scores of M tokens; logits are made chunk by chunk and again in the backward pass: never (M, V) at once."""
        size = max(1, LOGITS_PER_CHUNK // int(self.causal_lm.get_output_embeddings().weight.shape[0]))
        parts = []
        splits = (states.split(size), targets.split(size), temperature.split(size), wanted.split(size))
        for chunk in zip(*splits, strict=True):
            if torch.is_grad_enabled():
                parts.append(checkpoint(self._score_chunk, *chunk, entropy, top, use_reentrant=False))
            else:
                parts.append(self._score_chunk(*chunk, entropy, top))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _score_chunk(
        self, states: Tensor, targets: Tensor, temperature: Tensor, wanted: Tensor, entropy: bool, top: int
    ) -> tuple[Tensor, ...]:
        """Log-probabilities (M,), entropies (M,); of the `wanted` or `top` tokens log-probabilities and ids (M, K)."""
        logits = self.logits(states) / temperature[:, None]
        log_sum = logits.logsumexp(-1)
        logps = logits.gather(1, targets[:, None]).squeeze(1) - log_sum
        if top:
            wanted = logits.detach().topk(top, -1).indices
        top_logps = logits.gather(1, wanted) - log_sum[:, None]
        entropies = log_sum - ((logits - log_sum[:, None]).exp() * logits).sum(-1) if entropy else logps
        return logps, entropies, top_logps, wanted
