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

from callwright_rewards.bfcl import Checker, CheckResult, Function, Key
from callwright_rewards.per_task import PerTask
from callwright_rewards.strict import StrictChecker, around, unexpected_call, unreadable, whole

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
    """1 if the calls are the expected ones, otherwise 0; the completion's text is never evaluated.

    Only what the dialect reads as calls counts: a call in the thinking, or anywhere else outside the place for calls,
    is none. Where the answer is to make no call, only a completion without any attempt at one scores 1: a malformed
    call does not. Tasks without an answer are abstained from. The first reason decides; every reason has a place.
    """

    mode: Literal["strict", "bfcl"] = "strict"
    """Whose rules: `strict`, made for training, or `bfcl`, the verdicts of bfcl-eval 2026.3.23. docs/ast-match.md has
    the differences."""

    def __post_init__(self) -> None:
        self._strict = PerTask(StrictChecker)
        self._bfcl = PerTask(bfcl_checker)

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
        """Verdicts with score 0.0 or 1.0, or abstentions."""
        judged: dict[tuple[int, str], Verdict] = {}  # the completions of a group repeat each other
        verdicts = []
        for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True):
            place = id(task), parse.text
            if place not in judged:
                judged[place] = self.judge(task, parse)
            verdicts.append(judged[place])
        return verdicts

    def judge(self, task: Task, parse: Parse) -> Verdict:
        """The verdict on one completion."""
        if self.mode == "strict":
            return self._strict(task).judge(parse)
        if task.answer is None:
            return Verdict.abstain("the task has no answer")
        if task.answer.no_call:
            reason = unreadable(parse) or unexpected_call(parse)
            return _right(whole(parse)) if reason is None else Verdict(0.0, (reason,))
        return _judge_as_bfcl(self._bfcl(task), parse)


def _judge_as_bfcl(checker: Checker, parse: Parse) -> Verdict:
    """BFCL's verdict: on the text where the calls are Python's, on the calls themselves otherwise."""
    if parse.body is None and parse.status is not ParseStatus.CALLS:
        return Verdict(0.0, (unreadable(parse) or Reason(ReasonCode.NO_CALL, "no call", whole(parse)),))
    if parse.calls and parse.text[parse.calls[-1].span[1] - 1] != ")":
        result = checker.check([_structured(call) for call in parse.calls])
    else:
        result = checker.check(parse.text[slice(*whole(parse))])
    if result.valid and parse.calls:
        return _right(around(parse))
    if result.valid:  # BFCL's decoder reads what is no call in the completion's own format
        reason = unreadable(parse) or Reason(ReasonCode.NO_CALL, "no call in the completion's format", whole(parse))
        return Verdict(0.0, (reason,))
    return _explain(result, parse)


def _structured(call: Call) -> dict[str, dict[str, JSON]]:
    content = call.to_json()
    return {content["name"]: content["arguments"]}


def bfcl_checker(task: Task) -> Checker:
    """BFCL's rules for a task that has an answer with calls."""
    assert task.answer is not None
    return Checker(*bfcl_key(task, task.answer))


def _explain(result: CheckResult, parse: Parse) -> Verdict:
    """The verdict for a reply that BFCL rejects: its error type, in our code, with the place in the text."""
    kind, _, detail = (result.error_type or "").partition(":")
    code = _CODES.get(detail) or (ReasonCode.WRONG_TYPE if kind == "type_error" else ReasonCode.WRONG_VALUE)
    call = parse.calls[result.call] if result.call is not None and result.call < len(parse.calls) else None
    span = _place(parse, call, result.argument, code)
    if parse.status is ParseStatus.NO_CALL:
        code = ReasonCode.NO_CALL
    elif code is ReasonCode.MISSING_ARGUMENT and call is not None:
        positional = [argument.value_span for argument in call.arguments if argument.name is None]
        if positional:  # BFCL drops positional arguments and then misses them
            code, span = ReasonCode.POSITIONAL_ARGUMENT, positional[0]
    elif code is ReasonCode.UNPARSABLE:
        span = whole(parse)
    return Verdict(0.0, (Reason(code, f"{result.error_type}: {result.message}", span),))


def _place(parse: Parse, call: Call | None, argument: str | None, code: ReasonCode) -> Span:
    if call is None:
        return around(parse) if parse.calls else whole(parse)
    if code is ReasonCode.WRONG_FUNCTION:
        return call.name_span
    for written in reversed(call.arguments):  # of a repeated name the last one counts
        if argument is not None and written.name == argument:
            return written.name_span or call.span if code is ReasonCode.UNEXPECTED_ARGUMENT else written.value_span
    return call.span


def _right(span: Span) -> Verdict:
    return Verdict(1.0, (Reason(ReasonCode.CORRECT, span=span),))


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
