"""Writes docs/reference/*.md, which name what the site's API reference shows: `make docs`; a test holds them to it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import callwright.testing
from callwright.plugins import KINDS, catalogue

CORE: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "types": ("Data and protocols", "What flows through a run, and what a plugin has to be.", ["callwright.types"]),
    "recipes": (
        "Recipes and plugins",
        "Reading and checking a recipe, finding plugins, and what a run needs to know of them.",
        ["callwright.recipe", "callwright.plugins", "callwright.hooks", "callwright.combine", "callwright.scoring"],
    ),
    "training": (
        "Training",
        "The GRPO step and its parts. Read `callwright.loop` first.",
        [
            "callwright.loop",
            "callwright.grpo",
            "callwright.packing",
            "callwright.sampling",
            "callwright.rollouts",
            "callwright.checkpoint",
            "callwright.run",
        ],
    ),
    "scoring": (
        "Scoring and evaluation",
        "Completions judged without training: from a file, of a model, in TRL.",
        ["callwright.score", "callwright.evaluate", "callwright.suites.contract", "callwright.bridge"],
    ),
}
"""Page -> (title, first sentence, modules)."""

TITLES = {
    "reward": "Rewards",
    "explorer": "Explorers",
    "stage": "Stages",
    "source": "Sources",
    "dialect": "Dialects",
    "engine": "Engines",
    "rollout": "Samplers",
    "tracker": "Trackers",
    "suite": "Suites",
}
HEAD = "# {}\n\n{}\n"


def documents() -> dict[str, str]:
    """File name -> text of the whole page."""
    pages = {f"{name}.md": _of_modules(title, text, modules) for name, (title, text, modules) in CORE.items()}
    pages["testing.md"] = _testing()
    for kind in KINDS:
        pages[f"{TITLES[kind].lower()}.md"] = _plugins(kind)
    return pages


def _of_modules(title: str, text: str, modules: Sequence[str]) -> str:
    return "\n".join([HEAD.format(title, text), *(f"## `{module}`\n\n::: {module}\n" for module in modules)])


def _testing() -> str:
    parts = [
        HEAD.format("Testing kit", "`callwright.testing`, for plugins of your own: [what it does](../testing-kit.md).")
    ]
    for module, names in callwright.testing._HOMES.items():
        members = "".join(f"        - {name}\n" for name in names)
        parts.append(f"::: callwright.testing.{module}\n    options:\n      members:\n{members}")
    return "\n".join(parts)


def _plugins(kind: str) -> str:
    named = "`callwright eval --suite NAME`" if kind == "suite" else "`use: NAME` in a recipe"
    parts = [HEAD.format(TITLES[kind], f"What {named} can be, as it ships. A class's options are its fields.")]
    shipped = [entry for entry in catalogue() if entry.kind == kind and entry.distribution == "callwright"]
    parts += [f"## `{entry.name}`\n\n::: {entry.value.replace(':', '.')}\n" for entry in shipped]
    return "\n".join(parts)


if __name__ == "__main__":
    folder = Path(inspect.getfile(documents)).with_suffix("")
    folder.mkdir(exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"wrote {len(documents())} pages in {folder.name}/")
