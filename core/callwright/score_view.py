"""What `callwright score` shows: distributions, reasons, rows that stand out, one completion in colour, changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from callwright.display import safe, shortened
from callwright.score import Scored, changes, reasons, strangeness
from callwright.tables import WIDTH_OF_A_FILE, plain_table, right
from callwright.types import ReasonCode, Span, Verdict

BARS = " ▁▂▃▄▅▆▇█"
BINS = 10
SHOWN_ROWS = 5
SHOWN_CHANGES = 20
SHOWN_TEXT = 60
_GOOD, _BAD, _SEEN = "black on green", "bold white on red", "black on yellow"


def print_scores(console: Console, scored: Sequence[Scored]) -> None:
    """Everything about a whole file."""
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    console.print(_distributions(scored))
    console.print(_reasons(scored))
    _rows(console, "slowest rows", [(one, _seconds(one.seconds)) for one in _slowest(scored)])
    strange = strangeness(scored)
    _rows(console, f"strangest rows, {len(strange)} in all", strange[:SHOWN_ROWS])
    if strange:
        console.print(Text(f"look at one with --explain {strange[0][0].row.number}", style="dim"), soft_wrap=True)


def _distributions(scored: Sequence[Scored]) -> Table:
    table = plain_table(
        "reward", *map(right, ("scored", "abstained", "failed", "mean", "min", "max")), "from min to max"
    )
    for name in scored[0].verdicts:
        verdicts = [one.verdicts[name] for one in scored]
        failed = sum(verdict.failure is not None for verdict in verdicts)
        scores = [float(v.score) for v in verdicts if v.score is not None]
        abstained = sum(v.score is None and v.failure is None for v in verdicts)
        table.add_row(Text(safe(name)), *_figures(scores, abstained, failed))
    totals = [one.total for one in scored if not math.isnan(one.total)]
    table.add_row("combined", *_figures(totals, len(scored) - len(totals), 0), style="bold")
    return table


def _figures(scores: Sequence[float], abstained: int, failed: int) -> list[str]:
    counts = [str(len(scores)), str(abstained), str(failed)]
    if not scores:
        return [*counts, "-", "-", "-", ""]
    low, high = min(scores), max(scores)
    return [*counts, f"{sum(scores) / len(scores):.3f}", f"{low:.3g}", f"{high:.3g}", histogram(scores)]


def histogram(scores: Sequence[float]) -> str:
    """Ten bars from the lowest score to the highest; any bin that is not empty shows."""
    low, high = min(scores), max(scores)
    if low == high:
        return f"all {low:.3g}"
    bins = [0] * BINS
    for score in scores:
        bins[min(int((score - low) / (high - low) * BINS), BINS - 1)] += 1
    return "".join(BARS[math.ceil(count / max(bins) * (len(BARS) - 1))] for count in bins)


def _reasons(scored: Sequence[Scored]) -> Table:
    table = plain_table("reward", "first reason", right("rows"), right("share"))
    for name, counts in reasons(scored).items():
        for code, count in counts.most_common():
            table.add_row(Text(safe(name)), Text(safe(code)), str(count), f"{count / len(scored):.1%}")
    return table


def _slowest(scored: Sequence[Scored]) -> list[Scored]:
    return sorted(scored, key=lambda one: (-one.seconds, one.row.number))[:SHOWN_ROWS]


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _rows(console: Console, title: str, rows: Sequence[tuple[Scored, str]]) -> None:
    if not rows:
        return
    table = plain_table(right("row"), "task", "", Column("completion", no_wrap=True, overflow="ellipsis"))
    for one, why in rows:
        text = shortened(one.row.completion.replace("\n", " "), SHOWN_TEXT)
        table.add_row(str(one.row.number), Text(safe(one.row.task.id)), Text(safe(why)), Text(safe(text)))
    console.print(Text(title, style="bold"))
    console.print(table)


# ------------------------------------------------------------------------------------------------ one completion


def print_explanation(console: Console, one: Scored) -> None:
    """The question, the completion with what the rewards point at in colour, and what each says."""
    questions = [str(m.get("content")) for m in one.row.task.messages if m.get("role") == "user"]
    console.print(Text(f"row {one.row.number}, task {safe(one.row.task.id)}", style="bold"))
    if questions:
        console.print(Text(safe(questions[-1]), style="cyan"))
    console.print(marked(one))
    total = "takes no part" if math.isnan(one.total) else f"combined {one.total:.3g}"
    console.print(Text(total, style="bold"))
    for name, verdict in one.verdicts.items():
        console.print(_verdict_line(name, verdict))
        for reason in verdict.reasons:
            console.print(_reason_line(one, verdict, reason.code, reason.message, reason.span), soft_wrap=True)


def marked(one: Scored) -> Text:
    """The completion. Red: what a reason says is wrong; green: what is right; yellow: pointed at by a reward that
    abstains. Where two point at a character, the worse one shows."""
    text = one.row.completion
    styles: list[str | None] = [None] * len(text)
    for style in (_SEEN, _GOOD, _BAD):
        for verdict in one.verdicts.values():
            for reason in verdict.reasons:
                if reason.span is not None and _style(verdict, str(reason.code)) == style:
                    start, end = _inside(reason.span, len(text))
                    styles[start:end] = [style] * (end - start)
    result, start = Text(), 0
    for end in range(1, len(text) + 1):
        if end == len(text) or styles[end] != styles[start]:
            result.append(safe(text[start:end]), styles[start])
            start = end
    return result if text else Text("(empty completion)", style="dim")


def _inside(span: Span, length: int) -> Span:
    start = min(max(span[0], 0), length)
    return start, min(max(span[1], start), length)


def _style(verdict: Verdict, code: str) -> str:
    if verdict.score is None and verdict.failure is None:
        return _SEEN
    right_ = code == ReasonCode.CORRECT or verdict.score == 1.0
    return _GOOD if right_ and verdict.failure is None else _BAD


def _verdict_line(name: str, verdict: Verdict) -> Text:
    if verdict.failure is not None:
        score = "failed" if verdict.score is None else f"failed, floor {verdict.score:.3g}"
    else:
        score = "abstained" if verdict.score is None else f"{verdict.score:.3g}"
    style = "bold green" if verdict.score == 1.0 else "bold yellow" if score == "abstained" else "bold red"
    return Text.assemble((safe(name), "bold"), "  ", (score, style))


def _reason_line(one: Scored, verdict: Verdict, code: str, message: str, span: Span | None) -> Text:
    line = Text.assemble("  ", (safe(str(code)), _style(verdict, str(code)).split()[-1]))
    if span is not None:
        start, end = _inside(span, len(one.row.completion))
        excerpt = shortened(one.row.completion[start:end].replace("\n", " "), SHOWN_TEXT)
        line.append(f"  characters {start} to {end}: ").append(safe(repr(excerpt)))
    if message:
        line.append(f"  {safe(message)}")
    return line


# ------------------------------------------------------------------------------------------------------ changes


def print_changes(console: Console, before: Sequence[Scored], after: Sequence[Scored]) -> None:
    """Which rows another recipe judges differently."""
    changed = changes(before, after)
    up = sum(b.total > a.total for a, b in changed)
    down = sum(b.total < a.total for a, b in changed)
    text = f"{len(changed)} of {len(before)} rows change: {up} up, {down} down, {len(changed) - up - down} otherwise"
    console.print(Text(text, style="bold"), soft_wrap=True)
    table = plain_table(right("row"), "task", right("before"), right("after"), "why, after")
    for first, second in changed[:SHOWN_CHANGES]:
        totals = ("-" if math.isnan(one.total) else f"{one.total:.3g}" for one in (first, second))
        table.add_row(str(first.row.number), Text(safe(first.row.task.id)), *totals, Text(safe(_why(first, second))))
    if changed:
        console.print(table)
    if len(changed) > SHOWN_CHANGES:
        console.print(Text(f"and {len(changed) - SHOWN_CHANGES} more", style="dim"))


def _why(first: Scored, second: Scored) -> str:
    """The reasons of the rewards that are new or judge differently."""
    parts = []
    for name, verdict in second.verdicts.items():
        old = first.verdicts.get(name)
        if old is None or old.score != verdict.score:
            codes = ", ".join(str(reason.code) for reason in verdict.reasons[:2])
            parts.append(f"{name}: {codes or 'no reason given'}")
    return "; ".join(parts) or "the rewards are put together differently"
