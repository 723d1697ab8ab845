"""Rewards in worker processes, so that one that hangs, leaks or crashes the interpreter cannot take training down.

Each worker is a fresh interpreter (nothing is forked from a process that holds a model) that builds the reward again
from its recipe and is handed one unit of rows at a time: a row, a group, or the batch. The parent therefore knows which
rows a worker was at when it died. Those rows fail and are never tried again; the rest goes to a new worker.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Pipe, wait
from typing import IO, Any

from callwright.light import message
from callwright.plugins import PluginError, build_component, find
from callwright.types import JSON, Rollouts, Verdict

START_SECONDS = 120.0
"""A worker that has not built its reward after this long has failed to start."""
LAST_WORDS_SECONDS = 2.0
"""A worker that is out of time may write where it was, for this long, before it is killed."""
WORST_TRACE = 4000
"""Characters of a dying worker's traceback that are kept."""
SUPPORTED = os.name == "posix"

_CODE = "import sys; from {} import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"


@dataclass(frozen=True, slots=True)
class Blueprint:
    """How to build the reward in another process: from its recipe, else from a pickle of it."""

    name: str
    use: str | None = None
    options: Mapping[str, JSON] = field(default_factory=dict)
    pickled: bytes = b""

    @classmethod
    def of(cls, name: str, plugin: object, source: tuple[str, Mapping[str, JSON]] | None) -> Blueprint:
        """Raises PluginError for a reward that was not built from a recipe and cannot be pickled."""
        if source is not None:
            return cls(name, source[0], dict(source[1]))
        try:
            return cls(name, pickled=pickle.dumps(plugin))
        except Exception as error:
            text = f"'{name}' cannot be sent to a worker process: {error}; define its class in an importable module"
            raise PluginError(text) from error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one unit of rows."""

    answers: list[Verdict | str] = field(default_factory=list)
    """One per row: a verdict, or what is wrong with it."""
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    """Why there are no answers."""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker sends back; plain values only."""

    outcome: Outcome
    worn: bool = False
    """The worker should be replaced: it has used up memory that it does not give back."""


class Workers:
    """The worker processes of one reward. Started when they are first needed; `close` ends them."""

    def __init__(
        self, blueprint: Blueprint, *, timeout: float | None, memory: float | None = None, workers: int = 1
    ) -> None:
        """timeout: seconds for one unit of rows; None is for ever. memory: GiB that scoring may take on top of what
        the reward takes once it is loaded (RLIMIT_AS). workers: how many units are scored at the same time."""
        self._setup = {"blueprint": blueprint, "memory": memory}
        self._timeout, self._most = timeout, workers
        self._idle: list[Worker] = []
        self._busy: dict[Worker, tuple[int, float]] = {}

    def judge(self, rollouts: Rollouts, units: Sequence[Sequence[int]]) -> list[Outcome]:
        """One outcome per unit (rows that are scored together, in one call), in order."""
        queue = deque(range(len(units)))
        outcomes: dict[int, Outcome] = {}
        try:
            while queue or self._busy:
                while queue and len(self._busy) < self._most:
                    try:
                        self._hand_over(queue.popleft(), rollouts, units)
                    except NoWorker as error:
                        lost = [index for index in range(len(units)) if index not in outcomes and not self._has(index)]
                        outcomes |= {index: Outcome(error=str(error), trace=error.trace) for index in lost}
                        queue.clear()
                outcomes |= self._collect()
        finally:
            for worker in [*self._busy]:  # only after an interruption: what they say would answer an old question
                worker.kill()
            self._busy.clear()
        return [outcomes[index] for index in range(len(units))]

    def close(self) -> None:
        for worker in self._idle:
            worker.kill()
        self._idle.clear()

    def __del__(self) -> None:
        self.close()

    def _has(self, index: int) -> bool:
        return any(index == at for at, _ in self._busy.values())

    def _hand_over(self, index: int, rollouts: Rollouts, units: Sequence[Sequence[int]]) -> None:
        content = message(rollouts, units[index])
        while self._idle:
            worker = self._idle.pop()
            if worker.send(content):
                break
            worker.kill()  # it died while it had nothing to do
        else:
            worker = Worker(self._setup)
            worker.send(content)
        self._busy[worker] = (index, time.monotonic() + (self._timeout or float("inf")))

    def _collect(self) -> dict[int, Outcome]:
        """Wait until a worker answers, dies or runs out of time."""
        if not self._busy:
            return {}
        left = min(deadline for _, deadline in self._busy.values()) - time.monotonic()
        ready = wait([worker.connection for worker in self._busy], None if left == float("inf") else max(left, 0.0))
        done: dict[int, Outcome] = {}
        for worker, (index, deadline) in list(self._busy.items()):
            if worker.connection in ready:
                reply = worker.receive()
            elif time.monotonic() >= deadline:
                trace = worker.last_words()
                reply = Reply(Outcome(error=f"no verdict within {self._timeout:g} s; killed", trace=trace), worn=True)
            else:
                continue
            del self._busy[worker]
            done[index] = reply.outcome
            if reply.worn:
                worker.kill()
            else:
                self._idle.append(worker)
        return done


class NoWorker(PluginError):
    """A worker did not come up."""

    def __init__(self, text: str, trace: str) -> None:
        super().__init__(text)
        self.trace = trace


class Worker:
    """One process, in a session of its own: Ctrl-C does not reach it, and what it starts can be killed with it."""

    def __init__(
        self, setup: Mapping[str, Any], serves: str = "callwright.isolated", start_seconds: float = START_SECONDS
    ) -> None:
        """serves: the module whose `serve` runs in the process. Raises NoWorker if it has not begun in time."""
        self.connection, theirs = Pipe()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # lives as long as the process
        descriptors = (theirs.fileno(), self._log.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(serves), *map(str, descriptors)],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        theirs.close()
        self.send({**setup, "path": list(sys.path), "parent": os.getpid()})
        if not self.connection.poll(start_seconds):
            trace = self.last_words()
            self.kill()
            raise NoWorker(f"its worker process did not start within {start_seconds:g} s", trace)
        started = self.receive().outcome
        if started.error is not None:
            self.kill()
            raise NoWorker(f"its worker process did not start: {started.error}", started.trace)

    def send(self, content: Any) -> bool:
        try:
            self.connection.send(content)
        except OSError:
            return False
        return True

    def receive(self) -> Reply:
        try:
            reply: Reply = self.connection.recv()
        except (EOFError, OSError):
            return Reply(Outcome(error=f"its worker process {self._end()}", trace=self._written()), worn=True)
        return reply

    def last_words(self) -> str:
        """Let the process say where it is (faulthandler answers this signal even in a loop of C), and end it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_SECONDS)
        return self._written()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()
        self._log.close()

    def _end(self) -> str:
        try:
            code = self._process.wait(LAST_WORDS_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _written(self) -> str:
        self._log.seek(0)
        return self._log.read(WORST_TRACE).decode("utf-8", "replace")


def restored(blueprint: Blueprint) -> Any:
    """The reward, in the worker."""
    if blueprint.use is None:
        return pickle.loads(blueprint.pickled)
    cls, _ = find("reward", blueprint.use)
    return build_component(cls, blueprint.options, blueprint.name)
