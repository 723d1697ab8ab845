"""Tasks of the Berkeley Function Calling Leaderboard, from the files of the installed `bfcl-eval` package.

The package is never imported: it brings vendors' SDKs that nothing here needs.
"""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callwright import Answer, CallwrightError, ExpectedCall, RowError, Task, Tool
from callwright.types import JSON

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

_JSON_SCHEMA_TYPES = {"dict": "object", "float": "number", "tuple": "array"}


@dataclass
class Bfcl:
    """Berkeley Function Calling Leaderboard v4: the Python single-turn categories."""

    categories: list[str] = field(default_factory=lambda: ["simple_python"])
    """Any of BFCL's Python single-turn categories, in this order."""
    limit: int | None = None
    """At most this many tasks of each category, from its start."""

    def __post_init__(self) -> None:
        for category in self.categories:
            if category not in CATEGORIES:
                near = difflib.get_close_matches(category, CATEGORIES, 1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise CallwrightError(f"unknown BFCL category '{category}': {hint}There are {', '.join(CATEGORIES)}.")

    def load(self) -> Iterator[Task]:
        """Tasks in the order of the files, with BFCL's ids. Their `meta` holds `category`, and BFCL's own `functions`
        and `possible_answer`. Raises `CallwrightError` when `bfcl-eval` is not installed."""
        folder = _folder()
        return itertools.chain.from_iterable(_load(folder, category, self.limit) for category in self.categories)


def _folder() -> Path:
    spec = importlib.util.find_spec("bfcl_eval")
    if spec is None or not spec.submodule_search_locations:
        raise CallwrightError(
            "the source 'bfcl' reads the files of the package bfcl-eval, which is not installed; "
            "install it with: pip install --no-deps bfcl-eval==2026.3.23"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _load(folder: Path, category: str, limit: int | None) -> Iterator[Task]:
    name = f"BFCL_v4_{category}.json"
    rows = _rows(folder / name)[:limit]
    keys = _rows(folder / "possible_answer" / name) if category in WITH_KEY else [None] * len(rows)
    for number, (row, key) in enumerate(zip(rows, keys, strict=False), 1):
        if key is not None and key["id"] != row["id"]:
            raise RowError(str(folder / name), number, "id", f"the answer file has '{key['id']}' in this row")
        yield _task(row, None if key is None else key["ground_truth"], category)


def _rows(path: Path) -> list[dict[str, JSON]]:
    try:
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except OSError as error:
        raise CallwrightError(
            f"{path} cannot be read ({error.strerror}); this version of bfcl-eval may have other files, "
            "install the right one with: pip install --no-deps bfcl-eval==2026.3.23"
        ) from error


def _task(row: dict[str, JSON], key: list[dict[str, JSON]] | None, category: str) -> Task:
    meta: dict[str, JSON] = {"category": category, "functions": row["function"]}
    answer = Answer() if category in NO_CALL else None
    if key is not None:
        meta["possible_answer"] = key
        answer = Answer(tuple(ExpectedCall(name, arguments) for call in key for name, arguments in call.items()))
    tools = tuple(_tool(function) for function in row["function"])
    return Task(row["id"], tuple(row["question"][0]), tools, answer, meta)


def _tool(function: Mapping[str, JSON]) -> Tool:
    return Tool(function["name"], function.get("description", ""), json_schema(function["parameters"]))


def json_schema(schema: Mapping[str, JSON]) -> dict[str, JSON]:
    """BFCL's description of a value as JSON Schema: dict is object, float is number, tuple is array, any is no type."""
    result = dict(schema)
    kind = result.get("type")
    if kind == "any":
        del result["type"]
    elif kind is not None:
        result["type"] = _JSON_SCHEMA_TYPES.get(kind, kind)
    if isinstance(schema.get("properties"), Mapping):
        result["properties"] = {name: json_schema(inner) for name, inner in schema["properties"].items()}
    for nested in ("items", "additionalProperties"):
        if isinstance(schema.get(nested), Mapping):
            result[nested] = json_schema(schema[nested])
    return result
