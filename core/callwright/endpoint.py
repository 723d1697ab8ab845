"""An OpenAI-compatible endpoint: requests that are retried, spaced and explained, and a model behind it that answers.

Needs `pip install 'callwright[judge]'` (openai, tenacity), which is imported with the first request.
"""

from __future__ import annotations

import asyncio
import os
import queue
import re
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ValidationError

from callwright.answering import Reply
from callwright.types import JSON, CallwrightError, Dialect, Task

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from tenacity import RetryCallState

FAILURES = 3
"""Questions in a row after which an endpoint that answers none of them is held to be broken."""
LONGEST_BACKOFF = 60.0
"""Seconds."""
LONGEST_PAUSE = 600.0
"""Seconds that an endpoint may ask to wait."""
_PASSING = (408, 409, 425, 429)
"""Statuses that may pass, beside 5xx."""
_REFUSED = (400, 413, 422, 501)
"""Statuses that speak of this request's content."""


class Passing(Exception):
    """A request failed in a way that may pass."""

    def __init__(self, message: str, *, pause: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(message)
        self.pause, self.unreachable = pause, unreachable


class Refused(Exception):
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


@dataclass(frozen=True)
class Names:
    """What a user calls the settings of an endpoint, for messages that say how to mend them."""

    base_url: str = "--endpoint"
    model: str = "MODEL"
    key: str = "--key-env"


@dataclass
class Connection:
    """Requests to one endpoint, all from one event loop."""

    base_url: str
    """Such as `http://localhost:8000/v1`."""
    key: str | None
    """Never shown, never kept."""
    key_env: str
    """The environment variable that it came from."""
    explained: Callable[[str, str], str]
    """(what is wrong, repair) -> the message of an error that ends all."""
    names: Names = field(default_factory=Names)
    timeout: float = 120.0
    """Seconds for one request, the whole reply included."""
    retries: int = 5
    """Further tries after a request that failed in a way that may pass: 429, 5xx, a time-out, a cut connection."""
    retry_wait: float = 1.0
    """Seconds before the second try; doubled for each further one, up to a minute, and longer if the endpoint says."""
    requests_per_minute: float | None = None
    sends: Callable[[], None] = lambda: None
    """Called for every request that is sent, tries included."""

    def __post_init__(self) -> None:
        self._client: AsyncOpenAI | None = None
        self._next_start = 0.0
        self._failed: str | None = None
        """Why nothing more is asked."""
        self._over = asyncio.Event()

    async def ask(self, body: Mapping[str, JSON]) -> Reply:
        """The reply to a chat request. Raises `Refused`, `Passing` after the last try, and CallwrightError where no
        request could succeed."""
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

        tries = AsyncRetrying(
            stop=stop_after_attempt(self.retries + 1),
            wait=self._wait,
            retry=retry_if_exception_type(Passing),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return await tries(self._once, body)
        except Passing as error:
            if error.unreachable:
                self.stop(f"cannot be reached: {error}", f"start the server, or mend {self.names.base_url}")
            raise

    def stop(self, reason: str, repair: str) -> NoReturn:
        """Ask nothing more: raises CallwrightError, here and for every request that waits."""
        self._failed = self.explained(reason, repair)
        self._over.set()
        raise CallwrightError(self._failed)

    def _wait(self, state: RetryCallState) -> float:
        backoff = min(self.retry_wait * 2.0 ** (state.attempt_number - 1), LONGEST_BACKOFF)
        error = state.outcome.exception() if state.outcome is not None else None
        return max(backoff, error.pause) if isinstance(error, Passing) else backoff

    async def _sleep(self, seconds: float) -> None:
        """Or until nothing more is asked."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    async def _turn(self) -> None:
        """Waits for this request's turn under the rate limit, and until a pause that the endpoint asked for is over."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next_start)
        self._next_start = start + (60.0 / self.requests_per_minute if self.requests_per_minute else 0.0)
        if start > now:
            await self._sleep(start - now)

    async def _once(self, body: Mapping[str, JSON]) -> Reply:
        import httpx2
        import openai

        if self._client is None:
            self._client = openai.AsyncOpenAI(
                base_url=self.base_url,
                api_key=self.key or "none",
                max_retries=0,  # tenacity's are counted, limited and explained
                timeout=self.timeout,
            )
        await self._turn()
        if self._failed is not None:
            raise CallwrightError(self._failed)
        self.sends()
        try:
            async with asyncio.timeout(self.timeout):  # the client's own limits each read, not the whole reply
                response = await self._client.post("/chat/completions", body=dict(body), cast_to=httpx2.Response)
        except (TimeoutError, openai.APITimeoutError) as error:
            unreachable = isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise Passing(f"no reply within {self.timeout:g} s", unreachable=unreachable) from None
        except openai.APIConnectionError as error:
            unreachable = isinstance(error.__cause__, httpx2.ConnectError | ssl.SSLError)
            raise Passing(self._redacted(f"{error.__cause__ or error}"), unreachable=unreachable) from None
        except openai.APIStatusError as error:
            self._explain(error)
        except openai.OpenAIError as error:
            self.stop(self._redacted(str(error)), f"look at {self.names.base_url} and {self.names.model}")
        return self._read(response.text)

    def _explain(self, error: Any) -> NoReturn:
        """An HTTP status as what it means here."""
        status, names = error.status_code, self.names
        text = self._redacted(f"{error}")
        if status in _REFUSED:
            raise Refused(text) from None
        if status in _PASSING or status >= 500:
            pause = _pause(error.response.headers)
            if pause:
                loop = asyncio.get_running_loop()
                self._next_start = max(self._next_start, loop.time() + pause)  # for all requests, not this one alone
            raise Passing(text, pause=pause) from None
        if status in (401, 403):
            state = "is set" if self.key else "is not set"
            repair = f"put a key that may use this model into the environment variable {self.key_env}, which {state}"
            self.stop(f"the endpoint refuses the key: {text}", f"{repair}, or name another variable in {names.key}")
        if status == 404:
            repair = f"{names.model} should be a name that the endpoint lists under /models, and {names.base_url}"
            text = f"the endpoint knows no such model or address: {text}"
            self.stop(text, f"{repair} commonly ends with /v1 (key: {self.key_env})")
        self.stop(text, f"look at {names.base_url}, {names.model}, and the key in {self.key_env}")

    def _read(self, text: str) -> Reply:
        try:
            completion = _Completion.model_validate_json(text)
            choice = completion.choices[0]
        except (ValidationError, IndexError):
            raise Passing(f"what came is no chat completion: {self._redacted(text[:100])!r}") from None
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
        return text.replace(self.key, "***") if self.key and len(self.key) >= 8 else text

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def key_in(variable: str) -> str | None:
    """An endpoint's key, from the environment and nowhere else; None where there is none. Raises CallwrightError for
    what can be no key."""
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise CallwrightError(
            f"the environment variable {variable} holds no key: it has spaces or characters that are not ASCII"
        )
    return key or None


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
def event_loop(
    close: Callable[[], Coroutine[Any, Any, None]],
) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Future[Any]]]:
    """Starts coroutines in a thread of its own, so that they go on while results are used, and also where an event
    loop runs already, as in a notebook. What is not done at the end is cancelled; then `close` is awaited."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="endpoint", daemon=True)
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


# ------------------------------------------------------------------------------------------------- who answers


@dataclass
class EndpointAnswerer:
    """A model behind an OpenAI-compatible endpoint, asked by `/chat/completions`.

    What is sent is the dialect's conversation; the server's chat template makes the prompt of it, the same text as on
    this machine where the server has the model's own template. Tools that a dialect hands to the template go along with
    `tool_choice: none`, with which vLLM shows them to the model and leaves its text alone. Greedy: temperature 0.
    """

    base_url: str
    model: str
    dialect: Dialect
    max_new_tokens: int
    concurrency: int
    """Requests at the same time."""
    key_env: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    retries: int = 5
    retry_wait: float = 1.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s@?#]+", self.base_url):
            raise CallwrightError(
                "--endpoint: should be like http://localhost:8000/v1, without a user, a key or a query in it"
            )
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_env):
            raise CallwrightError("--key-env: should be the name of an environment variable, never the key itself")
        if not (find_spec("openai") and find_spec("tenacity")):
            raise CallwrightError("an endpoint needs openai and tenacity; run pip install 'callwright[judge]'")

    def replies(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Reply]]:
        """In the order in which they come. Raises CallwrightError, at the end, if the endpoint failed single tasks,
        which then have no reply, and at once if it fails all."""
        asking = _Asking(self)
        waiting = iter(tasks)
        done: queue.SimpleQueue[Future[tuple[Task, Reply] | None]] = queue.SimpleQueue()
        held: list[tuple[Task, Reply]] = []
        with event_loop(asking.connection.close) as start:
            under_way = 0
            while True:
                while under_way < self.concurrency and (task := next(waiting, None)) is not None:
                    start(asking.answer(task)).add_done_callback(done.put)
                    under_way += 1
                if not under_way:
                    break
                found = done.get().result()
                under_way -= 1
                if found is not None:
                    held.append(found)
                if asking.answered:  # until then what is refused may be the fault of the command, not of the task
                    yield from held
                    held = []
            asking.ended()

    def body(self, task: Task) -> dict[str, JSON]:
        """The request for a task."""
        prompt = self.dialect.prompt(task)
        body: dict[str, JSON] = {
            "model": self.model,
            "messages": list(prompt.messages),
            "temperature": 0.0,
            "max_tokens": self.max_new_tokens,
        }
        if prompt.tools:
            body |= {"tools": prompt.tools, "tool_choice": "none"}
        if self.dialect.stop:
            # vLLM's own field: the text keeps what stopped it, as it does on this machine.
            body |= {"stop": list(self.dialect.stop), "include_stop_str_in_output": True}
        return body


class _Asking:
    """One pass over tasks, and what the endpoint made of them."""

    def __init__(self, answerer: EndpointAnswerer) -> None:
        self.answerer = answerer
        self.connection = Connection(
            answerer.base_url,
            key_in(answerer.key_env),
            answerer.key_env,
            self._explained,
            timeout=answerer.timeout,
            retries=answerer.retries,
            retry_wait=answerer.retry_wait,
        )
        self.answered = 0
        self.in_a_row = 0
        """Tasks since the last answer."""
        self.failed: list[str] = []
        """Ids of tasks that have no reply and may have one another time."""
        self.last_failure = ""

    async def answer(self, task: Task) -> tuple[Task, Reply] | None:
        try:
            reply = await self.connection.ask(self.answerer.body(task))
        except Refused as error:
            self._without_answer(f"the endpoint refuses the request: {error}", stop=not self.answered)
            return task, Reply("", unanswered=self.last_failure)
        except Passing as error:
            self.failed.append(task.id)
            tries = self.connection.retries + 1
            self._without_answer(f"the endpoint failed {tries} times, the last time: {error}", stop=True)
            return None
        self.answered, self.in_a_row = self.answered + 1, 0
        return task, reply

    def _without_answer(self, reason: str, *, stop: bool) -> None:
        self.last_failure = reason
        self.in_a_row += 1
        if stop and self.in_a_row >= FAILURES:
            self._stop()

    def ended(self) -> None:
        """Raises CallwrightError for tasks without a reply, and if there was nothing but refusals."""
        if self.in_a_row and not self.answered:
            self._stop()
        if self.failed:
            self.last_failure = f"no reply to '{self.failed[0]}' and {len(self.failed) - 1} more: {self.last_failure}"
            self._stop()

    def _stop(self) -> NoReturn:
        self.connection.stop(self.last_failure, "mend the endpoint or the options of this command")

    def _explained(self, reason: str, repair: str) -> str:
        where = f"{self.answerer.model} at {self.answerer.base_url}"
        return f"{where}: {reason}. To repair it: {repair}"
