"""Near misses and rewrites: of calls as text, and of whole completions in any dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from callwright.testing import json_code, python_code, python_rewrites
from callwright.testing.python_code import Change, call_of, from_python, to_python
from callwright.testing.scoring import gold_calls, gold_text, render, render_with_any, takes_thinking, thinking_of
from callwright.testing.values import same_value
from callwright.types import Call, CallwrightError, Dialect, Parse, ParseStatus, Task, Tool

MOST = 50
"""Mutations of one text that the laws look at: those of a long list of calls repeat themselves."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A changed text."""

    kind: str
    """What was done: rename_function, drop_argument, off_by_one, quotes, ..."""
    text: str


def near_misses(call: Call | str) -> SearchStrategy[Mutation]:
    """Texts that are nearly `call` and mean something else.

    call: a call, or Python code: one call or a list of them, with literal arguments. All that is not changed stays as
    it was written, to the character. Kinds: rename_function, wrong_case_function, rename_argument,
    wrong_case_argument, drop_argument, add_argument, swap_values, wrong_value, wrong_type, off_by_one, reorder (of a
    list's elements), drop, add and rename (inside lists and objects); duplicate_call, add_call and drop_call.

    Raises `CallwrightError` for a text that is no call.
    """
    text = _code(call)
    return _any_of(text, python_code.near_misses(text))


def rewrites(call: Call | str) -> SearchStrategy[Mutation]:
    """Texts that mean what `call` means.

    call: a call, Python code as in `near_misses`, or a call as JSON. Kinds: argument_order, quotes, white_space,
    line_break, number_spelling, trailing_comma, key_order; of JSON also escapes and synonym (`parameters` for
    `arguments`).
    """
    text = _code(call)
    is_json = text.lstrip().startswith(("{", '[{"'))
    return _any_of(text, json_code.rewrites(text) if is_json else python_rewrites.rewrites(text))


def _code(call: Call | str) -> str:
    return call if isinstance(call, str) else to_python([call])[1:-1]


def _any_of(text: str, changes: Iterator[Change]) -> SearchStrategy[Mutation]:
    return st.sampled_from([Mutation(kind, new) for kind, new in changes if new != text])


# ------------------------------------------------------------------------------------------ of whole completions


def same_calls(first: Parse, second: Parse) -> bool:
    """Whether two parses make the same calls, up to the order of arguments."""

    def plain(parse: Parse) -> list[object]:
        return [call.to_json() for call in parse.calls]

    def complete(parse: Parse) -> list[int]:
        return [len(call.arguments) for call in parse.calls]

    return same_value(plain(first), plain(second)) and complete(first) == complete(second)


def completion_rewrites(dialect: Dialect, task: Task) -> list[Mutation]:
    """The right completion of a task, written otherwise: those that the dialect reads as the same calls."""
    return _remembered(_completion_rewrites, dialect, task)


def completion_near_misses(dialect: Dialect, task: Task) -> list[Mutation]:
    """The right completion of a task, spoiled in every way: those that the dialect reads as other calls, or as none."""
    return _remembered(_completion_near_misses, dialect, task)


_memory: dict[tuple[object, ...], tuple[Dialect, list[Mutation]]] = {}


def _remembered(make: Callable[[Dialect, Task], list[Mutation]], dialect: Dialect, task: Task) -> list[Mutation]:
    """Every law looks at the same tasks, so that their mutations are made once."""
    same = repr(dialect) if is_dataclass(dialect) else id(dialect)
    key = (make, type(dialect), same, repr(task))
    if key not in _memory:
        if len(_memory) >= 2000:
            _memory.clear()
        _memory[key] = dialect, make(dialect, task)  # the dialect too: no other one may get its id
    return _memory[key][1]


def _completion_rewrites(dialect: Dialect, task: Task) -> list[Mutation]:
    gold = gold_text(dialect, task)
    parse = dialect.parse(gold)
    found: dict[str, Mutation] = {}
    for kind, text in _in_place(parse, python_rewrites.rewrites, json_code.rewrites):
        if text not in (gold, *found) and same_calls(dialect.parse(text), parse):
            found[text] = Mutation(kind, text)
    return list(found.values())[:MOST]


def _completion_near_misses(dialect: Dialect, task: Task) -> list[Mutation]:
    gold = gold_text(dialect, task)
    parse = dialect.parse(gold)
    wanted = gold_calls(task)
    changes = list(_spoiled(dialect, task, wanted, parse) if wanted else _uncalled_for(dialect, task))
    found: dict[str, Mutation] = {}
    for kind, text in changes:
        other = dialect.parse(text)
        if other.status is not parse.status or not same_calls(other, parse):
            found.setdefault(text, Mutation(kind, text))
    return _spread(list(found.values()))


