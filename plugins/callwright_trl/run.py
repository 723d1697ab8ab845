"""A run whose steps TRL's trainer makes, in one process or in many."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from callwright import checkpoint
from callwright.checkpoint_parts import read_model, write_model
from callwright.display import Display, SilentDisplay
from callwright.evaluate import Outcome
from callwright.recipe import Components, Recipe
from callwright.run import Run, seed_everything
from callwright.types import CallwrightError, Task
from torch.distributed.fsdp import FSDPModule

from callwright_trl.learner import SharedLearner
from callwright_trl.processes import from_main, gathered, share_generators, share_of

if TYPE_CHECKING:
    from callwright_trl.trainer import CallwrightTrainer


WAIT = timedelta(hours=3)
"""As long, processes wait for one another. NCCL's ten minutes are less than a slow reward may take, or a checkpoint."""


def processes_of_the_launcher(device: str) -> PartialState:
    """What accelerate knows of the processes that were started. Raises CallwrightError where it takes each for alone:
    every one of them would write the run's folder."""
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # for whoever in these libraries asks first, too
    state = PartialState(cpu=on_cpu, timeout=WAIT)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise CallwrightError(
            f"engine: trl: {started} processes were started, and accelerate sees {state.num_processes}; start them with"
            " `accelerate launch -m callwright train ...`"
        )
    if not on_cpu and state.num_processes == 1 and torch.cuda.device_count() > 1:
        raise CallwrightError(
            f"engine: trl: one process sees {torch.cuda.device_count()} GPUs; start one for each with"
            " `accelerate launch -m callwright train ...`, or show it one alone: CUDA_VISIBLE_DEVICES=0"
        )
    return state


class TrlRun(Run):
    """As `Run`, in every process of `accelerate launch`. The main process alone writes and shows."""

    learner: SharedLearner

    def __init__(self, recipe: Recipe, components: Components, display: Display, resume: bool) -> None:
        self.processes = processes_of_the_launcher(recipe.model.device)
        self.trainer: CallwrightTrainer | None = None
        self.checkpoint: Path | None = None
        super().__init__(recipe, components, display if self.writes else SilentDisplay(), resume)

    @property
    def device(self) -> str:
        """Each process' own."""
        return str(self.processes.device)

    @property
    def writes(self) -> bool:
        return bool(self.processes.is_main_process)

    def make_learner(self, **parts: Any) -> SharedLearner:
        return SharedLearner(**parts, processes=self.processes)

    # ---------------------------------------------------------------------------------------------------- steps

    def make_steps(self, done: int) -> int:
        from callwright_trl.trainer import CallwrightTrainer

        if done >= self.recipe.train.steps or self.control.stopped is not None:
            return done
        self.trainer = CallwrightTrainer(self, self.parts())
        seed_everything(self.recipe.seed)  # the trainer gave every process another seed, and plugins need the same
        self.trainer.train()
        return self.trainer.steps_done

    def parts(self) -> int:
        """In how many parts each process computes a step's gradient, so that `train.tokens_per_micro_batch` holds for
        the longest prompts and completions that there may be."""
        train = self.recipe.train
        longest = max(map(len, self.learner.deck.prompts))
        groups = math.ceil(train.prompts_per_step / self.processes.num_processes)
        shared = self.learner.policy.packed
        tokens = groups * (longest * (1 if shared else train.group_size) + train.group_size * train.max_new_tokens)
        return max(1, math.ceil(tokens / train.tokens_per_micro_batch))

    def prepared(self, trainer: CallwrightTrainer) -> None:
        """The trainer has wrapped the model and is about to make the first step."""
        sharded = trainer.accelerator.distributed_type == DistributedType.FSDP
        if sharded and not isinstance(trainer.model_wrapped, FSDPModule):
            raise CallwrightError(
                "engine: trl shards with FSDP2: write `fsdp_version: 2` in accelerate's configuration"
            )
        engine: Any = trainer.model_wrapped
        parts_of_weights = trainer.is_deepspeed_enabled and engine.zero_optimization_partition_weights()
        if parts_of_weights and not engine.zero_gather_16bit_weights_on_model_save():
            raise CallwrightError(
                "engine: trl keeps whole models in its checkpoints: write `zero3_save_16bit_model: true` in"
                " accelerate's configuration"
            )
        self.learner.wrap(trainer.model_wrapped)
        self._keep_weights_once(trainer.accelerator)
        assert trainer.optimizer is not None
        self.learner.optimizer = trainer.optimizer
        if self.checkpoint is not None:
            trainer.accelerator.load_state(str(self.checkpoint / "trainer"))
            self.learner.sampler.weights_changed()
        trainer.state.global_step = self.first_step * trainer.passes

    def change_what_was_asked(self) -> None:
        with self.learner.whole_model():
            super().change_what_was_asked()

    # -------------------------------------------------------------------------------------------------- checkpoints

    def _keep_weights_once(self, accelerator: Accelerator) -> None:
        """A model that is whole in every process is in the checkpoint's `model` already: accelerate leaves it out."""
        if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            return

        def without_model(models: list[Any], weights: list[Any], folder: str) -> None:
            weights.clear()

        def from_our_own(models: list[Any], folder: str) -> None:
            models.clear()
            read_model(Path(folder).parent, self.learner.policy.model)

        accelerator.register_save_state_pre_hook(without_model)
        accelerator.register_load_state_pre_hook(from_our_own)

    def save(self, step: int) -> None:
        """Model, optimizer and generators of all processes as accelerate writes them, and what the run itself knows."""
        assert self.trainer is not None
        accelerator, learner = self.trainer.accelerator, self.learner
        state = self.state(step)
        weights = accelerator.get_state_dict(self.trainer.model_wrapped)  # DeepSpeed ZeRO-3: in the main process alone
        for name in getattr(learner.policy.causal_lm, "all_tied_weights_keys", ()) if weights else ():
            weights.pop(name, None)  # FSDP gathers a copy of what is the same tensor
        new = checkpoint.writing(self.checkpoints, state, keep=self.recipe.train.keep_checkpoints)
        with new if self.writes else nullcontext(None) as folder:
            folder = from_main(folder)
            assert folder is not None
            accelerator.save_state(str(folder / "trainer"))
            accelerator.wait_for_everyone()
            if self.writes:
                write_model(folder, learner.policy.model, learner.tokenizer, weights)
                checkpoint.write_state(folder, state, None, {"sampling": learner.generator})
        accelerator.wait_for_everyone()

    def _resume(self) -> None:
        self.checkpoint = from_main(checkpoint.latest(self.checkpoints) if self.writes else None)
        if self.checkpoint is None:
            self.display.note(f"{self.folder} has no checkpoint yet: starting from the beginning")
        else:
            generators = {"sampling": self.learner.generator}
            state = checkpoint.load(self.checkpoint, model=None, optimizer=None, generators=generators)
            self.go_on_from(state)
            self.display.note(f"resuming after step {state.step} from {self.checkpoint}")
        self.forget_later_steps()

    # --------------------------------------------------------------------------------------------------- evaluation

    def answers(self, tasks: Sequence[Task], phase: str) -> list[Outcome]:
        """Each process answers its share."""
        mine = share_of(len(tasks), self.processes.process_index, self.processes.num_processes)
        own = [tasks[i] for i in mine]
        with self.learner.whole_model():
            outcomes = super().answers(own, phase) if own else []
        share_generators()
        return [outcome for part in gathered(outcomes) for outcome in part]
