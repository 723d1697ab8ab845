"""Rules that find a string in the conversation, one small function per reason code, tried in order.

A rule takes a `Question` whose value is a string and returns the places where it was found, or None.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace

from callwright.types import Span

from callwright_rewards.grounding.calendar_dates import days_in
from callwright_rewards.grounding.date_rules import clock, date, only_date_words, relative_date
from callwright_rewards.grounding.quantities import Form, quantities_in
from callwright_rewards.grounding.question import Found, Question, all_or_none
from callwright_rewards.grounding.spellings import SPELLINGS, STOP_WORDS
from callwright_rewards.grounding.support import GroundingCode as Code
from callwright_rewards.grounding.text_index import TextIndex, fold, plain_formula, stem, words_of

Rule = Callable[[Question], Found | None]
MOST_CHARACTERS = 5_000
"""A longer value is judged by its words only."""
MOST_PARTS = 16
_SPLIT = re.compile(r"\s{0,3}(?:[,;|&+\n]|\s[-\u2013/]\s|\b(?:and|to|in|or|from|at|of|for|on)\b)\s{0,3}")
_SLASH = re.compile(r"[/:=_.()'\"-]+")
_FORMULA = re.compile(r"[-+*/^=]")
_OPERATOR = re.compile(r"[*^=+<>]|\d-\d")


def _one(span: Span | None) -> Found | None:
    return None if span is None else (span,)


def exact(q: Question) -> Found | None:
    return _one(q.text.find(q.value))


def case(q: Question) -> Found | None:
    return _one(q.text.find_any_case(q.value))


def spacing(q: Question) -> Found | None:
    """The same letters and digits: spaces, punctuation and accents differ, operators do not."""
    if _OPERATOR.search(q.value):
        return None
    return _one(q.text.find_squeezed(q.value))


def number(q: Question) -> Found | None:
    """A string that is one number, perhaps with a unit or a currency, in any format."""
    own = quantities_in(q.value)
    if not 0 < len(own) <= MOST_PARTS or len(content_words(q.value)) > 3:
        return None
    places = [_place_of_number(q.text, quantity.value) for quantity in own if quantity.form is not Form.WORDS]
    rest = [word for word in re.findall(r"[^\W\d_]+", q.value.lower()) if word not in STOP_WORDS]
    places += [q.text.stems.get(stem(word)) or _unit_place(q.text, word) for word in rest]
    return all_or_none(places)


def _place_of_number(text: TextIndex, value: object) -> Span | None:
    return next((quantity.span for quantity in text.quantities if quantity.value == value), None)


def _unit_place(text: TextIndex, unit: str) -> Span | None:
    for other in (unit, *SPELLINGS.get(unit, ())):
        for quantity in text.quantities:
            if quantity.unit == other:
                return quantity.span
    return None


def spelling(q: Question) -> Found | None:
    """Another spelling of the same thing: units, currencies, states, countries, languages, everyday synonyms."""
    for other in SPELLINGS.get(fold(q.value).strip(), ()):
        span = _spelled(q.text, other)
        if span is not None:
            return (span,)
    return None


def _spelled(text: TextIndex, other: str) -> Span | None:
    if len(other) > 2 or not other.isalpha():
        return text.find_any_case(other)
    return text.find(other.upper()) or next((at.span for at in text.quantities if at.unit == other), None)


def words(q: Question) -> Found | None:
    """All words that carry meaning, whatever their order and endings."""
    wanted = content_words(q.value)
    return all_or_none([q.text.stems.get(word) for word in wanted]) if wanted else None


def acronym(q: Question) -> Found | None:
    """`NYC` for New York City, and the other way round."""
    value: str = q.value.strip()
    if value.isalpha() and value.isupper() and 2 <= len(value) <= 6:
        start = q.text.initials.find(value.lower())
        if start >= 0:
            return ((q.text.words[start][1][0], q.text.words[start + len(value) - 1][1][1]),)
    parts = re.findall(r"[^\W\d_]+", value)[:12]
    initials = "".join(word[0] for word in parts if word.lower() not in ("of", "the", "and"))
    return _one(q.text.find(initials.upper())) if 2 <= len(initials) <= 8 else None


def formula(q: Question) -> Found | None:
    """The same formula: `x**2` for `x^2`, `3*x` for `3x`, behind `lambda x:` or `y=`."""
    if not _FORMULA.search(q.value) or len(q.value) > 500:
        return None
    wanted = plain_formula(re.sub(r"^\s*(?:lambda\s+[\w, ]*:|\w\s*(?:\(\w\))?\s*=)", "", q.value))
    whole = rf"(?<![\d.]){re.escape(wanted)}(?![\d^])"
    if len(wanted) < 2 or re.search(whole, q.text.formula) is None:
        return None
    spaced = r"[\s*(){}]{0,4}".join(r"(?:\*\*|\^)" if char == "^" else re.escape(char) for char in wanted)
    place = re.search(spaced, q.text.lower)
    return () if place is None else (place.span(),)


SIMPLE_RULES: tuple[tuple[Code, Rule], ...] = (
    (Code.EXACT, exact),
    (Code.CASE, case),
    (Code.SPACING, spacing),
    (Code.SPELLING, spelling),
    (Code.DATE, date),
    (Code.RELATIVE_DATE, relative_date),
    (Code.TIME, clock),
    (Code.NUMBER_FORMAT, number),
    (Code.WORDS, words),
    (Code.ACRONYM, acronym),
    (Code.FORMULA, formula),
)


def parts(q: Question) -> Found | None:
    """Every part between commas and connecting words, by the rules above; then every word of each part."""
    value = re.sub(r"\b(\w+)[:=]", lambda label: " , " if label[0] in q.description else label[0], q.value)
    for pattern in (_SPLIT, _SLASH):
        pieces = [piece for piece in pattern.split(value) if piece.strip(" .'\"")]
        if (1 if value == q.value else 0) < len(pieces) <= MOST_PARTS:
            found = _all_found([_simple(replace(q, value=piece.strip(" .'\""))) for piece in pieces])
            if found is not None:
                return found
    wanted = content_words(q.value)
    return all_or_none([_word_place(q.text, word) for word in wanted]) if len(wanted) <= 4 * MOST_PARTS else None


def _word_place(text: TextIndex, word: str) -> Span | None:
    if word in text.stems:
        return text.stems[word]
    for other in SPELLINGS.get(word, ()):
        span = _spelled(text, other)
        if span is not None:
            return span
    numbers = quantities_in(word)
    return _place_of_number(text, numbers[0].value) if numbers else None


def completed(q: Question) -> Found | None:
    """`Boston, MA` for Boston, where the parameter asks for a place; `Europe/London` for London."""
    zone = re.fullmatch(r"[A-Z]\w+/(\w+)", q.value)
    if zone:
        return _simple(replace(q, value=zone[1].replace("_", " ")))
    head, comma, tail = q.value.partition(",")
    if not comma or not head.strip() or len(tail) > 60:
        return None
    if not re.search(r"\b(?:city|town|state|country|region|location|area|place|address|abbr)", q.about, re.I):
        return None
    return _simple(replace(q, value=head.strip()))


def most_words(q: Question) -> Found | None:
    """At least four words that carry meaning, three quarters of them in the conversation."""
    wanted = content_words(q.value)
    found = [span for word in wanted if (span := q.text.stems.get(word))]
    if any(not word.isalpha() and word not in q.text.stems for word in wanted):
        return None
    return tuple(found[:16]) if len(wanted) >= 4 and 4 * len(found) >= 3 * len(wanted) else None


def typo(q: Question) -> Found | None:
    """One letter more, less or other in a word of five letters and more; the other words are there."""
    wanted = content_words(q.value)
    if len(wanted) > MOST_PARTS:
        return None
    return all_or_none([q.text.stems.get(word) or _misspelled(q.text, word) for word in wanted])


def _misspelled(text: TextIndex, word: str) -> Span | None:
    if len(word) < 5 or not word.isalpha():
        return None
    near = (span for other, span in text.stems.items() if abs(len(other) - len(word)) <= 1 and one_edit(word, other))
    return next(near, None)


def one_edit(a: str, b: str) -> bool:
    """Do the words differ by one letter put in, left out or replaced?"""
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[same + 1 :] == b[same + 1 :] or a[same + 1 :] == b[same:] or a[same:] == b[same + 1 :]


STRING_RULES: tuple[tuple[Code, Rule], ...] = (
    *SIMPLE_RULES,
    (Code.PARTS, parts),
    (Code.COMPLETED, completed),
    (Code.TYPO, typo),
    (Code.MOST_WORDS, most_words),
)
_DATE_CODES = (Code.EXACT, Code.CASE, Code.SPACING, Code.DATE, Code.RELATIVE_DATE, Code.TIME)
_DATE_RULES = tuple(rule for rule in SIMPLE_RULES if rule[0] in _DATE_CODES)
_FORMULA_RULES = tuple(rule for rule in SIMPLE_RULES if rule[0] in (Code.EXACT, Code.CASE, Code.FORMULA))


def find_string(q: Question) -> tuple[Code, Found] | None:
    """The first rule that finds the string. Of dates and formulas every sign counts: no rule for words applies."""
    rules = STRING_RULES
    if only_date_words(q.value) and (days_in(q.value[:200]) or re.search(r"\d:\d\d", q.value)):
        rules = _DATE_RULES
    elif re.search(r"\w\s*(?:\*\*|\^)", q.value):
        rules = _FORMULA_RULES
    for code, rule in rules:
        found = rule(q)
        if found is not None:
            return code, found
    return None


def _simple(q: Question) -> Found | None:
    return next((found for _, rule in SIMPLE_RULES if (found := rule(q)) is not None), None)


def content_words(text: str) -> dict[str, None]:
    """Stems of the words that carry meaning, in order, each once."""
    stems = (stem(word) for word in itertools.islice(words_of(text), 2000) if fold(word) not in STOP_WORDS)
    return dict.fromkeys(stems)


def _all_found(places: list[Found | None]) -> Found | None:
    found = tuple(dict.fromkeys(span for spans in places if spans is not None for span in spans))
    return found if places and None not in places else None
