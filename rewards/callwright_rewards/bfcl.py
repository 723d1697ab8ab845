"""BFCL's verdict on a reply, for the Python single-turn categories of the Berkeley Function Calling Leaderboard.

Follows the AST checker of bfcl-eval 2026.3.23: the same verdict and the same `error_type` on every reply, with two
exceptions, both where the peer has no verdict to give or gives it unsafely: nothing in a reply is ever evaluated (see
`bfcl_decode`), and where the peer crashes on a key of unusual shape the reply is invalid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from callwright import CallwrightError
from callwright.types import JSON

from callwright_rewards.bfcl_decode import Decoded, DecodeError, decode
from callwright_rewards.bfcl_values import Detail, Expected, message_of

Function = Mapping[str, JSON]
"""A function as BFCL describes it: name, description, and parameters whose types are BFCL's (dict, float, tuple...)."""
Key = Mapping[str, Mapping[str, Sequence[JSON]]]
"""One expected call: {function name: {argument name: [allowed values]}}; "" among them: may be left out."""


class CheckResult(NamedTuple):
    """A verdict. `error_type` is in BFCL's vocabulary, None when valid."""

    valid: bool
    error_type: str | None = None
    detail: Detail = ()
    """What `message` is made of."""
    call: int | None = None
    """Which call of the reply is at fault, from 0, where it is one."""
    argument: str | None = None
    """Which argument of that call is at fault, where it is one."""

    @property
    def message(self) -> str:
        return message_of(self.detail)


MAX_REMEMBERED = 1024
"""Verdicts that a `Checker` keeps, by text: the completions of a group repeat each other."""
_VALID = CheckResult(True)
_WRONG_COUNT = {
    "simple": "simple_function_checker:wrong_count",
    "multiple": "multiple_function_checker:wrong_count",
    "parallel": "parallel_function_checker_no_order:wrong_count",
}
_UNCOMPARABLE = (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError, StopIteration)


def check(
    reply: str | Decoded,
    functions: Sequence[Function],
    possible_answer: Sequence[Key] | None,
    category: str,
    *,
    underscore_to_dot: bool = False,
) -> CheckResult:
    """Judge `reply`, a text in Python syntax or calls already decoded as `[{name: {argument: value}}]`.

    `category` chooses the rule by its name, as in BFCL: parallel..., multiple..., irrelevance, relevance (these two
    take no `possible_answer`), anything else is a single call. `underscore_to_dot` expects `a_b` where the function is
    called `a.b`, for models whose API allows no dots.

    Never raises because of the reply. Raises `CallwrightError` for a category in Java or JavaScript, and for a missing
    `possible_answer`. For many replies to one task, `Checker` makes the key ready once.
    """
    return Checker(functions, possible_answer, category, underscore_to_dot=underscore_to_dot).check(reply)


