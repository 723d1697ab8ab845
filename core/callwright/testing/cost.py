"""Does the cost grow in proportion to the length of the text? Measured generously: noise must not fail a law."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

LENGTHS = (16, 24, 36, 250, 1000, 4000)
"""Characters. The short ones find an exponential cost before it takes for ever."""
CHEAP = 0.05
"""Seconds of CPU time: no call that takes less is called slow."""
GENEROUS = 2.0
"""A text that is r times as long may take this many times r as long; a quadratic cost takes r times r."""


def superlinear(
    texts: Callable[[int], Sequence[str]], work: Callable[[str], object]
) -> tuple[str, float, float] | None:
    """(a text, CPU seconds of it, CPU seconds of a shorter one of its kind) if the cost grows faster than the length.

    texts: length -> texts of that length, of the same kinds in the same order.
    """
    by_length = [texts(length) for length in LENGTHS]
    for kind in zip(*by_length, strict=True):
        before, length_before = CHEAP, 1
        for text in kind:
            allowed = max(CHEAP, GENEROUS * before * max(len(text), 1) / length_before)
            # Again, as another process may have taken the core's caches away; the least of several is the cost.
            taken = min(_until(allowed, work, text))
            if taken > allowed:
                return text, taken, before
            before, length_before = max(taken, CHEAP / 8), max(len(text), 1)
    return None


def _until(allowed: float, work: Callable[[str], object], text: str) -> list[float]:
    """CPU seconds of up to four calls; no further one after a call that takes at most `allowed`."""
    taken: list[float] = []
    while len(taken) < 4 and (not taken or taken[-1] > allowed):
        started = time.process_time()
        work(text)
        taken.append(time.process_time() - started)
    return taken
