"""Numbers in a text: `10`, `1,000`, `3.5k`, `50%`, `twenty-five`, `half a dozen`, each with its unit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from callwright.types import JSON, Span

from callwright_rewards.grounding.spellings import COUNT_WORDS, DIGITS, SCALES, TIMES_PER_YEAR

MOST_DIGITS = 40
"""Longer runs of digits are names, not numbers."""
MOST_QUANTITIES = 2000


class Form(StrEnum):
    PLAIN = "plain"
    FORMAT = "format"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that stands in a text."""

    value: Decimal
    form: Form
    span: Span
    unit: str | None = None
    """The word behind the number in lower case, whether or not it is a unit; `%` for percent."""
    implied: bool = False
    """The number itself is not written: `next week` is one week."""


_NUMBER = re.compile(
    r"(?<![a-wyzA-WYZ\u00c0-\u024f\d])(?P<sign>(?<![\w)\]])[-\u2212])?"
    r"(?P<digits>\d{1,3}(?:[,\u00a0\u202f]\d{3})+(?:\.\d+)?(?!\d)|\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})"
    r"(?P<exponent>[eE][-+]?\d{1,3}(?!\w))?"
    r"(?:[ ]?/[ ]?(?P<below>[1-9]\d{0,2})(?![\d/]))?"
    r"(?:(?:[ ]?(?P<power>(?:\*|x|\u00d7|\*\*)?[ ]?10\^|\*10\*\*)(?P<tens>[-\u2212]?\d{1,2})))?"
    r"(?:[ -]?(?P<scale>(?i:dozen|hundred|thousand|million|billion|trillion|lakh|crore|mn|bn|k)|M|B)\b)?"
    r"[ ]?-?(?P<unit>%|[a-zA-Zμµ]{1,16})?"
)
_MINUS = re.compile(r"\S [-\u2212] $")
_FEET = re.compile(r"(?P<feet>\d{1,2})\s?['\u2019\u2032]\s?(?P<inches>\d{1,2})(?:\s?[\"”″]|'')?")
_WORDS = re.compile(r"[a-zA-Z]+")
_ONE = re.compile(
    r"\b(?:an?|one|next|per|this|last|past|each|every|the|coming|upcoming|following)\s+"
    r"(?P<unit>second|minute|hour|day|week|fortnight|month|quarter|year|decade|century)\b",
    re.I,
)


def to_decimal(value: JSON) -> Decimal | None:
    """The number as it is written, None for anything that is no number or out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and value.bit_length() > 4 * MOST_DIGITS:
        return None
    number = Decimal(repr(value))
    return number if number.is_finite() else None


def quantities_in(text: str) -> list[Quantity]:
    """Numbers in digits first, then numbers in words; at most `MOST_QUANTITIES`. Time grows with the text's length."""
    found: list[Quantity] = []
    for finder in (_in_digits, _feet_and_inches, _in_words, _implied):
        for quantity in finder(text):
            found.append(quantity)
            if len(found) >= MOST_QUANTITIES:
                return found
    return found


def _in_digits(text: str) -> Iterator[Quantity]:
    for match in _NUMBER.finditer(text):
        digits = match["digits"]
        number = Decimal(re.sub(r"[,\u00a0\u202f]", "", digits) + (match["exponent"] or ""))
        number = -number if match["sign"] else number
        end = match.end("exponent") if match["exponent"] else match.end("digits")
        span, unit = (match.start(), end), _unit(match["unit"])
        west = re.match(r"\s*°?\s*(?:[WS]\b|[Ww]est\b|[Ss]outh\b)", text[end : end + 12])
        if west:
            yield Quantity(-number, Form.FORMAT, (match.start(), end + west.end()))
        form = Form.FORMAT if "," in digits else Form.PLAIN
        yield Quantity(number, form, span, unit)
        if _MINUS.search(text[max(0, match.start() - 4) : match.start()]):  # the last term of "2x - 4"
            yield Quantity(-number, Form.FORMAT, span, unit)
        if "," in digits and text[match.start() - 1 : match.start()] in ("[", "(", "{", "="):  # a list without spaces
            yield from (Quantity(Decimal(part), Form.PLAIN, span) for part in re.split(r"[,\u00a0\u202f]", digits))
        if match["below"]:
            yield Quantity(number / Decimal(match["below"]), Form.FORMAT, (match.start(), match.end("below")), unit)
            yield Quantity(Decimal(match["below"]), Form.PLAIN, match.span("below"), unit)
        if match["tens"]:
            power = Decimal(10) ** int(match["tens"].replace("\u2212", "-"))
            yield Quantity(number * power, Form.FORMAT, (match.start(), match.end("tens")), unit)
        if match["scale"]:
            scale = SCALES[{"M": "million", "B": "billion"}.get(match["scale"], match["scale"].lower())]
            yield Quantity(number * scale, Form.FORMAT, (match.start(), match.end("scale")), unit)


def _feet_and_inches(text: str) -> Iterator[Quantity]:
    for match in _FEET.finditer(text):
        yield Quantity(Decimal(match["feet"]), Form.PLAIN, match.span("feet"), "feet")
        yield Quantity(Decimal(match["inches"]), Form.PLAIN, match.span("inches"), "inches")


def _unit(word: str | None) -> str | None:
    if word is None or word == "%":
        return word
    low = word.lower()
    return "%" if low in ("percent", "percentage", "pct") else low


def _in_words(text: str) -> Iterator[Quantity]:
    """Numbers such as `one hundred and twenty-five`: a run of number words, `and` allowed inside."""
    run: list[tuple[str, Span]] = []
    for match in _WORDS.finditer(text):
        word = match[0].lower()
        near = not run or not text[run[-1][1][1] : match.start()].strip(" -")
        if run and not (near and (word in DIGITS or word in SCALES or word == "and")):
            yield from _finish(run, word if near else None)
            run = []
        if word in DIGITS or (run and near and (word in SCALES or word == "and")):
            run.append((word, match.span()))
        elif word in COUNT_WORDS:
            yield Quantity(COUNT_WORDS[word], Form.WORDS, match.span())
        elif word in SCALES and len(word) > 2:
            yield Quantity(Decimal(SCALES[word]), Form.WORDS, match.span())
        elif word in TIMES_PER_YEAR:
            yield Quantity(Decimal(TIMES_PER_YEAR[word]), Form.WORDS, match.span(), implied=True)
    yield from _finish(run, None)


def _finish(run: list[tuple[str, Span]], following: str | None) -> Iterator[Quantity]:
    while run and run[-1][0] == "and":
        run.pop()
    if not run:
        return
    total = part = 0
    for word, _ in run[:12]:
        if word in DIGITS:
            part += DIGITS[word]
        elif word == "hundred":
            part = max(part, 1) * 100
        elif word in SCALES:
            total, part = total + max(part, 1) * SCALES[word], 0
    unit = _unit(following) if following else None
    span = run[0][1][0], run[-1][1][1]
    if any(word == "and" for word, _ in run):  # "two and three" are two numbers
        yield from (Quantity(Decimal(DIGITS[word]), Form.WORDS, at, unit) for word, at in run if word in DIGITS)
    yield Quantity(Decimal(total + part), Form.WORDS, span, unit)


def _implied(text: str) -> Iterator[Quantity]:
    for match in _ONE.finditer(text):
        yield Quantity(Decimal(1), Form.WORDS, match.span(), match["unit"].lower(), implied=True)
