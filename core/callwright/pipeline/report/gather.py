"""The figures and examples of the report, from one pass over each file, in memory that does not grow with the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from callwright.display import shortened
from callwright.pipeline.prepared import Prepared, Step
from callwright.pipeline.report.counts import Outcome, by_frequency
from callwright.pipeline.report.examples import Example, example, question
from callwright.types import Task

EXAMPLES = 3
"""Of each code."""
CODES_WITH_EXAMPLES = 30
"""Of each step, the most frequent. A source's codes are names of fields, of which bad rows may have any number."""
MOST_CATEGORIES = 1000
"""That are told apart while counting."""
SHOWN_CATEGORIES = 40
LONGEST_CATEGORY = 80
UNKNOWN = -1
"""In place of a number of calls: the row has no answer."""
NO_CATEGORY, FURTHER = "(none)", "(further categories)"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Rows by some property, before the stages and after them."""

    title: str
    bins: tuple[tuple[str, int, int], ...]
    """What is counted in it, rows loaded, rows left."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the report needs beside the counts that `Prepared` has."""

    histograms: tuple[Histogram, ...]
    examples: tuple[Mapping[Outcome, tuple[Example, ...]], ...]
    """Of every step, in the order of `by_frequency`."""


def gather(prepared: Prepared) -> Gathered:
    before, after = _counted(prepared.loaded), _counted(prepared.rows)
    histograms = (
        _numbers("characters of the question", before.characters, after.characters),
        _numbers("tools", before.tools, after.tools),
        _numbers("calls in the answer", before.calls, after.calls),
        _categories(before.categories, after.categories),
    )
    return Gathered(histograms, tuple(_examples(step) for step in prepared.steps))


def _examples(step: Step) -> dict[Outcome, tuple[Example, ...]]:
    """A few of each code, spread evenly over its rows: the first ones are often all of one kind."""
    frequent = by_frequency(step)[:CODES_WITH_EXAMPLES]
    wanted = {key: {number * rows // EXAMPLES for number in range(EXAMPLES)} for key, rows in frequent}
    missing = sum(map(len, wanted.values()))
    found: dict[Outcome, list[Example]] = {key: [] for key, _ in frequent}
    seen: Counter[Outcome] = Counter()
    for change in step.read_changes() if missing else ():
        key = change.outcome, change.code
        if seen[key] in wanted.get(key, ()):
            found[key].append(example(change))
            missing -= 1
            if not missing:
                break
        seen[key] += 1
    return {key: tuple(some) for key, some in found.items()}


# ----------------------------------------------------------------------------------------------------- histograms


@dataclass
class _Counts:
    """Rows by the lower end of their bin, or by category."""

    characters: Counter[int] = field(default_factory=Counter)
    tools: Counter[int] = field(default_factory=Counter)
    calls: Counter[int] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)


def _counted(tasks: Iterable[Task]) -> _Counts:
    counts = _Counts()
    for task in tasks:
        counts.characters[bin_of(len(question(task.messages)))] += 1
        counts.tools[bin_of(len(task.tools))] += 1
        counts.calls[UNKNOWN if task.answer is None else bin_of(len(task.answer.calls))] += 1
        category = _category(task)
        if category not in counts.categories and len(counts.categories) >= MOST_CATEGORIES:
            category = FURTHER
        counts.categories[category] += 1
    return counts


def _category(task: Task) -> str:
    value = task.meta.get("category")
    if value is None:
        return NO_CATEGORY
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), LONGEST_CATEGORY)


def bin_of(number: int) -> int:
    """The lower end of its bin: 0, 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on, so that few bins hold any length."""
    if number < 4:
        return number
    power = 1 << (number.bit_length() - 1)
    middle = power + power // 2
    return middle if number >= middle else power


def next_bin(low: int) -> int:
    """The lower end of the bin after that of `low`."""
    if low < 2:
        return low + 1
    return low // 3 * 4 if low % 3 == 0 else low // 2 * 3


def _numbers(title: str, before: Counter[int], after: Counter[int]) -> Histogram:
    bins = []
    known = [low for low in (*before, *after) if low != UNKNOWN]
    low = min(known, default=0)
    while low <= max(known, default=-1):
        end = next_bin(low) - 1
        bins.append((f"{low:,}" if end == low else f"{low:,} to {end:,}", before[low], after[low]))
        low = end + 1
    if before[UNKNOWN] or after[UNKNOWN]:
        bins.append(("not known", before[UNKNOWN], after[UNKNOWN]))
    return Histogram(title, tuple(bins))


def _categories(before: Counter[str], after: Counter[str]) -> Histogram:
    names = sorted({*before, *after}, key=lambda name: (-before[name], name))
    shown = names if len(names) <= SHOWN_CATEGORIES else names[: SHOWN_CATEGORIES - 1]
    bins = [(name, before[name], after[name]) for name in shown]
    rest = names[len(shown) :]
    if rest:
        title = f"({len(rest):,} more categories)"
        bins.append((title, sum(before[name] for name in rest), sum(after[name] for name in rest)))
    return Histogram("category", tuple(bins))
