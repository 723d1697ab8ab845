"""`callwright eval --suite`, from what the command line says to the files and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from callwright.answering import Answerer
from callwright.display import Display, safe
from callwright.files import replacing
from callwright.plugins import build_component, find, near
from callwright.suites.against import compare
from callwright.suites.answers import Answers
from callwright.suites.contract import Suite
from callwright.suites.evaluation import REPORT, Evaluation, by_category, evaluate, read_report, write_report
from callwright.suites.figure import bar_chart
from callwright.suites.view import print_changes, print_suite
from callwright.types import JSON, CallwrightError, Dialect

CHART, CHANGES = "accuracy.png", "changes.json"


@dataclass(frozen=True)
class SuiteCommand:
    """What is asked of a suite."""

    suite: str
    model: str
    """As the user names it."""
    name: str | None
    """What it is called in tables and files."""
    categories: Sequence[str]
    rows: int | None
    out: Path | None
    against: Path | None
    fresh: bool


def suite_of(name: str) -> Suite:
    """The installed suite of this name. Raises PluginError."""
    cls, _ = find("suite", name)
    suite = build_component(cls, {}, "--suite")
    if not isinstance(suite, Suite):
        raise CallwrightError(
            f"--suite {name}: {cls.__name__} lacks methods of a suite; see callwright.suites.contract"
        )
    return suite


def run_suite(
    command: SuiteCommand,
    suite: Suite,
    answerer: Answerer,
    dialect: Dialect,
    settings: dict[str, JSON],
    display: Display,
    console: Console,
) -> Evaluation:
    """Ask, judge, write and show. settings: what the answers depend on, beside the questions."""
    _check_categories(command, suite)
    name = file_name(command.name or command.model)
    folder = command.out or Path("evals") / name
    other = read_report(command.against) if command.against is not None else None
    answers = Answers(folder, suite, name)
    if command.fresh:
        with answers.locked():
            answers.delete([REPORT, CHART, CHANGES])
    settings = {"suite": command.suite, "questions": suite.fingerprint(), **settings}
    tasks = suite.load([one for one in suite.categories if one in (command.categories or suite.categories)])
    try:
        found = evaluate(suite, command.suite, tasks, command.rows, answerer, dialect, answers, settings, display)
    except KeyboardInterrupt:
        display.finished()
        kept = sum(len(answers.read(category, members)) for category, members in by_category(tasks).items())
        text = f"interrupted; {kept} answers are kept in {folder}: the same command goes on"
        console.print(Text(safe(text)), soft_wrap=True)
        raise typer.Exit(130) from None
    finally:
        display.finished()
    print_suite(console, found)
    write_report(found, folder / REPORT)
    written = [REPORT, CHART]
    if other is not None:
        changes = compare(other, found)
        print_changes(console, changes)
        written.append(CHANGES)
        _write(folder / CHANGES, lambda path: path.write_text(json.dumps(changes.to_json(), indent=2) + "\n"))
    chart = bar_chart([found] if other is None else [other, found])
    _write(folder / CHART, lambda path: path.write_bytes(chart))
    for file in written:
        console.print(Text(safe(str(folder / file))), soft_wrap=True)
    return found


def file_name(model: str) -> str:
    """A model's name as a part of a path: BFCL and others write `/` as `_`."""
    return re.sub(r"[^\w.+-]", "_", model).lstrip(".") or "model"


def _check_categories(command: SuiteCommand, suite: Suite) -> None:
    for category in command.categories:
        if category not in suite.categories:
            repair = near(category, suite.categories)
            known = ", ".join(suite.categories)
            raise CallwrightError(
                f"--category {category}: the suite {command.suite} has none{repair} (it has: {known})"
            )


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with replacing(path) as temporary:
            write(temporary)
    except OSError as error:
        raise CallwrightError(f"{path}: cannot be written: {error.strerror or error}") from error
