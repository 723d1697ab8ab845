"""The laws of an explorer, and of any plugin of training hooks."""

from __future__ import annotations

import copy
import inspect
import json
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy
from hypothesis import strategies as st

from callwright.testing.laws import Bench, Law
from callwright.testing.scoring import gold_text, plugin
from callwright.testing.toys import fixed_tasks
from callwright.types import CallwrightError, MicroBatch, Rollouts, Stateful, Task

if TYPE_CHECKING:
    from torch import Tensor

    from callwright.hooks import Hooks

ExplorerBench = Bench[object]
Answers = dict[str, Any]
PLAN = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
STEPS = (0, 1, 9)
"""Steps of a run of ten at which the hooks are asked."""


def random_step(seed: int, sizes: tuple[int, ...], tokens: int, step: int = 0) -> Rollouts:
    """A step of ragged groups with random numbers in the ranges that a run has: `sizes` rows each, and one row that
    takes no part if there are enough; the rows stand in any order."""
    import torch

    g = torch.Generator().manual_seed(seed)
    rows = sum(sizes)
    toys = fixed_tasks()
    group = torch.repeat_interleave(torch.arange(len(sizes)) * 3 + 1, torch.tensor(sizes))
    group = group[torch.randperm(rows, generator=g)]
    lengths = torch.randint(1, tokens + 1, (rows,), generator=g)
    mask = torch.arange(tokens)[None, :] < lengths[:, None]

    def noise(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(rows, tokens, generator=g)) * mask

    tasks: list[Task] = [toys[int(one) % len(toys)] for one in group]
    policy = noise(-5.0, 0.0)
    total = torch.randint(0, 5, (rows,), generator=g).float() / 4
    if rows > 4:
        total[rows // 2] = float("nan")
    dialect = plugin("dialect", "funrl")
    texts = [gold_text(dialect, task) for task in tasks]
    return Rollouts(
        step=step,
        tasks=tasks,
        group_ids=group,
        prompt_ids=[[int(one)] * 3 for one in group],
        texts=texts,
        parses=[dialect.parse(text) for text in texts],
        completion_ids=torch.randint(3, 50, (rows, tokens), generator=g) * mask,
        mask=mask,
        behaviour_logps=policy + noise(-0.1, 0.1),
        policy_logps=policy,
        entropy=noise(0.0, 4.0),
        segments=(torch.randint(1, 9, (rows, tokens), generator=g) * mask).to(torch.int8),
        truncated=torch.rand(rows, generator=g) < 0.2,
        temperature=torch.ones(rows),
        ref_logps=policy + noise(-0.5, 0.5),
        rewards={"reward": total.clone()},
        total=total,
        advantages=noise(-2.0, 2.0),
        token_weights=mask.float(),
    )


def micro_batch(rollouts: Rollouts) -> MicroBatch:
    """All rows of a step as one micro-batch, with gradients on `logps` and `entropy`."""
    assert rollouts.advantages is not None
    assert rollouts.token_weights is not None
    mask = rollouts.mask
    return MicroBatch(
        logps=(rollouts.policy_logps + 0.1 * rollouts.entropy).detach().requires_grad_(),
        entropy=rollouts.entropy.clone().requires_grad_(),
        old_logps=rollouts.policy_logps,
        behaviour_logps=rollouts.behaviour_logps,
        ref_logps=rollouts.ref_logps,
        advantages=rollouts.advantages,
        mask=mask,
        segments=rollouts.segments,
        token_weights=rollouts.token_weights,
        scale=mask.float() / mask.sum(),
        rows=_long(range(len(rollouts))),
        rollouts=rollouts,
    )


def _long(numbers: Any) -> Tensor:
    import torch

    return torch.tensor(list(numbers), dtype=torch.long)


# ------------------------------------------------------------------------------------------------------- asking


def implemented(explorer: object) -> dict[str, str]:
    """Hook -> method of the plugin that implements it."""
    manager = pluggy.PluginManager("callwright")
    options = {n: manager.parse_hookimpl_opts(explorer, n) for n in dir(explorer) if not n.startswith("__")}
    return {(given.get("specname") or name): name for name, given in options.items() if given is not None}


def _hooks(explorer: object) -> Hooks:
    from callwright import grpo
    from callwright.hooks import Hooks, Named

    return Hooks([Named("explorer", explorer, "explorer")], grpo.Defaults("group", 0.2, 0.2, 0.0), "sum")


def answers(explorer: object, rollouts: Rollouts, *, seed: int = 0) -> Answers:
    """What every hook of the plugin contributes in this step, checked and folded as a run does it.

    Raises `CallwrightError` for a contribution that a run would refuse.
    """
    import numpy
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    hooks, found = _hooks(explorer), Answers()
    base = rollouts.total.nan_to_num(0.5) * 2 - 1 if rollouts.total is not None else None
    logits = rollouts.entropy[:, :1] * torch.linspace(-1, 1, 13)[None, :]
    rows = _long(range(len(rollouts)))
    calls: dict[str, Callable[[], Any]] = {
        "sampling": lambda: hooks.sampling(rollouts.step, 10, rollouts.tasks, rollouts.group_ids, PLAN),
        "process_logits": lambda: hooks.process_logits(logits, rows, rollouts.lengths, lambda: rollouts.segments[:, 0]),
        "shape_rewards": lambda: hooks.shape_rewards(rollouts),
        "keep_groups": lambda: hooks.keep_groups(rollouts),
        "advantages": lambda: hooks.advantages(rollouts),
        "shape_advantages": lambda: hooks.shape_advantages(rollouts, base),  # type: ignore[arg-type] # total is there
        "token_weights": lambda: hooks.token_weights(rollouts),
        "policy_loss": lambda: hooks.policy_loss(micro_batch(rollouts)),
        "loss_terms": lambda: hooks.loss_terms(micro_batch(rollouts)),
    }
    for hook in implemented(explorer):
        if hook in calls:
            found[hook] = calls[hook]()
    return found


def end_step(explorer: object, rollouts: Rollouts) -> None:
    """Tell the plugin that the step ended, with the metrics of a run."""
    from callwright.loop import Control, describe

    hooks = _hooks(explorer)
    metrics = {**describe(rollouts, hooks), "loss": 0.1, "policy_loss": 0.1, "grad_norm": 1.0, "clip_share": 0.0}
    metrics |= {"tokens": float(rollouts.mask.sum()), "seconds": 1.0, "dropped_groups": 0.0, "refills": 0.0}
    hooks.step_ended(rollouts.step, metrics, Control())


def _tensors(values: Any) -> Any:
    """Nested answers as (path, tensor) pairs."""
    import torch

    if isinstance(values, Mapping):
        for name, inner in values.items():
            yield from ((f"{name}.{path}".rstrip("."), tensor) for path, tensor in _tensors(inner))
    else:
        yield "", torch.as_tensor(values).detach()


def _differ(first: Any, second: Any) -> str | None:
    """Where two answers differ."""
    import torch

    left, right = dict(_tensors(first)), dict(_tensors(second))
    for path in sorted(left.keys() | right.keys()):
        if path not in left or path not in right or left[path].shape != right[path].shape:
            return path
        if not torch.allclose(left[path].double(), right[path].double(), rtol=1e-4, atol=1e-5, equal_nan=True):
            return path
    return None


# --------------------------------------------------------------------------------------------------------- laws


def _for_all(bench: ExplorerBench, test: Callable[[Rollouts, str], object]) -> None:
    shapes = st.tuples(
        st.integers(0, 99),
        st.lists(st.integers(1, 4), min_size=1, max_size=4),
        st.integers(1, 8),
        st.sampled_from(STEPS),
    )

    def run(shape: tuple[int, list[int], int, int]) -> None:
        seed, sizes, tokens, step = shape
        arguments = (seed, tuple(sizes), tokens, step)
        test(random_step(*arguments), f"rollouts = random_step{arguments!r}")

    bench.search(shapes, run, [(0, [2, 2], 4, 0), (1, [3, 1, 2], 6, 1), (2, [4, 4], 8, 9)])


_IMPORTS = "from callwright.testing.explorer_laws import answers, end_step, random_step"


def _broken(bench: ExplorerBench, message: str, made: str, lines: str) -> None:
    bench.broken(message, f"{_IMPORTS}\n{made}\nexplorer = {bench.source}\n{lines}")


def _answers(bench: ExplorerBench, explorer: object, rollouts: Rollouts, made: str) -> Answers:
    try:
        return answers(explorer, rollouts)
    except CallwrightError as error:
        _broken(bench, str(error).splitlines()[0], made, "answers(explorer, rollouts)")
        raise


def contributions(bench: ExplorerBench) -> None:
    """Every hook returns what its specification says: shapes, ranges, finite numbers."""
    _for_all(bench, lambda rollouts, made: _answers(bench, copy.deepcopy(bench.subject), rollouts, made))


def deterministic(bench: ExplorerBench) -> None:
    def test(rollouts: Rollouts, made: str) -> None:
        first, again = (_answers(bench, copy.deepcopy(bench.subject), rollouts, made) for _ in range(2))
        if (place := _differ(first, again)) is not None:
            lines = "import copy\nfrom callwright.testing.explorer_laws import same_answers\n"
            lines += "again = copy.deepcopy(explorer)\n"
            lines += "assert same_answers(answers(explorer, rollouts), answers(again, rollouts))"
            _broken(bench, f"under the same seeds `{place}` differs from one time to the next", made, lines)

    _for_all(bench, test)


def same_answers(first: Answers, second: Answers) -> bool:
    """Whether two results of `answers` are the same, up to rounding."""
    return _differ(first, second) is None


def row_order(bench: ExplorerBench) -> None:
    """Rows in another order: what belongs to a row moves with it, what belongs to groups or to the step stays."""

    def test(rollouts: Rollouts, made: str) -> None:
        order = [*range(1, len(rollouts)), 0]
        first = _answers(bench, copy.deepcopy(bench.subject), rollouts, made)
        turned = _answers(bench, copy.deepcopy(bench.subject), rollouts.select(order), made)
        if (place := _differ(_moved(first, order), turned)) is not None:
            lines = f"from callwright.testing.explorer_laws import moved, same_answers\norder = {order!r}\n"
            lines += "import copy\nother = copy.deepcopy(explorer)\n"
            lines += "turned = answers(other, rollouts.select(order))\n"
            lines += "assert same_answers(moved(answers(explorer, rollouts), order), turned)"
            _broken(bench, f"`{place}` of a row depends on the order of the rows", made, lines)

    _for_all(bench, test)


def moved(found: Answers, order: list[int]) -> Answers:
    """The result of `answers` with its rows in another order."""
    return _moved(found, order)


def _moved(value: Any, order: list[int], hook: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(inner, order, hook or name) for name, inner in value.items()}
    per_row = hook not in ("keep_groups", "loss_terms") and getattr(value, "dim", lambda: 0)() > 0
    return value[_long(order)] if per_row else value


def padding(bench: ExplorerBench) -> None:
    """More columns of padding change nothing on the tokens."""
    import torch

    def test(rollouts: Rollouts, made: str) -> None:
        width = rollouts.mask.shape[1]
        filler = random_step(0, (1,), width + 3)
        wide = Rollouts.concatenate([rollouts, filler]).select(list(range(len(rollouts))))
        first = _answers(bench, copy.deepcopy(bench.subject), rollouts, made)
        second = _answers(bench, copy.deepcopy(bench.subject), wide, made)
        cut = {name: v[:, :width] if isinstance(v, torch.Tensor) and v.dim() == 2 else v for name, v in second.items()}
        if "process_logits" in cut:
            cut["process_logits"] = second["process_logits"]
        if (place := _differ(first, cut)) is not None:
            _broken(bench, f"`{place}` depends on how far the rows are padded", made, "answers(explorer, rollouts)")

    _for_all(bench, test)


def zero_off_mask(bench: ExplorerBench) -> None:
    """`shape_advantages` adds nothing where there is no token: the core ignores it there, other readers may not."""

    def test(rollouts: Rollouts, made: str) -> None:
        name = implemented(bench.subject).get("shape_advantages")
        if name is None:
            return
        import torch

        torch.manual_seed(0)
        method = getattr(copy.deepcopy(bench.subject), name)
        assert rollouts.total is not None
        given = {"rollouts": rollouts, "base": rollouts.total.nan_to_num(0.5) * 2 - 1}
        delta = method(**{key: given[key] for key in inspect.signature(method).parameters})
        if delta is not None and bool((delta[~rollouts.mask] != 0).any()):
            lines = "base = rollouts.total.nan_to_num(0.5) * 2 - 1\ngiven = {'rollouts': rollouts, 'base': base}\n"
            lines += "import inspect\n"
            lines += f"names = inspect.signature(explorer.{name}).parameters\n"
            lines += f"delta = explorer.{name}(**{{name: given[name] for name in names}})\n"
            lines += "assert not delta[~rollouts.mask].any()"
            _broken(bench, "shape_advantages is not zero off the mask", made, lines)

    _for_all(bench, test)


def changes_nothing(bench: ExplorerBench) -> None:
    def test(rollouts: Rollouts, made: str) -> None:
        before = copy.deepcopy(rollouts)
        _answers(bench, copy.deepcopy(bench.subject), rollouts, made)
        names = ["group_ids", "mask", "policy_logps", "entropy", "segments", "total", "advantages", "token_weights"]
        for name in names:
            if _differ(getattr(before, name), getattr(rollouts, name)) is not None:
                lines = f"import copy\nbefore = copy.deepcopy(rollouts.{name})\nanswers(explorer, rollouts)\n"
                lines += f"assert bool((before == rollouts.{name}).all())"
                _broken(bench, f"the explorer changes `rollouts.{name}`, which it shares with others", made, lines)

    _for_all(bench, test)


def state_round_trip(bench: ExplorerBench) -> None:
    """The state is JSON, and a new object that is given it goes on where the old one was."""

    def test(rollouts: Rollouts, made: str) -> None:
        if not isinstance(bench.subject, Stateful):
            return
        old, new = copy.deepcopy(bench.subject), copy.deepcopy(bench.subject)
        for _ in range(2):
            _answers(bench, old, rollouts, made)
            end_step(old, rollouts)
        lines = "import copy, json\nother = copy.deepcopy(explorer)\nanswers(explorer, rollouts)\n"
        lines += "end_step(explorer, rollouts)\nstate = explorer.state_dict()\n"
        lines += "assert json.loads(json.dumps(state, allow_nan=False)) == state\nother.load_state_dict(state)\n"
        lines += "assert other.state_dict() == state"
        try:
            state = json.loads(json.dumps(old.state_dict(), allow_nan=False))
        except (TypeError, ValueError) as error:
            _broken(bench, f"the state is no JSON: {error}", made, lines)
        if state != old.state_dict():
            _broken(bench, "the state changes on its way through JSON", made, lines)
        new.load_state_dict(state)
        if new.state_dict() != old.state_dict():
            _broken(bench, "a new object that is given the state has another", made, lines)
        if (place := _differ(_answers(bench, old, rollouts, made), _answers(bench, new, rollouts, made))) is not None:
            lines += "\nfrom callwright.testing.explorer_laws import same_answers\n"
            lines += "assert same_answers(answers(explorer, rollouts), answers(other, rollouts))"
            _broken(bench, f"restored from its state it answers `{place}` differently", made, lines)

    _for_all(bench, test)


LAWS: tuple[Law[Any], ...] = (
    Law("contributions", "Hooks return what their specification says.", contributions),
    Law("deterministic", "Under the same seeds the answers are the same.", deterministic),
    Law("row_order", "Answers do not depend on the order of rows.", row_order),
    Law("padding", "Answers do not depend on padding.", padding),
    Law("zero_off_mask", "Advantages are not shaped where there is no token.", zero_off_mask),
    Law("changes_nothing", "It does not change what it receives.", changes_nothing),
    Law("state_round_trip", "Its state is JSON and restores it.", state_round_trip),
)
