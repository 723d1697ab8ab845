"""Scores of texts without a model: what a law, and a regression test, needs of a run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from callwright.types import JSON, Call, CallwrightError, Dialect, Rollouts, Task, Verdict


def plugin(kind: str, use: str, **options: JSON) -> Any:
    """The plugin that a recipe's `use` names, built with its options: `plugin("reward", "ast_match")`.

    Raises `CallwrightError` for one that cannot be found or built.
    """
    from callwright.plugins import build_component, find

    return build_component(find(kind, use)[0], options, use)


# ---------------------------------------------------------------------------------------------- right completions


def gold_calls(task: Task) -> list[Call]:
    """The calls that the task's answer wants: of every argument the first value that is accepted."""
    from callwright.testing.python_code import call_of

    if task.answer is None:
        raise CallwrightError(f"task '{task.id}' has no answer, so that nothing is right")
    return [
        call_of(call.name, {name: _first(options[0]) for name, options in call.arguments.items() if options[0] != ""})
        for call in task.answer.calls
    ]


def _first(value: JSON) -> JSON:
    """An accepted value as a model writes it: an accepted dict holds lists of accepted values."""
    if isinstance(value, dict):
        return {key: _first(options[0]) for key, options in value.items()}
    return [_first(inner) for inner in value] if isinstance(value, list) else value


def gold_text(dialect: Dialect, task: Task) -> str:
    """A right completion of the task: it thinks, if the dialect lets it, and makes the calls of the answer.

    Raises `CallwrightError` where the dialect cannot write them.
    """
    return render(dialect, gold_calls(task), thinking_of(task))


def thinking_of(task: Task) -> str:
    """What a right completion thinks: which calls it makes, with their values."""
    wanted = gold_calls(task)
    if not wanted:
        return "No function fits, so I call none."
    said = [" and ".join([f"the {a.name} is {a.value}" for a in call.arguments]) or "no argument" for call in wanted]
    return " ".join(f"I call {call.name}: {text}." for call, text in zip(wanted, said, strict=True))


def takes_thinking(dialect: Dialect) -> bool:
    return "thinking" in inspect.signature(dialect.render).parameters


def render(dialect: Dialect, calls: Sequence[Call], thinking: str) -> str:
    """`dialect.render`, with the thinking if the dialect has a place for it."""
    if takes_thinking(dialect):
        return str(dialect.render(calls, thinking=thinking))  # type: ignore[call-arg] # beyond the protocol
    return dialect.render(calls)


def render_with_any(dialect: Dialect, calls: Sequence[Call], thinking: str) -> str:
    """As `render`, also with a thinking that the dialect would not write: what a policy writes is not asked first."""
    marker = "the thinking goes here"
    return render(dialect, calls, marker).replace(marker, thinking, 1)


# ------------------------------------------------------------------------------------------------------- scores


def rollouts_of(dialect: Dialect, tasks: Task | Sequence[Task], texts: Iterable[str]) -> Rollouts:
    """A step whose completions are the texts. One task for all of them makes one group; else one task per row.

    There is no model: a token is a character and one more ends the turn, segments follow from the parse, and
    log-probabilities and entropies are zero.
    """
    import torch

    from callwright.rollouts import character_segments

    texts = list(texts)
    of_rows = [tasks] * len(texts) if isinstance(tasks, Task) else list(tasks)
    known = [id(task) for task in of_rows]
    lengths = torch.tensor([len(text) + 1 for text in texts], dtype=torch.long)
    width = int(lengths.max()) if texts else 0
    segments = torch.zeros(len(texts), width, dtype=torch.int8)
    parses = [dialect.parse(text) for text in texts]
    for row, parse in enumerate(parses):
        segments[row, : lengths[row]] = torch.tensor([*character_segments(parse), 3], dtype=torch.int8)
    zeros = torch.zeros(len(texts), width)
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    return Rollouts(
        step=0,
        tasks=of_rows,
        group_ids=torch.tensor([known.index(one) for one in known], dtype=torch.long),
        prompt_ids=[[0]] * len(texts),
        texts=texts,
        parses=parses,
        completion_ids=ids,
        mask=torch.arange(width)[None, :] < lengths[:, None],
        behaviour_logps=zeros,
        policy_logps=zeros.clone(),
        entropy=zeros.clone(),
        segments=segments,
        truncated=torch.zeros(len(texts), dtype=torch.bool),
        temperature=torch.ones(len(texts)),
        off_policy=torch.zeros(len(texts), dtype=torch.bool),
    )


class RewardFailed(CallwrightError):
    """A reward that raised, or broke a rule of its hook; the message ends with the traceback."""


class Judge:
    """A reward as a run asks it."""

    def __init__(self, reward: object) -> None:
        from callwright import grpo
        from callwright.hooks import Hooks, Named

        self.hooks = Hooks([Named("reward", reward, "reward")], grpo.Defaults("group", 0.2, 0.2, 0.0), "sum")

    def __call__(self, rollouts: Rollouts) -> list[Verdict]:
        """The verdicts. Raises `RewardFailed` where a run would count a failure."""
        self.hooks.failures.clear()
        self.hooks.score(rollouts)
        verdicts = rollouts.verdicts.pop("reward")
        rollouts.rewards.pop("reward")
        if self.hooks.failures:
            raise RewardFailed(self.hooks.failures["reward"][1])
        return verdicts


def verdicts_of(reward: object, dialect: Dialect, tasks: Task | Sequence[Task], texts: Iterable[str]) -> list[Verdict]:
    """What a reward says of completions, one verdict per text. Raises `RewardFailed` for an exception inside it."""
    return Judge(reward)(rollouts_of(dialect, tasks, texts))


def scores_of(
    reward: object, dialect: Dialect, tasks: Task | Sequence[Task], texts: Iterable[str]
) -> list[float | None]:
    """The scores alone; None where the reward abstained."""
    return [
        None if verdict.score is None else float(verdict.score)
        for verdict in verdicts_of(reward, dialect, tasks, texts)
    ]
