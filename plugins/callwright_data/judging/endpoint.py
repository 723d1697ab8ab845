"""A judge behind an OpenAI-compatible endpoint: many requests at once, retried, rate-limited, kept."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future

from callwright import CallwrightError, Task
from callwright.answering import Reply
from callwright.endpoint import FAILURES, Connection, Names, Passing, Refused, event_loop, key_in
from callwright.types import JSON

from callwright_data.judging.judge import Counts, Evaluation, JudgeOptions, Memory, NoReply, Question, Result
from callwright_data.judging.verdict import schema_of

FORMATS = ("json_schema", "json_object", "text")
"""How a reply can be constrained, the strictest first. An endpoint that refuses one is asked with the next."""
WINDOW = 8
"""Rows under way for each request at a time: enough that one slow row holds up no others, few enough for memory."""


class Endpoint:
    """Asks the endpoint that the options name, in an event loop of its own."""

    def __init__(self, judge: JudgeOptions, memory: Memory, counts: Counts) -> None:
        assert judge.base_url is not None  # JudgeOptions.check
        self.judge, self.memory, self.counts = judge, memory, counts
        self.connection = Connection(
            judge.base_url,
            key_in(judge.api_key_env),
            judge.api_key_env,
            self._explained,
            names=Names("judge.base_url", "judge.model", "judge.api_key_env"),
            timeout=judge.timeout,
            retries=judge.retries,
            retry_wait=judge.retry_wait,
            requests_per_minute=judge.requests_per_minute,
            sends=self._count,
        )
        self._slots = asyncio.Semaphore(judge.concurrency)
        self._probing = asyncio.Lock()
        self._format: str | None = memory.reply_format()
        self._under_way: dict[str, asyncio.Task[Reply | NoReply]] = {}
        self._failures = 0
        """Rows in a row that the endpoint failed."""
        self._last_failure = ""

    def results(self, tasks: Sequence[Task], evaluate: Callable[[Task], Evaluation]) -> Generator[Result, None, None]:
        rows: deque[Future[Result]] = deque()
        with event_loop(self.connection.close) as start:
            for task in tasks:
                rows.append(start(self._row(evaluate(task))))
                while rows and (rows[0].done() or len(rows) >= WINDOW * self.judge.concurrency):
                    yield rows.popleft().result()
            while rows:
                yield rows.popleft().result()
            if self._failures and not self.counts.replies + self.counts.cached:
                raise CallwrightError(self._last_failure)  # fewer rows than it takes to be sure, but all of them

    async def _row(self, evaluation: Evaluation) -> Result:
        try:
            question = next(evaluation)
            while True:
                question = evaluation.send(await self._answer(question))
        except StopIteration as settled:
            result: Result = settled.value
            return result

    async def _answer(self, question: Question) -> Reply | NoReply:
        key = self.memory.key(question)
        if (known := self.memory.reply(key)) is not None:
            self.counts.cached += 1
            return known
        if key not in self._under_way:  # equal rows ask once
            self._under_way[key] = asyncio.ensure_future(self._asked(question, key))
            self._under_way[key].add_done_callback(lambda _: self._under_way.pop(key))
        return await self._under_way[key]

    async def _asked(self, question: Question, key: str) -> Reply | NoReply:
        async with self._slots:
            reply = await self._probed(question) or await self._in_some_format(question)
            if isinstance(reply, Reply):
                self.counts.add(reply)
                self.memory.keep(key, reply)
            return reply

    async def _probed(self, question: Question) -> Reply | NoReply | None:
        """One request at a time, until it is known what the endpoint can do; None as soon as that is known."""
        if self._format is None:
            async with self._probing:
                if self._format is None:
                    return await self._in_some_format(question)
        return None

    async def _in_some_format(self, question: Question) -> Reply | NoReply:
        refusal = ""
        for name in FORMATS[FORMATS.index(self._format) if self._format in FORMATS else 0 :]:
            try:
                reply = await self.connection.ask(self._body(question, name))
            except Refused as error:
                refusal = str(error)
                continue
            except Passing as error:
                return self._row_failed(f"the endpoint failed {self.judge.retries + 1} times, the last time: {error}")
            self._failures = 0
            if name != self._format:
                self._format = name
                self.memory.keep_reply_format(name)
            return reply
        return self._row_failed(f"the endpoint refuses the request: {refusal}", refused=True)

    def _row_failed(self, reason: str, refused: bool = False) -> NoReply:
        """One row's fault as long as others are answered."""
        self._failures += 1
        answered = self.counts.replies + self.counts.cached
        repair = "mend the endpoint or the judge's options"
        self._last_failure = self._explained(reason, repair)
        if self._failures >= FAILURES and not (refused and answered):  # many rows of some data are too long
            self.connection.stop(reason, repair)
        return NoReply(reason)

    def _explained(self, reason: str, repair: str) -> str:
        kept = "; what it answered is kept, so a new start goes on from here" if self.counts.replies else ""
        return f"the judge {self.judge.name}: {reason}. To repair it: {repair}{kept}"

    def _count(self) -> None:
        self.counts.requests += 1

    def _body(self, question: Question, format_name: str) -> dict[str, JSON]:
        judge = self.judge
        body: dict[str, JSON] = {"model": judge.model, "messages": list(question.messages)}
        if judge.temperature is not None:
            body["temperature"] = judge.temperature
        if judge.max_tokens is not None:
            body["max_tokens"] = judge.max_tokens
        if format_name == "json_schema":
            schema = {"name": "verdict", "strict": True, "schema": schema_of(question.form)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif format_name == "json_object":
            body["response_format"] = {"type": "json_object"}
        return {**body, **judge.extra}
