"""`data-report.html`: what became of the rows, on one page that opens without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

from callwright import __version__
from callwright.display import shortened
from callwright.html_page import Markup, document, table, text
from callwright.pipeline.prepared import CORRECTED, Prepared, Step
from callwright.pipeline.report.counts import Outcome, by_frequency, lost, rows_of, seconds, share
from callwright.pipeline.report.examples import Example, Field, Pieces, cut, differences
from callwright.pipeline.report.flow import flow
from callwright.pipeline.report.gather import CODES_WITH_EXAMPLES, EXAMPLES, NO_CATEGORY, Gathered, Histogram
from callwright.recipe import Recipe

STYLE = """
:root { color-scheme: light dark; --ink: #1b1c20; --soft: #575b63; --line: #d9dce2; --back: #fff; --panel: #f5f6f8;
  --kept: #3a6ea5; --gone: #c4532f; --mended: #23855a; --old: #fbdcd2; --new: #d3f0e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e8ec; --soft: #a9adb6; --line: #3a3e47; --back: #16181c;
  --panel: #1f2228; --kept: #6fa3d8; --gone: #e57a55; --mended: #4fc08d; --old: #5c2a1b; --new: #174a33; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 64rem;
  margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; overflow-wrap: anywhere; }
nav a { margin-right: 1rem; white-space: nowrap; } a { color: var(--kept); }
.small, figcaption, dt { color: var(--soft); font-size: .875rem; } figure { margin: 0; }
.wide { overflow-x: auto; }
:focus-visible { outline: 3px solid var(--kept); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, .codes :is(th, td):nth-child(-n+3), .versions :is(th, td) { text-align: left; }
.codes td:nth-child(3) { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
.histogram td:first-child { max-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
.histogram td:last-child { width: 14rem; min-width: 7rem; }
.bars { display: block; width: 100%; height: .8rem; }
.bars .all { fill: var(--line); } .bars .left { fill: var(--kept); }
.flow { display: block; font-size: 13px; } .flow text { fill: var(--ink); } .flow .step { font-weight: 600; }
.flow .node { fill: var(--kept); } .flow .band { fill: var(--kept); opacity: .35; }
.flow .corrected { fill: var(--mended); } .flow .dropped { fill: var(--gone); opacity: .6; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; padding: .3rem .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
article { border-top: 1px solid var(--line); padding: .6rem 0; } dl { margin: 0; } dd { margin: 0 0 .5rem; }
dd, pre { white-space: pre-wrap; overflow-wrap: anywhere; font: .875rem/1.45 ui-monospace, monospace; }
dd p, pre { margin: .15rem 0; padding: .3rem .5rem; background: var(--panel); border-radius: .3rem; }
del { background: var(--old); text-decoration: line-through; }
ins { background: var(--new); text-decoration: underline; }
"""
SECTIONS = {
    "flow": "Flow",
    "steps": "Steps",
    "codes": "Codes",
    "examples": "Examples",
    "rows": "Before and after",
    "recipe": "Recipe",
}
LONGEST_NAME = 80


def page(prepared: Prepared, recipe: Recipe, gathered: Gathered) -> str:
    """The whole page."""
    read, left = (prepared.steps[0].rows_in if prepared.steps else 0), len(prepared.rows)
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in SECTIONS.items())
    parts: list[str] = [
        f"<p>{text(_lead(prepared))}</p><nav>{links}</nav>",
        _heading("flow"),
        f'<figure><div class="wide" tabindex="0">{flow(prepared)}</div><figcaption>A band is as wide as its rows are'
        " many, but never narrower than a line. In orange, rows that are dropped or cannot be read; in green, the part"
        " of a step's rows that it corrected.</figcaption></figure>",
        _heading("steps"),
        _steps(prepared.steps),
        _heading("codes"),
        _codes(prepared.steps),
        _heading("examples"),
        *_examples(prepared.steps, gathered),
        _heading("rows"),
        '<p class="small">All rows that could be read, and those that are left. Bars: grey is before, blue after. The'
        " question is the user's last message.</p>",
        *map(_histogram, gathered.histograms),
        _heading("recipe"),
        f"<pre>{text(data_part(recipe))}</pre>",
        _versions(prepared.steps),
    ]
    return document(f"Data report: {left:,} of {read:,} rows are left", STYLE, parts)


def data_part(recipe: Recipe) -> str:
    """The recipe's `data`, with defaults, as YAML."""
    lines = iter(recipe.to_yaml().splitlines())
    first = next(line for line in lines if line == "data:")
    return "\n".join([first, *takewhile(lambda line: not line or line.startswith(" "), lines)])


def _heading(name: str) -> str:
    return f'<h2 id="{name}">{SECTIONS[name]}</h2>'


def _lead(prepared: Prepared) -> str:
    steps = prepared.steps
    said = {"Source": steps[0].use if steps else None, "From": prepared.source_origin, "Terms": prepared.licence}
    cached = [step for step in steps if step.cached]
    time = sum(step.seconds for step in steps if not step.cached)
    return " ".join(
        [
            *(f"{name}: {cut(what)}." for name, what in said.items() if what),
            f"{len(steps):,} steps, {len(cached):,} of them taken from an earlier run; the others took {time:.1f} s.",
            f"Written by callwright {__version__}.",
        ]
    )


def _steps(steps: Sequence[Step]) -> Markup:
    headings = ("step", "rows in", "lost", "share", "corrected", "share", "rows out", "seconds", "rows/s", "")
    rows = [
        (
            _named(step),
            f"{step.rows_in:,}",
            f"{lost(step):,}",
            share(lost(step), step.rows_in),
            f"{rows_of(step, CORRECTED):,}",
            share(rows_of(step, CORRECTED), step.rows_in),
            f"{step.rows_out:,}",
            seconds(step),
            f"{step.rows_in / step.seconds:,.0f}" if step.seconds > 0 else "-",
            "cached" if step.cached else "",
        )
        for step in steps
    ]
    note = "Seconds are those that the step took when it ran; a cached one did not run again."
    return Markup(table(headings, rows, "steps") + f'<p class="small">{note}</p>')


def _named(step: Step) -> str:
    return shortened(step.name if step.name == step.use else f"{step.name}: {step.use}", LONGEST_NAME)


def _codes(steps: Sequence[Step]) -> Markup:
    rows = [
        (shortened(step.name, LONGEST_NAME), outcome, cut(code), f"{count:,}", share(count, step.rows_in))
        for step in steps
        for (outcome, code), count in by_frequency(step)
    ]
    if not rows:
        return Markup("<p>Every row went through as it is.</p>")
    return table(("step", "outcome", "code", "rows", "share of the step's"), rows, "codes")


def _versions(steps: Sequence[Step]) -> Markup:
    rows = [(_named(step), shortened(step.origin, LONGEST_NAME), step.key) for step in steps]
    note = "Key: SHA-256 of all that the step's result depends on."
    return Markup(table(("step", "from", "key"), rows, "versions") + f'<p class="small">{note}</p>')


# ------------------------------------------------------------------------------------------------------- examples


def _examples(steps: Sequence[Step], gathered: Gathered) -> Iterator[str]:
    yield (
        f'<p class="small">At most {EXAMPLES} of each code, spread over its rows. Struck out is what a step removed,'
        " underlined what it put there. An answer lists, for each argument, the values that are right.</p>"
    )
    for step, examples in zip(steps, gathered.examples, strict=True):
        if examples:
            yield f"<h3>{text(_named(step))}</h3>"
            yield from _of_step(step, examples)


def _of_step(step: Step, examples: Mapping[Outcome, Sequence[Example]]) -> Iterator[str]:
    counts = dict(by_frequency(step))
    for (outcome, code), some in examples.items():
        rows = counts[outcome, code]
        title = f"<summary>{text(outcome)}: <strong>{text(cut(code))}</strong>, {rows:,} rows</summary>"
        yield f"<details>{title}{''.join(map(_example, some))}</details>"
    if len(counts) > len(examples):
        yield f'<p class="small">Only the {CODES_WITH_EXAMPLES} most frequent of {len(counts):,} codes.</p>'


def _example(one: Example) -> str:
    name = f"row {one.row:,}" + ("" if one.id is None else f", id {one.id}")
    why = f"<dt>why</dt><dd><p>{text(one.explanation)}</p></dd>" if one.explanation else ""
    return f"<article><strong>{text(name)}</strong><dl>{why}{''.join(map(_field, one.fields))}</dl></article>"


def _field(field: Field) -> str:
    if field.after is None or field.after == field.before:
        return f"<dt>{text(field.name)}</dt><dd><p>{text(field.before)}</p></dd>"
    before, after = differences(field.before, field.after)
    return (
        f"<dt>{text(field.name)}, before and after</dt>"
        f"<dd><p>{_marked(before, 'del')}</p><p>{_marked(after, 'ins')}</p></dd>"
    )


def _marked(pieces: Pieces, tag: str) -> str:
    return "".join(f"<{tag}>{text(piece)}</{tag}>" if differs else text(piece) for piece, differs in pieces)


# ----------------------------------------------------------------------------------------------------- histograms


def _histogram(histogram: Histogram) -> str:
    title = f"<h3>{text(histogram.title)}</h3>"
    if [name for name, _, _ in histogram.bins] == [NO_CATEGORY]:
        return f"{title}<p>No row has a <code>category</code> in its <code>meta</code>.</p>"
    most = max((max(before, after) for _, before, after in histogram.bins), default=0)
    rows = [
        (name, f"{before:,}", f"{after:,}", share(after, before), _bars(before, after, max(most, 1)))
        for name, before, after in histogram.bins
    ]
    return f"{title}{table((histogram.title, 'before', 'after', 'left', ''), rows, 'histogram')}"


def _bars(before: int, after: int, most: int) -> Markup:
    return Markup(
        '<svg class="bars" aria-hidden="true" viewBox="0 0 100 10" preserveAspectRatio="none">'
        f'<rect class="all" width="{100 * before / most:.2f}" height="10"/>'
        f'<rect class="left" y="2.5" width="{100 * after / most:.2f}" height="5"/></svg>'
    )
