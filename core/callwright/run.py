"""A whole run of the local engine. `loop.py` has the step; here is what is around it: loading, the run's folder,
evaluation before and after, checkpoints, resuming, interruption."""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy
import torch

from callwright import checkpoint
from callwright.data import Split, load_split, make_deck
from callwright.display import Display
from callwright.evaluate import EvalResult, Outcome, evaluate, result_of
from callwright.files import replacing
from callwright.grpo import Defaults
from callwright.hooks import Hooks
from callwright.loop import Control, Learner, sample_of
from callwright.models import autocast_dtype, context_length, load_model, load_tokenizer
from callwright.packing import Policy
from callwright.recipe import Components, Recipe, RecipeError, differences, load_recipe, may_change, tracker_mistakes
from callwright.rollouts import encode_prompt, end_ids, write_rollouts
from callwright.sampling import choose_path
from callwright.timeline import Timeline
from callwright.trackers.sending import Trackers
from callwright.types import JSON, CallwrightError, Need, Rollouts, Task


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    run: Path
    before: EvalResult | None
    """Greedy, on the held-out rows; None without such rows."""
    after: EvalResult | None
    train_seconds: float
    """Wall time of the steps, over all resumptions; evaluation, loading and checkpoints are not in it."""
    tokens_per_second: float
    """Completion tokens generated and trained on, per second of `train_seconds`."""
    steps: int
    stopped: str | None
    """Why the run ended before `train.steps`; "interrupted" after Ctrl-C."""


def train(recipe: Recipe, components: Components, display: Display, resume: bool) -> RunResult:
    """A whole run. Raises CallwrightError for mistakes, and when the run's folder cannot be written."""
    run = Run(recipe, components, display, resume)
    try:
        return run.train()
    finally:
        run.close()


