"""A text that can be asked, in time that does not grow with it, whether it holds a word, a number or a date."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property, lru_cache

from callwright.types import Span

from callwright_rewards.grounding.calendar_dates import Clock, Day, clocks_in, days_in
from callwright_rewards.grounding.quantities import Quantity, quantities_in

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_MOST_OCCURRENCES = 64


class TextIndex:
    """A text with its words, numbers and dates. Every part is made when first asked for, once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lower(self) -> str:
        """The text in lower case, character for character: positions stay the same."""
        low = self.text.lower()
        return low if len(low) == len(self.text) else "".join(c.lower()[:1] or c for c in self.text)

    @cached_property
    def words(self) -> list[tuple[str, Span]]:
        """Stems in order, with their places."""
        return [(stem(found[0]), found.span()) for found in _WORD.finditer(self.text)]

    @cached_property
    def stems(self) -> dict[str, Span]:
        """Every stem, with its first place."""
        places: dict[str, Span] = {}
        for word, span in self.words:
            places.setdefault(word, span)
        return places

    @cached_property
    def beginnings(self) -> dict[str, Span]:
        """The first six letters of every longer stem: what `cardiology` and `cardiologist` share."""
        places: dict[str, Span] = {}
        for word, span in self.words:
            if len(word) >= 6:
                places.setdefault(word[:6], span)
        return places

    @cached_property
    def squeezed(self) -> str:
        """Letters and digits only, folded: no case, no accents, no spaces, no punctuation."""
        return squeeze(self.text)

    @cached_property
    def _offsets(self) -> list[int]:
        """For every character of `squeezed`, its position in the text."""
        return [position for position, char in enumerate(self.text) for _ in _squeeze_char(char)]

    @cached_property
    def formula(self) -> str:
        """The text as formulas are compared."""
        return plain_formula(self.text)

    @cached_property
    def quantities(self) -> list[Quantity]:
        return quantities_in(self.text)

    @cached_property
    def days(self) -> list[Day]:
        return days_in(self.text)

    @cached_property
    def clocks(self) -> list[Clock]:
        return clocks_in(self.text)

    @cached_property
    def initials(self) -> str:
        """First letters of the words, lower case; position i belongs to word i."""
        return "".join(word[0] for word, _ in self.words)

    def find(self, phrase: str) -> Span | None:
        """Where the phrase stands, to the character, as whole words."""
        return _whole(self.text, self.text, phrase, 0)

    def find_any_case(self, phrase: str) -> Span | None:
        return _whole(self.lower, self.text, phrase.lower(), 0)

    def find_squeezed(self, phrase: str) -> Span | None:
        """Where the phrase stands as whole words, whatever the case, accents, spaces and punctuation."""
        wanted = squeeze(phrase)
        start = self.squeezed.find(wanted) if wanted else -1
        for _ in range(_MOST_OCCURRENCES):
            if start < 0:
                return None
            first, last = self._offsets[start], self._offsets[start + len(wanted) - 1]
            if _is_whole(self.text, first, last + 1):
                return first, last + 1
            start = self.squeezed.find(wanted, start + 1)
        return None


def _whole(haystack: str, text: str, phrase: str, start: int) -> Span | None:
    for _ in range(_MOST_OCCURRENCES):
        start = haystack.find(phrase, start) if phrase else -1
        if start < 0:
            return None
        if _is_whole(text, start, start + len(phrase)):
            return start, start + len(phrase)
        start += 1
    return None


def _is_whole(text: str, start: int, end: int) -> bool:
    """Does no word go on beyond the borders? Scripts without spaces between words have no such borders."""

    def joined(left: int) -> bool:
        pair = text[left : left + 2] if left >= 0 else ""
        return len(pair) == 2 and pair.isalnum() and all(ord(char) < 0x2E80 for char in pair)

    return not joined(start - 1) and not joined(end - 1)


def squeeze(text: str) -> str:
    if text.isascii():
        return "".join(char for char in text.lower() if char.isalnum())
    return "".join(map(_squeeze_char, text))


@lru_cache(maxsize=4096)
def _squeeze_char(char: str) -> str:
    folded = unicodedata.normalize("NFKD", char.casefold())
    return "".join(part for part in folded if part.isalnum())


def plain_formula(text: str) -> str:
    """Without spaces, brackets, multiplication signs and module names; powers as `^`."""
    for old, new in (("**", "^"), ("²", "^2"), ("³", "^3"), ("\u00d7", "*"), ("\u2212", "-"), ("\\", "")):
        text = text.replace(old, new)
    return re.sub(r"[\s*{}()]|(?:math|np|numpy)\.", "", text).lower()


def fold(text: str) -> str:
    """Lower case without accents."""
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The word without English endings of number and tense: rough, but the same rough on both sides."""
    word = fold(word)
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
    for ending in ("ing", "ed", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz0123456789":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def words_of(text: str) -> Iterator[str]:
    """Words of the text, with names in camel case taken apart."""
    for found in _WORD.finditer(text):
        yield from _CAMEL.split(found[0])
