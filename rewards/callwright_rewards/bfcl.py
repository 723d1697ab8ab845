"""BFCL's verdict on a reply, for the Python single-turn categories of the Berkeley Function Calling Leaderboard.

Follows the AST checker of bfcl-eval 2026.3.23: the same verdict and the same `error_type` on every reply, with two
exceptions, both where the peer has no verdict to give or gives it unsafely: nothing in a reply is ever evaluated (see
`bfcl_decode`), and where the peer crashes on a key of unusual shape the reply is invalid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callwright import CallwrightError
from callwright.types import JSON

from callwright_rewards.bfcl_decode import Decoded, DecodeError, decode
from callwright_rewards.bfcl_values import Mismatch, check_value

Function = Mapping[str, JSON]
"""A function as BFCL describes it: name, description, and parameters whose types are BFCL's (dict, float, tuple...)."""
Key = Mapping[str, Mapping[str, Sequence[JSON]]]
"""One expected call: {function name: {argument name: [allowed values]}}; "" among them: may be left out."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A verdict. `error_type` is in BFCL's vocabulary, None when valid."""

    valid: bool
    error_type: str | None = None
    message: str = ""
    call: int | None = None
    """Which call of the reply is at fault, from 0, where it is one."""
    argument: str | None = None
    """Which argument of that call is at fault, where it is one."""


_VALID = CheckResult(True)
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
    `possible_answer`.
    """
    if "java" in category:
        raise CallwrightError(f"category '{category}': only BFCL's Python categories can be checked")
    if possible_answer is None and "relevance" not in category:
        raise CallwrightError(f"category '{category}' needs a possible_answer; only (ir)relevance has none")
    try:
        calls = decode(reply) if isinstance(reply, str) else reply
    except DecodeError as error:
        return _relevance(category, 0) or CheckResult(False, "ast_decoder:decoder_failed", str(error))
    well_formed = _is_list_of_calls(calls)
    if result := _relevance(category, len(calls) if well_formed else 0):
        return result
    if not well_formed:
        return CheckResult(False, "ast_decoder:decoder_wrong_output_format", "not a list of {name: {argument: value}}")
    assert possible_answer is not None
    try:
        return _Checker(functions, underscore_to_dot).check(calls, possible_answer, category)
    except _UNCOMPARABLE as error:
        message = f"the reply cannot be compared with this key ({type(error).__name__}: {error})"
        return CheckResult(False, "simple_function_checker:unclear", message)


def _is_list_of_calls(calls: object) -> bool:
    return type(calls) is list and all(
        type(call) is dict and len(call) == 1 and type(next(iter(call.values()))) is dict for call in calls
    )


def _relevance(category: str, calls: int) -> CheckResult | None:
    """The verdict of the categories that ask only whether there is a call; None for all others."""
    if "irrelevance" in category:
        if calls == 0:
            return _VALID
        return CheckResult(False, "irrelevance_error:decoder_success", "a call, where none of the functions fits", 0)
    if "relevance" in category:
        return _VALID if calls else CheckResult(False, "relevance_error:decoder_failed", "no call that can be read")
    return None


@dataclass(frozen=True, slots=True)
class _Checker:
    functions: Sequence[Function]
    underscore_to_dot: bool

    def check(self, calls: Decoded, keys: Sequence[Key], category: str) -> CheckResult:
        expected = len(keys)
        if "parallel" in category:
            checker = "parallel_function_checker_no_order"
        elif "multiple" in category:
            checker = "multiple_function_checker"
        else:
            checker, expected = "simple_function_checker", 1
        if len(calls) != expected:
            return CheckResult(False, f"{checker}:wrong_count", f"{len(calls)} calls instead of {expected}")
        if "parallel" in category:
            return self.check_parallel(calls, keys)
        function = self.find(keys[0]) if "multiple" in category else self.functions[0]
        return self.check_call(0, calls[0], function, keys[0])

    def find(self, key: Key) -> Function:
        name = next(iter(key))
        for function in self.functions:
            if function["name"] == name:
                return function
        raise KeyError(f"the key names the function {name!r}, which is not offered")

    def check_parallel(self, calls: Decoded, keys: Sequence[Key]) -> CheckResult:
        """In any order, but greedy: each key takes the first call left that fits it, and never gives it back."""
        unused = list(range(len(calls)))
        for number, key in enumerate(keys):
            function = self.find(key)
            results = []
            for index in unused:
                result = self.check_call(index, calls[index], function, key)
                if result.valid:
                    unused.remove(index)
                    break
                results.append(result)
            else:
                only = results[0] if len(results) == 1 else CheckResult(False)
                message = f"no call left fits expected call {number + 1}, {next(iter(key))}: " + "; ".join(
                    f"call {result.call}: {result.message}" for result in results
                )
                error_type = "parallel_function_checker_no_order:cannot_find_match"
                return CheckResult(False, error_type, message, only.call, only.argument)
        return _VALID

    def check_call(
        self, index: int, call: Mapping[str, Mapping[str, JSON]], function: Function, key: Key
    ) -> CheckResult:
        name = function["name"]
        if self.underscore_to_dot:
            name = name.replace(".", "_")

        def failed(error: str, message: str, argument: str | None = None) -> CheckResult:
            return CheckResult(False, error, message, index, argument)

        if name not in call:
            return failed("simple_function_checker:wrong_func_name", f"{next(iter(call))!r} instead of {name!r}")
        arguments, allowed = call[name], next(iter(key.values()))
        properties = function["parameters"]["properties"]
        for argument in function["parameters"]["required"]:
            if argument not in arguments:
                return failed("simple_function_checker:missing_required", f"the argument {argument!r} is missing")
        for argument, value in arguments.items():
            if argument not in properties or argument not in allowed:
                message = f"the argument {argument!r} is not expected"
                return failed("simple_function_checker:unexpected_param", message, argument)
            try:
                check_value(value, allowed[argument], properties[argument])
            except Mismatch as mismatch:
                return failed(mismatch.error_type, f"{argument}: {mismatch}", argument)
        for argument, values in allowed.items():
            if argument not in arguments and "" not in values:
                message = f"the argument {argument!r} is missing: it is optional, but this task needs it"
                return failed("simple_function_checker:missing_optional", message)
        return _VALID
