"""How alike two completions' calls are. Model output is data here, nothing runs it."""

from __future__ import annotations

from collections import Counter

from callwright import Parse, ParseStatus
from callwright.call_keys import argument_name, canonical

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
        items.update(
            (call.name, argument_name(one, place), canonical(one.value)) for place, one in enumerate(call.arguments)
        )
    return items


def similarity(first: Counter[Item], second: Counter[Item]) -> float:
    """Jaccard index of two multisets: shared items over items in either, between 0 and 1."""
    return (first & second).total() / (first | second).total()
