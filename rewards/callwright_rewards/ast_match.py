"""Do the completion's calls match the task's answer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from callwright import (
    Answer,
    Call,
    Parse,
    ParseStatus,
    Reason,
    ReasonCode,
    Rollouts,
    Task,
    Tool,
    Verdict,
    hookimpl,
)
from callwright.types import JSON, Span

from callwright_rewards.bfcl import CheckResult, Function, Key, check

_CODES = {
    "wrong_count": ReasonCode.WRONG_CALL_COUNT,
    "wrong_func_name": ReasonCode.WRONG_FUNCTION,
    "missing_required": ReasonCode.MISSING_ARGUMENT,
    "missing_optional": ReasonCode.MISSING_ARGUMENT,
    "unexpected_param": ReasonCode.UNEXPECTED_ARGUMENT,
    "cannot_find_match": ReasonCode.UNMATCHED_CALL,
    "decoder_failed": ReasonCode.UNPARSABLE,
    "decoder_wrong_output_format": ReasonCode.UNPARSABLE,
}
_BFCL_TYPES = {
    "string": "string",
    "integer": "integer",
    "number": "float",
    "boolean": "boolean",
    "array": "array",
    "object": "dict",
}


@dataclass
class AstMatch:
    """1 if the calls are the expected ones, as BFCL's AST checker judges them, otherwise 0.

    The completion's text is never evaluated. Where the answer is to make no call, only a completion without any
    attempt at one scores 1: a malformed call does not. Tasks without an answer are abstained from.
    """

    mode: Literal["bfcl"] = "bfcl"
    """Whose rules: `bfcl` gives the verdicts of bfcl-eval 2026.3.23."""

    @property
    def laws(self) -> dict[str, str]:
        """Laws of `callwright.testing` that the mode does not keep."""
        if self.mode != "bfcl":
            return {}
        return {
            "near_misses_score_less": "bfcl-eval takes True for 1 and 1.0 for 1 inside objects, and so does this mode"
        }

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with score 0.0 or 1.0; the reason's span is the wrong name, argument or value, where it is one."""
        checked: dict[tuple[str, str], CheckResult] = {}
        return [_judge(task, parse, checked) for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True)]


def _judge(task: Task, parse: Parse, checked: dict[tuple[str, str], CheckResult]) -> Verdict:
    if task.answer is None:
        return Verdict.abstain("the task has no answer")
    if parse.body is None:
        return _wrong(ReasonCode.BAD_FORMAT, "the format's place for calls is missing", None)
    if task.answer.no_call:
        return _judge_no_call(parse)
    body = parse.text[slice(*parse.body)]
    place = task.id, body
    if place not in checked:
        functions, key, category = bfcl_key(task, task.answer)
        checked[place] = check(body, functions, key, category)
    result = checked[place]
    return _right() if result.valid else _explain(result, parse)


def _judge_no_call(parse: Parse) -> Verdict:
    if parse.status is ParseStatus.NO_CALL:
        return _right()
    if parse.status is ParseStatus.CALLS:
        return _wrong(ReasonCode.UNEXPECTED_CALL, "a call, where none is expected", parse.calls[0].span)
    span = next((problem.span for problem in parse.problems if problem.code == ReasonCode.UNPARSABLE), None)
    return _wrong(ReasonCode.UNPARSABLE, "a malformed call is not an abstention", span)


def _explain(result: CheckResult, parse: Parse) -> Verdict:
    """The verdict for a reply that BFCL rejects: its error type, in our code, with the place in the text."""
    kind, _, detail = (result.error_type or "").partition(":")
    code = _CODES.get(detail) or (ReasonCode.WRONG_TYPE if kind == "type_error" else ReasonCode.WRONG_VALUE)
    call = parse.calls[result.call] if result.call is not None and result.call < len(parse.calls) else None
    span = _place(call, result.argument, code)
    if parse.status is ParseStatus.NO_CALL:
        code = ReasonCode.NO_CALL
    elif code is ReasonCode.MISSING_ARGUMENT and call is not None:
        positional = [argument.value_span for argument in call.arguments if argument.name is None]
        if positional:  # BFCL drops positional arguments and then misses them
            code, span = ReasonCode.POSITIONAL_ARGUMENT, positional[0]
    elif code is ReasonCode.UNPARSABLE:
        span = parse.body
    return _wrong(code, f"{result.error_type}: {result.message}", span)


def _place(call: Call | None, argument: str | None, code: ReasonCode) -> Span | None:
    if call is None:
        return None
    if code is ReasonCode.WRONG_FUNCTION:
        return call.name_span
    for written in reversed(call.arguments):  # of a repeated name the last one counts
        if argument is not None and written.name == argument:
            return written.name_span if code is ReasonCode.UNEXPECTED_ARGUMENT else written.value_span
    return call.span


def _right() -> Verdict:
    return Verdict(1.0, (Reason(ReasonCode.CORRECT),))


def _wrong(code: ReasonCode, message: str, span: Span | None) -> Verdict:
    return Verdict(0.0, (Reason(code, message, span),))


def bfcl_key(task: Task, answer: Answer) -> tuple[Sequence[Function], Sequence[Key], str]:
    """Functions, possible answer and category as BFCL writes them: the originals if the task keeps them in its `meta`
    (`functions`, `possible_answer`, `category`), else made from its tools and its answer."""
    functions, key, category = (task.meta.get(name) for name in ("functions", "possible_answer", "category"))
    if functions is None or key is None:
        functions = [_function(tool) for tool in task.tools]
        key = [{call.name: call.arguments} for call in answer.calls]
    if category is None:
        category = "parallel_multiple" if len(key) > 1 else "multiple" if len(functions) > 1 else "simple"
    return functions, key, category


def _function(tool: Tool) -> Function:
    properties = {name: _bfcl_schema(schema) for name, schema in tool.parameters.get("properties", {}).items()}
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": {"type": "dict", "properties": properties, "required": tool.parameters.get("required", [])},
    }


def _bfcl_schema(schema: Mapping[str, JSON]) -> dict[str, JSON]:
    """Only the types matter to BFCL; of several types the first that is not null counts."""
    kinds = schema.get("type")
    kind = next((one for one in kinds if one != "null"), None) if isinstance(kinds, list) else kinds
    result: dict[str, JSON] = {"type": _BFCL_TYPES.get(str(kind), "any")}
    if result["type"] == "array":
        result["items"] = _bfcl_schema(schema.get("items") or {})
    return result
