"""A step's request as vLLM's requests, and vLLM's answers as completions. Nothing here needs vLLM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from callwright.sampling import Generation, GenerationRequest, SamplingPlan
from callwright.types import CallwrightError
from transformers import PreTrainedTokenizerBase

from callwright_vllm import NO_PROCESS_LOGITS

Decode = Callable[[Sequence[int]], str]
"""Tokens -> their text, special tokens too."""

LOWEST_TEMPERATURE = 0.01
"""vLLM draws from no lower one, and takes one near 0 to mean greedy."""


@dataclass
class Completion:
    """One row, as far as it is known."""

    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    """Of each token: log-probability in nats where it was drawn, 0 where it was forced or greedy."""
    truncated: bool = True


@dataclass
class Ask:
    """One request to vLLM: as many samples as rows, or one that all rows share, being greedy."""

    prompt: list[int]
    """With the forced beginning."""
    rows: list[int]
    forced: list[int]
    settings: dict[str, Any]
    """Arguments of vLLM's SamplingParams, and fields of its server's requests."""


Answer = Callable[[Sequence[Ask]], Sequence[Sequence[Completion]]]
"""Requests -> what vLLM drew for each, without the forced beginning."""


def draw(request: GenerationRequest, tokenizer: PreTrainedTokenizerBase, context: int, answer: Answer) -> Generation:
    """What vLLM draws. `uniforms` give the seeds.

    Raises CallwrightError for a prompt that does not fit into the `context`, and for `process_logits`.
    """
    if request.process_logits is not None:
        raise CallwrightError(f"rollouts: vLLM cannot run `process_logits`: {NO_PROCESS_LOGITS}")
    longest = max(len(prompt) for prompt in request.prompts)
    if longest + request.max_new_tokens > context:
        raise CallwrightError(
            f"rollouts: a prompt of {longest} tokens and {request.max_new_tokens} new ones do not fit into vLLM's"
            f" {context}; raise rollouts.max_model_len (a server's --max-model-len) as far as the model's context goes,"
            " or lower train.max_new_tokens or evaluate.max_new_tokens"
        )

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids)))

    asked = list(asks(request, decode))
    return completions(request, asked, answer(asked) if asked else [], decode)


def asks(request: GenerationRequest, decode: Decode) -> Iterator[Ask]:
    """Rows of a prompt with the same plan and the same forced beginning are one request. Rows whose forced beginning is
    a whole completion need none."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row, prompt in enumerate(request.group.tolist()):
        alike[prompt, tuple(_plan_of(request.plan, row).items()), tuple(_forced(request, row))].append(row)
    seeds = _seeds(request)
    for rows in alike.values():
        forced = _forced(request, rows[0])
        room = request.max_new_tokens - len(forced)
        if room < 1 or end_of(forced, request, decode) is not None:
            continue
        settings = _plan_of(request.plan, rows[0]) | {
            "max_tokens": room,
            "stop": list(request.stop),
            "include_stop_str_in_output": True,
            "stop_token_ids": list(request.end_ids),
            "ignore_eos": True,  # the request says what ends a completion
            "detokenize": bool(request.stop),
            "skip_special_tokens": False,
        }
        if not request.plan.greedy:
            settings |= {"n": len(rows), "seed": seeds[rows[0]], "logprobs": 0}
        yield Ask([*request.prompts[int(request.group[rows[0]])], *forced], rows, forced, settings)


def _plan_of(plan: SamplingPlan, row: int) -> dict[str, Any]:
    if plan.greedy:
        return {"temperature": 0.0}
    values: dict[str, Any] = {"temperature": max(LOWEST_TEMPERATURE, float(plan.temperature[row]))}
    for name, kind in (("top_p", float), ("top_k", int), ("min_p", float)):
        if (of_rows := getattr(plan, name)) is not None:
            values[name] = kind(of_rows[row])
    return values


def _forced(request: GenerationRequest, row: int) -> list[int]:
    return [] if request.forced is None else list(request.forced[row])


def _seeds(request: GenerationRequest) -> list[int]:
    """One for each row, below 2^53; vLLM gives the k-th sample of a request its seed plus k."""
    if request.uniforms is not None:
        return (request.uniforms[:, 0].double() * 2**53).long().tolist()
    return torch.randint(2**53, (len(request.group),), generator=request.generator).tolist()


def end_of(ids: Sequence[int], request: GenerationRequest, decode: Decode) -> int | None:
    """How many tokens there are up to the first that ends the completion; None if none does."""
    for length in range(1, len(ids) + 1):
        text = decode(ids[:length]) if request.stop else ""
        if ids[length - 1] in request.end_ids or any(stop in text for stop in request.stop):
            return length
    return None


def completions(
    request: GenerationRequest, asked: Sequence[Ask], answers: Sequence[Sequence[Completion]], decode: Decode
) -> Generation:
    """answers: what vLLM drew for each of `asked`."""
    rows = []
    for row in range(len(request.group)):
        forced = _forced(request, row)
        rows.append(Completion(forced, [0.0] * len(forced)))
    for ask, answer in zip(asked, answers, strict=True):
        samples = list(answer) * len(ask.rows) if request.plan.greedy else answer
        for row, drawn in zip(ask.rows, samples, strict=True):
            rows[row] = Completion(ask.forced + drawn.ids, rows[row].logps + drawn.logps, drawn.truncated)
    if request.forced is not None:
        # vLLM looks for stop strings in what it drew itself: not in a forced beginning, and not across its end.
        for one in rows:
            if (end := end_of(one.ids, request, decode)) is not None:
                one.ids, one.logps, one.truncated = one.ids[:end], one.logps[:end], False
    return _together(rows, request.end_ids[0])


def _together(rows: Sequence[Completion], padding: int) -> Generation:
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [padding] * (longest - len(row.ids)) for row in rows])
    mask = torch.arange(longest) < torch.tensor([len(row.ids) for row in rows])[:, None]
    logps = torch.tensor([row.logps + [0.0] * (longest - len(row.ids)) for row in rows])
    return Generation(ids, mask, torch.tensor([row.truncated for row in rows]), logps)