class Run:
    """A run in this process. Another engine takes it over, and replaces where the model lives, how steps are made and
    how they are saved."""

    def __init__(self, recipe: Recipe, components: Components, display: Display, resume: bool) -> None:
        self.recipe, self.display, self.folder, self.resuming = recipe, display, Path(recipe.run), resume
        self.components = components
        if self.writes and (mistakes := tracker_mistakes(recipe, components)):
            raise RecipeError(mistakes)
        self.split: Split = load_split(recipe, components, display)
        for code, count in self.split.dropped.items():
            display.note(f"{count} rows dropped as {code}")
        train, model = recipe.train, recipe.model
        defaults = Defaults(train.advantage_scale, train.clip_low, train.clip_high, train.kl)
        plugins, rewards = [*components.rewards, *components.explorers], recipe.rewards
        self.hooks = Hooks(plugins, defaults, rewards.combine, rewards.normalise)
        self._prepare_folder(components, resume)

        # Everything about the prompts is found out before the model's weights are read.
        tokenizer = load_tokenizer(model.name, notify=display.note)
        self.context = context_length(model.name, notify=display.note)
        self.dialect = components.dialect
        deck, too_long = make_deck(
            self.split.train,
            lambda task: encode_prompt(tokenizer, self.dialect, task),
            seed=recipe.seed,
            longest=None if self.context is None else self.context - train.max_new_tokens,
            progress=lambda done, total: display.phase("encode prompts", done, total),
        )
        if too_long:
            display.warn(
                f"{too_long} of {len(self.split.train)} training prompts do not fit the model's context: skipped"
            )

        seed_everything(recipe.seed)
        display.note(f"loading {model.name}")
        loaded = load_model(
            model.name,
            device=self.device,
            dtype=model.dtype,
            gradient_checkpointing=model.gradient_checkpointing,
            liger=model.liger,
            lora=model.lora,
            notify=display.note,
        )
        policy = Policy(loaded.model, packed=model.packing != "padded")
        policy.autocast_dtype = autocast_dtype(model.precision, policy.device)
        if model.packing == "auto":
            choose_path(policy, [list(prompt) for prompt in deck.prompts[:2]], display.warn)
        reference = None
        if Need.REF_LOGPS in self.hooks.needs and model.lora is None:
            reference = Policy(_frozen_copy(loaded.model), autocast=policy.autocast_dtype, packed=policy.packed)
        self.learner = self.make_learner(
            recipe=recipe,
            hooks=self.hooks,
            dialect=self.dialect,
            policy=policy,
            tokenizer=loaded.tokenizer,
            optimizer=torch.optim.AdamW(
                [p for p in loaded.model.parameters() if p.requires_grad],
                lr=train.learning_rate,
                betas=(train.adam_beta1, train.adam_beta2),
                weight_decay=train.weight_decay,
                fused=True,
            ),
            deck=deck,
            ends=end_ids(loaded.tokenizer, policy.causal_lm),
            display=display,
            reference=reference,
            generator=torch.Generator().manual_seed(recipe.seed),
            sampler=components.sampler,
            timeline=Timeline(self.folder / "timeline.json" if train.profile and self.writes else None),
        )
        self.control = Control()
        self.first_step = 0
        self.counters: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "bad_steps": 0, "reference_changed": False}
        if resume:
            self._resume()
        named = components.trackers if self.writes else []
        self.trackers = Trackers(self.folder, named, recipe.model_dump(mode="json"), display.warn)
        self.trackers.start(self.first_step)

    @property
    def device(self) -> str:
        """Where the model is loaded to."""
        return self.recipe.model.device

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files."""
        return True

    def make_learner(self, **parts: Any) -> Learner:
        return Learner(**parts)

    def close(self) -> None:
        """End what plugins keep running."""
        self.trackers.finish()
        self.learner.timeline.write()
        self.hooks.close()
        self.components.sampler.close()

    # ------------------------------------------------------------------------------------------------ folder

    def _prepare_folder(self, components: Components, resume: bool) -> None:
        resolved = self.folder / "recipe.resolved.yaml"
        text = self.recipe.to_yaml()
        if resume:
            if not resolved.exists():
                raise CallwrightError(f"there is no run to resume in {self.folder}: leave out --resume to start one")
            _require_same(load_recipe(resolved), self.recipe, self.folder)
        if not self.writes:
            return
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(resolved, text)  # first, as it is what makes the folder a run that can be resumed
            self._write_versions(_versions(components))

    def _write_versions(self, versions: JSON) -> None:
        path = self.folder / "versions.json"
        if self.resuming and path.exists():
            changed = list(differences(json.loads(path.read_text(encoding="utf-8")), versions))
            if changed:
                self.display.warn(
                    f"other versions than when the run was started ({', '.join(changed)}; see {path}): its numbers"
                    " may not be those of a run without interruption"
                )
                return  # the file says what the run began with
        _write(path, json.dumps(versions, indent=2) + "\n")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def state(self, step: int) -> checkpoint.State:
        """What `go_on_from` needs after `step` steps."""
        learner = self.learner
        tensors = {}
        if learner.reference is not None and self.counters["reference_changed"]:
            tensors = dict(learner.reference.model.named_parameters())
        return checkpoint.State(
            step=step,
            data=learner.deck.state_dict(),
            plugins=self.hooks.state_dict(),
            counters=self.counters,
            tensors=tensors,
        )

    def save(self, step: int) -> None:
        """Write a checkpoint after `step` steps."""
        learner = self.learner
        checkpoint.save(
            self.checkpoints,
            self.state(step),
            model=learner.policy.model,
            tokenizer=learner.tokenizer,
            optimizer=learner.optimizer,
            generators={"sampling": learner.generator},
            keep=self.recipe.train.keep_checkpoints,
        )

    def _resume(self) -> None:
        path = checkpoint.latest(self.checkpoints)
        if path is None:
            self.display.note(f"{self.folder} has no checkpoint yet: starting from the beginning")
        else:
            learner = self.learner
            state = checkpoint.load(
                path,
                model=learner.policy.model,
                optimizer=learner.optimizer,
                generators={"sampling": learner.generator},
            )
            self.go_on_from(state)
            self.display.note(f"resuming after step {state.step} from {path}")
        self.forget_later_steps()

    def go_on_from(self, state: checkpoint.State) -> None:
        """Be where the run was when `state` was saved, but for the model, the optimizer and the generators."""
        learner = self.learner
        learner.deck.load_state_dict(state.data)
        self.hooks.load_state_dict(state.plugins)
        self.first_step, self.counters = state.step, dict(state.counters)
        if learner.reference is not None and state.tensors:
            learner.reference.model.load_state_dict(state.tensors, strict=False)
        learner.sampler.weights_changed()

    def forget_later_steps(self) -> None:
        """What was recorded after the checkpoint will be done, and recorded, again."""
        if not self.writes:
            return
        with _writing(self.folder):
            _keep_lines(self.folder / "metrics.jsonl", self.first_step)
            for file in (self.folder / "rollouts").glob("step-*.parquet"):
                if int(file.stem.removeprefix("step-")) > self.first_step:
                    file.unlink()

    def _record(self, step: int, metrics: dict[str, float], rollouts: Rollouts) -> None:
        if not self.writes:
            return
        numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with _writing(self.folder):
            self.learner.timeline.write()
            write_rollouts(rollouts, self.folder / "rollouts" / f"step-{step + 1:06d}.parquet")
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step + 1, **numbers}) + "\n")
        self.trackers.log(step + 1, numbers)

    # -------------------------------------------------------------------------------------------------- run

    def train(self) -> RunResult:
        train, display = self.recipe.train, self.display
        before = self._evaluated_before() if self.resuming else None
        if self.first_step == 0:
            before = before or self._evaluate("evaluate before", self.split.held_out)
            self._write_evaluation(before=before)
            if before is not None and not self.resuming:
                self.trackers.log(0, {"held_out/accuracy": before.accuracy})
            self._stop_if_a_reward_says_so(0)
        display.started(train.steps, self.first_step, self.folder)
        with _interrupts(self.control, display):
            done = self.make_steps(self.first_step)
        self._stop_if_a_reward_says_so(done)
        stopped = self.control.stopped
        after = None
        if stopped == "interrupted":
            display.warn(f"interrupted after step {done}: the same command with --resume goes on from there")
        else:
            after = self._evaluate("evaluate after", self.split.held_out)
            self._write_evaluation(before=before, after=after)
            if after is not None:
                self.trackers.log(done, {"held_out/accuracy": after.accuracy}, on_top=True)
        seconds, tokens = self.counters["seconds"], self.counters["tokens"]
        return RunResult(self.folder, before, after, seconds, tokens / max(seconds, 1e-9), done, stopped)

    def make_steps(self, done: int) -> int:
        """Train from step `done` on, until the end or until somebody stops the run. Returns the steps made so far."""
        while done < self.recipe.train.steps and self.control.stopped is None:
            metrics, rollouts = self.learner.step(done)
            self.end_step(done, metrics, rollouts)
            done += 1
            if self.wants_save(done):
                self.save(done)
        return done

    def end_step(self, step: int, metrics: dict[str, float], rollouts: Rollouts) -> None:
        """All that follows the update: evaluation, the hook `step_ended`, the record, the display."""
        train = self.recipe.train
        self.counters["seconds"] += metrics["seconds"]
        self.counters["tokens"] += int(metrics["tokens"])
        if self._evaluates_at(step):
            result = self._evaluate("evaluate on validation rows", self.split.validation)
            if result is not None:
                metrics["validation_accuracy"] = result.accuracy
        self._count_bad_steps(metrics)
        if self.hooks.stop_reason is not None:
            self.control.stop(self.hooks.stop_reason)
        self.hooks.step_ended(step, metrics, rollouts, self.control)
        self.change_what_was_asked()
        metrics = {**metrics, **self._watched(step)}  # a new dict: a plugin may have kept the other
        self._record(step, metrics, rollouts)
        wants_sample = train.show_every and step % train.show_every == 0
        self.display.step(step, metrics, sample_of(rollouts, step % len(rollouts)) if wants_sample else None)

    def _evaluates_at(self, step: int) -> bool:
        every = self.recipe.train.evaluate_every
        return bool(every) and (step + 1) % every == 0

    def _watched(self, step: int) -> dict[str, float]:
        if not (self.recipe.train.watch_held_out and self._evaluates_at(step)):
            return {}
        result = self._evaluate("watch held-out rows", self.split.held_out)
        return {} if result is None else {"held_out_accuracy": result.accuracy}

    def _count_bad_steps(self, metrics: dict[str, float]) -> None:
        for name, (count, trace) in self.hooks.failures.items():
            if not self.counters.get(f"failed/{name}"):
                self.display.warn(
                    f"reward '{name}' failed on {count} rows; they take no part. The first time:\n{trace}"
                )
            self.counters[f"failed/{name}"] = count
        self.counters["bad_steps"] = self.counters["bad_steps"] + 1 if metrics.get("skipped_update") else 0
        metrics["bad_steps"] = self.counters["bad_steps"]
        if self.counters["bad_steps"] >= self.recipe.train.max_bad_steps:
            self.control.stop(f"{self.counters['bad_steps']} updates in a row were skipped; see the warnings above")

    def _stop_if_a_reward_says_so(self, done: int) -> None:
        """Raise for a reward with `on_failure: stop` that failed; `done` steps are saved."""
        if self.hooks.stop_reason is not None:
            saved = f"the run is saved after step {done}: mend the reward, then --resume goes on from there"
            raise CallwrightError(f"{self.hooks.stop_reason}; {saved if done else 'nothing was trained yet'}")

    def wants_save(self, done: int) -> bool:
        """Whether a checkpoint is due after `done` steps."""
        every = self.recipe.train.checkpoint_every
        due = bool(every) and done % every == 0
        ending = done == self.recipe.train.steps or self.control.stopped is not None
        asked, self.control.wants_save = self.control.wants_save, False
        return due or ending or asked

    @torch.no_grad()
    def change_what_was_asked(self) -> None:
        """What plugins asked for in `step_ended`: another reference, an optimizer without memory."""
        control, learner = self.control, self.learner
        if control.wants_new_optimizer:
            learner.optimizer.state.clear()
        share = control.reference_share
        control.reference_share, control.wants_new_optimizer = 0.0, False
        if not share:
            return
        if learner.reference is None:
            why = "with LoRA the reference is the base model; train all weights, or leave the plugin out"
            if Need.REF_LOGPS not in self.hooks.needs:
                why = "nothing uses one; set train.kl above 0, or leave the plugin out"
            raise CallwrightError(f"a plugin asked to change the reference, but this run has no copy of it: {why}")
        weights = zip(learner.reference.model.parameters(), learner.policy.model.parameters(), strict=True)
        for kept, newest in weights:
            kept.lerp_(newest, share) if share < 1 else kept.copy_(newest)
        self.counters["reference_changed"] = True

    # ------------------------------------------------------------------------------------------- evaluation

    def _evaluate(self, phase: str, tasks: Sequence[Task]) -> EvalResult | None:
        if not tasks:
            return None
        self.learner.policy.model.eval()
        plugins = self.hooks.state_dict()
        with self.learner.timeline.span(phase):
            result = result_of(self.answers(tasks, phase))
        self.hooks.load_state_dict(plugins)  # no plugin learns from an evaluation
        self.hooks.take_metrics()  # and they are not the next step's
        return result

    def answers(self, tasks: Sequence[Task], phase: str) -> list[Outcome]:
        """What becomes of greedy answers to some tasks."""
        settings = self.recipe.evaluate
        return evaluate(
            self.learner.policy,
            self.learner.tokenizer,
            self.dialect,
            self.hooks,
            tasks,
            max_new_tokens=settings.max_new_tokens or self.recipe.train.max_new_tokens,
            batch_size=settings.batch_size,
            display=self.display,
            phase=phase,
            context=self.context,
        )

    def _write_evaluation(self, before: EvalResult | None, after: EvalResult | None = None) -> None:
        if not self.writes:
            return
        content: dict[str, JSON] = {"before": before.to_json() if before else None}
        if after is not None:
            content |= {"after": after.to_json(), "train_seconds": self.counters["seconds"]}
        with _writing(self.folder):
            _write(self.folder / "eval.json", json.dumps(content, indent=2) + "\n")

    def _evaluated_before(self) -> EvalResult | None:
        """The evaluation before training, which a resumed run finds in its folder."""
        path = self.folder / "eval.json"
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return EvalResult.from_json(content["before"]) if content.get("before") else None


# ---------------------------------------------------------------------------------------------------- helpers


def _frozen_copy(model: Any) -> Any:
    return copy.deepcopy(model).requires_grad_(False).eval()


def seed_everything(seed: int) -> None:
    """The global generators too: a plugin may draw from any of them, and checkpoints hold them all."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _keep_lines(path: Path, steps: int) -> None:
    """Drop the metrics of later steps, and a last line that a kill cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= steps:
                kept.append(line + "\n")
        except ValueError:
            continue
    _write(path, "".join(kept))


def _versions(components: Components) -> dict[str, JSON]:
    """What the run depends on: Python, the libraries that compute, and the distribution of every named plugin."""
    libraries: dict[str, str | None] = {}
    for name in ("callwright", "torch", "transformers", "tokenizers", "peft", "pluggy", "numpy"):
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    plugins = [
        {"kind": o.kind, "name": o.name, "distribution": o.distribution, "version": o.version}
        for o in components.origins
    ]
    return {"python": platform.python_version(), "libraries": libraries, "plugins": plugins}


def _require_same(old: Recipe, new: Recipe, folder: Path) -> None:
    found = differences(old.model_dump(mode="json"), new.model_dump(mode="json"))
    changed = [place for place in found if not may_change(place)]
    if changed:
        raise CallwrightError(
            f"the run in {folder} was started with another recipe; these differ: {', '.join(changed)}."
            " Resume with the recipe it was started with, or start over with --fresh"
        )


@contextmanager
def _interrupts(control: Control, display: Display) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM, as clusters send it) lets the step finish and the run save; the second ends it."""

    def handle(number: int, _frame: object) -> None:
        if control.stopped is not None:
            raise KeyboardInterrupt
        control.stop("interrupted")
        display.warn("interrupted: finishing this step, then saving; once more to stop at once, without saving")

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not in the main thread: whoever started this thread handles signals
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Around whatever writes into the run's folder; checkpoints explain their own errors."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        newest = checkpoint.latest(folder / "checkpoints")
        repair = "make room there, or choose another with `run=...`"
        if newest:
            repair = f"make room there; --resume then goes on from {newest}"
        raise CallwrightError(f"cannot write to the run folder {folder}: {reason}; {repair}") from error
