"""Noticing that a file was saved, by looking: it needs no package, and works on every kind of disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_AT_REST = 0.05
"""A file that is still being written is left alone until it has not changed for this long."""

Look = tuple[tuple[int, int, int] | None, ...]


class Watch:
    """Files, and whether they are as they were when `take` was last called."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._taken = self._look()

    def take(self) -> None:
        """From now on, a change is one against what is there now."""
        self._taken = self._look()

    def changed(self) -> bool:
        """A file that is missing has not changed: editors replace files by removing and renaming."""
        look = self._look()
        return look != self._taken and None not in look

    def wait(self) -> None:
        """Until something has changed and is at rest."""
        while not self.changed():
            time.sleep(SECONDS_BETWEEN_LOOKS)
        look = None
        while look != (look := self._look()):
            time.sleep(SECONDS_AT_REST)

    def _look(self) -> Look:
        return tuple(map(_state, self._paths))


def _state(path: Path) -> tuple[int, int, int] | None:
    """A replaced file has another inode, also when time and size are the same."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
