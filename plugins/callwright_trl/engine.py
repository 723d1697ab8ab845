"""The engine `trl`, found through its entry point; listing and checking plugins do not load torch for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from callwright.types import CallwrightError
from packaging.version import Version

if TYPE_CHECKING:
    from callwright.display import Display
    from callwright.recipe import Components, Recipe
    from callwright.run import RunResult

LOWEST, BELOW = "1.0", "1.17"
"""TRL's versions that this engine works with, from the one on and below the other; tests run 1.0.0 and 1.16.0."""


@dataclass
class TrlEngine:
    """Trains inside TRL's GRPOTrainer, in as many processes as `accelerate launch` starts.

    Every hook acts as in the local engine, on the whole step's completions; accelerate spreads the model's copies
    (DDP) or parts (FSDP2, DeepSpeed) over the processes. See docs/scaling.md.
    """

    def train(self, recipe: Recipe, components: Components, display: Display, resume: bool = False) -> RunResult:
        require_trl()
        from callwright_trl.run import TrlRun

        run = TrlRun(recipe, components, display, resume)
        try:
            return run.train()
        finally:
            run.close()


def require_trl() -> None:
    """Raises CallwrightError where TRL is missing or of another version than this engine knows."""
    try:
        installed = version("trl")
    except PackageNotFoundError as error:
        raise CallwrightError("engine: trl needs TRL, which is not installed: pip install 'callwright[trl]'") from error
    if not Version(LOWEST) <= Version(installed) < Version(BELOW):
        raise CallwrightError(
            f"engine: trl is made for TRL {LOWEST} or later, below {BELOW}, and {installed} is installed:"
            f" pip install 'trl>={LOWEST},<{BELOW}', or take engine: local"
        )
