"""The rewards of a run: asked, checked, and their failures dealt with as the recipe says. torch is not imported."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import traceback
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from callwright import combine
from callwright.combine import Weight
from callwright.isolation import SUPPORTED, Blueprint, Workers
from callwright.judging import WrongAnswer, checked, is_asynchronous, not_finite, scorer, taken_metrics
from callwright.light import group_ids
from callwright.plugins import summary
from callwright.timeline import Timeline
from callwright.types import JSON, CallwrightError, Rollouts, Verdict

SHOWN_TEXT = 200
"""Characters of a completion that stand in the report of a failure."""


class BadNumber(CallwrightError):
    """NaN, an infinity or a negative weight in a contribution. The loop skips the update and counts it."""

    def __init__(self, plugin: str, hook: str, step: int, row: int | None, value: float) -> None:
        rows = "" if row is None else f", row {row}"
        super().__init__(f"step {step}{rows}: `{hook}` of '{plugin}' is {value}")
        self.plugin, self.hook, self.step, self.row, self.value = plugin, hook, step, row, value

    def __reduce__(self) -> tuple[type[BadNumber], tuple[str, str, int, int | None, float]]:
        """One process tells the others; an exception would be made anew from its message alone."""
        return BadNumber, (self.plugin, self.hook, self.step, self.row, self.value)


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What happens when a reward raises, hangs, crashes, or answers what is no verdict."""

    on_failure: Literal["abstain", "floor", "stop"] = "abstain"
    """abstain: the row leaves its group's statistics. floor: it scores `floor`, and is still counted and shown as
    failed. stop: the same as abstain, and the run ends after the step, saved."""
    floor: float | None = None
    timeout: float | None = None
    """Seconds: for a call of an asynchronous reward, or for a unit of rows of an isolated one."""
    isolate: bool | Literal["group", "batch"] = False
    """Run in worker processes that see one row, one group or the whole batch at a time."""
    memory: float | None = None
    """GiB that scoring may take in a worker."""
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Named:
    """A reward or an explorer of a run."""

    name: str
    """Unique in the run."""
    plugin: object
    kind: Literal["reward", "explorer"]
    weight: float | Weight = 1.0
    """Of a reward. One with weight 0 is only watched: it takes no part in the combined reward."""
    place: str = ""
    """Where in the recipe, such as `rewards.use.0`."""
    after: str | None = None
    """Of a reward under `combine: gate`: the reward that must have given 1 for this one to count."""
    policy: FailurePolicy = FailurePolicy()
    source: tuple[str, Mapping[str, JSON]] | None = None
    """`use` and options in the recipe, from which a worker process builds the plugin again."""

    @property
    def part(self) -> combine.Part:
        return combine.Part(self.name, self.weight, self.after)


