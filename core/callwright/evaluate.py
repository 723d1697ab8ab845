"""Greedy evaluation: which share of tasks a model gets right, and why it fails at the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase

from callwright.display import Display
from callwright.hooks import Hooks, Named
from callwright.packing import Policy
from callwright.recipe import ModelConfig
from callwright.rollouts import encode_prompt, end_ids, make_rollouts
from callwright.sampling import SamplingPlan, generate
from callwright.types import JSON, CallwrightError, Dialect, Rollouts, Task, Verdict

if TYPE_CHECKING:
    from callwright.answering import Answerer
    from callwright.recipe import Components, Recipe


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Greedy results over a set of tasks."""

    accuracy: float
    """Share of the rows that a reward judged in which every judging reward gave 1; in [0, 1]. Rewards with weight 0
    judge nothing."""
    rows: int
    """Rows that a reward judged."""
    reasons: dict[str, int]
    """Rows by the first reason of the first reward that did not give 1; "correct" for the others."""
    by_category: dict[str, tuple[int, float]]
    """Rows and accuracy by `task.meta["category"]`, where tasks have one."""
    left_out: int = 0
    """Rows without a verdict: every reward abstained, or one failed, or the prompt does not fit the model's context."""
    rows_correct: dict[str, bool] = field(default_factory=dict)
    """By task id, whether a judged row is right: two models that answered the same rows can be compared row by row."""

    def to_json(self) -> dict[str, JSON]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, JSON]) -> EvalResult:
        by_category = {name: (rows, accuracy) for name, (rows, accuracy) in content["by_category"].items()}
        return cls(**{**content, "by_category": by_category})


Outcome = tuple[Task, str | None]
"""A task and why its answer is not right: "correct" where it is, None where no reward judged it."""


def evaluate(
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    dialect: Dialect,
    hooks: Hooks,
    tasks: Sequence[Task],
    *,
    max_new_tokens: int,
    batch_size: int,
    display: Display,
    phase: str = "evaluate",
    context: int | None = None,
) -> list[Outcome]:
    """Answer every task greedily; `result_of` makes a result of the outcomes.

    context: prompts that do not fit into so many tokens have no outcome but None.
    """
    ends = end_ids(tokenizer, policy.causal_lm)
    prompts = [encode_prompt(tokenizer, dialect, task) for task in tasks]
    fitting = [i for i, ids in enumerate(prompts) if context is None or len(ids) + max_new_tokens <= context]
    # Neighbours in length share a batch, so that little of it is padding.
    fitting.sort(key=lambda i: len(prompts[i]))
    outcomes: list[Outcome] = [(tasks[i], None) for i in {*range(len(tasks))}.difference(fitting)]
    display.phase(phase, 0, len(tasks))
    for start in range(0, len(fitting), batch_size):
        batch = fitting[start : start + batch_size]
        group = torch.arange(len(batch))
        rows = [prompts[i] for i in batch]
        plan = SamplingPlan.greedily(len(batch))
        generation = generate(
            policy, tokenizer, rows, group, plan, max_new_tokens=max_new_tokens, end_ids=ends, stop=dialect.stop
        )
        rollouts = make_rollouts(
            -1,
            [tasks[i] for i in batch],
            group,
            rows,
            generation,
            plan.temperature,
            tokenizer=tokenizer,
            dialect=dialect,
            ends=ends,
        )
        hooks.score(rollouts)
        outcomes += [(task, first_reason(rollouts, row, hooks.counted)) for row, task in enumerate(rollouts.tasks)]
        display.phase(phase, len(outcomes), len(tasks))
    return outcomes


def first_reason(rollouts: Rollouts, row: int, rewards: Sequence[str]) -> str | None:
    """Why the row is not right: the first reason of the first of the `rewards` below 1. "correct" if there is none;
    None if no reward judged the row, or one failed."""
    return _first_reason([rollouts.verdicts[name][row] for name in rewards])


