"""Asking the reward, in a process that can be given up: one that hangs, crashes or does not load stops nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callwright.isolation import Blueprint, NoWorker, Outcome, Worker
from callwright.light import message
from callwright.score import Scored, batches, light_rollouts
from callwright.score_rows import Row
from callwright.types import Dialect, Verdict

if TYPE_CHECKING:
    from callwright.testing.laws import LawResult

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_FOR_A_LAW = 30.0
"""The first also loads torch."""


class Stopped(Exception):
    """The rest is not looked at. `trace` is where the reward was, as Python wrote it."""

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.trace = trace


class Saved(Exception):
    """The file was saved again, so that nobody wants the rest."""


@dataclass
class Asked:
    """The reward of one version of the file."""

    blueprint: Blueprint
    timeout: float
    """Seconds for one group of completions; three times as many to load the file."""
    saved: Callable[[], bool]
    """Whether the file has changed since."""

    def judge(self, rows: Sequence[Row], dialect: Dialect) -> Iterator[tuple[list[Scored], Outcome]]:
        """Groups of rows with their verdicts, and what Python wrote where the reward failed.

        Raises Stopped where the reward does not load, or hangs; Saved.
        """
        setup = {"blueprint": self.blueprint, "memory": None}
        worker: Worker | None = None
        try:
            for group in batches(rows, 1):
                worker = worker or self._started(setup, "callwright.isolated")
                rollouts = light_rollouts(group, dialect)
                started = time.perf_counter()
                worker.send(message(rollouts, range(len(group))))
                if not self._answers(worker, self.timeout):
                    text = f"no verdicts on task '{group[0].task.id}' within {self.timeout:g} s"
                    raise Stopped(text, worker.last_words())
                reply = worker.receive()
                seconds = (time.perf_counter() - started) / len(group)
                if reply.worn:
                    worker.kill()
                    worker = None
                verdicts = _verdicts(reply.outcome, len(group))
                scored = [
                    Scored(row, parse, {self.blueprint.name: verdict}, _total(verdict), seconds)
                    for row, parse, verdict in zip(group, rollouts.parses, verdicts, strict=True)
                ]
                yield scored, reply.outcome
        finally:
            if worker is not None:
                worker.kill()

    def laws(self, dialect: tuple[str, Mapping[str, Any]]) -> Iterator[LawResult]:
        """The laws one by one as they end. Raises Stopped where the reward hangs or ends its process; Saved."""
        worker = self._started({"blueprint": self.blueprint, "dialect": dialect}, "callwright.dev.laws")
        try:
            while True:
                if not self._answers(worker, max(SECONDS_FOR_A_LAW, self.timeout)):
                    raise Stopped(f"the next law gave no result within {SECONDS_FOR_A_LAW:g} s", worker.last_words())
                result: Any = worker.receive()
                if result is None:
                    return
                outcome = getattr(result, "outcome", result)
                if isinstance(outcome, Outcome):
                    raise Stopped(str(outcome.error), outcome.trace)
                yield result
        finally:
            worker.kill()

    def _started(self, setup: Mapping[str, Any], serves: str) -> Worker:
        try:
            return Worker(setup, serves, 3 * self.timeout)
        except NoWorker as error:
            raise Stopped(str(error).removeprefix("its worker process did not start: "), error.trace) from error

    def _answers(self, worker: Worker, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not worker.connection.poll(SECONDS_BETWEEN_LOOKS):
            if self.saved():
                raise Saved
            if time.monotonic() > end:
                return False
        return True


def _verdicts(outcome: Outcome, rows: int) -> list[Verdict]:
    if outcome.error is not None:
        return [Verdict.failed(outcome.error)] * rows
    return [answer if isinstance(answer, Verdict) else Verdict.failed(answer) for answer in outcome.answers]


def _total(verdict: Verdict) -> float:
    return math.nan if verdict.score is None else float(verdict.score)
