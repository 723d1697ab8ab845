"""Hypothesis strategies for the data that flows through a run: tools, calls, answers, tasks, completions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from callwright.testing.mutations import completion_near_misses
from callwright.testing.python_code import call_of
from callwright.testing.scoring import gold_text
from callwright.testing.values import WORDS, schemas, values
from callwright.types import JSON, Answer, Call, Dialect, ExpectedCall, Task, Tool

Draw = Callable[[SearchStrategy[Any]], Any]

_VERBS = ("get", "find", "set", "book", "plan", "send")
_FRAGMENTS = (
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<tool_call>",
    "</tool_call>",
    "[",
    "]",
    "{",
    "}",
    "f(a=1)",
)


@st.composite
def tool_schemas(draw: Draw, max_parameters: int = 4) -> Tool:
    """A tool with a name, a description and a JSON Schema of up to `max_parameters` arguments, some optional."""
    names = draw(st.lists(st.sampled_from(WORDS), max_size=max_parameters, unique=True))
    properties = {name: {**draw(schemas()), "description": f"The {name}."} for name in names}
    required = [name for name in names if draw(st.booleans())]
    tool_name = f"{draw(st.sampled_from(_VERBS))}_{draw(st.sampled_from(WORDS))}"
    parameters = {"type": "object", "properties": properties, "required": required}
    return Tool(tool_name, f"Does {tool_name.replace('_', ' ')}.", parameters)


def calls(tool: Tool | Mapping[str, JSON]) -> SearchStrategy[Call]:
    """Calls that fit a tool: every required argument and some optional ones, with values that fit their schema.

    `tool` may also be the JSON Schema of the arguments alone; the function is then called `function`. Spans are (0, 0):
    nothing is written yet.
    """
    if isinstance(tool, Tool):
        name, schema = tool.name, tool.parameters
    else:
        name, schema = "function", tool
    properties, required = schema.get("properties", {}), schema.get("required", ())
    arguments = st.fixed_dictionaries(
        {key: values(inner) for key, inner in properties.items() if key in required},
        optional={key: values(inner) for key, inner in properties.items() if key not in required},
    )
    return arguments.map(lambda given: call_of(name, given))


@st.composite
def answers(draw: Draw, tools: Sequence[Tool] | None = None) -> Answer:
    """What a completion should do with `tools`: one to three calls, now and then two equal ones, or no call."""
    offered = draw(st.lists(tool_schemas(), min_size=1, max_size=2)) if tools is None else list(tools)
    wanted: list[Call] = []
    if offered and draw(st.integers(0, 5)):
        some = draw(st.lists(st.sampled_from(offered), min_size=1, max_size=3))
        wanted = [draw(calls(tool)) for tool in some]
        if len(wanted) == 1 and not draw(st.integers(0, 5)):
            wanted *= 2
    return answer_of(wanted)


def answer_of(wanted: Sequence[Call]) -> Answer:
    """The answer that accepts exactly these calls."""
    return Answer(
        tuple(
            ExpectedCall(call.name, {name: [accepted(value)] for name, value in call.to_json()["arguments"].items()})
            for call in wanted
        )
    )


def accepted(value: JSON) -> JSON:
    """A value as an answer holds it: an accepted dict has, for each of its keys, a list of accepted values."""
    if isinstance(value, dict):
        return {key: [accepted(inner)] for key, inner in value.items()}
    return [accepted(inner) for inner in value] if isinstance(value, list) else value


@st.composite
def tasks(draw: Draw, max_tools: int = 3) -> Task:
    """A question, the tools it offers, and its answer. The question mentions every value of the answer."""
    tools = draw(st.lists(tool_schemas(), min_size=1, max_size=max_tools, unique_by=lambda tool: tool.name))
    answer = draw(answers(tools))
    # Ids of different tasks differ, as in any data set; nothing is drawn for them, so that tasks shrink well.
    digest = hashlib.sha256(repr((tools, answer)).encode()).hexdigest()
    return task_of(tools, answer, f"t-{digest[:8]}")


def task_of(tools: Sequence[Tool], answer: Answer, name: str) -> Task:
    """The task whose question asks, in words, for the calls of `answer`."""
    question = "Hello! How are you today?" if answer.no_call else " Then ".join(_asked(call) for call in answer.calls)
    return Task(name, ({"role": "user", "content": question},), tuple(tools), answer)


def _asked(call: ExpectedCall) -> str:
    given = " and ".join(f"{name} {_worded(options[0])}" for name, options in call.arguments.items())
    return f"Please {call.name.replace('_', ' ')}{' with ' + given if given else ''}."


def _worded(value: JSON) -> str:
    if isinstance(value, dict):
        return " and ".join(f"{name} {_worded(options[0])}" for name, options in value.items())
    if isinstance(value, list):
        return ", ".join(map(_worded, value))
    return value if isinstance(value, str) else json.dumps(value)


def completions(dialect: Dialect, task: Task | None = None) -> SearchStrategy[str]:
    """What a policy may write: the right reply, nearly right ones, cut ones, tags in disorder, any text at all."""
    if task is None:
        return tasks().flatmap(lambda drawn: completions(dialect, drawn))
    gold = gold_text(dialect, task)
    written = [gold, *(mutation.text for mutation in completion_near_misses(dialect, task))]
    cut = st.tuples(st.sampled_from(written), st.integers(0, len(gold))).map(lambda pair: pair[0][: pair[1]])
    pieces = st.sampled_from([*_FRAGMENTS, *dialect.stop, gold]) | st.text(max_size=8)
    return st.one_of(st.sampled_from(written), cut, st.lists(pieces, max_size=8).map("".join), st.text(max_size=80))
