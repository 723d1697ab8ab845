"""Rollouts that need no torch until somebody asks for a tensor: for worker processes, and to score without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from callwright.types import CallwrightError, Parse, Rollouts, Task

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = ("step", "tasks", "prompt_ids", "texts", "parses", "verdicts", "rewards")
TENSORS = tuple(field.name for field in dataclasses.fields(Rollouts) if field.name not in _PLAIN)
_LATER = ("ref_logps", "total", "advantages", "token_weights", "token_ends")
"""Tensors that are None until a step has come so far, or for good."""


class LightRollouts(Rollouts):
    """`Rollouts` whose tensors are numpy arrays that become tensors when they are asked for.

    arrays: by field name, each with one entry per row. A field that is not there raises `CallwrightError` when it is
    read: completions from a file may have no tokens, and zeros in their place would be judged as if they meant
    something.
    """

    __slots__ = ("_tensors", "arrays")

    def __init__(
        self,
        *,
        step: int,
        tasks: Sequence[Task],
        texts: Sequence[str],
        parses: Sequence[Parse],
        arrays: Mapping[str, Any],
        prompt_ids: Sequence[list[int]] | None = None,
    ) -> None:
        self.arrays: dict[str, Any] = {k: v if v is None else numpy.asarray(v) for k, v in arrays.items()}
        self._tensors: dict[str, Tensor | None] = {}
        self.step, self.tasks, self.texts, self.parses = step, list(tasks), list(texts), list(parses)
        self.prompt_ids = [[] for _ in texts] if prompt_ids is None else list(prompt_ids)
        self.verdicts, self.rewards = {}, {}

    def select(self, rows: Sequence[int] | Tensor) -> Rollouts:
        return light(self, [int(row) for row in rows])

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (message(self, range(len(self))),)


def _restored(content: dict[str, Any]) -> LightRollouts:
    return LightRollouts(**content)


def _field(name: str) -> property:
    def get(rollouts: LightRollouts) -> Tensor | None:
        made = rollouts._tensors
        if name not in made:
            if name not in rollouts.arrays and name not in _LATER:
                raise CallwrightError(f"`{name}` is not known of these completions: they came without it")
            array = rollouts.arrays.get(name)
            if array is None:
                made[name] = None
            else:
                import torch

                made[name] = torch.from_numpy(numpy.array(array))
        return made[name]

    def set_(rollouts: LightRollouts, value: Tensor | None) -> None:
        rollouts._tensors[name] = value

    return property(get, set_)


for _name in TENSORS:
    setattr(LightRollouts, _name, _field(_name))


def light(rollouts: Rollouts, rows: Sequence[int]) -> LightRollouts:
    """The given rows of any rollouts; no torch is imported for light ones."""
    return LightRollouts(**message(rollouts, rows))


def message(rollouts: Rollouts, rows: Sequence[int]) -> dict[str, Any]:
    """What `LightRollouts` is made of, for the given rows: plain values and arrays, to be sent to another process."""
    index = numpy.asarray(rows, dtype=numpy.int64)
    arrays = {name: array if array is None else array[index] for name, array in _arrays(rollouts).items()}
    return {
        "step": rollouts.step,
        "tasks": [rollouts.tasks[row] for row in rows],
        "texts": [rollouts.texts[row] for row in rows],
        "parses": [rollouts.parses[row] for row in rows],
        "prompt_ids": [rollouts.prompt_ids[row] for row in rows],
        "arrays": arrays,
    }


def group_ids(rollouts: Rollouts) -> list[int]:
    """The group of every row, as numbers; no torch is imported for light rollouts."""
    return [int(group) for group in _arrays(rollouts)["group_ids"]]


def _arrays(rollouts: Rollouts) -> dict[str, Any]:
    if isinstance(rollouts, LightRollouts):
        return {**rollouts.arrays, **{name: _array(tensor) for name, tensor in rollouts._tensors.items()}}
    return {name: _array(getattr(rollouts, name)) for name in TENSORS}


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().cpu().numpy()
