"""The report of data preparation: its numbers are the data's, and the data's texts stay text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from callwright import Answer, ExpectedCall, Task, Tool
from callwright.pipeline.prepared import CHANGES, CORRECTED, DROPPED, UNREADABLE, Prepared, Step
from callwright.pipeline.report import write_reports
from callwright.pipeline.report.card import card, literal, size_category
from callwright.pipeline.report.examples import LONGEST, differences, question
from callwright.pipeline.report.flow import BAND
from callwright.pipeline.report.gather import (
    CODES_WITH_EXAMPLES,
    EXAMPLES,
    MOST_CATEGORIES,
    SHOWN_CATEGORIES,
    bin_of,
    gather,
    next_bin,
)
from callwright.pipeline.report.page import STYLE, page
from callwright.pipeline.rows import SCHEMA, Rows, to_row
from callwright.pipeline.view import SHOWN_CODES, print_prepared
from callwright.recipe import Recipe, load_recipe
from callwright_data.sources.bfcl import Bfcl
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

# -------------------------------------------------------------------------------------------------- prepared data


@dataclass
class Fate:
    """What a step makes of a row; `after` is the row as it left it, where it corrected it."""

    outcome: str
    code: str
    explanation: str = "because"
    after: Task | None = None


Fates = Mapping[str, Fate]
"""By the id of the row; the others are kept."""


def as_json(task: Task) -> str:
    row = to_row(task)
    values = {name: json.loads(row[name] or "null") for name in ("messages", "tools", "answer", "meta")}
    return json.dumps({"id": row["id"], **values})


def written(folder: Path, number: int, rows: Sequence[Mapping[str, Any]], **values: Any) -> Step:
    """A step with the changes `rows`, and the counts that belong to them."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["outcome"], Counter())[row["code"]] += 1
    path = folder / f"changes-{number}.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), CHANGES), path)
    fixed = {"options": {"path": "<b>.jsonl"}, "origin": "callwright 0.1.0", "key": f"{number:064x}"}
    return Step(**{**fixed, "seconds": 0.25, "cached": False, **values}, counts=counts, changes=path)


def change(number: int, task_id: str | None, step: str, fate: Fate, before: str | None) -> dict[str, Any]:
    after = as_json(fate.after) if fate.after else None
    values = (number, task_id, step, fate.outcome, fate.code, fate.explanation, before, after)
    return dict(zip(CHANGES.names, values, strict=True))


def prepared(folder: Path, tasks: Sequence[Task], steps: Sequence[Fates], unread: Sequence[Fate] = ()) -> Prepared:
    """The tasks gone through stages that give them these fates; the first rows of the source were not readable."""
    rows = [change(n, None, "source", fate, None) for n, fate in enumerate(unread, 1)]
    total = len(tasks) + len(unread)
    done = [written(folder, 0, rows, name="source", use="bfcl", rows_in=total, rows_out=len(tasks))]
    left = list(enumerate(tasks, len(unread) + 1))
    for number, fates in enumerate(steps, 1):
        name, before, rows = f"stage_{number}", left, []
        left = []
        for row, task in before:
            fate = fates.get(task.id)
            if fate is not None:
                rows.append(change(row, task.id, name, fate, as_json(task)))
            if fate is None or fate.outcome != DROPPED:
                left.append((row, (fate and fate.after) or task))
        counts = {"rows_in": len(before), "rows_out": len(left)}
        done.append(written(folder, number, rows, name=name, use=name, cached=number % 2 == 0, **counts))
    return Prepared(Rows.of(tasks), Rows.of(task for _, task in left), tuple(done), "CC-BY-4.0", "https://x.example/y")


def task(name: str, words: str = "What is 1 + 2?", **values: Any) -> Task:
    tools = (Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}}),)
    fixed = {"tools": tools, "answer": Answer((ExpectedCall("add", {"a": [1]}),))}
    return Task(name, ({"role": "user", "content": words},), **{**fixed, **values})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    source = {"use": "jsonl", "path": "```</pre><script>alert(1)</script>.jsonl"}
    values = {"model": {"name": "m"}, "dialect": "funrl", "data": {"source": source}, "rewards": {"use": ["ast_match"]}}
    path.write_text(yaml.safe_dump(values))
    return load_recipe(path)


TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "nav", "a", "figure", "figcaption"}
TAGS |= {"div", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "path", "text", "details", "summary"}
TAGS |= {"article", "strong", "dl", "dt", "dd", "del", "ins", "pre", "code"}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope", "tabindex", "role"}
ATTRIBUTES |= {"viewbox", "width", "height", "x", "y", "d", "data-rows", "preserveaspectratio"}
ATTRIBUTES |= {"aria-label", "aria-hidden"}


