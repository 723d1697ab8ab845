"""The paper's first stage of data preparation: a judge reads every row and mends what it finds wrong."""

from __future__ import annotations

from dataclasses import dataclass

from callwright_data.judging.judge import JudgeStage


@dataclass
class LlmEvaluate(JudgeStage):
    """A language model judges each answer; a wrong one is corrected and judged again, or the row dropped.

    The first stage of FunRL's data preparation (arXiv 2508.05118, section on data; its judge was GPT-4o). A judge reads
    conversation, tools and answer, and says with a reason whether the answer is right. If not, it gives the calls that
    should be made, which must name known tools and parameters and fit their schemas; they are then judged as the
    answer was. Rows without an answer are kept as they are. Codes: `JudgeCode`.
    """

    attempts: int = 3
    """How often a wrong answer may be corrected. 0 only judges."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attempts < 0:
            raise ValueError(f"attempts should be 0 or more, but is {self.attempts}")

    @property
    def corrections(self) -> int:
        return self.attempts
