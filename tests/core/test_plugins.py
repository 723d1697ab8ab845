from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from callwright.plugins import KINDS, ComponentError, PluginError, build_component, catalogue, describe, find
from hypothesis import given, settings
from hypothesis import strategies as st

MODULE = '''
"""A module of a stranger's distribution."""
from dataclasses import dataclass

@dataclass
class Documented:
    """Judge by length.

    More words.
    """
    limit: int = 3

@dataclass
class Bare:
    limit: int = 3

class Outer:
    class Inner:
        pass
'''


def entries_of(distribution):
    return [entry for entry in catalogue() if entry.distribution == distribution]


# ------------------------------------------------------------------------------------------- catalogue


def test_catalogue_lists_every_kind_sorted_and_imports_nothing(install):
    points = {f"{kind}s": {"zz_b": "cw_stranger:Bare", "zz_a": "cw_stranger:Documented"} for kind in KINDS}
    install("Cw-Stranger", "2.5", points, cw_stranger=MODULE)
    found = entries_of("Cw-Stranger")
    assert [(e.kind, e.name) for e in found] == [(kind, name) for kind in sorted(KINDS) for name in ("zz_a", "zz_b")]
    assert {e.version for e in found} == {"2.5"}
    assert found[0].value == "cw_stranger:Documented"
    assert "cw_stranger" not in sys.modules
    everything = [(e.kind, e.name, e.distribution) for e in catalogue()]
    assert everything == sorted(everything)
    assert found[0].load().__name__ == "Documented"


def test_the_core_and_its_catalogue_do_not_import_torch():
    code = "import sys; from callwright import plugins, recipe; plugins.catalogue(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_first_distribution_on_the_path_hides_a_second_copy_of_itself(install):
    install("cw-twice", "1.0", {"rewards": {"zz": "old:A"}})
    install("cw_twice", "2.0", {"rewards": {"zz": "new:A"}})
    assert [e.version for e in catalogue() if e.name == "zz"] == ["2.0"]


def test_unreadable_metadata_hides_nobody_else(install):
    (install("cw-garbled", "1.0", {"rewards": {"zz_x": "a:B"}}) / "entry_points.txt").write_text(
        "[callwright.rewards]\nno equals sign\n"
    )
    (install("cw-nameless", "1.0", {"rewards": {"zz_y": "a:B"}}) / "METADATA").unlink()
    install("cw-whole", "1.0", {"rewards": {"zz_z": "a:B"}})
    assert [e.name for e in catalogue() if e.name.startswith("zz_")] == ["zz_z"]


def test_describe_gives_the_first_line_and_never_raises(install):
    points = {
        "a": "cw_described:Documented",
        "b": "cw_described:Bare",
        "c": "cw_described:Missing",
        "d": "cw_exits:X",
        "e": "cw_raises:X",
    }
    modules = {
        "cw_described": MODULE,
        "cw_exits": "import sys; sys.exit(3)",
        "cw_raises": "raise ValueError('why\\nso')",
    }
    install("cw-described", "1.0", {"rewards": points}, **modules)
    results = {e.name: describe(e) for e in entries_of("cw-described")}
    assert results["a"] == ("Judge by length.", None)
    assert results["b"] == (None, None)
    assert results["c"][0] is None
    assert "Missing" in results["c"][1]
    assert results["d"] == (None, "SystemExit: 3")
    assert results["e"] == (None, "ValueError: why")


def test_a_broken_plugin_fails_with_distribution_version_and_traceback(install):
    install(
        "cw-broken", "0.3", {"rewards": {"zz_broken": "cw_broken:X"}}, cw_broken="import a_module_that_is_not_there"
    )
    with pytest.raises(PluginError) as caught:
        find("reward", "zz_broken")
    text = str(caught.value)
    for part in ("zz_broken", "cw-broken 0.3", "Traceback", "a_module_that_is_not_there", "cw_broken.py"):
        assert part in text
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


# ------------------------------------------------------------------------------------------------ find


