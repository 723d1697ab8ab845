"""Data is prepared once, in order, in flat memory; a row is never lost without a word, nor anything half-written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from callwright import CallwrightError, Task
from callwright.data import load_split
from callwright.display import SilentDisplay
from callwright.pipeline.prepare import NotPrepared, estimates, prepare
from callwright.pipeline.prepared import Prepared
from callwright.pipeline.rows import CHUNK, Rows, from_row, to_row
from callwright.pipeline.stage_run import StepWriter
from callwright.recipe import build, load_recipe
from callwright.testing.stage_laws import odd_tasks
from callwright.testing.strategies import tasks as any_task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def task(name: str, **meta: Any) -> Task:
    return Task(name, ({"role": "user", "content": name},), meta=meta)


CALLS: list[str] = []
"""What ran, in order: that of the plugins' module, once `prepared` has loaded it."""


HERE = str(Path(__file__).with_name("pipeline_plugins.py"))


def recipe_of(tmp_path: Path, source: dict[str, Any], stages: Sequence[dict[str, Any]] = (), **data: Any) -> Path:
    values = {
        "model": {"name": "none"},
        "dialect": {"use": "python_calls"},
        "data": {
            "source": {**source, "use": f"{HERE}:Numbers"},
            "stages": [{**stage, "use": f"{HERE}:{stage['use']}"} for stage in stages],
            **data,
        },
        "rewards": {"use": [{"use": "ast_match"}]},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


def prepared(path: Path, *overrides: str, **options: bool) -> Prepared:
    global CALLS
    recipe = load_recipe(path, overrides)
    components = build(recipe)
    CALLS = sys.modules[type(components.source).__module__].CALLS
    CALLS.clear()
    return prepare(recipe, components, SilentDisplay(), **options)


def ids(rows: Rows) -> list[int]:
    return [int(name) for name in rows.ids()]


@given(one=any_task())
def test_a_task_survives_its_way_to_disk(one: Task) -> None:
    assert from_row(to_row(one)) == json_like(one)
    assert list(Rows.of([one])) == [json_like(one)]


def json_like(one: Task) -> Task:
    """As JSON keeps it: tuples inside values become lists."""
    return replace(one, messages=tuple(json.loads(json.dumps(one.messages))), meta=json.loads(json.dumps(one.meta)))


def test_odd_tasks_survive_too() -> None:
    assert list(Rows.of(odd_tasks())) == odd_tasks()


@given(size=st.integers(0, 30), data=st.data())
def test_rows_are_a_sequence(size: int, data: st.DataObject) -> None:
    plain = [task(str(n)) for n in range(size)]
    rows = Rows.of(plain)
    assert (len(rows), list(rows), rows.ids()) == (size, plain, [one.id for one in plain])
    piece = data.draw(st.slices(size))
    assert list(rows[piece]) == plain[piece]
    inner = data.draw(st.slices(len(plain[piece])))
    assert list(rows[piece][inner]) == plain[piece][inner]
    chosen = data.draw(st.lists(st.integers(0, size - 1), max_size=8)) if size else []
    some = rows.select(chosen)
    assert list(some) == [plain[n] for n in chosen]
    assert some.ids() == [plain[n].id for n in chosen]
    assert [some[n] for n in range(-len(some), len(some))] == [some[n] for n in range(len(some))] * 2
    assert list(some[1:].select([0])) == list(some)[1:2] if len(some) > 1 else True
    assert some.dataset["id"][:] == some.ids()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(rows=st.integers(1, 60), by=st.lists(st.integers(2, 7), max_size=3))
def test_every_row_is_kept_mended_or_dropped_and_the_record_says_so(tmp_path: Path, rows: int, by: list[int]) -> None:
    result = prepared(recipe_of(tmp_path, {"rows": rows}, [{"use": "Sieve", "by": n} for n in by]))
    left = set(range(rows))
    for step, n in zip(result.steps[1:], by, strict=True):
        assert (step.rows_in, step.use) == (len(left), f"{HERE}:Sieve")
        dropped, marked = {x for x in left if x % n == 0}, {x for x in left if x % n == 1}
        changes = list(step.read_changes())
        assert {int(c.id or "") for c in changes if c.outcome == "dropped"} == dropped
        assert {int(c.id or "") for c in changes if c.outcome == "corrected"} == marked
        assert Counter((c.outcome, c.code) for c in changes) == Counter(
            {("dropped", "multiple"): len(dropped), ("corrected", "next"): len(marked)}
        )
        for change in changes:
            assert change.before is not None
            assert change.row == int(change.id or "") + 1
            if change.after is not None:
                assert change.after["meta"] == {**change.before["meta"], f"after_{n}": True}
        left -= dropped
        assert step.rows_out == len(left)
    assert ids(result.rows) == sorted(left)
    assert ids(result.loaded) == list(range(rows))


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    stages = [{"use": "Sieve", "by": 2}, {"use": "Asks"}, {"use": "Sieve", "by": 5}]
    path = recipe_of(tmp_path, {}, stages)
    first = prepared(path)
    assert CALLS == ["load", "sieve 2", "asks", "sieve 5"]
    again = prepared(path)
    assert CALLS == []
    assert [step.cached for step in again.steps] == [True] * 4
    assert list(again.rows) == list(first.rows)
    assert [replace(step, cached=False) for step in again.steps] == list(first.steps)
    prepared(path, "data.stages.2.by=7")
    assert CALLS == ["sieve 7"], "the rows behind a stage that asks a model are kept"
    prepared(path, "data.stages.0.by=7")
    assert CALLS == ["sieve 7", "asks", "sieve 5"]
    prepared(path, "dialect.use=funrl")
    assert CALLS == ["asks", "sieve 5"] or CALLS == ["sieve 2", "asks", "sieve 5"], "it reads the dialect"
    prepared(path, "data.source.rows=9")
    assert CALLS == ["load", "sieve 2", "asks", "sieve 5"]
    prepared(path, "data.processes=2", "train.steps=3")
    assert CALLS == [], "neither changes the rows"
    prepared(path, fresh=True)
    assert CALLS == ["load", "sieve 2", "asks", "sieve 5"]


def test_a_source_that_cannot_say_whether_it_changed_is_read_again(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, {"printed": None}, [{"use": "Sieve"}])
    first = prepared(path)
    again = prepared(path)
    assert CALLS == ["load"], "its rows are the same, so the stage's are too"
    assert again.steps[1].cached
    assert list(again.rows) == list(first.rows)


def test_only_rows_to_go_on_from_are_kept(tmp_path: Path, data_cache: Path) -> None:
    prepared(recipe_of(tmp_path, {}, [{"use": "Sieve", "by": n} for n in (2, 3, 5)]))
    assert len(list(data_cache.rglob("rows.arrow"))) == 2
    assert len(list(data_cache.rglob("changes.parquet"))) == 4
    assert not list(data_cache.rglob(".new-*"))


def test_in_processes_or_not_the_result_is_the_same(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, {"rows": 3 * CHUNK + 7}, [{"use": "Sieve", "by": 3}, {"use": "Sieve", "by": 7}])
    alone = prepared(path)
    together = prepared(path, "data.processes=2", fresh=True)
    assert CALLS == ["load"], "the stages ran elsewhere"
    assert list(together.rows) == list(alone.rows)
    for one, other in zip(alone.steps, together.steps, strict=True):
        assert list(one.read_changes()) == list(other.read_changes())


def test_rows_that_cannot_be_read_are_listed_or_left_out(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, {"unreadable": [1, 2, 3, 4, 5, 6, 7]})
    with pytest.raises(CallwrightError, match=r"data\.source: 7 rows cannot be read; .*`data.unreadable: drop`") as e:
        prepared(path)
    assert "numbers, row 2, field 'tools': is no list" in str(e.value)
    assert "and 2 more" in str(e.value)
    result = prepared(path, "data.unreadable=drop")
    assert ids(result.rows) == [0, 8, 9]
    assert [(c.row, c.outcome, c.code) for c in result.steps[0].read_changes()][:2] == [
        (2, "unreadable", "tools"),
        (3, "unreadable", "tools"),
    ]
    assert result.steps[0].rows_in == 10
    assert load_split(load_recipe(path, ["data.unreadable=drop"]), build(load_recipe(path)), SilentDisplay()).dropped


@pytest.mark.parametrize(
    ("source", "message"),
    [({"rows": 0}, "gives no rows"), ({"repeat": True}, "two rows have the id '0'")],
)
def test_a_source_that_gives_nothing_or_repeats_itself_is_an_error(
    tmp_path: Path, source: dict[str, Any], message: str
) -> None:
    with pytest.raises(CallwrightError, match=rf"data\.source: .*{message}"):
        prepared(recipe_of(tmp_path, source))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("loses", "gives '1' where the row '0' was due"),
        ("adds", "more results than it got rows"),
        ("reverses", "gives '1' where"),
        ("text", "gives a str for a row"),
        ("raises", "raised ZeroDivisionError: oh after 0 of 10 rows"),
    ],
)
def test_a_stage_that_breaks_its_rules_is_named(tmp_path: Path, data_cache: Path, how: str, message: str) -> None:
    with pytest.raises(CallwrightError, match=r"^data\.stages\.0: the stage '.*Broken' ") as caught:
        prepared(recipe_of(tmp_path, {}, [{"use": "Broken", "how": how}]))
    assert message in str(caught.value)
    assert not list(data_cache.rglob(".new-*"))


