"""Fuzz every dialect with atheris, guided by coverage: whatever the text, `parse` must hold its promises.

    python -m venv fuzz && fuzz/bin/pip install atheris pluggy pydantic
    PYTHONPATH=core:plugins fuzz/bin/python benchmarks/fuzz_dialects.py -max_total_time=600

Options go to libFuzzer. A broken promise ends the run with a traceback, and the input that broke it in a file
`crash-*`; give that file as an argument to see it again. Inputs that take long to parse are printed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris (Linux or macOS, CPython 3.11 or later)")

with atheris.instrument_imports(include=["callwright_dialects"]):
    from callwright import Call, CallwrightError, Dialect, Parse, ParseStatus, ReasonCode
    from callwright_dialects.egpo import Egpo
    from callwright_dialects.funrl import FunRL
    from callwright_dialects.hermes import Hermes
    from callwright_dialects.json_calls import JsonCalls
    from callwright_dialects.llama3 import Llama3
    from callwright_dialects.mistral import Mistral
    from callwright_dialects.python_calls import PythonCalls

DIALECTS: list[Dialect] = [
    PythonCalls(),
    FunRL(),
    Egpo(),
    Hermes(),
    Hermes(think=True),
    Llama3(),
    Llama3(style="pythonic"),
    Mistral(),
    Mistral(style="list", think_tag="[THINK]"),
    JsonCalls(),
    JsonCalls(arguments_as="string", name_key="function", arguments_key="parameters"),
]
WORDS = [
    *("<think>", "</think>", "[THINK]", "[/THINK]", "<answer>", "</answer>", "<tool_call>", "</tool_call>"),
    *("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "```json", '"name"', '"function"', '"arguments"'),
    *('"parameters"', '"id"', '"type"', "NaN", "1e999", "null", "True", "lambda", "f(", "a=", "**", "'''"),
    *("\\ud800", "\\ud83d\\ude00", '\\"', "\\\\", "\\x3c", "\\N{DASH}", "10**10**10", "é", "名", "\ufb01"),
]
SEEDS = [
    "[f(a=1, b='x', c=[1, {'k': None}]), g.h()]",
    "<think>x</think><answer>[f(a=-1.5)]</answer>",
    "<think>x</think>[f(a=(1, True))]",
    '<think>\nx\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"a": "\\u00e9"}}\n</tool_call>',
    '<|python_tag|>{"name": "f", "parameters": {"a": [1, {}]}}; {"name": "g", "arguments": {}}',
    '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g{"b": "x"}',
    '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1e5}, "id": "abcdefghi"}]',
    '[{"function": "f", "parameters": "{\\"a\\": \\"\\\\u00e9\\"}"}]',
    '{"type": "function", "function": {"name": "f", "arguments": "{}"}}',
]
SLOW_S = 1.0
"""Of CPU time: twenty times what is promised, as instrumented code is slow."""

SHOWN_S = 0.02
slowest = 0.0


def one_input(data: bytes) -> None:
    """Parse the text in `data` as the dialect that its first byte names."""
    global slowest
    provider = atheris.FuzzedDataProvider(data)
    dialect = DIALECTS[provider.ConsumeIntInRange(0, len(DIALECTS) - 1)]
    rest = provider.ConsumeBytes(provider.remaining_bytes())
    text = rest.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 become lone surrogates
    start = time.process_time()
    parse = dialect.parse(text)
    seconds = time.process_time() - start
    if seconds > max(slowest, SHOWN_S):
        slowest = seconds
        print(f"slowest parse so far: {seconds * 1000:.1f} ms, {type(dialect).__name__}, {text[:200]!r}", flush=True)
    assert seconds < SLOW_S, f"{seconds:.2f} s"
    check(parse, text)
    for other in DIALECTS:
        check_round_trip(other, parse)


def check(parse: Parse, text: str) -> None:
    """Three outcomes, and every span in the text and in order."""
    assert parse.text == text
    assert bool(parse.calls) == (parse.status is ParseStatus.CALLS)
    unparsable = ReasonCode.UNPARSABLE in {problem.code for problem in parse.problems}
    assert unparsable == (parse.status is ParseStatus.UNPARSABLE)
    for span in [*parse.tags, parse.thinking, parse.body, *(problem.span for problem in parse.problems)]:
        assert span is None or 0 <= span[0] <= span[1] <= len(text)
    end = 0
    for call in parse.calls:
        assert end <= call.span[0] <= call.name_span[0] <= call.name_span[1] <= call.span[1] <= len(text)
        end = call.span[0]
        for argument in call.arguments:
            spans = [argument.name_span, argument.value_span] if argument.name_span else [argument.value_span]
            for start, stop in spans:
                assert end <= start <= stop <= call.span[1]
                end = stop
        end = call.span[1]


def check_round_trip(dialect: Dialect, parse: Parse) -> None:
    """What was read in one dialect is written and read back in another, or refused."""
    try:
        text = dialect.render(parse.calls)
    except CallwrightError:
        return
    assert contents(dialect.parse(text).calls) == contents(parse.calls), text


def contents(calls: tuple[Call, ...]) -> str:
    """Exact: 1 is not True."""
    return repr([(call.name, [(argument.name, argument.value) for argument in call.arguments]) for call in calls])


def main(arguments: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-dialects-"))
    words = folder / "words"
    words.write_text("\n".join('"' + "".join(f"\\x{b:02x}" for b in word.encode()) + '"' for word in WORDS))
    seeds = folder / "seeds"
    seeds.mkdir()
    for kind in range(len(DIALECTS)):
        for number, text in enumerate(SEEDS):
            # FuzzedDataProvider takes integers from the end of the data
            (seeds / f"{kind}-{number}").write_bytes(text.encode() + bytes([kind]))
    files = [] if any(Path(argument).is_file() for argument in arguments) else [str(seeds)]
    atheris.Setup([sys.argv[0], f"-dict={words}", "-max_len=4096", *arguments, *files], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
