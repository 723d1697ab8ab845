"""What plugins may rely on, written out in public_api.txt, is what it was.

`python tests/core/test_public_api.py` writes the file anew, but refuses where plugins would break unannounced.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import callwright
import callwright.testing
import pytest
from callwright import hookspecs, plugins
from callwright.api_version import contract

STORED = Path(__file__).with_name("public_api.txt")
ROOT = Path(__file__).parents[2]
ALSO = {
    "callwright.hooks": ("PLAN_FIELDS",),
    "callwright.loop": ("Control",),
    "callwright.sampling": ("Generation", "GenerationRequest", "Sampler", "SamplingPlan"),
    "callwright.suites.contract": ("Category", "Judged", "Score", "Suite"),
    "callwright.trackers.plugins": ("Tracker",),
    "callwright_dialects.json_calls": ("JsonCalls",),
    "callwright_dialects.json_syntax": ("JsonReader",),
    "callwright_rewards.ast_match": ("AstMatch",),
}
"""What is meant for plugins besides what `callwright` and `callwright.testing` export: what a hook or another kind of
plugin is given, and what the templates and the example build on."""
ONLY_READ = ("Rollouts", "MicroBatch", "StageContext", "Control", "SamplingPlan", "GenerationRequest", "Category")
"""What plugins get and do not make: a field more without a default breaks none of them."""
HELP = (
    "Run `.venv/bin/python tests/core/test_public_api.py` to renew tests/core/public_api.txt. Lines that are gone or"
    " changed, and new ones without a default, break plugins that others wrote: then first raise callwright's version,"
    " 0.1 -> 0.2 (from 1.0 on 1 -> 2), in pyproject.toml and core/callwright/__init__.py, and tell authors in"
    " docs/writing-plugins.md what to change."
)


# ---------------------------------------------------------------------------------------------- what there is


def public_api() -> list[str]:
    """A line for each thing that a plugin may name, in order; one for each argument, field and member.

    A number in brackets is the place in a call."""
    lines = [f"kind {kind}: callwright.{kind}s" for kind in plugins.KINDS]
    for name in callwright.__all__:
        lines += described(f"callwright.{name}", getattr(callwright, name))
    for name in callwright.testing.__all__:
        lines += described(f"callwright.testing.{name}", getattr(callwright.testing, name))
    for module, names in ALSO.items():
        for name in names:
            lines += described(f"{module}.{name}", getattr(importlib.import_module(module), name))
    for name, hook in inspect.getmembers(hookspecs, lambda value: hasattr(value, "callwright_spec")):
        lines += [f"hook {line}" for line in of_function(name, hook, by_name=True)]
        lines += [f"hook {name}: exactly one may answer"] if hook.callwright_spec["firstresult"] else []
    return sorted(lines)


def described(place: str, thing: Any) -> Iterator[str]:
    yield place
    if isinstance(thing, type) and issubclass(thing, enum.Enum):
        yield from (f"{place}.{member.name} = {member.value!r}" for member in thing)
    elif isinstance(thing, type):
        yield from of_class(place, thing)
    elif inspect.isfunction(thing):
        yield from of_function(place, thing)
    elif isinstance(thing, tuple):
        yield from (f"{place}: {item}" for item in thing)


def of_class(place: str, cls: type) -> Iterator[str]:
    fields = [f for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []
    by_position = [field.name for field in fields if not field.kw_only and cls.__name__ not in ONLY_READ]
    for field in fields:
        if not field.name.startswith("_"):
            given = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            place_in_call = f" [{by_position.index(field.name) + 1}]" if field.name in by_position else ""
            yield f"{place}.{field.name}{place_in_call}: {written(field.type)}" + given * f" = {default_of(field)}"
    package = "callwright.testing" if place.startswith("callwright.testing") else place.partition(".")[0]
    bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith(package)]
    members = {name: value for base in bases for name, value in vars(base).items()}
    for name, value in sorted(members.items()):
        if name.startswith("_") or any(name == field.name for field in fields):
            continue
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(function):
            yield from of_function(f"{place}.{name}", function)
        elif isinstance(value, property):
            yield f"{place}.{name}"


def default_of(field: dataclasses.Field[Any]) -> str:
    return "..." if field.default is dataclasses.MISSING else repr(field.default)


def of_function(place: str, function: Any, by_name: bool = False) -> Iterator[str]:
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    for number, one in enumerate(parameters, 1):
        given = "" if one.default is one.empty else f" = {one.default!r}"
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        place_in_call = f" [{number}]" if one.kind is one.POSITIONAL_OR_KEYWORD and not by_name else ""
        yield f"{place}({stars}{one.name}{place_in_call}: {written(one.annotation)}{given})"
    yield f"{place} -> {written(signature.return_annotation)}"


def written(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


# ------------------------------------------------------------------------------------------ what may change


def breaking(old: list[str], new: list[str]) -> list[str]:
    """The changes from `old` to `new` that break plugins, as lines of a diff."""
    gone = [f"- {line}" for line in old if line not in new]
    known = {line.partition(":")[0].partition("(")[0] for line in old}
    return gone + [f"+ {line}" for line in new if line not in old and is_demand(line) and owner(line) in known]


def is_demand(line: str) -> bool:
    """Whether a new line asks something of those who know its owner: an argument or a field without a default."""
    if line.startswith(("hook ", "kind ")) or " = " in line or "**" in line or ": " not in line:
        return False  # a hook may leave arguments out
    return not any(f".{name}." in line for name in ONLY_READ)


def owner(line: str) -> str:
    name, parenthesis, _ = line.partition("(")
    return name if parenthesis else line.partition(":")[0].rpartition(".")[0]


def document(lines: list[str]) -> str:
    return "\n".join([f"callwright {contract(callwright.__version__)}", *lines]) + "\n"


def renew() -> int:
    """Write the file anew; the exit code is 1, and nothing is written, where the version has to be raised first."""
    new = public_api()
    version, *old = STORED.read_text(encoding="utf-8").splitlines() if STORED.exists() else ["callwright none"]
    broken = breaking(old, new)
    if broken and version == f"callwright {contract(callwright.__version__)}":
        print("these break plugins; raise callwright's version first:", *broken, sep="\n", file=sys.stderr)
        return 1
    STORED.write_text(document(new), encoding="utf-8")
    print(f"{STORED.relative_to(ROOT)} is written: {len(new)} lines")
    return 0


def test_what_plugins_rely_on_is_what_it_was() -> None:
    stored, found = STORED.read_text(encoding="utf-8"), document(public_api())
    changes = "\n".join(
        difflib.unified_diff(stored.splitlines(), found.splitlines(), "stored", "found", n=0, lineterm="")
    )
    assert stored == found, f"{changes}\n\n{HELP}"


@pytest.mark.parametrize(
    ("before", "now", "breaks"),
    [
        ("a.T\na.T.x: int", "a.T", True),
        ("a.T\na.T.x: int", "a.T\na.T.x: str", True),
        ("a.T\na.T.x: int", "a.T\na.T.x: int\na.T.y: int", True),
        ("a.T\na.T.x: int", "a.T\na.T.x: int\na.T.y: int = 0", False),
        ("a.T\na.T.x [1]: int = 0", "a.T\na.T.x [2]: int = 0\na.T.y [1]: int = 0", True),
        ("a.Rollouts\na.Rollouts.x: int", "a.Rollouts\na.Rollouts.x: int\na.Rollouts.y: int", False),
        ("a.f\na.f(x: int)\na.f -> int", "a.f\na.f(x: int)\na.f(y: int)\na.f -> int", True),
        ("a.f\na.f(x: int)\na.f -> int", "a.f\na.f(x: int)\na.f(y: int = 1)\na.f -> int", False),
        ("a.f\na.f(x: int)\na.f -> int", "a.f\na.f -> int", True),
        ("a.f", "a.f\na.g\na.g(x: int)\na.g -> int", False),
        ("hook h(x: int)\nhook h -> int", "hook h(x: int)\nhook h(y: int)\nhook h -> int", False),
        ("hook h(x: int)\nhook h -> int", "hook h -> int", True),
        ("kind reward: callwright.rewards", "kind reward: callwright.rewards\nkind tool: callwright.tools", False),
    ],
)
def test_a_change_breaks_plugins_if_one_that_fitted_may_not_fit_any_more(before: str, now: str, breaks: bool) -> None:
    assert bool(breaking(before.splitlines(), now.splitlines())) is breaks


def test_every_part_of_the_contract_is_in_it() -> None:
    text = STORED.read_text(encoding="utf-8")
    for part in (
        "hook sampling(group_ids: Tensor)",
        "hook advantages: exactly one may answer",
        "callwright.Task.messages [2]: tuple[Message, ...]",
        "callwright.Verdict.score [1]: float | None",
        "callwright.Rollouts.segments: Tensor",
        "callwright.Dialect.parse(text [1]: str)",
        "callwright.ReasonCode.CORRECT = 'correct'",
        "callwright.hooks.PLAN_FIELDS: temperature",
        "callwright.testing.check_source",
        "callwright.loop.Control.stop(reason [1]: str)",
    ):
        assert f"\n{part}" in text


def test_the_templates_and_the_example_stand_on_the_contract_alone() -> None:
    sources = [
        *(ROOT / "core/callwright/scaffold/templates").glob("*.py.tmpl"),
        *(ROOT / "plugins/example").rglob("*.py"),
    ]
    known = set(STORED.read_text(encoding="utf-8").splitlines())
    for source in sources:
        for module, names in re.findall(r"^from (callwright[\w.]*) import (.+)$", source.read_text(), re.MULTILINE):
            if not module.startswith("callwright_units"):
                assert {f"{module}.{name.strip()}" for name in names.split(",")} <= known, source


if __name__ == "__main__":
    sys.exit(renew())
