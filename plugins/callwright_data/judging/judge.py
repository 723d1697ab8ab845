"""A language model as judge of rows: its options, what it answered before, and what all stages that ask one share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from callwright import Answer, CallwrightError, Corrected, Dropped, Task
from callwright.answering import Reply
from callwright.locate import state_of
from callwright.types import JSON, Message
from pydantic import BaseModel, ConfigDict, Field

from callwright_data.answer_cache import AnswerCache, answer_key
from callwright_data.judging.verdict import (
    JudgeCorrection,
    JudgeVerdict,
    UnusableReply,
    corrected_answer,
    judge_messages,
    read_verdict,
    schema_of,
    with_answer,
)

if TYPE_CHECKING:
    from callwright.pipeline.context import StageContext

TRIES = 3
"""How often one verdict is asked for: a reply that cannot be used is followed by a question that says why."""
CHARACTERS_PER_TOKEN = 4
"""Of English and JSON, roughly, for estimates."""
SHORT_REPLY = 60
"""Tokens of a short verdict, for estimates."""
_LONGEST_REASON = 500
_PROMPTS = "judge prompts 1"
"""Part of every cache key. Raise it when the same key would stand for another question."""

Result = Task | Dropped | Corrected


class JudgeCode(StrEnum):
    """Why a stage with a judge dropped or corrected a row."""

    WRONG_ANSWER = "wrong_answer"
    """The judge finds the answer wrong, and no correction that it would let stand."""
    CORRECTED_ANSWER = "corrected_answer"
    """The judge found the answer wrong, and its own correction right when it judged that."""
    NO_VERDICT = "no_verdict"
    """The judge gave no reply of the stated form, or the endpoint failed or refused this row and answered others."""


class Price(BaseModel):
    """Of a million tokens, in any currency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class JudgeOptions(BaseModel):
    """Which model judges: either `base_url` and `model`, or `local`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str | None = None
    """Of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`."""
    model: str | None = None
    """The endpoint's name for the model."""
    local: str | None = None
    """A model on this machine, named as in the recipe's `model.name`. It answers greedily."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of a local model's weights; `auto` is float32."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the endpoint's key. Servers without keys need none."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Null leaves it to the endpoint: some models take no temperature."""
    max_tokens: int | None = Field(default=1024, ge=1)
    """Of a reply. Null leaves it to the endpoint."""
    extra: dict[str, JSON] = {}
    """More fields of the request's body, such as `seed` or `max_completion_tokens`."""
    concurrency: int = Field(default=8, ge=1)
    """Requests at the same time; of a local model, rows of a batch."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """No more than this many, evenly spread."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one request, the whole reply included."""
    retries: int = Field(default=5, ge=0)
    """Further tries after a request that failed in a way that may pass: 429, 5xx, a time-out, a cut connection."""
    retry_wait: float = Field(default=1.0, ge=0)
    """Seconds before the second try; doubled for each further one, up to a minute, and longer if the endpoint says."""
    price_per_million: Price | None = None
    """What a million tokens cost, to count the cost: `{input: ..., output: ...}`."""

    def check(self) -> None:
        """Raises ValueError. Not a validator of pydantic's, whose errors show the value: it may be a key."""
        if (self.local is None) == (self.base_url is None) or (self.base_url is None) != (self.model is None):
            raise ValueError("judge: give either base_url and model, or local")
        if self.local is not None and self.temperature != 0:
            raise ValueError("judge: a local judge answers greedily; leave temperature at 0")
        if self.local is not None and self.max_tokens is None:
            raise ValueError("judge: a local judge needs max_tokens")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise ValueError("judge.api_key_env: should be the name of an environment variable, never the key itself")
        if self.base_url is not None and not re.fullmatch(r"https?://[^\s@?#]+", self.base_url):
            raise ValueError(
                "judge.base_url: should be like http://localhost:8000/v1, without a user, a key or a query in it"
            )

    @property
    def name(self) -> str:
        return f"{self.model} at {self.base_url}" if self.local is None else str(self.local)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the judge."""

    messages: Sequence[Message]
    form: type[JudgeVerdict]
    """What the reply should hold."""
    number: tuple[int, int]
    """Which judgement of the row, and which try at it."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """This question has no answer, for a reason that is the row's: a prompt that is too long, say."""

    reason: str


Evaluation = Generator[Question, Reply | NoReply, Result]
"""What becomes of one row: questions go out, replies come in. It knows nothing of who answers, or when."""


@dataclass
class Counts:
    """What the questions of one run took."""

    requests: int = 0
    """Requests that were sent, tries included; of a local model, questions."""
    replies: int = 0
    cached: int = 0
    """Questions that were answered from disk: they cost nothing."""
    untold: int = 0
    """Replies of which the endpoint did not say how many tokens they took."""
    input_tokens: int = 0
    output_tokens: int = 0
    without_answer: int = 0
    without_verdict: int = 0

    def add(self, reply: Reply) -> None:
        self.replies += 1
        if reply.tokens is None:
            self.untold += 1
        else:
            self.input_tokens += reply.tokens[0]
            self.output_tokens += reply.tokens[1]

    def summary(self, judge: JudgeOptions) -> str:
        text = f"judge {judge.name}: {self.requests} requests, {self.replies} replies"
        text += f", {self.input_tokens} tokens in, {self.output_tokens} tokens out"
        if judge.price_per_million is not None:
            text += f", cost {_cost(judge.price_per_million, self.input_tokens, self.output_tokens):.4f}"
        if self.untold:
            text += f" (without {self.untold} replies whose tokens the endpoint did not count)"
        text += f"; {self.cached} answers from the cache"
        if self.without_answer:
            text += f"; {self.without_answer} rows have no answer to judge, and are kept"
        if self.without_verdict:
            text += f"; {self.without_verdict} rows without a verdict"
        return text


def _cost(price: Price, input_tokens: float, output_tokens: float) -> float:
    return (price.input * input_tokens + price.output * output_tokens) / 1e6


class Memory:
    """The judge's replies on disk, by the content of the question. The endpoint's address is no part of that."""

    def __init__(self, judge: JudgeOptions, cache: AnswerCache | None) -> None:
        self._judge, self._cache = judge, cache
        self._identity: JSON = [_PROMPTS, judge.model, judge.local, judge.temperature, judge.max_tokens, judge.extra]
        if judge.local is not None:
            self._identity += [judge.dtype, state_of(judge.local)]

    def key(self, question: Question) -> str:
        return answer_key(self._identity, list(question.messages), schema_of(question.form), list(question.number))

    def reply(self, key: str) -> Reply | None:
        found = None if self._cache is None else self._cache.get(key)
        try:
            return None if found is None else Reply(**{**found, "tokens": found["tokens"] and tuple(found["tokens"])})
        except (TypeError, KeyError):
            return None  # written by something else: asked again

    def keep(self, key: str, reply: Reply) -> None:
        if self._cache is not None:
            self._cache.put(key, asdict(reply))

    def reply_format(self) -> str | None:
        """What `keep_reply_format` was told of this endpoint and model."""
        return None if self._cache is None else self._cache.get(self._format_key())

    def keep_reply_format(self, name: str) -> None:
        if self._cache is not None:
            self._cache.put(self._format_key(), name)

    def _format_key(self) -> str:
        return answer_key("reply format", self._judge.base_url, self._judge.model)


class Answering(Protocol):
    """An endpoint or a local model."""

    def results(self, tasks: Sequence[Task], evaluate: Callable[[Task], Evaluation]) -> Generator[Result, None, None]:
        """The result of every task's evaluation, in order. Raises CallwrightError if the judge fails altogether."""
        ...


# ---------------------------------------------------------------------------------------- what the stages share


@dataclass
class JudgeStage(ABC):
    """A stage that asks a judge about every row that has an answer."""

    # Its own concurrency and rate would be multiplied by the processes that rows are dealt out to, so it is not
    # `row_by_row`, though it is in kind.
    costly: ClassVar[bool] = True

    judge: JudgeOptions
    """The model that judges, `{base_url, model}` of an OpenAI-compatible endpoint or `{local}`, and how it is asked."""
    instruction: str | None = None
    """What makes an answer right, in place of the built-in rubric."""
    on_no_verdict: Literal["drop", "keep", "stop"] = "drop"
    """What becomes of a row on which the judge gives no verdict that can be read."""
    _cache: Path | None = field(default=None, init=False, repr=False, compare=False)
    _note: Callable[[str], None] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.judge.check()

    @property
    @abstractmethod
    def corrections(self) -> int:
        """How often a row's answer may be corrected."""

    def prepare(self, context: StageContext) -> None:
        """Answers are kept in the context's cache. Raises CallwrightError where a package or a local model is missing.

        Without it, nothing is kept.
        """
        self._cache, self._note = context.cache / "judge.sqlite", context.note
        if self.judge.local is not None:
            from callwright.locate import resolve

            resolve(self.judge.local)
        elif missing := [name for name in ("openai", "tenacity") if find_spec(name) is None]:
            raise CallwrightError(
                f"a judge behind an endpoint needs {' and '.join(missing)}: pip install 'callwright[judge]'"
            )

    def apply(self, tasks: Sequence[Task]) -> Iterator[Result]:
        counts = Counts()
        cache = None if self._cache is None else AnswerCache(self._cache)
        try:
            memory = Memory(self.judge, cache)
            with closing(
                self._answering(memory, counts).results(tasks, lambda t: self._evaluation(t, counts))
            ) as results:
                yield from results
        finally:
            if cache is not None:
                cache.close()
            if self._note is not None:
                self._note(counts.summary(self.judge))

    def _answering(self, memory: Memory, counts: Counts) -> Answering:
        if self.judge.local is not None:
            from callwright_data.judging.local import LocalJudge  # torch

            return LocalJudge(self.judge, memory, counts, self._note or (lambda line: None))
        from callwright_data.judging.endpoint import Endpoint

        return Endpoint(self.judge, memory, counts)

    def _evaluation(self, task: Task, counts: Counts) -> Evaluation:
        """A wrong answer is corrected and judged again."""
        answer, note = task.answer, None
        reasons: list[str] = []
        if answer is None:
            counts.without_answer += 1
            return task
        for judgement in range(self.corrections + 1):
            form = JudgeCorrection if judgement < self.corrections else JudgeVerdict
            verdict = yield from self._verdict(task, answer, form, judgement, note)
            if isinstance(verdict, NoReply):
                counts.without_verdict += 1
                return self._without_verdict(task, verdict.reason)
            if verdict.correct and answer is task.answer:
                return task
            if verdict.correct:
                return Corrected(with_answer(task, answer), JudgeCode.CORRECTED_ANSWER, _joined(reasons))
            reasons.append(verdict.reason)
            calls = verdict.corrected_calls if isinstance(verdict, JudgeCorrection) else None
            if calls is None:
                break
            try:
                answer, note = corrected_answer(calls, task.tools, answer), None
            except UnusableReply as refused:
                note = f"you called the answer wrong, but your correction cannot be taken: {refused}"
        return Dropped(task, JudgeCode.WRONG_ANSWER, _joined(reasons))

    def _verdict(
        self, task: Task, answer: Answer, form: type[JudgeVerdict], judgement: int, note: str | None
    ) -> Generator[Question, Reply | NoReply, JudgeVerdict | NoReply]:
        refused = ""
        for attempt in range(TRIES):
            try:
                messages = judge_messages(task, answer, form, self.instruction, note)
            except ValueError as error:
                return NoReply(str(error))
            reply = yield Question(messages, form, (judgement, attempt))
            if isinstance(reply, NoReply):
                return reply
            try:
                return read_verdict(reply.text, form, row=messages[-1]["content"])
            except UnusableReply as error:
                refused = "it was cut off at the limit of tokens: be brief" if reply.cut_off else str(error)
                note = f"your last reply could not be used: {refused}"
        return NoReply(f"none of {TRIES} replies could be used; the last: {refused}")

    def _without_verdict(self, task: Task, reason: str) -> Result:
        if self.on_no_verdict == "stop":
            raise CallwrightError(
                f"row '{task.id}' has no verdict of the judge {self.judge.name}: {reason}. Mend or drop the row, name a"
                " better judge, or set on_no_verdict to drop or keep"
            )
        return task if self.on_no_verdict == "keep" else Dropped(task, JudgeCode.NO_VERDICT, _shown(reason))

    # ------------------------------------------------------------------------------------------------- estimates

    def estimate(self, tasks: Sequence[Task]) -> str:
        """What `apply` would ask and cost at least and at most, and one prompt in full. Nothing is asked."""
        cache = None if self._cache is None or not self._cache.exists() else AnswerCache(self._cache)
        memory = Memory(self.judge, cache)
        least = most = characters = cached = 0
        prompt: Sequence[Message] | None = None
        for task in tasks:
            question, answered = _replayed(self._evaluation(task, Counts()), memory)
            cached += answered
            if question is not None:
                prompt = prompt or question.messages
                least += 1
                most += (self.corrections + 1) * TRIES - answered
                characters += sum(len(message["content"]) for message in question.messages)
        if cache is not None:
            cache.close()
        lines = [f"judge {self.judge.name}: {least} to {most} requests; {cached} answers are in the cache already"]
        if prompt is not None:
            lines += [self._tokens(least, most, characters), "The first prompt:"]
            lines += [f"[{message['role']}]\n{message['content']}" for message in prompt]
        return "\n".join(lines)

    def _tokens(self, least: int, most: int, characters: int) -> str:
        input_tokens = characters / CHARACTERS_PER_TOKEN
        output = (least * SHORT_REPLY, most * (self.judge.max_tokens or 1024))
        input_range = (input_tokens, input_tokens * most / least)
        text = (
            f"about {input_range[0]:.0f} to {input_range[1]:.0f} tokens in (at {CHARACTERS_PER_TOKEN} characters a"
            f" token), {output[0]} to {output[1]} out (from {SHORT_REPLY} a reply to the limit)"
        )
        price = self.judge.price_per_million
        if price is not None:
            costs = [_cost(price, tokens, out) for tokens, out in zip(input_range, output, strict=True)]
            text += f"; cost about {costs[0]:.4f} to {costs[1]:.4f}"
        return text


def _replayed(evaluation: Evaluation, memory: Memory) -> tuple[Question | None, int]:
    """The first question that no earlier reply answers, None if all are, and how many are."""
    answered = 0
    try:
        question = next(evaluation)
        while (reply := memory.reply(memory.key(question))) is not None:
            answered += 1
            question = evaluation.send(reply)
    except (StopIteration, CallwrightError):  # settled, or a row at which `apply` would stop
        return None, answered
    return question, answered


def _joined(reasons: Sequence[str]) -> str:
    return _shown(" | then: ".join(reasons))


def _shown(text: str) -> str:
    """A model's text on one line, without control characters, not endless."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."