def _first_reason(verdicts: Sequence[Verdict]) -> str | None:
    scored = [v for v in verdicts if v.score is not None]
    if not scored or any(v.failure is not None for v in verdicts):
        return None
    for verdict in scored:
        if verdict.score != 1.0:
            code = str(verdict.reasons[0].code) if verdict.reasons else "no reason given"
            return code if code != "correct" else f"correct, yet scored {verdict.score:g}"
    return "correct"


def result_of(outcomes: Sequence[Outcome]) -> EvalResult:
    """The result of an evaluation. Raises CallwrightError where no task was judged."""
    judged = [(task, reason) for task, reason in outcomes if reason is not None]
    if not judged:
        raise CallwrightError(
            "no row could be evaluated: every reward abstained or failed on every row, or no prompt fits the model's"
            " context; look at the rewards and at the tasks' answers"
        )
    by_category: dict[str, list[bool]] = {}
    for task, reason in judged:
        if (category := task.meta.get("category")) is not None:
            by_category.setdefault(str(category), []).append(reason == "correct")
    right = sum(reason == "correct" for _, reason in judged)
    return EvalResult(
        accuracy=right / len(judged),
        rows=len(judged),
        reasons=dict(Counter(str(reason) for _, reason in judged).most_common()),
        by_category={name: (len(hits), sum(hits) / len(hits)) for name, hits in sorted(by_category.items())},
        left_out=len(outcomes) - len(judged),
        rows_correct={task.id: reason == "correct" for task, reason in sorted(judged, key=lambda pair: pair[0].id)},
    )


def evaluate_model(
    model: ModelConfig,
    dialect: Dialect,
    rewards: Sequence[Named],
    tasks: Sequence[Task],
    *,
    max_new_tokens: int,
    batch_size: int,
    display: Display,
) -> EvalResult:
    """Load a model and evaluate it. What `model` says about training (LoRA, checkpointing) is not used."""
    from callwright.answering import loaded_policy
    from callwright.grpo import Defaults
    from callwright.models import context_length

    policy, tokenizer = loaded_policy(model, dialect, tasks, display.note, display.warn)
    # A reward judges for itself here: what it waits for in a sum is no matter.
    hooks = Hooks([replace(r, after=None) for r in rewards], Defaults("group", 0.2, 0.2, 0.0), "all")
    try:
        outcomes = evaluate(
            policy,
            tokenizer,
            dialect,
            hooks,
            tasks,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            display=display,
            context=context_length(model.name),
        )
    finally:
        hooks.close()
    for name, (count, first) in hooks.failures.items():
        display.warn(f"reward '{name}' failed on {count} rows, which have no verdict. The first time:\n{first}")
    if hooks.stop_reason is not None:
        raise CallwrightError(hooks.stop_reason)
    return result_of(outcomes)


def evaluate_answers(
    answerer: Answerer, tasks: Sequence[Task], recipe: Recipe, components: Components, display: Display
) -> EvalResult:
    """Let whoever it is answer every task, and count. Rewards see the replies' texts, as in `callwright score`: one
    that asks for tokens or tensors fails. Tasks without a reply are left out."""
    from callwright.score import score_rows
    from callwright.score_rows import Row

    phase = "evaluate"
    rows: list[Row] = []
    outcomes: list[tuple[Task, str | None]] = []
    display.phase(phase, 0, len(tasks))
    for done, (task, reply) in enumerate(answerer.replies(tasks), 1):
        if reply.unanswered is None:
            rows.append(Row(done, task, reply.text, task.id, truncated=reply.cut_off))
        else:
            outcomes.append((task, None))
        display.phase(phase, done, len(tasks))
    judging = [reward.name for reward in components.rewards if not reward.part.watched]
    failures: dict[str, list[str]] = {}
    scored = score_rows(rows, recipe, components, lambda done, of: display.phase("score", done, of)) if rows else []
    for one in scored:
        outcomes.append((one.row.task, _first_reason([one.verdicts[name] for name in judging])))
        for name, verdict in one.verdicts.items():
            if verdict.failure is not None:
                failures.setdefault(name, []).append(verdict.failure)
    for name, texts in failures.items():
        display.warn(f"reward '{name}' failed on {len(texts)} rows, which have no verdict. The first time:\n{texts[0]}")
    return result_of(outcomes)
