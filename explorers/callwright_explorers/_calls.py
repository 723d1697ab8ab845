"""The calls of a completion in a form that can be counted and compared. Model output is data here, nothing runs it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from callwright import Argument, Call, Parse, ParseStatus
from callwright.types import JSON


def canonical(value: JSON) -> str:
    """Text that is the same for equal values: JSON with sorted keys. 1, 1.0, True and "1" are four values."""
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{canonical(key)}:{canonical(one)}" for key, one in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, set | frozenset):
        return "[" + ",".join(sorted(map(canonical, value))) + "]"
    return json.dumps(value, default=repr)


def key_of_calls(calls: tuple[Call, ...], *, values: bool = True) -> str:
    """One text for all calls, whatever their order and that of their named arguments.

    values: whether the arguments' values belong to it; without, two completions that call the same functions with the
    same arguments by name have one key.
    """
    return "[" + ",".join(sorted(_key_of_call(call, values=values) for call in calls)) + "]"


def _key_of_call(call: Call, *, values: bool) -> str:
    parts = [
        f"{_name(argument, place)}:{canonical(argument.value)}" if values else _name(argument, place)
        for place, argument in enumerate(call.arguments)
    ]
    return f"{canonical(call.name)}({','.join(sorted(parts))})"


def _name(argument: Argument, place: int) -> str:
    """A name in quotes, or the place of a positional argument."""
    return str(place) if argument.name is None else canonical(argument.name)


Item = tuple[str, ...]


def items_of(parse: Parse) -> Counter[Item]:
    """What a completion says, as a multiset: each call's function, and each of its (function, argument, value).

    A completion that calls nothing says one thing, the same for all of its kind; an unparsable one says its own text.
    """
    if parse.status is ParseStatus.UNPARSABLE:
        return Counter([("unparsable", "", "", parse.text)])
    if not parse.calls:
        return Counter([("no call", "", "", "")])
    items: Counter[Item] = Counter()
    for call in parse.calls:
        items[(call.name,)] += 1
        items.update((call.name, _name(one, place), canonical(one.value)) for place, one in enumerate(call.arguments))
    return items


def similarity(first: Counter[Item], second: Counter[Item]) -> float:
    """Jaccard index of two multisets: shared items over items in either, between 0 and 1."""
    return (first & second).total() / (first | second).total()
