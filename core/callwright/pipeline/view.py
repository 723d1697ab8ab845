"""What `callwright data` ends with: a line for every step, and why rows were dropped or corrected."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column
from rich.text import Text

from callwright.display import safe, shortened
from callwright.pipeline.prepared import CORRECTED, Prepared
from callwright.pipeline.report.counts import by_frequency, lost, rows_of, seconds, share
from callwright.tables import WIDTH_OF_A_FILE, plain_table, right

SHOWN_CODES = 12
LONGEST_NAME = 40


def print_prepared(console: Console, prepared: Prepared) -> None:
    """The steps with their rows, and the most frequent codes of all."""
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    table = plain_table("step", *map(right, ("rows in", "lost", "corrected", "rows out", "seconds")), "")
    for step in prepared.steps:
        figures = (step.rows_in, lost(step), rows_of(step, CORRECTED), step.rows_out)
        cached = Text("cached", style="dim") if step.cached else Text()
        table.add_row(_name(step.name), *(f"{rows:,}" for rows in figures), seconds(step), cached)
    console.print(table)
    codes = [(rows, step, *key) for step in prepared.steps for key, rows in by_frequency(step)]
    codes.sort(key=lambda code: -code[0])
    if not codes:
        return
    table = plain_table("step", "outcome", Column("code", overflow="fold"), right("rows"), right("share"))
    for rows, step, outcome, code in codes[:SHOWN_CODES]:
        table.add_row(*map(_name, (step.name, outcome, code)), f"{rows:,}", share(rows, step.rows_in))
    console.print(table)
    if len(codes) > SHOWN_CODES:
        rest = sum(rows for rows, *_ in codes[SHOWN_CODES:])
        text = f"and {len(codes) - SHOWN_CODES:,} more codes, of {rest:,} rows; all are in the report"
        console.print(Text(text, style="dim"), soft_wrap=True)


def _name(name: str) -> Text:
    return Text(safe(shortened(name, LONGEST_NAME)).replace("\n", "\\n"))
