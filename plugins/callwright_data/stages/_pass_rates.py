"""How often a model solves a row: completions at a temperature, judged by the recipe's rewards, kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callwright import CallwrightError, Rollouts, Task
from callwright.locate import local_folder, resolve
from callwright.pipeline.context import StageContext
from callwright.pipeline.rows import to_row
from callwright.scoring import Scorer
from callwright.types import JSON

from callwright_data.answer_cache import AnswerCache, answer_key
from callwright_data.stages._seeded_choice import seeded_number

if TYPE_CHECKING:
    from callwright.models import LoadedModel
    from callwright.packing import Policy
    from callwright.sampling import ProcessLogits
    from transformers import PreTrainedTokenizerBase

_FORMAT = 1
"""Part of every key. Raise it when the same settings give other results."""
_SAMPLE = 1 << 20
"""Bytes that are looked at in the beginning, the middle and the end of a file of weights."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn."""

    samples: int
    temperature: float
    max_new_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row's completions."""

    passed: int
    """To which every reward that judged them gave 1."""
    judged: int
    """On which some reward gave a verdict, and none failed."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A row that can be asked: its tokens, and the key of its outcome."""

    task: Task
    ids: list[int]
    key: str


class PassRates:
    """Outcomes of rows. The model is loaded when the first one is not known yet.

    Numbers are drawn for each row by itself, from the seed and the tokens of its prompt.
    """

    def __init__(self, context: StageContext, model: str | None, sampling: Sampling) -> None:
        self.context, self.sampling = context, sampling
        recipe, components = context.recipe, context.components
        self.model = recipe.model if model is None else recipe.model.model_copy(update={"name": model})
        self.dialect = components.dialect
        self.judging = [reward.name for reward in components.rewards if not reward.part.watched]
        # A reward judges for itself here: what it waits for in a sum is no matter.
        self._scorer = Scorer([replace(reward, after=None) for reward in components.rewards])
        self._cache = AnswerCache(context.cache / "pass_rates.sqlite")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        from callwright.models import load_tokenizer  # takes a second, and transformers

        return load_tokenizer(self.model.name, notify=self.context.note)

    @cached_property
    def longest(self) -> int | None:
        """Tokens of the longest prompt that fits into the model's context, with the completion."""
        from callwright.models import context_length

        length = context_length(self.model.name, notify=self.context.note)
        return None if length is None else length - self.sampling.max_new_tokens

    @cached_property
    def _surroundings(self) -> JSON:
        """All that outcomes depend on, beside the row."""
        recipe, components = self.context.recipe.model_dump(mode="json"), self.context.components
        plugins = [asdict(origin) for origin in components.origins if origin.kind in ("dialect", "reward")]
        model = [model_identity(self.model.name), self.model.dtype, self.model.precision, self.model.packing]
        return [_FORMAT, model, asdict(self.sampling), recipe["dialect"], recipe["rewards"], plugins]

    def prompt(self, task: Task) -> Prompt:
        """The row's prompt. Raises whatever dialect, chat template and tokenizer do for a row that they cannot take."""
        from callwright.rollouts import encode_prompt

        ids = encode_prompt(self.tokenizer, self.dialect, task)
        # An earlier measurement is no part of what is measured. Nor is the id: equal rows are asked once.
        meta = {name: value for name, value in task.meta.items() if name != "pass_rate"}
        row = {name: text for name, text in to_row(replace(task, meta=meta)).items() if name != "id"}
        return Prompt(task, ids, answer_key(self._surroundings, ids, row))

    def known(self, prompt: Prompt) -> Outcome | None:
        found = self._cache.get(prompt.key)
        return None if found is None else Outcome(**found)

    def measured(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """Outcomes of rows that were not known, asked together. Each is kept at once, unless a reward failed on it."""
        rollouts = self._sampler.rollouts(prompts)
        rollouts.verdicts, _ = self._scorer.score(rollouts)
        if self._scorer.stop_reason is not None:
            raise CallwrightError(self._scorer.stop_reason)
        from callwright.evaluate import first_reason

        outcomes = []
        for number, prompt in enumerate(prompts):
            rows = range(number * self.sampling.samples, (number + 1) * self.sampling.samples)
            reasons = [first_reason(rollouts, row, self.judging) for row in rows]
            outcome = Outcome(reasons.count("correct"), len(reasons) - reasons.count(None))
            if not any(verdicts[row].failure for verdicts in rollouts.verdicts.values() for row in rows):
                self._cache.put(prompt.key, asdict(outcome))
            outcomes.append(outcome)
        return outcomes

    @cached_property
    def _sampler(self) -> _Sampler:
        return _Sampler(self)

    @contextmanager
    def open(self) -> Iterator[PassRates]:
        try:
            yield self
        finally:
            self._scorer.close()
            self._cache.close()
            for name, (count, first) in self._scorer.failures.items():
                self.context.note(f"reward '{name}' failed on {count} completions. The first time:\n{first}")


class _Sampler:
    """The model, ready to answer."""

    def __init__(self, rates: PassRates) -> None:
        from callwright.models import autocast_dtype, load_model
        from callwright.packing import Policy
        from callwright.rollouts import end_ids

        model, self.rates = rates.model, rates
        loaded: LoadedModel = load_model(model.name, device=model.device, dtype=model.dtype, notify=rates.context.note)
        self.policy: Policy = Policy(loaded.model, packed=model.packing != "padded")
        self.policy.autocast_dtype = autocast_dtype(model.precision, self.policy.device)
        self.ends = end_ids(loaded.tokenizer, loaded.model)
        self._path_chosen = model.packing != "auto"

    def rollouts(self, prompts: Sequence[Prompt]) -> Rollouts:
        """`samples` completions of each prompt, those of one behind each other; parsed, not judged."""
        import torch
        from callwright.rollouts import make_rollouts
        from callwright.sampling import SamplingPlan, choose_path, generate

        sampling, rates = self.rates.sampling, self.rates
        ids = [prompt.ids for prompt in prompts]
        if not self._path_chosen:
            choose_path(self.policy, ids[:2], rates.context.note)
            self._path_chosen = True
        group = torch.arange(len(prompts)).repeat_interleave(sampling.samples)
        plan = SamplingPlan(torch.full((len(group),), sampling.temperature))
        generation = generate(
            self.policy,
            rates.tokenizer,
            ids,
            group,
            plan,
            max_new_tokens=sampling.max_new_tokens,
            end_ids=self.ends,
            stop=rates.dialect.stop,
            generator=torch.Generator(),  # for what is decided already; torch's global one stays as it is
            process_logits=_drawn_by_row(ids, sampling),
        )
        return make_rollouts(
            -1,
            [prompts[number].task for number in group.tolist()],
            group,
            [ids[number] for number in group.tolist()],
            generation,
            plan.temperature,
            tokenizer=rates.tokenizer,
            dialect=rates.dialect,
            ends=self.ends,
        )


def _drawn_by_row(prompts: Sequence[list[int]], sampling: Sampling) -> ProcessLogits:
    """Leaves one token of each row: the one drawn with the row's own random numbers.

    `generate` has one generator for a whole batch, so that a row's completion would depend on which rows are with it.
    """
    import torch

    numbers = []
    for ids in prompts:
        generator = torch.Generator().manual_seed(seeded_number(sampling.seed, json.dumps(ids)))
        shape = (sampling.samples, sampling.max_new_tokens)
        numbers.append(torch.rand(shape, generator=generator, dtype=torch.float64))
    uniform = torch.cat(numbers)

    def process(logits: Any, rows: Any, positions: Any, segments: Any) -> Any:
        cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1:]
        target = uniform[rows.cpu(), positions.cpu()].to(total)[:, None] * total
        # Below the total after rounding too: behind it are only tokens that have no probability.
        target = target.minimum(total.nextafter(torch.zeros_like(total)))
        chosen = torch.searchsorted(cumulative, target, right=True)
        return torch.full_like(logits, -torch.inf).scatter(1, chosen, 0.0)

    return process


# ------------------------------------------------------------------------------------------------------- the model


def model_identity(name: str) -> str:
    """A text that differs for other weights: of local files a hash, of a hub model its revision. Reads a few MiB."""
    found = resolve(name)
    if isinstance(found, str):
        return f"{found} {local_folder(found, lambda text: None, weights=False).name}"
    files = [found] if found.is_file() else sorted(path for path in found.iterdir() if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name if len(files) > 1 else ''} {path.stat().st_size}\n".encode())
        _add(digest, path)
    adapter = found / "adapter_config.json"
    if adapter.is_file():
        base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        digest.update(model_identity(base).encode())
    return digest.hexdigest()


def _add(digest: Any, path: Path) -> None:
    """The file's content; of a long one three samples: training changes all weights, so that these differ too."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in (0, size // 2, max(0, size - _SAMPLE)) if size > 3 * _SAMPLE else (0,):
            file.seek(start)
            digest.update(file.read(_SAMPLE if size > 3 * _SAMPLE else size))