def test_find_a_bare_name_and_its_origin(install):
    install("cw-one", "1.2", {"rewards": {"zz_length": "cw_one:Documented"}}, cw_one=MODULE)
    cls, origin = find("reward", "zz_length")
    assert cls.__name__ == "Documented"
    assert (origin.kind, origin.name, origin.distribution, origin.version) == ("reward", "zz_length", "cw-one", "1.2")


def test_the_same_name_from_two_distributions_must_be_told_apart(install):
    install("Cw.One", "1.0", {"rewards": {"zz_length": "cw_a:Documented"}}, cw_a=MODULE)
    install("cw-two", "2.0", {"rewards": {"zz_length": "cw_b:Bare"}}, cw_b=MODULE)
    with pytest.raises(PluginError, match=r"'Cw\.One:zz_length' or 'cw-two:zz_length'"):
        find("reward", "zz_length")
    assert find("reward", "cw_one:zz_length")[0].__name__ == "Documented"
    assert find("reward", "cw-two:zz_length")[1].version == "2.0"


def test_find_a_class_of_a_module(install):
    install("cw-module", "4.0", {}, cw_module=MODULE)
    cls, origin = find("reward", "cw_module:Outer.Inner")
    assert cls.__name__ == "Inner"
    assert (origin.name, origin.distribution, origin.version) == ("Outer.Inner", "cw-module", "4.0")
    assert find("reward", "callwright.hooks:Hooks")[0].__name__ == "Hooks"


def test_a_distribution_is_looked_up_before_a_module(install):
    install("cw_both", "1.0", {"rewards": {"Bare": "cw_both:Documented"}}, cw_both=MODULE)
    assert find("reward", "cw_both:Bare")[0].__name__ == "Documented"
    with pytest.raises(PluginError, match="offers no reward 'Bar'; it offers Bare"):
        find("reward", "cw_both:Bar")


def test_find_a_class_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text(MODULE.replace("limit: int = 3", "limit: int = 4"))
    path = list(sys.path)
    cls, origin = find("reward", "./mine.py:Documented")
    other, other_origin = find("reward", "other/mine.py:Documented")
    assert (cls().limit, other().limit) == (3, 4)
    assert sys.path == path
    assert sys.modules[cls.__module__] is not sys.modules[other.__module__]
    assert find("reward", "./mine.py:Documented")[0] is cls
    assert (origin.distribution, origin.name) == ("./mine.py", "Documented")
    assert origin.version.startswith("sha256:")
    assert origin.version != other_origin.version


def test_a_file_that_changed_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    assert find("reward", "./mine.py:Bare")[0]().limit == 3
    (tmp_path / "mine.py").write_text(MODULE.replace("limit: int = 3", "limit: int = 4"))
    assert find("reward", "./mine.py:Bare")[0]().limit == 4


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("zz_lenght", r"unknown reward 'zz_lenght'; did you mean 'zz_length'\?.*installed: .*zz_length"),
        ("zz_cosine", "its kind is explorer"),
        ("no_such_package.module.Class", "package.module:ClassName|module:ClassName"),
        ("no_such_package:Class", "no_such_package"),
        ("json:NoSuchClass", "NoSuchClass"),
        ("./nothing.py:Class", "there is no file './nothing.py'"),
        ("./nothing.py", "write './nothing.py:ClassName'"),
    ],
)
def test_what_is_not_there_is_an_error_with_a_repair(install, use, message):
    install("cw-one", "1.0", {"rewards": {"zz_length": "m:A"}, "explorers": {"zz_cosine": "m:B"}})
    with pytest.raises(PluginError, match=message):
        find("reward", use)


def test_a_file_that_does_not_run_leaves_no_module_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text("1 / 0")
    before = set(sys.modules)
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        find("reward", "./bad.py:X")
    assert not {name for name in set(sys.modules) - before if name.startswith("callwright_file")}


# ------------------------------------------------------------------------------------------ components


class Mode(StrEnum):
    FAST = "fast"
    EXACT = "exact"


@dataclass
class Inner:
    low: int
    high: int = 9


