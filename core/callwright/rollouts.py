"""From tasks to `Rollouts`: prompts as tokens, completions as text, parse and segments; and their record on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from callwright.files import replacing
from callwright.packing import agreement
from callwright.sampling import Generation
from callwright.types import Call, CallwrightError, Dialect, Parse, Rollouts, Segment, Span, Task


def encode_prompt(tokenizer: PreTrainedTokenizerBase, dialect: Dialect, task: Task) -> list[int]:
    """The tokens of a task's prompt, up to where the model's reply begins.

    Raises CallwrightError where the chat template refuses the messages (some know no system message), or a text is no
    Unicode.
    """
    prompt = dialect.prompt(task)
    try:
        ids = tokenizer.apply_chat_template(
            prompt.messages,
            tools=prompt.tools,  # type: ignore[arg-type] # a list is invariant; the template takes any schema
            add_generation_prompt=True,
            return_dict=False,
        )
    except Exception as error:  # the template is a program of the model's
        raise CallwrightError(
            f"task '{task.id}': the model's chat template or tokenizer refuses its prompt: {error}; mend or drop the"
            " row, or choose another dialect"
        ) from error
    return list(ids)


def end_ids(tokenizer: PreTrainedTokenizerBase, model: object) -> list[int]:
    """Tokens that end a reply: the tokenizer's end-of-sequence token and those of the model's generation config."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    named = [] if named is None else [named] if isinstance(named, int) else list(named)
    return list(dict.fromkeys([tokenizer.eos_token_id, *named]))


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: Sequence[int]) -> str:
    """A completion's text without the token that ended it. Other special tokens stay: a dialect's tags may be such."""
    return _text(tokenizer, ids[:-1] if ids and ids[-1] in ends else ids)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def token_spans(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> list[Span]:
    """Characters of `text` that each token covers, in order; tokens behind the text (the one that ended it) cover none.

    A character that is split over several tokens belongs to the one that completes it. Together the tokens cover the
    whole text.
    """
    spans = _spans(tokenizer, ids, text, in_pieces=True)
    if spans and spans[-1][1] < len(text):
        # The tokenizer's text is not the sum of its pieces. Slow: every token decodes all those before it.
        spans = _spans(tokenizer, ids, text, in_pieces=False)
    return spans


def _spans(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str, *, in_pieces: bool) -> list[Span]:
    spans: list[Span] = []
    pending: list[int] = []  # tokens whose characters begin at `settled`
    settled = end = 0
    for token in ids:
        pending.append(token)
        piece = _text(tokenizer, pending)
        agreed = settled + agreement(piece, text[settled : settled + len(piece)])
        start, end = end, max(end, agreed)
        spans.append((start, end))
        # A character that is not complete yet shows as a replacement character.
        if in_pieces and piece and agreed == settled + len(piece) and not piece.endswith("\ufffd"):
            settled, pending = agreed, []
    return spans


def character_segments(parse: Parse) -> list[int]:
    """The `Segment` of every character of a parsed completion; the finer kind wins."""
    segments = [int(Segment.OTHER)] * len(parse.text)

    def paint(span: Span | None, segment: Segment) -> None:
        if span is not None:
            segments[span[0] : span[1]] = [int(segment)] * (span[1] - span[0])

    paint(parse.thinking, Segment.THINKING)
    for tag in parse.tags:
        paint(tag, Segment.TAG)
    if parse.calls:
        paint((parse.calls[0].span[0], parse.calls[-1].span[1]), Segment.CALL)
    for call in parse.calls:
        _paint_call(call, paint)
    return segments


def _paint_call(call: Call, paint: Callable[[Span | None, Segment], None]) -> None:
    paint(call.span, Segment.CALL)
    paint(call.name_span, Segment.FUNCTION_NAME)
    for argument in call.arguments:
        paint(argument.name_span, Segment.ARGUMENT_NAME)
        paint(argument.value_span, Segment.ARGUMENT_VALUE)


def token_segments(parse: Parse, spans: Sequence[Span]) -> list[int]:
    """The `Segment` of every token: the commonest among its characters, the finer of equals; `TAG` where it has none.

    A token without characters of its own is the end of the turn, or a part of a character that a later token completes.
    """
    by_character = character_segments(parse)
    result = []
    for start, end in spans:
        covered = by_character[start:end]
        result.append(max(covered, key=lambda s: (covered.count(s), s != Segment.CALL, s)) if covered else Segment.TAG)
    return [int(segment) for segment in result]


def make_rollouts(
    step: int,
    tasks: Sequence[Task],
    group_ids: Tensor,
    prompts: Sequence[list[int]],
    generation: Generation,
    temperature: Tensor,
    *,
    tokenizer: PreTrainedTokenizerBase,
    dialect: Dialect,
    ends: Sequence[int],
    off_policy: bool = False,
) -> Rollouts:
    """Decode, parse and segment N completions. `tasks` and `prompts` hold one entry per row."""
    assert generation.policy_logps is not None
    assert generation.entropy is not None
    lengths = generation.mask.sum(1).tolist()
    ids = [row[:length] for row, length in zip(generation.ids.tolist(), lengths, strict=True)]
    texts = [decode(tokenizer, row, ends) for row in ids]
    parsed = {text: dialect.parse(text) for text in set(texts)}
    parses = [parsed[text] for text in texts]
    segments = torch.zeros(generation.ids.shape, dtype=torch.int8)
    token_ends = torch.zeros(generation.ids.shape, dtype=torch.int32)
    for row, (row_ids, parse) in enumerate(zip(ids, parses, strict=True)):
        spans = token_spans(tokenizer, row_ids, parse.text)
        segments[row, : len(row_ids)] = torch.tensor(token_segments(parse, spans), dtype=torch.int8)
        token_ends[row, : len(row_ids)] = torch.tensor([end for _, end in spans], dtype=torch.int32)
    return Rollouts(
        step=step,
        tasks=list(tasks),
        group_ids=group_ids,
        prompt_ids=list(prompts),
        texts=texts,
        parses=parses,
        completion_ids=generation.ids,
        mask=generation.mask,
        behaviour_logps=generation.behaviour_logps,
        policy_logps=generation.policy_logps,
        entropy=generation.entropy,
        segments=segments,
        truncated=generation.truncated,
        temperature=temperature,
        off_policy=torch.full((len(texts),), off_policy),
        token_ends=token_ends,
    )


_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("task", pa.string()),
        ("group", pa.int64()),
        ("messages", pa.string()),
        ("tools", pa.string()),
        ("answer", pa.string()),
        ("completion", pa.string()),
        ("truncated", pa.bool_()),
        ("temperature", pa.float32()),
        ("off_policy", pa.bool_()),
        ("total", pa.float32()),
        ("rewards", pa.string()),
        ("reasons", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("segments", pa.list_(pa.int8())),
        ("entropy", pa.list_(pa.float32())),
        ("behaviour_logps", pa.list_(pa.float32())),
        ("advantages", pa.list_(pa.float32())),
        ("characters", pa.list_(pa.int32())),
    ]
)
"""The same in every step, also where a step has nothing to say, so that all files of a run read as one table."""


