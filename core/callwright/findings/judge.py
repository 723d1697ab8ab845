"""The run's own rewards, and an independent check of the calls, on completions that have no model behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from callwright.combine import combined
from callwright.findings.finding import Silent
from callwright.findings.record import Completion, Record
from callwright.hooks import Named
from callwright.judging import is_asynchronous
from callwright.plugins import PluginError, build_component, find
from callwright.recipe import Components, Recipe, build, load_recipe
from callwright.score import score_rows
from callwright.score_rows import Row
from callwright.types import CallwrightError, Dialect, Parse, Task, Verdict

SLOW_ROW = 0.05
"""Seconds a row of a reward that is not asked again: a language model may stand behind it, and cost money."""
CHECKS = ({"mode": "strict"}, {"mode": "bfcl"})
"""Options of `ast_match`. Calls that are right in either way are not called wrong."""


Made = TypeVar("Made")


def _or_silent(make: Callable[[], Made]) -> Made:
    try:
        return make()
    except CallwrightError as error:
        raise Silent(f"the run's recipe cannot be built here: {str(error).splitlines()[0]}") from error


@dataclass
class Judge:
    """Made once for a run; what cannot be had raises `Silent` with the reason."""

    record: Record
    _checked: dict[tuple[str, str], bool | None] = field(default_factory=dict)
    _parses: dict[str, Parse] = field(default_factory=dict)
    _gold: dict[str, float] = field(default_factory=dict)

    @cached_property
    def recipe(self) -> Recipe:
        path = self.record.folder / "recipe.resolved.yaml"
        if not path.is_file():
            raise Silent("the run has no recipe.resolved.yaml")
        return _or_silent(lambda: load_recipe(path))

    @cached_property
    def components(self) -> Components:
        return _or_silent(lambda: build(self.recipe))

    @property
    def dialect(self) -> Dialect:
        return self.components.dialect

    def parse(self, text: str) -> Parse:
        if text not in self._parses:
            self._parses[text] = self.dialect.parse(text)
        return self._parses[text]

    @property
    def counted(self) -> list[str]:
        """Names of the rewards that take part in the combined one."""
        return [reward.name for reward in self.components.rewards if not reward.part.watched]

    def totals(self, rows: Sequence[Completion]) -> list[float]:
        """The rewards that the run gave, combined as the recipe says and without what explorers added."""
        parts = [reward.part for reward in self.components.rewards]
        found: list[float] = [math.nan] * len(rows)
        steps: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            steps.setdefault(row.step, []).append(index)
        for step, indices in steps.items():
            verdicts = {part.name: [Verdict(rows[i].scores.get(part.name)) for i in indices] for part in parts}
            combine, groups = self.recipe.rewards.combine, [0] * len(indices)
            values = combined(verdicts, parts, combine, "none", step=step - 1, groups=groups)
            for index, value in zip(indices, values, strict=True):
                found[index] = value
        return found

    def right(self, row: Completion) -> bool | None:
        """Every reward that counts gave 1, which is what evaluation calls right; None where none judged."""
        scores = [row.scores.get(name) for name in self.counted]
        known = [score for score in scores if score is not None]
        return all(score == 1 for score in known) if known else None

    # ------------------------------------------------------------------------------------ the independent check

    def matches(self, rows: Iterable[Completion]) -> list[bool | None]:
        """Whether the calls are those of the task's answer, whatever the rewards say; None where no answer is known."""
        rows = list(rows)
        new = {(row.task.id, row.text): row.task for row in rows if row.task.answer is not None}
        new = {key: task for key, task in new.items() if key not in self._checked}
        if new:
            verdicts = self._match([(task, text) for (_, text), task in new.items()])
            self._checked |= dict(zip(new, verdicts, strict=True))
        return [self._checked.get((row.task.id, row.text)) for row in rows]

    def _match(self, pairs: Sequence[tuple[Task, str]]) -> list[bool | None]:
        found: list[list[float]] = [[] for _ in pairs]
        for options in CHECKS:
            try:
                check = build_component(find("reward", "ast_match")[0], options, "ast_match")
            except PluginError as error:
                raise Silent("no reward `ast_match` is installed, which compares calls with answers") from error
            components = replace(self.components, rewards=[Named("ast_match", check, "reward")])
            for scores, one in zip(found, self._scored(pairs, components), strict=True):
                scores += [] if one["ast_match"].score is None else [one["ast_match"].score]
        return [max(scores) == 1 if scores else None for scores in found]

    def _scored(self, pairs: Sequence[tuple[Task, str]], components: Components) -> list[Mapping[str, Verdict]]:
        """Verdicts of completions that each stand in a group of their own."""
        rows = [Row(i, task, text, str(i), truncated=False) for i, (task, text) in enumerate(pairs)]
        return [one.verdicts for one in score_rows(rows, self.recipe, components, lambda done, of: None)]

    # ------------------------------------------------------------------------------------------ the rewards again

    def require_askable(self, name: str | None = None, by_time: bool = True) -> None:
        """Raises `Silent` where the rewards that count, or the one of this name, should not be asked again.

        by_time: nor those that took long while the run was made.
        """
        rows = sum(line.get("rows", 0.0) for line in self.record.metrics)
        for reward in self.components.rewards:
            spent = sum(line.get(f"seconds/plugin/{reward.name}", 0.0) for line in self.record.metrics)
            if reward.part.watched if name is None else reward.name != name:
                continue
            slow = by_time and spent > SLOW_ROW * max(rows, 1.0)
            if reward.policy.isolate or is_asynchronous(reward.plugin) or slow:
                raise Silent(f"the reward '{reward.name}' is slow or runs elsewhere, and is not asked again")

    def score_again(self, pairs: Sequence[tuple[Task, str]]) -> list[float]:
        """The combined reward of completions without tokens; NaN where a reward fails or none judges."""
        self.require_askable()
        rewards = [reward for reward in self.components.rewards if not reward.part.watched]
        components = replace(self.components, rewards=rewards)
        tasks = [(self.with_meta(task), text) for task, text in pairs]
        try:
            scored = self._scored(tasks, components)
        except CallwrightError as error:
            raise Silent(f"the rewards cannot judge again: {str(error).splitlines()[0]}") from error
        parts = [reward.part for reward in rewards]
        verdicts = {part.name: [one[part.name] for one in scored] for part in parts}
        last = int(self.record.metrics[-1]["step"]) - 1 if self.record.metrics else 0
        groups = [0] * len(scored)
        return combined(verdicts, parts, self.recipe.rewards.combine, "none", step=last, groups=groups)

    def with_meta(self, task: Task) -> Task:
        """With what the run does not record of a task."""
        known = self.split_tasks.get(task.id)
        return task if known is None or task.meta else replace(task, meta=known.meta)

    @cached_property
    def split_tasks(self) -> Mapping[str, Task]:
        """All tasks of the recipe by id; empty where the data is not at hand."""
        from callwright.data import load_split
        from callwright.display import SilentDisplay

        try:
            split = load_split(self.recipe, self.components, SilentDisplay(), without_models=True)
        except Exception:  # the data may be gone, or elsewhere, or wait for a model: readers raise what they like
            return {}
        return {task.id: task for part in (split.train, split.validation, split.held_out) for task in part}

    def gold_totals(self, tasks: Sequence[Task]) -> dict[str, float]:
        """The combined reward of a right completion, by task id; tasks whose own answer does not pass the check, or
        cannot be written in the dialect, are left out."""
        from callwright.findings.golden import right_text

        new = {task.id: task for task in tasks if task.id not in self._gold}
        texts = {name: text for name, task in new.items() if (text := right_text(self.dialect, task)) is not None}
        pairs = [(new[name], text) for name, text in texts.items()]
        if pairs:
            again, matches = self.score_again(pairs), self._match(pairs)
            for name, total, match in zip(texts, again, matches, strict=True):
                if match and not math.isnan(total):
                    self._gold[name] = total
        return {task.id: self._gold[task.id] for task in tasks if task.id in self._gold}
