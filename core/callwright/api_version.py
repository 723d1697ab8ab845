"""Which callwright a plugin was written for, and whether this one is it. Importing this module imports no plugin.

A plugin's distribution says it where every distribution says what it needs, in its `dependencies`:
`callwright>=0.1,<0.2`. So pip keeps the two together before anything is imported, and there is no second number that an
author could forget. In return callwright raises its version with the contract: what breaks plugins raises the first
number that is not 0 (0.1 -> 0.2, later 1 -> 2), and nothing else does. `tests/core/public_api.txt` is that contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import Distribution

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import callwright

OURS = "callwright"
_BOUNDS_ABOVE = ("<", "<=", "==", "===", "~=")


def contract(version: str) -> str:
    """The part of a version of callwright that changes with the contract: `0.1` of 0.1.3, `2` of 2.4.0."""
    major, minor = _first_two(version)
    return str(major) if major else f"0.{minor}"


def range_of(version: str) -> str:
    """What a plugin written now requires: `>=0.1,<0.2` for 0.1.3, `>=2.4,<3` for 2.4.0."""
    major, minor = _first_two(version)
    return f">={major}.{minor},<{major + 1 if major else f'0.{minor + 1}'}"


def _first_two(version: str) -> tuple[int, int]:
    return Version(version).major, Version(version).minor


def written_for(distribution: Distribution) -> SpecifierSet | None:
    """The versions of callwright that a plugin's distribution requires; None where it does not say up to which."""
    if canonicalize_name(distribution.metadata["Name"]) == OURS:
        return SpecifierSet(range_of(callwright.__version__))
    found = SpecifierSet()
    for requirement in _requirements(distribution.requires or ()):
        found &= requirement.specifier
    return found if any(one.operator in _BOUNDS_ABOVE for one in found) else None


def said(distribution: Distribution) -> str | None:
    """`written_for` as text, the lower bound first: `>=0.1,<0.2`."""
    wanted = written_for(distribution)
    return None if wanted is None else ",".join(sorted(map(str, wanted), reverse=True))


def _requirements(lines: Iterable[str]) -> Iterable[Requirement]:
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # metadata of old tools; it says nothing that could be compared
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) == OURS and applies:
            yield requirement


def mismatch(distribution: Distribution) -> str | None:
    """Why a plugin's distribution does not fit this callwright, and the repair; None if it fits or does not say.

    A development version or a release candidate also counts as the release that it leads to.
    """
    wanted, installed = written_for(distribution), Version(callwright.__version__)
    if wanted is None or wanted.contains(installed.base_version) or wanted.contains(installed, prereleases=True):
        return None
    name, versions = distribution.metadata["Name"], said(distribution)
    return (
        f"{name} {distribution.version} was written for {OURS}{versions}, and {OURS} {callwright.__version__} is"
        f" installed; run pip install --upgrade {name}, or pip install '{OURS}{versions}'. If it is yours, and its"
        f" tests pass with this one, write '{OURS}{range_of(callwright.__version__)}' among its dependencies and"
        " install it again"
    )
