"""callwright: train language models to call functions with GRPO, where every reward, exploration strategy, data
stage, output dialect and engine is a plugin."""

from callwright.hookspecs import hookimpl
from callwright.types import (
    Answer,
    Argument,
    Call,
    CallwrightError,
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

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Argument",
    "Call",
    "CallwrightError",
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
    "Rollouts",
    "RowError",
    "Segment",
    "Source",
    "Stage",
    "Stateful",
    "Task",
    "Tool",
    "Verdict",
    "hookimpl",
]
