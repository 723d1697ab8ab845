"""The fixtures, and that pytest does not wait for them."""

from __future__ import annotations

import subprocess
import sys

from callwright import Verdict, hookimpl
from callwright.testing.scoring import gold_text, plugin


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "hypothesis", "libcst", "numpy", "pydantic")
    code = f"import sys, callwright.testing.pytest_plugin; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_the_table_learns_in_the_real_loop(callwright_bandit) -> None:
    learner = callwright_bandit(plugin("reward", "ast_match"), seed=3)
    rewards = [learner.step(step)[0]["reward"] for step in range(12)]
    assert rewards[0] < 0.5
    assert sum(rewards[-3:]) / 3 > 0.9
    for number, task in enumerate(learner.deck.tasks):
        best = int(learner.policy.probabilities(number).argmax())
        right = learner.tokenizer.replies[1 + best]
        assert learner.dialect.parse(right).calls == learner.dialect.parse(gold_text(learner.dialect, task)).calls


def test_explorers_and_options_reach_the_loop(callwright_bandit, callwright_tasks) -> None:
    class First:
        @hookimpl
        def score(self, rollouts):
            return [Verdict(float(text == "yes")) for text in rollouts.texts]

    class Hot:
        @hookimpl
        def sampling(self):
            return {"temperature": 2.0}

    learner = callwright_bandit(First(), Hot(), tasks=callwright_tasks[:1], replies=["no", "yes"], group_size=6)
    _, rollouts = learner.step(0)
    assert set(rollouts.texts) <= {"yes", "no"}
    assert rollouts.temperature.tolist() == [2.0] * 6
    assert len(rollouts) == 6


def test_a_step_is_reproducible_and_has_a_reference(callwright_bandit) -> None:
    reward = plugin("reward", "ast_match")
    first, second = (callwright_bandit(reward, seed=5, kl=0.01) for _ in range(2))
    for step in range(2):
        left, right = first.step(step), second.step(step)
        assert left[1].texts == right[1].texts
        assert left[0]["loss"] == right[0]["loss"]
    assert "kl" in left[0]


def test_the_tiny_model_and_its_tokenizer(callwright_model, callwright_tokenizer) -> None:
    import torch

    ids = callwright_tokenizer("[f(a=1)]", return_tensors="pt")["input_ids"]
    assert callwright_tokenizer.decode(ids[0]) == "[f(a=1)]"
    first, second = (callwright_model(seed=7)(ids).logits for _ in range(2))
    assert torch.equal(first, second)
