"""One value to be traced, with all that is known about its parameter."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from callwright.types import JSON, Span

from callwright_rewards.grounding.quantities import quantities_in, to_decimal
from callwright_rewards.grounding.text_index import TextIndex, squeeze, words_of

Found = tuple[Span, ...]
"""Places in the conversation; empty where the tool itself gives the value."""

_DEFAULT = re.compile(
    r"\bdefault|\bif (?:it is )?(?:not|un)[ -]?(?:provided|specified|given|set)|doesn't specify|not specified|"
    r"\botherwise\b",
    re.I,
)
_EXPLAINED = re.compile(
    r"['\"`)]*\s*(?:for|is|means|represents?|refers? to|corresponds? to|stands for|indicates|includes?|as|to|:|=|-|\()"
    r"\s*"
    r"(?P<meaning>[^,;.\n)]{2,80})"
)
_SENTENCE = re.compile(r"(?<!\d)\.(?!\d)\s|[;\n]|\.\s(?=[A-Z])")
_AFTER, _BEFORE = 90, 45


@dataclass
class Question:
    """Does `value`, given for the parameter `name`, stand in `text`, or does its schema give it?"""

    value: JSON
    name: str
    schema: Mapping[str, JSON]
    text: TextIndex
    required: bool = False
    words_of_tool: frozenset[str] = frozenset()
    """Stems of the tool's name: words that every call of it shares."""

    @cached_property
    def description(self) -> str:
        text = self.schema.get("description")
        return text[:4000] if isinstance(text, str) else ""

    @cached_property
    def about(self) -> str:
        """Name and description, for rules that ask what the parameter is about."""
        return f"{' '.join(words_of(self.name))} {self.description}"

    @cached_property
    def choices(self) -> list[JSON]:
        """The members of the enum."""
        members = self.schema.get("enum")
        if not isinstance(members, list) and isinstance(items := self.schema.get("items"), Mapping):
            members = items.get("enum")
        return members if isinstance(members, list) else []

    @cached_property
    def default_windows(self) -> list[str]:
        """What the description says around the word `default`, in the same sentence."""
        windows = []
        for match in list(_DEFAULT.finditer(self.description))[:8]:
            after = _SENTENCE.split(self.description[match.end() : match.end() + _AFTER])[0]
            before = _SENTENCE.split(self.description[max(0, match.start() - _BEFORE) : match.start()])[-1]
            windows += [after, before]
        return windows

    @cached_property
    def explanations(self) -> list[str]:
        """What the description says that the value means: `2 for ironing service`."""
        wanted = str(self.value)
        if not 0 < len(wanted) <= 60 or wanted not in self.description:
            return []
        ends = [m.end() for m in re.finditer(rf"(?<!\w){re.escape(wanted)}(?!\w)", self.description)]
        found = (_EXPLAINED.match(self.description, end) for end in ends[:8])
        return [match["meaning"] for match in found if match]

    @cached_property
    def is_default(self) -> bool:
        """Is the value the default of the schema, or the one that the description names?"""
        if "default" in self.schema and same_value(self.schema["default"], self.value):
            return True
        return any(_names(window, self.value) for window in self.default_windows)


def all_or_none(places: list[Span | None]) -> Found | None:
    """All places, each once, if none is missing."""
    found = tuple(dict.fromkeys(span for span in places if span is not None))
    return found if places and None not in places else None


def same_value(a: JSON, b: JSON) -> bool:
    """Equal as JSON, numbers by value; strings whatever their case and punctuation; a default written as text too."""
    first, second = to_decimal(a), to_decimal(b)
    if first is not None and second is not None:
        return first == second
    if isinstance(a, str) and isinstance(b, str):
        return a == b or (squeeze(a) == squeeze(b) != "")
    if isinstance(a, str) or isinstance(b, str):
        return squeeze(_json(a)) == squeeze(_json(b)) != ""
    return type(a) is type(b) and _json(a) == _json(b)


def _json(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _names(window: str, value: JSON) -> bool:
    number = to_decimal(value)
    if number is not None:
        return any(quantity.value == number for quantity in quantities_in(window))
    if value is None:
        return bool(re.search(r"\b(?:null|none|empty|nil)\b", window, re.I))
    if value in ("", [], {}):
        return bool(re.search(r"\b(?:empty|none|null)\b|''|\"\"|\[\]|\{\}", window, re.I))
    if isinstance(value, bool | str):
        return TextIndex(window).find_squeezed(str(value)) is not None
    if isinstance(value, list):
        return all(_names(window, item) for item in value)
    return False
