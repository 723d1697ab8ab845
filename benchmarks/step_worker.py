"""One measurement of `step.py`, in a process of its own: `python step_worker.py SIDE SETTING.json RESULT.json`.

The first step is a warm-up; of the others wall time, CPU time (user and system, all threads), tokens and peak memory
are written. Neither side computes otherwise than for a user: both get the same tokens as prompts, the same
weights, the same optimizer, and an end-of-turn token that means nothing, so that every completion is equally long.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LEARNING_RATE = 1e-6
DISTINCT = 8
"""No two prompts share this many tokens behind the prefix that is meant to be shared."""


@dataclass(frozen=True)
class Setting:
    """What is measured. The command line of `step.py` explains the fields."""

    model: str
    device: str
    dtype: str
    prompts: int
    group: int
    prompt_tokens: int
    shared_prefix: int
    max_new_tokens: int
    kl: float
    steps: int
    rows_per_forward: int
    gradient_checkpointing: bool

    @property
    def rows(self) -> int:
        return self.prompts * self.group


@dataclass
class StepTimes:
    """One measured step. The rollout is generation, scoring, reference and advantages; the update is the rest."""

    wall_seconds: float
    cpu_seconds: float
    rollout_wall_seconds: float
    rollout_cpu_seconds: float
    update_wall_seconds: float
    update_cpu_seconds: float
    completion_tokens: int
    hook_seconds: float = 0.0
    """Inside callwright's hooks: asking every plugin, checking and folding the answers, and the core's own answers."""
    hook_calls: int = 0


class Clock:
    """Wall and CPU time since it was made; waits for a GPU to finish."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = self.now()

    def now(self) -> tuple[float, float]:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        wall, cpu = self.now()
        return wall - self.start[0], cpu - self.start[1]


def timed(function: Callable[..., Any], device: str, record: Callable[[tuple[float, float]], None]) -> Any:
    """`function`, which reports the seconds of each of its calls to `record`."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        clock = Clock(device)
        result = function(*arguments, **keywords)
        record(clock.seconds())
        return result

    return call


def step_times(total: tuple[float, float], rollout: tuple[float, float], tokens: int) -> StepTimes:
    return StepTimes(*total, *rollout, total[0] - rollout[0], total[1] - rollout[1], tokens)


def reward(ids: Sequence[int]) -> float:
    """Deterministic, cheap, and hardly ever the same twice in a group. Every row then has an advantage; callwright
    would leave rows without one out of the update, which is a gain of another kind."""
    return sum(token * (place + 1) for place, token in enumerate(ids)) % 10007 / 10007


def show(text: str) -> None:
    print(f"    {text}", flush=True)


# ------------------------------------------------------------------------------------------------------- prompts


def make_prompts(tokenizer: Any, setting: Setting) -> list[list[int]]:
    """Real questions and functions of BFCL, each prompt exactly `prompt_tokens` long and different from its start."""
    count, shared = (setting.steps + 1) * setting.prompts, setting.shared_prefix
    texts = _texts()
    prefix = _tokens(tokenizer, texts, shared)
    prompts: list[list[int]] = []
    starts: set[tuple[int, ...]] = set()
    while len(prompts) < count:
        ids = _tokens(tokenizer, texts, setting.prompt_tokens - shared)
        start = tuple(ids[:DISTINCT])
        if start not in starts:
            starts.add(start)
            prompts.append(prefix + ids)
    return prompts


def _texts() -> Iterator[str]:
    from callwright_data.sources.bfcl import Bfcl

    categories = ["simple_python", "multiple", "live_simple", "live_multiple"]
    for task in Bfcl(categories=categories).load():
        functions = [json.dumps(tool.to_json()) for tool in task.tools]
        yield "\n".join([*(str(message["content"]) for message in task.messages), *functions])
    raise SystemExit("BFCL has not enough text for so many prompts of that length")


def _tokens(tokenizer: Any, texts: Iterator[str], length: int) -> list[int]:
    """The next texts' tokens, cut to `length`."""
    ids: list[int] = []
    while len(ids) < length:
        ids += tokenizer(next(texts) + "\n", add_special_tokens=False)["input_ids"]
    return ids[:length]


