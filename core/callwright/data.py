"""Tasks for a run: loaded, put through the data stages, split, and dealt in a shuffled order."""

from __future__ import annotations

import hashlib
import random
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callwright.types import JSON, CallwrightError, Dropped, Source, Stage, Task

if TYPE_CHECKING:
    from callwright.recipe import DataConfig


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint parts of the data."""

    train: list[Task]
    validation: list[Task]
    """Settings are chosen on these."""
    held_out: list[Task]
    """Only for the table at the end."""
    dropped: dict[str, int]
    """Rows that the stages left out, by code."""


def load_split(source: Source, stages: Sequence[Stage], config: DataConfig) -> Split:
    """Load the tasks and split them by a hash of their ids.

    A row's part depends on its id, `data.split_seed` and the sizes alone, not on the order of rows. Raises
    CallwrightError if no row is left to train on, or ids are not unique.
    """
    tasks = list(source.load())
    dropped: Counter[str] = Counter()
    for stage in stages:
        results = list(stage.apply(tasks))
        dropped.update(result.code for result in results if isinstance(result, Dropped))
        tasks = [result for result in results if isinstance(result, Task)]
    repeated = [task_id for task_id, count in Counter(task.id for task in tasks).items() if count > 1]
    if repeated:
        raise CallwrightError(f"data.source: two rows have the id '{repeated[0]}'; ids must be unique, or be left out")
    needed = config.held_out + config.validation
    if len(tasks) <= needed:
        raise CallwrightError(
            f"data: {len(tasks)} rows are too few for {config.held_out} held-out and {config.validation} validation"
            f" rows and at least one to train on ({sum(dropped.values())} rows were dropped by the stages)"
        )
    tasks.sort(key=lambda task: _hash(config.split_seed, task.id))
    held_out, validation, train = tasks[: config.held_out], tasks[config.held_out : needed], tasks[needed:]
    return Split(train, validation, held_out, dict(dropped))


def _hash(seed: int, task_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{task_id}".encode()).digest()


@dataclass
class Deck:
    """Training tasks with the tokens of their prompts, dealt in a new order every epoch, or by weight. Its state is two
    numbers."""

    tasks: list[Task]
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
    kept: list[Task] = []
    prompts: list[array[int]] = []
    for number, task in enumerate(tasks):
        ids = encode(task)
        if longest is None or len(ids) <= longest:
            kept.append(task)
            prompts.append(array("l", ids))
        if number % 64 == 0:
            progress(number, len(tasks))
    if not kept:
        raise CallwrightError(
            f"data: every one of the {len(tasks)} prompts has more than {longest} tokens, which is what the model's"
            " context leaves beside `train.max_new_tokens`; shorten the prompts or the completions"
        )
    return Deck(kept, prompts, seed), len(tasks) - len(kept)
