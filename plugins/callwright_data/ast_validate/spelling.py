"""Harmless spelling: what a name or a value was meant to be, where only one thing can be meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from callwright.types import JSON
from callwright_rewards import plain_schema

from callwright_data._literals import literal

MAX_QUOTED = 10_000
"""Characters of a text that is looked at as a value."""
_SEPARATORS = str.maketrans("", "", "-_./ ")
_WORDS: dict[str, JSON] = {"true": True, "false": False, "null": None, "none": None}
"""In any case of their letters."""


def alike(name: str, names: Iterable[str]) -> str | None:
    """The only one of `names` that differs from `name` at most in case and in `-_./` and space; None if there are more,
    or none."""
    wanted = _skeleton(name)
    found = [one for one in names if isinstance(one, str) and _skeleton(one) == wanted]
    return found[0] if len(found) == 1 and wanted else None


def _skeleton(name: str) -> str:
    return name.translate(_SEPARATORS).casefold()


def respelt(value: JSON, schema: JSON, fits: Callable[[JSON], bool], *, literal: bool) -> JSON:
    """The value that was meant by one that does not fit: `value` itself where that is not certain.

    fits: whether a value is right. The result may be right or not. With `literal` objects hold plain values, else lists
    of allowed ones.
    """
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, str):
        return _from_text(value, schema, fits)
    if type(value) is float and value.is_integer() and fits(int(value)):
        return int(value)
    return _inside(value, schema, literal)


def _from_text(text: str, schema: Mapping[str, Any], fits: Callable[[JSON], bool]) -> JSON:
    meant: JSON = alike(text, schema.get("enum", ()))
    if meant is not None and fits(meant):
        return meant
    word = text.strip().casefold()
    if word in _WORDS:
        meant = _WORDS[word]
    elif len(text) > MAX_QUOTED:
        return text
    else:
        try:
            meant = literal(text)
        except ValueError:
            return text
    if type(meant) is float and not fits(meant) and meant.is_integer():
        meant = int(meant)
    return meant if fits(meant) else text


def _inside(value: JSON, schema: Mapping[str, Any], literal: bool) -> JSON:
    """A list or an object with its parts respelt, each by its own simple schema."""

    def part(inner: JSON, inner_schema: JSON) -> JSON:
        if plain_schema.simple_fits(inner_schema, inner):
            return inner
        return respelt(inner, inner_schema, lambda one: plain_schema.simple_fits(inner_schema, one), literal=literal)

    if isinstance(value, list) and "items" in schema:
        return [part(item, schema["items"]) for item in value]
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        changed = {}
        for name, inner in value.items():
            known = properties.get(name, True)
            if literal or not isinstance(inner, list):
                changed[name] = part(inner, known)
            else:
                changed[name] = [part(option, known) for option in inner]
        return changed
    return value
