"""Tasks of the Berkeley Function Calling Leaderboard, from the files of the installed `bfcl-eval` package.

The package is never imported: it brings vendors' SDKs that nothing here needs.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from callwright import Answer, CallwrightError, ExpectedCall, RowError, Task
from callwright.types import JSON

from callwright_data.sources._row_files import NumberedRow, read_rows, sha256
from callwright_data.sources._rows import Row, tasks

WITH_KEY = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
)
NO_CALL = ("irrelevance", "live_irrelevance")
ANY_CALL = ("live_relevance",)
"""Some call is expected, but BFCL does not say which: these tasks have no answer."""
CATEGORIES = WITH_KEY + NO_CALL + ANY_CALL
"""What BFCL asks to be answered in Python's notation."""
OTHER_LANGUAGES = ("simple_java", "simple_javascript")
"""What it asks to be answered in another one. They have keys too, of plain values."""

_INSTALL = "pip install --no-deps bfcl-eval==2026.3.23"


@dataclass
class Bfcl:
    """Berkeley Function Calling Leaderboard v4: the single-turn categories.

    In simple_java and simple_javascript the values are those that BFCL's checker compares after it has read the
    language's notation: numbers, texts, lists and objects. Where a parameter may be anything, the value is a text
    that holds source code, such as `new Path('/tmp')`.
    """

    categories: list[str] = field(default_factory=lambda: ["simple_python"])
    """Any of BFCL's single-turn categories, in this order."""
    limit: int | None = None
    """At most this many tasks of each category, from its start."""

    licence: ClassVar[str] = "Apache-2.0"
    origin: ClassVar[str] = "Berkeley Function Calling Leaderboard v4, from the package bfcl-eval"

    def __post_init__(self) -> None:
        every = CATEGORIES + OTHER_LANGUAGES
        for category in self.categories:
            if category not in every:
                near = difflib.get_close_matches(category, every, 1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise CallwrightError(f"unknown BFCL category '{category}': {hint}There are {', '.join(every)}.")

    def load(self) -> Iterator[Task | RowError]:
        """Tasks in the order of the files, with BFCL's ids. Their `meta` holds `category`, and BFCL's own `functions`
        and `possible_answer`. Raises `CallwrightError` when `bfcl-eval` is not installed."""
        folder = _folder()
        return itertools.chain.from_iterable(_load(folder, category, self.limit) for category in self.categories)

    def fingerprint(self) -> str:
        """The version of bfcl-eval, and the SHA-256 of the categories' files."""
        folder = _folder()
        paths = [path for category in self.categories for path in _paths(folder, category) if path is not None]
        return f"bfcl-eval {importlib.metadata.version('bfcl-eval')} {sha256(paths)}"


def _folder() -> Path:
    spec = importlib.util.find_spec("bfcl_eval")
    if spec is None or not spec.submodule_search_locations:
        raise CallwrightError(
            "the source 'bfcl' reads the files of the package bfcl-eval, which is not installed; "
            f"install it with: {_INSTALL}"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _paths(folder: Path, category: str) -> tuple[Path, Path | None]:
    """Where the questions are, and the answers if there are any."""
    name = f"BFCL_v4_{category}.json"
    return folder / name, folder / "possible_answer" / name if category in WITH_KEY + OTHER_LANGUAGES else None


def _load(folder: Path, category: str, limit: int | None) -> Iterator[Task | RowError]:
    questions, answers = _paths(folder, category)
    rows: Iterator[NumberedRow] = itertools.islice(_rows(questions), limit)
    if answers is not None:
        rows = _with_keys(rows, iter(_rows(answers)))
    return tasks(rows, str(questions), category, lambda row: [_task(row, category)])


def _with_keys(rows: Iterable[NumberedRow], keys: Iterator[NumberedRow]) -> Iterator[NumberedRow]:
    """The rows, each with the row at the same place in the answer file as its field `key`."""
    for number, fields in rows:
        _, key = next(keys, (0, None))
        yield number, {**fields, "key": key} if isinstance(fields, dict) else fields


def _rows(path: Path) -> Iterable[NumberedRow]:
    try:
        return read_rows(path)
    except CallwrightError as error:
        raise CallwrightError(
            f"{error}; this version of bfcl-eval may have other files, install the right one with: {_INSTALL}"
        ) from error


def _task(row: Row, category: str) -> Task:
    functions, questions = row.items("function"), row.items("question")
    if not questions or not isinstance(questions[0], list):
        row.fail("question", "should be a list of turns, each a list of messages")
    meta: dict[str, JSON] = {"category": category, "functions": functions}
    answer = Answer() if category in NO_CALL else None
    if "key" in row.fields:
        meta["possible_answer"] = _key(row, row.fields["key"])
        calls = (item for call in meta["possible_answer"] for item in call.items())
        answer = Answer(tuple(ExpectedCall(name, arguments) for name, arguments in calls))
    return Task(row.id(), tuple(questions[0]), row.tools(functions, "function"), answer, meta)


def _key(row: Row, key: JSON | RowError) -> list[dict[str, JSON]]:
    """The answer's calls: `{name: {argument: allowed values}}`."""
    if not isinstance(key, dict) or key.get("id") != row.id():
        found = repr(key.get("id")) if isinstance(key, dict) else "no such row"
        row.fail("id", f"the answer file has {found} in this row")
    calls = key.get("ground_truth")
    row.expect(calls, list, "ground_truth", "a list of calls")
    assert isinstance(calls, list)
    for call in calls:
        row.expect(call, dict, "ground_truth", "a list of calls")
        for name, arguments in call.items():
            row.expect(arguments, dict, f"ground_truth.{name}", "an object")
    return calls
