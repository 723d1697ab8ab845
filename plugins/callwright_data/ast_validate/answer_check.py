"""An answer against its tools, by their JSON Schemas, and what can be mended in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from callwright import Answer, ExpectedCall, Tool
from callwright.types import JSON
from callwright_rewards.bfcl_values import show
from callwright_rewards.tool_schema import SchemaError

from callwright_data._allowed_values import (
    LEFT_OUT,
    MAX_CHOICES,
    choices,
    is_optional_mark,
    may_be_left_out,
    plain_values,
)
from callwright_data.ast_validate.findings import Finding, FindingCode
from callwright_data.ast_validate.spelling import alike, respelt
from callwright_data.ast_validate.tool_check import Mismatch, ToolCheck

MAX_TOGETHER = 256
"""Combinations of whole calls that are tried by schemas that say more than what each argument may be."""


def check_answer(answer: Answer, tools: Sequence[Tool]) -> tuple[Answer, list[Finding]]:
    """The answer, mended where that is certain, and all that is wrong with it.

    An answer is right if some reply is: of every argument one allowed value fits the parameter's schema, or the
    argument may be left out. What cannot be decided within `MAX_CHOICES` combinations is not found wrong.
    """
    found: list[Finding] = []
    offered = {tool.name: tool for tool in tools}
    calls = tuple(_call(call, offered, found) for call in answer.calls)
    unchanged = all(new is old for new, old in zip(calls, answer.calls, strict=True))
    return answer if unchanged else Answer(calls), found


def find_tool(name: str, offered: Mapping[str, Tool], found: list[Finding]) -> Tool | None:
    """The tool of this name, or the only one whose name is alike. None, with a finding, if there is none."""
    if name in offered:
        return offered[name]
    meant = alike(name, offered)
    if meant is None:
        found.append(Finding(FindingCode.UNKNOWN_FUNCTION, f"{show(name)} is not offered"))
        return None
    found.append(Finding(FindingCode.MISSPELT, f"the function {show(name)} is {show(meant)}", mended=True))
    return offered[meant]


def find_parameter(name: str, tool: ToolCheck, given: Collection[str], found: list[Finding]) -> str | None:
    """The tool's parameter of this name, or the only one whose name is alike and that is not given. None if there is
    none, which is no finding yet. The name itself where the tool takes any."""
    if name in tool.properties or not tool.closed:
        return name
    meant = alike(name, tool.properties)
    if meant is None or meant in given:
        return None
    found.append(
        Finding(FindingCode.MISSPELT, f"{tool.name}: the parameter {show(name)} is {show(meant)}", mended=True)
    )
    return meant


def respelt_value(tool: ToolCheck, name: str, value: JSON, *, literal: bool) -> JSON:
    """A value that does not fit its parameter as it was meant, or itself."""
    return respelt(value, tool.properties.get(name), lambda one: tool.mismatch(name, one) is None, literal=literal)


def _call(call: ExpectedCall, offered: Mapping[str, Tool], found: list[Finding]) -> ExpectedCall:
    if not isinstance(call.name, str):
        found.append(Finding(FindingCode.MALFORMED_ROW, f"the function's name {show(call.name)} is no text"))
        return call
    tool = find_tool(call.name, offered, found)
    if not isinstance(call.arguments, Mapping):
        found.append(Finding(FindingCode.MALFORMED_ALLOWED, f"{call.name}: the arguments are {show(call.arguments)}"))
        return call
    if tool is None:
        return call
    check = ToolCheck.of(tool)
    if check.fault is not None:
        return call
    try:
        arguments = _Arguments(check, call.arguments, found).checked()
    except SchemaError as error:
        found.append(Finding(FindingCode.INVALID_SCHEMA, str(error)))
        return call
    unchanged = tool.name == call.name and arguments is call.arguments
    return call if unchanged else ExpectedCall(tool.name, arguments)


class _Arguments:
    """The arguments of one expected call."""

    def __init__(self, tool: ToolCheck, given: Mapping[str, Sequence[JSON]], found: list[Finding]) -> None:
        self.tool, self.given, self.found = tool, given, found

    def add(self, code: FindingCode, message: str, mended: bool = False) -> None:
        self.found.append(Finding(code, f"{self.tool.name}: {message}", mended))

    def checked(self) -> Mapping[str, Sequence[JSON]]:
        """The arguments, mended; the very ones that were given if nothing is mended."""
        before = len(self.found)
        result: dict[str, Sequence[JSON]] = {}
        taken = set(self.given)
        for name, allowed in self.given.items():
            known = find_parameter(name, self.tool, taken, self.found)
            values = self._allowed(name, allowed)
            if known is not None and values is not None:
                taken.add(known)
                result[known] = self._parameter(known, values)
                continue
            if values is not None and not may_be_left_out(values):
                self.add(FindingCode.UNKNOWN_PARAMETER, f"there is no parameter {show(name)}")
            result[name] = allowed
        for name in self.tool.required:
            if name not in result:
                self.add(FindingCode.MISSING_REQUIRED, f"the parameter {show(name)} is missing")
        if self.tool.judges_together and len(self.found) == before:
            self._check_together()
        return result if any(finding.mended for finding in self.found[before:]) else self.given

    def _allowed(self, name: str, allowed: JSON) -> Sequence[JSON] | None:
        """The list of allowed values; None if it is none, and not mended."""
        if isinstance(allowed, list | tuple):
            return allowed
        mended = allowed is None or isinstance(allowed, str | int | float | bool)
        message = f"the allowed values of {show(name)} are no list but {show(allowed)}"
        self.add(FindingCode.MALFORMED_ALLOWED, message, mended)
        return [allowed] if mended else None

    def _parameter(self, name: str, allowed: Sequence[JSON]) -> Sequence[JSON]:
        """The parameter's allowed values, mended if none of them fits."""
        if name not in self.tool.required and may_be_left_out(allowed):
            return allowed
        mismatch = self._why_none_fits(name, allowed)
        if mismatch is None:
            return allowed
        meant = [respelt_value(self.tool, name, option, literal=False) for option in allowed]
        if self._why_none_fits(name, meant) is None:
            self.add(FindingCode.MISSPELT, f"{name}: {show(allowed)} is {show(meant)}", mended=True)
            return meant
        self.add(mismatch.code, mismatch.message)
        return allowed

    def _why_none_fits(self, name: str, allowed: Sequence[JSON]) -> Mismatch | None:
        """What is wrong with the first value, if it is certain that none fits."""
        first: Mismatch | None = None
        for count, value in enumerate(choices(allowed), 1):
            if value is LEFT_OUT:
                continue
            mismatch = self.tool.mismatch(name, value)
            if mismatch is None or count == MAX_CHOICES:
                return None
            first = first or mismatch
        if first is not None:
            return first
        if allowed and all(map(is_optional_mark, allowed)):
            text = f'{name} is required, and "" says that it may be left out'
            return Mismatch(FindingCode.MISSING_REQUIRED, text)
        return Mismatch(FindingCode.UNSATISFIABLE, f"{name}: no value is allowed")

    def _check_together(self) -> None:
        first: Mismatch | None = None
        for count, arguments in enumerate(plain_values(self.given), 1):
            mismatch = self.tool.together(arguments)
            if mismatch is None or count == MAX_TOGETHER:
                return
            first = first or mismatch
        if first is not None:
            self.add(first.code, first.message)
