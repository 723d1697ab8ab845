"""What `callwright eval --suite` shows: categories, scores, reasons, and what is different from another model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from callwright.display import safe, shortened
from callwright.suites.against import Changes
from callwright.suites.contract import Category, Score
from callwright.suites.evaluation import Evaluation
from callwright.tables import WIDTH_OF_A_FILE, plain_table, right

SHOWN_FLIPS = 20
SHOWN_MESSAGE = 60


def print_suite(console: Console, evaluation: Evaluation) -> None:
    """Every category, every score with what it contains, and every reason; then what the reader must know."""
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    console.print(Text(f"{safe(evaluation.suite)}: {safe(evaluation.model)}", style="bold"), soft_wrap=True)
    table = plain_table("category", right("rows"), right("asked"), right("correct"), right("accuracy"))
    for one in evaluation.categories:
        correct = str(one.correct) if one.judged else "-"
        table.add_row(Text(safe(one.name)), str(one.rows), str(one.asked), correct, accuracy_text(one))
    console.print(table)
    table = plain_table("by", "score", right("value"), "made of")
    for score in evaluation.scores:
        style = None if score.value is None else "bold"
        contains = score.contains if score.value is not None else f"{score.contains}; {score.why_not}"
        table.add_row(
            *map(Text, map(safe, (score.by, score.name))), Text(score_text(score), style or ""), Text(contains)
        )
    console.print(table)
    table = plain_table("category", "reason", right("rows"), right("share"))
    for name, counts in evaluation.reasons().items():
        for reason, count in counts.most_common():
            table.add_row(Text(safe(name)), Text(safe(reason)), str(count), f"{count / counts.total():.1%}")
    console.print(table)
    for remark in remarks(evaluation):
        console.print(Text(safe(remark), style="yellow"), soft_wrap=True)


def accuracy_text(category: Category) -> str:
    return "not judged" if category.accuracy is None else f"{category.accuracy:.2%}"


def score_text(score: Score) -> str:
    if score.value is None:
        return "not defined"
    return f"{score.value:.2%}" if score.of == 1.0 else f"{100 * score.value:.2f} of {100 * score.of:.4g} points"


def remarks(evaluation: Evaluation) -> list[str]:
    """What the numbers do not say of themselves."""
    found = []
    if not evaluation.complete:
        found.append(
            f"{len(evaluation.rows)} of these categories' {evaluation.rows_of_the_suite} rows were asked: no number"
            " here compares with a published one"
        )
    found += dict.fromkeys(f"{one.name}: {one.why_not}" for one in evaluation.categories if one.why_not)
    unanswered = sum(one.unanswered for one in evaluation.categories)
    if unanswered:
        names = ", ".join(f"{one.name} {one.unanswered}" for one in evaluation.categories if one.unanswered)
        found.append(
            f"{unanswered} rows have no reply ({names}): they count as the benchmark's own tools count an error message"
            " in its place"
        )
    return found


def print_changes(console: Console, changes: Changes) -> None:
    """By category, by category and reason, and the rows that flipped."""
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    before, after = safe(changes.before), safe(changes.after)
    console.print(Text(f"against {before}", style="bold"), soft_wrap=True)
    columns = [right(name) for name in ("rows", "there", "here", "difference", "gained", "lost")]
    table = plain_table("category", *columns)
    totals = [0] * 5
    for one in changes.categories:
        figures = (one.rows, one.before, one.after, one.gained, one.lost)
        totals = [total + figure for total, figure in zip(totals, figures, strict=True)]
        table.add_row(Text(safe(one.name)), *_change(*figures))
    table.add_row("all rows together", *_change(*totals), style="bold")
    console.print(table)
    mean, low, high = (
        f"{100 * value:+.2f}" for value in (changes.overall.mean, changes.overall.low, changes.overall.high)
    )
    text = f"all rows together: {mean} points, 95% interval {low} to {high} by resampling rows"
    console.print(text, highlight=False, soft_wrap=True)
    if changes.left_out:
        console.print(f"{changes.left_out} rows are only in one of the two, or not judged, and do not count here")
    table = plain_table("category", "reason", right("there"), right("here"), right("difference"))
    for (name, reason), (there, here) in changes.reasons.items():
        if there != here:
            table.add_row(Text(safe(name)), Text(safe(reason)), str(there), str(here), f"{here - there:+d}")
    console.print(table)
    _print_flips(console, changes)
    console.print(Text(f"there: {before}; here: {after}", style="dim"), soft_wrap=True)


def _change(rows: int, before: int, after: int, gained: int, lost: int) -> Sequence[str]:
    points = 100 * (after - before) / rows
    return str(rows), f"{before / rows:.2%}", f"{after / rows:.2%}", f"{points:+.2f}", str(gained), str(lost)


def _print_flips(console: Console, changes: Changes) -> None:
    table = plain_table("row", "", "reason there", "reason here", "message")
    for flip in changes.flips[:SHOWN_FLIPS]:
        up = bool(flip.after.correct)
        wrong = flip.before if up else flip.after
        mark = Text("gained", style="green") if up else Text("lost", style="red")
        reasons = (Text(safe(outcome.reason)) for outcome in (flip.before, flip.after))
        table.add_row(Text(safe(flip.row)), mark, *reasons, Text(safe(shortened(wrong.message, SHOWN_MESSAGE))))
    console.print(Text(f"{len(changes.flips)} rows flipped", style="bold"))
    if changes.flips:
        console.print(table)
    if len(changes.flips) > SHOWN_FLIPS:
        console.print(Text(f"and {len(changes.flips) - SHOWN_FLIPS} more, all in changes.json", style="dim"))
