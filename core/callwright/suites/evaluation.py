"""Ask a suite's questions, once each, and count what the answers are worth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from callwright.answering import Answerer, Reply
from callwright.display import Display
from callwright.files import replacing
from callwright.suites.answers import Answers, Line
from callwright.suites.contract import Category, Judged, Score, Suite
from callwright.types import JSON, CallwrightError, Dialect, Task

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of an evaluation."""

    category: str
    correct: bool | None
    """None where it cannot be judged here."""
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a suite."""

    suite: str
    model: str
    settings: Mapping[str, JSON]
    """What the answers depend on."""
    categories: tuple[Category, ...]
    scores: tuple[Score, ...]
    rows: Mapping[str, Outcome]
    """By the row's id, in the suite's order."""

    @property
    def rows_of_the_suite(self) -> int:
        return sum(category.rows for category in self.categories)

    @property
    def complete(self) -> bool:
        """Whether every row of these categories was asked."""
        return len(self.rows) == self.rows_of_the_suite

    def reasons(self) -> dict[str, Counter[str]]:
        """By category, how often each reason came."""
        counts: dict[str, Counter[str]] = {category.name: Counter() for category in self.categories}
        for row in self.rows.values():
            counts[row.category][row.reason] += 1
        return counts

    def to_json(self) -> dict[str, JSON]:
        """All of it. Scores that are not defined have the value null and say why."""
        return {
            "suite": self.suite,
            "model": self.model,
            "settings": dict(self.settings),
            "complete": self.complete,
            "categories": [{**asdict(one), "accuracy": one.accuracy} for one in self.categories],
            "scores": [asdict(score) for score in self.scores],
            "reasons": {name: dict(counts.most_common()) for name, counts in self.reasons().items()},
            "rows": {name: asdict(row) for name, row in self.rows.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, JSON]) -> Evaluation:
        categories = ({k: v for k, v in one.items() if k != "accuracy"} for one in content["categories"])
        return cls(
            content["suite"],
            content["model"],
            content["settings"],
            tuple(Category(**one) for one in categories),
            tuple(Score(**score) for score in content["scores"]),
            {name: Outcome(**row) for name, row in content["rows"].items()},
        )


def evaluate(
    suite: Suite,
    suite_name: str,
    tasks: Sequence[Task],
    rows: int | None,
    answerer: Answerer,
    dialect: Dialect,
    answers: Answers,
    settings: Mapping[str, JSON],
    display: Display,
) -> Evaluation:
    """Ask what is not answered yet, keep each answer as it comes, and judge all.

    tasks: all rows of the categories that count. rows: only so many of each category, from its start.
    """
    everything = by_category(tasks)
    chosen = {name: members[:rows] for name, members in everything.items()}
    with answers.locked():
        answers.agree(settings)
        lines = {name: answers.read(name, members) for name, members in everything.items()}
        waiting = [task for name, members in chosen.items() for task in members if task.id not in lines[name]]
        done = total = sum(map(len, chosen.values()))
        done -= len(waiting)
        if waiting:
            if done:
                display.note(f"{done} of {total} answers are in {answers.folder} already")
            display.phase("answer", done, total)
            for task, reply in answerer.replies(waiting):
                name = str(task.meta["category"])
                lines[name][task.id] = _line(suite, task, reply, dialect)
                answers.add(name, lines[name][task.id])
                done += 1
                display.phase("answer", done, total)
        for name, members in everything.items():
            answers.sort(name, members)
    outcomes: dict[str, Outcome] = {}
    categories = []
    for name, members in chosen.items():
        found = {task.id: suite.judge(task, lines[name][task.id]["result"]) for task in members}
        unanswered = sum("unanswered" in lines[name][task.id] for task in members)
        categories.append(_counted(name, len(everything[name]), found, unanswered))
        outcomes |= {row: Outcome(name, one.correct, one.reason, one.message) for row, one in found.items()}
    scores = suite.scores({category.name: category for category in categories})
    return Evaluation(suite_name, answers.model, settings, tuple(categories), tuple(scores), outcomes)


def by_category(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    found: dict[str, list[Task]] = {}
    for task in tasks:
        found.setdefault(str(task.meta["category"]), []).append(task)
    return found


def _line(suite: Suite, task: Task, reply: Reply, dialect: Dialect) -> Line:
    line: Line = {"id": task.id}
    if reply.unanswered is not None:
        return {**line, "result": suite.without_reply(reply.unanswered), "unanswered": reply.unanswered}
    line["result"] = suite.result(task, reply.text, dialect)
    if line["result"] != reply.text:
        line["reply"] = reply.text
    if reply.tokens is not None:
        line["input_token_count"], line["output_token_count"] = reply.tokens
    return {**line, "cut_off": True} if reply.cut_off else line


def _counted(name: str, rows: int, found: Mapping[str, Judged], unanswered: int) -> Category:
    judged = [one for one in found.values() if one.correct is not None]
    why_not = next((one.message for one in found.values() if one.correct is None), "")
    correct = sum(bool(one.correct) for one in judged)
    return Category(name, rows, len(found), len(judged), correct, unanswered, why_not)


# ------------------------------------------------------------------------------------------------------ reports


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Atomic."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(evaluation.to_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CallwrightError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_report(folder: Path) -> Evaluation:
    """The evaluation in a folder. Raises CallwrightError where there is none."""
    path = folder / REPORT
    if not path.is_file():
        raise CallwrightError(
            f"--against {folder}: there is no {REPORT}; name the --out of an evaluation that has ended"
        )
    try:
        return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CallwrightError(
            f"{path}: is no report of an evaluation ({type(error).__name__}: {error}); run that evaluation again, which"
            " asks nothing that is answered"
        ) from error
