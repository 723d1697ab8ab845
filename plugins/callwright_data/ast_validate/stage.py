"""Rules for a row's answer: the second stage of FunRL's data preparation (arXiv 2508.05118, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from callwright import Answer, CallwrightError, Task, Tool
from callwright.types import Corrected, Dropped

from callwright_data.ast_validate.answer_check import check_answer
from callwright_data.ast_validate.bfcl_rules import check_bfcl
from callwright_data.ast_validate.call_text import read_answer, rewrite_calls
from callwright_data.ast_validate.findings import Finding, FindingCode
from callwright_data.ast_validate.tool_check import ToolCheck

__all__ = ["AstValidate", "Finding", "FindingCode", "rewrite_calls"]

_ODD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What Python raises for names that are no texts, schemas that are no objects, and the like."""
_MAX_LISTED = 10
"""Findings that a message lists."""


@dataclass
class AstValidate:
    """Checks every answer against its tools by rule; mends what is certain, and drops the rest.

    An answer is right if there is a reply that satisfies it and its tools' schemas. A dropped row has the code of the
    first finding that cannot be mended, or of the first; its message lists them all. `FindingCode` says what each code
    means and which can be mended:

    | code | what is wrong | mended |
    |---|---|---|
    | `no_answer` | no answer | |
    | `answer_unread` | the answer stands only as text, in `meta["answer_text"]` | read |
    | `unparsable` | the text is no list of Python calls with literal values | |
    | `positional_argument` | an argument without a name, in the text | named |
    | `repeated_argument` | an argument or a key given twice, in the text | |
    | `misspelt` | case and separators in names, values in quotes, 5.0 for 5, `true` for `True` | respelt |
    | `duplicate_tool` | two tools of one name | the same tool |
    | `invalid_schema` | parameters that are no JSON Schema of an object | |
    | `call_impossible` | a call, and no tools | |
    | `call_missing` | no call, where the row itself says that there is one | |
    | `unknown_function` | a function that is not offered | |
    | `unknown_parameter` | an argument that the tool does not have | |
    | `missing_required` | a required parameter without a value | |
    | `wrong_type` | no allowed value of the right type | |
    | `not_in_enum` | no allowed value in the enum | |
    | `unsatisfiable` | no allowed value, or none that satisfies the rules otherwise | |
    | `malformed_allowed` | allowed values that are no list, arguments that are no object | a single value |
    | `malformed_row` | a shape that cannot be checked | |
    """

    fix: bool = False
    """Mend what only one repair is possible for. A row of whose findings one cannot be mended is dropped all the
    same, and so is every row with a finding without this."""
    rules: Literal["auto", "schema", "bfcl"] = "auto"
    """What decides whether an allowed value is right. `schema`: the tool's JSON Schema, exactly, as the rewards'
    strict mode reads it. `bfcl`: BFCL's checker, which takes an integer for a float or a date that its key allows as
    text, and never looks at enums; nothing is mended then but the tools and the answer's text. `auto`: `bfcl` for rows
    that keep BFCL's own `functions` and `possible_answer` in their `meta`, else `schema`."""
    ignore: list[FindingCode] = field(default_factory=list)
    """Codes that are no reason to drop or to mend a row, such as `no_answer` to keep rows without an answer."""
    row_by_row: ClassVar[bool] = True

    def __post_init__(self) -> None:
        codes = ", ".join(FindingCode)
        for code in self.ignore:
            if code not in set(FindingCode):
                raise ValueError(f"ignore: there is no code {code!r}; there are {codes}")

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped | Corrected]:
        """For every task: itself, the mended task, or why it is dropped."""
        ignored = frozenset(self.ignore)
        for task in tasks:
            mended, found = self.check(task)
            findings = [finding for finding in found if finding.code not in ignored]
            if not findings:
                yield task
                continue
            listed = [f"{finding.code}: {finding.message}" for finding in findings[:_MAX_LISTED]]
            listed += [f"and {len(findings) - _MAX_LISTED} more"] if len(findings) > _MAX_LISTED else []
            if self.fix and all(finding.mended for finding in findings):
                yield Corrected(mended, findings[0].code, "; ".join(listed))
            else:
                decisive = next((finding for finding in findings if not finding.mended), findings[0])
                yield Dropped(task, decisive.code, "; ".join(listed))

    def check(self, task: Task) -> tuple[Task, list[Finding]]:
        """The task with all mended that can be, and all that is wrong with it as it came."""
        try:
            return self._checked(task)
        except (CallwrightError, *_ODD) as error:
            message = f"the row has a shape that cannot be checked ({type(error).__name__}: {error})"
            return task, [Finding(FindingCode.MALFORMED_ROW, message[:300])]

    def _checked(self, task: Task) -> tuple[Task, list[Finding]]:
        tools, found = _check_tools(task.tools)
        answer, meta = task.answer, task.meta
        text = meta.get("answer_text") if answer is None else None
        if isinstance(text, str):
            mended, findings = rewrite_calls(text, tools)
            found += findings
            if not any(finding.code is FindingCode.UNPARSABLE for finding in findings):
                answer = read_answer(mended)
                found.append(Finding(FindingCode.ANSWER_UNREAD, "the answer stood only as text", mended=True))
            if mended != text:
                meta = {**meta, "answer_text": mended}
        elif answer is None:
            found.append(Finding(FindingCode.NO_ANSWER, "the row has no answer"))
        if answer is not None:
            answer, findings = self._check_answer(task, answer, tools)
            found += findings
        if answer is task.answer and tools is task.tools:
            return task, found
        return replace(task, tools=tools, answer=answer, meta=meta), found

    def _check_answer(self, task: Task, answer: Answer, tools: tuple[Tool, ...]) -> tuple[Answer, list[Finding]]:
        if not answer.calls:
            return answer, list(_check_no_call(task))
        if not tools:
            return answer, [Finding(FindingCode.CALL_IMPOSSIBLE, f"{len(answer.calls)} calls, and no tool is offered")]
        own_key = "functions" in task.meta and "possible_answer" in task.meta
        if self.rules == "bfcl" or (self.rules == "auto" and own_key):
            return answer, check_bfcl(task, answer)
        return check_answer(answer, tools)


def _check_tools(tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], list[Finding]]:
    """The tools without those that stand there twice, the very same tuple if there are none, and what is wrong."""
    found: list[Finding] = []
    kept: dict[str, Tool] = {}
    for tool in tools:
        first = kept.get(tool.name)
        if first is None:
            kept[tool.name] = tool
        else:
            same = first == tool
            message = f"there are two {'equal' if same else 'different'} tools '{tool.name}'"
            found.append(Finding(FindingCode.DUPLICATE_TOOL, message, mended=same))
        fault = ToolCheck.of(tool).fault
        if fault is not None:
            found.append(Finding(FindingCode.INVALID_SCHEMA, fault))
    return (tools if len(kept) == len(tools) else tuple(kept.values())), found


def _check_no_call(task: Task) -> Iterator[Finding]:
    """Whether the row itself says that there is a call, where its answer says that there is none."""
    if task.meta.get("possible_answer"):
        yield Finding(FindingCode.CALL_MISSING, 'the answer has no call, and `meta["possible_answer"]` has some')
    last = task.messages[-1] if task.messages else None
    if isinstance(last, Mapping) and last.get("tool_calls"):
        yield Finding(FindingCode.CALL_MISSING, "the answer has no call, and the last message makes some")
