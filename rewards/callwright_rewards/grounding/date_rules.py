"""Rules that find dates and times of day, whatever their spelling."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator

from callwright.types import Span

from callwright_rewards.grounding.calendar_dates import Clock, Day, clocks_in, days_in
from callwright_rewards.grounding.question import Found, Question, all_or_none
from callwright_rewards.grounding.spellings import MONTHS, RELATIVE_DAYS, WEEKDAYS
from callwright_rewards.grounding.text_index import TextIndex, fold

_DATE_WORDS = frozenset({*MONTHS, *WEEKDAYS, "t", "z", "am", "pm", "utc", "gmt", "to", "st", "nd", "rd", "th"})
_END_OF_DAY = frozenset({0, 23 * 60 + 59})


def date(q: Question) -> Found | None:
    """Dates, perhaps with times, and nothing else: each agrees with a date of the conversation.

    A part that the conversation leaves out, mostly the year, may be filled in.
    """
    return _dates(q, _agreeing)


def relative_date(q: Question) -> Found | None:
    """`tomorrow`, `next Friday` and the like, where the conversation also says which day today is."""
    return _dates(q, lambda text, readings: _agreeing(text, readings) or _relative_day(text, readings))


def _dates(q: Question, place: Callable[[TextIndex, list[Day]], Span | None]) -> Found | None:
    own = days_in(q.value) if only_date_words(q.value) else []
    if not own:
        return None
    spans = list(dict.fromkeys(day.span for day in own))
    places = [place(q.text, [day for day in own if day.span == span]) for span in spans]
    rest = list(q.value)
    for start, end in spans:
        rest[start:end] = " " * (end - start)
    places += [_clock_place(q.text, clock, midnight=True) for clock in clocks_in("".join(rest))]
    return all_or_none(places)


def _agreeing(text: TextIndex, readings: list[Day]) -> Span | None:
    for reading in readings:
        for day in text.days:
            if reading.agrees(day) and (reading.day is None or day.day is not None):
                return day.span
    return None


def _relative_day(text: TextIndex, readings: list[Day]) -> Span | None:
    dates = [known for reading in readings if (known := _calendar(reading))]
    for today in [known for day in text.days[:20] if (known := _calendar(day))]:
        for other in dates:
            ahead = (other - today).days
            words = [word for word, shift in RELATIVE_DAYS.items() if shift == ahead]
            if 0 < ahead <= 14:
                words += [other.strftime("%A"), other.strftime("%a")]
            span = next((span for word in words if (span := text.find_any_case(word))), None)
            if span is not None:
                return span
    return None


def _calendar(day: Day) -> datetime.date | None:
    try:
        return datetime.date(day.year or 0, day.month, day.day or 0)
    except ValueError:
        return None


def clock(q: Question) -> Found | None:
    """A time of day and nothing else."""
    own = [] if q.value.isdigit() or days_in(q.value) else clocks_in(q.value)
    if not own or not only_date_words(q.value):
        return None
    return all_or_none([_clock_place(q.text, one, midnight=False) for one in own])


def _clock_place(text: TextIndex, own: Clock, midnight: bool) -> Span | None:
    for other in text.clocks:
        if own.minutes & other.minutes:
            return other.span
    return (0, 0) if midnight and own.minutes & _END_OF_DAY else None


def only_date_words(text: str) -> bool:
    """Nothing but digits and the words of dates and times?"""
    return len(text) <= 200 and all(word in _DATE_WORDS or word[0].isdigit() for word in _folded_words(text))


def _folded_words(text: str) -> Iterator[str]:
    return (fold(word) for word in re.findall(r"[^\W\d_]+|\d+", text[:500]))
