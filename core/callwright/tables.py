"""The tables that commands end with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from callwright import __version__
from callwright.api_version import range_of
from callwright.display import duration, safe

if TYPE_CHECKING:
    from callwright.evaluate import EvalResult
    from callwright.run import RunResult

WIDTH_OF_A_FILE = 200
"""Columns of a table in a pipe or a file, where nothing has to fit on a screen."""


def print_run(console: Console, result: RunResult) -> None:
    """What a training run achieved, how long it took, and where its files are."""
    results = (result.before, result.after)
    if any(results):
        table = plain_table("held-out rows", right("before"), right("after"))
        table.add_row("accuracy", *(f"{r.accuracy:.1%}" if r else "-" for r in results), style="bold")
        for code in _by_frequency([r.reasons for r in results if r]):
            table.add_row(Text(safe(code)), *(str(r.reasons.get(code, 0)) if r else "-" for r in results))
        table.add_row("rows", *(str(r.rows) if r else "-" for r in results), style="dim")
        console.print(table)
    figures = f"{duration(result.train_seconds)} of training, {result.tokens_per_second:.0f} tokens/s"
    console.print(f"{result.steps} steps, {figures}", highlight=False, soft_wrap=True)
    if result.stopped:
        console.print(Text(f"stopped early: {safe(result.stopped)}", style="yellow"), soft_wrap=True)
    console.print(Text(f"run folder: {safe(str(result.run))}"), soft_wrap=True)


def print_evaluation(console: Console, result: EvalResult) -> None:
    """Accuracy by category, and how often each reason came first."""
    table = plain_table("category", right("rows"), right("correct"))
    for name, (rows, accuracy) in result.by_category.items():
        table.add_row(Text(safe(name)), str(rows), f"{accuracy:.1%}")
    table.add_row("all", str(result.rows), f"{result.accuracy:.1%}", style="bold")
    console.print(table)
    table = plain_table("reason", right("rows"))
    for code in _by_frequency([result.reasons]):
        table.add_row(Text(safe(code)), str(result.reasons[code]))
    console.print(table)
    if result.left_out:
        text = f"{result.left_out} more rows have no verdict: the prompt is too long, or no reward could judge them"
        console.print(text, highlight=False, soft_wrap=True)


def print_plugins(console: Console, rows: Sequence[Mapping[str, str | None]]) -> None:
    """One line for each plugin, and below who does not say what it was written for, and what is wrong with the broken
    ones."""
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    names = ("kind", "name", "distribution", "version")
    table = plain_table(*(Column(name, no_wrap=True) for name in names), "description")
    for row in rows:
        last = Text("broken, see below", style="bold red") if row["error"] else Text(safe(row["description"] or ""))
        table.add_row(*(Text(safe(row[name] or "")) for name in names), last)
    console.print(table)
    silent = sorted({str(row["distribution"]) for row in rows if row["written_for"] is None})
    if silent:
        text = f"'callwright{range_of(__version__)}' among its dependencies says it"
        console.print(
            Text(safe(f"no word of the callwright that it was written for: {', '.join(silent)}; {text}"), "yellow"),
            soft_wrap=True,
        )
    for row in rows:
        if row["error"]:
            title = f"{row['kind']} {row['name']} of {row['distribution']} {row['version']} is broken: "
            console.print(Text.assemble((safe(title), "bold red"), safe(row["error"])), soft_wrap=True)


def plain_table(*columns: str | Column) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)


def right(name: str) -> Column:
    return Column(name, justify="right")


def _by_frequency(counts: Iterable[Mapping[str, int]]) -> list[str]:
    """All reason codes, the most frequent first."""
    total: Counter[str] = Counter()
    for reasons in counts:
        total.update(reasons)
    return sorted(total, key=lambda code: (-total[code], code))
