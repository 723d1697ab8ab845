"""The hooks of one run: the named components registered in a pluggy manager, asked, checked and folded.

Importing this module does not import torch.
"""

from __future__ import annotations

import inspect
import json
import math
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pluggy

from callwright import hookspecs
from callwright.plugins import PluginError, near, summary
from callwright.types import CallwrightError, MicroBatch, Need, Rollouts, Task, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from callwright.loop import Control


class RegistrationError(PluginError):
    """Components that cannot form a run together: every mistake as (place of the component, message)."""

    def __init__(self, mistakes: list[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{place}: {text}" for place, text in mistakes))
        self.mistakes = mistakes


class BadNumber(CallwrightError):
    """NaN, an infinity or a negative weight in a contribution. The loop skips the update and counts it."""

    def __init__(self, plugin: str, hook: str, step: int, row: int | None, value: float) -> None:
        rows = "" if row is None else f", row {row}"
        super().__init__(f"step {step}{rows}: `{hook}` of '{plugin}' is {value}")
        self.plugin, self.hook, self.step, self.row = plugin, hook, step, row


@dataclass(frozen=True, slots=True)
class Named:
    """A reward or an explorer of a run."""

    name: str
    """Unique in the run."""
    plugin: object
    kind: Literal["reward", "explorer"]
    weight: float = 1.0
    """Of a reward. One with weight 0 is only watched: it takes no part in the combined reward."""
    place: str = ""
    """Where in the recipe, such as `rewards.use.0`."""


class _Handle:
    """Carries a plugin's marked methods. pluggy tells plugins apart by `==` and puts them in sets, but two dataclasses
    with the same options are equal, and not hashable."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One component's implementation of one hook."""

    component: Named
    call: Callable[..., Any]
    arguments: frozenset[str]


_SINGLE = ("advantages", "policy_loss")
_CORE_TERMS = ("loss", "policy_loss", "grad_norm", "clip_share", "kl")
"""Metrics of the update that are the core's own."""
_IN_RANGE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "temperature": ("above 0", lambda v: v > 0),
    "top_p": ("above 0 and at most 1", lambda v: (v > 0) & (v <= 1)),
    "top_k": ("at least 0", lambda v: v >= 0),
    "min_p": ("at least 0 and below 1", lambda v: (v >= 0) & (v < 1)),
}
_LARGEST_FLOAT32 = 3.4e38
_NOT_FINITE = "the score is not finite"


class Hooks:
    """The hooks of one run, typed, with the folds of `hookspecs.py`. Nobody else calls a plugin's hooks.

    `components` in recipe order; `defaults` implements at least `advantages` and `policy_loss` and is asked last;
    `combine` is the recipe's `rewards.combine`, "all" or "sum". Raises `RegistrationError` with all mistakes.

    Where the fold commutes, plugins are also *called* in the order of their names: float sums depend on their order
    in the last bit, and plugins may draw from a shared random generator.

    An exception inside a hook becomes a `PluginError` with place, plugin and hook; inside `score`, failed verdicts.
    """

    def __init__(self, components: Sequence[Named], defaults: object, combine: str) -> None:
        self._core = Named("callwright", defaults, "explorer", place="the core's defaults")
        self._components = list(components)
        self._combine = combine
        self.failures: dict[str, tuple[int, str]] = {}
        """By reward: how many rows failed because of an exception or a broken return, and the first traceback."""
        self.seconds: dict[str, float] = {}
        """Time spent in each plugin since `take_seconds`."""
        self._rewards = [c for c in self._components if c.kind == "reward"]
        mistakes = [m for c in (*self._components, self._core) for m in _component_mistakes(c)] or self._register()
        mistakes += self._run_mistakes()
        if mistakes:
            raise RegistrationError(mistakes)
        self.needs = frozenset().union(*(_needs(component) for component in (*components, self._core)))
        """What the core is to compute: the union over all components."""

    # ---- registration

    def _register(self) -> list[tuple[str, str]]:
        everybody = [*self._components, self._core]
        names = [c.name for c in everybody]
        clashes = [c for i, c in enumerate(everybody) if c.name in names[:i]]
        if clashes:
            return [(c.place, f"another component is called '{c.name}'; give this one a `name`") for c in clashes]
        manager = _manager()
        handles = {c.name: _handle(manager, c.plugin) for c in everybody}
        for component in reversed(everybody):  # pluggy asks the last registered first
            manager.register(handles[component.name], name=component.name)
        manager.check_pending()
        self._parts: dict[str, list[_Part]] = {hook: [] for hook in HOOKS}
        for hook, parts in self._parts.items():
            owners = {
                implementation.plugin: implementation for implementation in getattr(manager.hook, hook).get_hookimpls()
            }
            for component in everybody:
                if (handle := handles[component.name]) in owners:
                    others = [other for other in handles.values() if other is not handle]
                    caller = manager.subset_hook_caller(hook, others)
                    arguments = frozenset((*owners[handle].argnames, *owners[handle].kwargnames))
                    parts.append(_Part(component, caller, arguments))
        return []

    def _run_mistakes(self) -> list[tuple[str, str]]:
        mistakes = []
        for hook in _SINGLE:
            answers = [c for c in self._components if hook in _marked(c.plugin)]
            if len(answers) > 1:
                who = " and ".join(f"'{c.name}' ({c.place})" for c in answers)
                mistakes.append((answers[1].place, f"only one plugin may answer `{hook}`, but {who} do; remove one"))
        if self._rewards and not any(c.weight for c in self._rewards):
            mistakes.append((self._rewards[0].place, "every reward has weight 0; give one of them a weight"))
        if self._combine not in ("all", "sum"):
            mistakes.append(("rewards.combine", f"should be 'all' or 'sum', but is {self._combine!r}"))
        return mistakes

    # ---- generation

    def sampling(
        self, step: int, steps: int, tasks: Sequence[Task], group_ids: Tensor, plan: Mapping[str, float]
    ) -> dict[str, Tensor | int]:
        """The sampling plan: `temperature`, `top_p`, `min_p` (N,) float32, `top_k` (N,) long, and `seed` if one is set.

        `plan`: the recipe's numbers, from which the plugins start.
        """
        rows = len(tasks)
        result: dict[str, Tensor | int] = {name: _plan_field(self._core, name, v, rows) for name, v in plan.items()}
        for part in self._parts["sampling"]:
            fields = self._ask(part, "sampling", step=step, steps=steps, tasks=tasks, group_ids=group_ids)
            if fields is None:
                continue
            if not isinstance(fields, Mapping):
                _broken(part.component, "sampling", f"must return a mapping, but returned {_shown(fields)}")
            for name, value in fields.items():
                result[name] = _plan_field(part.component, name, value, rows)
        return result

    @property
    def processes_logits(self) -> bool:
        return bool(self._parts["process_logits"])

    def process_logits(self, logits: Tensor, rows: Tensor, positions: Tensor, segments: Callable[[], Tensor]) -> Tensor:
        """Logits (n, V) float32 after every plugin, in recipe order; `segments` is called only if a plugin asks."""
        parts = self._parts["process_logits"]
        current = segments() if any("segments" in part.arguments for part in parts) else None
        for part in parts:
            arguments = {"logits": logits, "rows": rows, "positions": positions, "segments": current}
            result = self._ask(part, "process_logits", **arguments)
            if result is None:
                continue
            logits = _tensor(part.component, "process_logits", result, tuple(logits.shape), "(n, V)").to(logits)
            highest = logits.amax(1)
            if not bool(highest.isfinite().all()):
                row = int(rows[int((~highest.isfinite()).nonzero()[0])])
                _broken(part.component, "process_logits", f"row {row}: NaN, infinity, or no token left to sample")
        return logits

    # ---- rewards

    @property
    def counted(self) -> list[str]:
        """Names of the rewards that take part in the combined reward, in recipe order."""
        return [component.name for component in self._rewards if component.weight]

    def score(self, rollouts: Rollouts) -> BadNumber | None:
        """Fill `rollouts.verdicts` and `rollouts.rewards` ((N,) float32, NaN where abstained or failed).

        Returns the first score that is not finite, if there is one; its row is failed already.
        """
        import torch

        parts = sorted(self._parts["score"], key=lambda part: part.component.name)
        judged = {part.component.name: self._judge(part, rollouts) for part in parts}
        for component in self._rewards:
            verdicts, _ = judged[component.name]
            scores = [math.nan if v.score is None or v.failure is not None else float(v.score) for v in verdicts]
            rollouts.verdicts[component.name] = verdicts
            rollouts.rewards[component.name] = torch.tensor(scores, dtype=torch.float32)
        return next((bad for _, bad in judged.values() if bad is not None), None)

    def _judge(self, part: _Part, rollouts: Rollouts) -> tuple[list[Verdict], BadNumber | None]:
        name, step, rows = part.component.name, rollouts.step, len(rollouts)
        try:
            answer = self._timed(part, "score", {"rollouts": rollouts})
        except Exception as error:
            return self._failed(name, summary(error), traceback.format_exc(), rows), None
        if not isinstance(answer, Sequence) or isinstance(answer, str) or len(answer) != rows:
            size = f"{len(answer)} of them" if isinstance(answer, list | tuple) else _shown(answer)
            text = f"'{name}', step {step}: must return {rows} verdicts, one per row, but returned {size}"
            return self._failed(name, text, text, rows), None
        verdicts: list[Verdict] = []
        bad: BadNumber | None = None
        for row, verdict in enumerate(answer):
            problem = _verdict_problem(verdict)
            if problem is None:
                verdicts.append(verdict)
                continue
            text = f"'{name}', step {step}, row {row}: {problem}"
            verdicts += self._failed(name, text, text, 1)
            if problem == _NOT_FINITE:
                bad = bad or BadNumber(name, "score", step, row, float(verdict.score))
        return verdicts, bad

    def _failed(self, name: str, error: str, trace: str, rows: int) -> list[Verdict]:
        count, first = self.failures.get(name, (0, trace))
        self.failures[name] = (count + rows, first)
        return [Verdict.failed(error)] * rows

    def combine(self, rollouts: Rollouts) -> Tensor:
        """Combined reward (N,) float32; NaN for a row where a reward failed or where all abstained.

        "all": 1 if every reward that scored the row gave 1, else 0. "sum": weight times score, summed. Rewards with
        weight 0 take no part.
        """
        import torch

        total = torch.zeros(len(rollouts))
        scored = torch.zeros(len(rollouts), dtype=torch.bool)
        perfect = torch.ones(len(rollouts), dtype=torch.bool)
        failed = torch.zeros(len(rollouts), dtype=torch.bool)
        for component in sorted((c for c in self._rewards if c.weight), key=lambda c: c.name):
            scores = rollouts.rewards[component.name]
            there = ~scores.isnan()
            failed |= torch.tensor([v.failure is not None for v in rollouts.verdicts[component.name]], dtype=torch.bool)
            scored |= there
            perfect &= ~there | (scores == 1.0)
            total += component.weight * scores.nan_to_num(0.0)
        result = perfect.float() if self._combine == "all" else total
        return result.masked_fill(failed | ~scored, math.nan)

    def shape_rewards(self, rollouts: Rollouts) -> Tensor:
        """Sum of the deltas (N,) float32; 0 for rows that take no part."""
        return self._sum("shape_rewards", _participating(rollouts), "(N,)", rollouts=rollouts)

    @property
    def keeps_groups(self) -> bool:
        return bool(self._parts["keep_groups"])

    def keep_groups(self, rollouts: Rollouts) -> Tensor:
        """Bool (number of groups,), in the order of `rollouts.groups`: True where every plugin keeps the group."""
        import torch

        keep = torch.ones(len(rollouts.groups), dtype=torch.bool)
        for component, answer in self._contributions("keep_groups", rollouts=rollouts):
            mask = _tensor(component, "keep_groups", answer, tuple(keep.shape), "(number of groups,)")
            if mask.dtype != torch.bool:
                _broken(component, "keep_groups", f"must return a bool tensor, but returned {mask.dtype}")
            keep &= mask.to(keep.device)
        return keep

    # ---- advantages

    def advantages(self, rollouts: Rollouts) -> Tensor:
        """Advantages (N,) float32 of the one plugin that answers, else the core's; 0 for rows that take no part."""
        inside = _participating(rollouts)
        component, answer = self._single("advantages", rollouts=rollouts)
        values = _tensor(component, "advantages", answer, (len(rollouts),), "(N,)").to(inside.device).float()
        _refuse_bad(component, "advantages", rollouts.step, values, inside)
        return values.masked_fill(~inside, 0.0)

    def shape_advantages(self, rollouts: Rollouts, base: Tensor) -> Tensor:
        """Sum of the deltas (N, T) float32, `base` not included; 0 off the mask and for rows that take no part."""
        inside = rollouts.mask & _participating(rollouts)[:, None]
        return self._sum("shape_advantages", inside, "(N, T)", rollouts=rollouts, base=base)

    def token_weights(self, rollouts: Rollouts) -> Tensor:
        """Product of the factors (N, T) float32; 0 off the mask and for rows that take no part."""
        inside = rollouts.mask & _participating(rollouts)[:, None]
        product = inside.float()
        for component, answer in self._contributions("token_weights", rollouts=rollouts):
            factor = _tensor(component, "token_weights", answer, tuple(inside.shape), "(N, T)").to(product)
            _refuse_bad(component, "token_weights", rollouts.step, factor.masked_fill(factor < 0, -math.inf), inside)
            product *= factor.masked_fill(~inside, 0.0)
        return product

    # ---- update

    @property
    def learns_without_advantage(self) -> bool:
        """Whether a row whose advantages are all 0 may have a gradient: some loss is not the core's surrogate."""
        parts = [*self._parts["policy_loss"], *self._parts["loss_terms"]]
        # The core's own term is the KL, and there is none unless the core needs the reference.
        return Need.REF_LOGPS in _needs(self._core) or any(part.component is not self._core for part in parts)

    def policy_loss(self, batch: MicroBatch) -> Tensor:
        """Loss of every token (n, T) float32 of the one plugin that answers, else the core's; 0 off the mask."""
        component, answer = self._single("policy_loss", batch=batch)
        loss = _tensor(component, "policy_loss", answer, tuple(batch.mask.shape), "(n, T)").float()
        _refuse_bad(component, "policy_loss", batch.rollouts.step, loss.detach(), batch.mask, batch.rows)
        return loss.masked_fill(~batch.mask, 0.0)

    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        """Named scalars to add to the loss, of all plugins. Raises `BadNumber` for one that is not finite."""
        terms: dict[str, Tensor] = {}
        owners: dict[str, Named] = {}
        for component, answer in self._contributions("loss_terms", batch=batch):
            if not isinstance(answer, Mapping):
                _broken(component, "loss_terms", f"must return a mapping, but returned {_shown(answer)}")
            for name, term in answer.items():
                if name in _CORE_TERMS:
                    _broken(component, "loss_terms", f"the name '{name}' is the core's; rename the term")
                if name in terms:
                    other = f"'{owners[name].name}' ({owners[name].place})"
                    _broken(component, "loss_terms", f"the term '{name}' is also one of {other}; rename one of them")
                terms[name] = _tensor(component, "loss_terms", term, (), "a scalar ()")
                if not bool(terms[name].isfinite()):
                    value = float(terms[name].detach())
                    raise BadNumber(component.name, f"loss_terms.{name}", batch.rollouts.step, None, value)
                owners[name] = component
        return terms

    def step_ended(self, step: int, metrics: Mapping[str, float], control: Control) -> None:
        for part in self._parts["step_ended"]:
            self._ask(part, "step_ended", step=step, metrics=metrics, control=control)

    # ---- state and time

    def state_dict(self) -> dict[str, Any]:
        """State by name of every component that has one; JSON values, and a copy."""
        states = {}
        for component in self._stateful():
            state = component.plugin.state_dict()  # type: ignore[attr-defined] # _stateful looked
            try:
                states[component.name] = json.loads(json.dumps(state, allow_nan=False))
            except (TypeError, ValueError) as error:
                _broken(component, "state_dict", f"the state must hold JSON values only: {error}")
            if states[component.name] != state:
                _broken(component, "state_dict", "the state changes on its way through JSON; use lists and text keys")
        return states

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Give every component its state back. Raises `PluginError` if the states are those of other components."""
        stateful = {component.name: component for component in self._stateful()}
        if missing := sorted(stateful.keys() ^ states.keys()):
            text = "the checkpoint and the recipe do not hold the same components with a state"
            raise PluginError(f"{text}: {', '.join(missing)}; resume with the recipe that was trained")
        for name, state in states.items():
            stateful[name].plugin.load_state_dict(state)  # type: ignore[attr-defined] # _stateful looked

    def take_seconds(self) -> dict[str, float]:
        """Seconds spent in each plugin since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken

    def _stateful(self) -> list[Named]:
        return [c for c in (*self._components, self._core) if hasattr(c.plugin, "state_dict")]

    # ---- asking

    def _timed(self, part: _Part, hook: str, arguments: dict[str, Any]) -> Any:
        start = time.perf_counter()
        try:
            result = part.call(**arguments)
        finally:
            name = part.component.name
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        if hook in _SINGLE:
            return result
        return result[0] if result else None  # pluggy leaves None out

    def _ask(self, part: _Part, hook: str, **arguments: Any) -> Any:
        try:
            return self._timed(part, hook, arguments)
        except Exception as error:
            component = part.component
            text = f"{component.place}: hook `{hook}` of plugin '{component.name}' failed: {summary(error)}"
            raise PluginError(text) from error

    def _contributions(self, hook: str, **arguments: Any) -> Iterator[tuple[Named, Any]]:
        for part in sorted(self._parts[hook], key=lambda part: part.component.name):
            if (answer := self._ask(part, hook, **arguments)) is not None:
                yield part.component, answer

    def _single(self, hook: str, **arguments: Any) -> tuple[Named, Any]:
        for part in self._parts[hook]:
            if (answer := self._ask(part, hook, **arguments)) is not None:
                return part.component, answer
        raise PluginError(f"no plugin answered `{hook}`, nor did the core's defaults")

    def _sum(self, hook: str, inside: Tensor, letters: str, *, rollouts: Rollouts, **arguments: Any) -> Tensor:
        import torch

        total = torch.zeros(inside.shape, device=inside.device)
        for component, answer in self._contributions(hook, rollouts=rollouts, **arguments):
            delta = _tensor(component, hook, answer, tuple(inside.shape), letters).to(total)
            _refuse_bad(component, hook, rollouts.step, delta, inside)
            total += delta.masked_fill(~inside, 0.0)
        return total


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("callwright")
    manager.add_hookspecs(hookspecs)
    return manager


HOOKS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(getattr(hookspecs, name)).parameters)
    for name in vars(hookspecs)
    if name in vars(_manager().hook)
}
"""Every hook, in the order in which a step calls it, with its arguments."""


