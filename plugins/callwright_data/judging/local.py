"""A judge on this machine: the core's own loading and greedy generation, in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from callwright import Task
from callwright.answering import Reply
from callwright.models import autocast_dtype, context_length, load_model
from callwright.packing import Policy
from callwright.rollouts import decode, end_ids
from callwright.sampling import SamplingPlan, choose_path, generate
from callwright.types import Message

from callwright_data.judging.judge import Counts, Evaluation, JudgeOptions, Memory, NoReply, Question, Result


@dataclass
class _Row:
    evaluation: Evaluation
    question: Question | None = None
    result: Result | None = None

    def go_on(self, reply: Reply | NoReply | None = None) -> None:
        """To the next question, or to the result."""
        try:
            self.question = next(self.evaluation) if reply is None else self.evaluation.send(reply)
        except StopIteration as settled:
            self.question, self.result = None, settled.value


class LocalJudge:
    """Asks a model on this machine. It is loaded when the first question is not answered from the cache."""

    def __init__(self, judge: JudgeOptions, memory: Memory, counts: Counts, note: Callable[[str], None]) -> None:
        self.judge, self.memory, self.counts, self.note = judge, memory, counts, note
        self._model: _Model | None = None

    def results(self, tasks: Sequence[Task], evaluate: Callable[[Task], Evaluation]) -> Generator[Result, None, None]:
        rows: deque[_Row] = deque()
        for task in tasks:
            row = _Row(evaluate(task))
            row.go_on()
            rows.append(row)
            while len(rows) >= 2 * self.judge.concurrency:
                self._answer(rows)
                yield from _settled(rows)
        while rows:
            self._answer(rows)
            yield from _settled(rows)

    def _answer(self, rows: Sequence[_Row]) -> None:
        """Answers from the cache all that it can, then one batch of the oldest questions."""
        waiting: dict[str, list[_Row]] = {}
        for row in rows:
            while row.question is not None:
                key = self.memory.key(row.question)
                if (known := self.memory.reply(key)) is None:
                    waiting.setdefault(key, []).append(row)  # equal rows ask once
                    break
                self.counts.cached += 1
                row.go_on(known)
        batch = list(waiting.items())[: self.judge.concurrency]
        questions = [asking[0].question for _, asking in batch]
        for (key, asking), reply in zip(batch, self._asked([q for q in questions if q is not None]), strict=True):
            if isinstance(reply, Reply):
                self.counts.add(reply)
                self.memory.keep(key, reply)
            for row in asking:
                row.go_on(reply)

    def _asked(self, questions: Sequence[Question]) -> list[Reply | NoReply]:
        if not questions:
            return []
        if self._model is None:
            self._model = _Model(self.judge, self.note)
        self.counts.requests += len(questions)
        return self._model.replies([list(question.messages) for question in questions])


def _settled(rows: deque[_Row]) -> Generator[Result, None, None]:
    while rows and (result := rows[0].result) is not None:
        rows.popleft()
        yield result


class _Model:
    def __init__(self, judge: JudgeOptions, note: Callable[[str], None]) -> None:
        assert judge.local is not None  # JudgeOptions.check
        assert judge.max_tokens is not None
        self.limit, self.note = judge.max_tokens, note
        loaded = load_model(judge.local, dtype=judge.dtype, notify=note)
        self.tokenizer = loaded.tokenizer
        self.policy = Policy(loaded.model)
        self.policy.autocast_dtype = autocast_dtype("auto", self.policy.device)
        self.context = context_length(judge.local)
        self.path_chosen = False

    def replies(self, conversations: Sequence[list[Message]]) -> list[Reply | NoReply]:
        replies: list[Reply | NoReply] = [NoReply("") for _ in conversations]
        prompts: dict[int, list[int]] = {}
        for place, messages in enumerate(conversations):
            prompt = self._prompt(messages)
            if isinstance(prompt, NoReply):
                replies[place] = prompt
            else:
                prompts[place] = prompt
        if prompts:
            for place, reply in zip(prompts, self._generated(list(prompts.values())), strict=True):
                replies[place] = reply
        return replies

    def _prompt(self, messages: list[Message]) -> list[int] | NoReply:
        merged = [{"role": "user", "content": "\n\n".join(message["content"] for message in messages)}]
        for conversation in (messages, merged):  # some templates know no system message
            try:
                ids = list(
                    self.tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
                )
            except Exception as error:  # the template is a program of the model's
                refusal = NoReply(f"the model's chat template refuses the prompt: {error}")
                continue
            if self.context is not None and len(ids) + self.limit > self.context:
                return NoReply(
                    f"{len(ids)} tokens of the prompt and {self.limit} of the reply do not fit into the model's context"
                    f" of {self.context}"
                )
            return ids
        return refusal

    def _generated(self, prompts: list[list[int]]) -> list[Reply]:
        if not self.path_chosen:
            choose_path(self.policy, prompts[:2], self.note)
            self.path_chosen = True
        ends = end_ids(self.tokenizer, self.policy.causal_lm)
        rows = len(prompts)
        generation = generate(
            self.policy,
            self.tokenizer,
            prompts,
            torch.arange(rows),
            SamplingPlan.greedily(rows),
            max_new_tokens=self.limit,
            end_ids=ends,
        )
        replies = []
        for row, prompt in enumerate(prompts):
            ids = generation.ids[row][generation.mask[row]].tolist()
            text = decode(self.tokenizer, ids, ends)
            replies.append(Reply(text, bool(generation.truncated[row]), (len(prompt), len(ids))))
        return replies
