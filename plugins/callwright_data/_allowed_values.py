"""The values that an answer allows, one by one as a reply would give them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from callwright.types import JSON

MAX_CHOICES = 4096
"""Combinations of allowed values that are tried for an argument before it is left open whether one of them is right."""


class _LeftOut:
    def __repr__(self) -> str:
        return "LEFT_OUT"


LEFT_OUT: Final = _LeftOut()
"""In the place of a value: the argument, or key, is not given."""


def is_optional_mark(option: JSON) -> bool:
    """Whether it is the "" that stands for leaving the argument out."""
    return isinstance(option, str) and not option


def may_be_left_out(allowed: Sequence[JSON]) -> bool:
    return any(map(is_optional_mark, allowed))


def choices(allowed: Sequence[JSON]) -> Iterator[JSON]:
    """What can be given for an argument with these allowed values, the first one first; `LEFT_OUT`, where that is
    allowed, comes last. May be many: at most `MAX_CHOICES` of each allowed value."""
    for option in allowed:
        if not is_optional_mark(option):
            yield from plain_values(option)
    if may_be_left_out(allowed):
        yield LEFT_OUT


def plain_values(option: JSON) -> Iterator[JSON]:
    """The plain values that one allowed value stands for: an allowed object holds, for each key, a list of them."""
    if isinstance(option, Mapping):
        parts = [choices(part if isinstance(part, list | tuple) else [part]) for part in option.values()]
        for chosen in _combinations(parts):
            yield {name: value for name, value in zip(option, chosen, strict=True) if value is not LEFT_OUT}
    elif isinstance(option, list | tuple):
        for chosen in _combinations([plain_values(item) for item in option]):
            yield list(chosen)
    else:
        yield option


def _combinations(parts: Sequence[Iterator[JSON]]) -> Iterator[tuple[JSON, ...]]:
    # `product` lists every part, so that each is cut: then there are that many combinations too
    return itertools.islice(itertools.product(*(itertools.islice(part, MAX_CHOICES) for part in parts)), MAX_CHOICES)