def _needs(component: Named) -> frozenset[Need]:
    return frozenset(Need(need) for need in getattr(component.plugin, "needs", ()))


def _marked(plugin: object) -> dict[str, str]:
    """Hook -> name of the method that implements it."""
    manager = pluggy.PluginManager("callwright")
    options = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin) if not name.startswith("__")}
    return {(opts.get("specname") or name): name for name, opts in options.items() if opts is not None}


def _handle(manager: pluggy.PluginManager, plugin: object) -> _Handle:
    handle = _Handle()
    for name in _marked(plugin).values():
        setattr(handle, name, getattr(plugin, name))
    return handle


def _component_mistakes(component: Named) -> list[tuple[str, str]]:
    """What is wrong with a component by itself, as (place, message)."""
    plugin, name = component.plugin, component.name
    if inspect.isclass(plugin):
        return [
            (component.place, f"'{name}' is the class {plugin.__name__}; register an instance: {plugin.__name__}()")
        ]
    marked = _marked(plugin)
    texts = [text for hook, method in marked.items() for text in _hook_mistakes(hook, method, plugin)]
    if not marked:
        texts.append(f"'{name}' implements no hook; mark its methods with @hookimpl")
    elif component.kind == "reward" and "score" not in marked:
        texts.append(f"the reward '{name}' implements no `score`; if it is no reward, put it under explore")
    elif component.kind == "explorer" and "score" in marked:
        texts.append(f"'{name}' implements `score`; put it under rewards.use")
    needs = getattr(plugin, "needs", ())
    if isinstance(needs, str) or not isinstance(needs, Iterable):
        texts.append(f"`needs` of '{name}' must be a collection; write needs = (Need.ENTROPY,)")
    else:
        known = [str(need) for need in Need]
        texts += [f"'{name}' needs unknown '{n}'{near(str(n), known)} ({known})" for n in needs if n not in known]
    if hasattr(plugin, "state_dict") != hasattr(plugin, "load_state_dict"):
        texts.append(f"'{name}' has only one of `state_dict` and `load_state_dict`; write the other")
    return [(component.place, text) for text in texts]


