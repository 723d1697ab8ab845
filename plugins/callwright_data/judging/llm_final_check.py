"""The last stage of the paper's data preparation: a judge reads once more what is left."""

from __future__ import annotations

from dataclasses import dataclass

from callwright_data.judging.judge import JudgeStage


@dataclass
class LlmFinalCheck(JudgeStage):
    """A language model judges each answer a last time, after the stages by rule; wrong ones are dropped.

    The third stage of the figure in FunRL's first version (arXiv 2508.05118v1): nothing is corrected any more. Rows
    without an answer are kept as they are. Codes: `JudgeCode`, but never `corrected_answer`.
    """

    @property
    def corrections(self) -> int:
        return 0
