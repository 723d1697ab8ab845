"""Near-duplicates by MinHash: which texts share so many of their word n-grams.

Similarity is the Jaccard index of two texts' sets of n-grams: how many they share, of all that either has. MinHash
(Broder 1997, "On the resemblance and containment of documents") estimates it with a standard error of
sqrt(J (1 - J) / permutations). The pairs worth comparing are those that share a band, a run of some values of their
signatures (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4). datasketch makes the signatures;
its index takes twice as long as the one here, and more memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RECALL = 0.99
"""Share of the pairs just at the threshold that the index finds, at least; of more similar pairs it finds more."""


def check_options(threshold: float | None, ngram: int, permutations: int, seed: int) -> None:
    """Raises ValueError for what no index can be made of."""
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold should be above 0 and at most 1, or null, but is {threshold}")
    if ngram < 1:
        raise ValueError(f"the n-grams should have at least 1 word, but have {ngram}")
    if not 16 <= permutations <= 1024:
        raise ValueError(f"permutations should be 16 to 1024, but are {permutations}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed should be 0 to {2**32 - 1}, but is {seed}")


def shingles(words: Sequence[str], ngram: int, scope: str = "") -> set[int]:
    """32-bit hashes of the n-grams of these words; fewer words than that are one n-gram, and no words none.

    Texts of different scopes have none in common.
    """
    if not words:
        return set()
    start = zlib.crc32(scope.encode(errors="surrogatepass"))
    last = max(len(words) - ngram, 0)
    return {zlib.crc32(" ".join(words[i : i + ngram]).encode(), start) for i in range(last + 1)}


def jaccard(one: set[int], other: set[int]) -> float:
    """Of two sets that are not empty, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, values in a band) of the index: the longest bands that still have `RECALL`, as these give the fewest
    pairs to compare. Two texts of similarity J are compared with probability 1 - (1 - J ** values) ** bands."""
    for values in range(permutations // 2, 1, -1):
        count = permutations // values
        if 1 - (1 - threshold**values) ** count >= RECALL:
            return count, values
    return permutations, 1


class Signatures:
    """Makes MinHash signatures, and indexes that find them."""

    def __init__(self, threshold: float, permutations: int, seed: int) -> None:
        # Where it is needed: datasketch imports scipy.
        import numpy as np
        from datasketch import MinHash  # type: ignore[import-untyped] # ships no types

        # The hashes of n-grams are numbers already.
        self._sketch: Any = MinHash(permutations, seed, hashfunc=int)
        self.bands, self._values = bands(threshold, permutations)
        # Any odd factors will do: equal bands give equal sums, and a chance hit costs only a needless comparison.
        factors = np.random.default_rng(0).integers(1 << 63, size=self._values, dtype=np.uint64)
        self._factors = factors * np.uint64(2) + np.uint64(1)

    def of(self, hashes: set[int]) -> NDArray[np.unsignedinteger[Any]]:
        """(permutations,): the signature of a set of n-grams."""
        self._sketch.clear()
        self._sketch.update_batch(hashes)
        return self._sketch.hashvalues

    def band_keys(self, signature: NDArray[np.unsignedinteger[Any]]) -> list[int]:
        """For each band a number, the same for the same values."""
        values = signature[: self.bands * self._values].reshape(self.bands, self._values)
        keys: list[int] = (values @ self._factors).tolist()
        return keys

    def keys_of_band(self, band: int, signatures: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint64]:
        """(rows, permutations) -> (rows,): the numbers of one band."""
        return signatures[:, band * self._values : (band + 1) * self._values] @ self._factors


class Index:
    """Finds the signatures that share a band with another one."""

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures
        self._rows: list[dict[int, list[int]]] = [{} for _ in range(signatures.bands)]

    def add(self, row: int, signature: NDArray[np.unsignedinteger[Any]]) -> None:
        for rows, key in zip(self._rows, self._signatures.band_keys(signature), strict=True):
            rows.setdefault(key, []).append(row)

    def candidates(self, signature: NDArray[np.unsignedinteger[Any]]) -> list[int]:
        """Rows worth comparing, ascending."""
        found: set[int] = set()
        for rows, key in zip(self._rows, self._signatures.band_keys(signature), strict=True):
            found.update(rows.get(key, ()))
        return sorted(found)


class EarlierRows:
    """Says of each row in turn which row that was kept before it is nearly the same.

    Per row it holds a signature (4 bytes a permutation). The index, which takes several kilobytes a row, holds only
    rows that share a band with some other row.
    """

    def __init__(self, hashes: Iterable[set[int]], rows: int, threshold: float, permutations: int, seed: int) -> None:
        import numpy as np

        self._threshold = threshold
        signatures = Signatures(threshold, permutations, seed)
        self._index = Index(signatures)
        self._signatures = np.empty((rows, permutations), signatures.of(set()).dtype)
        compared = np.zeros(rows, bool)
        for row, hashes_of_row in enumerate(hashes):
            self._signatures[row] = signatures.of(hashes_of_row)
            compared[row] = bool(hashes_of_row)
        self._indexed = np.zeros(rows, bool)
        self._indexed[compared] = self._shares_a_band(compared, signatures)

    def _shares_a_band(self, compared: NDArray[np.bool_], made_by: Signatures) -> NDArray[np.bool_]:
        """Of the rows that are compared, which share a band with another one of them."""
        import numpy as np

        shares = np.zeros(np.count_nonzero(compared), bool)
        for band in range(made_by.bands):
            keys = made_by.keys_of_band(band, self._signatures)[compared]
            _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
            shares |= counts[inverse] > 1
        return shares

    def repeated_by(self, row: int) -> tuple[int, float] | None:
        """(the kept row that is most similar, the similarity as estimated), or None below the threshold. Of equally
        similar rows, the first."""
        import numpy as np

        if not self._indexed[row]:
            return None
        candidates = self._index.candidates(self._signatures[row])
        if not candidates:
            return None
        similarities = (self._signatures[candidates] == self._signatures[row]).mean(axis=1)
        best = int(np.argmax(similarities))
        similarity = float(similarities[best])
        return (candidates[best], similarity) if similarity >= self._threshold else None

    def keep(self, row: int) -> None:
        """Later rows may repeat this one."""
        if self._indexed[row]:
            self._index.add(row, self._signatures[row])
