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

    All dialects of this project read a call while it is being written, up to 2,000 characters of calls. With a dialect
    that has no method `unfinished`, a call is OTHER until its text is complete: there `other` governs its writing, and
    `call`, `names` and `values` hardly ever act. A word that may be an argument's name has the factor of a name.

    There is no canonical source; formula and defaults are ours. The loss is of the distribution at T:
    `importance_correction` corrects for the factors. Raises ValueError for a factor that is not above 0.
    """

    thinking: float = 1.2
    """Factor inside the thinking."""
    call: float = 0.8
    """Factor inside calls: brackets, commas, equals signs, and what has no factor of its own below."""
    names: float | None = None
    """Factor inside names of functions and arguments; by default that of `call`."""
    values: float | None = None
    """Factor inside values of arguments; by default that of `call`."""
    other: float = 1.0
    """Factor in tags, in text outside of all parts, and at the start."""

    formula: ClassVar[str] = "logits/(T·f), f by the segment of the last character"
    source: ClassVar[str] = "this project"
    use_when: ClassVar[str] = "Thinking should vary, but hot sampling breaks the syntax of calls."
    neutral: ClassVar[dict[str, float | None]] = {
        "thinking": 1.0,
        "call": 1.0,
        "names": None,
        "values": None,
        "other": 1.0,
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
