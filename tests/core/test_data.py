"""Tasks are split for good, dealt fairly, and none disappears without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from callwright import CallwrightError, Dropped, Task
from callwright.data import Deck, load_split, make_deck
from callwright.recipe import DataConfig
from hypothesis import given
from hypothesis import strategies as st


@dataclass
class Listed:
    tasks: list[Task]

    def load(self) -> list[Task]:
        return self.tasks


@dataclass
class Without:
    """Drops tasks by the length of their ids."""

    length: int
    seen: list[str] = field(default_factory=list)

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        for task in tasks:
            self.seen.append(task.id)
            yield Dropped(task, f"length_{self.length}", "as asked") if len(task.id) == self.length else task


def task(name: str) -> Task:
    return Task(name, ({"role": "user", "content": name},))


def config(**values: int) -> DataConfig:
    return DataConfig.model_validate({"source": {"use": "unused"}, **values})


ids = st.lists(st.text(min_size=1, max_size=6), min_size=3, max_size=40, unique=True)


@given(names=ids, data=st.data(), seed=st.integers(0, 5))
def test_a_split_is_disjoint_complete_and_blind_to_order(names: list[str], data: st.DataObject, seed: int) -> None:
    held_out = data.draw(st.integers(0, len(names) - 1))
    validation = data.draw(st.integers(0, len(names) - 1 - held_out))
    wanted = config(held_out=held_out, validation=validation, split_seed=seed)
    split = load_split(Listed([task(n) for n in names]), [], wanted)
    parts = [[t.id for t in part] for part in (split.held_out, split.validation, split.train)]
    assert [len(part) for part in parts] == [held_out, validation, len(names) - held_out - validation]
    assert sorted([*parts[0], *parts[1], *parts[2]]) == sorted(names)
    shuffled = data.draw(st.permutations(names))
    assert load_split(Listed([task(n) for n in shuffled]), [], wanted) == split


@given(names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=30, unique=True), extra=st.integers(1, 5))
def test_a_row_that_is_added_changes_the_place_of_few(names: list[str], extra: int) -> None:
    """The split is by hash, so that data may grow without held-out rows going into training in bulk."""
    new = [task("new" * 3 + str(i)) for i in range(extra)]
    before = load_split(Listed([task(n) for n in names]), [], config(held_out=len(names) // 2))
    after = load_split(Listed([*map(task, names), *new]), [], config(held_out=len(names) // 2))
    moved = {t.id for t in before.held_out} - {t.id for t in after.held_out}
    assert len(moved) <= extra


def test_the_seed_chooses_the_split() -> None:
    tasks = Listed([task(str(i)) for i in range(40)])
    splits = [[t.id for t in load_split(tasks, [], config(held_out=20, split_seed=s)).held_out] for s in range(4)]
    assert len({tuple(sorted(split)) for split in splits}) == 4


@given(names=ids)
def test_stages_work_one_after_the_other_and_say_what_they_drop(names: list[str]) -> None:
    names = [*names, "seven77"]
    stages = [Without(1), Without(2)]
    split = load_split(Listed([task(n) for n in names]), stages, config())
    lengths = Counter(map(len, names))
    assert split.dropped == {f"length_{k}": lengths[k] for k in (1, 2) if lengths[k]}
    assert sorted(t.id for t in split.train) == sorted(n for n in names if len(n) > 2)
    assert stages[0].seen == names
    assert stages[1].seen == [n for n in names if len(n) != 1], "what is dropped is not seen again"


def test_ids_must_be_unique() -> None:
    with pytest.raises(CallwrightError, match=r"data\.source: two rows have the id 'b'"):
        load_split(Listed([task("a"), task("b"), task("b")]), [], config())


@pytest.mark.parametrize(("rows", "held_out"), [(0, 0), (3, 3), (3, 5)])
def test_too_few_rows_are_an_error_that_counts_them(rows: int, held_out: int) -> None:
    with pytest.raises(
        CallwrightError, match=rf"data: {rows} rows are too few for {held_out} held-out and 0 val.*1 rows"
    ):
        load_split(Listed([task("x"), *(task(f"id{i}") for i in range(rows))]), [Without(1)], config(held_out=held_out))


# ----------------------------------------------------------------------------------------------------- the deck


def deck_of(size: int, seed: int) -> Deck:
    deck, left_out = make_deck(
        [task(str(i)) for i in range(size)], lambda t: [int(t.id)], seed=seed, longest=None, progress=lambda *_: None
    )
    assert left_out == 0
    return deck


@given(size=st.integers(1, 20), epochs=st.integers(1, 3), seed=st.integers(0, 3))
def test_every_epoch_deals_every_task_once(size: int, epochs: int, seed: int) -> None:
    deck = deck_of(size, seed)
    for _ in range(epochs):
        drawn = [deck.draw() for _ in range(size)]
        assert sorted(int(t.id) for t, _ in drawn) == list(range(size))
        assert all(prompt == [int(t.id)] for t, prompt in drawn)


@given(size=st.integers(1, 12), before=st.integers(0, 40), after=st.integers(1, 40), seed=st.integers(0, 3))
def test_a_deck_goes_on_from_its_state(size: int, before: int, after: int, seed: int) -> None:
    deck, other = deck_of(size, seed), deck_of(size, seed)
    for _ in range(before):
        deck.draw()
    for _ in range(after):
        other.draw()  # its own past must not show
    other.load_state_dict(deck.state_dict())
    assert [other.draw() for _ in range(after)] == [deck.draw() for _ in range(after)]


def test_epochs_and_seeds_differ_in_order() -> None:
    deck = deck_of(30, 0)
    orders = [tuple(deck.draw()[0].id for _ in range(30)) for _ in range(3)]
    orders.append(tuple(t.id for t, _ in (other.draw() for other in [deck_of(30, 1)] for _ in range(30))))
    assert len(set(orders)) == 4


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=100), longest=st.integers(1, 20))
def test_prompts_that_are_too_long_are_left_out_and_counted(lengths: list[int], longest: int) -> None:
    tasks = [task(str(i)) for i in range(len(lengths))]
    arguments: dict[str, Any] = {"seed": 0, "longest": longest, "progress": lambda *_: None}
    fitting = [i for i, n in enumerate(lengths) if n <= longest]
    if not fitting:
        with pytest.raises(
            CallwrightError, match=f"every one of the {len(lengths)} prompts has more than {longest} to"
        ):
            make_deck(tasks, lambda t: [0] * lengths[int(t.id)], **arguments)
        return
    deck, left_out = make_deck(tasks, lambda t: [0] * lengths[int(t.id)], **arguments)
    assert left_out == len(lengths) - len(fitting)
    assert sorted(int(deck.draw()[0].id) for _ in fitting) == fitting
