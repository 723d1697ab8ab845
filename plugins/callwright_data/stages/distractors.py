"""Look-alike tools beside a row's own, and names that give nothing away."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from callwright import Task, Tool

from callwright_data.stages._look_alikes import LookAlikes, folded, opposite
from callwright_data.stages._renaming import rename
from callwright_data.stages._row_keys import question

WITHIN = 3
"""Of this many times as many look-alikes as are wanted, the likest ones, the seed chooses."""


@dataclass
class Distractors:
    """Adds tools that look like a row's own, renames tools and parameters, and shuffles the tools.

    A row's answer stays right, and the only right one: an added tool has another name than all of the row's, and lacks
    the word by which the question names what a called tool does. Synonyms escape this, as in any data set. Where no
    call should be made, added tools share no telling word with the question. Likeness is that of the words in names and
    descriptions, the rarer the more.

    New names say nothing (`run_task`, `given_value`), so that a model has to read the descriptions; the idea is that of
    Hammer's function masking (arXiv 2410.04587). They replace the old ones in schemas, answer and conversation. A row
    keeps its names where this is not safe: above all where one of them is an ordinary word that a message uses.
    """

    add: int = 2
    """Tools from other rows that a row gets, at most: fewer where the set has no more that are like its own."""
    opposites: bool = False
    """Whether a row also gets one tool made from one that it calls, with the same parameters and a name that says the
    opposite, such as `unlock_door` beside `lock_door`."""
    rename: Literal["none", "tools", "parameters", "both"] = "none"
    """Which names are replaced."""
    share: float = 1.0
    """Of the rows, how many get new names, from 0 to 1."""
    seed: int = 0
    """Chooses tools, rows, names and the order of the tools."""

    laws: ClassVar[dict[str, str]] = {"idempotent": "applied again, it adds further tools and renames what it renamed"}

    def __post_init__(self) -> None:
        if self.add < 0:
            raise ValueError(f"add must be 0 or more, not {self.add}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, not {self.share}")

    def apply(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Goes over the tasks twice."""
        known = LookAlikes(tool for task in tasks for tool in task.tools) if self.add else None
        for task in tasks:
            # By seed and id, so that other rows change a row's names and order no more than its look-alikes.
            choose = random.Random(f"{self.seed}:{task.id!r}")
            tools = [*task.tools, *self._added(task, known, choose)]
            choose.shuffle(tools)
            result = task if tools == list(task.tools) else replace(task, tools=tuple(tools))
            if self.rename != "none" and choose.random() < self.share:
                which = {"tools": self.rename != "parameters", "parameters": self.rename != "tools"}
                result = rename(result, task.tools, choose, **which)
            yield result

    def _added(self, task: Task, known: LookAlikes | None, choose: random.Random) -> list[Tool]:
        asked = question(task)
        names = {call.name for call in task.answer.calls} if task.answer else set()
        called = [tool for tool in task.tools if tool.name in names]
        taken = {folded(str(name)) for name in (*names, *(tool.name for tool in task.tools))}
        added: list[Tool] = []
        if known is not None:
            found = (tool for tool in known.beside(task.tools, called, asked) if folded(tool.name) not in taken)
            likest = [tool for tool, _ in zip(found, range(WITHIN * self.add), strict=False)]
            added = choose.sample(likest, min(self.add, len(likest)))
        if self.opposites:
            taken |= {folded(tool.name) for tool in added}
            made = [one for tool in called if (one := opposite(tool, asked)) and folded(one.name) not in taken]
            added += made and [choose.choice(made)]
        return added
