"""The laws of a data stage."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from callwright.testing.laws import Bench, Law
from callwright.testing.toys import fixed_tasks
from callwright.types import Answer, Corrected, Dropped, ExpectedCall, Stage, Task, Tool

StageBench = Bench[Stage]
Tasks = Sequence[Task]
Result = Task | Dropped | Corrected


def odd_tasks() -> list[Task]:
    """Tasks that careless stages stumble over."""
    return [
        Task("empty", ()),
        Task("silent", ({"role": "user", "content": ""},)),
        Task("no answer", ({"role": "user", "content": "\x00 \ud800"},), (Tool("f"),)),
        Task("unknown tool", ({"role": "user", "content": "?"},), (), Answer((ExpectedCall("g", {"a": [1, ""]}),))),
        Task("no schema", ({"role": "user", "content": "?"},), (Tool("f", "", {}),), Answer((ExpectedCall("f", {}),))),
        Task("odd schema", ({"role": "user", "content": "?"},), (Tool("f", "", {"type": 3, "properties": {"a": {}}}),)),
        Task("twice", ({"role": "user", "content": "?"},), (Tool("f"), Tool("f")), Answer()),
    ]


def _applied(bench: StageBench, tasks: Tasks) -> list[Result]:
    try:
        return list(_ready(bench).apply(list(tasks)))
    except Exception as error:
        message = f"the stage raises {type(error).__name__}: {error}"[:300]
        bench.broken(message, _test(bench, _guilty(bench, tasks), "assert isinstance(results, list)"))


def _ready(bench: StageBench) -> Stage:
    """A copy, so that what a stage remembers is no reason for another answer; told of its surroundings if it wants."""
    stage = copy.deepcopy(bench.subject)
    if bench.more["context"] is not None:
        stage.prepare(bench.more["context"])  # type: ignore[attr-defined] # not every stage has it
    return stage


def _guilty(bench: StageBench, tasks: Tasks) -> Tasks:
    for task in tasks:
        try:
            list(_ready(bench).apply([task]))
        except Exception:
            return [task]
    return tasks


def _test(bench: StageBench, tasks: Tasks, assertions: str) -> str:
    return (
        "from callwright import Answer, Corrected, Dropped, ExpectedCall, Task, Tool\n"
        f"tasks = {list(tasks)!r}\nstage = {bench.source}\nresults = list(stage.apply(tasks))\n{assertions}"
    )


def _for_all(bench: StageBench, test: Any) -> None:
    tasks = st.lists(bench.more["tasks"], max_size=4)
    fixed = [*([task] for task in odd_tasks()), [*fixed_tasks(), *odd_tasks()], []]
    bench.search(tasks, lambda drawn: test(_numbered(drawn)), fixed)


def _numbered(tasks: Tasks) -> list[Task]:
    """Ids must differ: a stage may drop the second task of an id."""
    return [Task(f"t{n}", task.messages, task.tools, task.answer, task.meta) for n, task in enumerate(tasks)]


def total(bench: StageBench) -> None:
    _for_all(bench, lambda tasks: _applied(bench, tasks))


def keeps_or_drops_all(bench: StageBench) -> None:
    def test(tasks: Tasks) -> None:
        results = _applied(bench, tasks)
        ids = Counter(_task(result).id for result in results)
        wanted = Counter(task.id for task in tasks)
        if ids != wanted:
            lost, new = sorted((wanted - ids).elements()), sorted((ids - wanted).elements())
            assertion = "assert len(results) == len(tasks)"
            bench.broken(f"tasks lost: {lost}; tasks that nobody gave: {new}", _test(bench, tasks, assertion))
        for result in results:
            if not isinstance(result, Task) and not result.code:
                assertion = "assert all(r.code for r in results if not isinstance(r, Task))"
                bench.broken("a task is dropped or corrected without a code", _test(bench, tasks, assertion))

    _for_all(bench, test)


def keeps_order(bench: StageBench) -> None:
    def test(tasks: Tasks) -> None:
        ids = [_task(result).id for result in _applied(bench, tasks)]
        wanted = [task.id for task in tasks]
        if ids != wanted:
            assertion = (
                "ids = [(r if isinstance(r, Task) else r.task).id for r in results]\n"
                "assert ids == [task.id for task in tasks]"
            )
            bench.broken(f"results come in the order {ids}, and not {wanted}", _test(bench, tasks, assertion))

    _for_all(bench, test)


def _task(result: Result) -> Task:
    return result if isinstance(result, Task) else result.task


def deterministic(bench: StageBench) -> None:
    def test(tasks: Tasks) -> None:
        if _applied(bench, tasks) != _applied(bench, tasks):
            assertion = f"assert results == list({bench.source}.apply(tasks))"
            bench.broken("the same tasks are treated differently the next time", _test(bench, tasks, assertion))

    _for_all(bench, test)


def changes_nothing(bench: StageBench) -> None:
    def test(tasks: Tasks) -> None:
        before = copy.deepcopy(tasks)
        _applied(bench, tasks)
        if before != tasks:
            assertion = f"assert tasks == {list(before)!r}"
            bench.broken("the stage changes the tasks that it receives", _test(bench, before, assertion))

    _for_all(bench, test)


def idempotent(bench: StageBench) -> None:
    """What it kept once, it keeps as it is when it is applied to it again."""

    def test(tasks: Tasks) -> None:
        kept = [_task(result) for result in _applied(bench, tasks) if not isinstance(result, Dropped)]
        again = _applied(bench, kept)
        if again != kept:
            assertion = (
                "kept = [getattr(r, 'task', r) for r in results if not isinstance(r, Dropped)]\n"
                f"assert list({bench.source}.apply(kept)) == kept"
            )
            bench.broken("applied again, the stage changes or drops what it kept", _test(bench, tasks, assertion))

    _for_all(bench, test)


LAWS: tuple[Law[Any], ...] = (
    Law("total", "It takes any task.", total),
    Law(
        "keeps_or_drops_all",
        "Every task is kept, or mended or dropped with a code; none is lost or new.",
        keeps_or_drops_all,
    ),
    Law("keeps_order", "One result per task, in their order.", keeps_order),
    Law("deterministic", "The same tasks are treated the same.", deterministic),
    Law("changes_nothing", "It does not change the tasks that it receives.", changes_nothing),
    Law("idempotent", "Applied again, it keeps all that it kept.", idempotent),
)
