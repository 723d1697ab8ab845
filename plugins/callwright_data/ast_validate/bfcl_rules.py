"""An answer against BFCL's own checker, which is more tolerant than JSON Schema in some things and less in others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from callwright import Answer, Task
from callwright.types import JSON
from callwright_rewards.ast_match import bfcl_key
from callwright_rewards.bfcl import Checker
from callwright_rewards.bfcl_values import Mismatch, show

from callwright_data._allowed_values import LEFT_OUT, MAX_CHOICES, is_optional_mark, may_be_left_out, plain_values
from callwright_data.ast_validate.findings import Finding, FindingCode

_UNCOMPARABLE = (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError, StopIteration)
"""What the checker raises for a key or a schema of a shape that BFCL does not know."""
_STRANGE = Mismatch("strange", ("the key, or the schema, has a shape that BFCL does not know",))


def check_bfcl(task: Task, answer: Answer) -> list[Finding]:
    """What makes it certain that no reply satisfies BFCL's checker (`callwright_rewards.bfcl`).

    The checker judges every argument by itself, so that they are searched one after the other; and its greedy matching
    never mistakes a reply whose calls are in the key's order. The reply that is found is put to the whole checker.
    """
    functions, key, category = bfcl_key(task, answer)
    checker = Checker(functions, key, category)
    found: list[Finding] = []
    reply = []
    for number, call in enumerate(key):
        try:
            expected = checker.expected(number)
        except _UNCOMPARABLE:
            message = f"{show(next(iter(call), call))} is not offered, or not described as BFCL does"
            found.append(Finding(FindingCode.UNKNOWN_FUNCTION, message))
            continue
        arguments: dict[str, JSON] = {}
        found += _call_findings(expected, arguments)
        reply.append({expected.name: arguments})
    if not found and LEFT_OUT not in [value for call in reply for given in call.values() for value in given.values()]:
        result = checker.check_decoded(reply)
        if not result.valid:
            found.append(Finding(FindingCode.UNSATISFIABLE, f"{result.error_type}: {result.message}"))
    return found


def _call_findings(expected: Any, arguments: dict[str, JSON]) -> Iterator[Finding]:
    """What is wrong with one call of the key, as the checker has made it ready; fills in a right value for each
    argument, and `LEFT_OUT` where it is open whether there is one."""
    for name in expected.required:
        if name not in expected.allowed:
            message = f"{expected.name}: the parameter {show(name)} is required, and has no allowed value"
            yield Finding(FindingCode.MISSING_REQUIRED, message)
    for name, allowed in expected.allowed.items():
        if may_be_left_out(allowed) and name not in expected.required:
            continue
        if name not in expected.properties:
            yield Finding(FindingCode.UNKNOWN_PARAMETER, f"{expected.name}: there is no parameter {show(name)}")
            continue
        value, mismatch = _search(expected, name, allowed)
        arguments[name] = value
        if mismatch is not None:
            wrong_type = mismatch.error_type.startswith("type_error") and len(allowed) > 0
            code = FindingCode.WRONG_TYPE if wrong_type else FindingCode.UNSATISFIABLE
            text = str(mismatch.detail[0]).format(*map(show, mismatch.detail[1:])) if allowed else "no value is allowed"
            yield Finding(code, f"{expected.name}: {name}: {text}")


def _search(expected: Any, name: str, allowed: Sequence[JSON]) -> tuple[JSON, Mismatch | None]:
    """A value that the checker accepts; or `LEFT_OUT`, with what is wrong with the first if it is certain that none
    is."""
    first: Mismatch | None = None
    for count, value in enumerate(_candidates(allowed), 1):
        try:
            mismatch = expected.prepare(name).check(value)
        except _UNCOMPARABLE:
            mismatch = _STRANGE
        if mismatch is None:
            return value, None
        if count >= MAX_CHOICES:
            return LEFT_OUT, None
        first = first or mismatch
    return LEFT_OUT, first or Mismatch("no value", ("no value is allowed",))


def _candidates(allowed: Sequence[JSON]) -> Iterator[JSON]:
    """Every value that BFCL's checker may accept because of an allowed one."""
    for option in allowed:
        if is_optional_mark(option):
            yield from ("", [])  # the mark is a legal text, and by its length an empty list
            continue
        yield option  # inside objects, BFCL compares lists and objects as they stand in the key
        for value in plain_values(option):
            yield value
            if isinstance(value, list):  # BFCL takes 1 for 1.0, but not in a list
                yield [float(item) if type(item) is int else item for item in value]
