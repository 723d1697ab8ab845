"""The local engine and the local sampler, found like every plugin through their entry points; listing and checking do
not load torch for them."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from callwright.types import CallwrightError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from callwright.display import Display
    from callwright.packing import Policy
    from callwright.recipe import Components, Recipe
    from callwright.run import RunResult
    from callwright.sampling import Generation, GenerationRequest


@dataclass
class LocalEngine:
    """Trains in this process, on a CPU or one GPU."""

    def train(self, recipe: Recipe, components: Components, display: Display, resume: bool = False) -> RunResult:
        from callwright.run import train

        if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            raise CallwrightError(
                f"engine: local trains in one process, and {processes} were started: write engine=trl, or start one"
            )
        return train(recipe, components, display, resume)


@dataclass
class LocalSampler:
    """Draws completions from the model that is trained, in this process."""

    def start(self, policy: Policy, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
        self.policy, self.tokenizer = policy, tokenizer

    def weights_changed(self) -> None:
        """It is the same model."""

    def synchronise(self) -> None:
        """It is the same model."""

    def generate(self, request: GenerationRequest) -> Generation:
        from callwright.sampling import generate

        self.policy.model.eval()
        return generate(self.policy, self.tokenizer, **{f.name: getattr(request, f.name) for f in fields(request)})

    def close(self) -> None:
        """Nothing is kept."""
