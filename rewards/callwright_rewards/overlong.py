"""A penalty for completions that come near the length limit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from callwright import Reason, ReasonCode, Rollouts, Verdict, hookimpl


class LengthCode(StrEnum):
    """Reasons beside those of `callwright.ReasonCode`."""

    OVERLONG = "overlong"


@dataclass
class Overlong:
    """DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13): 0, then linear, then -1.

    For a completion of n tokens: 0 up to `max_tokens - buffer`, -1 above `max_tokens`, and between them
    `(max_tokens - buffer - n) / buffer`. Only the length counts.
    """

    max_tokens: int
    """The longest completion that is not punished in full, in tokens; at most the run's `max_new_tokens`."""
    buffer: int
    """Over how many tokens before that the punishment grows."""
    range: ClassVar[tuple[float, float]] = (-1.0, 0.0)
    """Lowest and highest score."""
    laws: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "gold_never_beaten",
            "rewrites_keep_score",
            "near_misses_score_less",
            "mending_never_lowers",
            "extra_calls_cost",
        ),
        "only the length counts",
    )

    def __post_init__(self) -> None:
        if not 0 < self.buffer <= self.max_tokens:
            raise ValueError(f"buffer must be between 1 and max_tokens ({self.max_tokens}), not {self.buffer}")

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with a score in [-1, 0]."""
        lengths = rollouts.lengths.tolist()
        return [self._judge(length, text) for length, text in zip(lengths, rollouts.texts, strict=True)]

    def _judge(self, length: int, text: str) -> Verdict:
        free = self.max_tokens - self.buffer
        score = min(0.0, max(-1.0, (free - length) / self.buffer))
        code = ReasonCode.CORRECT if score == 0.0 else LengthCode.OVERLONG
        return Verdict(score, (Reason(code, f"{length} tokens; free up to {free}", (0, len(text))),))