def _spread(mutations: list[Mutation]) -> list[Mutation]:
    """At most MOST of them, and every kind."""
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for index, mutation in enumerate(mutations):
        seen[mutation.kind] = seen.get(mutation.kind, -1) + 1
        ranked.append((seen[mutation.kind], index))
    return [mutations[index] for index in sorted(index for _, index in sorted(ranked)[:MOST])]


def _spoiled(dialect: Dialect, task: Task, wanted: Sequence[Call], parse: Parse) -> Iterator[Change]:
    thinking = thinking_of(task)
    yield "no_call", render(dialect, [], thinking)
    if not parse.calls:
        return  # a dialect that does not read what it writes: its own laws say so
    calls_only = parse.text[slice(*_region(parse))]
    if takes_thinking(dialect):
        yield "only_in_thinking", render(dialect, [], f"{thinking} {calls_only}")
        yield "only_in_thinking", render_with_any(dialect, [], f"{thinking} {behind_thinking(parse)}")
    else:
        yield "only_in_thinking", f"<think>{parse.text}</think>"
    yield "reply_twice", parse.text + parse.text
    start, end = parse.calls[-1].span
    yield "cut_call", parse.text[: (start + end) // 2] + parse.text[end:]
    yield from changed_calls(dialect, thinking, parse, python_code.near_misses)


def behind_thinking(parse: Parse) -> str:
    """The reply without its thinking, the tags around its calls included."""
    if parse.thinking is None:
        return parse.text
    return parse.text[parse.thinking[1] :].partition(">")[2]


def changed_calls(
    dialect: Dialect, thinking: str, parse: Parse, change: Callable[[str], Iterator[Change]]
) -> Iterator[Change]:
    """The completion with its calls changed as Python code: in its place, or rendered anew where it is no Python."""
    region = _python_region(parse)
    if region is not None:
        start, end = region
        for kind, text in change(f"[{parse.text[start:end]}]"):
            yield kind, parse.text[:start] + text[1:-1] + parse.text[end:]
        return
    for kind, text in change(to_python([call_of(c.name, c.to_json()["arguments"]) for c in parse.calls])):
        try:
            yield kind, render(dialect, from_python(text), thinking)
        except CallwrightError:
            continue  # what the dialect cannot express, nobody can write by mistake


def _uncalled_for(dialect: Dialect, task: Task) -> Iterator[Change]:
    """Calls where none is wanted."""
    thinking = thinking_of(task)
    for tool in task.tools:
        text = render(dialect, [call_of(tool.name, _some_arguments(tool))], thinking)
        yield "unexpected_call", text
        called = dialect.parse(text)
        if called.calls:
            start, end = called.calls[0].span
            yield "cut_call", text[: (start + end) // 2] + text[end:]


def _some_arguments(tool: Tool) -> dict[str, object]:
    plain = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
    properties = tool.parameters.get("properties", {})
    return {
        name: schema["enum"][0] if "enum" in schema else plain.get(str(schema.get("type")), "zebra")
        for name, schema in properties.items()
    }


def _in_place(
    parse: Parse, python: Callable[[str], Iterator[Change]], as_json: Callable[[str], Iterator[Change]]
) -> Iterator[Change]:
    region = _python_region(parse)
    if region is not None:
        start, end = region
        for kind, text in python(f"[{parse.text[start:end]}]"):
            yield kind, parse.text[:start] + text[1:-1] + parse.text[end:]
        return
    for call in parse.calls:
        start, end = call.span
        for kind, text in as_json(parse.text[start:end]):
            yield kind, parse.text[:start] + text + parse.text[end:]


def _region(parse: Parse) -> tuple[int, int]:
    return parse.calls[0].span[0], parse.calls[-1].span[1]


def _python_region(parse: Parse) -> tuple[int, int] | None:
    """From the first call to the last, if that is Python code of just these calls."""
    if parse.status is not ParseStatus.CALLS:
        return None
    start, end = _region(parse)
    try:
        found = from_python(f"[{parse.text[start:end]}]")
        python_code.Source(f"[{parse.text[start:end]}]")
    except CallwrightError:
        return None
    return (start, end) if [c.name for c in found] == [c.name for c in parse.calls] else None