def _hook_mistakes(hook: str, method: str, plugin: object) -> list[str]:
    where = f"{type(plugin).__name__}.{method}"
    if hook not in HOOKS:
        return [f"{where}: unknown hook '{hook}'{near(hook, HOOKS)}"]
    options = pluggy.PluginManager("callwright").parse_hookimpl_opts(plugin, method)
    if options and any(options.get(name) for name in ("wrapper", "hookwrapper", "tryfirst", "trylast")):
        return [f"{where}: wrapper, tryfirst and trylast mean nothing here; return a contribution"]
    return [
        f"{where}: `{hook}` has no argument '{name}'{near(name, HOOKS[hook])} (it has {', '.join(HOOKS[hook])})"
        for name in inspect.signature(getattr(plugin, method)).parameters
        if name not in HOOKS[hook]
    ]


def _verdict_problem(verdict: object) -> str | None:
    if not isinstance(verdict, Verdict):
        return f"is no Verdict but {_shown(verdict)}"
    if verdict.score is None or verdict.failure is not None:
        return None
    if not isinstance(verdict.score, Real):
        return f"the score is no number but {_shown(verdict.score)}"
    return None if abs(verdict.score) <= _LARGEST_FLOAT32 else _NOT_FINITE


def _participating(rollouts: Rollouts) -> Tensor:
    """(N,) bool: rows whose combined reward is a number."""
    import torch

    if rollouts.total is None:
        return torch.ones(len(rollouts), dtype=torch.bool)
    return ~rollouts.total.isnan()


