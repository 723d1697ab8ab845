"""Strategies that move the reference: when they ask, what becomes of it in real runs, TRL's own callback, the laws."""

from __future__ import annotations

import copy
import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from callwright import checkpoint
from callwright.display import SilentDisplay
from callwright.loop import Control
from callwright.recipe import Recipe, build, load_recipe
from callwright.run import Run
from callwright.testing import check_explorer
from callwright_explorers.reference_reset import ReferenceReset
from callwright_explorers.reference_sync import ReferenceSync


def resets(explorer: ReferenceReset, values: Sequence[float | None]) -> list[int]:
    """Steps (from 1) after which it asks for a reset; after each it is saved and resumed."""
    found = []
    for number, value in enumerate(values, start=1):
        control = Control()
        explorer.step_ended({} if value is None else {explorer.metric: value}, control)
        if control.reference_share:
            assert control.reference_share == 1.0
            assert control.wants_new_optimizer == explorer.forget
            found.append(number)
        state = json.loads(json.dumps(explorer.state_dict(), allow_nan=False))
        explorer = ReferenceReset(
            **{n: getattr(explorer, n) for n in ("every", "patience", "metric", "margin", "forget")}
        )
        explorer.load_state_dict(state)
    return found


def test_a_reset_every_few_steps() -> None:
    assert resets(ReferenceReset(every=3), [None] * 10) == [3, 6, 9]
    assert resets(ReferenceReset(every=3, forget=False), [0.1] * 4) == [3]


def test_a_reset_when_nothing_gets_better() -> None:
    """The best value, 0.5, is of step 2, and two steps old after step 4. Then all begins again: 0.1 of step 5 is the
    best so far, beaten in step 6 and not in steps 7 and 8."""
    values = [0.2, 0.5, 0.4, 0.5, 0.1, 0.2, 0.2, 0.1]
    assert resets(ReferenceReset(every=None, patience=2, metric="reward"), values) == [4, 8]
    assert resets(ReferenceReset(every=None, patience=2, metric="reward", margin=0.15), values) == [4, 7]
    both = ReferenceReset(every=3, patience=2, metric="reward")
    assert resets(both, values) == [3, 6], "what every third step resets forgets the 0.5"


def test_it_judges_only_where_the_metric_is_measured() -> None:
    """Measured in every third step: better in step 6, worse in step 9."""
    values = [None, None, 0.2, None, None, 0.3, None, None, 0.1, None]
    assert resets(ReferenceReset(every=None, patience=2), values) == [9]
    assert resets(ReferenceReset(every=None, patience=4), values) == []
    assert resets(ReferenceReset(every=None, patience=1), [float("nan")] * 3) == []


def test_a_move_every_few_steps() -> None:
    found = []
    for step in range(6):
        control = Control()
        ReferenceSync(every=2, share=0.25).step_ended(step, control)
        found.append(control.reference_share)
    assert found == [0, 0.25, 0, 0.25, 0, 0.25]


