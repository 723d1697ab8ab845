"""Choices that a seed and the row's own text decide, so that other rows, or their order, do not matter."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def seeded_number(seed: int, text: str) -> int:
    """A whole number from 0 to 2**64 - 1, uniform over texts: the start of SHA-256 of seed and text."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode(errors="surrogatepass")).digest()[:8], "big")


def lowest_per_class(numbers: NDArray[np.uint64], classes: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """(N,) bool: in each class, True for the `most` rows of the lowest numbers; of equal ones, the first."""
    import numpy as np

    order = np.lexsort((numbers, classes))
    sizes: NDArray[Any] = np.bincount(classes)
    starts = np.cumsum(sizes) - sizes
    chosen = np.empty(len(numbers), bool)
    chosen[order] = np.arange(len(numbers)) - np.repeat(starts, sizes) < most
    return chosen