@dataclass
class Component:
    alpha: float
    count: int = 2
    flag: bool = False
    label: str = "x"
    mode: Mode = Mode.FAST
    scope: Literal["all", "thinking"] = "all"
    limit: float | None = None
    ends: tuple[float, ...] = ()
    inner: Inner | None = None
    path: Path | None = None
    schema: dict[str, list[int]] = field(default_factory=dict)
    hidden: ATypeForCheckersOnly = field(init=False, default=None)  # noqa: F821 # as behind TYPE_CHECKING

    def __post_init__(self):
        if self.alpha < 0:
            raise ValueError("alpha must not be negative")


class NoOptions:
    pass


class NeedsArguments:
    def __init__(self, value):
        self.value = value


def mistakes(options, cls=Component):
    with pytest.raises(ComponentError) as caught:
        build_component(cls, options, "explore.0")
    return dict(caught.value.mistakes), str(caught.value)


def test_options_become_what_the_fields_say():
    options = {"alpha": 1, "mode": "exact", "ends": [1, 2.5], "inner": {"low": 1}, "path": "a/b", "schema": {"a": [1]}}
    built = build_component(Component, options, "explore.0")
    assert built == Component(
        1.0, 2, False, "x", Mode.EXACT, "all", None, (1.0, 2.5), Inner(1), Path("a/b"), {"a": [1]}
    )
    assert isinstance(built.alpha, float)


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-12, 1e12), st.sampled_from(["{:e}", "{:.0e}", "{:E}"]))
def test_exponents_that_yaml_calls_text_are_numbers(value, form):
    text = form.format(value)
    built = build_component(Component, {"alpha": text, "limit": text, "ends": [text]}, "explore.0")
    assert built.alpha == built.limit == built.ends[0] == float(text)
    assert build_component(Component, {"alpha": 1, "label": text}, "explore.0").label == text


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "alpha": st.sampled_from([True, "much", "3", None, [1]]),
            "count": st.sampled_from([True, 1.5, "2", None, "1e3"]),
            "flag": st.sampled_from([0, 1, "yes", "true", None]),
            "label": st.sampled_from([1, True, None]),
            "mode": st.sampled_from(["slow", 1]),
            "scope": st.sampled_from(["call", None]),
            "limit": st.sampled_from([False, "x"]),
            "ends": st.sampled_from([1.0, "1", [1, "x"]]),
            "aplha": st.integers(),
        },
    )
)
def test_every_mistake_is_reported_and_nothing_is_guessed(options):
    """No bool is a number, no number is a bool, no text is either, and one mistake does not hide another."""
    expected = {("alpha",), *((name,) for name in options)}
    if options.get("ends") == [1, "x"]:
        expected = expected - {("ends",)} | {("ends", 1)}
    assert set(mistakes(options)[0]) == expected


def test_mistakes_say_what_is_wrong_and_what_to_write():
    found, text = mistakes({"aplha": 1, "count": True, "scope": "call", "inner": {"lo": 1, "high": "x"}})
    assert found[("aplha",)] == "unknown option; did you mean 'alpha'?"
    assert found[("alpha",)] == "missing; this option has no default"
    assert found[("count",)] == "should be a valid integer, but is true"
    assert found[("scope",)] == """should be 'all' or 'thinking', but is "call\""""
    assert set(found) >= {("inner", "lo"), ("inner", "low"), ("inner", "high")}
    assert "explore.0.inner.high: should be" in text


def test_a_value_that_the_plugin_refuses_is_a_mistake_at_the_component():
    assert mistakes({"alpha": -1})[0] == {(): "alpha must not be negative"}


def test_fields_that_are_no_options_cannot_be_given():
    assert mistakes({"alpha": 1, "hidden": 2})[0] == {("hidden",): "unknown option"}


@dataclass
class Unresolved:
    value: ATypeForCheckersOnly = None  # noqa: F821 # as behind TYPE_CHECKING


def test_an_option_whose_type_does_not_exist_is_named():
    assert "does not exist at run time" in mistakes({}, Unresolved)[0][("value",)]


def test_only_classes_are_components():
    assert isinstance(build_component(NoOptions, {}, "engine"), NoOptions)
    assert "make it a dataclass" in mistakes({"a": 1}, NoOptions)[0][("a",)]
    assert "is not a class" in mistakes({}, len)[0][()]
    assert "NeedsArguments cannot be built: TypeError" in mistakes({}, NeedsArguments)[0][()]
