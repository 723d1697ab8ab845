"""Tasks are split for good, dealt fairly, and none disappears without a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from callwright import CallwrightError, Task
from callwright.data import PARTS, Deck, make_deck, split
from callwright.pipeline.rows import Rows
from callwright.recipe import DataConfig
from hypothesis import given
from hypothesis import strategies as st


def task(name: str) -> Task:
    return Task(name, ({"role": "user", "content": name},))


def config(**values: int) -> DataConfig:
    return DataConfig.model_validate({"source": {"use": "unused"}, **values})


ids = st.lists(st.text(min_size=1, max_size=6), min_size=3, max_size=40, unique=True)


def parts_of(names: Sequence[str], **values: int) -> dict[str, list[str]]:
    found = split(Rows.of(map(task, names)), config(**values), {})
    return {part: [t.id for t in getattr(found, part)] for part in PARTS}


@given(names=ids, data=st.data(), seed=st.integers(0, 5))
def test_a_split_is_disjoint_complete_and_blind_to_order(names: list[str], data: st.DataObject, seed: int) -> None:
    held_out = data.draw(st.integers(0, len(names) - 1))
    validation = data.draw(st.integers(0, len(names) - 1 - held_out))
    wanted = {"held_out": held_out, "validation": validation, "split_seed": seed}
    parts = parts_of(names, **wanted)
    sizes = {"held_out": held_out, "validation": validation, "train": len(names) - held_out - validation}
    assert {part: len(found) for part, found in parts.items()} == sizes
    assert sorted([*parts["train"], *parts["validation"], *parts["held_out"]]) == sorted(names)
    assert parts_of(data.draw(st.permutations(names)), **wanted) == parts


@given(names=st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=30, unique=True), extra=st.integers(1, 5))
def test_a_row_that_is_added_changes_the_place_of_few(names: list[str], extra: int) -> None:
    """The split is by hash, so that data may grow without held-out rows going into training in bulk."""
    before = parts_of(names, held_out=len(names) // 2)
    after = parts_of([*names, *("new" * 3 + str(i) for i in range(extra))], held_out=len(names) // 2)
    assert len({*before["held_out"]} - {*after["held_out"]}) <= extra


def test_the_seed_chooses_the_split() -> None:
    names = [str(i) for i in range(40)]
    assert len({tuple(sorted(parts_of(names, held_out=20, split_seed=s)["held_out"])) for s in range(4)}) == 4


@given(said=st.lists(st.sampled_from([*PARTS, "test", None]), min_size=1, max_size=20))
def test_rows_may_say_their_part_themselves(said: list[str | None]) -> None:
    rows = Rows.of(
        replace(task(str(n)), meta={} if part is None else {"split": part, "a": 1}) for n, part in enumerate(said)
    )
    if not any(part in PARTS for part in said):
        assert len(split(rows, config(), {}).train) == len(said), "other words mean nothing"
        return
    expected = {part: [str(n) for n, one in enumerate(said) if one == part] for part in PARTS}
    expected["train"] = [str(n) for n, one in enumerate(said) if one not in ("validation", "held_out")]
    if not expected["train"]:
        with pytest.raises(CallwrightError, match="too few"):
            split(rows, config(), {})
        return
    found = split(rows, config(), {})
    assert {part: [t.id for t in getattr(found, part)] for part in PARTS} == expected
    with pytest.raises(CallwrightError, match=r"leave out data\.held_out"):
        split(rows, config(held_out=1), {})


@pytest.mark.parametrize(("rows", "held_out"), [(0, 0), (3, 3), (3, 5)])
def test_too_few_rows_are_an_error_that_counts_them(rows: int, held_out: int) -> None:
    with pytest.raises(
        CallwrightError, match=rf"data: {rows} rows are too few for {held_out} held-out and 0 val.*1 rows"
    ):
        split(Rows.of(task(f"id{i}") for i in range(rows)), config(held_out=held_out), {"x": 1})


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
