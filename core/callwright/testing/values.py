"""Argument values: right ones for a JSON Schema, and wrong ones for a right one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from callwright.types import JSON

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty", "kayak", "lotus")
"""What right text values and names are made of: plain words, so that no reward may take two of them for the same."""
WRONG_WORDS = "zebra quartz"
"""A text that no task mentions."""


def schemas(depth: int = 1) -> SearchStrategy[dict[str, JSON]]:
    """JSON Schemas of one argument: scalar, enum, array of scalars, or a flat object."""
    scalars: SearchStrategy[dict[str, JSON]] = st.sampled_from(
        [{"type": "integer"}, {"type": "string"}, {"type": "number"}, {"type": "boolean"}]
    )
    choices = st.lists(st.sampled_from(WORDS), min_size=2, max_size=4, unique=True)
    enums = choices.map(lambda words: {"type": "string", "enum": words})
    if not depth:
        return scalars
    arrays = scalars.map(lambda items: {"type": "array", "items": items})
    objects = st.dictionaries(st.sampled_from(WORDS), scalars, min_size=1, max_size=2).map(
        lambda properties: {"type": "object", "properties": properties, "required": list(properties)}
    )
    return st.one_of(scalars, scalars, enums, arrays, objects)


def values(schema: Mapping[str, JSON]) -> SearchStrategy[JSON]:
    """JSON values that fit a schema of the keywords type, enum, const, items, properties, minimum and maximum.

    Texts are one to three plain words, numbers are small, arrays hold up to three distinct elements: values that are
    easy to tell apart, and that a question can mention.
    """
    if "enum" in schema:
        return st.sampled_from(list(schema["enum"]))
    if "const" in schema:
        return st.just(schema["const"])
    kinds = schema.get("type", "string")
    if isinstance(kinds, list):
        return st.one_of([values({**schema, "type": kind}) for kind in kinds])
    low, high = int(schema.get("minimum", -9999)), int(schema.get("maximum", 9999))
    if kinds == "integer":
        return st.integers(low, high)
    if kinds == "number":
        return st.integers(low, max(low, high - 1)).map(lambda whole: whole + 0.5)
    if kinds == "boolean":
        return st.booleans()
    if kinds == "null":
        return st.none()
    if kinds == "array":
        items = values(schema.get("items") or {"type": "string"})
        return st.lists(items, min_size=1, max_size=3, unique_by=repr)
    if kinds == "object":
        return st.fixed_dictionaries({name: values(inner) for name, inner in schema.get("properties", {}).items()})
    return st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True).map(" ".join)


def wrong_values(value: JSON) -> Iterator[tuple[str, JSON]]:
    """(kind of mistake, value): values that are near `value`, and wrong by any honest comparison.

    Leaves out what reasonable verifiers forgive: another case or punctuation inside a text, an integer for a float.
    """
    if isinstance(value, bool):
        yield from (("wrong_value", not value), ("wrong_type", int(value)), ("wrong_type", str(value)))
    elif isinstance(value, int | float):
        yield from (("off_by_one", near) for near in (value + 1, value - 1) if near != value)  # not of a large float
        yield "wrong_type", str(value)
        if value in (0, 1) and isinstance(value, int):
            yield "wrong_type", bool(value)  # Python's True == 1
    elif isinstance(value, str):
        yield from (("wrong_value", WRONG_WORDS), ("wrong_type", 7), ("wrong_type", [value]))
    elif isinstance(value, list | tuple):
        yield from _wrong_lists(list(value))
    elif isinstance(value, dict):
        yield from _wrong_objects(value)


def _wrong_lists(value: list[JSON]) -> Iterator[tuple[str, JSON]]:
    if value and not same_value(value[::-1], value):
        yield "reorder", value[::-1]
    if value:
        yield "drop", value[:-1]
        yield "add", [*value, next(wrong_values(value[-1]))[1]]
        yield "wrong_value", [next(wrong_values(value[0]))[1], *value[1:]]
    yield "wrong_type", WRONG_WORDS


def _wrong_objects(value: dict[str, Any]) -> Iterator[tuple[str, JSON]]:
    for key, inner in value.items():
        yield "drop", {name: other for name, other in value.items() if name != key}
        yield "rename", {(f"{name}_x" if name == key else name): other for name, other in value.items()}
        yield from ((kind, {**value, key: wrong}) for kind, wrong in wrong_values(inner))
    yield "wrong_type", WRONG_WORDS


def same_value(first: JSON, second: JSON) -> bool:
    """Equal and of the same type, all the way down; a tuple is a list."""
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same_value, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same_value(first[key], second[key]) for key in first)
    return type(first) is type(second) and bool(first == second)
