"""What a person sees while a model trains: a live view on a terminal, plain lines elsewhere, nothing in tests.

Completions are the model's, so they are data: they reach the terminal as literal text, never as rich markup, and
control characters are written out instead of obeyed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from callwright.types import Verdict

PROMPT_LENGTH = 300
COMPLETION_LENGTH = 600
"""Characters of a sample that are shown."""
SECONDS_BETWEEN_PHASE_LINES = 10.0

_SHOWN = (
    ("reward", "reward {:.3f}"),
    ("validation_accuracy", "validation {:.1%}"),
    ("failed_rows", "failures {:.0f}"),
    ("entropy", "entropy {:.3f}"),
    ("kl", "KL {:.4f}"),
    ("completion_length", "length {:.1f}"),
    ("tokens_per_second", "{:.0f} tok/s"),
    ("seconds", "{:.1f} s"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion of a step, to be looked at."""

    prompt: str
    """The last user message."""
    completion: str
    total: float
    """The combined reward; NaN if the row takes no part in training."""
    verdicts: Mapping[str, Verdict]
    """By reward name."""


class Display(Protocol):
    """Where the loop and the evaluation report to. Every method is cheap enough to be called at will."""

    def note(self, text: str) -> None:
        """Something worth one line."""
        ...

    def warn(self, text: str) -> None: ...

    def started(self, steps: int, first_step: int, run: Path) -> None:
        """Training begins at step `first_step` (from 0; above 0 after a resume) of `steps`, in the folder `run`."""
        ...

    def phase(self, name: str, done: int, total: int) -> None:
        """`done` of `total` parts of a piece of work are finished: "generate", "update", "evaluate before"."""
        ...

    def step(self, step: int, metrics: Mapping[str, float], sample: Sample | None) -> None:
        """Step `step` (from 0) is finished. The loop chooses the steps that have a sample."""
        ...

    def finished(self) -> None:
        """Nothing more will come; a live view leaves the terminal as it was. May be called more than once."""
        ...


def make_display(console: Console) -> Display:
    """Live on an interactive terminal, else plain lines: also in a pipe whose user forces colours."""
    return LiveDisplay(console) if _live(console) else PlainDisplay(console)


def _live(console: Console) -> bool:
    return console.is_interactive and console.file.isatty()


class SilentDisplay:
    """Shows nothing: tests and benchmarks."""

    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def started(self, steps: int, first_step: int, run: Path) -> None: ...
    def phase(self, name: str, done: int, total: int) -> None: ...
    def step(self, step: int, metrics: Mapping[str, float], sample: Sample | None) -> None: ...
    def finished(self) -> None: ...


