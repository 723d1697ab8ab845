"""BFCL's comparison of one argument's value with the values its key allows.

Follows the type and value checks of bfcl-eval 2026.3.23 for Python, oddities included: `type(value)` is compared, so a
bool is no int; an int is a float at the top level only; strings are compared without white space, punctuation and case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
_IGNORED = str.maketrans("'", '"', " ,./-_*^")


class Mismatch(Exception):
    """The value is not allowed; `error_type` says why in BFCL's vocabulary."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def check_value(value: JSON, allowed: Sequence[JSON], schema: Mapping[str, JSON]) -> None:
    """Raise `Mismatch` unless `value` is of the schema's type and among the `allowed` values.

    May raise AttributeError, IndexError, KeyError, TypeError or OverflowError for a key or a schema of a shape that
    BFCL does not know.
    """
    declared = schema["type"]
    expected = _TYPES[declared]
    element = _TYPES[schema["items"]["type"]] if declared in ("array", "tuple") else None
    if declared == "tuple" and type(value) is tuple:
        value = list(value)
    if declared == "float" and type(value) is int:
        value = float(value)
    if not _check_type(value, allowed, expected, element):
        if expected is dict:
            return _check_dict(value, allowed)
        if expected is list and element is dict:
            return _check_dicts(value, allowed)
        if expected is str:
            return _check_string(value, allowed)
        if expected is list:
            return _check_list(value, allowed)
    if value not in allowed:
        raise Mismatch("value_error:others", _not_among(value, allowed))
    return None


def _type_of_key(allowed: Sequence[JSON]) -> type | None:
    """Type of the first allowed value that is not the mark of an optional argument."""
    return next((type(entry) for entry in allowed if entry != ""), None)


def _check_type(value: Any, allowed: Sequence[JSON], expected: type, element: type | None) -> bool:
    """Raise `Mismatch` for a wrong type; else whether only a raw comparison with the key is left to do.

    That is BFCL's "variable" rule: a key may hold values of another type than the declared one (None, or the name of
    a variable), and such values are accepted as they are.
    """
    key_type = _type_of_key(allowed)
    if type(value) is expected:
        if element is None or _elements_fit(value, allowed, element):
            return key_type is not None and key_type is not expected
        if key_type is list:
            raise Mismatch("type_error:nested", f"the elements of {_show(value)} should be of type {element.__name__}")
    elif key_type is not None and type(value) is key_type:
        return True
    raise Mismatch("type_error:simple", f"{_show(value)} is {type(value).__name__}, not {expected.__name__}")


def _elements_fit(value: Any, allowed: Sequence[JSON], element: type) -> bool:
    """Whether some allowed value's type fits; one that is no list, such as the optional mark "", fits anything."""
    for entry in allowed:
        if type(entry) is not list or all(type(item) in (element, _type_of_key(entry)) for item in value):
            return True
    return False


def _fold(text: str) -> str:
    return text.translate(_IGNORED).lower()


def _folded(item: JSON) -> JSON:
    return _fold(item) if type(item) is str else item


def _folded_items(entry: Any) -> list[JSON]:
    return [_folded(entry[index]) for index in range(len(entry))]  # by index: a dict is no allowed list


def _check_string(value: str, allowed: Sequence[JSON]) -> None:
    if _fold(value) not in [_fold(entry) for entry in allowed if type(entry) is str]:
        raise Mismatch("value_error:string", _not_among(value, allowed))


def _check_list(value: list[JSON], allowed: Sequence[JSON]) -> None:
    if _folded_items(value) not in [_folded_items(entry) for entry in allowed]:
        raise Mismatch("value_error:list/tuple", _not_among(value, allowed))


def _check_dict(value: dict[str, JSON], allowed: Sequence[JSON]) -> None:
    mismatch = Mismatch("dict_checker:unclear", f"{_show(value)}, where the key allows no dict")
    for entry in allowed:
        if entry == "":
            continue
        found = _dict_mismatch(value, entry)
        if found is None:
            return
        mismatch = found
    raise mismatch


def _dict_mismatch(value: dict[str, JSON], entry: Mapping[str, Sequence[JSON]]) -> Mismatch | None:
    mismatch = None
    for name, item in value.items():
        if name not in entry:
            mismatch = Mismatch("value_error:dict_key", f"the dict key {name!r} is not expected")
            break
        if _folded(item) not in _folded_items(entry[name]):
            mismatch = Mismatch("value_error:dict_value", f"{name!r}: {_not_among(item, entry[name])}")
            break
    for name, items in entry.items():
        if name not in value and "" not in items:
            return Mismatch("value_error:dict_key", f"the dict key {name!r} is missing")
    return mismatch


def _check_dicts(value: list[JSON], allowed: Sequence[JSON]) -> None:
    mismatch = Mismatch("list_dict_checker:unclear", f"{_show(value)}, where the key allows nothing")
    for entry in allowed:
        if len(value) != len(entry):
            mismatch = Mismatch("value_error:list_dict_count", f"{len(value)} dicts instead of {len(entry)}")
            continue
        try:
            for index, item in enumerate(value):
                _check_dict(item, [entry[index]])
            return
        except Mismatch as found:
            mismatch = found
    raise mismatch


def _show(value: object, limit: int = 200) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a huge number"
    return text if len(text) <= limit else f"{text[:limit]}..."


def _not_among(value: JSON, allowed: Sequence[JSON]) -> str:
    return f"{_show(value)} is not among the allowed {_show(allowed)}"
