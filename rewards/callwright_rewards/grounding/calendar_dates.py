"""Dates and times of day in a text, whatever their spelling."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from callwright.types import Span

from callwright_rewards.grounding.spellings import MONTHS

MOST_DATES = 500
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})\s?[-./年]\s?(\d{1,2})\s?[-./月]\s?(\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})\s?[-./]\s?(\d{1,2})\s?[-./]\s?(\d{4}|\d{2})(?!\d)")
_YEAR_MONTH = re.compile(r"(?<![\d-])(\d{4})-(\d{1,2})(?![\d-])")
_SLASHED = re.compile(r"(?<![\d/])(\d{1,2})/(\d{1,2})(?![\d/])")
_COMPACT = re.compile(r"(?<!\d)((?:19|20)\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?!\d)")
_DAY_MONTH = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?[\s-]+(?:of\s+|de\s+)?({_MONTH})\b\.?(?:,?[\s-]*(?:of\s+)?(\d{{4}})\b)?", re.I
)
_MONTH_DAY = re.compile(
    rf"\b({_MONTH})(?![a-z])\.?[\s-]*(\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:,?[\s-]+(?:of\s+|in\s+)?(\d{{4}})\b)?", re.I
)
_MONTH_YEAR = re.compile(rf"\b({_MONTH})\b\.?,?\s+(?:of\s+)?(\d{{4}})\b", re.I)
_CJK = re.compile(r"(\d{1,2})\s?[月월]\s?(\d{1,2})\s?[日일]")
_CLOCK = re.compile(
    r"(?<![\d:.])(\d{1,2})(?:[:.h](\d{2}))?(?::\d{2}(?:\.\d+)?)?\s?([ap]\.?\s?m\b\.?|o'?clock|h\b|hrs?\b)?(?![\d:])",
    re.I,
)

_AT = re.compile(r"(?:\b(?:at|by|from|to|until|till|around|before|after)|@)\s*$", re.I)


@dataclass(frozen=True, slots=True)
class Day:
    """A date; None where the text leaves a part out."""

    year: int | None
    month: int
    day: int | None
    span: Span

    def agrees(self, other: Day) -> bool:
        """The same month, and nothing else that both say differs."""
        parts = ((self.year, other.year), (self.day, other.day))
        return self.month == other.month and all(None in (a, b) or a == b for a, b in parts)


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day: minutes since midnight that the text may mean."""

    minutes: frozenset[int]
    span: Span


def days_in(text: str) -> list[Day]:
    """At most `MOST_DATES` dates. `10/11/2023` is read both ways. Time grows with the text's length."""
    found = (day for day in _days(text) if 1 <= day.month <= 12 and (day.day is None or 1 <= day.day <= 31))
    return list(itertools.islice(found, MOST_DATES))


def _days(text: str) -> Iterator[Day]:
    for pattern in (_YEAR_FIRST, _COMPACT):
        for m in pattern.finditer(text):
            yield Day(int(m[1]), int(m[2]), int(m[3]), m.span())
    for m in _YEAR_LAST.finditer(text):
        year = int(m[3]) + (2000 if len(m[3]) == 2 else 0)
        yield Day(year, int(m[1]), int(m[2]), m.span())
        yield Day(year, int(m[2]), int(m[1]), m.span())
    for m in _SLASHED.finditer(text):
        yield Day(None, int(m[1]), int(m[2]), m.span())
        yield Day(None, int(m[2]), int(m[1]), m.span())
    for m in _YEAR_MONTH.finditer(text):
        yield Day(int(m[1]), int(m[2]), None, m.span())
    for m in _DAY_MONTH.finditer(text):
        yield Day(int(m[3]) if m[3] else None, MONTHS[m[2].lower()], int(m[1]), m.span())
    for m in _MONTH_DAY.finditer(text):
        yield Day(int(m[3]) if m[3] else None, MONTHS[m[1].lower()], int(m[2]), m.span())
    for m in _MONTH_YEAR.finditer(text):
        yield Day(int(m[2]), MONTHS[m[1].lower()], None, m.span())
    for m in _CJK.finditer(text):
        yield Day(None, int(m[1]), int(m[2]), m.span())


def clocks_in(text: str) -> list[Clock]:
    """At most `MOST_DATES` times. A bare `9` may be morning or evening."""
    return list(itertools.islice(_clocks(text), MOST_DATES))


def _clocks(text: str) -> Iterator[Clock]:
    for m in _CLOCK.finditer(text):
        hour, minute, half = int(m[1]), int(m[2] or 0), (m[3] or "").lower()
        bare = m[2] is None and m[3] is None
        if hour > 24 or minute > 59 or (bare and not _AT.search(text[max(0, m.start() - 10) : m.start()])):
            continue
        if half.startswith(("a", "p")):
            hours = {hour % 12 + (12 if half.startswith("p") else 0)}
        else:
            hours = {hour % 24} | ({hour + 12} if hour < 12 and not m[1].startswith("0") else set())
        yield Clock(frozenset(60 * h + minute for h in hours), m.span())
    for m in re.finditer(r"\b(noon|midday|midnight)\b", text, re.I):
        yield Clock(frozenset({0 if m[1].lower() == "midnight" else 720}), m.span())
