"""The vocabulary of grounding: what a value's support can be, and the reason codes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from callwright.types import JSON, Span

from callwright_rewards.grounding.conversation import Evidence


class Support(StrEnum):
    """What a value rests on. The last two fail grounding."""

    GROUNDED = "grounded"
    DERIVED = "derived"
    UNSUPPORTED = "unsupported"
    """A choice from a closed set (enum, options, true or false, empty) that nothing in the conversation backs."""
    INVENTED = "invented"
    """A free value that stands nowhere and follows from nothing."""

    @property
    def fails(self) -> bool:
        return self in (Support.UNSUPPORTED, Support.INVENTED)


class GroundingCode(StrEnum):
    """Why. docs/parameter-extraction.md has one line for each."""

    EXACT = "grounded_exact"
    CASE = "grounded_case"
    SPACING = "grounded_spacing"
    NUMBER = "grounded_number"
    NUMBER_FORMAT = "grounded_number_format"
    NUMBER_WORD = "grounded_number_word"
    DATE = "grounded_date"
    TIME = "grounded_time"
    SPELLING = "grounded_spelling"
    WORDS = "grounded_words"
    ACRONYM = "grounded_acronym"
    FORMULA = "grounded_formula"
    PARTS = "grounded_parts"
    COMPLETED = "grounded_completed"
    MOST_WORDS = "grounded_most_words"
    DEFAULT = "grounded_default"
    EXPLAINED = "grounded_explained"
    TYPO = "grounded_typo"
    ONLY_CHOICE = "grounded_only_choice"
    ENUM_WORD = "grounded_enum_word"
    BOOLEAN = "grounded_boolean"
    LEFT_EMPTY = "grounded_left_empty"
    ELEMENTS = "grounded_elements"
    PERCENT = "derived_percent"
    UNIT = "derived_unit"
    FREQUENCY = "derived_frequency"
    ARITHMETIC = "derived_arithmetic"
    RELATIVE_DATE = "derived_relative_date"
    ENUM_UNSUPPORTED = "enum_unsupported"
    OPTION_UNSUPPORTED = "option_unsupported"
    BOOLEAN_UNSUPPORTED = "boolean_unsupported"
    EMPTY_UNSUPPORTED = "empty_unsupported"
    INVENTED = "invented"
    UNKNOWN_PARAMETER = "unknown_parameter"
    REQUIRED_LEFT_OUT = "required_left_out"
    ADMITTED = "admitted"
    THINKING_CONTRADICTS = "thinking_contradicts"
    NOT_STATED = "not_stated"


class Stated(StrEnum):
    """What the thinking says of an argument before the call."""

    NO_THINKING = "no_thinking"
    NOT_STATED = "not_stated"
    STATED = "stated"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Grounding:
    """One argument of one call, judged."""

    call: int
    """Which call of the parse, from 0."""
    parameter: str | None
    """The tool's parameter: for a positional argument the one in its place, None where the tool has none."""
    value: JSON
    support: Support
    code: GroundingCode
    span: Span
    """The value in the reply."""
    evidence: tuple[Evidence, ...] = ()
    """Where in the conversation; empty for defaults and for what was found nowhere."""
    required: bool = False
    stated: Stated = Stated.NO_THINKING
    stated_at: Span | None = None
    """Where in the reply's thinking the value, or the value that contradicts it, stands."""
