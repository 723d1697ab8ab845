"""A policy that is a table: for every task, one number per reply. With it the real loop trains in milliseconds.

This module imports torch.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from callwright import grpo
from callwright.data import Deck
from callwright.display import SilentDisplay
from callwright.hooks import Hooks, Named
from callwright.loop import Learner
from callwright.packing import Policy
from callwright.recipe import Recipe
from callwright.testing.mutations import completion_near_misses
from callwright.testing.scoring import gold_text, plugin
from callwright.testing.toys import fixed_tasks
from callwright.types import Dialect, Task

END = 0
"""The token that ends a completion."""


def toy_tasks() -> list[Task]:
    """Ten tasks with answers: one call, several, equal ones, none, and every type of argument."""
    return fixed_tasks()


class Table(nn.Module):
    """Next-token logits (V, V) by the token before: the whole model."""

    def __init__(self, size: int, replies: range, tasks: range) -> None:
        super().__init__()
        logits = torch.full((size, size), -1e4)  # rows: the token before; what may follow is above that
        logits[tasks.start : tasks.stop, replies.start : replies.stop] = 0.0
        logits[replies.start : replies.stop, END] = 0.0
        logits[END, END] = 0.0
        self.weight = nn.Parameter(logits)


class TablePolicy(Policy):
    """A policy whose completions are one of given replies, drawn from a softmax of its own for every task.

    Tokens: 0 ends a completion, 1 to R are the replies, the next ones stand for the tasks: a task's prompt is its
    token. All that the loop does with a policy it does with this one: draw, score, take gradients.
    """

    def __init__(self, replies: int, tasks: int) -> None:
        table = Table(1 + replies + tasks, range(1, 1 + replies), range(1 + replies, 1 + replies + tasks))
        super().__init__(table, packed=False)
        table.get_output_embeddings = lambda: table  # type: ignore[assignment] # its weight tells the vocabulary's size
        self.first_task = 1 + replies

    @property
    def plain_attention(self) -> str:
        return "none"

    def hidden(self, inputs: dict[str, Tensor], implementation: str, **keywords: Any) -> Any:
        """A state is the logits of what follows the token."""
        return SimpleNamespace(last_hidden_state=nn.functional.embedding(inputs["input_ids"], self.model.weight))

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def probabilities(self, task: int) -> Tensor:
        """(R,) of the replies to the task with this number."""
        return self.model.weight[self.first_task + task, 1 : self.first_task].detach().softmax(0)


class ReplyTokenizer:
    """Every reply is one token."""

    eos_token_id = END

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies = ["", *replies]

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(self.replies[token] for token in ids if token < len(self.replies))


def make_bandit(
    reward: object,
    *explorers: object,
    tasks: Sequence[Task] | None = None,
    replies: Sequence[str] | None = None,
    dialect: Dialect | str = "python_calls",
    combine: str = "sum",
    seed: int = 0,
    **train: Any,
) -> Learner:
    """The real `Learner` around a `TablePolicy`; `learner.step(0)` trains.

    tasks: default the first four of `toy_tasks()`. replies: what a completion may be; default: the right reply of every
    task and its first near miss. train: as under `train` in a recipe; default: all tasks in a step, groups of 8,
    learning rate 0.5.

    `learner.policy.probabilities(i)` are those of the replies to task i, `learner.tokenizer.replies[1:]` the replies.
    """
    found = plugin("dialect", dialect) if isinstance(dialect, str) else dialect
    rows = toy_tasks()[:4] if tasks is None else list(tasks)
    texts = list(dict.fromkeys(_replies(found, rows) if replies is None else replies))
    settings = {"prompts_per_step": len(rows), "group_size": 8, "max_new_tokens": 2, "learning_rate": 0.5, **train}
    recipe = Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": {"use": "unused"},
            "data": {"source": {"use": "unused"}},
            "rewards": {"combine": combine, "use": [{"use": "unused"}]},
            "train": settings,
        }
    )
    shape = recipe.train
    policy = TablePolicy(len(texts), len(rows))
    named = [Named("reward", reward, "reward", place="rewards.use.0")]
    named += [Named(f"{type(e).__name__}-{i}", e, "explorer", place=f"explore.{i}") for i, e in enumerate(explorers)]
    defaults = grpo.Defaults(shape.advantage_scale, shape.clip_low, shape.clip_high, shape.kl)
    return Learner(
        recipe=recipe,
        hooks=Hooks(named, defaults, recipe.rewards.combine),
        dialect=found,
        policy=policy,
        tokenizer=ReplyTokenizer(texts),  # type: ignore[arg-type] # what the loop asks of one
        optimizer=torch.optim.AdamW(policy.model.parameters(), lr=shape.learning_rate, weight_decay=0.0),
        deck=Deck(rows, [array("l", [policy.first_task + i]) for i in range(len(rows))], seed),
        ends=[END],
        display=SilentDisplay(),
        reference=_frozen(TablePolicy(len(texts), len(rows))),
        generator=torch.Generator().manual_seed(seed),
    )


def _frozen(policy: TablePolicy) -> TablePolicy:
    policy.model.requires_grad_(False)
    return policy


def _replies(dialect: Dialect, tasks: Sequence[Task]) -> list[str]:
    gold = [gold_text(dialect, task) for task in tasks]
    return [*gold, *(completion_near_misses(dialect, task)[0].text for task in tasks)]
