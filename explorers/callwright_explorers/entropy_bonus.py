"""Explorer `entropy_bonus`: the loss rewards uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright import MicroBatch, Need, hookimpl

from callwright_explorers._coefficient import Coefficient, step_mean
from callwright_explorers._scope import SEGMENTS, Scope

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class EntropyBonus(Coefficient):
    """Subtract the policy's mean entropy from the loss, so that the update keeps choices open.

    loss -= c(s) * mean over the step's tokens in `scope` of H_it, with H_it (n, T) the entropy in nats of the policy
    as it is now at token t of row i, over the whole vocabulary at the row's temperature. The gradient flows through
    H. The mean is over tokens, whatever `train.aggregation`, so that the coefficient means the same in every recipe
    and scope; TRL's `entropy_coef` does the same (checked: loss and gradient agree). verl's `entropy_coeff` follows
    the aggregation, which is the same under `token`.

    c(s) is `coefficient`, or goes to `end` by a linear or cosine schedule over `steps` steps. 0.001 is a common
    choice; TRL and verl leave the bonus out by default.

    Raises ValueError for a coefficient below 0, an unknown scope, and options that do not fit the schedule.
    """

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    scope: Scope = "all"
    """Whose entropy counts: tokens inside the thinking tags, inside calls, names of functions and arguments, values of
    arguments, or all."""

    needs: ClassVar[tuple[Need, ...]] = (Need.ENTROPY_GRADIENT,)
    neutral: ClassVar[dict[str, Any]] = {"coefficient": 0.0, "schedule": "constant", "end": None, "steps": None}
    formula: ClassVar[str] = "L -= c(s) · mean of H over the tokens in scope, with a gradient"
    source: ClassVar[str] = "TRL `entropy_coef`, verl `entropy_coeff`"
    use_when: ClassVar[str] = "Entropy falls too fast, and a constant push against it is enough."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scope not in SEGMENTS:
            raise ValueError(f"scope must be one of {', '.join(SEGMENTS)}, not {self.scope!r}")

    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        """`entropy_bonus`, with the scope behind a slash unless it is all tokens."""
        name = "entropy_bonus" if self.scope == "all" else f"entropy_bonus/{self.scope}"
        return {name: -self.at(batch.rollouts.step) * step_mean(batch, batch.entropy, self.scope)}
