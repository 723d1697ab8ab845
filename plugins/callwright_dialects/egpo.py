"""EGPO's format: `<think>...</think>[f(a=1)]`, without answer tags (arXiv 2508.05118v4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callwright import Call, Parse

from callwright_dialects.prompting import Example, Prompting
from callwright_dialects.python_syntax import parse_calls, render_calls
from callwright_dialects.python_unfinished import python_ends
from callwright_dialects.thinking import THINK_TAG, check_thinking, parse_after_thinking, reply_start
from callwright_dialects.unfinished import parse_with_ends


@dataclass
class Egpo(Prompting):
    """EGPO's thinking and calls: <think>...</think>[f(a=1)]."""

    instruction: str | None = (
        "Think first, inside <think> and </think>. Then answer the question with calls of the listed functions, "
        "written as [name(argument=value, ...)], and nothing else. Give every argument by its name. "
        "If no function fits, say so after </think>."
    )

    def example_reply(self, example: Example) -> str:
        """Thinking, then the calls or the plain reply."""
        if example.reply is None:
            return self.render(example.as_calls(), example.thinking)
        return _think(example.thinking) + example.reply

    def parse(self, text: str) -> Parse:
        """`body` is what follows the thinking, and the whole text where there is none (a problem).

        See `parse_after_thinking` and `parse_calls`.
        """
        return parse_after_thinking(text, parse_calls, required=True)

    def unfinished(self, text: str) -> Parse:
        """As `parse`, of a text that goes on."""
        start = reply_start(text)
        ends = [] if start is None else python_ends(text, start, "")
        return parse_with_ends(text, ends, self.parse)

    def render(self, calls: Sequence[Call], thinking: str = "") -> str:
        """Raises CallwrightError for calls that cannot be written, and for thinking that holds one of the tags."""
        return _think(thinking) + render_calls(calls, THINK_TAG)


def _think(thinking: str) -> str:
    return f"<think>{check_thinking(thinking)}</think>"
