"""What a run's folder says, however old, unfinished or damaged it is: what cannot be read is left out and noted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from callwright.display import shortened
from callwright.types import JSON

Progress = Callable[[int, int], None]
METRICS = "metrics.jsonl"
RECIPE = "recipe.resolved.yaml"
SHOWN_ERROR = 200


@dataclass(slots=True)
class Metrics:
    """The steps that a run has recorded, by number; a step that is there twice counts as it was last."""

    steps: dict[int, dict[str, float | None]] = field(default_factory=dict)
    unreadable: int = 0
    """Lines that are no step."""

    def series(self, after: int = 0) -> dict[str, Any]:
        """`steps`, in order, and by name of the figure a value for each of them, None where there is none."""
        steps = sorted(step for step in self.steps if step > after)
        names = sorted({name for step in steps for name in self.steps[step]})
        return {
            "steps": steps,
            "series": {name: [_short(self.steps[step].get(name)) for step in steps] for name in names},
        }

    def digest(self, until: int) -> str:
        """The same while steps up to `until` stay as they are."""
        kept = [(step, self.steps[step]) for step in sorted(self.steps) if step <= until]
        return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]


def read_metrics(folder: Path) -> Metrics:
    """A last line that is being written is not unreadable yet: it is left for the next time."""
    found = Metrics()
    text = _text(folder / METRICS) or ""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        content = _parsed(line)
        step = content.get("step") if isinstance(content, dict) else None
        if isinstance(content, dict) and isinstance(step, int):
            found.steps[step] = {
                str(name): None if value is None else _finite(value)
                for name, value in content.items()
                if name != "step" and (value is None or isinstance(value, int | float))
            }
        elif number < len(lines) - 1:
            found.unreadable += 1
    return found


def read_folder(folder: Path, name: str, metrics: Metrics, examine: Progress | None = None) -> dict[str, Any]:
    """All about a run but its completions: JSON for the page. `name`: what the run is called on it; examine: gets the
    progress of looking for evidence of reward hacking, which judges completions again; None to leave that out."""
    notes = []
    if metrics.unreadable:
        notes.append(f"{metrics.unreadable} lines of {METRICS} cannot be read: left out")
    recipe, text = None, _text(folder / RECIPE)
    try:
        recipe = yaml.safe_load(text) if text else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        notes.append(f"{RECIPE} cannot be read ({type(error).__name__}): shown as it is")
    if text is None:
        notes.append(f"there is no {RECIPE}")
    evaluation, versions = _object(folder / "eval.json", notes), _object(folder / "versions.json", notes)
    return {
        "name": name,
        "planned": _planned(recipe),
        "metrics": metrics.series(),
        "evaluation": {part: _evaluation(evaluation.get(part)) for part in ("before", "after")},
        "recipe": {"text": text or "", "settings": _flat(recipe) if isinstance(recipe, dict) else {}},
        "versions": _versions(versions),
        "findings": _findings(folder, notes, examine) if examine and metrics.steps else [],
        "notes": notes,
    }


def names_of(folders: Sequence[Path]) -> list[str]:
    """What runs are called: the ends of their paths, as long as it takes to tell them apart.

    A folder `seed-3` is not named without the folder above it.
    """
    paths = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, paths), default=0) + 1):
        names = ["/".join(parts[-length - parts[-1].startswith("seed-") :]) for parts in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return [str(folder) for folder in folders]


# ----------------------------------------------------------------------------------------------------- parts


def _planned(recipe: JSON) -> int | None:
    train = recipe.get("train") if isinstance(recipe, dict) else None
    steps = train.get("steps") if isinstance(train, dict) else None
    return steps if isinstance(steps, int) else None


def _evaluation(content: JSON) -> dict[str, Any] | None:
    if not isinstance(content, dict):
        return None
    accuracy, rows = content.get("accuracy"), content.get("rows")
    if not isinstance(accuracy, int | float) or not isinstance(rows, int) or _finite(accuracy) is None:
        return None
    return {
        "accuracy": accuracy,
        "rows": rows,
        "reasons": {str(k): v for k, v in _mapping(content.get("reasons")).items() if isinstance(v, int)},
        "correct": {str(k): bool(v) for k, v in _mapping(content.get("rows_correct")).items()},
    }


def _flat(value: JSON, place: str = "") -> dict[str, str]:
    """Every setting by its place, as in `train.steps`; values as JSON."""
    if isinstance(value, dict) and value:
        parts: Iterator[tuple[str, JSON]] = ((str(key), item) for key, item in value.items())
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        parts = ((str(index), item) for index, item in enumerate(value))
    else:
        return {place: json.dumps(value, ensure_ascii=False, default=str)}
    found: dict[str, str] = {}
    for key, item in parts:
        found |= _flat(item, f"{place}.{key}" if place else key)
    return found


def _versions(content: Mapping[str, JSON]) -> dict[str, str]:
    """By the name of a library, or by kind and name of a plugin."""
    found = {"python": str(content["python"])} if "python" in content else {}
    found |= {str(name): str(version) for name, version in _mapping(content.get("libraries")).items()}
    plugins = content.get("plugins")
    for plugin in plugins if isinstance(plugins, list) else []:
        if isinstance(plugin, dict):
            origin = f"{plugin.get('distribution')} {plugin.get('version')}"
            found[f"{plugin.get('kind')} {plugin.get('name')}"] = origin
    return found


def _findings(folder: Path, notes: list[str], progress: Progress) -> list[dict[str, Any]]:
    from callwright.findings import findings

    try:
        found = findings(folder, progress)
    except Exception as error:  # rewards are plugins, and may not even be installed where a report is written
        why = shortened(f"{type(error).__name__}: {error}".partition("\n")[0], SHOWN_ERROR)
        notes.append(f"evidence of reward hacking was not looked for: {why}")
        return []
    return [
        {"code": one.code, "title": one.title, "message": one.message, "rows": [list(place) for place in one.rows]}
        for one in found
    ]


# --------------------------------------------------------------------------------------------------- reading


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _parsed(text: str) -> JSON:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(path: Path, notes: list[str]) -> dict[str, JSON]:
    text = _text(path)
    content = None if text is None else _parsed(text)
    if text is not None and not isinstance(content, dict):
        notes.append(f"{path.name} cannot be read: left out")
    return _mapping(content)


def _mapping(value: JSON) -> dict[str, JSON]:
    return value if isinstance(value, dict) else {}


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _short(value: float | None) -> float | None:
    """Six digits: more cannot be seen."""
    return None if value is None else float(f"{value:.6g}")
