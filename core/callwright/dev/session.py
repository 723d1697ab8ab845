"""The whole of `callwright dev`: read, judge, check the laws, show, and wait for the next save."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from callwright.dev.cases import given_rows, read_tasks, rows_of_tasks
from callwright.dev.judge import Asked, Saved, Stopped
from callwright.dev.traces import reward_class
from callwright.dev.view import Line, lines_of, prepared, print_failure, print_summary, print_task, totals
from callwright.dev.watch import Watch
from callwright.display import safe, scoring_progress
from callwright.isolation import Blueprint
from callwright.recipe import load_recipe
from callwright.score import Scored, recipe_of
from callwright.score_rows import Row
from callwright.score_view import print_changes, print_scores
from callwright.testing.check import DEFAULT_DIALECT, laws_of, read_option
from callwright.testing.scoring import plugin
from callwright.types import CallwrightError


@dataclass(frozen=True)
class Setting:
    """What was asked for on the command line."""

    reward: str
    """`FILE` or `FILE:Class`."""
    tasks: Path
    completions: Path | None = None
    options: Sequence[str] = ()
    """Of the reward, `KEY=VALUE`."""
    dialect: str | None = None
    rows: int = 20
    """Tasks that are judged."""
    show: int = 3
    """Of them, how many are shown one by one; those with something strange come first."""
    misses: int = 8
    """Near misses of each task."""
    laws: bool = True
    timeout: float = 10.0
    """Seconds for the completions of one task."""

    @property
    def file(self) -> Path:
        front, _, name = self.reward.rpartition(":")
        return Path(front if front.endswith(".py") and name else self.reward)

    @property
    def class_name(self) -> str | None:
        return None if str(self.file) == self.reward else self.reward.rpartition(":")[2]


class Session:
    """Judges as often as the files are saved, and knows what came out before."""

    def __init__(self, setting: Setting, console: Console) -> None:
        """Raises CallwrightError for files that are not there, and for options and a dialect that cannot be."""
        for option, path in (
            ("", setting.file),
            ("--tasks: ", setting.tasks),
            ("--completions: ", setting.completions),
        ):
            if path is not None and not path.exists():
                raise CallwrightError(f"{option}there is no file {path}")
        self._setting, self._console = setting, prepared(console)
        self._options = dict(map(read_option, setting.options))
        self._dialect = _dialect(setting)
        plugin("dialect", self._dialect[0], **self._dialect[1])
        watched = [setting.file, setting.tasks, *([setting.completions] if setting.completions else [])]
        self._watch = Watch([path for path in watched if path.is_file()])
        self._before: dict[str, dict[str, float]] | None = None
        self._given_before: list[Scored] | None = None

    def run(self, once: bool) -> bool:
        """Until somebody interrupts it, or once. Whether all was well: no failure, no broken law."""
        while True:
            self._watch.take()
            try:
                well = self._round()
            except Saved:
                well = None
            if once and well is not None:
                return well
            if well is not None:
                self._say("waiting for the next save; Ctrl-C ends", "dim")
            self._watch.wait()
            self._console.rule(Text(time.strftime(f"{self._setting.file.name}, saved %H:%M:%S"), style="bold"))

    def _round(self) -> bool:
        setting = self._setting
        try:
            name = setting.class_name or reward_class(setting.file)
            tasks = read_tasks(setting.tasks)
            given = given_rows(setting.completions, [task for task, _ in tasks]) if setting.completions else []
        except (CallwrightError, OSError) as error:
            self._say(f"error: {error}", "bold red")
            return False
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # what Python says of a file
            self._say("".join(traceback.format_exception_only(error)).rstrip(), "red")
            return False
        dialect = plugin("dialect", self._dialect[0], **self._dialect[1])
        names = list(dict.fromkeys(task.id for task, _ in tasks))
        kept = set(names[: setting.rows])
        rows, kinds, notes = rows_of_tasks([one for one in tasks if one[0].id in kept], dialect, setting.misses)
        for note in notes[:3]:
            self._say(note, "yellow")
        blueprint = Blueprint(name, f"{setting.file}:{name}", self._options)
        asked = Asked(blueprint, setting.timeout, self._watch.changed)
        if not rows and not given:
            self._say("no task has an answer or a completion: there is nothing to judge", "bold red")
            return False
        try:
            well = self._judge_tasks(asked, rows, kinds, dialect, len(names) - len(kept))
            well = self._judge_given(asked, given, dialect) and well
        except Stopped as stop:
            print_failure(self._console, str(stop), stop.trace, setting.file)
            return False
        if setting.laws and not well:
            self._say("laws: not checked, since the reward failed already", "dim")
        return self._check_laws(asked) if setting.laws and well else well

    def _judge(self, asked: Asked, rows: Sequence[Row], dialect: Any, what: str) -> tuple[list[list[Scored]], bool]:
        """The groups, and whether the reward failed nowhere; its first failure is shown."""
        groups: list[list[Scored]] = []
        failures: list[tuple[str, str]] = []
        with scoring_progress(self._console) as progress:
            report = progress(what)
            done = 0
            for scored, outcome in asked.judge(rows, dialect):
                groups.append(scored)
                done += len(scored)
                report(done, len(rows))
                failed = next((v.failure for one in scored for v in one.verdicts.values() if v.failure), None)
                if failed is not None:
                    failures.append((f"failed on task '{scored[0].row.task.id}': {failed}", outcome.trace))
        if failures:
            print_failure(self._console, *failures[0], self._setting.file)
        return groups, not failures

    def _judge_tasks(
        self, asked: Asked, rows: Sequence[Row], kinds: Mapping[int, str], dialect: Any, left_out: int
    ) -> bool:
        if not rows:
            return True
        groups, well = self._judge(asked, rows, dialect, "judge")
        tasks = [lines_of(group, kinds) for group in groups]
        before, self._before = self._before, totals(tasks)
        for task in sorted(tasks, key=_interest)[: self._setting.show]:
            print_task(self._console, task, (before or {}).get(task[0].one.row.task.id, {}))
        print_summary(self._console, tasks, left_out, None if before is None else _changed(before, self._before))
        return well

    def _judge_given(self, asked: Asked, rows: Sequence[Row], dialect: Any) -> bool:
        if not rows:
            return True
        groups, well = self._judge(asked, rows, dialect, "judge completions")
        found = {one.row.number: one for group in groups for one in group}
        scored = [found[row.number] for row in rows]
        print_scores(self._console, scored)
        before, self._given_before = self._given_before, scored
        if before is not None and [one.row for one in before] == [one.row for one in scored]:
            print_changes(self._console, before, scored)
        return well

    def _check_laws(self, asked: Asked) -> bool:
        counts = {"held": 0, "broken": 0, "off": 0}
        use = f"{asked.blueprint.use} {' '.join(self._setting.options)}".rstrip()
        try:
            with scoring_progress(self._console) as progress:
                report = progress("laws")
                for result in asked.laws(self._dialect):
                    counts[result.state] += 1
                    report(sum(counts.values()), len(laws_of("reward")))
                    if result.state == "broken":
                        text = Text.assemble(("broken  ", "bold red"), f"{result.name}: {safe(result.message)}")
                        self._console.print(text, soft_wrap=True)
        except Stopped as stop:
            print_failure(self._console, f"laws: {stop}", stop.trace, self._setting.file)
            return False
        self._say(f"laws: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}", "bold")
        if counts["broken"]:
            self._say(f"for a regression test of each: callwright check --laws {use}", "dim")
        return not counts["broken"]

    def _say(self, text: str, style: str) -> None:
        self._console.print(Text(safe(text), style=style), soft_wrap=True)


def _dialect(setting: Setting) -> tuple[str, dict[str, Any]]:
    """`use` and options: what was asked for, else that of the run whose completions are judged."""
    if setting.dialect is not None:
        return setting.dialect, {}
    path = None if setting.completions is None else recipe_of(setting.completions)
    if path is None:
        return DEFAULT_DIALECT, {}
    dialect = load_recipe(path).dialect
    return dialect.use, dict(dialect.options)


def _interest(task: Sequence[Line]) -> int:
    """Tasks with something strange come first, else the file's order stays."""
    return 0 if any(line.strange for line in task) else 1


def _changed(before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]) -> int:
    count = 0
    for task, texts in after.items():
        for text, total in texts.items():
            old = before.get(task, {}).get(text, total)
            count += old != total and not (math.isnan(old) and math.isnan(total))
    return count
