"""Tokens chosen by what they are part of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from callwright import Segment

if TYPE_CHECKING:
    from torch import Tensor

Scope = Literal["thinking", "calls", "names", "values", "all"]

SEGMENTS: dict[Scope, tuple[Segment, ...]] = {
    "thinking": (Segment.THINKING,),
    "calls": (Segment.CALL, Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME, Segment.ARGUMENT_VALUE),
    "names": (Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME),
    "values": (Segment.ARGUMENT_VALUE,),
    "all": tuple(s for s in Segment if s is not Segment.PAD),
}


def in_scope(segments: Tensor, mask: Tensor, scope: Scope) -> Tensor:
    """Bool, the shape of `mask`: tokens of the segments in scope."""
    import torch  # here, so that listing and checking plugins stay quick

    if scope == "all":
        return mask
    return mask & torch.isin(segments, torch.tensor(SEGMENTS[scope], dtype=segments.dtype, device=segments.device))