# ---------------------------------------------------------------------------------------------------- callwright


def measure_ours(setting: Setting, prompts: list[list[int]], folder: Path) -> list[StepTimes]:
    learner = make_learner(setting, prompts, folder)
    hook_seconds: list[float] = []
    _time_hooks(learner.hooks, setting.device, hook_seconds)
    rollout: list[tuple[float, float]] = []
    learner.collect = timed(learner.collect, setting.device, rollout.append)
    learner.judge = timed(learner.judge, setting.device, rollout.append)
    result = []
    for step in range(setting.steps + 1):
        hook_seconds.clear()
        rollout.clear()
        clock = Clock(setting.device)
        metrics, rollouts = learner.step(step)
        times = step_times(
            clock.seconds(), (sum(w for w, _ in rollout), sum(c for _, c in rollout)), int(metrics["tokens"])
        )
        times.hook_seconds, times.hook_calls = sum(hook_seconds), len(hook_seconds)
        if "skipped_update" in metrics or not bool((rollouts.advantages != 0)[rollouts.mask].all()):
            raise SystemExit("callwright left rows out of its update: the comparison would not be fair")
        result.append(times)
        show(f"step {step}: {times.wall_seconds:.2f} s wall, {times.cpu_seconds:.2f} s CPU")
    return result


def make_learner(setting: Setting, prompts: list[list[int]], folder: Path) -> Any:
    """The learner that a run of the local engine makes, with the benchmark's prompts in its deck."""
    from callwright.data import Deck
    from callwright.engine import LocalSampler
    from callwright.hooks import HOOKS, Named
    from callwright.hookspecs import hookimpl
    from callwright.plugins import Origin
    from callwright.recipe import Components
    from callwright.run import Run  # what `callwright train` builds, and not a copy of it
    from callwright.types import Task, Verdict
    from callwright_dialects.python_calls import PythonCalls

    class Reward:
        @hookimpl
        def score(self, rollouts: Any) -> list[Verdict]:
            rows = zip(rollouts.completion_ids.tolist(), rollouts.lengths.tolist(), strict=True)
            return [Verdict(reward(ids[:length])) for ids, length in rows]

    # Names every hook and contributes nothing: what hooks cost by themselves.
    idle = type("Idle", (), {name: hookimpl(lambda self: None) for name in HOOKS if name != "score"})()
    tasks = [Task(str(i), ({"role": "user", "content": f"Question {i}?"},)) for i in range(len(prompts))]
    components = Components(
        dialect=PythonCalls(),
        source=_Listed(tasks),
        stages=[],
        rewards=[Named("varied", Reward(), "reward", place="benchmark")],
        explorers=[Named("idle", idle, "explorer", place="benchmark")],
        engine=None,
        sampler=LocalSampler(),
        origins=[Origin("source", "benchmark", None, None)],
    )
    learner = Run(_recipe(setting, folder), components, _Warnings(), resume=False).learner
    learner.deck = Deck(tasks, [array("l", prompt) for prompt in prompts], seed=0)
    learner.ends = [-1]
    return learner


def _recipe(setting: Setting, folder: Path) -> Any:
    from callwright.recipe import Recipe

    # As many rows as in TRL's forward pass: whole groups, each with its prompt once.
    prompts = setting.rows_per_forward // setting.group
    micro_batch = prompts * setting.prompt_tokens + setting.rows_per_forward * setting.max_new_tokens
    return Recipe.model_validate(
        {
            "run": folder,
            "model": {
                "name": setting.model,
                "device": setting.device,
                "precision": "bfloat16" if setting.dtype == "bfloat16-autocast" else "float32",
                "gradient_checkpointing": setting.gradient_checkpointing,
            },
            "dialect": "python_calls",
            "data": {"source": "bfcl"},
            "rewards": {"combine": "sum", "use": ["ast_match"]},
            "train": {
                "steps": setting.steps + 1,
                "prompts_per_step": setting.prompts,
                "group_size": setting.group,
                "max_new_tokens": setting.max_new_tokens,
                "learning_rate": LEARNING_RATE,
                "kl": setting.kl,
                "tokens_per_micro_batch": micro_batch,
            },
        }
    )


