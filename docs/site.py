"""What MkDocs does to a page and to a docstring before it makes HTML of them; mkdocs.yml names this file."""

from __future__ import annotations

import re
from typing import Any

import griffe

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./|experiments/\))[^)]*\)?")
_FENCE = re.compile(r"(^ *```.*?^ *```[ ]*$)", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Links to files that only the repository has lose their link; lists begin as Python-Markdown wants them."""
    parts = _FENCE.split(markdown)
    reference = page.file.src_uri.startswith("reference/")
    parts[::2] = [with_lists(part if reference else _OUTSIDE.sub(r"\1", part)) for part in parts[::2]]
    return "".join(parts)


def with_lists(text: str) -> str:
    """An empty line between a paragraph and the list behind it; other Markdown does without."""
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("- ") and before.strip() and _paragraph(before, indent):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _paragraph(line: str, indent: int) -> bool:
    """Whether a line is no item of the list that begins at this indent, nor goes on with one."""
    return not line.lstrip().startswith("- ") and len(line) - len(line.lstrip()) <= indent


class Lists(griffe.Extension):
    """The same for docstrings."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_lists(obj.docstring.value)
