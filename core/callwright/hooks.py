"""The hooks of one run: the named components registered in a pluggy manager, asked, checked and folded.

Importing this module does not import torch.
"""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pluggy

from callwright import hookspecs
from callwright.combine import Combine, Normalise, combined
from callwright.combine import mistakes as mistakes_of_combination
from callwright.judging import marked, shown
from callwright.plugins import PluginError, near, summary
from callwright.scoring import BadNumber, Named, Scorer, policy_mistakes
from callwright.types import MicroBatch, Need, Replayed, Rollouts, Task

__all__ = ["HOOKS", "BadNumber", "Hooks", "Named", "RegistrationError", "composition_mistakes"]

if TYPE_CHECKING:
    from torch import Tensor

    from callwright.loop import Control
    from callwright.timeline import Timeline


class RegistrationError(PluginError):
    """Components that cannot form a run together: every mistake as (place of the component, message)."""

    def __init__(self, mistakes: list[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{place}: {text}" for place, text in mistakes))
        self.mistakes = mistakes


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
PLAN_FIELDS = (*_IN_RANGE, "seed", "prefix")
"""What the hook `sampling` may return."""


class Hooks:
    """The hooks of one run, typed, with the folds of `hookspecs.py`. Nobody else calls a plugin's hooks.

    `components` in recipe order; `defaults` implements at least `advantages` and `policy_loss` and is asked last;
    `combine` and `normalise` are those of the recipe's `rewards`. Raises `RegistrationError` with all mistakes.

    Where the fold commutes, plugins are also *called* in the order of their names: float sums depend on their order
    in the last bit, and plugins may draw from a shared random generator.

    An exception inside a hook becomes a `PluginError` with place, plugin and hook; inside `score`, failed verdicts.
    """

    def __init__(
        self, components: Sequence[Named], defaults: object, combine: Combine, normalise: Normalise = "none"
    ) -> None:
        self._core = Named("callwright", defaults, "explorer", place="the core's defaults")
        self._components = list(components)
        self._combine, self._normalise = combine, normalise
        self.seconds: dict[str, float] = {}
        """Time spent in each plugin since `take_seconds`; the rewards' time is added there."""
        self._rewards = [c for c in self._components if c.kind == "reward"]
        mistakes = [m for c in (*self._components, self._core) for m in _component_mistakes(c)] or self._register()
        mistakes += self._run_mistakes()
        if mistakes:
            raise RegistrationError(mistakes)
        self._scorer = Scorer(self._rewards)
        self.needs = frozenset().union(*(_needs(component) for component in (*components, self._core)))
        """What the core is to compute: the union over all components."""
        self.top_logps = max(map(_top_logps, (*components, self._core)))
        """How many of the likeliest tokens `MicroBatch.top_logps` is to hold; 0 for none."""
        self.corrects_sampling = any(getattr(c.plugin, "corrects_sampling", False) for c in components)
        """Whether a plugin corrects for completions that another distribution than the policy drew."""

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
            answers = [c for c in self._components if hook in marked(c.plugin)]
            if len(answers) > 1:
                who = " and ".join(f"'{c.name}' ({c.place})" for c in answers)
                mistakes.append((answers[1].place, f"only one plugin may answer `{hook}`, but {who} do; remove one"))
        return mistakes + composition_mistakes(self._rewards, self._combine, self._normalise)

    # ---- generation

    def task_weights(self, step: int, tasks: Sequence[Task]) -> list[float] | None:
        """Product of the weights, one per training task; None if no plugin gives any."""
        import torch

        product: Tensor | None = None
        for component, answer in self._contributions("task_weights", step=step, tasks=tasks):
            weights = _tensor(component, "task_weights", answer, (len(tasks),), "(number of tasks,)").double().cpu()
            if bool((~weights.isfinite() | (weights < 0)).any()):
                _broken(component, "task_weights", "must return numbers of at least 0")
            product = weights if product is None else product * weights
        return None if product is None else torch.as_tensor(product).tolist()

    def sampling(
        self, step: int, steps: int, tasks: Sequence[Task], group_ids: Tensor, plan: Mapping[str, float]
    ) -> dict[str, Tensor | int | list[str]]:
        """The sampling plan: `temperature`, `top_p`, `min_p` (N,) float32, `top_k` (N,) long, and, if they are set,
        `seed` and the N texts of `prefix`.

        `plan`: the recipe's numbers, from which the plugins start.
        """
        rows = len(tasks)
        result: dict[str, Tensor | int | list[str]]
        result = {name: _plan_field(self._core, name, v, rows) for name, v in plan.items()}
        for part in self._parts["sampling"]:
            fields = self._ask(part, "sampling", step=step, steps=steps, tasks=tasks, group_ids=group_ids)
            if fields is None:
                continue
            if not isinstance(fields, Mapping):
                _broken(part.component, "sampling", f"must return a mapping, but returned {shown(fields)}")
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

    def replay(self, rollouts: Rollouts) -> list[Replayed]:
        """Completions of earlier steps that join groups of this one."""
        found: list[Replayed] = []
        groups = set(rollouts.group_ids.tolist())
        for component, answer in self._contributions("replay", rollouts=rollouts):
            for one in answer if isinstance(answer, Sequence) else [answer]:
                if not isinstance(one, Replayed):
                    _broken(component, "replay", f"must return objects of Replayed, but one is {shown(one)}")
                if one.group not in groups:
                    _broken(component, "replay", f"there is no group {one.group} in this step")
                if not one.completion_ids or len(one.completion_ids) != len(one.behaviour_logps):
                    _broken(component, "replay", "a completion needs tokens, and as many log-probabilities")
                if not all(map(math.isfinite, one.behaviour_logps)):
                    _broken(component, "replay", "log-probabilities must be finite")
                found.append(one)
        return found

    # ---- rewards

    @property
    def counted(self) -> list[str]:
        """Names of the rewards that take part in the combined reward, in recipe order."""
        return [component.name for component in self._rewards if not component.part.watched]

    def score(self, rollouts: Rollouts) -> BadNumber | None:
        """Fill `rollouts.verdicts` and `rollouts.rewards` ((N,) float32, NaN where abstained or failed).

        Returns the first score that is not finite, if there is one; its row is failed already.
        """
        import torch

        verdicts, bad = self._scorer.score(rollouts)
        for component in self._rewards:
            column = verdicts[component.name]
            scores = [math.nan if v.score is None else float(v.score) for v in column]
            rollouts.verdicts[component.name] = column
            rollouts.rewards[component.name] = torch.tensor(scores, dtype=torch.float32)
        return bad

    @property
    def failures(self) -> dict[str, tuple[int, str]]:
        """By reward: how many rows failed, and the first failure with its row and traceback."""
        return self._scorer.failures

    @property
    def stop_reason(self) -> str | None:
        """Why the run must end: a reward with `on_failure: stop` failed."""
        return self._scorer.stop_reason

    @property
    def normalises(self) -> bool:
        """Whether the combined reward is one of normalised rewards, so that its mean says nothing."""
        return self._normalise != "none"

    def combine(self, rollouts: Rollouts, *, normalise: bool = True) -> Tensor:
        """Combined reward (N,) float32 by the rule in `combine.combined`; NaN for a row that takes no part.

        normalise: False gives the plain weighted sum, for people.
        """
        import torch

        normal: Normalise = self._normalise if normalise else "none"
        totals = combined(
            rollouts.verdicts,
            [component.part for component in self._rewards],
            self._combine,
            normal,
            step=rollouts.step,
            groups=rollouts.group_ids.tolist(),
        )
        return torch.tensor(totals, dtype=torch.float32)

    def take_metrics(self) -> dict[str, float]:
        """What rewards reported since the last call, as `metric/REWARD/NAME`: the mean over reports."""
        taken, self._scorer.metrics = self._scorer.metrics, {}
        return {f"metric/{name}": sum(values) / len(values) for name, values in taken.items()}

    @property
    def begins_early(self) -> bool:
        """Whether some reward can judge rows that are finished while others are still drawn."""
        return self._scorer.begins_early

    def begin_scoring(self, rollouts: Rollouts) -> None:
        """Let such rewards begin with these rows, in the background; `score` finds what they say."""
        self._scorer.begin(rollouts)

    def record_in(self, timeline: Timeline) -> None:
        """When each reward is asked is to be written there."""
        self._scorer.timeline = timeline

    def reward_news(self) -> tuple[dict[str, tuple[int, str]], str | None, dict[str, list[float]]]:
        """`failures`, `stop_reason` and what rewards reported, for a process in which no reward was asked."""
        return self._scorer.failures, self._scorer.stop_reason, self._scorer.metrics

    def take_reward_news(self, news: tuple[dict[str, tuple[int, str]], str | None, dict[str, list[float]]]) -> None:
        """Know what another process' `reward_news` says."""
        self._scorer.failures, self._scorer.stop_reason, self._scorer.metrics = news

    def close(self) -> None:
        """End what rewards run outside this process."""
        self._scorer.close()

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
        losses = [p.component for p in self._parts["policy_loss"]]
        terms = [p.component for p in self._parts["loss_terms"]]
        # The core's own term is the KL, and there is none unless the core needs the reference.
        return (
            Need.REF_LOGPS in _needs(self._core)
            or any(component is not self._core for component in terms)
            or any(not getattr(c.plugin, "zero_without_advantage", False) for c in losses if c is not self._core)
        )

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
                _broken(component, "loss_terms", f"must return a mapping, but returned {shown(answer)}")
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

    def step_ended(self, step: int, metrics: Mapping[str, float], rollouts: Rollouts, control: Control) -> None:
        for part in self._parts["step_ended"]:
            self._ask(part, "step_ended", step=step, metrics=metrics, rollouts=rollouts, control=control)

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
        for name, seconds in self._scorer.seconds.items():
            taken[name] = taken.get(name, 0.0) + seconds
        self._scorer.seconds = {}
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


def composition_mistakes(rewards: Sequence[Named], combine: str, normalise: str) -> list[tuple[str, str]]:
    """What is wrong with how rewards are put together and run, as (place in the recipe, message)."""
    found = []
    for index, key, text in mistakes_of_combination([reward.part for reward in rewards], combine, normalise):
        place = "rewards" if index is None else rewards[index].place
        found.append((f"{place}.{key}" if key else place, text))
    for reward in rewards:
        found += [(f"{reward.place}.{key}", text) for key, text in policy_mistakes(reward)]
    return found


def _needs(component: Named) -> frozenset[Need]:
    return frozenset(Need(need) for need in getattr(component.plugin, "needs", ()))


def _top_logps(component: Named) -> int:
    return int(getattr(component.plugin, "top_logps", 1)) if Need.TOP_LOGPS in _needs(component) else 0


def _handle(manager: pluggy.PluginManager, plugin: object) -> _Handle:
    handle = _Handle()
    for name in marked(plugin).values():
        setattr(handle, name, getattr(plugin, name))
    return handle


def _component_mistakes(component: Named) -> list[tuple[str, str]]:
    """What is wrong with a component by itself, as (place, message)."""
    plugin, name = component.plugin, component.name
    if inspect.isclass(plugin):
        return [
            (component.place, f"'{name}' is the class {plugin.__name__}; register an instance: {plugin.__name__}()")
        ]
    implemented = marked(plugin)
    texts = [text for hook, method in implemented.items() for text in _hook_mistakes(hook, method, plugin)]
    if not implemented:
        texts.append(f"'{name}' implements no hook; mark its methods with @hookimpl")
    elif component.kind == "reward" and "score" not in implemented:
        texts.append(f"the reward '{name}' implements no `score`; if it is no reward, put it under explore")
    elif component.kind == "explorer" and "score" in implemented:
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


def _participating(rollouts: Rollouts) -> Tensor:
    """(N,) bool: rows whose combined reward is a number."""
    import torch

    if rollouts.total is None:
        return torch.ones(len(rollouts), dtype=torch.bool)
    return ~rollouts.total.isnan()


def _plan_field(component: Named, name: str, value: Any, rows: int) -> Tensor | int | list[str]:
    """A field of the sampling plan, checked: (N,) float32, long for `top_k`, the int `seed` or N texts."""
    import torch

    def broken(text: str) -> NoReturn:
        _broken(component, "sampling", f"{name} {text}")

    if name == "seed":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            broken(f"must be an int of at least 0, but is {shown(value)}")
        return value
    if name == "prefix":
        texts = [value] * rows if isinstance(value, str) else list(value) if isinstance(value, Sequence) else []
        if len(texts) != rows or not all(isinstance(text, str) for text in texts):
            broken(f"must be a text or {rows} of them, but is {shown(value)}")
        return texts
    if name not in _IN_RANGE:
        _broken(component, "sampling", f"unknown field '{name}'{near(str(name), PLAN_FIELDS)}")
    if isinstance(value, bool) or not isinstance(value, int | float | torch.Tensor):
        broken(f"must be a number or a tensor ({rows},), but is {shown(value)}")
    given = torch.as_tensor(value)
    if tuple(given.shape) not in ((), (rows,)):
        broken(f"must be a number or a tensor (N,) = ({rows},), but has shape {tuple(given.shape)}")
    if name == "top_k" and given.is_floating_point():
        broken(f"must be whole numbers, but is {shown(value)}")
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
        _broken(component, hook, f"must return a tensor {letters} = {shape}, but returned {shown(value)}")
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