def write_rollouts(rollouts: Rollouts, path: Path) -> None:
    """One parquet file with a row per completion: text, tokens, scores, reasons with spans, entropy. Atomic.

    `messages`, `tools`, `answer`, `rewards` and `reasons` hold JSON. `total` is null for rows that took no part, and
    `advantages` where the update was skipped before there were any. `characters`: how many of the completion's each
    token covers, in order.
    """
    rows, lengths = range(len(rollouts)), rollouts.lengths.tolist()

    def tokens(values: Tensor | None) -> list[list[float] | None]:
        return [None if values is None else values[row, : lengths[row]].tolist() for row in rows]

    columns: dict[str, object] = {
        "step": [rollouts.step] * len(rollouts),
        "task": [_storable(task.id) for task in rollouts.tasks],
        "group": rollouts.group_ids.tolist(),
        "messages": [_storable(json.dumps(task.messages, ensure_ascii=False)) for task in rollouts.tasks],
        "tools": [
            _storable(json.dumps([t.to_json() for t in task.tools], ensure_ascii=False)) for task in rollouts.tasks
        ],
        "answer": [None if task.answer is None else _storable(task.answer.to_json()) for task in rollouts.tasks],
        "completion": [_storable(text) for text in rollouts.texts],
        "truncated": rollouts.truncated.tolist(),
        "temperature": rollouts.temperature.tolist(),
        "off_policy": rollouts.off_policy.tolist(),
        "total": [None] * len(rollouts) if rollouts.total is None else _numbers(rollouts.total),
        "rewards": [
            json.dumps({name: verdicts[row].score for name, verdicts in rollouts.verdicts.items()}) for row in rows
        ],
        "reasons": [_reasons(rollouts, row) for row in rows],
        "token_ids": tokens(rollouts.completion_ids),
        "segments": tokens(rollouts.segments),
        "entropy": tokens(rollouts.entropy),
        "behaviour_logps": tokens(rollouts.behaviour_logps),
        "advantages": tokens(rollouts.advantages),
        "characters": tokens(_characters(rollouts.token_ends)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns, schema=_SCHEMA), temporary, compression="zstd")


def _characters(token_ends: Tensor | None) -> Tensor | None:
    """(N, T): counts are small and repeat, so that on disk they take less room than ends: some 16 bytes a row."""
    return None if token_ends is None else token_ends.diff(dim=1, prepend=token_ends.new_zeros(len(token_ends), 1))


def _reasons(rollouts: Rollouts, row: int) -> str:
    reasons = [
        {"reward": name, "code": str(r.code), "message": r.message, "span": r.span}
        for name, verdicts in rollouts.verdicts.items()
        for r in verdicts[row].reasons
    ]
    return _storable(json.dumps(reasons, ensure_ascii=False))


def _numbers(values: Tensor) -> list[float | None]:
    return [None if v != v else v for v in values.tolist()]


def _storable(text: str) -> str:
    """Arrow stores UTF-8, which has no lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
