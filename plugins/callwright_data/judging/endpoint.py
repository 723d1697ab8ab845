"""A judge behind an OpenAI-compatible endpoint: many requests at once, retried, rate-limited, kept."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn

from callwright import CallwrightError, Task
from callwright.types import JSON
from pydantic import BaseModel, ValidationError

from callwright_data.judging.judge import (
    Counts,
    Evaluation,
    JudgeOptions,
    Memory,
    NoReply,
    Question,
    Reply,
    Result,
    secret_of,
)
from callwright_data.judging.verdict import schema_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from tenacity import RetryCallState

FORMATS = ("json_schema", "json_object", "text")
"""How a reply can be constrained, the strictest first. An endpoint that refuses one is asked with the next."""
WINDOW = 8
"""Rows under way for each request at a time: enough that one slow row holds up no others, few enough for memory."""
FAILURES = 3
"""Rows after which an endpoint that answers none of them is held to be broken."""
LONGEST_BACKOFF = 60.0
"""Seconds."""
LONGEST_PAUSE = 600.0
"""Seconds that an endpoint may ask to wait."""
_PASSING = (408, 409, 425, 429)
"""Statuses that may pass, beside 5xx."""
_REFUSED = (400, 413, 422, 501)
"""Statuses that speak of this request's content."""


