"""One HTML page with everything: it loads nothing and runs nothing, and whatever a recipe or a model wrote is text."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from callwright.compare.arms import Comparison, changed_settings
from callwright.compare.figures import Drawn, draw_all
from callwright.compare.readings import LAST_STEPS, Reading, read_all
from callwright.compare.runner import write
from callwright.compare.statistics import RESAMPLES
from callwright.compare.summary import HEADINGS, Summary, cells, print_summary, summarise, to_csv, to_json
from callwright.display import safe, scoring_progress, shortened
from callwright.html_page import document, table, text
from callwright.types import JSON

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child, .words td { text-align: left; } .words th { text-align: left; }
.words td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
tr.baseline { font-weight: 600; }
.remarks { border-left: 4px solid #d55e00; padding: .1rem 1rem; background: #fdf3ec; }
figure { margin: 2rem 0; } img { max-width: 100%; height: auto; } figcaption, .small { color: #555; font-size: .87rem; }
"""
LONGEST_VALUE = 300


def report(comparison: Comparison, console: Console, remarks: Sequence[str], failed: Mapping[str, str]) -> Summary:
    """Read all runs, write summary.json, summary.csv, report.html and the figures, and print the table."""
    with scoring_progress(console) as progress:
        found, incomplete = read_all(comparison, progress("read runs"))
        failures = [f"{run} failed: {what}" for run, what in failed.items()]
        summary = summarise(comparison, found, [*failures, *remarks, *incomplete])
        figures, empty = draw_all(found, comparison.baseline, progress("draw"))
    out = comparison.out
    write(out / "summary.json", to_json(summary, found))
    write(out / "summary.csv", to_csv(found))
    for figure in figures:
        write(out / "figures" / f"{figure.name}.png", figure.png)
    write(out / "report.html", page(comparison, summary, found, figures, empty))
    print_summary(console, summary)
    console.print(Text(f"page: {safe(str(out / 'report.html'))}"), soft_wrap=True)
    return summary


def page(
    comparison: Comparison,
    summary: Summary,
    found: Mapping[str, Mapping[int, Reading]],
    figures: Sequence[Drawn],
    empty: Sequence[str],
) -> str:
    title = f"Comparison: {len(summary.rows)} arms"
    parts: list[str] = [
        _remarks(summary.remarks),
        _main_table(summary),
        *map(_figure, figures),
        f'<p class="small">Nothing to draw for: {text(", ".join(empty))}.</p>' if empty else "",
        "<h2>What differs from the baseline</h2>",
        _changes(comparison),
        "<h2>Runs</h2>",
        _runs(found),
    ]
    return document(title, STYLE, parts, images=True)


def _remarks(remarks: Sequence[str]) -> str:
    if not remarks:
        return ""
    items = "".join(f"<li>{text(remark)}</li>" for remark in remarks)
    return f'<div class="remarks"><p><strong>Read this first</strong></p><ul>{items}</ul></div>'


def _main_table(summary: Summary) -> str:
    bold = next(i for i, row in enumerate(summary.rows) if row.arm == summary.baseline)
    methods = sorted({row.difference.method for row in summary.rows if row.difference and row.difference.seeds})
    how = f"The interval is the bootstrap's, {RESAMPLES} resamples of {' / '.join(methods)}. " if methods else ""
    note = (
        "Accuracy is greedy, on held-out rows, after training; ± is the standard deviation over seeds. The difference"
        f" is in points, the arm minus the baseline at the same seeds, so on the same rows. {how}Entropy (nats per"
        f" token; ratio: to the baseline's) and tokens of a completion are means of the last {LAST_STEPS} steps."
    )
    return table(HEADINGS, [cells(row) for row in summary.rows], bold=bold) + f'<p class="small">{text(note)}</p>'


def _figure(figure: Drawn) -> str:
    image = base64.b64encode(figure.png).decode()
    return (
        f'<figure><img alt="{text(figure.title)} by arm, against steps and against training time"'
        f' src="data:image/png;base64,{image}"><figcaption>{text(figure.caption)}</figcaption></figure>'
    )


def _changes(comparison: Comparison) -> str:
    rows = [
        (name, place, _value(old), _value(new))
        for name, places in changed_settings(comparison).items()
        for place, (old, new) in places.items()
    ]
    return table(("arm", "setting", "baseline", "arm's"), rows, "words") if rows else "<p>No setting does.</p>"


def _value(value: JSON) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), LONGEST_VALUE)


def _runs(found: Mapping[str, Mapping[int, Reading]]) -> str:
    rows = []
    for arm, runs in found.items():
        for seed, run in runs.items():
            before, after = (f"{r.accuracy:.1%} of {r.rows}" if r else "-" for r in (run.before, run.after))
            minutes = f"{run.minutes[-1]:.1f}" if len(run.minutes) else "-"
            rows.append(
                (arm, str(seed), f"{len(run.steps)}/{run.planned_steps}", before, after, minutes, str(run.folder))
            )
    return table(("arm", "seed", "steps", "before", "after", "minutes", "folder"), rows)
