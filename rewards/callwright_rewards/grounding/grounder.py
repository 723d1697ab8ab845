"""Where does each argument's value come from: the conversation, the tool, arithmetic, or nowhere?

`ground` is the public function; docs/parameter-extraction.md explains the rules and what they were measured on. The
task's answer is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

from callwright import Argument, Call, Parse, Task, Tool
from callwright.types import JSON

from callwright_rewards.grounding.conversation import Conversation
from callwright_rewards.grounding.question import Question
from callwright_rewards.grounding.string_rules import content_words
from callwright_rewards.grounding.support import Grounding, Stated, Support
from callwright_rewards.grounding.support import GroundingCode as Code
from callwright_rewards.grounding.thinking import Thinking
from callwright_rewards.grounding.tracing import Budget, Traced, trace


def ground(task: Task, parse: Parse) -> list[Grounding]:
    """One `Grounding` for every argument of every call, in the order of the text.

    Total over any parse: never raises because of what the reply says. Time grows with the lengths of the conversation
    and of the reply; at most `tracing.MOST_VALUES` values of a reply are looked for, the rest count as invented.
    """
    return Grounder(task).ground(parse)


class Grounder:
    """`ground` for many replies to one task: the conversation is read once, an argument that repeats is traced once."""

    def __init__(self, task: Task) -> None:
        self.conversation = Conversation(task.messages)
        self._tools = {tool.name: tool for tool in task.tools}
        self._known: dict[tuple[str, str, str], Traced] = {}

    def ground(self, parse: Parse) -> list[Grounding]:
        budget, thinking = Budget(), Thinking.before_calls(parse)
        return [
            self._ground(number, call, place, budget, thinking)
            for number, call in enumerate(parse.calls)
            for place in range(len(call.arguments))
        ]

    def required(self, call: Call) -> list[str]:
        """Parameters that the call's tool requires; none for a tool that is not offered."""
        tool = self._tools.get(call.name)
        return [] if tool is None else required_parameters(tool)

    def _ground(self, number: int, call: Call, place: int, budget: Budget, thinking: Thinking | None) -> Grounding:
        argument = call.arguments[place]
        value, span = argument.value, argument.value_span
        question = self._question(call, argument, place)
        if question is None:
            return Grounding(number, argument.name, value, Support.INVENTED, Code.UNKNOWN_PARAMETER, span)
        written = as_text(value)
        if written is None:
            return Grounding(number, question.name, value, Support.INVENTED, Code.INVENTED, span)
        traced = self._trace((call.name, question.name, written), question, budget)
        stated, at = Stated.NO_THINKING, None
        if thinking is not None:
            stated, at = thinking.says(question) if budget.left > 0 else (Stated.NOT_STATED, None)
        evidence = tuple(self.conversation.place(found) for found in traced.found if found[0] < found[1])
        return Grounding(
            number, question.name, value, traced.support, traced.code, span, evidence, question.required, stated, at
        )

    def _trace(self, key: tuple[str, str, str], question: Question, budget: Budget) -> Traced:
        if key not in self._known:
            traced = trace(question, budget)
            if budget.left < 0:
                return traced
            self._known[key] = traced
        return self._known[key]

    def _question(self, call: Call, argument: Argument, place: int) -> Question | None:
        """None for a parameter that the tool does not have."""
        tool = self._tools.get(call.name)
        if tool is None:
            return Question(argument.value, argument.name or "", {}, self.conversation)
        properties = properties_of(tool)
        name = argument.name
        if name is None and place < len(properties):
            name = list(properties)[place]
        if name is None or name not in properties:
            return None
        schema = properties[name] if isinstance(properties[name], Mapping) else {}
        required = name in required_parameters(tool)
        return Question(argument.value, name, schema, self.conversation, required, frozenset(content_words(tool.name)))


def as_text(value: JSON) -> str | None:
    """None for what Python cannot write: an integer of thousands of digits, a list thousands deep."""
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return None


def properties_of(tool: Tool) -> Mapping[str, JSON]:
    properties = tool.parameters.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def required_parameters(tool: Tool) -> list[str]:
    names = tool.parameters.get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
