"""Does a reply without a call say which required parameter the user never gave, and is that so?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from callwright import Parse, ParseStatus, Task, Tool
from callwright.types import Span

from callwright_rewards.grounding.choice_rules import find_choice
from callwright_rewards.grounding.conversation import Conversation
from callwright_rewards.grounding.grounder import properties_of, required_parameters
from callwright_rewards.grounding.question import Question
from callwright_rewards.grounding.text_index import TextIndex

_ASKS = re.compile(
    r"\?|\b(?:missing|provide[ds]?|specif\w+|need(?:ed|s)?|require[ds]?|not given|unknown|unclear|tell me|let me know|"
    r"don't have|do not have|lacks?|without)\b",
    re.I,
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")
_MOST_CHARACTERS = 20_000


class Admission(NamedTuple):
    parameter: str
    span: Span
    """The parameter's name in the reply."""


def find_admission(task: Task, conversation: Conversation, parse: Parse) -> Admission | None:
    """The parameter that the reply rightly says is missing, or None.

    Rightly: nothing in the conversation could be its value, and every other tool lacks a required parameter in the same
    way, so no call at all could have been grounded. That can only be known of numbers, dates and enums; for free
    strings the answer is always None.
    """
    if parse.status is not ParseStatus.NO_CALL or not task.tools:
        return None
    ungiven = [
        [name for name in required_parameters(tool) if _is_ungiven(tool, name, conversation)] for tool in task.tools
    ]
    if not all(ungiven):
        return None
    end = min(len(parse.text), _MOST_CHARACTERS)
    start = min(parse.thinking[1], end) if parse.thinking is not None else 0
    for match in _SENTENCE.finditer(parse.text, start, end):
        if _ASKS.search(match[0]):
            sentence = TextIndex(match[0])
            for name in dict.fromkeys(name for names in ungiven for name in names):
                span = sentence.find_squeezed(name)
                if span is not None:
                    return Admission(name, (match.start() + span[0], match.start() + span[1]))
    return None


def _is_ungiven(tool: Tool, name: str, conversation: Conversation) -> bool:
    schema = properties_of(tool).get(name)
    if not isinstance(schema, Mapping):
        return False
    question = Question(None, name, schema, conversation, True)
    if "default" in schema or question.default_windows:
        return False
    if question.choices:
        members = (Question(choice, name, schema, conversation, True) for choice in question.choices[:200])
        return len(question.choices) > 1 and all(find_choice(member) is None for member in members)
    if schema.get("type") in ("integer", "number"):
        return not conversation.quantities and not conversation.clocks
    if schema.get("format") in ("date", "date-time") or re.search(
        r"YYYY|(?<![a-z])date(?![a-z])", question.about, re.I
    ):
        return not conversation.days and re.search(r"\d|day|week|month|year|tomorrow|now", conversation.lower) is None
    return False
