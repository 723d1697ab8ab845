"""Rows that are neither too easy nor too hard for a model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar

from callwright import CallwrightError, Dropped, Task
from callwright.pipeline.context import StageContext

from callwright_data.stages._pass_rates import Outcome, PassRates, Prompt, Sampling


class DifficultyCode(StrEnum):
    """Why a row was left out."""

    TOO_EASY = "too_easy"
    TOO_HARD = "too_hard"
    NOT_JUDGED = "not_judged"
    """No reward gave a verdict on any completion: each abstained, or one failed."""
    NO_PROMPT = "no_prompt"
    """Dialect, chat template or tokenizer cannot take the row."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """Prompt and completion do not fit into the model's context."""


@dataclass
class Difficulty:
    """Keeps the rows that a model solves sometimes: their pass rate over some samples lies in a band.

    A row that all completions solve, or none, teaches nothing in GRPO: all advantages of its group are zero (DAPO
    leaves such groups out of every step, arXiv 2503.14476). The rate is that of completions to which every reward of
    the recipe that judges them gives 1, as in evaluation; it goes into `meta["pass_rate"]`, from 0 to 1. It is an
    estimate: at 8 samples a row of true rate 0.5 is seen as 0 or 1 once in 128 times.

    Every row's result is kept on disk at once, by its content, the model's, and all settings: what was interrupted goes
    on where it stopped, and another band costs nothing. Results do not depend on the other rows.
    """

    model: str | None = None
    """Whose pass rate: a name as in the recipe's `model`, which is the default and gives device and number formats."""
    samples: int = 8
    """Completions of each row."""
    temperature: float = 1.0
    """Sampling temperature, above 0; no filters."""
    max_new_tokens: int | None = None
    """Longest completion, in tokens. Default: `train.max_new_tokens`."""
    batch_size: int = 1
    """Rows whose completions are generated together. More is faster on a GPU. Each row still draws by its own random
    numbers, but the rounding of larger products can turn a token, so that the others matter a little."""
    seed: int = 0
    """Draws the completions."""
    low: float = 0.1
    """Least pass rate of a row that is kept, from 0 to 1."""
    high: float = 0.9
    """Greatest pass rate of a row that is kept, from 0 to 1."""

    costly: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("model", "dialect", "rewards", "train")
    _context: StageContext | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"low and high must be from 0 to 1, and low not above high, not {self.low}, {self.high}")

    def prepare(self, context: StageContext) -> None:
        """Loads nothing: the model is loaded for the first row that is not known yet."""
        self._context = context

    def estimate(self, tasks: Sequence[Task]) -> str:
        """Completions, and tokens at most, of the rows that are not known yet. The model's weights are not loaded."""
        rows = known = tokens = 0
        with self._rates().open() as rates:
            for prompt in (self._prompt(rates, task) for task in tasks):
                if isinstance(prompt, Prompt):
                    rows += 1
                    if rates.known(prompt) is not None:
                        known += 1
                    else:
                        tokens += len(prompt.ids)
            completions = (rows - known) * self.samples
            return (
                f"{rows - known:,} of {len(tasks):,} rows to be answered by {rates.model.name}: {completions:,}"
                f" completions ({self.samples} of each), {tokens:,} prompt tokens, at most"
                f" {completions * rates.sampling.max_new_tokens:,} new tokens; {known:,} rows are known already"
            )

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task | Dropped]:
        """Loads a model, unless every row is known. Raises CallwrightError for one that cannot be loaded."""
        with self._rates().open() as rates:
            waiting = iter(tasks)
            while batch := [self._prompt(rates, task) for task in itertools.islice(waiting, self.batch_size)]:
                yield from self._judged(rates, batch)

    def _rates(self) -> PassRates:
        if self._context is None:
            raise CallwrightError("the stage 'difficulty' asks a model: call `prepare(context)` before `apply`")
        most = self.max_new_tokens or self._context.recipe.train.max_new_tokens
        return PassRates(self._context, self.model, Sampling(self.samples, self.temperature, most, self.seed))

    def _prompt(self, rates: PassRates, task: Task) -> Prompt | Dropped:
        rates.tokenizer  # noqa: B018  # a model that cannot be had is no row's fault
        try:
            prompt = rates.prompt(task)
        except Exception as error:  # dialects, templates and tokenizers raise anything for odd rows
            return Dropped(task, DifficultyCode.NO_PROMPT, f"{type(error).__name__}: {error}")
        if rates.longest is not None and len(prompt.ids) > rates.longest:
            message = f"{len(prompt.ids)} tokens, and the model's context leaves {rates.longest} beside the completion"
            return Dropped(task, DifficultyCode.PROMPT_TOO_LONG, message)
        return prompt

    def _judged(self, rates: PassRates, batch: Sequence[Prompt | Dropped]) -> Iterator[Task | Dropped]:
        prompts = {prompt.key: prompt for prompt in batch if isinstance(prompt, Prompt)}
        outcomes = {key: outcome for key, prompt in prompts.items() if (outcome := rates.known(prompt)) is not None}
        missing = [prompt for key, prompt in prompts.items() if key not in outcomes]
        if missing:
            outcomes |= zip((prompt.key for prompt in missing), rates.measured(missing), strict=True)
        for one in batch:
            yield one if isinstance(one, Dropped) else self._sorted(one.task, outcomes[one.key])

    def _sorted(self, task: Task, outcome: Outcome) -> Task | Dropped:
        if not outcome.judged:
            return Dropped(task, DifficultyCode.NOT_JUDGED, f"no reward judged any of {self.samples} completions")
        rate = outcome.passed / outcome.judged
        said = f"pass rate {rate:.3g}, {outcome.passed} of {outcome.judged}"
        if rate < self.low:
            return Dropped(task, DifficultyCode.TOO_HARD, f"{said}, is below {self.low:g}")
        if rate > self.high:
            return Dropped(task, DifficultyCode.TOO_EASY, f"{said}, is above {self.high:g}")
        return task if task.meta.get("pass_rate") == rate else replace(task, meta={**task.meta, "pass_rate": rate})
