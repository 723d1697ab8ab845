"""The flow diagram: rows go down, as a band as wide as they are many, and those that are dropped leave to the right."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from callwright.display import safe, shortened
from callwright.html_page import Markup, text
from callwright.pipeline.prepared import CORRECTED, Prepared, Step
from callwright.pipeline.report.counts import by_frequency, lost, rows_of

WIDTH = 760
BAND = 240
"""Width of the band of all rows, in the units of the drawing."""
LEFT = 12
LABELS = 420
"""Where the branches end and their labels begin."""
NODE = 10
LINE = 20
BRANCHES = 6
"""Codes of a step that get a branch of their own."""
NAMED = 3
"""Codes of corrected rows that are named."""
LONGEST_NAME, LONGEST_LINE = 30, 105


def flow(prepared: Prepared) -> Markup:
    """An SVG for inside the page, whose style sheet colours its classes."""
    most = max((max(step.rows_in, step.rows_out) for step in prepared.steps), default=0)
    drawing = _Drawing(BAND / max(most, 1))
    for step in prepared.steps:
        drawing.step(step)
    drawing.last(len(prepared.rows))
    label = "Rows that go through each step, and those that leave it; the tables below have the same numbers"
    return Markup(
        f'<svg class="flow" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {drawing.y:g}" width="{WIDTH}"'
        f' height="{drawing.y:g}">{"".join(drawing.shapes)}</svg>'
    )


def branches(step: Step) -> Iterator[tuple[str, int]]:
    """The codes for which rows left the step, with the rows of each; the rare ones as one."""
    codes = [(code, rows) for (outcome, code), rows in by_frequency(step) if outcome != CORRECTED and rows]
    shown = codes if len(codes) <= BRANCHES else codes[: BRANCHES - 1]
    for code, rows in shown:
        yield _name(code), rows
    if len(shown) < len(codes):
        yield f"{len(codes) - len(shown):,} more codes", sum(rows for _, rows in codes[len(shown) :])


def _name(name: str) -> str:
    return shortened(safe(name).replace("\n", " "), LONGEST_NAME)


class _Drawing:
    def __init__(self, scale: float) -> None:
        self.scale, self.y, self.shapes = scale, 0.0, list[str]()

    def width(self, rows: int) -> float:
        """At least a line, if there is a row."""
        return max(rows * self.scale, 1.0) if rows else 0.0

    def words(self, words: str, x: float, y: float, kind: str) -> None:
        self.shapes.append(f'<text class="{kind}" x="{x:g}" y="{y:.1f}">{text(words)}</text>')

    def bar(self, kind: str, rows: int, y: float, height: float) -> None:
        shape = f'x="{LEFT}" y="{y:.1f}" width="{self.width(rows):.2f}" height="{height:.1f}"'
        self.shapes.append(f'<rect class="{kind}" data-rows="{rows}" {shape}/>')

    def heading(self, words: str, rows: str) -> None:
        self.words(f"{_name(words)}: {rows}", LEFT, self.y + 15, "step")
        self.y += LINE

    def step(self, step: Step) -> None:
        name = step.name if step.name == step.use else f"{step.name} {step.use}"
        self.heading(name, f"{step.rows_in:,} rows")
        corrected = rows_of(step, CORRECTED)
        if corrected:
            codes = [(code, rows) for (outcome, code), rows in by_frequency(step) if outcome == CORRECTED]
            named = [f"{_name(code)} {rows:,}" for code, rows in codes[:NAMED]]
            more = [f"{len(codes) - NAMED:,} more codes"] if len(codes) > NAMED else []
            words = shortened(f"corrected {corrected:,}: {', '.join(named + more)}", LONGEST_LINE)
            self.words(words, LEFT, self.y + 14, "words corrected")
            self.y += LINE
        self.bar("node", step.rows_in, self.y, NODE)
        if corrected:
            self.bar("node corrected", corrected, self.y, NODE)
        self.y += NODE
        height = self.leaving(step)
        self.bar("band", step.rows_out, self.y, height)
        self.y += height

    def leaving(self, step: Step) -> float:
        """Draw the branches. Returns the height that they take."""
        found = list(branches(step))
        widths = [self.width(rows) for _, rows in found]
        right = LEFT + max(self.width(step.rows_in), self.width(step.rows_out) + sum(widths))
        y = self.y + LINE / 2
        for (code, rows), width, end in zip(found, widths, accumulate(widths), strict=True):
            start = right - end  # the rightmost is the uppermost, so that no two cross
            path = (
                f"M{start + width:.2f} {self.y:.1f} Q{start + width:.2f} {y:.1f} {LABELS} {y:.1f} V{y + width:.2f}"
                f" Q{start:.2f} {y + width:.2f} {start:.2f} {self.y:.1f} Z"
            )
            self.shapes.append(f'<path class="dropped" data-rows="{rows}" d="{path}"/>')
            share = f" ({rows / step.rows_in:.1%})" if step.rows_in else ""
            self.words(f"{code}: {rows:,}{share}", LABELS + 8, y + width / 2 + 4, "words")
            y += max(width + 6, LINE)
        return max(y - self.y + 6, 2 * LINE if lost(step) or found else LINE)

    def last(self, rows: int) -> None:
        self.heading("left", f"{rows:,} rows")
        self.bar("node", rows, self.y, NODE)
        self.y += NODE + 4
