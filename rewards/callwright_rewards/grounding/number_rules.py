"""Rules that find a number in the conversation or derive it, one small function per reason code, tried in order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from decimal import Decimal

from callwright_rewards.grounding.quantities import Form, Quantity, to_decimal
from callwright_rewards.grounding.question import Found, Question
from callwright_rewards.grounding.spellings import TIMES_PER_YEAR
from callwright_rewards.grounding.support import GroundingCode as Code
from callwright_rewards.grounding.text_index import words_of
from callwright_rewards.grounding.units import UNITS

Rule = Callable[[Question, Decimal], Found | None]
MOST_OPERANDS = 64
_COUNT = re.compile(
    r"\b(?:count|number|num|quantity|qty|quantities|amount|people|persons?|guests?|adults?|passengers?|travelers?|rooms?|"
    r"tickets?|nights?|days?|hours?|weeks?|months?|years?|pieces?|items?|bedrooms?|bathrooms?|seats?|times|units?|size|"
    r"servings?|portions?|frequency)\b",
    re.I,
)
_ARTICLE = re.compile(r"\b(?:an?|my|each|every|per|another)\b", re.I)
_TIMES = re.compile(r"\b(?:each|per|every|times|multipl\w*|product)\b|[*\u00d7]", re.I)
_PLUS = re.compile(r"\b(?:total|sum|altogether|plus|more|add\w*|combined|increase\w*)\b|\+", re.I)
_MINUS = re.compile(r"\b(?:difference|less|minus|subtract\w*|left|remain\w*|decrease\w*|fewer|ago|younger)\b", re.I)
_SHARE = re.compile(r"\b(?:average|mean|split|divid\w*|half|ratio|equally|shared?)\b", re.I)
_MEASURES = frozenset({"%", *UNITS})
_REACH = 60
"""Characters between two numbers that one word may join."""


def plain(q: Question, value: Decimal) -> Found | None:
    return _first(q, lambda at: at.form is Form.PLAIN and at.value == value)


def formatted(q: Question, value: Decimal) -> Found | None:
    return _first(q, lambda at: at.form is Form.FORMAT and at.value == value)


def in_words(q: Question, value: Decimal) -> Found | None:
    return _first(q, lambda at: at.form is Form.WORDS and not at.implied and at.value == value)


def article(q: Question, value: Decimal) -> Found | None:
    """`a pizza` is one pizza, where the parameter counts something."""
    counts = value == 1 and _COUNT.search(q.about) is not None and not _own(q)
    match = _ARTICLE.search(q.text.text) if counts else None
    return None if match is None else (match.span(),)


def date_part(q: Question, value: Decimal) -> Found | None:
    """Year, month, day or hour of a date or time in another spelling."""
    part = re.search(r"year(?!s)|month(?!s)|day(?!s)|date|hour(?!s)|minute(?!s)|time", q.name, re.I)
    for day in q.text.days if part else ():
        if value in (day.year, day.month, day.day):
            return (day.span,)
    if re.search(r"hour|minute|time|clock", q.about, re.I):
        for clock in q.text.clocks:
            if any(value in (minute // 60, minute % 60) for minute in clock.minutes):
                return (clock.span,)
    return None


def percent(q: Question, value: Decimal) -> Found | None:
    """`5%` is 0.05; 0.05 is 5 where the parameter is a percentage."""
    found = _first(q, lambda at: at.value == 100 * value and (at.unit == "%" or "rate" in q.about.lower()))
    if found is None and re.search(r"percent|%", q.about, re.I):
        found = _first(q, lambda at: 100 * at.value == value)
    return found


def other_unit(q: Question, value: Decimal) -> Found | None:
    """The same quantity in the unit of the parameter: `2 km` is 2000 where metres are asked for."""
    targets = {name for name in re.findall(r"[a-zA-Z]+", q.about.lower()) if name in UNITS and len(name) > 1}
    for mixed in _mixed(q.text.quantities):
        for target in sorted(targets):
            for dimension, factor in UNITS[target].items():
                factors = [UNITS.get(at.unit or "", {}).get(dimension) for at in mixed]
                if None not in factors:
                    total = sum(
                        (at.value * by for at, by in zip(mixed, factors, strict=True) if by is not None), Decimal(0)
                    )
                    if _close(total, value * factor):
                        return tuple(at.span for at in mixed)
    return None


def _mixed(quantities: list[Quantity]) -> Iterator[list[Quantity]]:
    """Single quantities, then neighbours such as `1 hour 30 minutes` and `6 feet 2 inches`."""
    measured = [at for at in quantities if at.unit in UNITS][:200]
    yield from ([at] for at in measured)
    yield from ([a, b] for a, b in itertools.pairwise(measured) if 0 < b.span[0] - a.span[1] < 16)


def frequency(q: Question, value: Decimal) -> Found | None:
    """`monthly` is twelve times a year."""
    return _first(
        q, lambda at: at.implied and at.unit is None and at.value == value and value in TIMES_PER_YEAR.values()
    )


def arithmetic(q: Question, value: Decimal) -> Found | None:
    """One sum, difference, product or quotient of two numbers, where a word of the conversation asks for it."""
    operands = sorted((at for at in q.text.quantities if not at.implied), key=lambda at: at.span)[:MOST_OPERANDS]
    for i, a in enumerate(operands):
        for b in operands[i + 1 : i + 3]:
            if b.span[0] - a.span[1] <= _REACH and _follows(value, a, b, q.text.text[a.span[0] : b.span[1] + 25]):
                return a.span, b.span
    return None


def _follows(value: Decimal, a: Quantity, b: Quantity, between: str) -> bool:
    big, small = max(a.value, b.value), min(a.value, b.value)
    if small in (0, 1):
        return False
    results = ((_TIMES, big * small), (_PLUS, big + small), (_MINUS, big - small))
    if any(result == value and cue.search(between) for cue, result in results):
        return True
    return _close(value * small, big) and _SHARE.search(between) is not None


def negative(q: Question, value: Decimal) -> Found | None:
    """A loss, a withdrawal or a direction written without its sign."""
    words = r"\b(?:decelerat|loss|lost|withdraw|below|minus|negative|outflow|debt|owe)\w*"
    told = value < 0 and re.search(words, q.text.text, re.I) is not None
    return _first(q, lambda at: at.value == -value) if told else None


NUMBER_RULES: tuple[tuple[Code, Rule], ...] = (
    (Code.NUMBER, plain),
    (Code.NUMBER_FORMAT, formatted),
    (Code.NUMBER_WORD, in_words),
    (Code.DATE, date_part),
    (Code.NUMBER_WORD, article),
    (Code.PERCENT, percent),
    (Code.UNIT, other_unit),
    (Code.FREQUENCY, frequency),
    (Code.NUMBER_FORMAT, negative),
    (Code.ARITHMETIC, arithmetic),
)


def find_number(q: Question) -> tuple[Code, Found] | None:
    value = to_decimal(q.value)
    if value is None:
        return None
    for code, rule in NUMBER_RULES:
        found = rule(q, value)
        if found is not None:
            return code, found
    return None


def _own(q: Question) -> list[Quantity]:
    """Quantities whose unit is the parameter's own name: `7 years` for `years`."""
    names = [word.lower() for word in words_of(q.name.replace("_", " "))][-1:]
    names += [match[1].lower() for match in re.finditer(r"\b[Nn]umber of (?:\w+ )??(\w+)", q.description)]
    nouns = {form for name in names for form in (name, f"{name}s", name.removesuffix("s"))}
    return [at for at in q.text.quantities if at.unit in nouns]


def _first(q: Question, fits: Callable[[Quantity], bool]) -> Found | None:
    """The first quantity that fits; one of another unit does not where others have the parameter's own."""
    found = [at for at in q.text.quantities if fits(at)]
    if found and (own := _own(q)):
        found = [at for at in found if at in own or (at.form is not Form.WORDS and at.unit not in _MEASURES)]
    return (found[0].span,) if found else None


def _close(a: Decimal, b: Decimal) -> bool:
    return abs(a - b) <= abs(b) * Decimal("1e-9")