class _Passing(Exception):
    """A try failed in a way that may pass."""

    def __init__(self, message: str, *, pause: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(message)
        self.pause, self.unreachable = pause, unreachable


class _Refused(Exception):
    """The endpoint does not take this request as it is."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class _Completion(BaseModel):
    """What counts of a chat completion."""

    choices: list[_Choice]
    usage: _Usage | None = None


class Endpoint:
    """Asks the endpoint that the options name, in an event loop of its own."""

    def __init__(self, judge: JudgeOptions, memory: Memory, counts: Counts) -> None:
        self.judge, self.memory, self.counts = judge, memory, counts
        self._key = secret_of(judge)
        self._client: AsyncOpenAI | None = None
        self._slots = asyncio.Semaphore(judge.concurrency)
        self._probing = asyncio.Lock()
        self._format: str | None = memory.reply_format()
        self._under_way: dict[str, asyncio.Task[Reply | NoReply]] = {}
        self._next_start = 0.0
        self._failures = 0
        """Rows in a row that the endpoint failed."""
        self._last_failure = ""
        self._failed: str | None = None
        """Why nothing more is asked."""
        self._over = asyncio.Event()

    def results(self, tasks: Sequence[Task], evaluate: Callable[[Task], Evaluation]) -> Generator[Result, None, None]:
        rows: deque[Future[Result]] = deque()
        with _event_loop(self._close) as start:
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
                reply = await self._retried(question, name)
            except _Refused as error:
                refusal = str(error)
                continue
            except _Passing as error:
                if error.unreachable:
                    self._stop(f"cannot be reached: {error}", "start the server, or mend judge.base_url")
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
            self._stop(reason, repair)
        return NoReply(reason)

    def _stop(self, reason: str, repair: str) -> NoReturn:
        self._failed = self._explained(reason, repair)
        self._over.set()
        raise CallwrightError(self._failed)

    def _explained(self, reason: str, repair: str) -> str:
        kept = "; what it answered is kept, so a new start goes on from here" if self.counts.replies else ""
        return f"the judge {self.judge.name}: {reason}. To repair it: {repair}{kept}"

    # ------------------------------------------------------------------------------------------------ one request

    async def _retried(self, question: Question, format_name: str) -> Reply:
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

        tries = AsyncRetrying(
            stop=stop_after_attempt(self.judge.retries + 1),
            wait=self._wait,
            retry=retry_if_exception_type(_Passing),
            sleep=self._sleep,
            reraise=True,
        )
        return await tries(self._once, question, format_name)

    def _wait(self, state: RetryCallState) -> float:
        backoff = min(self.judge.retry_wait * 2.0 ** (state.attempt_number - 1), LONGEST_BACKOFF)
        error = state.outcome.exception() if state.outcome is not None else None
        return max(backoff, error.pause) if isinstance(error, _Passing) else backoff

    async def _sleep(self, seconds: float) -> None:
        """Or until nothing more is asked."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    async def _turn(self) -> None:
        """Waits for this request's turn under the rate limit, and until a pause that the endpoint asked for is over."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next_start)
        self._next_start = start + (60.0 / self.judge.requests_per_minute if self.judge.requests_per_minute else 0.0)
        if start > now:
            await self._sleep(start - now)

    async def _once(self, question: Question, format_name: str) -> Reply:
        import httpx2
        import openai

        if self._client is None:
            self._client = openai.AsyncOpenAI(
                base_url=self.judge.base_url,
                api_key=self._key or "none",
                max_retries=0,  # tenacity's are counted, limited and explained
                timeout=self.judge.timeout,
            )
        await self._turn()
        if self._failed is not None:
            raise CallwrightError(self._failed)
        self.counts.requests += 1
        try:
            async with asyncio.timeout(self.judge.timeout):  # the client's own limits each read, not the whole reply
                response = await self._client.post(
                    "/chat/completions", body=self._body(question, format_name), cast_to=httpx2.Response
                )
        except (TimeoutError, openai.APITimeoutError) as error:
            unreachable = isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise _Passing(f"no reply within {self.judge.timeout:g} s", unreachable=unreachable) from None
        except openai.APIConnectionError as error:
            unreachable = isinstance(error.__cause__, httpx2.ConnectError | ssl.SSLError)
            raise _Passing(self._redacted(f"{error.__cause__ or error}"), unreachable=unreachable) from None
        except openai.APIStatusError as error:
            self._explain(error)
        except openai.OpenAIError as error:
            self._stop(self._redacted(str(error)), "look at the judge's options")
        return self._read(response.text)

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

    def _explain(self, error: Any) -> NoReturn:
        """An HTTP status as what it means here."""
        status, name = error.status_code, self.judge.api_key_env
        text = self._redacted(f"{error}")
        if status in _REFUSED:
            raise _Refused(text) from None
        if status in _PASSING or status >= 500:
            pause = _pause(error.response.headers)
            if pause:
                loop = asyncio.get_running_loop()
                self._next_start = max(self._next_start, loop.time() + pause)  # for all requests, not this one alone
            raise _Passing(text, pause=pause) from None
        if status in (401, 403):
            state = "is set" if self._key else "is not set"
            repair = f"put a key that may use this model into the environment variable {name}, which {state}, or name"
            self._stop(f"the endpoint refuses the key: {text}", f"{repair} another variable in judge.api_key_env")
        if status == 404:
            repair = "judge.model should be a name that the endpoint lists under /models, and judge.base_url commonly"
            self._stop(f"the endpoint knows no such model or address: {text}", f"{repair} ends with /v1 (key: {name})")
        self._stop(text, f"look at judge.base_url, judge.model, and the key in {name}")

    def _read(self, text: str) -> Reply:
        try:
            completion = _Completion.model_validate_json(text)
            choice = completion.choices[0]
        except (ValidationError, IndexError):
            raise _Passing(f"what came is no chat completion: {self._redacted(text[:100])!r}") from None
        usage = completion.usage
        return Reply(
            # a key that the endpoint echoes is not kept either
            self._without_key(choice.message.content or ""),
            choice.finish_reason == "length",
            None if usage is None else (usage.prompt_tokens, usage.completion_tokens),
        )

    def _redacted(self, text: str) -> str:
        """An endpoint's text in an error: short, and without the key, which some quote."""
        text = self._without_key(text)
        return text if len(text) <= 300 else text[:300] + "..."

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key and len(self._key) >= 8 else text

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _pause(headers: Any) -> float:
    """Seconds that the endpoint asks to wait: `Retry-After` as seconds or as a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        now = datetime.now(UTC)
        seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_PAUSE) if seconds == seconds else 0.0


@contextmanager
def _event_loop(
    close: Callable[[], Coroutine[Any, Any, None]],
) -> Iterator[Callable[[Coroutine[Any, Any, Result]], Future[Result]]]:
    """Starts coroutines in a thread of its own, so that they go on while results are used, and also where an event
    loop runs already, as in a notebook. What is not done at the end is cancelled."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="judge", daemon=True)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop)
    finally:
        asyncio.run_coroutine_threadsafe(_cancelled(close), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancelled(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await close()
