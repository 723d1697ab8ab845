"""`callwright new`: a plugin of one's own as a distribution that installs, is tested, and can be named in a recipe.

The files are made of the templates beside this one, whose `$words` are replaced.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from packaging.version import Version

from callwright import CallwrightError, __version__
from callwright.api_version import range_of
from callwright.plugins import catalogue, near

TEMPLATES = Path(__file__).with_name("templates")
PREFIX = "callwright-"
"""Of the distribution's name, so that whoever looks for plugins finds it and its module shadows nobody else's."""
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@dataclass(frozen=True)
class _Kind:
    """What differs between kinds: the lines of the recipe, and the options that the plugin cannot do without."""

    usage: str
    """The part of a recipe that names it."""
    recipe: Mapping[str, str]
    data: str = "questions.jsonl"
    options: str = ""
    """For `callwright check --laws`."""


_RECIPE = {
    "dialect": "python_calls",
    "source": "{use: jsonl, path: questions.jsonl}",
    "stages": "",
    "rewards": "ast_match",
    "explorers": "",
}
KINDS = {
    "reward": _Kind("rewards:\n  use: [ast_match, $name]", {"rewards": "ast_match, {use: $name, weight: 0.2}"}),
    "explorer": _Kind("explore:\n  - {use: $name, weight: 2.0}", {"explorers": "{use: $name, weight: 2.0}"}),
    "stage": _Kind("data:\n  stages: [{use: $name, most: 8}]", {"stages": "{use: $name, most: 8}"}),
    "dialect": _Kind("dialect: $name", {"dialect": "$name"}),
    "source": _Kind(
        "data:\n  source: {use: $name, path: questions.csv}",
        {"source": "{use: $name, path: questions.csv}"},
        "questions.csv",
        " path=questions.csv",
    ),
}


@dataclass(frozen=True)
class Made:
    """What was written."""

    folder: Path
    files: list[Path]
    """In the folder."""
    commands: list[str]
    """What to do next, in a shell."""


def new_plugin(kind: str, name: str, out: Path | None = None) -> Made:
    """Write the distribution of a plugin that recipes call `name`, into `out` or a folder of the distribution's name.

    Raises CallwrightError, and writes nothing, for a kind that there is no template of, a name that cannot be one or is
    taken, and a folder that holds something.
    """
    if kind not in KINDS:
        raise CallwrightError(
            f"there is no template for the kind '{kind}'{near(kind, KINDS)} (kinds: {', '.join(KINDS)})"
        )
    words = _words(kind, name)
    folder = out or Path(words["distribution"])
    files = {place: _filled(template, words) for place, template in _files(kind, words).items()}
    _write(folder, files)
    enter = f"cd {shlex.quote(str(folder))} && pip install --editable '.[test]'"
    return Made(folder, [Path(place) for place in files], [enter, "python -m pytest", "callwright check recipe.yaml"])


def _words(kind: str, given: str) -> dict[str, str]:
    bare = given.removeprefix(PREFIX).removeprefix(PREFIX.replace("-", "_"))
    if not _NAME.fullmatch(bare):
        text = "is small letters and digits, begins with a letter, and has single dashes between its words"
        raise CallwrightError(f"'{given}' cannot be a plugin's name: it {text}, as in short-reply{_repaired(bare)}")
    name = bare.replace("-", "_")
    words = {
        "kind": kind,
        "name": name,
        "distribution": PREFIX + name.replace("_", "-"),
        "module": PREFIX.replace("-", "_") + name,
        "Class": "".join(part.capitalize() for part in name.split("_")),
        "range": range_of(__version__),
        "torch": Version(importlib.metadata.version("torch")).public,
    }
    _refuse_taken(words, given)
    of_the_kind = KINDS[kind]
    recipe = {place: Template(text).substitute(words) for place, text in {**_RECIPE, **of_the_kind.recipe}.items()}
    usage = Template(of_the_kind.usage).substitute(words)
    return {**words, **recipe, "usage": usage, "options": of_the_kind.options}


def _repaired(name: str) -> str:
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    repaired = re.sub(r"[^a-z0-9]+", "-", split).strip("-0123456789")
    return f"; did you mean '{repaired}'?" if _NAME.fullmatch(repaired) else ""


def _refuse_taken(words: Mapping[str, str], given: str) -> None:
    kind, name, class_name, module = (words[key] for key in ("kind", "name", "Class", "module"))
    if keyword.iskeyword(name) or keyword.iskeyword(class_name):
        raise CallwrightError(f"'{given}' cannot be a plugin's name: it is a word of Python's; add another word to it")
    taken = next((entry for entry in catalogue() if (entry.kind, entry.name) == (kind, name)), None)
    if taken is not None:
        owner = f"{taken.distribution} {taken.version}"
        raise CallwrightError(f"the {kind} '{name}' is there already, of {owner}; choose another name")
    if importlib.util.find_spec(module) is not None:
        raise CallwrightError(f"the module {module} is there already, and '{given}' would hide it; choose another name")
    if re.search(rf"\b{class_name}\b", (TEMPLATES / f"{kind}.py.tmpl").read_text(encoding="utf-8")):
        text = f"its class would be called {class_name}, a name that the module needs for something else"
        raise CallwrightError(f"'{given}' cannot be a {kind}'s name: {text}; add another word to it")


def _files(kind: str, words: Mapping[str, str]) -> dict[str, str]:
    """By the place in the folder, the template."""
    data = KINDS[kind].data
    return {
        "pyproject.toml": "pyproject.toml",
        f"{words['module']}.py": f"{kind}.py",
        f"tests/test_{words['name']}.py": f"test_{kind}.py",
        "recipe.yaml": "recipe.yaml",
        data: data,
        "README.md": "README.md",
        ".github/workflows/test.yml": "workflow.yml",
        ".gitignore": "gitignore",
    }


def _filled(template: str, words: Mapping[str, str]) -> str:
    return Template((TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")).substitute(words)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise CallwrightError(f"{folder} is not empty, and nothing is written over; name another folder with --out")
        for place, text in files.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CallwrightError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
