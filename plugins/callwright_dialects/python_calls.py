"""BFCL's prompting format: the reply is a list of Python calls, `[f(a=1, b='x'), g()]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callwright import Call, Parse

from callwright_dialects.prompting import Prompting
from callwright_dialects.python_syntax import parse_calls, render_calls
from callwright_dialects.python_unfinished import python_ends
from callwright_dialects.unfinished import parse_with_ends


@dataclass
class PythonCalls(Prompting):
    """Python calls in a list: [f(a=1, b='x'), g()]; BFCL's prompting format."""

    instruction: str | None = (
        "Answer the question with calls of the listed functions, written as [name(argument=value, ...)]. "
        "Give every argument by its name, and write nothing else. If no function fits, answer []."
    )
    """The system message."""

    def parse(self, text: str) -> Parse:
        """The whole text is the body. See `parse_calls` for what is forgiven and what is a problem."""
        return parse_calls(text, 0, len(text))

    def unfinished(self, text: str) -> Parse:
        """As `parse`, of a text that goes on."""
        return parse_with_ends(text, python_ends(text, 0, ""), self.parse)

    def render(self, calls: Sequence[Call]) -> str:
        """Raises CallwrightError for calls that cannot be written; see `render_calls`."""
        return render_calls(calls)
