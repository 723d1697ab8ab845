"""One call per kind of plugin: it runs all laws and raises what they find."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hypothesis.strategies import SearchStrategy

from callwright.pipeline.context import StageContext
from callwright.testing import dialect_laws, explorer_laws, reward_laws, source_laws, stage_laws
from callwright.testing.laws import Bench, Law, LawResult, LawsBroken, run_laws, source_of, switched_off
from callwright.testing.reward_bench import RewardBench, regression_imports
from callwright.testing.scoring import plugin
from callwright.testing.strategies import tasks as any_task
from callwright.testing.toys import fixed_tasks, stage_context
from callwright.types import CallwrightError, Dialect, Source, Task

DEFAULT_DIALECT = "funrl"
"""In which completions are written for a reward: it has thinking and tags, so that there is most to get wrong."""

_LAWS: dict[str, Sequence[Law[Any]]] = {
    "reward": reward_laws.LAWS,
    "dialect": dialect_laws.LAWS,
    "explorer": explorer_laws.LAWS,
    "stage": stage_laws.LAWS,
    "source": source_laws.LAWS,
}
ROWS = 200
"""Of a source, how many of its rows are looked at."""


def laws_of(kind: str) -> Sequence[Law[Any]]:
    """The laws of a kind of plugin: reward, dialect, explorer, stage or source."""
    if kind not in _LAWS:
        raise CallwrightError(f"there are laws for {', '.join(_LAWS)}, but none for the kind {kind}")
    return _LAWS[kind]


def check_reward(
    reward: object,
    *,
    dialect: Dialect | str = DEFAULT_DIALECT,
    range: tuple[float, float] | None = None,
    tasks: SearchStrategy[Task] | None = None,
    skip: Mapping[str, str] | None = None,
    examples: int = 12,
    shrink: bool = True,
) -> None:
    """Check a reward against all laws of `callwright.testing.laws_of("reward")`.

    dialect: in which completions are written, an object or the name of an installed one. range: lowest and highest
    score; default: the class's attribute `range`, else 0 to 1. tasks: what to judge; default: tasks of all shapes.
    skip: law -> why it does not apply, beside the class's attribute `laws`. examples: random tasks per law. shrink:
    make counterexamples small; without, a broken law is found several times faster.

    Raises `LawsBroken`, an AssertionError, with a counterexample of each broken law as a regression test.
    """
    results = list(reward_results(reward, dialect, range, tasks, skip, examples, shrink))
    _raise_broken(reward, results)


def check_dialect(
    dialect: Dialect, *, skip: Mapping[str, str] | None = None, examples: int = 15, shrink: bool = True
) -> None:
    """Check an output format against all laws of `laws_of("dialect")`. See `check_reward`."""
    _raise_broken(dialect, list(results_of("dialect", dialect, skip, examples, shrink)))


def check_explorer(
    explorer: object, *, skip: Mapping[str, str] | None = None, examples: int = 12, shrink: bool = True
) -> None:
    """Check an exploration strategy, or any plugin of training hooks, against all laws of `laws_of("explorer")`."""
    _raise_broken(explorer, list(results_of("explorer", explorer, skip, examples, shrink)))


def check_stage(
    stage: object,
    *,
    tasks: SearchStrategy[Task] | None = None,
    context: StageContext | None = None,
    skip: Mapping[str, str] | None = None,
    examples: int = 12,
    shrink: bool = True,
) -> None:
    """Check a data stage against all laws of `laws_of("stage")`. See `check_reward`.

    context: for a stage with `prepare`; default: that of a recipe with the dialect `python_calls` and the reward
    `ast_match`.
    """
    _raise_broken(stage, list(results_of("stage", stage, skip, examples, shrink, tasks, context=context)))


def check_source(source: Source, *, rows: int = ROWS, skip: Mapping[str, str] | None = None) -> None:
    """Check a data source against all laws of `laws_of("source")`, by its first rows. See `check_reward`."""
    _raise_broken(source, list(results_of("source", source, skip, rows)))


def reward_results(
    reward: object,
    dialect: Dialect | str = DEFAULT_DIALECT,
    range: tuple[float, float] | None = None,
    tasks: SearchStrategy[Task] | None = None,
    skip: Mapping[str, str] | None = None,
    examples: int = 12,
    shrink: bool = True,
    use: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[LawResult]:
    """The laws of a reward one by one, for whoever wants to see each. `use`: its name in a recipe, if it has one."""
    off = switched_off(reward_laws.LAWS, reward, skip)
    found = plugin("dialect", dialect) if isinstance(dialect, str) else dialect
    source, imports = source_of(reward, "reward", use, options)
    dialect_source, dialect_imports = source_of(found, "dialect", dialect if isinstance(dialect, str) else None)
    more = {
        "dialect": found,
        "dialect_source": dialect_source,
        "range": range or getattr(reward, "range", (0.0, 1.0)),
        "fixed": fixed_tasks(),
        "tasks": any_task() if tasks is None else tasks,
    }
    if tasks is not None:
        more["fixed"] = []
    all_imports = (*imports, *dialect_imports, *regression_imports())
    bench = RewardBench(reward, examples, shrink, source, all_imports, more)
    yield from run_laws(reward_laws.LAWS, bench, off)


def results_of(
    kind: str,
    subject: Any,
    skip: Mapping[str, str] | None = None,
    examples: int = 12,
    shrink: bool = True,
    tasks: SearchStrategy[Task] | None = None,
    use: str | None = None,
    options: Mapping[str, Any] | None = None,
    context: StageContext | None = None,
) -> Iterator[LawResult]:
    """As `reward_results`, of a dialect, an explorer, a stage or a source; of that, `examples` are rows."""
    off = switched_off(laws_of(kind), subject, skip)
    source, imports = source_of(subject, kind, use, options)
    with tempfile.TemporaryDirectory() as cache:
        if context is None and kind == "stage" and hasattr(subject, "prepare"):
            context = stage_context(Path(cache))
        more = {"tasks": any_task() if tasks is None else tasks, "context": context}
        bench: Bench[Any] = Bench(subject, examples, shrink, source, imports, more)
        yield from run_laws(laws_of(kind), bench, off)


def _raise_broken(subject: object, results: Sequence[LawResult]) -> None:
    broken = [result for result in results if result.state == "broken"]
    if broken:
        raise LawsBroken(type(subject).__name__, broken)


# ------------------------------------------------------------------------------------- an installed plugin, by name


def kind_of(subject: object) -> str:
    """Reward, dialect, explorer, stage or source, by what the object can do."""
    from callwright.types import Stage

    for kind, protocol in (("dialect", Dialect), ("stage", Stage), ("source", Source)):
        if isinstance(subject, protocol):
            return kind
    return "reward" if hasattr(subject, "score") else "explorer"


def check_installed(use: str, given: Sequence[str], report: Callable[[LawResult], None]) -> bool:
    """Run the laws of the plugin that `use` names; `report` gets every result. True if all hold.

    `use` is what a recipe may say: a name, `distribution:name`, `package.module:attr` or `./file.py:attr`. `given`:
    its options, `KEY=VALUE` with YAML values. Raises `CallwrightError` for a plugin that cannot be found or built, or
    whose kind has no laws, and for an option without `=`.
    """
    held, options = True, dict(map(read_option, given))
    for kind, subject in _named(use, options):
        results = (
            reward_results(subject, use=use, options=options)
            if kind == "reward"
            else results_of(kind, subject, examples=ROWS if kind == "source" else 12, use=use, options=options)
        )
        for result in results:
            report(result)
            held = held and result.state != "broken"
    return held


def read_option(text: str) -> tuple[str, Any]:
    """An option as it is typed, `KEY=VALUE` with a YAML value. Raises `CallwrightError`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise CallwrightError(f"'{text}' is no option of the plugin; write KEY=VALUE")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise CallwrightError(f"'{text}': the value is no YAML: {error}") from error


def _named(use: str, options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(kind, plugin) of everything installed under the name."""
    from callwright.plugins import PluginError, catalogue, near

    front, _, name = use.rpartition(":")
    installed = catalogue()
    kinds = sorted({entry.kind for entry in installed if entry.name == name and entry.kind in _LAWS})
    if len(kinds) > 1:  # a source of a format that a dialect is named after; it would need its data
        kinds = [kind for kind in kinds if kind != "source"]
    if front.endswith(".py") or (front and not kinds):
        subject = plugin("reward", use, **options)
        return [(kind_of(subject), subject)]
    if not kinds:
        names = sorted({entry.name for entry in installed if entry.kind in _LAWS})
        raise PluginError(f"there is no plugin '{use}' with laws{near(use, names)} (installed: {', '.join(names)})")
    return [(kind, plugin(kind, use, **options)) for kind in kinds]
