"""What the rules of `ast_validate` find in a row."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingCode(StrEnum):
    """Codes of `ast_validate`. Those marked (m) may be mended by `fix: true`, where only one repair is possible."""

    NO_ANSWER = "no_answer"
    """The row has no answer."""
    ANSWER_UNREAD = "answer_unread"
    """(m) The answer stands only as text, in `meta["answer_text"]`: it is read."""
    UNPARSABLE = "unparsable"
    """The text of the answer is no list of calls in Python syntax, or a value in it is no literal."""
    POSITIONAL_ARGUMENT = "positional_argument"
    """(m) An argument without a name: it gets the name of the tool's parameter in that place."""
    REPEATED_ARGUMENT = "repeated_argument"
    """An argument, or a key of an object, is given twice."""
    MISSPELT = "misspelt"
    """(m) Harmless spelling: case or one of `-_./` and space in a function's, a parameter's or an enum value's name
    that only one is like; a number, boolean, null, list or object in quotes; 5.0 for 5; `true` for `True`."""
    DUPLICATE_TOOL = "duplicate_tool"
    """(m) Two tools of one name; the same tool twice is taken once."""
    INVALID_SCHEMA = "invalid_schema"
    """A tool's parameters are no JSON Schema of an object."""
    CALL_IMPOSSIBLE = "call_impossible"
    """A call, where no tool is offered."""
    CALL_MISSING = "call_missing"
    """The answer is to make no call, and the row itself says that there is one: a key of BFCL's form with calls in
    `meta["possible_answer"]`, or a last message with `tool_calls`."""
    UNKNOWN_FUNCTION = "unknown_function"
    """A call of a function that is not offered."""
    UNKNOWN_PARAMETER = "unknown_parameter"
    """An argument that the tool does not have."""
    MISSING_REQUIRED = "missing_required"
    """A required parameter, also one of an object inside an argument, has no value that could be given."""
    WRONG_TYPE = "wrong_type"
    """No allowed value is of the parameter's type."""
    NOT_IN_ENUM = "not_in_enum"
    """No allowed value is one of the parameter's enum."""
    UNSATISFIABLE = "unsatisfiable"
    """No value is allowed at all, or none of them satisfies the schema, or BFCL's checker, for another reason."""
    MALFORMED_ALLOWED = "malformed_allowed"
    """(m) The arguments are no object, or the allowed values no list: a plain text, number, boolean or null becomes the
    only allowed value."""
    MALFORMED_ROW = "malformed_row"
    """The row has a shape that cannot be checked, such as names that are no texts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a row."""

    code: FindingCode
    message: str
    mended: bool = False
    """Whether it is mended in what is handed back along with the findings."""
