"""A plugin says in its dependencies which callwright it was written for, and another callwright refuses it."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

import callwright
import pytest
from callwright.api_version import contract, mismatch, range_of, said
from callwright.plugins import PluginError, catalogue, describe, find
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

Install = Callable[..., importlib.metadata.Distribution]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install("callwright>=0.1,<0.2", ...)`: the distribution cw-old 1.4 with these requirements, and a reward."""

    def add(*requirements: str) -> importlib.metadata.Distribution:
        info = tmp_path / "cw_old-1.4.dist-info"
        info.mkdir()
        lines = [
            "Metadata-Version: 2.1",
            "Name: cw-old",
            "Version: 1.4",
            *(f"Requires-Dist: {r}" for r in requirements),
        ]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text("[callwright.rewards]\nzz_old = cw_old_module:Old\n")
        (info / "top_level.txt").write_text("cw_old_module")
        (tmp_path / "cw_old_module.py").write_text("class Old:\n    '''An old reward.'''\n")
        monkeypatch.delitem(sys.modules, "cw_old_module", raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.metadata.distribution("cw-old")

    return add


@pytest.mark.parametrize("use", ["zz_old", "cw-old:zz_old", "cw_old_module:Old"])
def test_a_plugin_of_another_callwright_is_refused_before_it_is_imported(
    install: Install, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    install("callwright[testing]>=0.1,<0.2", "pint")
    assert find("reward", use)[0].__doc__ == "An old reward."
    del sys.modules["cw_old_module"]
    monkeypatch.setattr(callwright, "__version__", "0.2.1")
    with pytest.raises(PluginError) as caught:
        find("reward", use)
    assert "cw_old_module" not in sys.modules
    for part in (
        "cw-old 1.4 was written for callwright>=0.1,<0.2, and callwright 0.2.1 is installed",
        "pip install --upgrade cw-old, or pip install 'callwright>=0.1,<0.2'",
        "write 'callwright>=0.2,<0.3' among its dependencies",
    ):
        assert part in str(caught.value)


def test_the_list_of_plugins_says_it_too(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("callwright>=0.1,<0.2")
    (entry,) = [entry for entry in catalogue() if entry.name == "zz_old"]
    assert (entry.written_for, describe(entry)) == (">=0.1,<0.2", ("An old reward.", None))
    monkeypatch.setattr(callwright, "__version__", "1.0.0")
    description, error = describe(entry)
    assert description is None
    assert error is not None
    assert error.startswith("reward 'zz_old': cw-old 1.4 was written for callwright>=0.1,<0.2, and callwright 1.0.0 is")


@pytest.mark.parametrize(
    ("requirements", "installed", "words", "fits"),
    [
        ([], "9.0.0", None, True),
        (["callwright"], "9.0.0", None, True),
        (["callwright>=0.1"], "9.0.0", None, True),
        (["callwright>=0.1,<0.2; extra == 'test'"], "9.0.0", None, True),
        (["callwright-units<0.2", "not a requirement !"], "9.0.0", None, True),
        (["Callwright<0.2", "callwright>=0.1"], "0.1.7", ">=0.1,<0.2", True),
        (["callwright>=0.1,<0.2"], "0.2.0", ">=0.1,<0.2", False),
        (["callwright>=0.2,<0.3"], "0.1.9", ">=0.2,<0.3", False),
        (["callwright>=0.1,<0.2"], "0.2.0.dev3", ">=0.1,<0.2", False),
        (["callwright>=0.2,<0.3"], "0.2.0rc1", ">=0.2,<0.3", True),
        (["callwright==0.2.0rc1"], "0.2.0rc1", "==0.2.0rc1", True),
        (["callwright~=1.4"], "1.9.0", "~=1.4", True),
        (["callwright~=1.4"], "2.0.0", "~=1.4", False),
    ],
)
def test_what_a_distribution_says(
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    requirements: list[str],
    installed: str,
    words: str | None,
    fits: bool,
) -> None:
    distribution = install(*requirements)
    monkeypatch.setattr(callwright, "__version__", installed)
    assert said(distribution) == words
    assert (mismatch(distribution) is None) is fits


def test_what_ships_with_callwright_fits_whatever_it_requires_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (callwright.__version__, "3.2.0.dev1"):
        monkeypatch.setattr(callwright, "__version__", version)
        assert mismatch(importlib.metadata.distribution("callwright")) is None


VERSIONS = st.builds("{}.{}.{}{}".format, *[st.integers(0, 12)] * 3, st.sampled_from(["", "rc1", ".dev2"]))


@given(VERSIONS, VERSIONS)
def test_what_is_written_now_fits_later_versions_until_the_contract_changes(now: str, later: str) -> None:
    before, after = (Version(Version(version).base_version) for version in (now, later))
    fits = SpecifierSet(range_of(now)).contains(after)
    assert SpecifierSet(range_of(now)).contains(before)
    assert fits == (contract(now) == contract(later) and (after.major, after.minor) >= (before.major, before.minor))
