"""Fixtures for tests of plugins. pytest loads this module wherever callwright is installed, so that it imports nothing:
torch and transformers come with the fixture that needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from callwright.loop import Learner
    from callwright.types import Task


@pytest.fixture(scope="session")
def callwright_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, with a chat template: see `callwright.testing.tiny_tokenizer`."""
    from callwright.testing.tiny import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def callwright_model() -> Callable[..., PreTrainedModel]:
    """`callwright_model(kind="llama", seed=0, **config)`: a fresh tiny random model for `callwright_tokenizer`."""
    from callwright.testing.tiny import tiny_model

    return tiny_model


@pytest.fixture
def callwright_tasks() -> list[Task]:
    """Ten small tasks with answers: one call, several, equal ones, none, and every type of argument."""
    from callwright.testing.bandit import toy_tasks

    return toy_tasks()


@pytest.fixture
def callwright_bandit() -> Callable[..., Learner]:
    """`callwright_bandit(reward, *explorers, tasks=None, replies=None, dialect="python_calls", **train)`: the real
    training loop around a table of replies. See `callwright.testing.make_bandit`."""
    from callwright.testing.bandit import make_bandit

    def make(reward: object, *explorers: object, **options: Any) -> Learner:
        return make_bandit(reward, *explorers, **options)

    return make
