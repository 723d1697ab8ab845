"""Calls as text that is the same for equal calls, to count them. Model output is data here, nothing runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from callwright.types import JSON, Argument, Call


def canonical(value: JSON) -> str:
    """Text that is the same for equal values: JSON with sorted keys. 1, 1.0, True and "1" are four values."""
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{canonical(key)}:{canonical(one)}" for key, one in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, set | frozenset):
        return "[" + ",".join(sorted(map(canonical, value))) + "]"
    return json.dumps(value, default=repr)


def key_of_calls(calls: Sequence[Call], *, values: bool = True) -> str:
    """One text for all calls, whatever their order and that of their named arguments.

    values: whether the arguments' values belong to it; without, two completions that call the same functions with the
    same arguments by name have one key.
    """
    return "[" + ",".join(sorted(_key_of_call(call, values=values) for call in calls)) + "]"


def _key_of_call(call: Call, *, values: bool) -> str:
    parts = [
        f"{argument_name(argument, place)}:{canonical(argument.value)}" if values else argument_name(argument, place)
        for place, argument in enumerate(call.arguments)
    ]
    return f"{canonical(call.name)}({','.join(sorted(parts))})"


def argument_name(argument: Argument, place: int) -> str:
    """A name in quotes, or the place of a positional argument."""
    return str(place) if argument.name is None else canonical(argument.name)
