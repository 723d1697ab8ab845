"""The laws of a dialect."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from callwright.testing.cost import superlinear
from callwright.testing.hostile import TEXTS, pumped
from callwright.testing.laws import Bench, Law
from callwright.testing.mutations import behind_thinking, completion_near_misses
from callwright.testing.python_code import call_of
from callwright.testing.scoring import gold_calls, gold_text, render, render_with_any, takes_thinking, thinking_of
from callwright.testing.strategies import calls, completions, tasks, tool_schemas
from callwright.testing.toys import fixed_tasks
from callwright.testing.values import same_value
from callwright.types import JSON, Call, CallwrightError, Dialect, Parse, ParseStatus, Prompt, ReasonCode, Span, Task

DialectBench = Bench[Dialect]


def _parse(bench: DialectBench, text: str) -> Parse:
    try:
        parse = bench.subject.parse(text)
    except Exception as error:
        bench.broken(f"parse raises {type(error).__name__}: {error}"[:300], f"{bench.source}.parse({text!r})")
    return parse


def _refuse(bench: DialectBench, message: str, text: str, assertion: str) -> None:
    bench.broken(message, f"parse = {bench.source}.parse({text!r})\nassert {assertion}")


def _texts(bench: DialectBench) -> SearchStrategy[str]:
    return st.one_of(completions(bench.subject), st.text(max_size=120))


# -------------------------------------------------------------------------------------------------------- parse


def total(bench: DialectBench) -> None:
    def test(text: str) -> None:
        parse = _parse(bench, text)
        if not isinstance(parse, Parse) or parse.text != text:
            _refuse(bench, "parse must return a Parse whose text is the completion", text, f"parse.text == {text!r}")

    bench.search(_texts(bench), test, [*TEXTS, *pumped(_gold(bench), 20_000)])


def _gold(bench: DialectBench) -> str:
    return gold_text(bench.subject, fixed_tasks()[4])


def deterministic(bench: DialectBench) -> None:
    def test(text: str) -> None:
        if _parse(bench, text) != _parse(bench, text):
            expression = f"parse == {bench.source}.parse({text!r})"
            _refuse(bench, "the same text is parsed differently from one time to the next", text, expression)

    bench.search(_texts(bench), test, TEXTS)


def three_outcomes(bench: DialectBench) -> None:
    """Calls, an attempt that cannot be read, or none: a call that is cut in its middle is never an abstention."""

    def consistent(text: str) -> None:
        parse = _parse(bench, text)
        if (parse.status is ParseStatus.CALLS) != bool(parse.calls):
            message = f"the status is {parse.status}, and there are {len(parse.calls)} calls"
            _refuse(bench, message, text, "(parse.status == 'calls') == bool(parse.calls)")
        unread = any(problem.code == ReasonCode.UNPARSABLE for problem in parse.problems)
        if parse.status is ParseStatus.UNPARSABLE and not parse.problems:
            _refuse(bench, "an unparsable reply without a problem", text, "parse.problems")
        if parse.status is ParseStatus.NO_CALL and unread:
            _refuse(bench, "a problem says unparsable, the status says no call", text, "parse.status == 'unparsable'")

    bench.search(_texts(bench), consistent, TEXTS)
    bench.search(tasks(), lambda task: _outcomes_of(bench, task), fixed_tasks())


def _outcomes_of(bench: DialectBench, task: Task) -> None:
    gold = gold_text(bench.subject, task)
    parse = _parse(bench, gold)
    expected = ParseStatus.CALLS if gold_calls(task) else ParseStatus.NO_CALL
    if parse.status is not expected:
        message = f"a rendered reply of {len(gold_calls(task))} calls is read as {parse.status}"
        _refuse(bench, message, gold, f"parse.status == {str(expected)!r}")
    for mutation in completion_near_misses(bench.subject, task):
        if mutation.kind == "cut_call" and _parse(bench, mutation.text).status is ParseStatus.NO_CALL:
            message = "a malformed call is taken for an abstention"
            _refuse(bench, message, mutation.text, "parse.status != 'no_call'")


def thinking_is_no_call(bench: DialectBench) -> None:
    """Calls that stand only in the thinking are not made, and change nothing of those that are."""

    def test(task: Task) -> None:
        wanted = gold_calls(task)
        other = [call_of("lookup_zebra", {"quartz": 1})]
        dialect = bench.subject
        thought = render(dialect, other, "")
        if not takes_thinking(dialect):
            thoughts = [f"<think>{thought}</think>"]
        else:
            tagged = behind_thinking(_parse(bench, thought))
            thoughts = [
                render_with_any(dialect, [], f"{thinking_of(task)} {one}") for one in (_inside(bench, thought), tagged)
            ]
        for text in thoughts:
            if _parse(bench, text).calls:
                _refuse(bench, "a call in the thinking is taken for a call", text, "not parse.calls")
        if takes_thinking(dialect) and wanted:
            text = render(dialect, wanted, _inside(bench, thought))
            if not _same(_parse(bench, text), wanted):
                names = [call.name for call in wanted]
                message = "a call in the thinking changes the calls that are made"
                _refuse(bench, message, text, f"[call.name for call in parse.calls] == {names!r}")

    bench.search(tasks(), test, fixed_tasks())


def _inside(bench: DialectBench, text: str) -> str:
    """The text of the calls alone, without the tags around them: tags inside the thinking would close it."""
    parse = _parse(bench, text)
    return text[parse.calls[0].span[0] : parse.calls[-1].span[1]] if parse.calls else text


def linear_cost(bench: DialectBench) -> None:
    gold = _gold(bench)

    def texts(length: int) -> list[str]:
        filled = gold[: len(gold) // 2] + " a" * (length // 2) + gold[len(gold) // 2 :]
        return [*pumped(gold, length), filled, "<think>" + "a" * length, *_opened(gold, length)]

    slow = superlinear(texts, lambda text: _parse(bench, text))
    if slow is not None:
        text, taken, before = slow
        message = f"parse takes {taken:.2f} s of CPU time for {len(text)} characters, {before:.3f} s for a shorter text"
        bench.broken(message, f"{bench.source}.parse({text[:20]!r} * {len(text) // 20})  # far too slow")


def _opened(gold: str, length: int) -> Iterable[str]:
    """The reply's beginning repeated: whatever it opens is opened many times and never closed."""
    for end in range(1, min(len(gold), 24), 3):
        yield (gold[:end] * (length // end + 1))[:length]


# ------------------------------------------------------------------------------------------------------- render


def round_trip(bench: DialectBench) -> None:
    """Rendered calls come back: any names, any JSON values. A dialect may refuse what its syntax cannot write."""
    bench.search(_any_calls(bench), lambda wanted: _comes_back(bench, wanted), map(gold_calls, fixed_tasks()))


def _comes_back(bench: DialectBench, wanted: Sequence[Call]) -> None:
    try:
        text = bench.subject.render(wanted)
    except CallwrightError:
        return
    parse = _parse(bench, text)
    if not _same(parse, wanted):
        expected = [call.to_json() for call in wanted]
        message = f"rendered calls are read as {parse.status}: {[call.to_json() for call in parse.calls]}"[:300]
        _refuse(bench, message, text, f"[call.to_json() for call in parse.calls] == {expected!r}")


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


def _same(parse: Parse, wanted: Sequence[Call]) -> bool:
    return same_value([call.to_json() for call in parse.calls], [call.to_json() for call in wanted])


def spans(bench: DialectBench) -> None:
    """Spans lie inside the text and inside one another, and what they cut out is the name, or the value, as written."""

    def bounded(text: str) -> None:
        parse = _parse(bench, text)
        for span, inside, what in _all_spans(parse):
            if not inside[0] <= span[0] <= span[1] <= inside[1]:
                _refuse(bench, f"the span {span} of {what} is not inside {inside}", text, f"not {what!r}")
        starts = [call.span for call in parse.calls]
        if any(first[1] > second[0] for first, second in itertools.pairwise(starts)):
            _refuse(bench, f"spans of calls overlap or are out of order: {starts}", text, "not parse.calls")

    bench.search(_texts(bench), bounded, TEXTS)

    def exact(wanted: Sequence[Call]) -> None:
        try:
            text = bench.subject.render(wanted)
        except CallwrightError:
            return
        for index, call in enumerate(_parse(bench, text).calls):
            for span, value, what in _cuts(call):
                if not _reads_as(text[span[0] : span[1]], value):
                    message = f"the span of {what} of call {index} cuts out {text[span[0] : span[1]]!r}, not {value!r}"
                    _refuse(
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
        if ends and not _same(_parse(bench, gold[: min(ends)]), gold_calls(task)):
            message = "a stop string comes before the reply is complete"
            names = [call.name for call in gold_calls(task)]
            _refuse(bench, message, gold[: min(ends)], f"[call.name for call in parse.calls] == {names!r}")

    bench.search(tasks(), test, fixed_tasks())


# ------------------------------------------------------------------------------------------------------- prompt


def prompt_asks(bench: DialectBench) -> None:
    """The prompt holds the question and every tool's name, is JSON, and is the same every time."""

    def test(task: Task) -> None:
        prompt = bench.subject.prompt(task)
        again = bench.subject.prompt(task)
        if not isinstance(prompt, Prompt) or prompt != again:
            bench.broken("prompt is no Prompt, or another one every time", _prompt_test(bench, task, "prompt == again"))
        try:
            text = json.dumps([prompt.messages, prompt.tools], ensure_ascii=False)
        except (TypeError, ValueError) as error:
            bench.broken(f"the prompt is no JSON: {error}", _prompt_test(bench, task, "json.dumps(prompt.messages)"))
        for wanted in (task.messages[-1]["content"], *(tool.name for tool in task.tools)):
            if json.dumps(wanted, ensure_ascii=False)[1:-1] not in text:
                bench.broken(
                    f"the prompt does not mention {wanted!r}", _prompt_test(bench, task, f"{wanted!r} in str(prompt)")
                )

    bench.search(tasks(), test, fixed_tasks())


def _prompt_test(bench: DialectBench, task: Task, assertion: str) -> str:
    return (
        "from callwright import Answer, ExpectedCall, Task, Tool\n"
        f"prompt, again = ({bench.source}.prompt({task!r}) for _ in range(2))\nassert {assertion}"
    )


def no_calls_is_no_call(bench: DialectBench) -> None:
    """What it renders for no calls, the empty reply and plain prose are no call."""
    texts = ["", "Hello! I am fine.", "I do not know.", bench.subject.render([])]
    for text in texts:
        parse = _parse(bench, text)
        if parse.calls or parse.status is not ParseStatus.NO_CALL:
            _refuse(bench, f"{text!r} is read as {parse.status}", text, "parse.status == 'no_call'")


LAWS: tuple[Law[Any], ...] = (
    Law("total", "It parses any text.", total),
    Law("deterministic", "The same text gives the same parse.", deterministic),
    Law("round_trip", "Rendered calls come back when they are parsed.", round_trip),
    Law("spans", "Spans lie in the text and cut out what they name.", spans),
    Law("three_outcomes", "A reply makes calls, attempts one in vain, or makes none; never two.", three_outcomes),
    Law("no_calls_is_no_call", "Prose and the reply without calls are no call.", no_calls_is_no_call),
    Law("thinking_is_no_call", "A call in the thinking is not made.", thinking_is_no_call),
    Law("stop_keeps_calls", "A stop string ends only a complete reply.", stop_keeps_calls),
    Law("prompt_asks", "The prompt holds the question and the tools.", prompt_asks),
    Law("linear_cost", "The cost grows as the length of the text does.", linear_cost),
)
