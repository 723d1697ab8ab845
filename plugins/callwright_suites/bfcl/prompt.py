"""BFCL's own prompt: the questions to the letter as bfcl-eval asks a model that it prompts."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass

from callwright import Call, Parse, Prompt, Task
from callwright.types import JSON
from callwright_dialects.python_calls import PythonCalls

_LANGUAGES = {"simple_java": ("Java 8 SDK", "Java"), "simple_javascript": ("JavaScript", "JavaScript")}
"""As the hints call them: the syntax, and the language."""


@dataclass
class BfclPrompt:
    """The system prompt and function documents of bfcl-eval's prompting mode; replies as `python_calls` reads them.

    Needs BFCL's own functions in the task's `meta`. For Java and JavaScript `parse` finds the body, not the calls.
    """

    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._python = PythonCalls()

    def prompt(self, task: Task) -> Prompt:
        # Not copied here: the text is the installed version's. These modules import nothing else.
        from bfcl_eval.constants.default_prompts import (
            OUTPUT_FORMAT_MAPPING,
            PARAM_TYPE_MAPPING,
            PROMPT_STYLE_TEMPLATES,
            PROMPT_TEMPLATE_MAPPING,
        )

        style = PROMPT_STYLE_TEMPLATES["classic"]
        documents = json.dumps(documented(task.meta["functions"], task.meta["category"]), indent=4)
        form = {"output_format": OUTPUT_FORMAT_MAPPING["python"], "param_types": PARAM_TYPE_MAPPING["python"]}
        system = PROMPT_TEMPLATE_MAPPING["plaintext"].format(
            persona=style["persona"],
            task=style["task"],
            tool_call_format=style["tool_call_no_tag"].format(**form),
            multiturn_behavior=style["multiturn_behavior"],
            available_tools=style["available_tools"].format(format="json", functions=documents),
        )
        messages = [dict(message) for message in task.messages]
        if messages[0]["role"] == "system":
            messages[0]["content"] = f"{system}\n\n{messages[0]['content']}"
        else:
            messages.insert(0, {"role": "system", "content": system})
        return Prompt(messages)

    def parse(self, text: str) -> Parse:
        return self._python.parse(text)

    def render(self, calls: Sequence[Call]) -> str:
        return self._python.render(calls)


def documented(functions: Sequence[JSON], category: str) -> list[JSON]:
    """The functions as BFCL shows them: with a hint at the language, and in Java and JavaScript with every parameter a
    text that holds source code."""
    syntax, language = _LANGUAGES.get(category, ("Python 3", ""))
    found = copy.deepcopy(list(functions))
    for function in found:
        function["description"] += f" Note that the provided function is in {syntax} syntax."
        if language:
            for schema in function["parameters"]["properties"].values():
                _as_source_code(schema, language)
    return found


def _as_source_code(schema: dict[str, JSON], language: str) -> None:
    kind = schema["type"]
    if kind == "any":
        hint = f" This parameter can be of any type of {language} object in string representation."
    else:
        hint = f" This is {language} {kind} type parameter in string representation."
    if kind in ("ArrayList", "Array", "array"):
        items = schema.pop("items")["type"]
        hint += f" The list elements are of type {items}; they are not in string representation."
    if kind == "dict" and "properties" in schema:
        inner = json.dumps(schema.pop("properties"))
        hint += f" The dictionary entries have the following schema; they are not in string representation. {inner}"
    schema["description"] += hint
    schema["type"] = "string"