def _plan_field(component: Named, name: str, value: Any, rows: int) -> Tensor | int:
    """A field of the sampling plan, checked: (N,) float32, long for `top_k`, or the int `seed`."""
    import torch

    def broken(text: str) -> NoReturn:
        _broken(component, "sampling", f"{name} {text}")

    if name == "seed":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            broken(f"must be an int of at least 0, but is {_shown(value)}")
        return value
    if name not in _IN_RANGE:
        _broken(component, "sampling", f"unknown field '{name}'{near(str(name), [*_IN_RANGE, 'seed'])}")
    if isinstance(value, bool) or not isinstance(value, int | float | torch.Tensor):
        broken(f"must be a number or a tensor ({rows},), but is {_shown(value)}")
    given = torch.as_tensor(value)
    if tuple(given.shape) not in ((), (rows,)):
        broken(f"must be a number or a tensor (N,) = ({rows},), but has shape {tuple(given.shape)}")
    if name == "top_k" and given.is_floating_point():
        broken(f"must be whole numbers, but is {_shown(value)}")
    tensor = given.detach().to("cpu", torch.long if name == "top_k" else torch.float32).expand(rows).clone()
    words, allowed = _IN_RANGE[name]
    bad = ~(allowed(tensor) & tensor.isfinite())
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        broken(f"must be {words}, but is {tensor[row].item()} in row {row}")
    return tensor


def _tensor(component: Named, hook: str, value: Any, shape: tuple[int, ...], letters: str) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape or value.is_complex():
        _broken(component, hook, f"must return a tensor {letters} = {shape}, but returned {_shown(value)}")
    return value


def _refuse_bad(
    component: Named, hook: str, step: int, values: Tensor, inside: Tensor, rows: Tensor | None = None
) -> None:
    """Raise `BadNumber` for the first row with a value inside that is not finite."""
    bad = ~values.isfinite() & inside
    if not bool(bad.any()):
        return
    first = bad.nonzero()[0]
    row = int(first[0]) if rows is None else int(rows[int(first[0])])
    raise BadNumber(component.name, hook, step, row, float(values[tuple(first)]))


def _broken(component: Named, hook: str, text: str) -> NoReturn:
    raise PluginError(f"{component.place}: `{hook}` of plugin '{component.name}': {text}")


def _shown(value: Any) -> str:
    """A value in an error message: short, and a tensor by its shape."""
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
