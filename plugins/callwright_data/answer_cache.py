"""Answers that are dear to ask again, kept in one file by the content of the question."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from callwright.types import JSON, CallwrightError

WAIT = 60.0
"""Seconds that a process waits for another one that writes."""


def answer_key(*parts: JSON) -> str:
    """A key for `AnswerCache`: a hash of everything that the answer depends on, equal exactly if the parts are equal
    as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class AnswerCache:
    """JSON by key, on disk: what `put` has returned from outlives the process, however it ends.

    Threads may share an object, and processes a file. An SQLite file with a write-ahead log; beside it, SQLite keeps
    files of the same name with `-wal` and `-shm`. Every method raises CallwrightError if the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connections: dict[int, sqlite3.Connection] = {}
        """By process: SQLite's must neither be used nor closed on the other side of a fork."""

    def get(self, key: str) -> JSON | None:
        """What was put last under this key; None for nothing (also if that was None)."""
        with self._open() as connection:
            found = connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if found is None else json.loads(found[0])

    def put(self, key: str, answer: JSON) -> None:
        """Keep an answer, in the place of an earlier one. It is written when this returns."""
        text = json.dumps(answer)
        with self._open() as connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))

    def __reduce__(self) -> tuple[type[AnswerCache], tuple[Path]]:
        """A copy, also one in another process, opens the file for itself."""
        return type(self), (self.path,)

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        with self._lock:
            if (connection := self._connections.pop(os.getpid(), None)) is not None:
                connection.close()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                if os.getpid() not in self._connections:
                    self._connections[os.getpid()] = _connected(self.path)
                yield self._connections[os.getpid()]
        except (sqlite3.Error, OSError) as error:
            raise CallwrightError(f"{self.path}: answers cannot be kept here: {error}; {_repair(error)}") from error


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # isolation_level None: every statement is a transaction of its own, and done when it returns.
    connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute("PRAGMA synchronous = NORMAL")  # against a process that dies; a machine may lose the last
        connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _repair(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the lower byte is the primary code
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):  # a quota or a limit shows as the latter
        return "free space on this disk, and start again: what is kept already is not asked for again"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return "the file is damaged or no cache of ours: delete it, or move it away"
    if code == sqlite3.SQLITE_BUSY:
        return f"another process has been writing for {WAIT:g} s: wait for it, or end it"
    return "make the folder writable, or set CALLWRIGHT_CACHE to another one"
