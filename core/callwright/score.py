"""Score completions from a file with a recipe's rewards: no model, and no torch unless a reward asks for tensors."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callwright.combine import combined
from callwright.display import SilentDisplay
from callwright.files import replacing
from callwright.judging import is_asynchronous
from callwright.light import LightRollouts
from callwright.score_rows import Row, read_rows
from callwright.scoring import Scorer
from callwright.types import JSON, CallwrightError, Dialect, Parse, Task, Verdict

if TYPE_CHECKING:
    from callwright.recipe import Components, Recipe

GROUPS_AT_ONCE = 64
"""Groups that asynchronous and isolated rewards get together, so that they can work on several."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A row and what the rewards say of it."""

    row: Row
    parse: Parse
    verdicts: dict[str, Verdict]
    total: float
    """The combined reward, before any normalisation; NaN for a row that would take no part in training."""
    seconds: float
    """What the rewards took for the rows that were scored together with this one, divided by their number."""

    def to_json(self) -> dict[str, JSON]:
        """With every reason's code, message and span."""
        return {
            "row": self.row.number,
            "task": self.row.task.id,
            "group": self.row.group,
            "completion": self.row.completion,
            "total": None if math.isnan(self.total) else self.total,
            "rewards": {name: verdict.score for name, verdict in self.verdicts.items()},
            "failures": {name: v.failure for name, v in self.verdicts.items() if v.failure is not None},
            "reasons": [
                {"reward": name, "code": str(r.code), "message": r.message, "span": r.span}
                for name, verdict in self.verdicts.items()
                for r in verdict.reasons
            ],
            "seconds": self.seconds,
        }


def recipe_of(path: Path) -> Path | None:
    """The recipe that a run wrote beside its rollouts, for the run's folder or a file in it."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "recipe.resolved.yaml").is_file():
            return folder / "recipe.resolved.yaml"
    return None


def rows_of(path: Path, recipe: Recipe, components: Components) -> list[Row]:
    """The rows of a file, joined with the recipe's tasks. Raises RowError with file, row, field and repair."""
    tasks: dict[str, Task] = {}

    def known() -> Mapping[str, Task]:
        if not tasks:
            from callwright.data import load_split

            split = load_split(recipe, components, SilentDisplay())
            tasks.update({task.id: task for part in (split.train, split.validation, split.held_out) for task in part})
        return tasks

    rows = list(read_rows(path, known))
    if not rows:
        raise CallwrightError(f"{path} holds no completion")
    return rows


def score_rows(
    rows: Sequence[Row], recipe: Recipe, components: Components, progress: Callable[[int, int], None]
) -> list[Scored]:
    """All rows, in order. Rows of a group are scored together. Raises CallwrightError under `on_failure: stop`."""
    scorer = Scorer(components.rewards)
    patient = any(r.policy.isolate or is_asynchronous(r.plugin) for r in components.rewards)
    found: dict[int, Scored] = {}
    try:
        for batch in batches(rows, GROUPS_AT_ONCE if patient else 1):
            for scored in _scored(batch, scorer, recipe, components):
                found[scored.row.number] = scored
            if scorer.stop_reason is not None:
                raise CallwrightError(scorer.stop_reason)
            progress(len(found), len(rows))
    finally:
        scorer.close()
    return [found[row.number] for row in rows]


