"""A Python file as libcst reads it: its functions, and what its names stand for. Nothing of it is imported or run."""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import libcst as cst
from callwright import CallwrightError
from libcst.helpers import get_full_name_for_node

MAX_NESTING = 1000
"""Brackets and operators that may enclose each other. libcst 1.9 overflows the stack somewhat above, where no
exception can be caught, and takes seconds there."""

Definition = str | cst.ClassDef | cst.BaseExpression
"""What a name stands for: something imported or built in, by its full name; a class of the file; an expression."""

_TYPING = frozenset({"typing", "typing_extensions", "collections", "collections.abc", "builtins", "types"})
"""What these modules export goes by its bare name here: many names are in several of them."""
_TOKEN = re.compile(
    r"(?P<prefix>\w*)(?:"
    r"'''(?:\\.|[^\\])*?(?:'''|\Z)|\"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)"
    r"|'(?:\\.|[^\\'\n])*(?:'|$)|\"(?:\\.|[^\\\"\n])*(?:\"|$))"
    r"|\#[^\n]*|\w+|\n|[^\w\s]",
    re.DOTALL | re.MULTILINE,
)


class PythonModule:
    """The definitions in a file's own statements. Raises `CallwrightError` for a file that cannot be read or parsed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        tree = _parse(path)
        self.functions = {node.name.value: node for node in tree.body if isinstance(node, cst.FunctionDef)}
        """By name, in the file's order; not those in a class, a function or an `if`."""
        self.names: dict[str, Definition] = {}
        """Classes, variables and imports, also those in an `if` or a `try`, whose first branch counts."""
        for statement in statements(tree.body):
            self.names.update(_definitions(statement))

    def resolve(self, node: cst.BaseExpression) -> Definition | None:
        """What a name or a dotted name stands for; None for an unknown one, and for other expressions."""
        if isinstance(node, cst.Name):
            return self.names.get(node.value) or (node.value if hasattr(builtins, node.value) else None)
        if isinstance(node, cst.Attribute):
            owner = self.resolve(node.value)
            return _bare(f"{owner}.{node.attr.value}") if isinstance(owner, str) else None
        return None

    def called(self, node: cst.BaseExpression) -> str | None:
        """The full name of the imported or built-in thing that a call is to."""
        name = self.resolve(node.func) if isinstance(node, cst.Call) else None
        return name if isinstance(name, str) else None


def _parse(path: Path) -> cst.Module:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CallwrightError(f"the tools' file {str(path)!r} cannot be read: {error}") from error
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, ValueError, LookupError) as error:
        raise CallwrightError(f"{path}: not a text in the encoding that it declares (or UTF-8): {error}") from error
    if too_nested(text):
        raise CallwrightError(f"{path}: an expression of more than {MAX_NESTING} nested parts; is this a Python file?")
    try:
        return cst.parse_module(text)
    except cst.ParserSyntaxError as error:
        line, reason = _mistake(text) or (error.editor_line, error.message)
        raise CallwrightError(f"{path}, line {line}: not Python: {reason}") from error


def _mistake(text: str) -> tuple[int | None, str] | None:
    """(line, reason) by Python's own parser, which runs nothing either: libcst often names a line too far."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        return error.lineno, error.msg
    except (ValueError, RecursionError, MemoryError):  # NULs; more than the parser's stack holds
        pass
    return None


def too_nested(text: str) -> bool:
    """Whether some expression of a Python text nests too deeply for libcst."""
    levels = [0]  # parts of the innermost expression so far, for every bracket that is open
    total = branches = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if "f" in (match["prefix"] or "").lower() and too_nested(token[len(match["prefix"]) :].strip("'\"")):
            return True
        if token in (",", ";") or (token == "\n" and len(levels) == 1):
            total -= levels[-1]
            levels[-1] = 0
        elif token in (")", "]", "}"):
            total -= levels.pop() if len(levels) > 1 else 0
        elif not token.isspace() and not token.startswith("#"):
            levels[-1] += 1
            total += 1
            if token in ("(", "[", "{"):
                levels.append(0)
        branches = branches + 1 if token == "elif" else 0 if token in ("def", "class") else branches
        if total > MAX_NESTING or branches > MAX_NESTING:
            return True
    return False


def statements(body: Iterable[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """The statements of a body, with those in its branches; of branches the first comes last, and so counts."""
    for node in body:
        match node:
            case cst.SimpleStatementLine() | cst.IndentedBlock() | cst.SimpleStatementSuite():
                yield from statements(node.body)
            case cst.If() | cst.Else() | cst.Finally() | cst.With() | cst.ExceptHandler() | cst.ExceptStarHandler():
                if isinstance(node, cst.If) and node.orelse is not None:
                    yield from statements([node.orelse])
                yield from statements([node.body])
            case cst.Try() | cst.TryStar():
                parts = (*node.handlers, node.orelse, node.body, node.finalbody)
                yield from statements(part for part in parts if part is not None)
            case _:
                yield node


def _definitions(node: cst.CSTNode) -> Iterator[tuple[str, Definition]]:
    match node:
        case cst.ClassDef():
            yield node.name.value, node
        case cst.Import():
            for alias in node.names:
                full = alias.evaluated_name
                first = full.partition(".")[0]
                yield alias.evaluated_alias or first, full if alias.evaluated_alias else first
        case cst.ImportFrom(names=cst.ImportStar()):
            if _module_name(node) in _TYPING:
                import typing  # only for the names that it exports

                yield from ((name, name) for name in typing.__all__)
        case cst.ImportFrom(names=[*aliases]):
            for alias in aliases:
                full = _bare(f"{_module_name(node)}.{alias.evaluated_name}")
                yield alias.evaluated_alias or alias.evaluated_name, full
        case cst.Assign():
            for target in node.targets:
                if isinstance(target.target, cst.Name):
                    yield target.target.value, node.value
        case cst.AnnAssign(target=cst.Name(value=name), value=cst.BaseExpression() as value):
            yield name, value
        case cst.TypeAlias():
            yield node.name.value, node.value


def _module_name(node: cst.ImportFrom) -> str:
    return "." * len(node.relative) + (get_full_name_for_node(node.module) or "" if node.module else "")


def _bare(name: str) -> str:
    module, _, last = name.rpartition(".")
    return last if module in _TYPING and name not in _TYPING else name


def arguments(node: cst.Subscript) -> list[cst.BaseExpression]:
    """What stands in a generic type's brackets; a slice or a starred argument counts for nothing."""
    inner = [element.slice.value for element in node.slice if isinstance(element.slice, cst.Index)]
    if len(inner) == 1 and isinstance(inner[0], cst.Tuple):  # tuple[()], Literal[("a", "b")]
        return [element.value for element in inner[0].elements]
    return inner


def docstring(node: cst.FunctionDef | cst.ClassDef) -> str:
    """A definition's docstring without its indentation; nothing for one that is missing or not valid."""
    try:
        return node.get_docstring() or ""
    except (SyntaxError, ValueError):
        return ""