@pytest.mark.parametrize(
    ("plugin", "options", "words"),
    [
        (ReferenceReset, {"every": 0}, "every must be at least 1, not 0"),
        (ReferenceReset, {"patience": 0}, "patience must be at least 1, not 0"),
        (ReferenceReset, {"every": None}, "one of every and patience must be given"),
        (ReferenceReset, {"margin": -1.0}, "margin must be a number of at least 0"),
        (ReferenceReset, {"metric": "loss"}, "metric must be 'reward' or 'validation_accuracy', not 'loss'"),
        (ReferenceSync, {"every": 0}, "every must be at least 1"),
        (ReferenceSync, {"share": 0.0}, "share must be a number above 0 and at most 1, not 0.0"),
        (ReferenceSync, {"share": 1.5}, "share must be a number above 0 and at most 1, not 1.5"),
    ],
)
def test_mistakes_are_named(plugin: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plugin(**options)


@pytest.mark.parametrize(
    "explorer", [ReferenceReset(every=1, patience=1), ReferenceSync(every=1)], ids=["reset", "sync"]
)
def test_the_laws_hold(explorer: object) -> None:
    check_explorer(explorer, examples=1)


# -------------------------------------------------------------------------------------------------------- recipes


def recipe_with(explore: list[Any], train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "run": Path("unused"),
        "model": {"name": "unused"},
        "dialect": "funrl",
        "data": {"source": "bfcl"},
        "rewards": {"use": ["ast_match"]},
    }
    return Recipe.model_validate({**plain, "explore": explore, "train": train or {}, **changes})


@pytest.mark.parametrize("plugin", [ReferenceReset(), ReferenceSync()], ids=["reset", "sync"])
def test_there_must_be_a_reference_that_can_move(plugin: ReferenceReset | ReferenceSync) -> None:
    assert plugin.recipe_mistakes(recipe_with([], {"kl": 0.1})) == []
    assert plugin.recipe_mistakes(recipe_with(["kl"])) == []
    (nothing,) = plugin.recipe_mistakes(recipe_with(["entropy_bonus"]))
    assert "nothing uses a reference model; set train.kl above 0, add `use: kl`" in nothing
    (lora,) = plugin.recipe_mistakes(recipe_with(["kl"], model={"name": "unused", "lora": {"rank": 4}}))
    assert "with LoRA the reference is the base model and cannot move" in lora


def test_what_is_waited_for_must_be_measured() -> None:
    waits = ReferenceReset(patience=5)
    (text,) = waits.recipe_mistakes(recipe_with(["kl"]))
    assert "validation_accuracy, which is not measured; set train.evaluate_every and data.validation" in text
    data = {"source": "bfcl", "validation": 2}
    assert waits.recipe_mistakes(recipe_with(["kl"], {"evaluate_every": 5}, data=data)) == []
    assert ReferenceReset(patience=5, metric="reward").recipe_mistakes(recipe_with(["kl"])) == []


# ------------------------------------------------------------------------------------------------------ real runs

LETTERS = """
from callwright import Verdict, hookimpl

class Letters:
    @hookimpl
    def score(self, rollouts):
        return [Verdict(sum(c.islower() for c in text) / max(len(text), 1)) for text in rollouts.texts]
"""


@pytest.fixture
def run(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Callable[..., list[dict[str, Any]]]:
    """`run(name, explore, steps, resume=False)`: trains a tiny model on a reward for small letters."""
    (tmp_path / "letters.py").write_text(textwrap.dedent(LETTERS))
    tools = [{"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}]
    rows = [{"id": f"t{i}", "question": f"add {i}", "tools": tools, "calls": []} for i in range(6)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = str(tiny_model_folder())

    def run(name: str, explore: list[Any], steps: int, resume: bool = False) -> list[dict[str, Any]]:
        train = {"steps": steps, "prompts_per_step": 2, "group_size": 3, "max_new_tokens": 6, "learning_rate": 1e-2}
        recipe = {
            "run": str(tmp_path / name),
            "model": {"name": model, "device": "cpu", "dtype": "float32", "precision": "float32"},
            "dialect": {"use": "python_calls", "instruction": "Call."},
            "data": {"source": {"use": "jsonl", "path": str(tmp_path / "tasks.jsonl")}, "held_out": 0},
            "rewards": {"combine": "sum", "use": [f"{tmp_path / 'letters.py'}:Letters"]},
            "explore": explore,
            "train": {**train, "show_every": 0},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(recipe))
        loaded = load_recipe(path)
        components = build(loaded)
        components.engine.train(loaded, components, SilentDisplay(), resume)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        clocked = ("seconds", "tokens_per_second")
        return [{key: value for key, value in line.items() if not key.startswith(clocked)} for line in lines]

    return run


def test_after_a_reset_the_divergence_begins_again_at_zero(run: Callable[..., list[dict[str, Any]]]) -> None:
    kl = {"use": "kl", "coefficient": 0.1}
    reset = [line["kl"] for line in run("reset", [kl, {"use": "reference_reset", "every": 2}], 4)]
    follows = {"use": "reference_sync", "every": 2, "share": 0.5}
    half = [line["kl"] for line in run("half", [kl, follows], 3)]
    never = [line["kl"] for line in run("never", [kl], 3)]
    assert reset[:2] == half[:2] == never[:2]
    assert reset[0] == pytest.approx(0, abs=1e-6)
    assert reset[1] > 1e-3
    assert reset[2] == pytest.approx(0, abs=1e-6), "the second step ended with a new reference"
    assert reset[3] > 1e-3
    assert 1e-4 < half[2] < 0.7 * never[2]


def test_states_survive_a_checkpoint_in_the_middle(run: Callable[..., list[dict[str, Any]]], tmp_path: Path) -> None:
    """Two of three steps to the next reset are done, and every schedule and controller is on its way."""
    explore = [
        {"use": "kl", "schedule": "adaptive", "coefficient": 0.1, "target": 0.001, "gain": 2.0},
        {"use": "reference_reset", "every": 3, "patience": 9, "metric": "reward"},
        {"use": "entropy_bonus", "schedule": "linear", "coefficient": 0.1, "end": 0.0, "steps": 6},
        {"use": "adaptive_entropy", "target": 9.0, "delta": 0.001},
        {"use": "entropy_smoothing", "window": 2, "high": 1.0, "phases": 6},
    ]
    straight = run("straight", explore, 5)
    assert run("parts", explore, 2) == straight[:2]
    assert run("parts", explore, 5, resume=True) == straight
    assert straight[4]["adaptive_entropy"] < straight[1]["adaptive_entropy"] < 0
    assert straight[2]["kl"] > 1e-4
    assert straight[3]["kl"] == pytest.approx(0, abs=1e-6), "the third step ended with a new reference"
    ends = [checkpoint.latest(tmp_path / name / "checkpoints") for name in ("straight", "parts")]
    weights = [(end / "model" / "model.safetensors").read_bytes() for end in ends if end is not None]
    assert len(weights) == 2
    assert weights[0] == weights[1]


# ------------------------------------------------------------------------------------------------------- the peer


@pytest.mark.parametrize("share", [0.6, 0.1, 1.0])
def test_the_reference_moves_as_trls(share: float, tiny_model: Callable[..., Any]) -> None:
    """TRL's callback and a run's `change_what_was_asked`, over six steps of one policy that moves."""
    callbacks = pytest.importorskip("trl.trainer.callbacks", reason="the peer is not installed")
    policy, theirs = tiny_model("llama", 0), tiny_model("llama", 1).requires_grad_(False)
    ours = copy.deepcopy(theirs)
    learner = SimpleNamespace(policy=SimpleNamespace(model=policy), reference=SimpleNamespace(model=ours))
    own = SimpleNamespace(control=Control(), learner=learner, counters={})
    peer = callbacks.SyncRefModelCallback(theirs, accelerator=None)
    peer.sync_target_model = peer._sync_target_model  # without a launcher's state, which only asks for DeepSpeed
    options = SimpleNamespace(ref_model_sync_steps=2, ref_model_mixup_alpha=share)
    explorer, generator = ReferenceSync(every=2, share=share), torch.Generator().manual_seed(0)
    for step in range(6):
        with torch.no_grad():
            for weights in policy.parameters():
                weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
        peer.on_step_end(options, SimpleNamespace(global_step=step + 1), None, model=policy)
        explorer.step_ended(step, own.control)
        Run.change_what_was_asked(own)  # type: ignore[arg-type] # it needs no more of a run than this
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
    assert bool(own.counters["reference_changed"])
