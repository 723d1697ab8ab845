"""The verifiers of two public projects, written anew after their rules, hole by hole.

Each class has a set of open holes. With all of them open it scores as the original does; with none it keeps the laws.
ToolRL: `rlla.py` of qiancheng0/ToolRL (arXiv 2504.13958). rLLM: `bfcl.py` of rllm-org/rllm.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from callwright import Argument, Call, Parse, ParseStatus, Prompt, Reason, ReasonCode, Rollouts, Task, Verdict, hookimpl
from callwright.testing.scoring import gold_calls
from callwright.testing.values import same_value

Plain = dict[str, Any]

TOOLRL_HOLES = (
    "true_is_one",
    "thinking_counts",
    "repeated_calls",
    "invented_calls",
    "one_line_only",
    "parameters_only",
    "calling_is_free",
)
RLLM_HOLES = ("extra_calls", "one_for_two", "invented_arguments", "any_call_when_empty", "answer_format")


# ---------------------------------------------------------------------------------------------------- the format

_THINKING = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


@dataclass
class Rlla:
    """ToolRL's format: <think>...</think>, then one <tool_call> block with a JSON object per line."""

    stop: tuple[str, ...] = field(default=("</tool_call>", "</response>"), init=False)

    def prompt(self, task: Task) -> Prompt:
        text = "\n".join([*(json.dumps(tool.to_json()) for tool in task.tools), task.messages[-1]["content"]])
        return Prompt([{"role": "user", "content": text}])

    def parse(self, text: str) -> Parse:
        thinking = _THINKING.search(text)
        start = thinking.end() if thinking else 0
        block = _BLOCK.search(text, start)
        inside = thinking.span(1) if thinking else None
        if block is None:
            attempt = "<tool_call>" in text[start:] or '"name"' in text[start:]
            status = ParseStatus.UNPARSABLE if attempt else ParseStatus.NO_CALL
            return Parse(text, status, thinking=inside, problems=_problem(status))
        try:
            calls = tuple(_calls(text, *block.span(1)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            status = ParseStatus.UNPARSABLE
            return Parse(text, status, thinking=inside, body=block.span(1), problems=_problem(status))
        status = ParseStatus.CALLS if calls else ParseStatus.NO_CALL
        return Parse(text, status, calls, thinking=inside, body=block.span(1))

    def render(self, calls: Sequence[Call], thinking: str = "") -> str:
        lines = [json.dumps({"name": c.name, "parameters": c.to_json()["arguments"]}) for c in calls]
        if not lines:
            return f"<think>{thinking}</think>\n<response>I cannot help.</response>"
        return "\n".join([f"<think>{thinking}</think>", "<tool_call>", *lines, "</tool_call>"])


def _problem(status: ParseStatus) -> tuple[Reason, ...]:
    return (Reason(ReasonCode.UNPARSABLE),) if status is ParseStatus.UNPARSABLE else ()


def _calls(text: str, start: int, end: int) -> list[Call]:
    calls: list[Call] = []
    while text[start:end].strip():
        start += len(text[start:end]) - len(text[start:end].lstrip())
        value, length = json.JSONDecoder().raw_decode(text[start:end])
        arguments = value.get("parameters", value.get("arguments"))
        span = (start, start + length)
        found = tuple(Argument(name, inner, None, span) for name, inner in arguments.items())
        calls.append(Call(value["name"], found, span, span))
        start += length
    return calls


# -------------------------------------------------------------------------------------------------------- ToolRL


def match_score(first: list[str], second: list[str]) -> float:
    """Elements in common, counted, over elements in all."""
    if first == second:
        return 1.0
    if not first or not second:
        return 0.0
    common = sum((Counter(first) & Counter(second)).values())
    return common / (len(first) + len(second) - common)


@dataclass
class ToolRL:
    """Correctness of calls, from -3 to 3, on the text as it stands."""

    open: frozenset[str] = frozenset(TOOLRL_HOLES)
    range: ClassVar = (-3.0, 3.0)

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        pairs = zip(rollouts.tasks, rollouts.texts, strict=True)
        return [Verdict(self.correctness(_plain(gold_calls(task)), text)) for task, text in pairs]

    def correctness(self, gold: list[Plain], text: str) -> float:
        looked_at = text if "thinking_counts" in self.open else _THINKING.sub("", text)
        if not gold:
            if "calling_is_free" in self.open:
                return 0.0
            return -3.0 if "tool_call" in looked_at else 3.0
        try:
            block = looked_at.split("<tool_call>")[1].split("</tool_call>")[0].strip()
            return self.tool_call_reward(gold, [self.read(value) for value in self.objects(block)])
        except Exception:  # as the original does
            return -3.0

    def objects(self, block: str) -> list[Any]:
        if "one_line_only" in self.open:
            return [json.loads(line) for line in block.split("\n")]
        found = []
        while block.strip():
            value, length = json.JSONDecoder().raw_decode(block.lstrip())
            found.append(value)
            block = block.lstrip()[length:]
        return found

    def read(self, value: Plain) -> Plain:
        parameters = value["parameters"] if "parameters_only" in self.open else _either(value)
        return {"name": value["name"], "parameters": parameters}

    def equal(self, first: Any, second: Any) -> bool:
        return bool(first == second) if "true_is_one" in self.open else same_value(first, second)

    def tool_call_reward(self, gold: list[Plain], made: list[Plain]) -> float:
        if self.equal(gold, made):
            return 3.0
        score = match_score([call["name"] for call in gold], [call["name"] for call in made])
        possible, used = 1.0, set()
        for call in gold:
            possible += 1.0 + len(call["parameters"])
            best, index = 0.0, -1
            for place, other in enumerate(made):
                if place in used or other["name"] != call["name"]:
                    continue
                points = self.points(call["parameters"], other["parameters"])
                if points > best:
                    best, index = points, place
            if index >= 0:
                used.add(index)
                score += best
        return 6.0 * score / possible * self.share(gold, made) - 3.0

    def points(self, gold: Plain, made: Plain) -> float:
        right = sum(1.0 for name, value in gold.items() if name in made and self.equal(made[name], value))
        return match_score(list(gold), list(made)) + right

    def share(self, gold: list[Plain], made: list[Plain]) -> float:
        """What closes the holes of calls too many: the score falls with their number."""
        known = [call["name"] for call in gold]
        invented = sum(call["name"] not in known for call in made)
        repeated = max(0, len(made) - invented - len(gold))
        counted = len(gold)
        counted += 0 if "invented_calls" in self.open else invented
        counted += 0 if "repeated_calls" in self.open else repeated
        return len(gold) / counted


def _either(value: Plain) -> Plain:
    found: Plain = value["parameters"] if "parameters" in value else value["arguments"]
    return found


def _plain(calls: Sequence[Call]) -> list[Plain]:
    return [{"name": call.name, "parameters": call.to_json()["arguments"]} for call in calls]


# ---------------------------------------------------------------------------------------------------------- rLLM


@dataclass
class Rllm:
    """1 if every expected call is found among the calls, else 0."""

    open: frozenset[str] = frozenset(RLLM_HOLES)

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [
            Verdict(float(self.correct(self.gold(task), parse)))
            for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True)
        ]

    def gold(self, task: Task) -> list[Plain]:
        """The answer as it reads the row: lists of accepted values are taken for the values themselves."""
        if "answer_format" not in self.open or task.answer is None:
            return _plain(gold_calls(task))
        return [{"name": call.name, "parameters": dict(call.arguments)} for call in task.answer.calls]

    def correct(self, gold: list[Plain], parse: Parse) -> bool:
        made = _plain(parse.calls)
        if not gold:
            any_call = parse.status is ParseStatus.CALLS and "any_call_when_empty" in self.open
            return any_call or parse.status is ParseStatus.NO_CALL
        if parse.status is ParseStatus.UNPARSABLE:
            return False
        used: set[int] = set()
        for call in gold:
            fits = [i for i, other in enumerate(made) if i not in used and self.fits(call, other)]
            if not fits:
                return False
            if "one_for_two" not in self.open:
                used.add(fits[0])
        if "extra_calls" in self.open:
            return True
        # With one call standing for two, it is the calls that match nothing that are too many.
        if "one_for_two" in self.open:
            return len(made) <= len(gold)
        return len(made) == len(gold)

    def fits(self, gold: Plain, made: Plain) -> bool:
        if gold["name"] != made["name"]:
            return False
        if not gold["parameters"] and "invented_arguments" in self.open:
            return True
        return same_value(gold["parameters"], made["parameters"])
