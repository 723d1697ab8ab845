"""Fixtures of the loop's and the run's tests: a recipe on disk for a tiny model, and a `Learner` without a disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from callwright.loop import Learner
    from callwright.recipe import Components, Recipe

PARTS = '''
    import math
    import random
    import time
    from dataclasses import dataclass, field

    import numpy
    import torch
    from callwright import Need, Reason, Verdict, hookimpl


    class Letters:
        """Share of small letters among the characters: seldom in noise, and soon learned."""

        @hookimpl
        def score(self, rollouts):
            shares = [sum(c.islower() for c in text) / max(len(text), 1) for text in rollouts.texts]
            return [Verdict(share, (Reason("some" if share else "none"),)) for share in shares]


    @dataclass
    class Drift:
        """Everything that a checkpoint must hold: a state, and draws from all three global generators."""
        heat: float = field(default=1.0, init=False)
        seen: list[float] = field(default_factory=list, init=False)

        @hookimpl
        def sampling(self):
            return {"temperature": self.heat}

        @hookimpl
        def shape_rewards(self, rollouts):
            shift = random.random() + numpy.random.rand()
            return 0.1 * shift * torch.rand(len(rollouts))

        @hookimpl
        def step_ended(self, metrics):
            self.heat = 1.0 + 0.3 * math.sin(metrics["entropy"] + len(self.seen))
            self.seen = [*self.seen, metrics["reward"]][-3:]

        def state_dict(self):
            return {"heat": self.heat, "seen": self.seen}

        def load_state_dict(self, state):
            self.heat, self.seen = state["heat"], state["seen"]


    class Slow:
        """Says on the screen that a step began, and gives a signal time to arrive."""

        @hookimpl
        def sampling(self, step):
            print(f"in step {step + 1}", flush=True)
            time.sleep(0.5)


    class Refresh:
        """A new reference every second step."""

        @hookimpl
        def step_ended(self, step, control):
            if step % 2:
                control.reset_reference()


    class FollowsHalf:
        """After the second step the reference moves to the policy, by a share of the way."""

        share, forgets = 0.5, False

        @hookimpl
        def step_ended(self, step, control):
            if step == 1:
                control.sync_reference(self.share)
                if self.forgets:
                    control.reset_optimizer()


    class FollowsWholly(FollowsHalf):
        share = 1.0


    class FollowsAndForgets(FollowsHalf):
        share, forgets = 1.0, True
'''


CHILD = """
    import resource, signal, sys
    import torch
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if LIMIT is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    sys.argv = ["callwright", *ARGUMENTS]
    sys.stdout = sys.stderr = open(LOG, "w", buffering=1)
    from callwright.cli import main
    main()
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    text: str
    seconds: float
    """From the beginning of the training."""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install("dist-name", "1.0", {"rewards": {"name": "module:attr"}}, module="source")`, found by importlib."""
    number = 0

    def add(name, version, groups, **modules):
        nonlocal number
        number += 1
        site = tmp_path / f"site{number}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        sections = [
            f"[callwright.{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
            for group, points in groups.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(sections))
        (info / "top_level.txt").write_text("\n".join(modules))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(str(site))
        return info

    return add


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    """`launch("train", path, ..., kill_after=None, interrupt_at=None, limit=None)`: the callwright command in a process
    of its own, forked from one that has loaded torch and not used it.

    kill_after: seconds from the beginning of the training to SIGKILL. interrupt_at: a text; SIGINT when it is on the
    screen. limit: bytes of a file from which the disk is full.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["callwright.run", "callwright.cli", "transformers.models.llama"])
    folder = tmp_path_factory.mktemp("launch")
    script, log = folder / "child.py", folder / "screen.txt"
    script.write_text(textwrap.dedent(CHILD))

    def launch(
        *arguments: object, kill_after: float | None = None, interrupt_at: str | None = None, limit: int | None = None
    ) -> Ended:
        log.write_text("")
        names = {"ARGUMENTS": [str(a) for a in arguments], "LOG": str(log), "LIMIT": limit}
        process = context.Process(target=runpy.run_path, args=(str(script), names))
        process.start()
        while process.is_alive() and (interrupt_at or "training steps") not in log.read_text():
            time.sleep(0.01)
        started = time.monotonic()
        if interrupt_at is not None and process.is_alive():
            os.kill(int(process.pid or 0), signal.SIGINT)
        process.join(kill_after)
        if process.is_alive():
            process.kill()
            process.join()
        code = process.exitcode
        assert code is not None
        return Ended(code, log.read_text(errors="replace"), time.monotonic() - started)

    return launch


def task_rows(count: int) -> list[dict[str, Any]]:
    """Every third task wants no call, which a model that writes noise gets right."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    return [
        {
            "id": f"t{i}",
            "question": f"add {i}" + "!" * (i % 4),
            "tools": [{"name": "add", "description": "Adds.", "parameters": schema}],
            "calls": [] if i % 3 == 0 else [{"name": "add", "arguments": {"a": i}}],
            "meta": {"category": "none" if i % 3 == 0 else "one"},
        }
        for i in range(count)
    ]


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Callable[..., Path]:
    """`make_recipe(rewards=[...], explore=[...], train={...}, ...)`: a recipe file for a tiny model. `explore` names
    classes of parts.py, which stands beside the recipe."""
    (tmp_path / "parts.py").write_text(textwrap.dedent(PARTS))

    def make(
        name: str = "recipe",
        rewards: list[Any] | None = None,
        explore: list[str] | None = None,
        train: dict[str, Any] | None = None,
        rows: int = 12,
        **changes: Any,
    ) -> Path:
        (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task_rows(rows)))
        recipe = {
            "run": str(tmp_path / "run"),
            "model": {"name": str(tiny_model_folder()), "device": "cpu", "dtype": "float32", "precision": "float32"},
            "dialect": {"use": "python_calls", "instruction": "Call."},
            "data": {"source": {"use": "jsonl", "path": str(tmp_path / "tasks.jsonl")}, "held_out": 4, "validation": 2},
            "rewards": {"combine": "sum", "use": rewards or [f"{tmp_path / 'parts.py'}:Letters"]},
            "explore": [f"{tmp_path / 'parts.py'}:{part}" for part in explore or []],
            "train": {
                "steps": 3,
                "prompts_per_step": 2,
                "group_size": 3,
                "max_new_tokens": 6,
                "learning_rate": 1e-3,
                "show_every": 0,
                **(train or {}),
            },
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(recipe))  # JSON is YAML
        return path

    return make


@pytest.fixture
def load() -> Callable[..., tuple[Recipe, Components]]:
    """`load(path, "train.steps=5", ...)`: the recipe and its components."""
    from callwright.recipe import build, load_recipe

    def load(path: Path, *overrides: str) -> tuple[Recipe, Components]:
        recipe = load_recipe(path, overrides)
        return recipe, build(recipe)

    return load


@pytest.fixture
def make_learner(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Callable[..., Learner]:
    """`make_learner(reward, *explorers, combine="sum", lora=None, packed=True, **train)`: a fresh tiny Llama."""

    def make(
        reward: object,
        *explorers: object,
        combine: str = "sum",
        lora: Any = None,
        packed: bool = True,
        seed: int = 0,
        **train: Any,
    ) -> Learner:
        import torch
        from callwright import Task, grpo
        from callwright.data import make_deck
        from callwright.display import SilentDisplay
        from callwright.hooks import Hooks, Named
        from callwright.loop import Learner
        from callwright.models import _with_adapter
        from callwright.packing import Policy
        from callwright.recipe import Recipe
        from callwright.rollouts import encode_prompt
        from callwright_dialects.python_calls import PythonCalls

        recipe = Recipe.model_validate(
            {
                "run": Path("unused"),
                "model": {"name": "unused"},
                "dialect": {"use": "python_calls"},
                "data": {"source": {"use": "jsonl"}},
                "rewards": {"combine": combine, "use": [{"use": "unused"}]},
                "train": {"prompts_per_step": 2, "group_size": 3, "max_new_tokens": 6, "learning_rate": 1e-3, **train},
            }
        )
        settings = recipe.train
        torch.manual_seed(seed)
        model: Any = tiny_model("llama", seed)
        if lora is not None:
            model = _with_adapter(model, lora, "unused")
        named = [Named("reward", reward, "reward", place="rewards.use.0")]
        named += [Named(type(e).__name__, e, "explorer", place=f"explore.{i}") for i, e in enumerate(explorers)]
        defaults = grpo.Defaults(settings.advantage_scale, settings.clip_low, settings.clip_high, settings.kl)
        hooks = Hooks(named, defaults, combine)
        dialect = PythonCalls(instruction="Call.")
        tasks = [Task(f"t{i}", ({"role": "user", "content": f"add {i}" + "!" * i},)) for i in range(8)]
        deck, _ = make_deck(
            tasks,
            lambda task: encode_prompt(tiny_tokenizer, dialect, task),
            seed=seed,
            longest=None,
            progress=lambda *_: None,
        )
        reference = None
        if "ref_logps" in hooks.needs and lora is None:
            reference = Policy(tiny_model("llama", seed).requires_grad_(False), packed=packed)
        return Learner(
            recipe=recipe,
            hooks=hooks,
            dialect=dialect,
            policy=Policy(model, packed=packed),
            tokenizer=tiny_tokenizer,
            optimizer=torch.optim.AdamW(
                [p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate, weight_decay=0.0
            ),
            deck=deck,
            ends=[2],
            display=SilentDisplay(),
            reference=reference,
            generator=torch.Generator().manual_seed(seed),
        )

    return make
