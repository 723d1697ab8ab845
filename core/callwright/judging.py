"""Asking one reward: how its `score` is called, and what a lawful answer is. Importing this does not import torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import pluggy

from callwright.types import Reason, Rollouts, Verdict

LARGEST_FLOAT32 = 3.4e38
NOT_FINITE = "the score is not finite"


class WrongAnswer(TypeError):
    """Not one verdict per row."""


def marked(plugin: object) -> dict[str, str]:
    """Hook -> name of the method that implements it."""
    manager = pluggy.PluginManager("callwright")
    options = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin) if not name.startswith("__")}
    return {(opts.get("specname") or name): name for name, opts in options.items() if opts is not None}


def scorer(plugin: object) -> Callable[[Rollouts], Any]:
    """The reward's `score` as a function of rollouts, whatever arguments it leaves out."""
    method = getattr(plugin, marked(plugin)["score"])
    if "rollouts" in inspect.signature(method).parameters:
        return lambda rollouts: method(rollouts=rollouts)
    return lambda rollouts: method()


def is_asynchronous(plugin: object) -> bool:
    """Whether `score` returns something to await: an `async def`, or the plugin says so by `asynchronous = True`."""
    method = getattr(plugin, marked(plugin).get("score", ""), None)
    return bool(getattr(plugin, "asynchronous", inspect.iscoroutinefunction(method)))


def taken_metrics(plugin: object) -> dict[str, float]:
    """What the reward wants to see in the metrics since it was last asked; empty for most."""
    take = getattr(plugin, "take_metrics", None)
    return {str(name): float(value) for name, value in take().items()} if callable(take) else {}


def checked(answer: Any, rows: int) -> list[Verdict | str]:
    """One item per row: the verdict, or what is wrong with it. Raises WrongAnswer unless there is one per row."""
    if not isinstance(answer, Sequence) or isinstance(answer, str) or len(answer) != rows:
        size = f"{len(answer)} of them" if isinstance(answer, list | tuple) else shown(answer)
        raise WrongAnswer(f"must return {rows} verdicts, one per row, but returned {size}")
    return [_problem(verdict) or verdict for verdict in answer]


def _problem(verdict: object) -> str | None:
    if not isinstance(verdict, Verdict):
        return f"is no Verdict but {shown(verdict)}"
    if not isinstance(verdict.reasons, tuple | list) or not all(isinstance(r, Reason) for r in verdict.reasons):
        return f"the reasons are no tuple of `Reason` but {shown(verdict.reasons)}"
    if verdict.score is None or verdict.failure is not None:
        return None
    if not isinstance(verdict.score, Real):
        return f"the score is no number but {shown(verdict.score)}"
    return None if abs(verdict.score) <= LARGEST_FLOAT32 else f"{NOT_FINITE}: {verdict.score}"


def not_finite(problem: str) -> float | None:
    """The score that a problem is about, if the problem is that it is NaN or infinite (or too large for float32)."""
    start = f"{NOT_FINITE}: "
    return float(problem.removeprefix(start)) if problem.startswith(start) else None


def shown(value: Any) -> str:
    """A value in an error message: short, and a tensor by its shape."""
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