def batches(rows: Sequence[Row], groups_at_once: int) -> Iterator[list[Row]]:
    """The rows of so many groups of one step at a time."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.step, row.group), []).append(row)
    waiting: list[Row] = []
    count = 0
    for (step, _), members in groups.items():
        if waiting and (count == groups_at_once or waiting[-1].step != step):
            yield waiting
            waiting, count = [], 0
        waiting, count = [*waiting, *members], count + 1
    yield waiting


def _scored(rows: Sequence[Row], scorer: Scorer, recipe: Recipe, components: Components) -> list[Scored]:
    rollouts = light_rollouts(rows, components.dialect)
    started = time.perf_counter()
    verdicts, _ = scorer.score(rollouts)
    seconds = (time.perf_counter() - started) / len(rows)
    groups = [int(group) for group in rollouts.arrays["group_ids"]]
    parts = [reward.part for reward in components.rewards]
    totals = combined(verdicts, parts, recipe.rewards.combine, "none", step=rollouts.step, groups=groups)
    names = [reward.name for reward in components.rewards]
    return [
        Scored(row, rollouts.parses[i], {name: verdicts[name][i] for name in names}, totals[i], seconds)
        for i, row in enumerate(rows)
    ]


def light_rollouts(rows: Sequence[Row], dialect: Dialect) -> LightRollouts:
    """Rows as a reward gets them. What is not in the file is not there: a reward that needs it fails and says so."""
    parsed = {text: dialect.parse(text) for text in {row.completion for row in rows}}
    numbers: dict[str, int] = {}
    arrays: dict[str, Any] = {"group_ids": [numbers.setdefault(row.group, len(numbers)) for row in rows]}
    if all(row.truncated is not None for row in rows):
        arrays["truncated"] = [bool(row.truncated) for row in rows]
    if all(row.tokens is not None for row in rows):
        arrays |= _token_arrays([row.tokens or {} for row in rows])
    return LightRollouts(
        step=rows[0].step,
        tasks=[row.task for row in rows],
        texts=[row.completion for row in rows],
        parses=[parsed[row.completion] for row in rows],
        arrays=arrays,
    )


def _token_arrays(tokens: Sequence[Mapping[str, list[Any]]]) -> dict[str, Any]:
    import numpy

    lengths = numpy.asarray([len(row["token_ids"]) for row in tokens])
    mask = numpy.arange(lengths.max(initial=0))[None, :] < lengths[:, None]

    def padded(name: str, kind: Any) -> Any:
        values = numpy.zeros(mask.shape, dtype=kind)
        values[mask] = [value for row in tokens for value in row[name]]
        return values

    return {
        "mask": mask,
        "completion_ids": padded("token_ids", numpy.int64),
        "entropy": padded("entropy", numpy.float32),
        "behaviour_logps": padded("behaviour_logps", numpy.float32),
        "segments": padded("segments", numpy.int8),
    }


# ----------------------------------------------------------------------------------------------- what stands out


def strangeness(scored: Sequence[Scored]) -> list[tuple[Scored, str]]:
    """The rows that a person should look at, the strangest first, each with why.

    Strange are, in this order: a reward failed; the rewards disagree (the largest score of the row minus the smallest,
    over rewards that scored it); the row's first reason is rare (given in under 1 % of the rows).
    """
    codes = Counter(_first_code(one) for one in scored)
    ranked: list[tuple[float, int, Scored, str]] = []
    for one in scored:
        failed = [name for name, verdict in one.verdicts.items() if verdict.failure is not None]
        scores = {name: float(v.score) for name, v in one.verdicts.items() if v.score is not None and v.failure is None}
        spread = max(scores.values()) - min(scores.values()) if scores else 0.0
        code = _first_code(one)
        if failed:
            ranked.append((3.0, one.row.number, one, f"{', '.join(failed)} failed"))
        elif spread > 0:
            high, low = max(scores, key=lambda n: scores[n]), min(scores, key=lambda n: scores[n])
            why = f"rewards disagree: {high} {scores[high]:.3g}, {low} {scores[low]:.3g}"
            ranked.append((1.0 + spread / (1.0 + spread), one.row.number, one, why))
        elif codes[code] < 0.01 * len(scored):
            ranked.append((1.0 - codes[code] / len(scored), one.row.number, one, f"a rare reason: {code}"))
    ranked.sort(key=lambda item: (-item[0], item[1]))
    return [(one, why) for _, _, one, why in ranked]


def _first_code(one: Scored) -> str:
    """The first reason of the first reward that did not give 1."""
    for verdict in one.verdicts.values():
        if verdict.score != 1.0 and verdict.reasons:
            return str(verdict.reasons[0].code)
    return "correct"


def reasons(scored: Iterable[Scored]) -> dict[str, Counter[str]]:
    """By reward, how many rows have which first reason."""
    counts: dict[str, Counter[str]] = {}
    for one in scored:
        for name, verdict in one.verdicts.items():
            code = str(verdict.reasons[0].code) if verdict.reasons else "no reason given"
            counts.setdefault(name, Counter())[code] += 1
    return counts


def changes(before: Sequence[Scored], after: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
    """The rows whose combined reward, or the score of a reward of the same name, differs."""
    return [(a, b) for a, b in zip(before, after, strict=True) if _differ(a, b)]


def _differ(first: Scored, second: Scored) -> bool:
    if first.total != second.total and not (math.isnan(first.total) and math.isnan(second.total)):
        return True
    shared = first.verdicts.keys() & second.verdicts.keys()
    return any(first.verdicts[name].score != second.verdicts[name].score for name in shared)


def write_scores(scored: Sequence[Scored], path: Path) -> None:
    """JSON lines, or parquet in which `rewards`, `failures` and `reasons` hold JSON. Atomic."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise CallwrightError(f"--out {path}: should end in .jsonl or .parquet")
    rows = [one.to_json() for one in scored]
    try:
        with replacing(path) as temporary:
            if path.suffix == ".jsonl":
                temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            else:
                _write_parquet(rows, temporary)
    except OSError as error:
        raise CallwrightError(f"--out: cannot write {path}: {error.strerror or error}") from error


def _write_parquet(rows: Sequence[Mapping[str, JSON]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"row": pa.int64(), "total": pa.float64(), "seconds": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])
    columns = {name: [_storable(row[name]) for row in rows] for name in rows[0]}
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def _storable(value: JSON) -> JSON:
    """JSON for what is nested; Arrow stores UTF-8, which has no lone surrogates."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
