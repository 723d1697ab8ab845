"""A run in the terminal: figures with their way so far, reasons, and the last completions. Needs textual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical, VerticalScroll
from textual.widgets import Footer, ProgressBar, Sparkline, Static

from callwright.display import duration, safe, shortened
from callwright.report.completions import Completions, read_completions
from callwright.report.folder import Metrics, names_of, read_folder, read_metrics
from callwright.tables import plain_table, right
from callwright.watch.news import state_of

SECONDS_BETWEEN_LOOKS = 1.0
SHOWN_STEPS = 200
SHOWN_COMPLETIONS = 60
SHOWN_TEXT = 400
LAST_STEPS = 5
FIGURES = {
    "reward": ("reward", "{:.3f}"),
    "held_out_accuracy": ("held-out accuracy", "{:.1%}"),
    "validation_accuracy": ("validation accuracy", "{:.1%}"),
    "entropy": ("entropy", "{:.3f}"),
    "kl": ("KL", "{:.4f}"),
    "flat_groups": ("flat groups", "{:.0%}"),
    "completion_length": ("tokens a completion", "{:.1f}"),
    "grad_norm": ("gradient norm", "{:.2f}"),
    "tokens_per_second": ("tokens a second", "{:.0f}"),
    "seconds": ("seconds a step", "{:.1f}"),
}
"""By metric: what it is called, and how it is written. Those that a run does not have are not shown."""


class Figure(Vertical):
    """A metric: its last value, and all of them as a line of bars."""

    def __init__(self, metric: str) -> None:
        super().__init__(id=f"figure-{metric}", classes="figure")
        self.border_title, self._form = FIGURES[metric]

    def compose(self) -> ComposeResult:
        yield Static()
        yield Sparkline([])

    def show(self, values: Sequence[float]) -> None:
        low, high = min(values), max(values)
        text = Text.assemble((self._form.format(values[-1]), "bold"), "  ")
        text.append(f"{self._form.format(low)} to {self._form.format(high)}", style="dim")
        self.query_one(Static).update(text)
        self.query_one(Sparkline).data = list(values)[-SHOWN_STEPS:]


class WatchApp(App[None]):
    """Follows the run in `folder`, which may not be there yet."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("w", "toggle_wrong", "only what is not right"),
    ]
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; padding: 0 1; }
    #about { width: 1fr; }
    #figures { grid-size: 5; grid-gutter: 0 1; grid-rows: 5; height: auto; padding: 0 1; }
    .figure { height: 5; border: round $surface-lighten-2; border-title-color: $text-muted; padding: 0 1; }
    .figure Sparkline { height: 2; }
    #reasons { width: 46; padding: 0 2; }
    #last { padding: 0 1; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.only_wrong = folder, False
        (self.name_of_run,) = names_of([folder])
        self._state = ""
        self._completions = Completions()

    def compose(self) -> ComposeResult:
        with Horizontal(id="head"):
            yield Static(id="about")
            yield ProgressBar(id="steps", show_eta=False)
        yield Grid(*(Figure(metric) for metric in FIGURES), id="figures")
        with Horizontal():
            with VerticalScroll(id="reasons"):
                yield Static()
            with VerticalScroll(id="last"):
                yield Static()
        yield Footer()

    def on_mount(self) -> None:
        self.look()
        self.set_interval(SECONDS_BETWEEN_LOOKS, self.look)

    def action_toggle_wrong(self) -> None:
        self.only_wrong = not self.only_wrong
        self._show_completions()

    def look(self) -> None:
        """Read what the run has written, if anything is new."""
        state = state_of(self.folder)
        if state == self._state:
            return
        self._state = state
        metrics = read_metrics(self.folder)
        last = max(metrics.steps, default=0)
        run = read_folder(self.folder, self.name_of_run, metrics)
        self._completions = read_completions(self.folder, limit=None, after=last - 1, until=last)
        self._show_head(run, metrics, last)
        series = run["metrics"]["series"]
        for metric in FIGURES:
            values = [value for value in series.get(metric, ()) if value is not None]
            figure = self.query_one(f"#figure-{metric}", Figure)
            figure.display = bool(values)
            if values:
                figure.show(values)
        self.query_one("#reasons Static", Static).update(reasons_table(metrics))
        self._show_completions()

    def _show_head(self, run: Mapping[str, Any], metrics: Metrics, last: int) -> None:
        text = Text.assemble((safe(self.name_of_run), "bold"), "  ")
        if not last:
            text.append(
                "waiting for the first step" if self.folder.exists() else f"waiting for {safe(str(self.folder))}"
            )
        else:
            seconds = sum(step.get("seconds") or 0.0 for step in metrics.steps.values())
            text.append(f"{duration(seconds)} of training", style="dim")
            left = (run["planned"] or last) - last
            text.append(f"  left {duration(seconds / len(metrics.steps) * left)}" if left > 0 else "", style="dim")
        for part in ("before", "after"):
            if run["evaluation"][part]:
                text.append(f"  {part} {run['evaluation'][part]['accuracy']:.1%}", style="dim")
        self.query_one("#about", Static).update(text)
        self.query_one(ProgressBar).update(total=run["planned"], progress=last)

    def _show_completions(self) -> None:
        self.query_one("#last Static", Static).update(completions_text(self._completions, self.only_wrong))


def reasons_table(metrics: Metrics) -> Table:
    """Shares of the last steps' completions by reward and reason, the most frequent first."""
    steps = [metrics.steps[step] for step in sorted(metrics.steps)[-LAST_STEPS:]]
    table = plain_table(f"reasons, last {len(steps)} steps", right("share"), "")
    rows = sum(step.get("rows") or 0.0 for step in steps)
    counts: dict[str, float] = {}
    for step in steps:
        for name, value in step.items():
            if name.startswith("reason/") and value:
                counts[name] = counts.get(name, 0.0) + value
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        share = count / rows if rows else 0.0
        code = name.partition("/")[2]
        style = "green" if code.endswith("/correct") else ""
        table.add_row(Text(safe(code), style), f"{share:.0%}", Text("█" * round(share * 12), style or "dark_orange"))
    return table


def completions_text(completions: Completions, only_wrong: bool) -> Text:
    """The completions of the last step, each with its score and why."""
    columns, text, shown = completions.columns, Text(), 0
    tasks, reasons = list(completions.tasks), list(completions.reasons)
    best = max((total for total in columns["total"] if total is not None), default=None)
    for row in range(len(completions)):
        total = columns["total"][row]
        good = total is not None and total == best and total > 0
        if (only_wrong and good) or shown == SHOWN_COMPLETIONS:
            continue
        shown += 1
        score = "-" if total is None else f"{total:.3g}"
        text.append(f"{score:>5} ", style="bold green" if good else "bold dark_orange")
        text.append(f"{safe(tasks[columns['task'][row]][0])}\n", style="dim")
        text.append(f"      {safe(shortened(columns['text'][row], SHOWN_TEXT)) or '(empty)'}\n")
        for number in columns["reasons"][row][::3]:
            reward, code, message = reasons[number]
            text.append(safe(f"      {reward}: {code}"), style="green" if code == "correct" else "dark_orange")
            text.append(safe(f" {shortened(message, SHOWN_TEXT)}\n"), style="dim")
    return text if shown else Text("no completions yet" if not len(completions) else "all are right", style="dim")
