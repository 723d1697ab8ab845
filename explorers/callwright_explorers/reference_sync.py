"""Explorer `reference_sync`: the reference model follows the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from callwright import hookimpl

from callwright_explorers._coefficient import require, require_count
from callwright_explorers._reference import reference_mistakes

if TYPE_CHECKING:
    from callwright.loop import Control
    from callwright.recipe import Recipe


@dataclass
class ReferenceSync:
    """Move the reference model towards the policy by a share of the way, every so many steps.

    After every `every`-th step: reference := share policy + (1 - share) reference, weight by weight.

    This is TR-DPO (arXiv 2404.09656) as in TRL's `sync_ref_model`, whose defaults these are
    (`ref_model_mixup_alpha` 0.6, `ref_model_sync_steps` 512); checked: the same weights. TRL counts optimizer steps,
    this the run's, which have `train.passes` of them. With a share of 1 it is `reference_reset` without forgetting.

    Raises ValueError for a number of steps below 1 and for a share that is not above 0 and at most 1.
    """

    every: int = 512
    """Steps between two moves."""
    share: float = 0.6
    """Of the way to the policy, above 0 and at most 1."""

    # There are no `neutral` options: it contributes to no hook, and a share of 0 would be no move.
    formula: ClassVar[str] = "π_ref ← share·π + (1 - share)·π_ref every N steps"
    source: ClassVar[str] = "arXiv 2404.09656 (TR-DPO); TRL `sync_ref_model`"
    use_when: ClassVar[str] = "The KL term should slow the policy down, not tie it to where it began."

    def __post_init__(self) -> None:
        require_count("every", self.every)
        require("share", self.share, 0, 1, open_low=True)

    def recipe_mistakes(self, recipe: Recipe) -> list[str]:
        return reference_mistakes(recipe)

    @hookimpl
    def step_ended(self, step: int, control: Control) -> None:
        if (step + 1) % self.every == 0:
            control.sync_reference(self.share)