class Scorer:
    """The rewards of a run. Rewards are called in the order of their names, the asynchronous ones together at the end.

    Whatever a reward does, there is a verdict for every row: an exception, a wrong length or type, a number that is
    not finite and a timeout become failed verdicts under the reward's `FailurePolicy`.
    """

    def __init__(self, rewards: Sequence[Named]) -> None:
        self._rewards = sorted(rewards, key=lambda reward: reward.name)
        self._calls = {r.name: scorer(r.plugin) for r in self._rewards if not r.policy.isolate}
        self._workers: dict[str, Workers] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.failures: dict[str, tuple[int, str]] = {}
        """By reward: how many rows failed, and the first failure with its row and traceback."""
        self.stop_reason: str | None = None
        """Set by the first failure of a reward with `on_failure: stop`."""
        self.seconds: dict[str, float] = {}
        """Time spent in each reward."""
        self.metrics: dict[str, list[float]] = {}
        """By reward and name, `NAME/METRIC`: what rewards reported through `take_metrics` since this was emptied."""
        self.timeline = Timeline()
        self._early: dict[str, list[tuple[list[_Key], Future[list[Answer]]]]] = {}
        """By reward: rows that it was asked about before all rows were there."""
        self._threads: dict[str, ThreadPoolExecutor] = {}

    @property
    def begins_early(self) -> bool:
        """Whether a reward can judge rows while others are still drawn: see `begin`."""
        return any(map(_row_by_row, self._rewards))

    def begin(self, rollouts: Rollouts) -> None:
        """Ask, in the background, about rows that are finished while others are still drawn; `score` finds the answers.

        Those rewards are asked whose verdict on a row depends on that row alone and which work elsewhere: isolated by
        row, or asynchronous with `row_by_row = True`.
        """
        keys = _keys(rollouts)
        for reward in filter(_row_by_row, self._rewards):
            if reward.name not in self._threads:  # one for each: a reward answers its questions in order
                self._threads[reward.name] = ThreadPoolExecutor(1, f"callwright-{reward.name}")
            future = self._threads[reward.name].submit(self._judged, reward, rollouts)
            self._early.setdefault(reward.name, []).append((keys, future))

    def _judged(self, reward: Named, rollouts: Rollouts) -> list[Answer]:
        """A reward that `begin` may ask, asked."""
        try:
            if reward.policy.isolate:
                return self._isolated(reward, rollouts)
            return self._awaited({reward.name: self._calls[reward.name](rollouts)}, rollouts)[reward.name]
        except Exception as error:
            return self._broken(reward, rollouts, error)

    def _with_early(self, reward: Named, rollouts: Rollouts) -> list[Answer]:
        """Every row's answer: those that were asked for early, and now the others'."""
        known: dict[_Key, Answer] = {}
        for keys, future in self._early.pop(reward.name, []):
            known |= dict(zip(keys, future.result(), strict=True))
        keys = _keys(rollouts)
        missing = [row for row, key in enumerate(keys) if key not in known]
        if missing:
            asked = rollouts if len(missing) == len(keys) else rollouts.select(missing)
            late = dict(zip(missing, self._judged(reward, asked), strict=True))
        return [late[row] if key not in known else known[key] for row, key in enumerate(keys)]

    def score(self, rollouts: Rollouts) -> tuple[dict[str, list[Verdict]], BadNumber | None]:
        """The verdicts by reward, one per row, and the first score that is not finite; its row is failed already."""
        judged: dict[str, list[Answer]] = {}
        waiting: dict[str, Awaitable[Any]] = {}
        for reward in self._rewards:
            if reward.name in self._early:
                judged[reward.name] = self._with_early(reward, rollouts)
                continue
            if reward.policy.isolate:
                judged[reward.name] = self._judged(reward, rollouts)
                continue
            started = time.perf_counter()
            try:
                with self.timeline.span(reward.name):
                    answer = self._calls[reward.name](rollouts)
                    if inspect.isawaitable(answer):
                        waiting[reward.name] = answer
                    else:
                        judged[reward.name] = list(checked(answer, len(rollouts)))
            except Exception as error:
                judged[reward.name] = self._broken(reward, rollouts, error)
            finally:
                self._spent(reward.name, started)
        if waiting:
            judged |= self._awaited(waiting, rollouts)
        self._take_metrics()
        bad: list[BadNumber] = []
        verdicts = {r.name: list(self._ruled(r, rollouts, judged[r.name], bad)) for r in self._rewards}
        return verdicts, next(iter(bad), None)

    def close(self) -> None:
        """End worker processes and the event loop; both start again when they are needed."""
        for thread in self._threads.values():
            thread.shutdown(cancel_futures=True)
        self._threads.clear()
        self._early.clear()
        for workers in self._workers.values():
            workers.close()
        self._workers.clear()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    # ---- asking

    def _awaited(self, waiting: Mapping[str, Awaitable[Any]], rollouts: Rollouts) -> dict[str, list[Answer]]:
        """All asynchronous rewards together on one event loop, which lives as long as the run: clients keep theirs."""

        async def one(reward: Named) -> tuple[str, Any]:
            started = time.perf_counter()
            try:
                with self.timeline.beside(reward.name):
                    answer = await asyncio.wait_for(waiting[reward.name], reward.policy.timeout)
                return reward.name, list(checked(answer, len(rollouts)))
            except TimeoutError as error:
                if reward.policy.timeout is None or time.perf_counter() - started < reward.policy.timeout:
                    return reward.name, self._broken(reward, rollouts, error)  # a timeout of its own
                text = f"no verdicts within {reward.policy.timeout:g} s"
                return reward.name, self._lost(reward, rollouts, range(len(rollouts)), text, traceback.format_exc())
            except Exception as error:
                return reward.name, self._broken(reward, rollouts, error)
            finally:
                self._spent(reward.name, started)

        async def everybody() -> list[tuple[str, Any]]:
            return await asyncio.gather(*(one(r) for r in self._rewards if r.name in waiting))

        return dict(self._run(everybody()))

    def _run(self, work: Coroutine[Any, Any, list[tuple[str, Any]]]) -> list[tuple[str, Any]]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # In a thread: the caller may itself be inside an event loop, as in a notebook.
            threading.Thread(target=self._loop.run_forever, name="callwright-rewards", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _isolated(self, reward: Named, rollouts: Rollouts) -> list[Answer]:
        started = time.perf_counter()
        try:
            with self.timeline.beside(reward.name):
                return self._in_workers(reward, rollouts)
        finally:
            self._spent(reward.name, started)

    def _in_workers(self, reward: Named, rollouts: Rollouts) -> list[Answer]:
        policy = reward.policy
        if reward.name not in self._workers:
            blueprint = Blueprint.of(reward.name, reward.plugin, reward.source)
            self._workers[reward.name] = Workers(
                blueprint, timeout=policy.timeout, memory=policy.memory, workers=policy.workers
            )
        units = _units(policy.isolate, group_ids(rollouts))
        result: dict[int, Answer] = {}
        for unit, outcome in zip(units, self._workers[reward.name].judge(rollouts, units), strict=True):
            answers: Sequence[Answer] = outcome.answers
            if outcome.error is not None:
                answers = self._lost(reward, rollouts, unit, outcome.error, outcome.trace)
            result |= dict(zip(unit, answers, strict=True))
            for name, value in outcome.metrics.items():
                self.metrics.setdefault(f"{reward.name}/{name}", []).append(value)
        return [result[row] for row in range(len(rollouts))]

    def _take_metrics(self) -> None:
        for reward in self._rewards:
            if not reward.policy.isolate:
                for name, value in taken_metrics(reward.plugin).items():
                    self.metrics.setdefault(f"{reward.name}/{name}", []).append(value)

    def _spent(self, name: str, started: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    # ---- failures

    def _broken(self, reward: Named, rollouts: Rollouts, error: Exception) -> list[Answer]:
        everybody = range(len(rollouts))
        if isinstance(error, WrongAnswer):
            return self._lost(reward, rollouts, everybody, f"'{reward.name}', step {rollouts.step}: {error}", "")
        return self._lost(reward, rollouts, everybody, summary(error), traceback.format_exc())

    def _lost(self, reward: Named, rollouts: Rollouts, rows: Sequence[int], error: str, trace: str) -> list[Answer]:
        """Failures in the place of verdicts for `rows`, counted."""
        self._count(reward, len(rows), f"{_place(rollouts, rows)}: {error}", trace)
        return [_Lost(error)] * len(rows)

    def _ruled(
        self, reward: Named, rollouts: Rollouts, answers: Sequence[Answer], bad: list[BadNumber]
    ) -> Iterator[Verdict]:
        """The final verdicts: problems become failures, and failures what the recipe says."""
        floor = reward.policy.floor if reward.policy.on_failure == "floor" else None
        for row, answer in enumerate(answers):
            if isinstance(answer, Verdict) and answer.failure is None:
                yield answer
                continue
            if isinstance(answer, _Lost):
                verdict = Verdict.failed(answer.error)
            elif isinstance(answer, Verdict):  # the reward says so itself
                verdict = answer
                self._count(reward, 1, f"{_place(rollouts, [row])}: {answer.failure}", "")
            else:
                value = not_finite(answer)
                if value is not None and floor is None:
                    bad.append(BadNumber(reward.name, "score", rollouts.step, row, value))
                verdict = Verdict.failed(f"'{reward.name}', step {rollouts.step}, row {row}: {answer}")
                self._count(reward, 1, f"{_place(rollouts, [row])}: {answer}", "")
            yield replace(verdict, score=floor)

    def _count(self, reward: Named, rows: int, text: str, trace: str) -> None:
        count, first = self.failures.get(reward.name, (0, f"{text}\n{trace}".strip()))
        self.failures[reward.name] = (count + rows, first)
        if reward.policy.on_failure == "stop" and self.stop_reason is None:
            self.stop_reason = f"reward '{reward.name}' failed, and its `on_failure` is stop: {text}"


@dataclass(frozen=True, slots=True)
class _Lost:
    """In the place of a verdict: a failure that is counted already."""

    error: str


Answer = Verdict | str | _Lost
"""Of one row: the verdict, what is wrong with it, or why there is none."""


_Key = tuple[int, tuple[int, ...]]
"""Of a row: its group and its completion's tokens, on which alone a verdict row by row can depend."""


def _keys(rollouts: Rollouts) -> list[_Key]:
    lengths = rollouts.lengths.tolist()
    tokens = rollouts.completion_ids.tolist()
    groups = rollouts.group_ids.tolist()
    return [(g, tuple(ids[:length])) for g, ids, length in zip(groups, tokens, lengths, strict=True)]


def _row_by_row(reward: Named) -> bool:
    if reward.policy.isolate:
        return reward.policy.isolate is True
    return is_asynchronous(reward.plugin) and bool(getattr(reward.plugin, "row_by_row", False))


def _units(isolate: bool | Literal["group", "batch"], groups: Sequence[int]) -> list[list[int]]:
    """The rows that an isolated reward sees together."""
    if isolate == "batch":
        return [list(range(len(groups)))] if groups else []
    if isolate == "group":
        members: dict[int, list[int]] = {}
        for row, group in enumerate(groups):
            members.setdefault(group, []).append(row)
        return list(members.values())
    return [[row] for row in range(len(groups))]


def _place(rollouts: Rollouts, rows: Sequence[int]) -> str:
    """Where a failure happened, and the completion if it was one."""
    if len(rows) != 1:
        return f"step {rollouts.step}, {len(rows)} rows from row {rows[0]} on" if rows else f"step {rollouts.step}"
    row = rows[0]
    return f"step {rollouts.step}, row {row} (task '{rollouts.tasks[row].id}', {rollouts.texts[row][:SHOWN_TEXT]!r})"


def policy_mistakes(reward: Named) -> Iterator[tuple[str, str]]:
    """What is wrong with how a reward is to be run, as (key, message)."""
    policy, plugin = reward.policy, reward.plugin
    if policy.isolate and not SUPPORTED:
        yield "isolate", "worker processes need Linux or macOS; leave it out"
    if policy.isolate and hasattr(plugin, "state_dict"):
        yield "isolate", "the reward keeps a state, which a worker process would lose; leave it out"
    if policy.timeout is not None and not policy.isolate and not is_asynchronous(plugin):
        yield "timeout", "Python cannot stop a call that runs in this process; write isolate: true beside it"
