"""`trl.GRPOTrainer` with the steps of callwright.

TRL, transformers and accelerate wrap the model, add gradients up over parts and processes, clip them and change the
weights. Which completions there are, which loss, and what follows is the run's.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from callwright.hooks import BadNumber
from callwright.loop import learning_rate_factor
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from callwright_trl.learner import Parts, SharedLearner
from callwright_trl.processes import gathered, through

if TYPE_CHECKING:
    from callwright_trl.run import TrlRun

OVERRIDDEN = ("_prepare_inputs",)
"""The only methods of TRL's and transformers' trainers that are overridden here and are not public. A test holds their
signatures against the installed version."""


class CallwrightTrainer(GRPOTrainer):
    """Makes the optimizer steps of a run.

    A step of the recipe is `train.passes` optimizer steps here, each with `gradient_accumulation_steps` parts.
    """

    # The loss of a part is its share of the whole step's already.
    loss_is_scaled_for_ga = True

    def __init__(self, run: TrlRun, parts: int) -> None:
        recipe = run.recipe
        self.run, self.parts, self.part = run, parts, 0
        self.steps_done = run.first_step
        self.learner: SharedLearner = run.learner
        self.passes = recipe.train.passes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(
                model=self.learner.policy.model,
                reward_funcs=_no_reward,
                args=_arguments(run, parts),
                train_dataset=Dataset.from_dict({"prompt": [""]}),
                processing_class=self.learner.tokenizer,
                callbacks=[_Steps(self)],
            )

    @property
    def divides_by_parts(self) -> bool:
        """Whether transformers divides each part's loss by their number, although it is a share of a whole: versions
        that do not know `loss_is_scaled_for_ga` do, unless TRL (before 1.16) gave them a `compute_loss_func`."""
        return not hasattr(Trainer, "loss_is_scaled_for_ga") and self.compute_loss_func is None

    # ------------------------------------------------------------------------------------------------ a step

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A clock: the run draws its tasks itself, the same in every process."""
        ticks: Any = [{}] * (self.run.recipe.train.steps * self.passes * self.parts)
        return DataLoader(ticks, batch_size=None)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """All of them, as in the local engine."""
        return [name for name, _ in model.named_parameters()]

    def _prepare_inputs(self, tick: dict[str, Any]) -> dict[str, Any]:
        """The part of the gradient whose turn it is; before the first of a step, its completions are drawn."""
        if self.part == 0 and self.state.global_step % self.passes == 0:
            self.begin_step(self.state.global_step // self.passes)
        return {"part": self.part}

    def begin_step(self, step: int) -> None:
        """Completions, rewards and advantages."""
        learner = self.learner
        self.started = time.perf_counter()
        learner.hooks.take_seconds()
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.dealt: Parts | None = None
        self.rollouts, self.metrics, self.problem = learner.collect(step)
        self.collected = time.perf_counter()
        if self.problem is None:
            try:
                with learner.timeline.span("advantages"):
                    learner.judge(self.rollouts)
                self.dealt = learner.deal(self.rollouts, self.parts)
            except BadNumber as error:
                self.problem = error

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The part's loss, times the number of processes: accelerate takes the mean over them."""
        if self.dealt is None and not self.is_deepspeed_enabled:  # in no process
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        inner = self.accelerator.unwrap_model(model)
        inner.train()  # drawing completions left it in evaluation mode
        with self.learner.timeline.span("update"):
            loss, metrics = through(model, inner, self._part_loss, inputs["part"])
        for name, value in metrics.items():
            self.sums[name] += value
        self.learner.display.phase("update", inputs["part"] + 1, self.parts)
        return loss * self.accelerator.num_processes * (self.parts if self.divides_by_parts else 1)

    def _part_loss(self, number: int) -> tuple[Tensor, dict[str, float]]:
        first_pass = self.state.global_step % self.passes == 0
        if self.problem is None and self.dealt is not None:
            loss, metrics, self.problem = self.learner.part_loss(self.dealt, number, first_pass=first_pass)
        else:
            loss, metrics = self.learner.no_loss(self.rollouts), {}
        # DeepSpeed changes the weights before anybody is asked, except for a gradient that is no number.
        stopped = self.problem is not None or self.dealt is None
        return (loss * math.nan if stopped and self.is_deepspeed_enabled else loss), metrics

    # ------------------------------------------------------------------------------------- around the update

    def update_due(self) -> bool:
        """Whether the gradient that has been added up may change the weights. Says the same in every process."""
        skipped = self.is_deepspeed_enabled and self.accelerator.optimizer_step_was_skipped
        if self.problem is None and self.dealt is not None and (skipped or not all(map(_finite, self.gradients()))):
            self.problem = BadNumber("the loss", "gradient", self.rollouts.step, None, math.nan)
        problems = [problem for problem in gathered(self.problem) if problem is not None]
        self.problem = problems[0] if problems else None
        return self.problem is None and self.dealt is not None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after every optimizer step, and once more at the end; after the last pass of a step, the step ends."""
        if self.steps_done > self.rollouts.step:
            return
        self.sums["grad_norm"] += float(logs.get("grad_norm", 0.0))
        if self.state.global_step % self.passes == 0:
            self.end_step()

    def end_step(self) -> None:
        learner, run = self.learner, self.run
        metrics, step = self.metrics, self.rollouts.step
        if self.problem is not None:
            learner.display.warn(f"{self.problem}; the update is skipped")
            metrics["skipped_update"] = 1.0
        elif self.dealt is None:
            metrics |= {"loss": 0.0, "grad_norm": 0.0}
        else:
            norm = self.sums.pop("grad_norm")
            totals: defaultdict[str, float] = defaultdict(float)
            for sums in gathered(dict(self.sums)):
                for name, value in sums.items():
                    totals[name] += value
            metrics |= {name: value / self.passes for name, value in {**totals, "grad_norm": norm}.items()}
        metrics |= learner.figures(self.rollouts, metrics["tokens"], self.started, self.collected)
        run.end_step(step, metrics, self.rollouts)
        self.steps_done = step + 1
        run.control.stopped = next((why for why in gathered(run.control.stopped) if why), None)
        if run.wants_save(step + 1):
            run.save(step + 1)
        if run.control.stopped is not None:
            self.control.should_training_stop = True

    def gradients(self) -> Iterator[Tensor]:
        """This process' part of them."""
        for group in self.groups():
            for parameter in group["params"]:
                if parameter.grad is not None:
                    yield parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups of parameters."""
        assert self.optimizer is not None
        return self.optimizer.param_groups

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's own files say what it was."""


class _Steps(TrainerCallback):
    """Where transformers lets others act between gradient and update."""

    def __init__(self, trainer: CallwrightTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.run.prepared(self.trainer)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer
        trainer.part = 0
        train = trainer.run.recipe.train
        rate = train.learning_rate * learning_rate_factor(state.global_step // trainer.passes, train)
        for group in trainer.groups():
            group["lr"] = rate

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.part += 1

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.trainer.update_due():
            for group in self.trainer.groups():
                for parameter in group["params"]:
                    parameter.grad = None  # an optimizer passes over what has no gradient

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.learner.sampler.weights_changed()


def _finite(gradient: Tensor) -> bool:
    return bool(gradient.isfinite().all())


def _no_reward(**_: Any) -> list[float | None]:
    raise AssertionError("rewards are asked through the hook `score`")


def _arguments(run: TrlRun, parts: int) -> GRPOConfig:
    """TRL's arguments, as far as they have a meaning where the run decides the rest."""
    recipe, train = run.recipe, run.recipe.train
    # Without it FSDP2 would keep the gradient of all weights in every process until the step's last part.
    fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    accumulation = {"gradient_accumulation_kwargs": {"sync_each_batch": True}} if fsdp else None
    return GRPOConfig(
        output_dir=str(run.folder),
        seed=recipe.seed,
        use_cpu=run.device == "cpu",
        accelerator_config=accumulation,
        max_steps=train.steps * train.passes,
        per_device_train_batch_size=train.group_size,
        gradient_accumulation_steps=parts,
        num_generations=train.group_size,
        max_completion_length=train.max_new_tokens,
        learning_rate=train.learning_rate,
        lr_scheduler_type="constant",  # the recipe's schedule is set at every step
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        beta=0.0,  # the run keeps its own reference model
        bf16=False,  # the policy has its own autocast, of the recipe's precision
        gradient_checkpointing=False,  # switched on in the model already, where the recipe says so
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        disable_dropout=False,
        ddp_find_unused_parameters=False,
        dataloader_num_workers=0,
        log_level="error",
    )
