"""Of a traceback, the part that is the user's own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from callwright.types import CallwrightError

_CHAINED = re.compile(
    r"\n\n(?:The above exception was the direct cause|During handling of the above exception)[^\n]*\n\n"
)


def user_part(trace: str, file: Path) -> str:
    """From the first line of `file` on: what it called in other libraries stays. "" where the file is not in it.

    Also of what faulthandler writes, where the innermost call stands first.
    """
    name = f'"{file.resolve()}"'
    if "most recent call first" in trace:
        thread = next((part for part in re.split(r"\n(?=Current thread|Thread )", trace) if name in part), "")
        lines = [line for line in thread.splitlines() if line.startswith("  File ")]
        last = max((number for number, line in enumerate(lines) if name in line), default=-1)
        return "\n".join(lines[: last + 1])
    parts = []
    for block in _CHAINED.split(trace):
        lines = block.rstrip().splitlines()
        first = next((number for number, line in enumerate(lines) if line.startswith("  File ") and name in line), None)
        # What callwright raises because of the user's exception repeats it.
        if first is not None and not any(line.startswith("callwright.") for line in lines[:first]):
            parts.append("\n".join(lines[first:]))
    return "\n".join(parts)


def reward_class(file: Path) -> str:
    """The one public class of the file that has a `score` hook, also from a class of the same file; nothing is run.

    Raises CallwrightError if there is none or several. Raises SyntaxError.
    """
    tree = ast.parse(file.read_bytes(), str(file.resolve()))
    scoring: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            inherited = any(isinstance(base, ast.Name) and base.id in scoring for base in node.bases)
            if inherited or any(_is_score(statement) for statement in node.body):
                scoring.append(node.name)
    public = [name for name in scoring if not name.startswith("_")]
    if len(public) == 1:
        return public[0]
    if public:
        named = " or ".join(f"{file}:{name}" for name in public)
        raise CallwrightError(f"{file} holds {len(public)} classes with a `score` hook; write {named}")
    text = "a reward is a class with a method `score` under `@hookimpl`"
    raise CallwrightError(f"{file} holds no class with a `score` hook; {text}, and {file}:NAME names another")


def _is_score(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    hooks = [ast.unparse(decorator) for decorator in node.decorator_list]
    hooks = [text for text in hooks if re.match(r"([\w.]*\.)?hookimpl\b", text)]
    other = [found[1] for text in hooks if (found := re.search(r"specname=['\"](\w+)['\"]", text))]
    return bool(hooks) and (other or [node.name])[0] == "score"
