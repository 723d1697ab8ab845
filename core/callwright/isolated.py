"""The inside of a worker process of `isolation.py`: build the reward, then answer one unit of rows after the other."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from callwright.isolation import Outcome, Reply, restored
from callwright.judging import checked, scorer, taken_metrics
from callwright.light import LightRollouts
from callwright.plugins import summary
from callwright.types import Verdict

WORN_SHARE = 0.5
"""A worker that holds this share of its memory limit after a call leaks; it is replaced before an innocent row pays."""


def serve(descriptor: int, log: int) -> None:
    """Until the parent closes the connection."""
    faulthandler.enable(log)
    connection = Connection(descriptor)
    setup = connection.recv()
    threading.Thread(target=follow, args=(setup["parent"],), daemon=True).start()
    sys.path[:] = setup["path"]
    try:
        plugin = restored(setup["blueprint"])
        score = scorer(plugin)
        room = _limit(setup["memory"])
    except BaseException as error:
        connection.send(Reply(Outcome(error=summary(error), trace=traceback.format_exc())))
        return
    connection.send(Reply(Outcome()))
    with asyncio.Runner() as runner:
        while True:
            try:
                content = connection.recv()
            except EOFError:
                return
            outcome = _outcome(plugin, score, content, runner)
            connection.send(Reply(outcome, worn=room is not None and _size() > room))


def _outcome(plugin: object, score: Callable[[Any], Any], content: dict[str, Any], runner: asyncio.Runner) -> Outcome:
    try:
        rollouts = LightRollouts(**content)
        answer = score(rollouts)
        if inspect.isawaitable(answer):
            answer = runner.run(_awaited(answer))
        answers = [_plain(verdict) for verdict in checked(answer, len(rollouts))]
        return Outcome(answers, taken_metrics(plugin))
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: a reward does not end its worker
        return Outcome(error=summary(error), trace=traceback.format_exc())


async def _awaited(answer: Any) -> Any:
    return await answer


def _plain(verdict: Verdict | str) -> Verdict | str:
    """The same, of types that every process knows: codes may be members of the plugin's own enum."""
    if isinstance(verdict, str):
        return verdict
    reasons = tuple(type(r)(str(r.code), str(r.message), r.span) for r in verdict.reasons)
    return Verdict(None if verdict.score is None else float(verdict.score), reasons, verdict.failure)


def _limit(gibibytes: float | None) -> int | None:
    """Set the limit; returns the size in bytes above which the worker counts as worn."""
    if gibibytes is None:
        return None
    import resource

    size, room = _size(), int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
    return size + int(room * WORN_SHARE)


def _size() -> int:
    """Address space of this process in bytes; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def follow(parent: int) -> None:
    """A worker whose parent was killed must not live on."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
