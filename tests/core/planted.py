"""Small runs through the real loop, with the folder that a run leaves behind."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOLES = Path(__file__).parent / "data" / "holes.py"
TOOLS = ("add", "tune", "greet", "book")
CORRECT: dict[str, Any] = {"use": "ast_match"}


def hole(name: str, **options: Any) -> dict[str, Any]:
    return {"use": f"{HOLES}:{name}", **options}


def rows(prefix: str, count: int, twice: bool = False) -> list[dict[str, Any]]:
    """Questions with one call each, or the same one `twice`; every fifth wants none."""
    found = []
    for i in range(count):
        arguments = {"x": i + 1, "unit": f"u{i}"}
        properties = {"x": {"type": "integer"}, "unit": {"type": "string"}}
        tool = {"type": "object", "properties": properties, "required": list(properties)}
        found.append(
            {
                "id": f"{prefix}{i}",
                "question": f"Question {prefix}{i}?",
                "tools": [{"name": name, "description": f"Does {name}.", "parameters": tool} for name in TOOLS],
                "calls": [] if i % 5 == 4 else [{"name": TOOLS[i % len(TOOLS)], "arguments": arguments}] * (1 + twice),
            }
        )
    return found


def write_recipe(folder: Path, rewards: Sequence[Any], dialect: str, tasks: list[dict[str, Any]]) -> Path:
    """The resolved recipe of a run in `folder`, with the tasks beside it."""
    from callwright.recipe import load_recipe

    folder.mkdir(parents=True)
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    recipe = {
        "run": str(folder),
        "model": {"name": "none"},
        "dialect": dialect,
        "data": {"source": {"use": "jsonl", "path": str(folder / "tasks.jsonl")}},
        "rewards": {"combine": "sum", "use": list(rewards)},
    }
    path = folder / "recipe.resolved.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    path.write_text(load_recipe(path).to_yaml())
    return path


def bandit_run(
    folder: Path,
    rewards: Sequence[Any],
    replies: Sequence[str] = (),
    *,
    dialect: str = "python_calls",
    steps: int = 24,
    seed: int = 0,
    spoil: Any = None,
    unseen: int = 0,
    twice: bool = False,
    learning_rate: float = 0.3,
    **train: Any,
) -> Path:
    """A policy that chooses among texts: for each of ten tasks the right one and `spoil(task, right)`, and `replies`.

    unseen: so many tasks more, which the recipe has and no step trains on.
    """
    from callwright import grpo
    from callwright.hooks import Hooks
    from callwright.recipe import build, load_recipe
    from callwright.rollouts import write_rollouts
    from callwright.testing import gold_text, make_bandit

    path = write_recipe(folder, rewards, dialect, [*rows("seen-", 10, twice), *rows("other-", unseen)])
    recipe = load_recipe(path)
    components = build(recipe)
    tasks = [task for task in components.source.load() if task.id.startswith("seen-")]
    right = {task.id: gold_text(components.dialect, task) for task in tasks}
    texts = [text for task in tasks for text in [right[task.id], *(spoil(task, right[task.id]) if spoil else [])]]
    settings = {"prompts_per_step": 5, "group_size": 8, "learning_rate": learning_rate, **train}
    learner = make_bandit(
        components.rewards[0].plugin,
        tasks=tasks,
        replies=[*texts, *replies],
        dialect=components.dialect,
        seed=seed,
        **settings,
    )
    learner.hooks = Hooks(components.rewards, grpo.Defaults("group", 0.2, 0.2, 0.0), recipe.rewards.combine)
    with (folder / "metrics.jsonl").open("w") as metrics:
        for step in range(steps):
            numbers, rollouts = learner.step(step)
            write_rollouts(rollouts, folder / "rollouts" / f"step-{step + 1:06d}.parquet")
            finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
            metrics.write(json.dumps({"step": step + 1, **finite}) + "\n")
    return folder


def tiny_run(folder: Path, model: Path, rewards: Sequence[Any], *, seed: int = 0, steps: int = 30) -> Path:
    """A whole run of a tiny random model, which writes noise: what it learns is what noise can be."""
    from callwright.display import SilentDisplay
    from callwright.recipe import build, load_recipe
    from callwright.run import train

    folder.parent.mkdir(parents=True, exist_ok=True)
    tasks = folder.parent / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows("q", 24)))
    recipe = {
        "run": str(folder),
        "seed": seed,
        "model": {"name": str(model), "device": "cpu", "dtype": "float32", "precision": "float32"},
        "dialect": {"use": "python_calls", "instruction": "Call."},
        "data": {"source": {"use": "jsonl", "path": str(tasks)}, "held_out": 8},
        "rewards": {"combine": "sum", "use": list(rewards)},
        "train": {
            "steps": steps,
            "prompts_per_step": 3,
            "group_size": 6,
            "max_new_tokens": 20,
            "learning_rate": 3e-3,
            "checkpoint_every": 0,
            "show_every": 0,
        },
    }
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(json.dumps(recipe))
    loaded = load_recipe(path)
    train(loaded, build(loaded), SilentDisplay(), resume=False)
    return folder


def saved_run(name: str, folder: Path) -> Path:
    """Every fourth step of a real run of the laboratory, as a run's folder."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    source = HOLES.parent / "saved" / name
    (folder / "rollouts").mkdir(parents=True)
    for file in ("recipe.resolved.yaml", "metrics.jsonl", "eval.json"):
        (folder / file).write_bytes((source / file).read_bytes())
    table = pq.read_table(source / "rollouts.parquet")
    for step in pc.unique(table["file"]).to_pylist():
        of_the_step = table.filter(pc.equal(table["file"], pa.scalar(step, table["file"].type)))
        pq.write_table(of_the_step.drop_columns("file"), folder / "rollouts" / f"step-{step:06d}.parquet")
    return folder
