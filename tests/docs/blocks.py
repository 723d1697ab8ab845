"""The fenced blocks and the commands of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```[ ]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: str
    """Relative to the repository."""
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command; in a `console` block those behind a prompt."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            indent = len(found[1])
            code = "\n".join(line[indent:] for line in found[3].splitlines()) + "\n"
            line = text.count("\n", 0, found.start()) + 1
            yield Block(page.relative_to(ROOT).as_posix(), line, found[2].strip(), code)


def mentioned_commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every `callwright ...` in the running text."""
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for found in re.finditer(r"`(callwright [a-z][^`]*)`", prose):
            yield page.relative_to(ROOT).as_posix(), " ".join(found[1].split())


def links() -> Iterator[tuple[str, str]]:
    """(page, target) of every link to a file of the repository."""
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for found in re.finditer(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"[a-z]+:", found[1]):
                yield page.relative_to(ROOT).as_posix(), found[1]
