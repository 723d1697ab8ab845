"""Texts made from a task's answer and from recorded completions. They come from the testing kit, which needs
hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from callwright.findings.finding import Silent
from callwright.types import CallwrightError, Dialect, Parse, Task


def _require_the_kit() -> None:
    if find_spec("hypothesis") is None:
        raise Silent("it needs the testing kit; run pip install 'callwright[testing]'")


def right_text(dialect: Dialect, task: Task) -> str | None:
    """A right completion; None where there is no answer or the dialect cannot write it."""
    _require_the_kit()
    from callwright.testing.scoring import gold_text

    try:
        return gold_text(dialect, task) if task.answer is not None else None
    except (CallwrightError, LookupError, TypeError):  # an answer without an accepted value, or in another form
        return None


def wrong_texts(dialect: Dialect, task: Task, most: int) -> list[str]:
    """Completions that are nearly right, of as many kinds as may be."""
    _require_the_kit()
    from callwright.testing.mutations import completion_near_misses

    try:
        mutations = completion_near_misses(dialect, task)
    except (CallwrightError, LookupError, TypeError):
        return []
    kinds = {mutation.kind: mutation.text for mutation in mutations}
    return list(kinds.values())[:most]


def other_writings(dialect: Dialect, parse: Parse) -> Iterator[tuple[str, str]]:
    """(kind, text) of a completion with its calls written otherwise, where the dialect reads the same calls."""
    _require_the_kit()
    from callwright.testing import json_code, python_rewrites
    from callwright.testing.mutations import _in_place, same_calls

    try:
        for kind, text in _in_place(parse, python_rewrites.rewrites, json_code.rewrites):
            if text != parse.text and same_calls(dialect.parse(text), parse):
                yield kind, text
    except (CallwrightError, RecursionError):
        return
