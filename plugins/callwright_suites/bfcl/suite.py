"""The suite `bfcl`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from callwright import Call, CallwrightError, ParseStatus, Task, Tool
from callwright.suites.contract import Category, Judged, Score
from callwright.types import JSON, Dialect
from callwright_data.sources.bfcl import OTHER_LANGUAGES
from callwright_data.sources.bfcl import Bfcl as BfclSource
from callwright_dialects.python_syntax import render_calls
from callwright_rewards.bfcl import Checker

from callwright_suites.bfcl import other_languages
from callwright_suites.bfcl.categories import CATEGORIES, LIVE, scores
from callwright_suites.bfcl.judge_process import JudgeProcess
from callwright_suites.bfcl.prompt import BfclPrompt, documented

UNWRITABLE = "[a_call_that_python_cannot_write()]"
"""Stands for calls whose names Python has no way to write: a call, and the right one nowhere."""
UNREADABLE = "(unreadable)"
"""Stands for a reply that its dialect cannot read: BFCL cannot either."""


@dataclass
class Bfcl:
    """Berkeley Function Calling Leaderboard: the single-turn categories, with the result files of bfcl-eval.

    A reply is judged by BFCL's rules to the letter. What is judged is the `result` that is written into the files, so
    that bfcl-eval comes to the same verdict. Of a dialect that writes Python it is what stands in the place for calls,
    which may be the whole reply; of any other, the calls in Python's notation. The reply is kept beside it.
    """

    def __post_init__(self) -> None:
        self._other_languages = JudgeProcess()

    @property
    def categories(self) -> Sequence[str]:
        return CATEGORIES

    @property
    def dialect(self) -> BfclPrompt:
        return BfclPrompt()

    @property
    def max_new_tokens(self) -> int:
        return 512

    def fingerprint(self) -> str:
        return BfclSource(list(CATEGORIES)).fingerprint()

    def load(self, categories: Sequence[str]) -> Sequence[Task]:
        tasks = []
        for row in BfclSource(list(categories)).load():
            if not isinstance(row, Task):
                raise CallwrightError(f"BFCL's own file cannot be read: {row}")
            tasks.append(_with_hints(row) if row.meta["category"] in OTHER_LANGUAGES else row)
        return tasks

    def file(self, category: str, model: str) -> Path:
        """In bfcl-eval's folder layout, below its BFCL_PROJECT_ROOT."""
        group = "live" if category in LIVE else "non_live"
        return Path("result") / model / group / f"BFCL_v4_{category}_result.json"

    def result(self, task: Task, reply: str, dialect: Dialect) -> str:
        parse = dialect.parse(reply)
        if parse.body is not None and _writes_python(dialect):
            text = reply[slice(*parse.body)]
        elif parse.status is ParseStatus.CALLS:
            text = _written(parse.calls, task.meta["category"])
        else:  # not the reply: where its dialect has no call, BFCL might read one
            text = "" if parse.status is ParseStatus.NO_CALL else UNREADABLE
        # bfcl-eval cannot write lone surrogates into its score files
        return text.encode("utf-8", "replace").decode()

    def without_reply(self, reason: str) -> str:
        """As bfcl-eval writes a row whose inference failed, and then judges this text like any reply."""
        return f"Error during inference: {reason}".encode("utf-8", "replace").decode()

    def judge(self, task: Task, result: JSON) -> Judged:
        """`reason` is bfcl-eval's `error_type`."""
        category, functions = task.meta["category"], task.meta["functions"]
        reply = result if isinstance(result, str) else json.dumps(result)
        if category in OTHER_LANGUAGES:
            if absent := other_languages.missing():
                return Judged(None, "not judged", absent)
            judge = self._other_languages
            valid, error_type, message = judge.check(reply, functions, task.meta["possible_answer"], category)
        else:
            found = Checker(functions, task.meta.get("possible_answer"), category).check(reply)
            valid, error_type, message = found.valid, found.error_type, found.message
        return Judged(valid, "correct" if valid else str(error_type), message)

    def scores(self, counted: Mapping[str, Category]) -> list[Score]:
        return scores(counted)


def _with_hints(task: Task) -> Task:
    """The task with the tools that BFCL shows in this language: whose parameters are texts that hold source code."""
    tools = []
    for function in documented(task.meta["functions"], task.meta["category"]):
        parameters = {**function["parameters"], "type": "object"}
        tools.append(Tool(function["name"], function["description"], parameters))
    return replace(task, tools=tuple(tools))


def _writes_python(dialect: Dialect) -> bool:
    """Whether the dialect's calls are in Python's notation."""
    return "f()" in dialect.render([Call("f", (), (0, 0), (0, 0))])


def _written(calls: Sequence[Call], category: str) -> str:
    """Calls that came as JSON, in the notation that the category is judged in."""
    if category not in OTHER_LANGUAGES:
        try:
            return render_calls(calls)
        except CallwrightError:
            return UNWRITABLE
    # A text in double quotes is a text in both languages, and source code inside one is read as such.
    parts = []
    for call in calls:
        arguments = (f"{a.name}={json.dumps(a.value, ensure_ascii=False)}" for a in call.arguments)
        parts.append(f"{call.name}({', '.join(arguments)})")
    return f"[{', '.join(parts)}]"
