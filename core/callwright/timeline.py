"""When each part of a step ran, in the format of Chrome's tracing, for Perfetto (ui.perfetto.dev) or chrome://tracing."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Timeline:
    """Collects spans and appends them to a file. Without a file it does nothing.

    The file is a JSON array that is never closed, which the format allows: it can be read at any time, also after a
    kill.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._events: list[str] = []
        self._ids = itertools.count()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A part of the loop's work, within the one around it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, "X", start, dur=_microseconds(time.perf_counter() - start))

    @contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Work that may overlap with anything, as a reward's does."""
        number = next(self._ids)
        self._add(name, "b", time.perf_counter(), id=number, cat="reward")
        try:
            yield
        finally:
            self._add(name, "e", time.perf_counter(), id=number, cat="reward")

    def write(self) -> None:
        """Append what was collected since the last time. Raises OSError."""
        events, self._events = self._events, []
        if self.path is None or not events:
            return
        start = "" if self.path.exists() else "[\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(start + "".join(events))

    def _add(self, name: str, kind: str, at: float, **more: object) -> None:
        if self.path is not None:
            where = {"ts": _microseconds(at), "pid": os.getpid(), "tid": threading.get_native_id()}
            self._events.append(json.dumps({"name": name, "ph": kind, **where, **more}) + ",\n")


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
