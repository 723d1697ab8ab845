"""Explorer `segment_weights`: tags, names, arguments and thinking weigh differently, and not always the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import Rollouts, Segment, hookimpl
from callwright.schedules import Path, between

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ramp:
    """A weight on its way from `start` to `end`; see `callwright.schedules.between`."""

    start: float
    """In the first step, at least 0."""
    end: float
    """Where it arrives, at least 0."""
    steps: int
    """linear and cosine arrive in the last of so many steps, step behind them; at least 1."""
    schedule: Path = "linear"

    def at(self, step: int) -> float:
        """The weight in step `step`, from 0."""
        return between(self.schedule, self.start, self.end, step, self.steps)


_SEGMENTS: dict[str, tuple[Segment, ...]] = {
    "tag": (Segment.TAG,),
    "name": (Segment.FUNCTION_NAME,),
    "argument": (Segment.ARGUMENT_NAME, Segment.ARGUMENT_VALUE),
    "thinking": (Segment.THINKING,),
    "call": (Segment.CALL,),
    "other": (Segment.OTHER, Segment.OBSERVATION),
}


@dataclass
class SegmentWeights:
    """Weigh each token's loss by what the token is part of, with weights that may change over the steps.

        w_it = weight of the segment of token t in row i at this step, divided by the mean of the row's positive weights

    w (N, T) has no unit. `call` is the punctuation of a call and `other` all text outside the rest. A weight is a
    number or `{start, end, steps, schedule}` with schedule linear (default), cosine or step.

    Source: ResT, arXiv 2509.21826; the defaults are those of its code (`token_weighting.py`), with the step counted
    from 0: tags 1.0, function names 1.2, arguments min(0.6 + 0.002 step, 1.2), thinking min(0.6 + 0.002 step, 1.0),
    nothing for the rest, and a mean of 1 over a row's tokens with a weight. Three things differ: there the punctuation
    between arguments belongs to them, here it is `call` (give it the arguments' weight to have it learn); the token
    that ends the turn has no weight there, here it is a tag; and their clamp of the weights to 0.001 to 8, which no
    default meets, is left out. Of a refusal in plain text only thinking, tags and the end of the turn learn, unless
    `other` has a weight.

    Raises ValueError for a weight below 0, for a ramp without steps, and if all weights are always 0.
    """

    tag: float | Ramp = 1.0
    """Weight of the dialect's tags and of the token that ends the turn, at least 0."""
    name: float | Ramp = 1.2
    """Weight of function names, at least 0."""
    argument: float | Ramp = Ramp(0.6, 1.2, 301)
    """Weight of the names and values of arguments, at least 0."""
    thinking: float | Ramp = Ramp(0.6, 1.0, 201)
    """Weight of text inside the thinking tags, at least 0."""
    call: float | Ramp = 0.0
    """Weight of a call's brackets, commas and equals signs, at least 0."""
    other: float | Ramp = 0.0
    """Weight of all other text, at least 0."""
    normalise: Literal["row", "none"] = "row"
    """Divide by the mean of the row's positive weights, or not."""

    formula: ClassVar[str] = "w = weight of the token's segment at this step, mean 1 over the row's weighted tokens"
    source: ClassVar[str] = "arXiv 2509.21826"
    use_when: ClassVar[str] = "Names and arguments should be learned first, and thinking once they stand."
    neutral: ClassVar[dict[str, Any]] = {**dict.fromkeys(_SEGMENTS, 1.0), "normalise": "none"}

    def __post_init__(self) -> None:
        ends = {name: _ends(getattr(self, name)) for name in _SEGMENTS}
        for name, numbers in ends.items():
            for number in numbers:
                if not 0 <= number < math.inf:
                    raise ValueError(f"{name} must be a number of at least 0, not {number}")
            weight = getattr(self, name)
            if isinstance(weight, Ramp) and weight.steps < 1:
                raise ValueError(f"{name}: steps must be at least 1, not {weight.steps}")
            if isinstance(weight, Ramp) and weight.schedule not in ("linear", "cosine", "step"):
                raise ValueError(f"{name}: schedule must be linear, cosine or step, not {weight.schedule!r}")
        if not any(number for numbers in ends.values() for number in numbers):
            raise ValueError("every weight is 0, so that nothing is learned; give a segment a weight")
        if self.normalise not in ("row", "none"):
            raise ValueError(f"normalise must be 'row' or 'none', not {self.normalise!r}")

    def at(self, step: int) -> dict[str, float]:
        """The weights in step `step`, from 0, before they are normalised."""
        weights = {name: getattr(self, name) for name in _SEGMENTS}
        return {name: weight.at(step) if isinstance(weight, Ramp) else weight for name, weight in weights.items()}

    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        """(N, T), 0 off the mask."""
        import torch  # here, so that listing and checking plugins stay quick

        table = torch.zeros(len(Segment))
        for name, weight in self.at(rollouts.step).items():
            table[list(_SEGMENTS[name])] = weight
        weights = table[rollouts.segments.long()].masked_fill(~rollouts.mask, 0.0)
        if self.normalise == "none":
            return weights
        mean = weights.sum(1, keepdim=True) / (weights > 0).sum(1, keepdim=True).clamp(min=1)
        return torch.where(mean > 0, weights / mean, weights)


def _ends(weight: float | Ramp) -> tuple[float, ...]:
    return (weight.start, weight.end) if isinstance(weight, Ramp) else (weight,)
