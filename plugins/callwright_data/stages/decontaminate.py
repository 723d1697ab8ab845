"""Rows that give away a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from callwright import CallwrightError, Dropped, RowError, StageContext, Task
from callwright.types import JSON

from callwright_data.sources.bfcl import CATEGORIES
from callwright_data.stages import _near_duplicates as near
from callwright_data.stages._row_keys import digest, question, tool_set, words

PERMUTATIONS = 128
Load = Callable[[str, dict[str, Any]], Iterable[Task | RowError]]
"""The rows of a source, by its name and options."""


class ContaminationCode(StrEnum):
    """Why `decontaminate` drops a row."""

    SHARED_NGRAM = "shared_ngram"
    NEAR_DUPLICATE = "near_duplicate"
    SAME_TOOLS = "same_tools"


@dataclass
class Decontaminate:
    """Drops rows that share a question, or tools, with a benchmark.

    Texts are compared without case, punctuation and spaces. A row goes if it repeats `ngram` consecutive words of a
    benchmark's question (13, the most that GPT-3's authors took: arXiv 2005.14165, appendix C), or a shorter question
    as a whole; if its question has a Jaccard similarity of `threshold` or more with one of the benchmark's; and, if
    asked for, if it offers the same tools. The similarity is computed exactly; at most 1 % of the pairs at the
    threshold are not found, and fewer above it.
    """

    against: list[dict[str, JSON]] = field(default_factory=lambda: [{"use": "bfcl", "categories": list(CATEGORIES)}])
    """The benchmarks: sources, each with `use` and its options, as in `data.source`."""
    ngram: int = 13
    """Consecutive words that give a question away."""
    shortest: int = 5
    """Words, at least 2. A benchmark's question with fewer ("what time is it") is no trace where it stands in another
    text: it counts only where it is the whole question."""
    threshold: float | None = 0.8
    """Jaccard similarity, above 0, at most 1, from which on a question is a near-duplicate; null looks for none, and is
    much faster."""
    near_ngram: int = 3
    """Words of the n-grams that the Jaccard similarity is taken of."""
    same_tools: bool = False
    """Drop rows whose tools have the names, and the names of parameters, of a benchmark row's tools: neither fewer nor
    more. For a benchmark that asks about tools that were never trained on."""
    _benchmark: _Benchmark = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        near.check_options(self.threshold, self.near_ngram, PERMUTATIONS, 0)
        for name, value, least in (("ngram", self.ngram, 1), ("shortest", self.shortest, 2)):
            if value < least:
                raise ValueError(f"{name} should be at least {least}, but is {value}")
        if not self.against:
            raise ValueError("against should name at least one source, such as {use: bfcl}")
        for source in self.against:
            if not isinstance(source.get("use"), str):
                raise ValueError(f"against: a source is a mapping with `use` and its options, not {source}")
        self._benchmark = _Benchmark(self.ngram, self.shortest, self.threshold, self.near_ngram)

    def fingerprint(self) -> str:
        """Those of the benchmarks: other rows in them may drop other rows here."""
        sources = (_source(str(source["use"]), _options(source)) for source in self.against)
        return " ".join(str(getattr(source, "fingerprint", str)()) for source in sources)

    def prepare(self, context: StageContext) -> None:
        """Reads the benchmarks. Raises CallwrightError for one that cannot be read, or if they have no rows at all."""
        self._read(context.load, context.note)

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        """Kept as they are, or dropped with a `ContaminationCode`. Reads the benchmarks if `prepare` did not."""
        self._read(_load, lambda line: None)
        for task in tasks:
            found = self._found(task)
            yield task if found is None else Dropped(task, *found)

    def _read(self, load: Load, note: Callable[[str], None]) -> None:
        if self._benchmark.complete:
            return
        for source in self.against:
            use = str(source["use"])
            unreadable = 0
            for row in load(use, _options(source)):
                if isinstance(row, RowError):
                    unreadable += 1
                else:
                    self._benchmark.add(row, use)
            if unreadable:
                note(f"decontaminate: {unreadable} rows of {use} cannot be read, and nothing is compared with them")
        if not self._benchmark.names:
            raise CallwrightError("decontaminate: the sources in `against` have no rows to compare with; name others")
        self._benchmark.complete = True

    def _found(self, task: Task) -> tuple[str, str] | None:
        asked = words(question(task))
        if (shared := self._benchmark.shared(asked)) is not None:
            name, text = shared
            return ContaminationCode.SHARED_NGRAM, f"shares the words '{text}' with {name}"
        if (similar := self._benchmark.similar(asked)) is not None:
            name, similarity = similar
            return ContaminationCode.NEAR_DUPLICATE, f"its question has Jaccard similarity {similarity:.2f} with {name}"
        if self.same_tools and (name := self._benchmark.tools.get(tool_set(task), "")):
            return ContaminationCode.SAME_TOOLS, f"offers the same tools as {name}"
        return None


def _load(use: str, options: dict[str, Any]) -> Iterable[Task | RowError]:
    found: Iterable[Task | RowError] = _source(use, options).load()
    return found


def _source(use: str, options: dict[str, Any]) -> Any:
    from callwright.plugins import build_component, find

    return build_component(find("source", use)[0], options, f"source {use}")


def _options(source: dict[str, JSON]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name != "use"}


class _Benchmark:
    """What is known of the benchmarks' rows. Read once, then never changed."""

    def __init__(self, ngram: int, shortest: int, threshold: float | None, near_ngram: int) -> None:
        self._ngram, self._shortest, self._threshold, self._near_ngram = ngram, shortest, threshold, near_ngram
        self.complete = False
        self.names: list[str] = []
        self.tools: dict[str, str] = {}
        self._texts: dict[bytes, int] = {}  # n-grams, and questions that are shorter than that
        self._too_short: dict[bytes, int] = {}
        self._lengths: dict[tuple[str, ...], set[int]] = {}  # of the shorter ones, by their first two words
        self._shingles: list[set[int]] = []
        if threshold is not None:
            self._signatures = near.Signatures(threshold, PERMUTATIONS, 0)
            self._index = near.Index(self._signatures)

    def __deepcopy__(self, memo: object) -> _Benchmark:
        """Itself, so that copies of a stage do not read the benchmarks again."""
        return self

    def add(self, task: Task, use: str) -> None:
        row, asked = len(self.names), words(question(task))
        self.names.append(f"row '{task.id}' of {use}")
        if task.tools:
            self.tools.setdefault(tool_set(task), self.names[row])
        if len(asked) >= self._ngram:
            for start in range(len(asked) - self._ngram + 1):
                self._texts.setdefault(_key(asked[start : start + self._ngram]), row)
        elif len(asked) >= self._shortest:
            self._texts.setdefault(_key(asked), row)
            self._lengths.setdefault(tuple(asked[:2]), set()).add(len(asked))
        elif asked:
            self._too_short.setdefault(_key(asked), row)
        if self._threshold is not None:
            hashes = near.shingles(asked, self._near_ngram)
            self._shingles.append(hashes)
            if hashes:
                self._index.add(row, self._signatures.of(hashes))

    def shared(self, asked: list[str]) -> tuple[str, str] | None:
        """(the benchmark's row, the words) of the first place where `asked` repeats a benchmark."""
        row = self._too_short.get(_key(asked))
        if row is not None:
            return self.names[row], " ".join(asked)
        for start in range(len(asked)):
            lengths = self._lengths.get(tuple(asked[start : start + 2]), ())
            for length in (*sorted(lengths), self._ngram):
                if start + length <= len(asked):
                    part = asked[start : start + length]
                    row = self._texts.get(_key(part))
                    if row is not None:
                        return self.names[row], " ".join(part)
        return None

    def similar(self, asked: list[str]) -> tuple[str, float] | None:
        """(the benchmark's row, Jaccard similarity) of the most similar question, if it reaches the threshold."""
        hashes = near.shingles(asked, self._near_ngram)
        if self._threshold is None or not hashes:
            return None
        candidates = self._index.candidates(self._signatures.of(hashes))
        pairs = [(near.jaccard(hashes, self._shingles[row]), -row) for row in candidates]
        similarity, row = max(pairs, default=(0.0, 0))
        return (self.names[-row], similarity) if similarity >= self._threshold else None


def _key(part: Sequence[str]) -> bytes:
    return digest(" ".join(part), 8)
