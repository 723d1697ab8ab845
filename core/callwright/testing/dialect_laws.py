"""The laws of a dialect."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from callwright.testing.cost import superlinear
from callwright.testing.dialect_writing import (
    DialectBench,
    any_texts,
    parsed,
    refuse,
    round_trip,
    same,
    spans,
    stop_keeps_calls,
)
from callwright.testing.hostile import TEXTS, pumped
from callwright.testing.laws import Law
from callwright.testing.mutations import behind_thinking, completion_near_misses
from callwright.testing.python_code import call_of
from callwright.testing.scoring import gold_calls, gold_text, render, render_with_any, takes_thinking, thinking_of
from callwright.testing.strategies import tasks
from callwright.testing.toys import fixed_tasks
from callwright.types import Parse, ParseStatus, Prompt, ReasonCode, Task

# -------------------------------------------------------------------------------------------------------- parse


def total(bench: DialectBench) -> None:
    def test(text: str) -> None:
        parse = parsed(bench, text)
        if not isinstance(parse, Parse) or parse.text != text:
            refuse(bench, "parse must return a Parse whose text is the completion", text, f"parse.text == {text!r}")

    bench.search(any_texts(bench), test, [*TEXTS, *pumped(_gold(bench), 20_000)])


def _gold(bench: DialectBench) -> str:
    return gold_text(bench.subject, fixed_tasks()[4])


def deterministic(bench: DialectBench) -> None:
    def test(text: str) -> None:
        if parsed(bench, text) != parsed(bench, text):
            expression = f"parse == {bench.source}.parse({text!r})"
            refuse(bench, "the same text is parsed differently from one time to the next", text, expression)

    bench.search(any_texts(bench), test, TEXTS)


def three_outcomes(bench: DialectBench) -> None:
    """Calls, an attempt that cannot be read, or none: a call that is cut in its middle is never an abstention."""

    def consistent(text: str) -> None:
        parse = parsed(bench, text)
        if (parse.status is ParseStatus.CALLS) != bool(parse.calls):
            message = f"the status is {parse.status}, and there are {len(parse.calls)} calls"
            refuse(bench, message, text, "(parse.status == 'calls') == bool(parse.calls)")
        unread = any(problem.code == ReasonCode.UNPARSABLE for problem in parse.problems)
        if parse.status is ParseStatus.UNPARSABLE and not parse.problems:
            refuse(bench, "an unparsable reply without a problem", text, "parse.problems")
        if parse.status is ParseStatus.NO_CALL and unread:
            refuse(bench, "a problem says unparsable, the status says no call", text, "parse.status == 'unparsable'")

    bench.search(any_texts(bench), consistent, TEXTS)
    bench.search(tasks(), lambda task: _outcomes_of(bench, task), fixed_tasks())


def _outcomes_of(bench: DialectBench, task: Task) -> None:
    gold = gold_text(bench.subject, task)
    parse = parsed(bench, gold)
    expected = ParseStatus.CALLS if gold_calls(task) else ParseStatus.NO_CALL
    if parse.status is not expected:
        message = f"a rendered reply of {len(gold_calls(task))} calls is read as {parse.status}"
        refuse(bench, message, gold, f"parse.status == {str(expected)!r}")
    for mutation in completion_near_misses(bench.subject, task):
        if mutation.kind == "cut_call" and parsed(bench, mutation.text).status is ParseStatus.NO_CALL:
            message = "a malformed call is taken for an abstention"
            refuse(bench, message, mutation.text, "parse.status != 'no_call'")


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
            tagged = behind_thinking(parsed(bench, thought))
            thoughts = [
                render_with_any(dialect, [], f"{thinking_of(task)} {one}") for one in (_inside(bench, thought), tagged)
            ]
        for text in thoughts:
            if parsed(bench, text).calls:
                refuse(bench, "a call in the thinking is taken for a call", text, "not parse.calls")
        if takes_thinking(dialect) and wanted:
            text = render(dialect, wanted, _inside(bench, thought))
            if not same(parsed(bench, text), wanted):
                names = [call.name for call in wanted]
                message = "a call in the thinking changes the calls that are made"
                refuse(bench, message, text, f"[call.name for call in parse.calls] == {names!r}")

    bench.search(tasks(), test, fixed_tasks())


def _inside(bench: DialectBench, text: str) -> str:
    """The text of the calls alone, without the tags around them: tags inside the thinking would close it."""
    parse = parsed(bench, text)
    return text[parse.calls[0].span[0] : parse.calls[-1].span[1]] if parse.calls else text


def linear_cost(bench: DialectBench) -> None:
    gold = _gold(bench)

    def texts(length: int) -> list[str]:
        filled = gold[: len(gold) // 2] + " a" * (length // 2) + gold[len(gold) // 2 :]
        return [*pumped(gold, length), filled, "<think>" + "a" * length, *_opened(gold, length)]

    slow = superlinear(texts, lambda text: parsed(bench, text))
    if slow is not None:
        text, taken, before = slow
        message = f"parse takes {taken:.2f} s of CPU time for {len(text)} characters, {before:.3f} s for a shorter text"
        bench.broken(message, f"{bench.source}.parse({text[:20]!r} * {len(text) // 20})  # far too slow")


def _opened(gold: str, length: int) -> Iterable[str]:
    """The reply's beginning repeated: whatever it opens is opened many times and never closed."""
    for end in range(1, min(len(gold), 24), 3):
        yield (gold[:end] * (length // end + 1))[:length]


def unfinished(bench: DialectBench) -> None:
    """Where the dialect reads replies that go on, it reads any text, and a whole reply as `parse` does."""
    read = getattr(bench.subject, "unfinished", None)
    if read is None:
        return

    def test(text: str, whole: bool = False) -> None:
        call = f"{bench.source}.unfinished({text!r})"
        try:
            parse = read(text)
        except Exception as error:
            bench.broken(f"unfinished raises {type(error).__name__}: {error}"[:300], call)
        if not isinstance(parse, Parse) or parse.text != text:
            bench.broken(
                "unfinished must return a Parse whose text is the completion", f"assert {call}.text == {text!r}"
            )
        if whole and parse != parsed(bench, text):
            message = "a whole reply is read differently by unfinished and by parse"
            bench.broken(message, f"assert {call} == {bench.source}.parse({text!r})")

    bench.search(any_texts(bench), test, [*TEXTS, *pumped(_gold(bench), 20_000)])
    bench.search(tasks(), lambda task: test(gold_text(bench.subject, task), whole=True), fixed_tasks())


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
        parse = parsed(bench, text)
        if parse.calls or parse.status is not ParseStatus.NO_CALL:
            refuse(bench, f"{text!r} is read as {parse.status}", text, "parse.status == 'no_call'")


LAWS: tuple[Law[Any], ...] = (
    Law("total", "It parses any text.", total),
    Law("deterministic", "The same text gives the same parse.", deterministic),
    Law("round_trip", "Rendered calls come back when they are parsed.", round_trip),
    Law("spans", "Spans lie in the text and cut out what they name.", spans),
    Law("three_outcomes", "A reply makes calls, attempts one in vain, or makes none; never two.", three_outcomes),
    Law("no_calls_is_no_call", "Prose and the reply without calls are no call.", no_calls_is_no_call),
    Law("thinking_is_no_call", "A call in the thinking is not made.", thinking_is_no_call),
    Law("stop_keeps_calls", "A stop string ends only a complete reply.", stop_keeps_calls),
    Law("unfinished", "If it reads unfinished replies, then any text, and a whole reply as `parse` does.", unfinished),
    Law("prompt_asks", "The prompt holds the question and the tools.", prompt_asks),
    Law("linear_cost", "The cost grows as the length of the text does.", linear_cost),
)
