"""The laws of a dialect about what it writes: it reads it back, with exact spans."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from callwright.testing.hostile import TEXTS
from callwright.testing.laws import Bench
from callwright.testing.python_code import call_of
from callwright.testing.scoring import gold_calls, gold_text
from callwright.testing.strategies import calls, completions, tasks, tool_schemas
from callwright.testing.toys import fixed_tasks
from callwright.testing.values import same_value
from callwright.types import JSON, Call, CallwrightError, Dialect, Parse, Span, Task

DialectBench = Bench[Dialect]


def parsed(bench: DialectBench, text: str) -> Parse:
    try:
        parse = bench.subject.parse(text)
    except Exception as error:
        bench.broken(f"parse raises {type(error).__name__}: {error}"[:300], f"{bench.source}.parse({text!r})")
    return parse


def refuse(bench: DialectBench, message: str, text: str, assertion: str) -> None:
    bench.broken(message, f"parse = {bench.source}.parse({text!r})\nassert {assertion}")


def any_texts(bench: DialectBench) -> SearchStrategy[str]:
    return st.one_of(completions(bench.subject), st.text(max_size=120))


def round_trip(bench: DialectBench) -> None:
    """Rendered calls come back: any names, any JSON values. A dialect may refuse what its syntax cannot write."""
    bench.search(_any_calls(bench), lambda wanted: _comes_back(bench, wanted), map(gold_calls, fixed_tasks()))


def _comes_back(bench: DialectBench, wanted: Sequence[Call]) -> None:
    try:
        text = bench.subject.render(wanted)
    except CallwrightError:
        return
    parse = parsed(bench, text)
    if not same(parse, wanted):
        expected = [call.to_json() for call in wanted]
        message = f"rendered calls are read as {parse.status}: {[call.to_json() for call in parse.calls]}"[:300]
        refuse(bench, message, text, f"[call.to_json() for call in parse.calls] == {expected!r}")


def _any_calls(bench: DialectBench) -> SearchStrategy[list[Call]]:
    """Calls of plain tools, and calls whose texts hold quotes, escapes, tags and what ends a reply."""
    tags = [
        "'",
        '"',
        "\\",
        "\n",
        "</think>",
        "<tool_call>",
        "</answer>",
        "[/TOOL_CALLS]",
        "`",
        "]",
        "}",
        *bench.subject.stop,
    ]
    texts = st.lists(st.sampled_from(tags) | st.text(max_size=4), max_size=4).map("".join)
    numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    scalars: SearchStrategy[JSON] = st.one_of(texts, numbers, st.booleans(), st.none())
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2)
    )
    arguments = st.dictionaries(st.sampled_from(["a", "b", "long_name"]), values, max_size=3)
    odd = st.lists(st.builds(call_of, st.sampled_from(["f", "get_x", "math.add"]), arguments), max_size=3)
    plain = st.lists(tool_schemas().flatmap(calls), max_size=3)
    return st.one_of(plain, odd)


def same(parse: Parse, wanted: Sequence[Call]) -> bool:
    return same_value([call.to_json() for call in parse.calls], [call.to_json() for call in wanted])


def spans(bench: DialectBench) -> None:
    """Spans lie inside the text and inside one another, and what they cut out is the name, or the value, as written."""

    def bounded(text: str) -> None:
        parse = parsed(bench, text)
        for span, inside, what in _all_spans(parse):
            if not inside[0] <= span[0] <= span[1] <= inside[1]:
                refuse(bench, f"the span {span} of {what} is not inside {inside}", text, f"not {what!r}")
        starts = [call.span for call in parse.calls]
        if any(first[1] > second[0] for first, second in itertools.pairwise(starts)):
            refuse(bench, f"spans of calls overlap or are out of order: {starts}", text, "not parse.calls")

    bench.search(any_texts(bench), bounded, TEXTS)

    def exact(wanted: Sequence[Call]) -> None:
        try:
            text = bench.subject.render(wanted)
        except CallwrightError:
            return
        for index, call in enumerate(parsed(bench, text).calls):
            for span, value, what in _cuts(call):
                if not _reads_as(text[span[0] : span[1]], value):
                    message = f"the span of {what} of call {index} cuts out {text[span[0] : span[1]]!r}, not {value!r}"
                    refuse(
                        bench, message[:300], text, f"{text[span[0] : span[1]]!r} == {value!r}  # call {index}, {what}"
                    )

    bench.search(_any_calls(bench), exact, map(gold_calls, fixed_tasks()))


def _all_spans(parse: Parse) -> Iterable[tuple[Span, Span, str]]:
    whole = (0, len(parse.text))
    for name in ("thinking", "body"):
        if (span := getattr(parse, name)) is not None:
            yield span, whole, name
    yield from ((tag, whole, "a tag") for tag in parse.tags)
    yield from ((problem.span, whole, "a problem") for problem in parse.problems if problem.span is not None)
    for call in parse.calls:
        yield call.span, whole, "a call"
        yield call.name_span, call.span, "a function's name"
        for argument in call.arguments:
            yield argument.value_span, call.span, "a value"
            if argument.name_span is not None:
                yield argument.name_span, call.span, "an argument's name"


def _cuts(call: Call) -> Iterable[tuple[Span, JSON, str]]:
    yield call.name_span, call.name, "the name"
    for argument in call.arguments:
        if argument.name_span is not None:
            yield argument.name_span, argument.name, "an argument's name"
        yield argument.value_span, argument.value, "a value"


def _reads_as(text: str, value: JSON) -> bool:
    """Whether the text is the value: bare, as JSON, or as a Python literal."""
    if text == value:
        return True
    for read in (json.loads, ast.literal_eval):
        for written in (text, f'"{text}"'):
            try:
                if same_value(read(written), value):
                    return True
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
    return False


def stop_keeps_calls(bench: DialectBench) -> None:
    """A reply that is cut behind its first stop string still makes its calls: generation ends there."""

    def test(task: Task) -> None:
        gold = gold_text(bench.subject, task)
        ends = [gold.find(stop) + len(stop) for stop in bench.subject.stop if stop in gold]
        if ends and not same(parsed(bench, gold[: min(ends)]), gold_calls(task)):
            message = "a stop string comes before the reply is complete"
            names = [call.name for call in gold_calls(task)]
            refuse(bench, message, gold[: min(ends)], f"[call.name for call in parse.calls] == {names!r}")

    bench.search(tasks(), test, fixed_tasks())
