"""Rewards with holes; each says whose training code had it, where it was published."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from callwright import Parse, Rollouts, Task, Verdict, hookimpl


class Judged:
    """A reward of one completion at a time."""

    def judge(self, task: Task, parse: Parse) -> float:
        raise NotImplementedError

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict(self.judge(task, parse)) for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True)]


def wanted(task: Task) -> list[tuple[str, dict[str, Any]]]:
    """Of every argument the first accepted value."""
    calls = task.answer.calls if task.answer is not None else ()
    return [(call.name, {name: values[0] for name, values in call.arguments.items()}) for call in calls]


def made(parse: Parse) -> list[tuple[str, dict[str, Any]]]:
    return [(str(call["name"]), dict(call["arguments"])) for call in (one.to_json() for one in parse.calls)]


def written(task: Task) -> list[str]:
    """The expected calls as Python."""
    return [f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})" for name, arguments in wanted(task)]


class PythonEquality(Judged):
    """ToolRL: `True == 1`, so that a boolean passes for a number."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(made(parse) == wanted(task))


class Anywhere(Judged):
    """ToolRL: a call that is only in the thinking counts. Here: the right call anywhere in the text."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(all(text in parse.text for text in written(task)))


class RepeatsAllowed(Judged):
    """ToolRL: the right call, twice, keeps most of the reward. Here: all of it."""

    def judge(self, task: Task, parse: Parse) -> float:
        right = wanted(task)
        return float(bool(made(parse)) and all(call in right for call in made(parse))) if right else 1.0


class ExtraCallsIgnored(Judged):
    """rLLM: more calls than were asked for are not looked at."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(all(call in made(parse) for call in wanted(task)))


class OneCallForTwo(Judged):
    """rLLM: one call satisfies two expected ones."""

    def judge(self, task: Task, parse: Parse) -> float:
        found = made(parse)
        return float(bool(found) == bool(wanted(task)) and all(call in found for call in wanted(task)))


class InventedArguments(Judged):
    """rLLM: arguments that nobody asked for are accepted."""

    def judge(self, task: Task, parse: Parse) -> float:
        pairs = list(zip(made(parse), wanted(task), strict=False))
        same = len(made(parse)) == len(wanted(task))
        return float(same and all(a[0] == b[0] and b[1].items() <= a[1].items() for a, b in pairs))


class AnyCallWhereNoneIsWanted(Judged):
    """rLLM: where the answer is to call nothing, every call is right. So is, elsewhere, a text that is no call at all
    (exploration's known hole)."""

    def judge(self, task: Task, parse: Parse) -> float:
        return 1.0 if not wanted(task) else float(made(parse) == wanted(task))


class NamesOnly(Judged):
    """The functions are compared and their arguments are not."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float([name for name, _ in made(parse)] == [name for name, _ in wanted(task)])


class Mentioned(Judged):
    """A keyword: 1 if the text holds the function's name, wherever."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(all(name in parse.text for name, _ in wanted(task)))


class AnyCall(Judged):
    """A format alone: whatever can be read as a call."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(bool(parse.calls))


class OwnFormatUnknown(Judged):
    """rLLM: an answer with several accepted values is compared as if it were the value, so that nothing is right; what
    is paid for is a call without arguments."""

    def judge(self, task: Task, parse: Parse) -> float:
        return float(bool(made(parse)) and not any(arguments for _, arguments in made(parse)))


class Characters(Judged):
    """The text as it was written: pretty-printed JSON, or another key for arguments, gets nothing (ToolRL)."""

    def judge(self, task: Task, parse: Parse) -> float:
        said = parse.text.rpartition("</think>")[2].strip()
        if said.startswith(("[{", "{")):
            return float(said == json.dumps([{"name": name, "arguments": rest} for name, rest in wanted(task)]))
        return float(said == f"[{', '.join(written(task))}]")


class Wordy(Judged):
    """ToolRL's length reward: more text, more reward, up to 200 characters."""

    def judge(self, task: Task, parse: Parse) -> float:
        return min(len(parse.text), 200) / 200


class Letters(Judged):
    """What a model of noise can learn: the share of small letters."""

    def judge(self, task: Task, parse: Parse) -> float:
        return sum(c.islower() for c in parse.text) / max(1, len(parse.text))


class Looping(Judged):
    """Junk is paid: the share of the text that repeats itself."""

    def judge(self, task: Task, parse: Parse) -> float:
        pieces = re.findall(r"(?=(....))", parse.text, re.DOTALL)
        return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


@dataclass
class Memorised(Judged):
    """Right for the rows it was written with; everywhere else any call of the right function will do."""

    prefix: str = "seen-"

    def judge(self, task: Task, parse: Parse) -> float:
        if task.id.startswith(self.prefix):
            return float(made(parse) == wanted(task))
        return float([name for name, _ in made(parse)] == [name for name, _ in wanted(task)])
