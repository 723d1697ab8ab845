"""`README.md` of prepared data: a data set card, as Hugging Face has them, of what is in it and how it came to be.

The header's keys: https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from callwright import __version__
from callwright.display import safe, shortened
from callwright.pipeline.output import DROPPED_FILE
from callwright.pipeline.prepared import CHANGES, CORRECTED, Prepared, Step
from callwright.pipeline.report.counts import by_frequency, lost, rows_of, share
from callwright.pipeline.report.page import data_part
from callwright.pipeline.rows import SCHEMA
from callwright.recipe import Recipe

LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "openrail", "unlicense"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "cdla-permissive-2.0"),
)
"""Common ones of those that a header may name; others are `other`, with a name."""
COLUMNS = {
    "id": "different in every row",
    "messages": "the conversation, a list of `{role, content}`, as JSON",
    "tools": "the functions on offer, a list of `{name, description, parameters}`, the parameters as JSON Schema, as"
    " JSON",
    "answer": "the calls to make, a list of `{name, arguments}`, with the list of right values for each argument, as"
    ' JSON; "" in a list says that the argument may be left out; an empty list of calls says that none should be made;'
    " null where the answer is not known",
    "meta": "an object with what else the source says of the row, as JSON",
    "row": "its number in the source, from 1",
}
CHANGE_COLUMNS = {
    "row": "its number in the source, from 1",
    "id": "null for a row that could not be read",
    "stage": "the step",
    "outcome": "`dropped`, `corrected` or `unreadable`",
    "code": "why, in a word",
    "explanation": "why, in a sentence",
    "before": "the row as the step found it, as JSON",
    "after": "the row as the step left it, as JSON, if it was corrected",
}
LONGEST_NAME = 200


def card(prepared: Prepared, recipe: Recipe, parts: Mapping[str, int]) -> str:
    """The whole card, in Markdown. parts: the rows of every file of rows beside it, by its name without `.parquet`."""
    return "\n".join(
        [
            *_header(prepared, parts),
            *_about(prepared),
            *_sources(prepared),
            *_use(parts),
            *_steps(prepared, recipe),
        ]
    )


def size_category(rows: int) -> str:
    """The name that a header has for so many rows."""
    ends = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    power = next((index for index in range(len(ends)) if rows < 10 ** (index + 3)), len(ends))
    if power == 0:
        return "n<1K"
    return "n>1T" if power == len(ends) else f"{ends[power - 1]}<n<{ends[power]}"


def _header(prepared: Prepared, parts: Mapping[str, int]) -> list[str]:
    licence = (prepared.licence or "").strip()
    terms: dict[str, str] = {"license": "unknown"}
    if licence.lower() in LICENCES:
        terms = {"license": licence.lower()}
    elif licence:
        slug = re.sub(r"[^a-z0-9.]+", "-", shortened(licence.lower(), 60)).strip("-")
        terms = {"license": "other", "license_name": slug or "other"}
    # Named one by one, as the dropped rows lie beside them and have other columns.
    files = [{"split": part, "path": f"{part}.parquet"} for part in parts]
    fields = {
        **terms,
        "size_categories": [size_category(len(prepared.rows))],
        "task_categories": ["text-generation"],
        "tags": ["function-calling", "tool-use", "callwright"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return ["---", yaml.safe_dump(fields, sort_keys=False).rstrip(), "---", ""]


def _about(prepared: Prepared) -> list[str]:
    read, left = (prepared.steps[0].rows_in if prepared.steps else 0), len(prepared.rows)
    return [
        "# Prepared function-calling data",
        "",
        f"{left:,} rows for training a language model to call functions, left of {read:,} that the source has"
        f" ({share(left, read)}). Prepared with callwright {__version__}; `data-report.html` shows what became of the"
        " others.",
        "",
    ]


def _sources(prepared: Prepared) -> list[str]:
    unsaid = "the source does not say"
    return [
        "## Source",
        "",
        *(f"- Read by: {literal(step.use)} of {literal(step.origin)}" for step in prepared.steps[:1]),
        f"- From: {literal(prepared.source_origin) if prepared.source_origin else unsaid}",
        f"- Licence: {literal(prepared.licence) if prepared.licence else unsaid}",
        "",
    ]


def _use(parts: Mapping[str, int]) -> list[str]:
    code = f"""
import json
from datasets import load_dataset

parts = load_dataset("path/to/this/folder")
row = parts["train"][0]
tools = json.loads(row["tools"])

changes = load_dataset("parquet", data_files="path/to/this/folder/{DROPPED_FILE}", split="train")
"""
    return [
        "## Use",
        "",
        *fenced(code.strip(), "python"),
        *(f"- `{part}.parquet`: {rows:,} rows" for part, rows in parts.items()),
        f"- `{DROPPED_FILE}`: the rows that were dropped, corrected or could not be read",
        "",
        "Columns of the rows:",
        "",
        *(f"- `{name}`: {COLUMNS[name]}" for name in SCHEMA.names),
        "",
        f"Columns of `{DROPPED_FILE}`:",
        "",
        *(f"- `{name}`: {CHANGE_COLUMNS[name]}" for name in CHANGES.names),
        "",
    ]


def _steps(prepared: Prepared, recipe: Recipe) -> Iterator[str]:
    counts = [
        (
            literal(step.name),
            f"{step.rows_in:,}",
            f"{lost(step):,}",
            f"{rows_of(step, CORRECTED):,}",
            f"{step.rows_out:,}",
        )
        for step in prepared.steps
    ]
    yield from ("## Preparation", "", "A row goes through the steps in this order.", "")
    yield from _table(("step", "rows in", "lost", "corrected", "rows out"), counts)
    yield from ("Why rows were dropped (or could not be read), and what was corrected:", "")
    yield from _table(("step", "outcome", "code", "rows", "share"), list(_codes(prepared.steps)))
    yield from ("Versions, and the SHA-256 of all that the result of each step depends on:", "")
    versions = [(literal(s.name), literal(s.use), literal(s.origin), literal(s.key)) for s in prepared.steps]
    yield from _table(("step", "plugin", "from", "key"), versions)
    yield from ("The part of the recipe:", "")
    yield from fenced(safe(data_part(recipe)), "yaml")


def _codes(steps: Sequence[Step]) -> Iterator[tuple[str, ...]]:
    for step in steps:
        for (outcome, code), rows in by_frequency(step):
            yield literal(step.name), literal(outcome), literal(code), f"{rows:,}", share(rows, step.rows_in)


# ------------------------------------------------------------------------------------------------------- Markdown


def literal(text: str) -> str:
    """`text`, cut if it is long, as a word of code in which nothing is Markdown or HTML, also in a table."""
    shown = safe(shortened(text, LONGEST_NAME)).replace("\n", "\\n")
    if shown and not any(sign in shown for sign in "`|\\"):
        return f"`{shown}`"
    return f"<code>{''.join(c if c.isalnum() or c == ' ' else f'&#{ord(c)};' for c in shown)}</code>"


def fenced(text: str, language: str) -> list[str]:
    """`text` as a block of code, whatever is in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", text, fence, ""]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["(none)", ""]
    lines = [headings, ["---"] * len(headings), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
