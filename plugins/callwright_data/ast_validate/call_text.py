"""An answer written as Python calls: reading it, and mending its spelling while the rest stays as it is written."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import libcst as cst
from callwright import Answer, Call, ExpectedCall, Parse, ParseStatus, ReasonCode, Tool
from callwright.types import JSON
from callwright_dialects.python_syntax import parse_calls
from callwright_rewards.bfcl_values import show
from callwright_rewards.tool_schema import SchemaError

from callwright_data.ast_validate.answer_check import find_parameter, find_tool, respelt_value
from callwright_data.ast_validate.findings import Finding, FindingCode
from callwright_data.ast_validate.tool_check import ToolCheck

_AROUND = "` \t\r\n"  # as `parse_calls` forgives it
_NO_CALLS = re.compile(r"[` \t\r\n]*(?:\[\s*\])?[` \t\r\n]*")
_WORDS = {"true": "True", "false": "False", "null": "None"}


def rewrite_calls(text: str, tools: Sequence[Tool]) -> tuple[str, list[Finding]]:
    """The text of an answer, `[f(a=1), g()]`, mended, and what was and is wrong with how it is written.

    Positional arguments get the names of the tool's parameters, in the order of its schema; `true`, `false` and `null`
    become Python's; names and values are spelt as the tool spells them, where only one thing can be meant. All else
    stays as it is, to the character. Whether the calls are right is not asked here. Total over any text; mended text is
    not mended again; a text with a finding `unparsable` is not changed at all.
    """
    found: list[Finding] = []
    mended: str | None = text
    parse = parse_calls(text, 0, len(text))
    if any(problem.code == ReasonCode.WRONG_TYPE for problem in parse.problems):
        mended = _rewritten(text, lambda calls: cst.ensure_type(calls.visit(_Words(found)), cst.List))
        parse = parse_calls(mended or "", 0, len(mended or ""))
    faults = list(_unreadable(parse))
    if faults:
        return text, faults
    found += _repeated(parse)
    edits = [_edit(call, tools, found) for call in parse.calls]
    if mended is not None and any(edit.changes for edit in edits):
        mended = _rewritten(mended, lambda calls: _edited(calls, edits))
    if mended is None:
        return text, [Finding(FindingCode.UNPARSABLE, f"the text cannot be rewritten: {show(text)}")]
    return mended, found


def read_answer(text: str) -> Answer:
    """The answer that allows exactly the calls of a text, as far as `parse_calls` reads them."""
    return Answer(
        tuple(
            ExpectedCall(call.name, {a.name: [_allowed(a.value)] for a in call.arguments if a.name is not None})
            for call in parse_calls(text, 0, len(text)).calls
        )
    )


def _allowed(value: JSON) -> JSON:
    """A plain value as an answer holds it: of an object's keys each has a list of allowed values; a tuple is a list."""
    if isinstance(value, dict):
        return {name: [_allowed(item)] for name, item in value.items()}
    return [_allowed(item) for item in value] if isinstance(value, list | tuple) else value


# ----------------------------------------------------------------------------------------------------- reading


def _unreadable(parse: Parse) -> Iterator[Finding]:
    """Why the text cannot be taken as calls."""

    def finding(message: str) -> Finding:
        return Finding(FindingCode.UNPARSABLE, f"{message}: {show(parse.text)}")

    if parse.status is ParseStatus.UNPARSABLE:
        yield finding(parse.problems[0].message)
    elif parse.status is ParseStatus.NO_CALL and not _NO_CALLS.fullmatch(parse.text):
        yield finding("no list of calls in Python syntax")
    positional = [problem.span for problem in parse.problems if problem.code == ReasonCode.POSITIONAL_ARGUMENT]
    for problem in parse.problems:
        if problem.code == ReasonCode.WRONG_TYPE and problem.span is not None:
            yield finding(f"{show(parse.text[slice(*problem.span)])} is not a literal")
    for call in parse.calls:
        for argument in call.arguments:
            if argument.name is None and argument.value_span not in positional:
                yield finding("`**` unpacks arguments without names")
            elif not _has_text_keys(argument.value):
                yield finding("a key of an object is no text")


def _has_text_keys(value: JSON) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _has_text_keys(item) for name, item in value.items())
    return all(map(_has_text_keys, value)) if isinstance(value, list | tuple) else True


def _repeated(parse: Parse) -> Iterator[Finding]:
    for problem in parse.problems:
        if problem.code == ReasonCode.UNEXPECTED_ARGUMENT:
            yield Finding(FindingCode.REPEATED_ARGUMENT, problem.message)


# ----------------------------------------------------------------------------------------------------- mending


@dataclass(slots=True)
class _Edit:
    """What to change in one call: its name, and by the argument's number its name or its value, as Python."""

    name: str | None
    keywords: dict[int, str]
    values: dict[int, str]

    @property
    def changes(self) -> bool:
        return self.name is not None or bool(self.keywords or self.values)


def _edit(call: Call, tools: Sequence[Tool], found: list[Finding]) -> _Edit:
    edit = _Edit(None, {}, {})
    named: list[Finding] = []
    tool = find_tool(call.name, {tool.name: tool for tool in tools}, named)
    if tool is not None and tool.name != call.name and _is_writable(tool.name):
        edit.name = tool.name
        found += named
    check = None if tool is None else ToolCheck.of(tool)
    if check is not None and check.fault is None:
        try:
            _edit_arguments(call, check, edit, found)
            return edit
        except SchemaError:
            edit = _Edit(edit.name, {}, {})  # a schema that cannot be applied is found when the answer is checked
    for argument in call.arguments:
        if argument.name is None:
            found.append(_positional(call, argument.value, "and its tool's parameters are not known"))
    return edit


