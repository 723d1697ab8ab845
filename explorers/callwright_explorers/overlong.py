"""Explorer `overlong`: completions that were cut off do not enter the policy loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from callwright import Rollouts, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Overlong:
    """Mask the policy loss of completions that hit the length limit (overlong filtering).

        w_it = weight if row i was truncated, else 1

    Nobody knows how such a completion would have ended, so that its reward says little. It stays in its group: its
    reward counts in the group's mean, as in TRL's `mask_truncated_completions`, which cites DAPO for it (arXiv
    2503.14476, section 3.4). With `aggregation` sequence and constant the policy loss is TRL's; with token, TRL leaves
    the masked tokens out of the number it divides by, and here they stay in, so that the other rows' loss is not scaled
    up. Terms of the loss that other plugins add (a KL, an entropy bonus) still see masked rows. The other half of
    DAPO's treatment, a penalty on length, is the reward `overlong`; a recipe with both gives one of them a `name`.

    Raises ValueError for a weight outside [0, 1].
    """

    weight: float = 0.0
    """What is left of the loss of a truncated completion, 0 to 1."""

    formula: ClassVar[str] = "wₜ = 0 for truncated rows, else 1"
    source: ClassVar[str] = "arXiv 2503.14476"
    use_when: ClassVar[str] = "A good part of the completions hits max_new_tokens and is scored as wrong for it."
    neutral: ClassVar[dict[str, Any]] = {"weight": 1.0}

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be between 0 and 1, not {self.weight}")

    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        """factor (N, T), one value per row."""
        import torch

        rows = torch.where(rollouts.truncated, self.weight, 1.0)
        return rows[:, None].expand(rollouts.mask.shape)