@dataclass
class _Listed:
    """A source that has its tasks already."""

    tasks: list[Any]

    def load(self) -> list[Any]:
        return self.tasks


class _Warnings:
    """A display that shows warnings, above all that the model takes the padded path."""

    def warn(self, text: str) -> None:
        show(f"warning: {text}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _time_hooks(hooks: Any, device: str, seconds: list[float]) -> None:
    from callwright.hooks import HOOKS

    for name in [*HOOKS, "combine"]:
        setattr(hooks, name, timed(getattr(hooks, name), device, lambda taken: seconds.append(taken[0])))


# ----------------------------------------------------------------------------------------------------------- TRL


def measure_trl(setting: Setting, prompts: list[list[int]], folder: Path) -> list[StepTimes]:
    from transformers import PrinterCallback, TrainerCallback

    trainer = make_trainer(setting, prompts, folder)
    rollout: list[tuple[float, float]] = []
    batches: list[dict[str, Any]] = []
    result: list[StepTimes] = []

    def generate(*arguments: Any) -> dict[str, Any]:
        batches.append(original(*arguments))
        return batches[-1]

    original = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = timed(generate, setting.device, rollout.append)

    class StepClock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            rollout.clear()
            batches.clear()
            self.clock = Clock(setting.device)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            tokens = sum(int(batch["completion_mask"].sum()) for batch in batches)
            result.append(step_times(self.clock.seconds(), rollout[0], tokens))
            if len(rollout) != 1 or any(bool((batch["advantages"] == 0).any()) for batch in batches):
                raise SystemExit("TRL did not generate once with advantages for all rows: the comparison is not fair")
            times = result[-1]
            show(f"step {len(result) - 1}: {times.wall_seconds:.2f} s wall, {times.cpu_seconds:.2f} s CPU")

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepClock())
    trainer.train()
    return result


def make_trainer(setting: Setting, prompts: list[list[int]], folder: Path) -> Any:
    from callwright.models import load_model
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    loaded = load_model(setting.model, device=setting.device)
    arguments = GRPOConfig(
        output_dir=str(folder),
        use_cpu=setting.device == "cpu",
        bf16=setting.dtype == "bfloat16-autocast",
        gradient_checkpointing=setting.gradient_checkpointing,
        per_device_train_batch_size=setting.rows_per_forward,
        gradient_accumulation_steps=setting.rows // setting.rows_per_forward,
        num_generations=setting.group,
        max_completion_length=setting.max_new_tokens,
        max_steps=setting.steps + 1,
        beta=setting.kl,
        use_bias_correction_kl=False,
        loss_type="bnpo",  # callwright's `aggregation: token`
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        shuffle_dataset=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=loaded.model,
        reward_funcs=lambda completion_ids, **_: [reward(ids) for ids in completion_ids],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": str(i)} for i in range(len(prompts))]),
        processing_class=loaded.tokenizer,
    )
    trainer._tokenize_prompts = lambda numbers: ([prompts[int(number)] for number in numbers], None, {})
    nothing = len(loaded.tokenizer) + loaded.model.config.get_text_config().vocab_size  # a token that does not exist
    trainer.eos_token_ids = [nothing]
    trainer.generation_config.eos_token_id = trainer.generation_kwargs["eos_token_id"] = nothing
    return trainer


# ---------------------------------------------------------------------------------------------------------- main


def peak_memory(device: str) -> int:
    """Bytes: of the process, or on a GPU what torch allocated there."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(side: str, setting_file: str, result_file: str) -> None:
    from callwright.models import load_tokenizer
    from callwright.quiet import quiet

    setting = Setting(**json.loads(Path(setting_file).read_text(encoding="utf-8")))
    measure = {"callwright": measure_ours, "trl": measure_trl}[side]
    with tempfile.TemporaryDirectory() as folder, quiet():
        prompts = make_prompts(load_tokenizer(setting.model), setting)
        steps = measure(setting, prompts, Path(folder))
    expected = setting.rows * setting.max_new_tokens
    if any(times.completion_tokens != expected for times in steps):
        raise SystemExit(f"{side} did not generate {expected} tokens in every step")
    result = {"steps": [asdict(times) for times in steps[1:]], "peak_memory_bytes": peak_memory(setting.device)}
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
