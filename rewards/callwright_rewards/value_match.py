"""Whether two values are the same: one recursive rule by type, for arguments of function calls.

- null and booleans: the same type and value, so that true is no 1.
- numbers: the same value, however written; 5 is 5.0. Whether an integer is asked for is the schema's business.
- strings: the same characters, or the same after `normalised`, which is told apart.
- lists: the same length, element by element. A tuple is no list.
- objects: the same keys, value by value.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from enum import IntEnum

from callwright.types import JSON

OPTIONAL = ""
"""In a list of accepted values: the argument, or key, may be left out. It is a mark and no value."""

_QUOTES = "'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_COMMAS = ",\u3001\uff0c"
_AS = str.maketrans({**dict.fromkeys(_QUOTES, '"'), **dict.fromkeys(_DASHES, "-"), **dict.fromkeys(_COMMAS, " ")})
_SPACE = re.compile(r"\s+")
_LOOSE_SPACE = re.compile(r" (?![\w\".])|(?<![\w\".]) ")  # not beside a dot: "1. 5 eggs" is not "1.5 eggs"


class Equality(IntEnum):
    """How two values are equal; the least of a value's parts counts."""

    NORMALISED = 1
    """Only after `normalised`."""
    EXACT = 2


def normalised(text: str) -> str:
    """The same text without what is spelling and no meaning.

    Canonical Unicode (NFC), no case, one kind of quotation mark and of dash, a space for each run of white space and
    commas, and none beside punctuation other than a dot or a quotation mark. Nothing else is removed: not the
    operators of `x**2` and `x-2`, not the point of `1.5 kg`, not the dots of `10.0.0.1`.
    """
    folded = unicodedata.normalize("NFC", text).casefold().translate(_AS)
    return _LOOSE_SPACE.sub("", _SPACE.sub(" ", folded).strip())


def accepted(value: JSON, options: Sequence[JSON]) -> Equality | None:
    """How `value` is equal to one of the accepted values, or None. `OPTIONAL` is no value."""
    found = None
    for option in options:
        match = None if option == OPTIONAL else same(value, option)
        if match is Equality.EXACT:
            return match
        found = match or found
    return found


def same(value: JSON, option: JSON, *, literal: bool = False) -> Equality | None:
    """How `value` is equal to an accepted value, or None.

    An accepted object holds, for each key, a list of accepted values (anything else stands for itself); with `literal`
    it holds plain values.
    """
    if isinstance(option, str):
        return _same_text(value, option) if isinstance(value, str) else None
    if isinstance(option, Mapping):
        return _same_object(value, option, literal) if isinstance(value, dict) else None
    if isinstance(option, (list, tuple)):
        if not isinstance(value, list) or len(value) != len(option):
            return None
        return _least([same(item, part, literal=literal) for item, part in zip(value, option, strict=True)])
    if _is_number(option) and _is_number(value):
        return Equality.EXACT if value == option else None
    return Equality.EXACT if type(value) is type(option) and value == option else None


def _is_number(value: JSON) -> bool:
    return type(value) in (int, float)


def _same_text(value: str, option: str) -> Equality | None:
    if value == option:
        return Equality.EXACT
    return Equality.NORMALISED if normalised(value) == normalised(option) != "" else None


def _same_object(value: dict[str, JSON], option: Mapping[str, JSON], literal: bool) -> Equality | None:
    found: list[Equality | None] = [Equality.EXACT]
    for name, part in option.items():
        options = part if isinstance(part, list) and not literal else [part]
        if name not in value:
            found.append(Equality.EXACT if OPTIONAL in options and not literal else None)
        elif literal:
            found.append(same(value[name], part, literal=True))
        else:
            found.append(accepted(value[name], options))
    return _least(found) if all(name in option for name in value) else None


def _least(found: Sequence[Equality | None]) -> Equality | None:
    least = Equality.EXACT
    for match in found:
        if match is None:
            return None
        least = min(least, match)
    return least
