"""One value of any type: what does it rest on?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from callwright.types import JSON

from callwright_rewards.grounding.choice_rules import (
    explained,
    find_boolean,
    find_choice,
    find_empty,
    is_empty,
    listed_option,
    other_choice_stated,
)
from callwright_rewards.grounding.number_rules import find_number
from callwright_rewards.grounding.quantities import to_decimal
from callwright_rewards.grounding.question import Found, Question, same_value
from callwright_rewards.grounding.string_rules import MOST_CHARACTERS, find_string, words
from callwright_rewards.grounding.support import GroundingCode as Code
from callwright_rewards.grounding.support import Support

MOST_VALUES = 256
"""Values looked for in one reply; those after them count as invented."""
MOST_DEPTH = 16
_FAILING = {
    Code.ENUM_UNSUPPORTED: Support.UNSUPPORTED,
    Code.OPTION_UNSUPPORTED: Support.UNSUPPORTED,
    Code.BOOLEAN_UNSUPPORTED: Support.UNSUPPORTED,
    Code.EMPTY_UNSUPPORTED: Support.UNSUPPORTED,
    Code.INVENTED: Support.INVENTED,
    Code.UNKNOWN_PARAMETER: Support.INVENTED,
}
_BEST_FIRST = (Support.GROUNDED, Support.DERIVED, Support.UNSUPPORTED, Support.INVENTED)


class Traced(NamedTuple):
    code: Code
    found: Found = ()

    @property
    def support(self) -> Support:
        if self.code in _FAILING:
            return _FAILING[self.code]
        return Support.DERIVED if self.code.startswith("derived_") else Support.GROUNDED


@dataclass
class Budget:
    """Values that may still be looked for."""

    left: int = MOST_VALUES


def trace(q: Question, budget: Budget, depth: int = 0) -> Traced:
    """The first rule that finds the value, or the code of the failure. Lists and dicts: their worst element."""
    budget.left -= 1
    if budget.left < 0 or depth > MOST_DEPTH:
        return Traced(Code.INVENTED)
    if is_empty(q.value):
        return _found(find_empty(q), Code.EMPTY_UNSUPPORTED)
    if isinstance(q.value, bool):
        return _found(find_boolean(q), Code.BOOLEAN_UNSUPPORTED)
    if isinstance(q.value, list | tuple):
        items = q.schema.get("items")
        schema = (
            {"description": q.description, **items} if isinstance(items, Mapping) else {"description": q.description}
        )
        return _worst((replace(q, value=item, schema=schema) for item in q.value), q, budget, depth)
    if isinstance(q.value, Mapping):
        return _worst(_entries(q, q.value), q, budget, depth)
    if q.choices:
        return _choice(q)
    if isinstance(q.value, str):
        return _string(q)
    return _number(q) if isinstance(q.value, int | float) else Traced(Code.INVENTED)


def _found(found: tuple[Code, Found] | None, otherwise: Code) -> Traced:
    return Traced(otherwise) if found is None else Traced(*found)


def _entries(q: Question, value: Mapping[str, JSON]) -> Iterable[Question]:
    properties = q.schema.get("properties")
    for key, inner in value.items():
        schema = properties.get(key) if isinstance(properties, Mapping) else None
        schema = schema if isinstance(schema, Mapping) else {"description": q.description}
        yield replace(q, value=inner, name=str(key), schema=schema, required=False)


def _worst(inner: Iterable[Question], q: Question, budget: Budget, depth: int) -> Traced:
    if q.is_default:
        return Traced(Code.DEFAULT)
    traced = []
    for question in inner:
        traced.append(trace(question, budget, depth + 1))
        if traced[-1].support is Support.INVENTED:
            break
    if len(traced) >= 3 and not _enough_mentions(q):
        return Traced(Code.INVENTED)
    worst = max(traced, key=lambda one: _BEST_FIRST.index(one.support))
    found = tuple(dict.fromkeys(span for one in traced for span in one.found))
    return Traced(Code.ELEMENTS if worst.support is Support.GROUNDED else worst.code, found)


def _enough_mentions(q: Question) -> bool:
    """Does a list of numbers repeat none of them more often than the conversation does?"""
    numbers = [to_decimal(item) for item in q.value] if isinstance(q.value, list | tuple) else []
    if None in numbers or len(set(numbers)) in (1, len(numbers)):
        return True
    spans = {(at.value, at.span) for at in q.text.quantities}
    return Counter(numbers) <= Counter(value for value, _ in spans)


def _choice(q: Question) -> Traced:
    if isinstance(q.value, str) and q.value.lower() in ("true", "false"):
        return _found(find_boolean(replace(q, value=q.value.lower() == "true")), Code.BOOLEAN_UNSUPPORTED)
    found = find_choice(q)
    if found is not None:
        return Traced(*found)
    if q.is_default and not other_choice_stated(q):
        return Traced(Code.DEFAULT)
    if len(q.choices) == 1 and same_value(q.choices[0], q.value):
        return Traced(Code.ONLY_CHOICE)
    known = any(same_value(choice, q.value) for choice in q.choices[:1000])
    return Traced(Code.ENUM_UNSUPPORTED if known else Code.INVENTED)


def _string(q: Question) -> Traced:
    if len(q.value) > MOST_CHARACTERS:
        return _found(None if (at := words(q)) is None else (Code.WORDS, at), Code.INVENTED)
    if (string := find_string(q)) is not None:
        return Traced(*string)
    if q.is_default:
        return Traced(Code.DEFAULT)
    if (at := explained(q)) is not None:
        return Traced(Code.EXPLAINED, at)
    return Traced(Code.OPTION_UNSUPPORTED if listed_option(q) else Code.INVENTED)


def _number(q: Question) -> Traced:
    found = find_number(q)
    if found is not None and found[0] is not Code.ARITHMETIC:
        return Traced(*found)
    if q.is_default:
        return Traced(Code.DEFAULT)
    if (at := explained(q)) is not None:
        return Traced(Code.EXPLAINED, at)
    return _found(found, Code.INVENTED)
