"""Explorer `gspo`: one ratio for the whole completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from callwright import MicroBatch, hookimpl

from callwright_explorers._clipping import Clipped, log_ratio, row_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Gspo(Clipped):
    """The clipped surrogate with the geometric mean of a completion's ratios in the place of each token's ratio.

        s_i  = exp(mean over the row's tokens of (log pi - log pi_old))                       (n, 1)
        L_it = -min(s A, clip(s, 1 - clip_low, 1 + clip_high) A)                              (n, T)
        level `token`:  s_it = sg(s_i) exp(log pi - sg(log pi)), the same number, in its place

    With `sequence` every token of the row has the gradient of s_i; with `token`, GSPO-token, each has its own, so that
    advantages that differ by token reach the tokens they belong to. Where a row has one advantage, and one weight, both
    have the same loss and the same gradient. sg lets no gradient through.

    Source: arXiv 2507.18071, with a range of 3e-4 and 4e-4, as the mean of many tokens moves little. The paper averages
    over completions: use `train.aggregation: sequence`. `sequence` is TRL's `importance_sampling_level`, `token` is
    verl's `gspo`. The paper's own text was not checked; the range is from descriptions of it.

    In the first pass over a step s is 1, and the gradient GRPO's.

    Raises ValueError for an unknown level, and for a range outside `clip_low` 0 to 1, `clip_high` at least 0.
    """

    clip_low: float = 3e-4
    """The ratio is clipped below 1 minus this, 0 to 1."""
    clip_high: float = 4e-4
    """The ratio is clipped above 1 plus this, at least 0."""
    level: Literal["sequence", "token"] = "sequence"
    """Whose gradient a token gets: the completion's, or its own."""

    # No `neutral`: it clips the mean of a row's ratios, which no option turns into each token's own.
    formula: ClassVar[str] = "-min(s·A, clip(s)·A), s = exp(mean_t log(π/π_old))"
    source: ClassVar[str] = "arXiv 2507.18071"
    use_when: ClassVar[str] = (
        "Several passes over a step with long completions or mixtures of experts, where single ratios are noisy."
    )
    zero_without_advantage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level not in ("sequence", "token"):
            raise ValueError(f"level must be 'sequence' or 'token', not {self.level!r}")

    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        import torch  # here, so that listing and checking plugins stay quick
        from callwright import grpo

        mean = row_mean(log_ratio(batch), batch.mask).expand_as(batch.logps)
        if self.level == "token":
            mean = mean.detach() + (batch.logps - batch.logps.detach())
        # The log-ratio of the surrogate is the difference of its first two arguments.
        return grpo.clipped_surrogate(
            mean, torch.zeros_like(mean), batch.advantages.detach(), self.clip_low, self.clip_high
        )