def test_a_failure_costs_only_its_own_stage(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, {}, [{"use": "Sieve", "by": 2}, {"use": "Asks", "fail_after": 2}])
    with pytest.raises(CallwrightError, match=r"data\.stages\.1.*no connection after 2 of 5 rows"):
        prepared(path)
    prepared(path, "data.stages.1.fail_after=null")
    assert CALLS == ["asks"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    tmp_path: Path, data_cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = recipe_of(tmp_path, {"rows": 5}, [{"use": "Sieve", "by": 2}, {"use": "Sieve", "by": 3}])

    def fails(stage: object, origin: Any, *rest: object) -> None:
        if origin.place == "data.stages.1":
            raise OSError(number, os.strerror(number))
        real(stage, origin, *rest)

    real = sys.modules["callwright.pipeline.prepare"].run_stage
    monkeypatch.setattr("callwright.pipeline.prepare.run_stage", fails)
    with pytest.raises(CallwrightError, match=rf"data\.stages\.1: cannot write to .*{os.strerror(number)}; free some"):
        prepared(path)
    assert not list(data_cache.rglob(".new-*"))
    monkeypatch.undo()
    monkeypatch.setattr("callwright.pipeline.prepare.cache_folder", lambda: data_cache)
    prepared(path)
    assert CALLS == ["sieve 3"]


def test_a_real_full_device_is_told(tmp_path: Path) -> None:
    """`/dev/full` fails as a full disk does: at the write, or when the file is closed."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def write(folder: Path) -> None:
        with StepWriter(folder, "x") as writer:
            for number in range(3 * CHUNK):
                writer.keep({**to_row(task(str(number))), "row": number})

    for name in ("rows.arrow", "changes.parquet"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            write(folder)


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, {"rows": 30}, [{"use": "Sieve", "by": 2}, {"use": "Sleeps"}])
    environment = {**os.environ, "CALLWRIGHT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "callwright", "data", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, env={**environment, "SLEEP": "30"}, stdout=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (tmp_path / "cache" / "asleep").exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    done = subprocess.run(command, env={**environment, "SLEEP": "0"}, capture_output=True, text=True, check=True)
    assert "cached" in done.stdout, "the source and the first stage were not run again"
    assert Rows.open_parquet(tmp_path / "out" / "train.parquet").ids() == [str(n) for n in range(1, 30, 2)]


def test_nothing_that_asks_a_model_runs_where_it_must_not(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, {}, [{"use": "Sieve", "by": 2}, {"use": "Asks"}, {"use": "Sieve", "by": 3}])
    with pytest.raises(NotPrepared, match="asks a model, and has not been run yet"):
        prepared(path, without_models=True)
    assert CALLS == ["load", "sieve 2"]
    recipe = load_recipe(path)
    assert list(estimates(recipe, build(recipe), SilentDisplay())) == [("data.stages.1", "5 questions")]
    assert CALLS == ["load", "sieve 2"], "what comes before was there already"
    prepared(path)
    assert list(estimates(recipe, build(recipe), SilentDisplay())) == []
    assert ids(prepared(path, without_models=True).rows) == [1, 5, 7]
