"""What a person sees after each save."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column
from rich.text import Text

from callwright.dev.cases import GIVEN, RIGHT, SAME
from callwright.dev.traces import user_part
from callwright.display import safe, shortened
from callwright.score import Scored
from callwright.tables import WIDTH_OF_A_FILE, plain_table, right
from callwright.testing.mutations import behind_thinking
from callwright.types import Verdict

TOLERANCE = 1e-9
SHOWN_TEXT = 100
SHOWN_QUESTION = 120
FAILED = "failed"
AS_MUCH = "as much as the right one"


@dataclass(frozen=True, slots=True)
class Line:
    """A completion of a task, what it is, and what is strange about its score."""

    one: Scored
    kind: str
    strange: str

    @property
    def verdict(self) -> Verdict:
        (verdict,) = self.one.verdicts.values()
        return verdict


def lines_of(scored: Sequence[Scored], kinds: Mapping[int, str]) -> list[Line]:
    """The completions of one task."""
    best = next((one.total for one in scored if kinds[one.row.number] == RIGHT), math.nan)
    return [Line(one, kinds[one.row.number], _strange(one, kinds[one.row.number], best)) for one in scored]


def _strange(one: Scored, kind: str, best: float) -> str:
    (verdict,) = one.verdicts.values()
    if verdict.failure is not None:
        return FAILED
    if kind in (RIGHT, GIVEN) or math.isnan(best) or math.isnan(one.total):
        return ""
    if kind == SAME:
        return "" if abs(one.total - best) < TOLERANCE else "unlike the right one"
    if one.total > best + TOLERANCE:
        return "more than the right one"
    return AS_MUCH if one.total > best - TOLERANCE else ""


def print_task(console: Console, lines: Sequence[Line], before: Mapping[str, float]) -> None:
    """A task's question, and a line for each completion. before: what each text scored before the save."""
    task = lines[0].one.row.task
    asked = [str(m.get("content")) for m in task.messages if m.get("role") == "user"]
    title = Text.assemble(
        (safe(task.id), "bold"), "  ", (safe(shortened(" ".join(asked[-1:]), SHOWN_QUESTION)), "cyan")
    )
    console.print(title, soft_wrap=True)
    table = plain_table(right("score"), "completion is", "", "reasons", Column("", no_wrap=True, overflow="ellipsis"))
    for line in lines:
        text = line.one.row.completion if line.kind in (GIVEN, "only_in_thinking") else behind_thinking(line.one.parse)
        said = "" if line.strange == FAILED else line.strange
        remark = Text(said, style="yellow" if said == AS_MUCH else "bold red")
        if was := _was(line.one, before):
            remark.append(f"{', ' if said else ''}was {was}", style="yellow")
        shown = shortened(text.strip().replace("\n", " "), SHOWN_TEXT) or "(empty)"
        table.add_row(_score(line.verdict), line.kind, remark, _reasons(line.verdict), Text(safe(shown), style="dim"))
    console.print(table)


def _was(one: Scored, before: Mapping[str, float]) -> str:
    old = before.get(one.row.completion, one.total)
    return "" if old == one.total or (math.isnan(old) and math.isnan(one.total)) else _figure(old)


def _figure(total: float) -> str:
    return "without a score" if math.isnan(total) else f"{total:.3g}"


def _score(verdict: Verdict) -> Text:
    if verdict.failure is not None:
        return Text("failed", style="bold red")
    return Text("abstains", style="yellow") if verdict.score is None else Text(f"{verdict.score:.3g}")


def _reasons(verdict: Verdict) -> Text:
    if verdict.failure is not None:
        return Text(safe(shortened(verdict.failure, SHOWN_TEXT)), style="red")
    parts = []
    for reason in verdict.reasons:
        where = f" [{reason.span[0]}:{reason.span[1]}]" if reason.span is not None else ""
        said = f" {shortened(reason.message, SHOWN_TEXT)}" if reason.message else ""
        parts.append(f"{reason.code}{where}{said}")
    return Text(safe("; ".join(parts)))


def print_summary(console: Console, tasks: Sequence[Sequence[Line]], left_out: int, changed: int | None) -> None:
    """What is strange over all tasks. changed: completions that are judged otherwise than before the save."""
    lines = [line for task in tasks for line in task]
    strange = Counter((line.kind, line.strange) for line in lines if line.strange)
    of_kind = Counter(line.kind for line in lines)
    text = Text(f"{len(tasks)} tasks, {len(lines)} completions", style="bold")
    if changed is not None:
        text.append(f", {changed} judged otherwise than before", style="bold yellow" if changed else "dim")
    if left_out:
        text.append(f"; {left_out} more tasks in the file (--rows)", style="dim")
    console.print(text, soft_wrap=True)
    for (kind, why), count in strange.most_common():
        text = Text.assemble("  ", (kind, "bold"), f" {why}: {count} of {of_kind[kind]}")
        text.stylize("yellow" if why == AS_MUCH else "red", 2)
        console.print(text, soft_wrap=True)
    if not strange:
        console.print(Text("  nothing strange: the right replies score most, and no near miss as much", style="green"))


def print_failure(console: Console, title: str, trace: str, file: Path) -> None:
    """What went wrong, and where in the user's own file."""
    console.print(Text.assemble((f"{title}", "bold red")), soft_wrap=True)
    if part := user_part(trace, file):
        console.print(Text(safe(part)), soft_wrap=True)


def prepared(console: Console) -> Console:
    """As wide as tables need it, where nothing has to fit on a screen."""
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    return console


def totals(tasks: Iterable[Sequence[Line]]) -> dict[str, dict[str, float]]:
    """By task and text, what was scored."""
    return {task[0].one.row.task.id: {line.one.row.completion: line.one.total for line in task} for task in tasks}