def _edit_arguments(call: Call, tool: ToolCheck, edit: _Edit, found: list[Finding]) -> None:
    taken = {argument.name for argument in call.arguments if argument.name is not None}
    new: list[Finding] = []
    names = _names_of_positional(call, tool, taken)
    for number, argument in enumerate(call.arguments):
        if argument.name is None:
            name: str | None = names.get(number)
            if name is None:
                new.append(_positional(call, argument.value, "and it is not certain which parameter it is"))
                continue
            new.append(_positional(call, argument.value, f"it is {name}", mended=True))
            edit.keywords[number] = name
        else:
            spelt: list[Finding] = []
            name = find_parameter(argument.name, tool, taken, spelt)
            if name is None:
                continue
            if name != argument.name:
                if not _is_writable(name, dotted=False):
                    continue
                new += spelt
                edit.keywords[number] = name
        taken.add(name)
        value = _plain(argument.value)
        if tool.mismatch(name, value) is None:
            continue
        meant = respelt_value(tool, name, value, literal=True)
        if tool.mismatch(name, meant) is None:
            message = f"{tool.name}: {name}: {show(value)} is {show(meant)}"
            new.append(Finding(FindingCode.MISSPELT, message, mended=True))
            edit.values[number] = repr(meant)
    found += new


def _names_of_positional(call: Call, tool: ToolCheck, taken: Collection[str]) -> dict[int, str]:
    """By the argument's number; empty if one of them can have none, as a positional argument cannot stand behind a
    named one."""
    names = dict(enumerate(tool.properties))
    numbers = [number for number, argument in enumerate(call.arguments) if argument.name is None]
    certain = all(
        number in names and names[number] not in taken and _is_writable(names[number], dotted=False)
        for number in numbers
    )
    return {number: names[number] for number in numbers} if certain else {}


def _positional(call: Call, value: JSON, message: str, mended: bool = False) -> Finding:
    text = f"{call.name}: {show(value)} stands without an argument's name, {message}"
    return Finding(FindingCode.POSITIONAL_ARGUMENT, text, mended)


def _plain(value: JSON) -> JSON:
    """With lists for tuples."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _is_writable(name: str, *, dotted: bool = True) -> bool:
    """Whether Python's syntax can write the name; its parser folds identifiers (NFKC)."""
    parts = name.split(".") if dotted else [name]
    return all(p.isidentifier() and not keyword.iskeyword(p) and unicodedata.normalize("NFKC", p) == p for p in parts)


def _rewritten(text: str, change: Callable[[cst.List], cst.List]) -> str | None:
    """The text with its list of calls changed; None where libcst cannot take it, or would not give it back as it is."""
    inner = text.strip(_AROUND)
    before, _, after = text.partition(inner)
    opening, closing = "" if inner.startswith("[") else "[", "" if inner.endswith("]") else "]"
    source = f"{opening}{inner}{closing}"
    try:
        module = cst.parse_module(source)
        statement = cst.ensure_type(module.body[0], cst.SimpleStatementLine)
        calls = cst.ensure_type(cst.ensure_type(statement.body[0], cst.Expr).value, cst.List)
        if module.code != source:
            return None
        changed = module.with_deep_changes(calls, elements=change(calls).elements).code
    except Exception:  # libcst raises errors of many kinds, for what Python's own parser reads
        return None
    return f"{before}{changed.removeprefix(opening).removesuffix(closing)}{after}"


def _edited(calls: cst.List, edits: Sequence[_Edit]) -> cst.List:
    pairs = zip(calls.elements, edits, strict=True)
    return calls.with_changes(elements=[e.with_changes(value=_edited_call(e.value, edit)) for e, edit in pairs])


def _edited_call(node: cst.BaseExpression, edit: _Edit) -> cst.Call:
    call = cst.ensure_type(node, cst.Call)
    arguments = list(call.args)
    nothing = cst.SimpleWhitespace("")
    for number, name in edit.keywords.items():
        argument = arguments[number].with_changes(keyword=cst.Name(name))
        if arguments[number].keyword is None:
            argument = argument.with_changes(equal=cst.AssignEqual(nothing, nothing))
        arguments[number] = argument
    for number, value in edit.values.items():
        arguments[number] = arguments[number].with_changes(value=cst.parse_expression(value))
    func = call.func if edit.name is None else cst.parse_expression(edit.name)
    return call.with_changes(func=func, args=arguments)


class _Words(cst.CSTTransformer):
    """JSON's words, where they stand as values, become Python's."""

    def __init__(self, found: list[Finding]) -> None:
        self.found = found
        self.names: list[cst.CSTNode] = []
        """Nodes that are parts of a function's or an argument's name."""

    def visit_Call(self, node: cst.Call) -> None:
        self.names.append(node.func)

    def visit_Arg(self, node: cst.Arg) -> None:
        if node.keyword is not None:
            self.names.append(node.keyword)

    def visit_Attribute(self, node: cst.Attribute) -> None:
        self.names += (node.value, node.attr)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        word = _WORDS.get(original_node.value)
        if word is None or any(node is original_node for node in self.names):
            return updated_node
        self.found.append(Finding(FindingCode.MISSPELT, f"{original_node.value} is {word}", mended=True))
        return updated_node.with_changes(value=word)
