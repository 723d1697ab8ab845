"""BFCL's comparison of one argument's value with the values its key allows.

Follows the type and value checks of bfcl-eval 2026.3.23 for Python, oddities included: `type(value)` is compared, so a
bool is no int; an int is a float at the top level only; strings are compared without white space, punctuation and case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from callwright.types import JSON

_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
_IGNORED = str.maketrans("", "", " ,./-_*^")


Detail = tuple[Any, ...]
"""A template and what it is filled with; written out only when somebody reads it, as most verdicts are but counted."""


def message_of(detail: Detail) -> str:
    return str(detail[0]).format(*map(show, detail[1:])) if detail else ""


class Mismatch(NamedTuple):
    """Why a value is not allowed; `error_type` is in BFCL's vocabulary."""

    error_type: str
    detail: Detail


class Expected:
    """One argument of a key: its allowed values and its declared type, made ready once for many replies.

    The methods may raise AttributeError, LookupError, TypeError or OverflowError for a key or a schema of a shape that
    BFCL does not know.
    """

    __slots__ = ("allowed", "declared", "element", "expected", "key_type", "lists", "scalar", "strings")

    def __init__(self, allowed: Sequence[JSON], schema: Mapping[str, JSON]) -> None:
        self.allowed = allowed
        self.declared = schema["type"]
        self.expected = _TYPES[self.declared]
        self.element = _TYPES[schema["items"]["type"]] if self.declared in ("array", "tuple") else None
        self.key_type = _type_of_key(allowed)
        scalar = type(allowed) is list and self.expected in (str, int, float, bool)
        self.scalar = self.expected if scalar else None
        self.strings: list[str] | None = None  # folded when first needed: most keys see one kind of value only
        self.lists: list[list[JSON]] | None = None

    def check(self, value: JSON) -> Mismatch | None:
        """None if `value` is of the declared type and among the allowed values."""
        if type(value) is self.scalar and value in self.allowed:
            return None  # most right values are exactly right
        if self.declared == "tuple" and type(value) is tuple:
            value = list(value)
        if self.declared == "float" and type(value) is int:
            value = float(value)
        raw = self.check_type(value)
        if isinstance(raw, Mismatch):
            return raw
        if not raw:
            if self.expected is str:
                return self.check_string(value)
            if self.expected is dict:
                return _check_dict(value, self.allowed)
            if self.expected is list:
                return _check_dicts(value, self.allowed) if self.element is dict else self.check_list(value)
        return None if value in self.allowed else Mismatch("value_error:others", _not_among(value, self.allowed))

    def check_type(self, value: Any) -> Mismatch | bool:
        """A mismatch for a wrong type; else whether only a raw comparison with the key is left to do.

        That is BFCL's "variable" rule: a key may hold values of another type than the declared one (None, or the name
        of a variable), and such values are accepted as they are.
        """
        if type(value) is self.expected:
            if self.element is None or _elements_fit(value, self.allowed, self.element):
                return self.key_type is not None and self.key_type is not self.expected
            if self.key_type is list:
                return Mismatch("type_error:nested", ("the elements of {} are not all of {}", value, self.element))
        elif self.key_type is not None and type(value) is self.key_type:
            return True
        return Mismatch("type_error:simple", ("{} is of {}, not of {}", value, type(value), self.expected))

    def check_string(self, value: str) -> Mismatch | None:
        if self.strings is None:
            entries = self.allowed
            if type(entries) is not list:  # by index, as the peer does
                entries = [entries[index] for index in range(len(entries))]
            self.strings = [_fold(entry) for entry in entries if type(entry) is str]
        if _fold(value) in self.strings:
            return None
        return Mismatch("value_error:string", _not_among(value, self.allowed))

    def check_list(self, value: list[JSON]) -> Mismatch | None:
        if self.lists is None:
            self.lists = [_folded_items(self.allowed[index]) for index in range(len(self.allowed))]
        if _folded_items(value) in self.lists:
            return None
        return Mismatch("value_error:list/tuple", _not_among(value, self.allowed))


def _type_of_key(allowed: Sequence[JSON]) -> type | None:
    """Type of the first allowed value that is not the mark of an optional argument."""
    for entry in allowed:
        if entry != "":
            return type(entry)
    return None


def _elements_fit(value: Any, allowed: Sequence[JSON], element: type) -> bool:
    """Whether some allowed value's type fits; one that is no list, such as the optional mark "", fits anything."""
    for entry in allowed:
        if type(entry) is not list or all(type(item) in (element, _type_of_key(entry)) for item in value):
            return True
    return False


def _fold(text: str) -> str:
    # quotes last: an apostrophe, unlike a quotation mark, decides how a Greek sigma before it is lowered
    return text.translate(_IGNORED).lower().replace("'", '"')


def _folded(item: JSON) -> JSON:
    return _fold(item) if type(item) is str else item


def _folded_items(entry: Any) -> list[JSON]:
    return [_folded(entry[index]) for index in range(len(entry))]  # by index: a dict is no allowed list


def _check_dict(value: dict[str, JSON], allowed: Sequence[JSON]) -> Mismatch | None:
    mismatch = Mismatch("dict_checker:unclear", ("{}, where the key allows no dict", value))
    for index in range(len(allowed)):
        if allowed[index] == "":
            continue
        found = _dict_mismatch(value, allowed[index])
        if found is None:
            return None
        mismatch = found
    return mismatch


def _dict_mismatch(value: dict[str, JSON], entry: Mapping[str, Sequence[JSON]]) -> Mismatch | None:
    mismatch = None
    for name, item in value.items():
        if name not in entry:
            mismatch = Mismatch("value_error:dict_key", ("the dict key {} is not expected", name))
            break
        if _folded(item) not in _folded_items(entry[name]):
            mismatch = Mismatch("value_error:dict_value", _not_among(item, entry[name]))
            break
    for name, items in entry.items():
        if name not in value and "" not in items:
            return Mismatch("value_error:dict_key", ("the dict key {} is missing", name))
    return mismatch


def _check_dicts(value: list[JSON], allowed: Sequence[JSON]) -> Mismatch | None:
    mismatch = Mismatch("list_dict_checker:unclear", ("{}, where the key allows nothing", value))
    for number in range(len(allowed)):
        entry = allowed[number]
        if len(value) != len(entry):
            mismatch = Mismatch("value_error:list_dict_count", ("{} dicts instead of {}", len(value), len(entry)))
            continue
        for index, item in enumerate(value):
            found = _check_dict(item, [entry[index]])
            if found is not None:
                mismatch = found
                break
        else:
            return None
    return mismatch


def show(value: object, limit: int = 200) -> str:
    """A value for a message: cut, and never an error."""
    try:
        text = value.__name__ if isinstance(value, type) else repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a huge number"
    return text if len(text) <= limit else f"{text[:limit]}..."


def _not_among(value: JSON, allowed: Sequence[JSON]) -> Detail:
    return "{} is not among the allowed {}", value, allowed
