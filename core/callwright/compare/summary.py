"""From readings to the numbers of the table: summary.json, summary.csv, and what the terminal shows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Column
from rich.text import Text

from callwright.compare.arms import Comparison
from callwright.compare.readings import LAST_STEPS, HeldOut, Reading
from callwright.compare.statistics import ENOUGH_SEEDS, LEVEL, Difference, deviation, difference, pair
from callwright.display import safe
from callwright.tables import WIDTH_OF_A_FILE, plain_table
from callwright.types import JSON

_RUN_FIGURES = ("reward", "entropy", "kl", "flat_groups", "distinct_calls", "completion_length")


@dataclass(frozen=True, slots=True)
class Row:
    """An arm in the table. Means are over its seeds; NaN where nothing is known."""

    arm: str
    seeds: list[int]
    """Of runs whose held-out rows were evaluated at the end."""
    before: float
    after: float
    after_sd: float
    """Sample standard deviation over seeds."""
    difference: Difference | None
    """None for the baseline."""
    entropy: float
    """Mean of the last steps, nats per token."""
    entropy_ratio: float
    """To the baseline's, at the seeds that both have."""
    length: float
    """Tokens of a completion, mean of the last steps."""
    minutes: float
    """Training time of a run."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All rows, and what a reader must know."""

    baseline: str
    rows: list[Row]
    remarks: list[str]

    def row(self, arm: str) -> Row:
        return next(row for row in self.rows if row.arm == arm)


def summarise(comparison: Comparison, found: Mapping[str, Mapping[int, Reading]], remarks: Sequence[str]) -> Summary:
    base = found[comparison.baseline]
    rows = [_row(arm.name, found[arm.name], base, arm.name == comparison.baseline) for arm in comparison.arms]
    return Summary(comparison.baseline, rows, [*remarks, *_cautions(rows)])


def _row(name: str, runs: Mapping[int, Reading], base: Mapping[int, Reading], is_base: bool) -> Row:
    ended, base_ended = _ended(runs), _ended(base)
    pairs = [pair(result, base_ended[seed]) for seed, result in ended.items() if seed in base_ended]
    shared = [seed for seed in runs if seed in base]
    after = [result.accuracy for result in ended.values()]
    return Row(
        arm=name,
        seeds=sorted(ended),
        before=_mean([run.before.accuracy for run in runs.values() if run.before]),
        after=_mean(after),
        after_sd=deviation(after),
        difference=None if is_base else difference(pairs),
        entropy=_mean([run.last("entropy") for run in runs.values()]),
        entropy_ratio=_ratio([runs[s].last("entropy") for s in shared], [base[s].last("entropy") for s in shared]),
        length=_mean([run.last("completion_length") for run in runs.values()]),
        minutes=_mean([float(run.minutes[-1]) for run in runs.values() if len(run.minutes)]),
    )


def _ended(runs: Mapping[int, Reading]) -> dict[int, HeldOut]:
    return {seed: run.after for seed, run in runs.items() if run.after is not None}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    denominator = _mean(below)
    return _mean(above) / denominator if denominator > 0 else math.nan


def _cautions(rows: Sequence[Row]) -> list[str]:
    compared = [row.difference for row in rows if row.difference is not None and row.difference.seeds]
    found = []
    few = min((one.seeds for one in compared), default=ENOUGH_SEEDS)
    if few < ENOUGH_SEEDS:
        found.append(
            f"with {few} seeds a bootstrap interval is too narrow: it cannot know how far other seeds would fall;"
            " summary.json also has Student's interval over seeds"
            if few > 1
            else "with one seed the interval is over held-out rows alone, if at all: it says nothing of other seeds"
        )
    if any(one.method == "seeds" for one in compared):
        found.append(
            "some runs do not say which rows they got right (rows_correct in eval.json): their interval is over seeds"
            " alone"
        )
    if not any(row.seeds for row in rows):
        found.append("no run evaluated held-out rows at its end: there is no accuracy to compare")
    return found


# ---------------------------------------------------------------------------------------------- files


def to_json(summary: Summary, found: Mapping[str, Mapping[int, Reading]]) -> str:
    arms = [{**asdict(row), "runs": [_run(run) for run in found[row.arm].values()]} for row in summary.rows]
    content = {
        "baseline": summary.baseline,
        "interval": LEVEL,
        "last_steps": LAST_STEPS,
        "remarks": summary.remarks,
        "arms": arms,
    }
    return json.dumps(_finite(content), indent=2, ensure_ascii=False) + "\n"


def to_csv(found: Mapping[str, Mapping[int, Reading]]) -> str:
    """A line per arm and seed."""
    rows = [{"arm": arm, **_run(run)} for arm, runs in found.items() for run in runs.values()]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["arm"], lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: "" if _missing(value) else value for key, value in row.items()} for row in rows])
    return text.getvalue()


def _run(run: Reading) -> dict[str, JSON]:
    held_out = run.after or run.before
    return {
        "seed": run.seed,
        "folder": str(run.folder),
        "steps": len(run.steps),
        "planned_steps": run.planned_steps,
        "held_out_rows": held_out.rows if held_out else None,
        "accuracy_before": run.before.accuracy if run.before else None,
        "accuracy_after": run.after.accuracy if run.after else None,
        "train_minutes": float(run.minutes[-1]) if len(run.minutes) else None,
        **{f"{name}_last": run.last(name) for name in _RUN_FIGURES},
        "entropy_last_step": run.last("entropy", 1),
    }


def _missing(value: JSON) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _finite(value: JSON) -> JSON:
    """JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if _missing(value) else value


# ---------------------------------------------------------------------------------------------- for people

HEADINGS = (
    "arm",
    "seeds",
    "before",
    "after ± sd",
    "difference",
    f"{LEVEL:.0%} interval",
    "entropy",
    "ratio",
    "tokens",
    "minutes",
)


WIDE = 110
"""Columns of a terminal on which all of them fit."""
_ONLY_WIDE = ("before", "tokens", "minutes")


def cells(row: Row) -> list[str]:
    """As in HEADINGS."""
    spread = "" if math.isnan(row.after_sd) else f" ± {100 * row.after_sd:.1f}"
    one = row.difference
    known = one is not None and one.seeds > 0
    return [
        row.arm,
        str(len(row.seeds)),
        _shown(row.before, ".1%"),
        _shown(row.after, ".1%") + spread,
        f"{100 * one.mean:+.1f}" if one and known else "baseline" if one is None else "-",
        f"{100 * one.low:+.1f} to {100 * one.high:+.1f}" if one and known else "-",
        _shown(row.entropy, ".3g"),
        f"x {row.entropy_ratio:.3g}" if not math.isnan(row.entropy_ratio) else "-",
        _shown(row.length, ".1f"),
        _shown(row.minutes, ".1f"),
    ]


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _figures(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)


def print_summary(console: Console, summary: Summary) -> None:
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    shown = [name for name in HEADINGS if console.width >= WIDE or name not in _ONLY_WIDE]
    table = plain_table(Column(HEADINGS[0], overflow="fold"), *(_figures(name) for name in shown[1:]))
    for row in summary.rows:
        found = dict(zip(HEADINGS, cells(row), strict=True))
        style = "bold" if row.arm == summary.baseline else ""
        table.add_row(*(Text(safe(found[name])) for name in shown), style=style)
    console.print(table)
    for remark in summary.remarks:
        console.print(Text.assemble(("warning: ", "bold yellow"), safe(remark)), soft_wrap=True)
