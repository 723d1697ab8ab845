"""BFCL's verdict on a reply in Java or JavaScript.

What such a reply says is defined by bfcl-eval's parsers (over tree-sitter) and its regular expressions that turn source
code into values, so these are used themselves: modules of the installed package that import nothing else. The
comparison with the key is ours, as for Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from callwright.types import JSON
from callwright_rewards.bfcl import Checker, CheckResult, Function, Key

INSTALL = "pip install 'callwright[bfcl]'"
_TYPES = {
    # Java
    **{"byte": "integer", "short": "integer", "integer": "integer", "long": "integer"},
    **{"float": "float", "double": "float", "boolean": "boolean", "char": "string", "String": "string"},
    **{"Array": "array", "ArrayList": "array", "HashMap": "dict"},
    # JavaScript
    **{"Bigint": "integer", "Boolean": "boolean", "array": "array", "dict": "dict", "any": "string"},
}
"""BFCL's Python type that is compared in the same way."""


def missing() -> str:
    """What has to be installed to judge these languages; empty if all is there."""
    modules = ("tree_sitter", "tree_sitter_java", "tree_sitter_javascript")
    absent = [name for name in modules if find_spec(name) is None]
    return f"needs {', '.join(absent)}: {INSTALL}" if absent else ""


def load_parsers() -> None:
    """Import what both languages need, so that a fault of the installation shows before any reply is judged."""
    import bfcl_eval.model_handler.parser.java_parser
    import bfcl_eval.model_handler.parser.js_parser  # noqa: F401

    for category in ("simple_java", "simple_javascript"):
        _converter(category)


def check(reply: str, functions: Sequence[Function], key: Sequence[Key], category: str) -> CheckResult:
    """The verdict and error type of bfcl-eval, where it has one: a reply on which it would crash is invalid.

    The time that it takes is not bounded; see `judge_process.py`.
    """
    try:
        calls = _decode(reply, category)
    except Exception as error:  # the parsers raise what they like for a reply that is none
        return CheckResult(False, "ast_decoder:decoder_failed", ("{}", error))
    function = functions[0]
    checker = Checker([_comparable(function)], key, "simple")
    if not isinstance(calls, list):
        return checker.check_decoded(calls)
    try:
        return checker.check_decoded([_with_values(call, function, key[0], category) for call in calls])
    except Exception as error:  # as above; this is where bfcl-eval would crash
        return CheckResult(False, "simple_function_checker:unclear", ("{}", error))


def _decode(reply: str, category: str) -> Any:
    """Calls whose values are source code; only the first call is read."""
    text = reply.strip("`\n ")
    text = text if text.startswith("[") else f"[{text}"
    text = text if text.endswith("]") else f"{text}]"
    if category == "simple_java":
        from bfcl_eval.model_handler.parser.java_parser import parse_java_function_call

        return parse_java_function_call(text[1:-1])
    from bfcl_eval.model_handler.parser.js_parser import parse_javascript_function_call

    return parse_javascript_function_call(text[1:-1])


def _with_values(call: Mapping[str, Any], function: Function, key: Key, category: str) -> dict[str, dict[str, JSON]]:
    """The call with values instead of source code, where the function and the key know the argument."""
    properties, allowed = function["parameters"]["properties"], next(iter(key.values()))
    convert = _converter(category)
    found: dict[str, dict[str, JSON]] = {}
    for name, arguments in call.items():
        found[name] = dict(arguments)
        for argument, source in arguments.items():
            if argument in properties and argument in allowed:
                schema = properties[argument]
                nested = (schema["items"]["type"],) if _TYPES[schema["type"]] == "array" else ()
                found[name][argument] = convert(source, schema["type"], *nested)
    return found


def _converter(category: str) -> Callable[..., JSON]:
    if category == "simple_java":
        from bfcl_eval.eval_checker.ast_eval.type_convertor.java_type_converter import java_type_converter

        return java_type_converter
    from bfcl_eval.eval_checker.ast_eval.type_convertor.js_type_converter import js_type_converter

    return js_type_converter


def _comparable(function: Function) -> dict[str, JSON]:
    """The function with Python's types."""
    parameters = function["parameters"]
    properties = {name: _schema(schema) for name, schema in parameters["properties"].items()}
    return {**function, "parameters": {**parameters, "properties": properties}}


def _schema(schema: Mapping[str, JSON]) -> dict[str, JSON]:
    found: dict[str, JSON] = {"type": _TYPES[schema["type"]]}
    if found["type"] == "array":
        found["items"] = {"type": _TYPES[schema["items"]["type"]]}
    return found
