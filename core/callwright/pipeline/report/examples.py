"""A changed row as a person reads it: cut where it is long, with what the stage changed marked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Any

from callwright.pipeline.prepared import Change
from callwright.types import JSON

LONGEST = 1200
"""Characters of a text that are shown."""
CONTEXT = 150
"""Characters of a long text that are shown before its first difference."""
NOT_KNOWN, NO_CALL = "(not known)", "(no call)"
_PARTS = re.compile(r"\w+|\s+|[^\w\s]")

Pieces = list[tuple[str, bool]]
"""A text in pieces, and whether each differs from the other text."""


@dataclass(frozen=True, slots=True)
class Field:
    """Something of a row, cut to what is shown."""

    name: str
    before: str
    after: str | None
    """None where there is nothing to compare with: the row was dropped."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row that a step dropped, corrected or could not read."""

    row: int
    id: str | None
    explanation: str
    fields: tuple[Field, ...]


def example(change: Change) -> Example:
    fields = () if change.before is None else tuple(_fields(change.before, change.after))
    row_id = None if change.id is None else cut(change.id)
    return Example(change.row, row_id, cut(change.explanation), fields)


def question(messages: Sequence[Mapping[str, JSON]]) -> str:
    """What the user said last."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            return content if isinstance(content, str) else _json(content)
    return ""


def _fields(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> list[Field]:
    """Question, names of the tools and answer; of a corrected row also what else was changed, as JSON."""
    old, new = _readable(before), None if after is None else _readable(after)
    fields = [_field(name, text, None if new is None else new[name]) for name, text in old.items()]
    if after is not None and new is not None:
        for name in ("messages", "tools", "meta"):
            texts = _json(before.get(name)), _json(after.get(name))
            shown = {"messages": "question", "tools": "tools"}.get(name)
            if texts[0] != texts[1] and (shown is None or old[shown] == new[shown]):
                fields.append(_field(f"{name}, as JSON", *texts))
    return fields


def _readable(row: Mapping[str, Any]) -> dict[str, str]:
    names = [str(tool["name"]) for tool in row["tools"]]
    return {"question": question(row["messages"]), "tools": ", ".join(names) or "(none)", "answer": _answer(row)}


def _answer(row: Mapping[str, Any]) -> str:
    """A line for each call, with the values that each argument may have."""
    if row["answer"] is None:
        return NOT_KNOWN
    calls = (
        f"{call['name']}({', '.join(f'{name}={_json(values)}' for name, values in call['arguments'].items())})"
        for call in row["answer"]
    )
    return "\n".join(calls) or NO_CALL


def _json(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def _field(name: str, before: str, after: str | None) -> Field:
    if after is None:
        return Field(name, cut(before), None)
    start = 0
    if max(len(before), len(after)) > LONGEST:
        start = max(0, _in_common(before, after) - CONTEXT)
    return Field(name, cut(before, start), cut(after, start))


def cut(text: str, start: int = 0) -> str:
    """At most `LONGEST` characters of it from `start` on, with marks where there are more."""
    end = start + LONGEST
    more = f" … ({len(text):,} characters in all)" if len(text) > end else ""
    return ("… " if start else "") + text[start:end] + more


def differences(before: str, after: str) -> tuple[Pieces, Pieces]:
    """Both texts, with the words and signs marked that only one of them has."""
    old, new = _PARTS.findall(before), _PARTS.findall(after)
    # The matcher's time grows with the square of the lengths, and most corrections are small.
    start = _in_common(old, new)
    end = _in_common(old[start:][::-1], new[start:][::-1])
    matcher = SequenceMatcher(None, old[start : len(old) - end], new[start : len(new) - end], autojunk=False)
    marked: tuple[Pieces, Pieces] = ([("".join(old[:start]), False)], [("".join(new[:start]), False)])
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        marked[0].append(("".join(old[start + old_from : start + old_to]), kind != "equal"))
        marked[1].append(("".join(new[start + new_from : start + new_to]), kind != "equal"))
    tail = "".join(old[len(old) - end :])
    both = [[piece for piece in (*some, (tail, False)) if piece[0]] for some in marked]
    return both[0], both[1]


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many signs or words are the same from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
