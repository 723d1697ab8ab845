"""The laws of an explorer, and of any plugin of training hooks."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from callwright.testing.explorer_steps import (
    Answers,
    answers,
    differ,
    differs_from_core,
    end_step,
    gradient_leaks,
    gradient_of_row,
    implemented,
    moved,
    random_step,
)
from callwright.testing.laws import Bench, Law
from callwright.types import CallwrightError, Rollouts, Stateful

ExplorerBench = Bench[object]
STEPS = (0, 1, 9)
"""Steps of a run of ten at which the hooks are asked."""


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


_IMPORTS = "from callwright.testing.explorer_steps import answers, end_step, random_step"


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
        if (place := differ(first, again)) is not None:
            lines = "import copy\nfrom callwright.testing.explorer_steps import same_answers\n"
            lines += "again = copy.deepcopy(explorer)\n"
            lines += "assert same_answers(answers(explorer, rollouts), answers(again, rollouts))"
            _broken(bench, f"under the same seeds `{place}` differs from one time to the next", made, lines)

    _for_all(bench, test)


def row_order(bench: ExplorerBench) -> None:
    """Rows in another order: what belongs to a row moves with it, what belongs to groups or to the step stays.

    How rows are to be drawn may go by their place: before they are drawn, those of a group are alike.
    """

    def test(rollouts: Rollouts, made: str) -> None:
        order = [*range(1, len(rollouts)), 0]
        first = _answers(bench, copy.deepcopy(bench.subject), rollouts, made)
        turned = _answers(bench, copy.deepcopy(bench.subject), rollouts.select(order), made)
        for drawing in ("sampling", "process_logits"):
            first.pop(drawing, None), turned.pop(drawing, None)
        if (place := differ(moved(first, order), turned)) is not None:
            lines = f"from callwright.testing.explorer_steps import moved, same_answers\norder = {order!r}\n"
            lines += "import copy\nother = copy.deepcopy(explorer)\n"
            lines += "turned = answers(other, rollouts.select(order))\n"
            lines += "assert same_answers(moved(answers(explorer, rollouts), order), turned)"
            _broken(bench, f"`{place}` of a row depends on the order of the rows", made, lines)

    _for_all(bench, test)


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
        if (place := differ(first, cut)) is not None:
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
            if differ(getattr(before, name), getattr(rollouts, name)) is not None:
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
        if (place := differ(_answers(bench, old, rollouts, made), _answers(bench, new, rollouts, made))) is not None:
            lines += "\nfrom callwright.testing.explorer_steps import same_answers\n"
            lines += "assert same_answers(answers(explorer, rollouts), answers(other, rollouts))"
            _broken(bench, f"restored from its state it answers `{place}` differently", made, lines)

    _for_all(bench, test)


def no_gradient(bench: ExplorerBench) -> None:
    """What a step hands out is constant: only `logps`, `top_logps`, and `entropy` for those who need it, carry one."""

    def test(rollouts: Rollouts, made: str) -> None:
        leaks = gradient_leaks(copy.deepcopy(bench.subject), rollouts)
        if leaks:
            lines = "from callwright.testing.explorer_steps import gradient_leaks\n"
            lines += "assert not gradient_leaks(explorer, rollouts)"
            _broken(bench, f"a gradient flows through {', '.join(leaks)}; detach it", made, lines)

    _for_all(bench, test)


def neutral(bench: ExplorerBench) -> None:
    """With the options that it declares as `neutral`, the step is the core's, bit for bit."""

    def test(rollouts: Rollouts, made: str) -> None:
        options = getattr(bench.subject, "neutral", None)
        if options is None:
            return
        explorer = dataclasses.replace(bench.subject, **options)  # type: ignore[type-var]
        if (place := differs_from_core(explorer, rollouts)) is not None:
            lines = "import dataclasses\nfrom callwright.testing.explorer_steps import differs_from_core\n"
            lines += f"explorer = dataclasses.replace(explorer, **{options!r})\n"
            lines += "assert differs_from_core(explorer, rollouts) is None"
            _broken(bench, f"with {options} it still changes `{place}`", made, lines)

    _for_all(bench, test)


def without_advantage(bench: ExplorerBench) -> None:
    """Who says `zero_without_advantage` gives rows without an advantage no gradient: the core leaves them out."""

    def test(rollouts: Rollouts, made: str) -> None:
        if not getattr(bench.subject, "zero_without_advantage", False) or not len(rollouts):
            return
        assert rollouts.advantages is not None
        rollouts.advantages = rollouts.advantages.clone()
        rollouts.advantages[0] = 0.0
        if gradient_of_row(copy.deepcopy(bench.subject), rollouts, 0):
            lines = "from callwright.testing.explorer_steps import gradient_of_row\nrollouts.advantages[0] = 0.0\n"
            lines += "assert not gradient_of_row(explorer, rollouts, 0)"
            _broken(bench, "row 0 has no advantage, but a gradient", made, lines)

    _for_all(bench, test)


LAWS: tuple[Law[Any], ...] = (
    Law("contributions", "Hooks return what their specification says.", contributions),
    Law("deterministic", "Under the same seeds the answers are the same.", deterministic),
    Law("row_order", "Answers do not depend on the order of rows.", row_order),
    Law("padding", "Answers do not depend on padding.", padding),
    Law("zero_off_mask", "Advantages are not shaped where there is no token.", zero_off_mask),
    Law("changes_nothing", "It does not change what it receives.", changes_nothing),
    Law("no_gradient", "No gradient flows through what is constant.", no_gradient),
    Law("neutral", "With its neutral options it changes nothing, bit for bit.", neutral),
    Law("without_advantage", "Rows without an advantage have no gradient, if it says so.", without_advantage),
    Law("state_round_trip", "Its state is JSON and restores it.", state_round_trip),
)