class PlainDisplay:
    """A line a step, and now and then a line from a long phase: log files, pipes, dumb terminals."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._pace = _Pace()
        self._phase, self._phase_line_at = "", 0.0

    def note(self, text: str) -> None:
        self._print(safe(text))

    def warn(self, text: str) -> None:
        self._print(f"warning: {safe(text)}")

    def started(self, steps: int, first_step: int, run: Path) -> None:
        self._pace.steps = steps
        self._print(f"training steps {first_step + 1} to {steps} in {run}")

    def phase(self, name: str, done: int, total: int) -> None:
        now = self._clock()
        if name != self._phase:
            self._phase, self._phase_line_at = name, now
        elif now - self._phase_line_at >= SECONDS_BETWEEN_PHASE_LINES and done < total:
            self._phase_line_at = now
            self._print(f"{name} {done}/{total}")

    def step(self, step: int, metrics: Mapping[str, float], sample: Sample | None) -> None:
        width = len(str(self._pace.steps))
        parts = [f"step {step + 1:{width}}/{self._pace.steps}", *metric_texts(metrics), *self._pace.left(step, metrics)]
        self._phase = ""
        self._print("  ".join(parts))
        if sample is not None:
            self._print("\n".join(f"    {line}" for line in sample_text(sample).plain.split("\n")))

    def finished(self) -> None: ...

    def _print(self, text: str) -> None:
        # Without soft_wrap, rich folds lines at 80 columns where it knows no width: bad for logs and grep.
        self._console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


class LiveDisplay:
    """A bar over the steps, the last step's figures, and a bar over the phase at work; the rest scrolls above."""

    def __init__(self, console: Console) -> None:
        self._pace = _Pace()
        self._latest: dict[str, float] = {}
        self._steps = Progress(TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[left]}"))
        self._phases = Progress(TextColumn("{task.description}", style="dim"), BarColumn(), MofNCompleteColumn())
        self._phase_name, self._phase_task = "", TaskID(0)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)
        self._console = console

    def note(self, text: str) -> None:
        self._console.print(Text(safe(text)))

    def warn(self, text: str) -> None:
        self._console.print(Text.assemble(("warning: ", "bold yellow"), safe(text)))

    def started(self, steps: int, first_step: int, run: Path) -> None:
        self._pace.steps = steps
        self._console.print(Text(f"training in {run}", style="dim"))
        self._steps.add_task("", total=steps, completed=first_step, left="")
        self._live.start()

    def phase(self, name: str, done: int, total: int) -> None:
        if name != self._phase_name:
            self._clear_phase()
            self._phase_name, self._phase_task = name, self._phases.add_task(name, total=total)
            self._live.start()
        self._phases.update(self._phase_task, completed=done, total=total)

    def step(self, step: int, metrics: Mapping[str, float], sample: Sample | None) -> None:
        left = "".join(self._pace.left(step, metrics))
        for task in self._steps.task_ids:
            self._steps.update(task, completed=step + 1, left=left)
        self._latest |= metrics  # the last validation stays in view between two
        if sample is not None:
            self._console.print(Text(f"step {step + 1}", style="bold"))
            self._console.print(Padding(sample_text(sample), (0, 0, 1, 2)))

    def finished(self) -> None:
        self._clear_phase()
        self._live.stop()

    def _clear_phase(self) -> None:
        if self._phase_name:
            self._phases.remove_task(self._phase_task)
            self._phase_name = ""

    def _render(self) -> RenderableType:
        return Group(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        if self._steps.task_ids:
            yield self._steps
        if self._latest:
            yield Text("  ".join(metric_texts(self._latest)))
        if self._phase_name:
            yield self._phases


@contextmanager
def scoring_progress(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Makes a report of (done, total) for a named piece of work: a bar on a terminal, nothing in a pipe."""
    columns = (TextColumn("{task.description}", style="dim"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not _live(console)) as bars:

        def begin(name: str) -> Callable[[int, int], None]:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield begin


# ------------------------------------------------------------------------------------------------ words and figures


def safe(text: str) -> str:
    """`text` with every character that is neither printable nor a line feed written out, as in `\\x1b`."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, length: int) -> str:
    """At most `length` characters of `text`, with a mark where the rest was."""
    text = text.strip()
    return text if len(text) <= length else text[: length - 2].rstrip() + " …"


def metric_texts(metrics: Mapping[str, float]) -> list[str]:
    """The figures that a person watches, in a fixed order; those that this step does not have are left out."""
    return [form.format(metrics[key]) for key, form in _SHOWN if key in metrics]


def duration(seconds: float) -> str:
    """`6:40`, `1:06:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sample_text(sample: Sample) -> Text:
    """Question, completion, score, and what each reward says."""
    text = Text()
    text.append(safe(shortened(sample.prompt, PROMPT_LENGTH)), style="cyan").append("\n")
    text.append(safe(shortened(sample.completion, COMPLETION_LENGTH)) or "(empty completion)").append("\n")
    text.append(f"score {sample.total:.3g}", style="bold green" if sample.total > 0 else "bold red")
    for name, verdict in sample.verdicts.items():
        text.append(safe(f"  {name}: {verdict_text(verdict)}"))
    return text


def verdict_text(verdict: Verdict) -> str:
    """The reasons, or how the verdict came to be without one."""
    if verdict.failure is not None:
        return f"failed, {shortened(verdict.failure, PROMPT_LENGTH)}"
    reasons = ", ".join(
        f"{r.code} ({shortened(r.message, PROMPT_LENGTH)})" if r.message else r.code for r in verdict.reasons
    )
    return reasons or ("abstained" if verdict.score is None else f"{verdict.score:.3g}")


class _Pace:
    """Time left, from the last steps' mean."""

    def __init__(self) -> None:
        self.steps = 0
        self._seconds: deque[float] = deque(maxlen=10)

    def left(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        if "seconds" in metrics:
            self._seconds.append(metrics["seconds"])
        if not self._seconds:
            return []
        return [f"left {duration(sum(self._seconds) / len(self._seconds) * (self.steps - step - 1))}"]
