"""Who answers the questions of an evaluation: a model on this machine, or one behind an endpoint (`endpoint.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from callwright.types import Dialect, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from callwright.packing import Policy
    from callwright.recipe import ModelConfig, Recipe
    from callwright.sampling import Sampler


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said to one task."""

    text: str
    cut_off: bool = False
    """It ended at the limit of tokens."""
    tokens: tuple[int, int] | None = None
    """Of the prompt and of the reply, where they are known."""
    unanswered: str | None = None
    """Why there is no reply, and will be none however often it is asked: the prompt is too long, say."""


class Answerer(Protocol):
    """Answers tasks greedily."""

    def replies(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Reply]]:
        """Each task with its reply, as they finish, in any order. What it loads, it loads when first asked.

        Raises CallwrightError for what concerns no single task, such as an endpoint that cannot be reached.
        """
        ...


@dataclass
class LocalAnswerer:
    """A model on this machine, through whatever the recipe's `rollouts` says draws completions."""

    recipe: Recipe
    """Of it count `model`, `evaluate.batch_size` and `rollouts`."""
    sampler: Sampler
    dialect: Dialect
    max_new_tokens: int
    note: Callable[[str], None]
    warn: Callable[[str], None]

    def replies(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Reply]]:
        """Batches of neighbours in length, so that little of a batch is padding; the shortest first."""
        import torch

        from callwright.models import context_length
        from callwright.rollouts import decode, encode_prompt, end_ids
        from callwright.sampling import GenerationRequest, SamplingPlan

        if not tasks:
            return
        policy, tokenizer = loaded_policy(self.recipe.model, self.dialect, tasks, self.note, self.warn)
        context, ends = context_length(self.recipe.model.name), end_ids(tokenizer, policy.causal_lm)
        fitting: list[tuple[Task, list[int]]] = []
        for task in tasks:
            prompt = encode_prompt(tokenizer, self.dialect, task)
            if context is not None and len(prompt) + self.max_new_tokens > context:
                yield task, Reply("", unanswered=_too_long(len(prompt), self.max_new_tokens, context))
            else:
                fitting.append((task, prompt))
        fitting.sort(key=lambda pair: len(pair[1]))
        at_once = self.recipe.evaluate.batch_size
        try:
            self.sampler.start(policy, tokenizer, self.recipe)
            self.sampler.synchronise()
            for start in range(0, len(fitting), at_once):
                batch = fitting[start : start + at_once]
                request = GenerationRequest(
                    [prompt for _, prompt in batch],
                    torch.arange(len(batch)),
                    SamplingPlan.greedily(len(batch)),
                    self.max_new_tokens,
                    ends,
                    self.dialect.stop,
                )
                generation = self.sampler.generate(request)
                for row, (task, prompt) in enumerate(batch):
                    ids = generation.ids[row][generation.mask[row]].tolist()
                    text = decode(tokenizer, ids, ends)
                    yield task, Reply(text, bool(generation.truncated[row]), (len(prompt), len(ids)))
        finally:
            self.sampler.close()


def _too_long(prompt: int, reply: int, context: int) -> str:
    return f"{prompt} tokens of the prompt and {reply} of the reply do not fit into the model's context of {context}"


def loaded_policy(
    model: ModelConfig,
    dialect: Dialect,
    tasks: Sequence[Task],
    note: Callable[[str], None],
    warn: Callable[[str], None],
) -> tuple[Policy, PreTrainedTokenizerBase]:
    """A model ready to answer, and its tokenizer. The first tasks decide, if the recipe does not, how rows are packed.

    What `model` says about training (LoRA, checkpointing) is not used.
    """
    from callwright.models import autocast_dtype, load_model
    from callwright.packing import Policy
    from callwright.rollouts import encode_prompt
    from callwright.sampling import choose_path

    loaded = load_model(model.name, device=model.device, dtype=model.dtype, notify=note)
    policy = Policy(loaded.model, packed=model.packing != "padded")
    policy.autocast_dtype = autocast_dtype(model.precision, policy.device)
    if tasks and model.packing == "auto":
        choose_path(policy, [encode_prompt(loaded.tokenizer, dialect, task) for task in tasks[:2]], warn)
    return policy, loaded.tokenizer
