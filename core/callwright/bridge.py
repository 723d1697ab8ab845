"""callwright's rewards as reward functions of TRL's `GRPOTrainer`, and tasks as its dataset. TRL is not imported.

rewards = callwright.trl_rewards("recipe.yaml")
GRPOTrainer(
    reward_funcs=rewards,
    args=GRPOConfig(reward_weights=[reward.weight for reward in rewards], ...),
    train_dataset=callwright.trl_dataset(tasks, dialect),
    ...
)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callwright.combine import Combine, Weight, combined
from callwright.light import LightRollouts, group_ids
from callwright.scoring import Named, Scorer
from callwright.trl_rows import completion_text, row_task
from callwright.types import JSON, CallwrightError, Dialect, Task, Verdict

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class TrlReward:
    """One or several rewards of callwright as one reward function of TRL 1.16. Picklable.

    A row that a reward abstains on, or fails on, gets None, which TRL leaves out; under `on_failure: floor` it gets
    the floor, under `stop` the call raises. With `log_metric` and `log_extra`, as TRL gives them, each call logs how
    many rows failed as `NAME/failed`, and the column `NAME/reasons`: per row a JSON list of code, message and span.
    """

    def __init__(
        self,
        rewards: Sequence[Named],
        dialect: Dialect,
        name: str,
        combine: Combine = "sum",
        *,
        recipe: str | None = None,
    ) -> None:
        self.__name__ = name
        self.weight: float = _constant(rewards[0]) if len(rewards) == 1 else 1.0
        """What stands for this function in `GRPOConfig.reward_weights`."""
        self._rewards, self._dialect, self._combine = list(rewards), dialect, combine
        self._recipe = recipe
        self._scorer: Scorer | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._recipe is not None:  # a class out of a file has no module that another process could import
            return _from_recipe, (self._recipe, self.__name__)
        return TrlReward, (self._rewards, self._dialect, self.__name__, self._combine)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        trainer_state: Any = None,
        log_extra: Callable[[str, list[str]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        environments: Any = None,
        **columns: Sequence[Any],
    ) -> list[float | None]:
        """One score per completion. `columns`: those of `trl_dataset`, or any with JSON in `tools` and `answer`."""
        self._scorer = self._scorer or Scorer(self._rewards)
        rollouts = self._rollouts(prompts, completions, completion_ids, columns, trainer_state)
        verdicts, _ = self._scorer.score(rollouts)
        if self._scorer.stop_reason is not None:
            raise CallwrightError(self._scorer.stop_reason)
        for name, column in verdicts.items():
            if log_metric is not None:
                log_metric(f"{name}/failed", float(sum(verdict.failure is not None for verdict in column)))
            if log_extra is not None:
                log_extra(f"{name}/reasons", [_reasons(verdict) for verdict in column])
            if log_metric is not None and len(verdicts) > 1:
                scores = [verdict.score for verdict in column if verdict.score is not None]
                log_metric(f"{name}/mean", sum(scores) / len(scores) if scores else 0.0)
        return self._scores(verdicts, rollouts)

    def _scores(self, verdicts: Mapping[str, list[Verdict]], rollouts: LightRollouts) -> list[float | None]:
        if len(self._rewards) == 1:
            return [None if v.score is None else float(v.score) for v in verdicts[self._rewards[0].name]]
        parts = [reward.part for reward in self._rewards]
        step, groups = rollouts.step, group_ids(rollouts)
        totals = combined(verdicts, parts, self._combine, "none", step=step, groups=groups)
        return [None if total != total else total for total in totals]

    def _rollouts(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None,
        columns: Mapping[str, Sequence[Any]],
        trainer_state: Any,
    ) -> LightRollouts:
        rows = range(len(completions))
        tasks = [row_task(prompts[row], {name: values[row] for name, values in columns.items()}, row) for row in rows]
        texts = [completion_text(completion, self._dialect) for completion in completions]
        parsed = {text: self._dialect.parse(text) for text in set(texts)}
        arrays: dict[str, Any] = {"group_ids": _groups(tasks)}
        if completion_ids is not None:
            arrays |= _padded(completion_ids)
        step = int(getattr(trainer_state, "global_step", 0) or 0)
        return LightRollouts(step=step, tasks=tasks, texts=texts, parses=[parsed[t] for t in texts], arrays=arrays)


def trl_rewards(recipe: str | Path, overrides: Sequence[str] = ()) -> list[TrlReward]:
    """The rewards of a recipe for `GRPOTrainer(reward_funcs=...)`, named as in the recipe.

    With `combine: sum` there is one function per reward, and `[reward.weight for reward in rewards]` are the weights.
    `all` and `gate` cannot be said in TRL's weights: there the list holds one function, `reward`, that gives the
    combined reward and logs each reward's mean. `normalise: group` is TRL's own
    `multi_objective_aggregation="normalize_then_sum"`.

    Raises `RecipeError` with every mistake, and CallwrightError for a weight with a schedule, which TRL does not have.
    """
    from callwright.recipe import build, load_recipe

    settings = load_recipe(Path(recipe), overrides)
    components = build(settings)
    source = settings.to_yaml()
    rewards, dialect = components.rewards, components.dialect
    for reward in rewards:
        _constant(reward)
    if settings.rewards.combine == "sum" or len(rewards) == 1:
        return [TrlReward([replace(r, after=None)], dialect, r.name, recipe=source) for r in rewards]
    return [TrlReward(rewards, dialect, "reward", settings.rewards.combine, recipe=source)]


def trl_reward(reward: object, dialect: Dialect, *, name: str | None = None, weight: float = 1.0) -> TrlReward:
    """A single reward, such as `AstMatch()`, for `GRPOTrainer(reward_funcs=...)`.

    name: in TRL's metrics; default: the class's. dialect: how the completions are read.
    """
    name = name or type(reward).__name__
    return TrlReward([Named(name, reward, "reward", weight)], dialect, name)


def trl_dataset(
    tasks: Sequence[Task], dialect: Dialect, *, tokenizer: PreTrainedTokenizerBase | None = None
) -> Dataset:
    """Tasks as a `datasets.Dataset` with the columns that our rewards read.

    Columns: `prompt` (messages), and `task`, `messages`, `tools`, `answer` and `meta`, which hold JSON as text: Arrow
    would give every row the keys of all others, with None in them.

    tokenizer: needed for dialects that hand tools to the model's chat template, since TRL has no tools per row; the
    prompts are then texts.

    Raises CallwrightError if such a dialect comes without a tokenizer.
    """
    from datasets import Dataset

    return Dataset.from_list([{"prompt": _prompt(task, dialect, tokenizer), **columns_of(task)} for task in tasks])


def columns_of(task: Task) -> dict[str, str | None]:
    """The task as columns of text."""
    return {
        "task": task.id,
        "messages": _json(list(task.messages)),
        "tools": _json([tool.to_json() for tool in task.tools]),
        "answer": None if task.answer is None else _json(json.loads(task.answer.to_json())),
        "meta": _json(dict(task.meta)),
    }


def _json(value: JSON) -> str:
    return json.dumps(value)  # ASCII only: Arrow stores no lone surrogates


def _prompt(task: Task, dialect: Dialect, tokenizer: PreTrainedTokenizerBase | None) -> Any:
    prompt = dialect.prompt(task)
    if tokenizer is not None:
        return tokenizer.apply_chat_template(
            prompt.messages,
            tools=prompt.tools,  # type: ignore[arg-type] # a list is invariant; the template takes any schema
            add_generation_prompt=True,
            tokenize=False,
        )
    if prompt.tools is not None:
        raise CallwrightError(
            f"the dialect {type(dialect).__name__} hands tools to the model's chat template, and TRL has no tools per"
            " row; write trl_dataset(..., tokenizer=tokenizer)"
        )
    return [{"role": str(m["role"]), "content": str(m["content"])} for m in prompt.messages]


def _from_recipe(text: str, name: str) -> TrlReward:
    """In another process: the function of that name, from the recipe's text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return next(reward for reward in trl_rewards(path) if reward.__name__ == name)


def _constant(reward: Named) -> float:
    if isinstance(reward.weight, Weight):
        raise CallwrightError(f"reward '{reward.name}': TRL's weights do not change over the steps; give it a number")
    return reward.weight


def _reasons(verdict: Verdict) -> str:
    return _json([{"code": str(r.code), "message": r.message, "span": r.span} for r in verdict.reasons])


def _groups(tasks: Sequence[Task]) -> list[int]:
    """Rows of one task form a group; TRL puts them side by side, and a process sees only its own slice."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(task.id, len(numbers)) for task in tasks]


def _padded(completion_ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    import numpy

    lengths = [len(ids) for ids in completion_ids]
    mask = numpy.arange(max(lengths, default=0))[None, :] < numpy.asarray(lengths)[:, None]
    tokens = numpy.zeros(mask.shape, dtype=numpy.int64)
    tokens[mask] = [token for ids in completion_ids for token in ids]
    return {"completion_ids": tokens, "mask": mask}
