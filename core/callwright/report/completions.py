"""The completions of a run as the page takes them: columns, with what repeats (tasks, reasons) written once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from callwright.report.choose import Key, choose
from callwright.report.folder import Progress

DEFAULT_COMPLETIONS = 10_000
DEFAULT_BYTES = 10_000_000
"""Of parquet, that the default sample may stand for: a page takes about as much."""
COLUMNS = (
    *("task", "group", "messages", "tools", "answer", "completion", "truncated", "temperature", "off_policy", "total"),
    *("rewards", "reasons", "token_ids", "segments", "entropy", "advantages", "characters"),
)
NUMBERS_PER_ROW = ("step", "row", "group", "task", "total", "truncated", "off_policy", "temperature", "tokens")
PER_TOKEN = ("characters", "entropy", "segments", "advantages")
NO_SPAN = -1


@dataclass(slots=True)
class Completions:
    """What `as_json` makes the page's part of: rows of the run that are shown, and how many there are."""

    tasks: dict[tuple[str, str | None, str | None, str | None], int] = field(default_factory=dict)
    """Name, messages, tools, answer, the last three as JSON; and its number."""
    reasons: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Reward, code, message; and its number."""
    columns: dict[str, list[Any]] = field(default_factory=dict)
    rewards: dict[str, list[float | None]] = field(default_factory=dict)
    total: int = 0
    """Rows that the run recorded, and that could be found."""
    problems: Counter[str] = field(default_factory=Counter)
    """What was left out, and in how many rows or files."""

    def __post_init__(self) -> None:
        self.columns = {name: [] for name in (*NUMBERS_PER_ROW, "text", "reasons", *PER_TOKEN)}

    def __len__(self) -> int:
        return len(self.columns["text"])

    def as_json(self) -> dict[str, Any]:
        return {
            "tasks": list(self.tasks),
            "reasons": list(self.reasons),
            "columns": self.columns,
            "rewards": self.rewards,
            "total": self.total,
            "notes": [f"{problem} ({count:,} in all)" for problem, count in (+self.problems).items()],
        }


def read_completions(
    folder: Path,
    limit: int | str | None = "default",
    wanted: Collection[Key] = (),
    after: int = 0,
    until: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Completions:
    """The completions of steps later than `after`, up to `until`. limit: how many at most; None for all; "default" for
    as many as a page holds with ease. wanted: rows that should be among them."""
    files = {_step(path): path for path in (folder / "rollouts").glob("step-*.parquet")}
    files = {step: path for step, path in files.items() if after < step and (until is None or step <= until)}
    found = Completions()
    rows: list[tuple[Key, str, str]] = []
    for step, path in sorted(files.items()):
        table = _table(path, ("task", "group"), found.problems)
        for row, (group, task) in enumerate(_groups(table) if table is not None else ()):
            rows.append(((step, row), group, task))
    found.total = len(rows)
    if isinstance(limit, str):
        size = sum(path.stat().st_size for path in files.values())
        limit = min(DEFAULT_COMPLETIONS, int(len(rows) * DEFAULT_BYTES / size) if size else 0)
    chosen: dict[int, list[int]] = {}
    for step, row in choose(rows, limit, wanted):
        chosen.setdefault(step, []).append(row)
    for done, (step, numbers) in enumerate(sorted(chosen.items()), 1):
        progress(done, len(chosen))
        table = _table(files[step], COLUMNS, found.problems)
        if table is not None:
            _add_file(found, step, numbers, table.take(numbers))
    return found


def _step(path: Path) -> int:
    digits = path.stem.removeprefix("step-")
    return int(digits) if digits.isdecimal() else 0


def _table(path: Path, names: Sequence[str], problems: Counter[str]) -> pa.Table | None:
    """The columns of these names that are there."""
    try:
        there = pq.read_schema(path).names
        if "completion" not in there:
            raise KeyError("completion")
        return pq.read_table(path, columns=[name for name in names if name in there])
    except (OSError, ValueError, KeyError):  # Arrow's own are ValueErrors
        problems[f"rollouts/{path.name} cannot be read: its completions are left out"] = 1
        return None


def _groups(table: pa.Table) -> Iterator[tuple[str, str]]:
    tasks = table["task"].to_pylist() if "task" in table.column_names else [""] * table.num_rows
    groups = table["group"].to_pylist() if "group" in table.column_names else tasks
    return ((str(group), str(task)) for group, task in zip(groups, tasks, strict=True))


# ------------------------------------------------------------------------------------------------------- rows


def _add_file(found: Completions, step: int, numbers: Sequence[int], table: pa.Table) -> None:
    if "characters" not in table.column_names:
        found.problems["steps recorded before the characters of tokens were saved: no tint in their text"] += 1
    for number, fields in zip(numbers, table.to_pylist(), strict=True):
        text = fields["completion"]
        if not isinstance(text, str):
            found.problems["rows without a completion"] += 1
            continue
        _add_row(found, step, number, fields, text)


def _add_row(found: Completions, step: int, number: int, fields: Mapping[str, Any], text: str) -> None:
    messages, tools, answer = (fields.get(name) for name in ("messages", "tools", "answer"))
    task = (str(fields.get("task") or ""), messages, tools, answer)
    columns = found.columns
    tokens = fields.get("token_ids")
    values = {
        "step": step,
        "row": number,
        "group": str(fields.get("group", task[0])),
        "task": found.tasks.setdefault(task, len(found.tasks)),
        "text": text,
        "total": _digits(fields.get("total"), 4),
        "truncated": int(bool(fields.get("truncated"))),
        "off_policy": int(bool(fields.get("off_policy"))),
        "temperature": _digits(fields.get("temperature"), 3),
        "tokens": None if tokens is None else len(tokens),
        "reasons": _reasons(found, fields.get("reasons")),
        **_per_token(found, fields, text),
    }
    before = len(found)
    for name, value in values.items():
        columns[name].append(value)
    scores = _parsed(fields.get("rewards"))
    if not isinstance(scores, dict):
        found.problems["rows whose rewards cannot be read"] += scores is not None or bool(fields.get("rewards"))
        scores = {}
    for name in scores:
        found.rewards.setdefault(str(name), [None] * before)
    for name, column in found.rewards.items():
        score = scores.get(name)
        column.append(_digits(score, 4) if isinstance(score, int | float) else None)


def _reasons(found: Completions, text: object) -> list[int]:
    """Number, start and end of each, one after the other; both ends `NO_SPAN` where a reason points nowhere."""
    flat: list[int] = []
    reasons = _parsed(text)
    if not isinstance(reasons, list):
        found.problems["rows whose reasons cannot be read"] += bool(text)
        return flat
    for reason in reasons:
        if not isinstance(reason, dict):
            continue
        key = (str(reason.get("reward", "")), str(reason.get("code", "")), str(reason.get("message") or ""))
        span = reason.get("span")
        if not (isinstance(span, list) and len(span) == 2 and all(isinstance(end, int) for end in span)):
            span = [NO_SPAN, NO_SPAN]
        flat += [found.reasons.setdefault(key, len(found.reasons)), *span]
    return flat


def _per_token(found: Completions, fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Entropy and advantages in hundredths, segments as digits; an advantage that is the same everywhere is a number.

    What could not be laid on the text is left out.
    """
    characters, entropy, segments = (fields.get(name) for name in ("characters", "entropy", "segments"))
    advantages = [_hundredths(value) for value in fields.get("advantages") or ()]
    same = len(set(advantages)) == 1
    if characters is None or entropy is None or segments is None:
        characters = None
    elif len({len(characters), len(entropy), len(segments)}) > 1 or sum(characters) > len(text):
        found.problems["rows whose tokens do not fit their text: no tint in it"] += 1
        characters = None
    return {
        "characters": characters,
        "entropy": None if entropy is None else [_hundredths(value) for value in entropy],
        "segments": None if characters is None else "".join(map(str, segments or ())),
        "advantages": advantages[0] if same else advantages or None,
    }


def _hundredths(value: float | None) -> int:
    """0 for what is no number: it has a place among the tokens all the same."""
    return round(value * 100) if value is not None and abs(value) < 1e9 else 0


def _digits(value: float | None, digits: int) -> float | None:
    return None if value is None or not abs(value) < float("inf") else float(f"{value:.{digits}g}")


def _parsed(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
