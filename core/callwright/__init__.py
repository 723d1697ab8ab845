"""callwright: train language models to call functions with GRPO, where every reward, exploration strategy, data
stage, output dialect and engine is a plugin."""

from typing import TYPE_CHECKING, Any

from callwright.hookspecs import hookimpl
from callwright.pipeline.context import StageContext
from callwright.types import (
    Answer,
    Argument,
    Call,
    CallwrightError,
    Corrected,
    Dialect,
    Dropped,
    ExpectedCall,
    MicroBatch,
    Need,
    Parse,
    ParseStatus,
    Prompt,
    Reason,
    ReasonCode,
    Replayed,
    Rollouts,
    RowError,
    Segment,
    Source,
    Stage,
    Stateful,
    Task,
    Tool,
    Verdict,
)

if TYPE_CHECKING:
    from callwright.bridge import trl_dataset, trl_reward, trl_rewards

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The bridge to TRL reads recipes; it is loaded by those who use it."""
    if name in ("trl_dataset", "trl_reward", "trl_rewards"):
        from callwright import bridge

        return getattr(bridge, name)
    raise AttributeError(f"module 'callwright' has no attribute '{name}'")


__all__ = [
    "Answer",
    "Argument",
    "Call",
    "CallwrightError",
    "Corrected",
    "Dialect",
    "Dropped",
    "ExpectedCall",
    "MicroBatch",
    "Need",
    "Parse",
    "ParseStatus",
    "Prompt",
    "Reason",
    "ReasonCode",
    "Replayed",
    "Rollouts",
    "RowError",
    "Segment",
    "Source",
    "Stage",
    "StageContext",
    "Stateful",
    "Task",
    "Tool",
    "Verdict",
    "hookimpl",
    "trl_dataset",
    "trl_reward",
    "trl_rewards",
]
