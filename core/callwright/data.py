"""Tasks for a run: loaded, put through the data stages, split, and dealt in a shuffled order."""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callwright.pipeline.prepared import DROPPED, UNREADABLE
from callwright.pipeline.rows import Rows
from callwright.types import JSON, CallwrightError, Task

if TYPE_CHECKING:
    from callwright.pipeline.prepare import Watch
    from callwright.recipe import Components, DataConfig, Recipe

PARTS = ("train", "validation", "held_out")
"""What a row's `meta["split"]` may say. Other words there mean nothing to callwright."""


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint parts of the data."""

    train: Sequence[Task]
    validation: Sequence[Task]
    """Settings are chosen on these."""
    held_out: Sequence[Task]
    """Only for the table at the end."""
    dropped: Mapping[str, int]
    """Rows that were left out on the way, by code."""


def load_split(recipe: Recipe, components: Components, watch: Watch, *, without_models: bool = False) -> Split:
    """Prepare the data, unless that was done before, and split it. Raises as `pipeline.prepare` and `split` do."""
    from callwright.pipeline.prepare import prepare
    from callwright.recipe import nothing_to_evaluate

    prepared = prepare(recipe, components, watch, without_models=without_models)
    dropped: Counter[str] = Counter()
    for step in prepared.steps:
        for outcome in (DROPPED, UNREADABLE):
            dropped.update(step.counts.get(outcome, {}))
    parts = split(prepared.rows, recipe.data, dropped)
    for key, text in nothing_to_evaluate(recipe.train, len(parts.validation), len(parts.held_out)):
        raise CallwrightError(f"train.{key}: {text}")
    return parts


def split(rows: Rows, config: DataConfig, dropped: Mapping[str, int]) -> Split:
    """Split rows as they say themselves in `meta["split"]`, or else by a hash of their ids.

    By the hash, a row's part depends on its id, `data.split_seed` and the sizes alone, not on the order of rows. Raises
    CallwrightError if no row is left to train on, and if rows say their part and the recipe asks for sizes.
    """
    said = _said(rows)
    if any(said):
        if config.held_out or config.validation:
            text = "rows say their part themselves (`meta.split`, as the stage `split` writes it)"
            raise CallwrightError(f"data: {text}; leave out data.held_out and data.validation")
        parts = {part: [n for n, one in enumerate(said) if (one or "train") == part] for part in PARTS}
    else:
        ids = rows.ids()
        order = sorted(range(len(ids)), key=lambda index: _hash(config.split_seed, ids[index]))
        needed = config.held_out + config.validation
        parts = {
            "held_out": order[: config.held_out],
            "validation": order[config.held_out : needed],
            "train": order[needed:],
        }
    if not parts["train"]:
        raise CallwrightError(
            f"data: {len(rows)} rows are too few for {config.held_out} held-out and {config.validation} validation"
            f" rows and at least one to train on ({sum(dropped.values())} rows were dropped by the stages)"
        )
    return Split(**{part: rows.select(indices) for part, indices in parts.items()}, dropped=dropped)


def _said(rows: Rows) -> list[str | None]:
    return [part_of(text) for chunk in rows.column("meta").iterchunks() for text in chunk.to_pylist()]


def part_of(meta: str) -> str | None:
    """The part that a row says it belongs to, from the text of its column `meta`."""
    part = json.loads(meta).get("split") if '"split"' in meta else None
    return part if part in PARTS else None


def _hash(seed: int, task_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{task_id}".encode()).digest()


@dataclass
class Deck:
    """Training tasks with the tokens of their prompts, dealt in a new order every epoch, or by weight. Its state is two
    numbers."""

    tasks: Sequence[Task]
    prompts: list[array[int]]
    seed: int
    epoch: int = 0
    position: int = 0
    _order: tuple[int, list[int]] = field(default=(-1, []), repr=False)

    def draw(self, weights: list[float] | None = None) -> tuple[Task, list[int]]:
        """The next task. weights: one per task; a task is drawn in proportion to its own, which becomes 0. When none
        is left above 0, the usual order goes on."""
        if self.position == len(self.tasks):
            self.epoch, self.position = self.epoch + 1, 0
        if self._order[0] != self.epoch:
            order = list(range(len(self.tasks)))
            random.Random(f"{self.seed}:{self.epoch}").shuffle(order)
            self._order = (self.epoch, order)
        index = self._order[1][self.position]
        self.position += 1
        if weights is not None and any(weights):
            (index,) = random.Random(f"{self.seed}:{self.epoch}:{self.position}").choices(range(len(weights)), weights)
            weights[index] = 0.0
        return self.tasks[index], list(self.prompts[index])

    def state_dict(self) -> dict[str, JSON]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, JSON]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


def make_deck(
    tasks: Sequence[Task],
    encode: Callable[[Task], list[int]],
    *,
    seed: int,
    longest: int | None,
    progress: Callable[[int, int], None],
) -> tuple[Deck, int]:
    """Encode all prompts. Returns the deck, and how many prompts were left out for having over `longest` tokens."""
    kept: list[int] = []
    prompts: list[array[int]] = []
    for number, task in enumerate(tasks):
        ids = encode(task)
        if longest is None or len(ids) <= longest:
            kept.append(number)
            prompts.append(array("l", ids))
        if number % 64 == 0:
            progress(number, len(tasks))
    if not kept:
        raise CallwrightError(
            f"data: every one of the {len(tasks)} prompts has more than {longest} tokens, which is what the model's"
            " context leaves beside `train.max_new_tokens`; shorten the prompts or the completions"
        )
    fitting = tasks.select(kept) if isinstance(tasks, Rows) else [tasks[number] for number in kept]
    return Deck(fitting, prompts, seed), len(tasks) - len(kept)
