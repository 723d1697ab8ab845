"""Explorer `phase_temperature`: hot while the model thinks, cold while it calls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from callwright import Segment, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class PhaseTemperature:
    """Multiply the row's temperature by a factor for what is being written: thinking, a call, or something else.

    Logits (n, V), already divided by the row's temperature T, are divided by the factor f of the row's segment, so that
    the token is drawn at T f. The segment is that of the last character so far: the first token of a part still has
    the factor of the part before it.

    Most dialects recognise a call when its text is complete, all of this project's among them. Until then its
    characters are OTHER, and so `other` is what governs the writing of calls there, and the text before the thinking;
    it is `call` unless you say otherwise. `names` and `values` act with a dialect that reads unfinished calls.

    There is no canonical source; formula and defaults are ours. The loss is of the distribution at T:
    `importance_correction` corrects for the factors. Raises ValueError for a factor that is not above 0.
    """

    thinking: float = 1.2
    """Factor inside the thinking."""
    call: float = 0.8
    """Factor inside calls, and for all kinds of text that have no factor of their own."""
    names: float | None = None
    """Factor inside names of functions and arguments; by default that of `call`."""
    values: float | None = None
    """Factor inside values of arguments; by default that of `call`."""
    other: float | None = None
    """Factor in tags, in text outside of all parts, and at the start; by default that of `call`."""

    formula: ClassVar[str] = "logits/(T·f), f by the segment of the last character"
    source: ClassVar[str] = "this project"
    use_when: ClassVar[str] = "Thinking should vary, but hot sampling breaks the syntax of calls."
    neutral: ClassVar[dict[str, float | None]] = {
        "thinking": 1.0,
        "call": 1.0,
        "names": None,
        "values": None,
        "other": None,
    }

    def __post_init__(self) -> None:
        for name in self.neutral:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {value}")

    def factor(self, segment: Segment) -> float:
        """What the temperature is multiplied by behind a character of this kind."""
        if segment is Segment.THINKING:
            return self.thinking
        own = {
            Segment.CALL: self.call,
            Segment.FUNCTION_NAME: self.names,
            Segment.ARGUMENT_NAME: self.names,
            Segment.ARGUMENT_VALUE: self.values,
        }.get(segment, self.other)
        return self.call if own is None else own

    @hookimpl
    def process_logits(self, logits: Tensor, segments: Tensor) -> Tensor:
        import torch  # here, so that listing and checking plugins stay quick

        factors = torch.tensor([self.factor(segment) for segment in sorted(Segment)], device=logits.device)
        return logits / factors[segments.to(logits.device).long(), None]