@dataclass
class Page(HTMLParser):
    """Reads a page, and fails where it is not well-formed or has what it must not have."""

    content: str
    open: list[str] = field(default_factory=list)
    shapes: list[dict[str, str]] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    words: str = ""
    policy: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(self.content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        assert tag in TAGS
        assert values.keys() <= ATTRIBUTES
        assert values.get("href", "#").startswith("#")
        self.policy = values["content"] if "http-equiv" in values else self.policy
        if "data-rows" in values:
            self.shapes.append(values)
        if tag == "table":
            self.rows = []
            # The histograms share a class; each is known by its first heading.
            self.kind = values["class"]
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            name = self.rows[0][0] if self.kind == "histogram" else self.kind
            self.tables[name] = self.rows[1:]

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data
            if self.open[-1] != "style":
                self.words += data
            if "table" in self.open and self.open[-1] in ("td", "th"):
                self.rows[-1][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def read(prepared: Prepared, recipe: Recipe) -> Page:
    content = page(prepared, recipe, gather(prepared))
    content.encode()
    assert all(sign == "\n" or sign.isprintable() for sign in content)
    assert "//" not in content.replace("https://x.example/y", "")
    return Page(content)


def number(text: str) -> int:
    return int(text.replace(",", ""))


# ---------------------------------------------------------------------------------------------------- the numbers

codes = st.sampled_from(["missing_argument", "wrong|type", "<b>", "a`b", "judge said no\n", "x_" * 40])
categories = st.sampled_from(["live", "<i>", "c" * 80])


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[Task], list[Fates], list[Fate]]:
    sizes = st.tuples(st.integers(0, 40), st.integers(0, 9), st.sampled_from([None, 0, 1, 3]), categories | st.none())
    tasks = []
    for index, (length, tools, calls, category) in enumerate(draw(st.lists(sizes, max_size=25))):
        answer = None if calls is None else Answer((ExpectedCall("f", {}),) * calls)
        meta = {} if category is None else {"category": category}
        tasks.append(task(f"r{index}", "w" * length, tools=(Tool("f"),) * tools, answer=answer, meta=meta))
    fate = st.none() | st.builds(Fate, st.just(DROPPED), codes)
    steps: list[Fates] = []
    for number in range(draw(st.integers(0, 3))):
        drawn = {one.id: draw(fate | codes.map(corrected(one, number))) for one in tasks}
        steps.append({name: some for name, some in drawn.items() if some is not None})
    return tasks, steps, draw(st.lists(st.builds(Fate, st.just(UNREADABLE), codes), max_size=4))


def corrected(one: Task, number: int) -> Any:
    """By code: the row with one more tool."""
    after = replace(one, tools=(*one.tools, Tool(f"tool_{number}")))
    return lambda code: Fate(CORRECTED, code, "one more tool", after)


def expected_codes(steps: Sequence[Step]) -> Counter[tuple[str, str, str, int]]:
    return Counter(
        (step.name, outcome, code, rows)
        for step in steps
        for outcome, some in step.counts.items()
        for code, rows in some.items()
    )


@settings(max_examples=30, deadline=None)
@given(journey=journeys())
def test_the_numbers_shown_are_those_of_the_data(recipe: Recipe, journey: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(Path(folder), *journey)
        shown = read(data, recipe)
        markdown = card(data, recipe, {"train": len(data.rows)})
        screen = Console(file=io.StringIO(), width=200)
        print_prepared(screen, data)
    steps, rows = data.steps, shown.tables["steps"]
    assert shown.texts["h1"] == [f"Data report: {len(data.rows)} of {steps[0].rows_in} rows are left"]
    counts = [(s.rows_in, s.rows_in - s.rows_out, sum(s.counts.get(CORRECTED, {}).values()), s.rows_out) for s in steps]
    assert [(number(r[1]), number(r[2]), number(r[4]), number(r[6])) for r in rows] == counts
    assert all(row[-1] == ("cached" if step.cached else "") for row, step in zip(rows, steps, strict=True))

    found = Counter((r[0], r[1], r[2], number(r[3])) for r in shown.tables.get("codes", []))
    expected = expected_codes(steps)
    assert found == expected
    for name, outcome, code, count in expected:
        line = f"| {literal(name)} | {literal(outcome)} | {literal(code)} | {count} | "
        assert markdown.count(line) == 1
    lines = iter(screen.file.getvalue().splitlines())  # type: ignore[attr-defined]
    for step, figures in zip(steps, counts, strict=True):
        assert next(line for line in lines if step.name in line).split()[1:5] == [str(figure) for figure in figures]


@settings(max_examples=25, deadline=None)
@given(journey=journeys())
def test_bands_are_as_wide_as_their_rows_are_many(recipe: Recipe, journey: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(Path(folder), *journey)
        shapes = read(data, recipe).shapes
    most = max(step.rows_in for step in data.steps)
    for shape in shapes:
        rows = int(shape["data-rows"])
        width = max(rows * BAND / most, 1.0) if rows else 0.0
        if shape["class"] == "dropped":
            end = re.search(r" (\S+) V(\S+) ", shape["d"])
            assert end is not None
            assert float(end[2]) - float(end[1]) == pytest.approx(width, abs=0.1)
        else:
            assert float(shape["width"]) == pytest.approx(width, abs=0.01)
    by_kind = {
        kind: [int(s["data-rows"]) for s in shapes if s["class"] == kind] for kind in ("node", "band", "dropped")
    }
    assert by_kind["node"] == [*(step.rows_in for step in data.steps), len(data.rows)]
    assert by_kind["band"] == [step.rows_out for step in data.steps]
    assert sum(by_kind["dropped"]) == data.steps[0].rows_in - len(data.rows)


@settings(max_examples=25, deadline=None)
@given(journey=journeys())
def test_histograms_count_every_row_once_and_in_its_bin(recipe: Recipe, journey: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(Path(folder), *journey)
        shown = read(data, recipe).tables
    measures = {
        "characters of the question": lambda one: len(one.messages[0]["content"]),
        "tools": lambda one: len(one.tools),
        "calls in the answer": lambda one: None if one.answer is None else len(one.answer.calls),
    }
    for title, measure in measures.items():
        before, after = (Counter(map(measure, rows)) for rows in (data.loaded, data.rows))
        for label, *cells in shown[title]:
            low, _, high = label.partition(" to ")
            values = [None] if label == "not known" else range(number(low), number(high or low) + 1)
            expected = [sum(counts[value] for value in values) for counts in (before, after)]
            assert [number(cell) for cell in cells[:2]] == expected
        assert [sum(number(row[n]) for row in shown[title]) for n in (1, 2)] == [len(data.loaded), len(data.rows)]
    named, left = (Counter(one.meta.get("category", "(none)") for one in rows) for rows in (data.loaded, data.rows))
    if set(named) == {"(none)"}:
        assert "category" not in shown
    else:
        found = {row[0]: (number(row[1]), number(row[2])) for row in shown["category"]}
        assert found == {name: (count, left[name]) for name, count in named.items()}


@given(st.integers(0, 10**12))
def test_bins_follow_each_other(length: int) -> None:
    low = bin_of(length)
    assert low <= length < next_bin(low)
    assert bin_of(low) == low
    assert bin_of(next_bin(low)) == next_bin(low)
    assert bin_of(next_bin(low) - 1) == low


def test_more_categories_than_are_told_apart(tmp_path: Path) -> None:
    tasks = [task(f"r{index}", meta={"category": f"c{index % 1500}"}) for index in range(3000)]
    bins = gather(prepared(tmp_path, tasks, [])).histograms[-1].bins
    assert len(bins) == SHOWN_CATEGORIES
    assert sum(before for _, before, _ in bins) == sum(after for _, _, after in bins) == 3000
    assert bins[0] == ("(further categories)", 2 * (1500 - MOST_CATEGORIES), 2 * (1500 - MOST_CATEGORIES))
    assert bins[-1][0] == f"({MOST_CATEGORIES + 1 - (SHOWN_CATEGORIES - 1)} more categories)"


# --------------------------------------------------------------------------------------------------- the examples

some_text = st.text(st.sampled_from("ab ,\n\u00e9"), max_size=30) | st.text(max_size=12)


@given(before=some_text, after=some_text)
def test_the_difference_is_marked_and_nothing_else(before: str, after: str) -> None:
    pieces = differences(before, after)
    assert tuple("".join(text for text, _ in some) for some in pieces) == (before, after)
    same = ["".join(text for text, differs in some if not differs) for some in pieces]
    assert same[0] == same[1]
    assert any(differs for some in pieces for _, differs in some) == (before != after)


def test_a_corrected_row_shows_what_was_changed(tmp_path: Path, recipe: Recipe) -> None:
    old = task("one", meta={"category": "x"})
    calls = (ExpectedCall("add", {"a": [1, 2]}), ExpectedCall("add", {"a": [""]}))
    mended = replace(old, answer=Answer(calls))
    schema = replace(old, tools=(Tool("add", "Adds up."),), meta={"category": "y"})
    asked = replace(old, messages=({"role": "system", "content": "Be short."}, *old.messages), answer=None)
    steps = [{"one": Fate(CORRECTED, "c", "why so", after)} for after in (mended, schema, asked)]
    data = prepared(tmp_path, [old], steps)
    shown = read(data, recipe)
    examples = [step[CORRECTED, "c"][0].fields for step in gather(data).examples[1:]]
    names = [[one.name for one in fields if one.before != one.after] for fields in examples]
    assert names[0] == ["answer"]
    assert names[1] == ["answer", "tools, as JSON", "meta, as JSON"], "the schemas, as the names are the same"
    assert names[2] == ["answer", "messages, as JSON", "tools, as JSON", "meta, as JSON"]
    assert examples[0][2].before == "add(a=[1])"
    assert examples[0][2].after == 'add(a=[1, 2])\nadd(a=[""])'
    assert {" up", "y"} <= set(shown.texts["ins"])
    assert any(text.startswith(", 2") for text in shown.texts["ins"])
    assert "row 1, id one" in shown.texts["strong"]


def test_a_row_with_no_call_or_no_known_answer_says_so(tmp_path: Path) -> None:
    tasks = [task("a", answer=None), task("b", answer=Answer()), task("c", tools=())]
    data = prepared(tmp_path, tasks, [{one.id: Fate(DROPPED, one.id) for one in tasks}])
    fields = {code: one.fields for (_, code), (one,) in gather(data).examples[1].items()}
    assert [fields[name][2].before for name in "abc"] == ["(not known)", "(no call)", "add(a=[1])"]
    assert [fields[name][1].before for name in "abc"] == ["add", "add", "(none)"]


def test_examples_are_few_and_spread_over_the_rows(tmp_path: Path, recipe: Recipe) -> None:
    tasks = [task(f"r{index}") for index in range(90)]
    drops = {one.id: Fate(DROPPED, "often" if index % 2 else f"rare_{index}") for index, one in enumerate(tasks)}
    data = prepared(tmp_path, tasks, [drops])
    found = gather(data).examples[1]
    assert len(found) == CODES_WITH_EXAMPLES
    assert [one.row for one in found[DROPPED, "often"]] == [2, 32, 62]
    assert len(found[DROPPED, "often"]) == EXAMPLES
    shown = read(data, recipe)
    assert len(shown.texts["summary"]) == CODES_WITH_EXAMPLES
    assert f"Only the {CODES_WITH_EXAMPLES} most frequent of 46 codes." in shown.words
    assert len(shown.tables["codes"]) == 46


@pytest.mark.parametrize("spot", [0, 400_000, 1_000_000])
def test_a_long_text_is_cut_with_a_mark_where_it_was_changed(tmp_path: Path, recipe: Recipe, spot: int) -> None:
    words = "long " * 200_000
    old = task("a", words)
    new = replace(old, messages=({"role": "user", "content": f"{words[:spot]}MENDED{words[spot:]}"},))
    data = prepared(tmp_path, [old], [{"a": Fate(CORRECTED, "c", words, new)}])
    (one,) = gather(data).examples[1][CORRECTED, "c"]
    assert one.explanation.endswith("long  … (1,000,000 characters in all)")
    asked = one.fields[0]
    assert asked.after is not None
    assert "MENDED" in asked.after
    assert "MENDED" not in asked.before
    assert max(len(asked.before), len(asked.after)) < LONGEST + 50
    assert asked.after.startswith("… ") == (spot > 0)
    content = page(data, recipe, gather(data))
    assert len(content) < 40_000
    assert any("MENDED" in text for text in Page(content).texts["ins"])


def test_the_question_is_what_the_user_said_last() -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert question([*said, {"role": "tool", "content": "d"}]) == "c"
    assert question([{"role": "user", "content": [{"type": "text"}]}]) == '[{"type": "text"}]'
    assert question([{"role": "system", "content": "a"}, {}]) == ""


# -------------------------------------------------------------------------------------------- text of data is text

HOSTILE = (
    "<script>alert(1)</script>",
    "</style></pre></svg><img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)" x="',
    "<!-- ]]> <![CDATA[ -->",
    "&lt;b&gt; &#60;",
    "\x00\x1b[2J\u202e\u2028\r\t",
    "\ud800",
    "| `` ``` </code> |\n\n# head\n![x](http://x.example/y)",
)
hostile = st.sampled_from(HOSTILE) | st.text(st.characters(), max_size=20)


def assert_only_text(data: Prepared, recipe: Recipe) -> Page:
    """The page has the tags and attributes that it may have, and so has the card, read as Markdown allows HTML."""
    content = page(data, recipe, gather(data))
    assert all(sign == "\n" or sign.isprintable() for sign in content)
    markdown = card(data, recipe, {"train": 1})
    assert all(sign == "\n" or sign.isprintable() for sign in markdown)
    assert isinstance(header(markdown)["license"], str)
    outside = markdown.split("---\n", 2)[2]
    outside = re.sub(r"(?ms)^(`{3,})\w*$.*?^\1$", "", outside)  # without blocks of code
    outside = re.sub(r"`[^`\n]*`", "", outside)  # and words of code
    assert set(re.findall(r"<[^>]*>", outside)) <= {"<code>", "</code>"}
    assert not re.search(r"[!\]]\(|\]\[", outside)
    for line in markdown.splitlines():
        if line.startswith("| "):
            assert line.count("|") in (5, 6)
    return Page(content)


@settings(max_examples=30, deadline=None)
@given(words=st.lists(hostile, min_size=8, max_size=8))
def test_whatever_is_in_a_row_is_text(recipe: Recipe, words: list[str]) -> None:
    a, b, c, d, e, f, g, h = words
    tools = (Tool(a, b, {"type": c, "properties": {d: {}}}),)
    one = task("id" + e.encode(errors="backslashreplace").decode(), b, tools=tools, meta={"category": c})
    one = replace(one, answer=Answer((ExpectedCall(a, {d: [e, {f: [g]}]}),)))
    after = replace(one, answer=Answer((ExpectedCall(h, {g: [a]}),)), messages=({"role": "user", "content": f},))
    plain = h.encode(errors="backslashreplace").decode()
    fate = Fate(CORRECTED, plain, g.encode(errors="backslashreplace").decode(), after)
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(Path(folder), [one], [{one.id: fate}], [Fate(UNREADABLE, plain, plain)])
        steps = tuple(replace(step, name=f"{step.name}{a}", use=b, origin=c, key=d) for step in data.steps)
        assert_only_text(replace(data, steps=steps, licence=e or None, source_origin=f or None), recipe)


def test_hostile_texts_are_shown_as_they_are(tmp_path: Path, recipe: Recipe) -> None:
    words = "".join(HOSTILE)
    data = prepared(tmp_path, [task("a", words)], [{"a": Fate(DROPPED, "c", HOSTILE[0])}])
    shown = assert_only_text(data, recipe)
    for text in (
        *HOSTILE[:5],
        "\\x00\\x1b[2J\\u202e\\u2028\\r\\t",
        "\\ud800",
        "```</pre><script>alert(1)</script>.jsonl",
    ):
        assert text in shown.words


def test_the_page_may_load_and_run_nothing(tmp_path: Path, recipe: Recipe) -> None:
    shown = read(prepared(tmp_path, [task("a")], []), recipe)
    (style,) = shown.texts["style"]
    assert style == STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert shown.policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style
    assert "@import" not in style


# ------------------------------------------------------------------------------------------------- card, terminal


def header(markdown: str) -> dict[str, Any]:
    _, text, _ = markdown.split("---\n", 2)
    values = yaml.safe_load(text)
    assert isinstance(values, dict)
    return values


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("apache-2.0 ", {"license": "apache-2.0"}),
        (None, {"license": "unknown"}),
        ("Terms: of X\n<b>", {"license": "other", "license_name": "terms-of-x-b"}),
        ("\u6761", {"license": "other", "license_name": "other"}),
    ],
)
def test_the_header_names_the_licence(tmp_path: Path, recipe: Recipe, licence: str | None, expected: Any) -> None:
    data = replace(prepared(tmp_path, [task("a")], []), licence=licence)
    values = header(card(data, recipe, {"train": 1}))
    assert {key: value for key, value in values.items() if key.startswith("license")} == expected


@given(st.integers(0, 10**13))
def test_the_size_is_between_the_bounds_of_its_category(rows: int) -> None:
    units = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    bounds = [int(n) * units[unit] for n, unit in re.findall(r"(\d+)([KMBT])", size_category(rows))]
    if size_category(rows) == "n>1T":
        assert rows >= bounds[0]
    else:
        assert ([0, *bounds])[-2] <= rows < bounds[-1]


def test_the_library_datasets_reads_the_folder_by_its_card(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real rows; and huggingface_hub reads the header as we mean it."""
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    rows_read = Bfcl(["simple_python", "live_multiple"], limit=40).load()
    tasks = [one for one in rows_read if isinstance(one, Task)]
    fates = {one.id: Fate(DROPPED, "too_long") for one in tasks if len(str(one.messages)) > 250}
    out = tmp_path / "out"
    out.mkdir()
    data = prepared(tmp_path, tasks, [fates])
    rows = data.rows.table(0, len(data.rows))
    pq.write_table(rows.slice(5), out / "train.parquet")
    pq.write_table(rows.slice(0, 5), out / "held_out.parquet")
    pq.write_table(pq.read_table(data.steps[1].changes), out / "dropped.parquet")
    write_reports(data, recipe, out)
    names = {"train.parquet", "held_out.parquet", "dropped.parquet", "README.md", "data-report.html"}
    assert {path.name for path in out.iterdir()} == names

    parts = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in parts.items()} == {"train": len(data.rows) - 5, "held_out": 5}
    assert parts["train"].column_names == SCHEMA.names
    assert [row["id"] for row in parts["train"]] == data.rows.ids()[5:]

    markdown = (out / "README.md").read_text()
    values = yaml.safe_load(DatasetCard(markdown).data.to_yaml())
    assert values["license"] == "cc-by-4.0"
    assert values["size_categories"] == [size_category(len(data.rows))]
    assert "function-calling" in values["tags"]
    for text in ("bfcl", "https://x.example/y", "CC-BY-4.0", "too_long", *(step.key for step in data.steps)):
        assert text in markdown
    for name in (*SCHEMA.names, *CHANGES.names):
        assert f"- `{name}`: " in markdown
    assert f"- `held_out.parquet`: {5} rows" in markdown
    shown = read(data, recipe)
    assert {row[0] for row in shown.tables["category"]} == {"simple_python", "live_multiple"}


def test_an_old_report_stays_until_the_new_one_is_whole(tmp_path: Path, recipe: Recipe) -> None:
    data = prepared(tmp_path, [task("a")], [{"a": Fate(DROPPED, "c")}])
    write_reports(data, recipe, tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in ("data-report.html", "README.md")}
    write_reports(data, recipe, tmp_path)
    assert files == {name: (tmp_path / name).read_bytes() for name in files}, "the same data gives the same bytes"
    data.steps[1].changes.write_bytes(b"PAR1 cut off")
    with pytest.raises(pa.ArrowInvalid):
        write_reports(data, recipe, tmp_path)
    assert files == {name: (tmp_path / name).read_bytes() for name in files}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def lines_of(data: Prepared) -> Iterator[str]:
    screen = Console(file=io.StringIO(), width=60)
    print_prepared(screen, data)
    assert isinstance(screen.file, io.StringIO)
    yield from (line.strip() for line in screen.file.getvalue().splitlines())


def test_the_terminal_shows_the_most_frequent_codes(tmp_path: Path) -> None:
    tasks = [task(f"r{index}") for index in range(120)]
    drops = {one.id: Fate(DROPPED, f"code_{min(index // 5, 14)}") for index, one in enumerate(tasks)}
    drops["r119"] = Fate(DROPPED, "[red]\x1b[2J\n")
    lines = list(lines_of(prepared(tmp_path, tasks, [drops])))
    shown = [line.split()[2:] for line in lines if "dropped  " in line]
    assert shown[0] == ["code_14", "49", "40.8%"]
    assert len(shown) == SHOWN_CODES
    assert lines[-1] == f"and 4 more codes, of {120 - 49 - 5 * (SHOWN_CODES - 1)} rows; all are in the report"
    kept = list(lines_of(prepared(tmp_path, tasks, [{"r0": drops["r119"]}])))
    assert [line.split() for line in kept if "dropped  " in line] == [
        ["stage_1", "dropped", "[red]\\x1b[2J", "1", "0.8%"]
    ]


def test_nothing_read_nothing_left(tmp_path: Path, recipe: Recipe) -> None:
    data = prepared(tmp_path, [], [{}])
    shown = read(data, recipe)
    assert shown.texts["h1"] == ["Data report: 0 of 0 rows are left"]
    assert "Every row went through as it is." in shown.words
    assert "source" in " ".join(lines_of(data))
