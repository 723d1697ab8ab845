"""Explorer `forced_first`: some completions of a group must begin in another way than the policy would."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from callwright import Task, hookimpl

from callwright_explorers._sampling import ranks

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ForcedFirst:
    """Epsilon-greedy beginnings: with probability epsilon a completion's beginning is given, not drawn.

    Whether row g of its group (g from 0) is forced is a number in [0, 1) made from (step, task's id, g) by SHA-256, and
    below epsilon: the same in a resumed run. A forced row begins

    - token:    with the policy's token of rank g, 0 the likeliest, or the least likely one if there are fewer
    - function: with `template`, in which {name} is the name of one of the task's functions: the k-th forced row of a
      group has function (k + o) mod F of F, with o made from (step, task's id). So a group covers several functions,
      and every one comes first at times. Rows of a task without functions stay free.

    What follows is drawn as always. Forced tokens have the behaviour log-probability 0: nothing else could come. They
    are learned like all others, hence `importance_correction`. The text of `template` is tokenised by itself, so
    that its last token may be one which the model would have joined with what follows. A template must fit the
    dialect: "[{name}(" is python_calls'; with thinking it is, say, "<think></think><answer>[{name}(".

    There is no canonical source; formula and defaults are ours. Raises ValueError for an epsilon outside [0, 1], an
    unknown mode, and a template without {name}.
    """

    epsilon: float = 0.25
    """Share of the completions that are forced, 0 to 1."""
    mode: Literal["token", "function"] = "function"
    template: str = "[{name}("
    """function: how a completion that calls the function {name} begins."""
    _forced: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    formula: ClassVar[str] = "with probability ε row g begins with the g-th likeliest token, or with a call of f_g"
    source: ClassVar[str] = "this project"
    use_when: ClassVar[str] = "All completions of a group begin alike, or never try the function that is right."
    neutral: ClassVar[dict[str, float]] = {"epsilon": 0.0}

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must be at least 0 and at most 1, not {self.epsilon}")
        if self.mode not in ("token", "function"):
            raise ValueError(f"mode must be 'token' or 'function', not {self.mode!r}")
        if "{name}" not in self.template:
            raise ValueError(f"template must hold {{name}}, where the function's name goes, not {self.template!r}")

    @hookimpl
    def sampling(self, step: int, tasks: Sequence[Task], group_ids: Tensor) -> Mapping[str, list[str]] | None:
        rank = ranks(group_ids)[0].tolist()
        forced = [_share(step, task, g) < self.epsilon for task, g in zip(tasks, rank, strict=True)]
        if self.mode == "token":
            self._forced = [g if force else -1 for g, force in zip(rank, forced, strict=True)]
            return None
        texts: list[str] = []
        turns: Counter[int] = Counter()
        for task, group, force in zip(tasks, group_ids.tolist(), forced, strict=True):
            texts.append(self._beginning(step, task, turns[group]) if force else "")
            turns[group] += force
        return {"prefix": texts} if any(texts) else None

    def _beginning(self, step: int, task: Task, turn: int) -> str:
        if not task.tools:
            return ""
        offset = int(_share(step, task) * len(task.tools))
        return self.template.replace("{name}", task.tools[(turn + offset) % len(task.tools)].name)

    @hookimpl(specname="process_logits")
    def strike_out(self, logits: Tensor, rows: Tensor, positions: Tensor) -> Tensor | None:
        """At the start of a forced row, all tokens but one."""
        import torch  # here, so that listing and checking plugins stay quick

        if not self._forced:
            return None
        wanted = torch.tensor(self._forced, device=rows.device)[rows]
        forced = (positions == 0) & (wanted >= 0)
        if not bool(forced.any()):
            return None
        possible = logits.isfinite().sum(1)
        order = logits.argsort(dim=1, descending=True, stable=True)
        token = order.gather(1, wanted.minimum(possible - 1).clamp(min=0)[:, None])
        alone = torch.full_like(logits, -torch.inf).scatter(1, token, logits.gather(1, token))
        return torch.where(forced[:, None], alone, logits)


def _share(step: int, task: Task, *more: int) -> float:
    """A number in [0, 1) that belongs to these."""
    digest = hashlib.sha256(repr((step, task.id, *more)).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