class Checker:
    """BFCL's rules for one task: `check`, with the key made ready once for many replies.

    The arguments are those of `check`; `functions` and `possible_answer` must not change afterwards.
    """

    __slots__ = ("functions", "keys", "kind", "prepared", "relevance", "remembered", "underscore_to_dot")

    def __init__(
        self,
        functions: Sequence[Function],
        possible_answer: Sequence[Key] | None,
        category: str,
        *,
        underscore_to_dot: bool = False,
    ) -> None:
        if "java" in category:
            raise CallwrightError(f"category '{category}': only BFCL's Python categories can be checked")
        if possible_answer is None and "relevance" not in category:
            raise CallwrightError(f"category '{category}' needs a possible_answer; only (ir)relevance has none")
        self.functions, self.underscore_to_dot = functions, underscore_to_dot
        self.keys: Sequence[Key] = possible_answer or ()
        self.prepared: dict[int, _ExpectedCall] = {}
        self.remembered: dict[str, CheckResult] = {}
        self.kind = "parallel" if "parallel" in category else "multiple" if "multiple" in category else "simple"
        self.relevance = None if "relevance" not in category else "irrelevance" not in category

    def check(self, reply: str | Decoded) -> CheckResult:
        """Judge a reply. Never raises because of it."""
        if not isinstance(reply, str):
            return self.check_decoded(reply)
        result = self.remembered.get(reply)
        if result is None:
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            result = self.remembered[reply] = self.check_text(reply)
        return result

    def check_text(self, reply: str) -> CheckResult:
        try:
            calls = decode(reply)
        except DecodeError as error:
            if self.relevance is not None:
                return self.check_relevance(0)
            return CheckResult(False, "ast_decoder:decoder_failed", (str(error),))
        return self.check_calls(calls) if self.relevance is None else self.check_relevance(len(calls))

    def check_decoded(self, calls: Decoded) -> CheckResult:
        well_formed = _is_list_of_calls(calls)
        if self.relevance is not None:
            return self.check_relevance(len(calls) if well_formed else 0)
        if not well_formed:
            error_type = "ast_decoder:decoder_wrong_output_format"
            return CheckResult(False, error_type, ("not a list of {{name: {{argument: value}}}}",))
        return self.check_calls(calls)

    def check_calls(self, calls: Decoded) -> CheckResult:
        try:
            return self.compare(calls)
        except _UNCOMPARABLE as error:
            detail = ("the reply cannot be compared with this key ({})", error)
            return CheckResult(False, "simple_function_checker:unclear", detail)

    def check_relevance(self, calls: int) -> CheckResult:
        """The categories that ask only whether there is a call: `relevance` is whether there should be one."""
        if bool(calls) is self.relevance:
            return _VALID
        if self.relevance:
            return CheckResult(False, "relevance_error:decoder_failed", ("no readable call",))
        return CheckResult(False, "irrelevance_error:decoder_success", ("a call, where no function fits",), 0)

    def compare(self, calls: Decoded) -> CheckResult:
        expected = 1 if self.kind == "simple" else len(self.keys)
        if len(calls) != expected:
            return CheckResult(False, _WRONG_COUNT[self.kind], ("{} calls instead of {}", len(calls), expected))
        return self.check_parallel(calls) if self.kind == "parallel" else self.expected(0).check(0, calls[0])

    def expected(self, number: int) -> _ExpectedCall:
        if number not in self.prepared:
            key = self.keys[number]
            function = self.functions[0] if self.kind == "simple" else self.find(next(iter(key)))
            self.prepared[number] = _ExpectedCall(function, key, self.underscore_to_dot)
        return self.prepared[number]

    def find(self, name: str) -> Function:
        if isinstance(self.functions, Mapping):
            return self.functions
        for function in self.functions:
            if function["name"] == name:
                return function
        raise KeyError(f"the key names the function {name!r}, which is not offered")

    def check_parallel(self, calls: Decoded) -> CheckResult:
        """In any order, but greedy: each key takes the first call left that fits it, and never gives it back."""
        unused = list(range(len(calls)))
        for number in range(len(self.keys)):
            expected, results = self.expected(number), []
            for index in unused:
                result = expected.check(index, calls[index])
                if result.valid:
                    unused.remove(index)
                    break
                results.append(result)
            else:
                return _no_match(number, expected.name, results)
        return _VALID


def _no_match(number: int, name: str, results: Sequence[CheckResult]) -> CheckResult:
    only = results[0] if len(results) == 1 else CheckResult(False)
    detail = ("no call left fits expected call {}, {}: {}", number + 1, name, _Faults(results))
    error_type = "parallel_function_checker_no_order:cannot_find_match"
    return CheckResult(False, error_type, detail, only.call, only.argument)


class _Faults(tuple[CheckResult, ...]):
    """What was wrong with each call that was tried."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "; ".join(f"call {result.call}: {result.message}" for result in self)


def _is_list_of_calls(calls: object) -> bool:
    return type(calls) is list and all(
        type(call) is dict and len(call) == 1 and type(next(iter(call.values()))) is dict for call in calls
    )


class _ExpectedCall:
    """One entry of a key with the function it names."""

    __slots__ = ("allowed", "expected", "name", "properties", "required")

    def __init__(self, function: Function, key: Key, underscore_to_dot: bool) -> None:
        self.allowed = next(iter(key.values()))
        self.properties = function["parameters"]["properties"]
        self.required = function["parameters"]["required"]
        self.name = function["name"].replace(".", "_") if underscore_to_dot else function["name"]
        self.expected: dict[str, Expected] = {}

    def check(self, index: int, call: Mapping[str, Mapping[str, JSON]]) -> CheckResult:
        arguments = call.get(self.name)
        if arguments is None:
            return self.failed("wrong_func_name", ("{} instead of {}", next(iter(call)), self.name), index)
        for argument in self.required:
            if argument not in arguments:
                return self.failed("missing_required", ("the argument {} is missing", argument), index)
        for argument, value in arguments.items():
            expected = self.expected.get(argument) or self.prepare(argument)
            if expected is None:
                return self.failed("unexpected_param", ("the argument {} is not expected", argument), index, argument)
            mismatch = expected.check(value)
            if mismatch is not None:
                return CheckResult(False, *mismatch, index, argument)
        for argument, values in self.allowed.items():
            if argument not in arguments and "" not in values:
                detail = ("the argument {} is missing: it is optional, but this task needs it", argument)
                return self.failed("missing_optional", detail, index)
        return _VALID

    def failed(self, error: str, detail: Detail, index: int, argument: str | None = None) -> CheckResult:
        return CheckResult(False, f"simple_function_checker:{error}", detail, index, argument)

    def prepare(self, argument: str) -> Expected | None:
        if argument not in self.properties or argument not in self.allowed:
            return None
        self.expected[argument] = Expected(self.allowed[argument], self.properties[argument])
        return self.expected[argument]
