"""The strategies of sampling besides `temperature`: formulas, laws, and real generation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from callwright import Dialect, Rollouts, Segment, Task, Tool, Verdict, grpo, hookimpl
from callwright.data import make_deck
from callwright.display import SilentDisplay
from callwright.hooks import Hooks, Named
from callwright.loop import Learner
from callwright.packing import Policy
from callwright.recipe import Recipe
from callwright.rollouts import character_segments, encode_prompt
from callwright.testing import check_explorer
from callwright_dialects.funrl import FunRL
from callwright_dialects.python_calls import PythonCalls
from callwright_explorers.forced_first import ForcedFirst
from callwright_explorers.min_p import MinP
from callwright_explorers.phase_temperature import PhaseTemperature
from callwright_explorers.position_temperature import PositionTemperature
from callwright_explorers.temperature import Temperature
from callwright_explorers.top_p import TopP
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor

unhurried = settings(deadline=None)  # the machine may be busy
TOOLS = tuple(Tool(name) for name in ("add", "ping", "greet"))


class Letters:
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict((sum(map(ord, text)) % 7) / 7) for text in rollouts.texts]


class Thinks:
    """Every second completion begins by thinking."""

    @hookimpl
    def sampling(self, group_ids: Tensor) -> dict[str, list[str]]:
        return {"prefix": ["<think>" if row % 2 else "" for row in range(len(group_ids))]}


def recipe_of(**train: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": {"use": "funrl"},
            "data": {"source": {"use": "jsonl"}},
            "rewards": {"combine": "sum", "use": [{"use": "unused"}]},
            "train": {"prompts_per_step": 2, "group_size": 6, "max_new_tokens": 14, "temperature": 0.9, **train},
        }
    )


@pytest.fixture
def learner_of(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Callable[..., Learner]:
    """`learner_of(*explorers, **train)`: a tiny random Llama, tasks of three tools, always the same generator."""

    def make(*explorers: object, **train: Any) -> Learner:
        recipe, dialect = recipe_of(**train), FunRL(instruction="Call.")
        named = [Named("reward", Letters(), "reward", place="rewards.use.0")]
        named += [Named(type(e).__name__, e, "explorer", place=f"explore.{i}") for i, e in enumerate(explorers)]
        model = tiny_model("llama")
        tasks = [Task(f"t{i}", ({"role": "user", "content": f"add {i}"},), TOOLS) for i in range(6)]
        deck, _ = make_deck(
            tasks,
            lambda task: encode_prompt(tiny_tokenizer, dialect, task),
            seed=0,
            longest=None,
            progress=lambda *_: None,
        )
        return Learner(
            recipe=recipe,
            hooks=Hooks(named, grpo.Defaults("group", 0.2, 0.2, 0.0), "sum"),
            dialect=dialect,
            policy=Policy(model),
            tokenizer=tiny_tokenizer,
            optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
            deck=deck,
            ends=[2],
            display=SilentDisplay(),
            generator=torch.Generator().manual_seed(0),
        )

    return make


def generated(learner: Learner, step: int = 0) -> Rollouts:
    return learner.generate(step, 2, 0, None)


def logps_at(learner: Learner, rollouts: Rollouts, temperature: Tensor) -> Tensor:
    """Log-probabilities (N, T) of the completions by transformers' own forward pass; temperature (N, T)."""
    found = torch.zeros(rollouts.mask.shape)
    for row, prompt in enumerate(rollouts.prompt_ids):
        ids = rollouts.completion_ids[row]
        with torch.no_grad():
            logits = learner.policy.model(torch.tensor([[*prompt, *ids.tolist()]])).logits[0, len(prompt) - 1 : -1]
        scaled = (logits.double() / temperature[row, :, None]).log_softmax(-1)
        found[row] = scaled.gather(1, ids[:, None]).squeeze(1).float()
    return found


def same_on_tokens(rollouts: Rollouts, found: Tensor, expected: Tensor, where: Tensor | bool = True) -> None:
    inside = rollouts.mask & where
    assert bool(inside.any())
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------ top_p and min_p


@pytest.mark.parametrize(
    ("explorer", "name", "expected"),
    [
        (TopP(), "top_p", [0.95] * 5),
        (TopP("linear", 0.8, 1.0), "top_p", [0.8, 0.85, 0.9, 0.95, 1.0]),
        (TopP("step", 0.5, 1.0, every=2, factor=1.5), "top_p", [0.5, 0.5, 0.75, 0.75, 1.0]),
        (MinP(), "min_p", [0.1] * 5),
        (MinP("linear", 0.0, 0.2, steps=3), "min_p", [0.0, 0.1, 0.2, 0.2, 0.2]),
        (MinP("cosine", 0.2, 0.0), "min_p", [0.1 * (1 + math.cos(math.pi * s / 4)) for s in range(5)]),
    ],
)
def test_filters_follow_their_schedules(explorer: TopP | MinP, name: str, expected: list[float]) -> None:
    plans = [explorer.sampling(step, 5) for step in range(5)]
    assert [plan.keys() for plan in plans] == [{name}] * 5
    assert [plan[name] for plan in plans] == pytest.approx(expected)


@pytest.mark.parametrize(("explorer", "train"), [(TopP(start=0.7), {"top_p": 0.7}), (MinP(start=0.3), {"min_p": 0.3})])
def test_a_filter_by_the_hook_is_the_recipes_own(
    explorer: object, train: dict[str, float], learner_of: Callable[..., Learner]
) -> None:
    by_hook, by_recipe, free = generated(learner_of(explorer)), generated(learner_of(**train)), generated(learner_of())
    assert torch.equal(by_hook.completion_ids, by_recipe.completion_ids)
    assert torch.equal(by_hook.behaviour_logps, by_recipe.behaviour_logps)
    assert not torch.equal(by_hook.completion_ids, free.completion_ids)
    assert (by_hook.behaviour_logps >= by_hook.policy_logps - 1e-6)[by_hook.mask].all()


# ---------------------------------------------------------------------------------------------- phase_temperature

PHASES = PhaseTemperature(thinking=1.5, call=0.8, names=0.5, values=0.6, other=0.7)


class Writes:
    """Forces every completion along a text, one byte a token, and remembers the segments that it is told."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.segments = ids, [[int(Segment.OTHER)] * 4 for _ in ids]

    @hookimpl
    def process_logits(self, logits: Tensor, rows: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
        forbidden = torch.ones_like(logits, dtype=torch.bool)
        for i, (row, position) in enumerate(zip(rows.tolist(), positions.tolist(), strict=True)):
            self.segments[position][row] = int(segments[i])
            forbidden[i, self.ids[position]] = False
        return logits.masked_fill(forbidden, -torch.inf)


def test_each_kind_of_text_has_its_factor() -> None:
    factors = {segment: PHASES.factor(segment) for segment in Segment}
    assert factors == {
        Segment.PAD: 0.7,
        Segment.THINKING: 1.5,
        Segment.CALL: 0.8,
        Segment.TAG: 0.7,
        Segment.FUNCTION_NAME: 0.5,
        Segment.ARGUMENT_NAME: 0.5,
        Segment.ARGUMENT_VALUE: 0.6,
        Segment.OBSERVATION: 0.7,
        Segment.OTHER: 0.7,
    }
    few = PhaseTemperature(thinking=2.0, call=0.3)
    inside = {Segment.CALL, Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME, Segment.ARGUMENT_VALUE}
    assert {few.factor(segment) for segment in inside} == {0.3}
    assert {few.factor(segment) for segment in set(Segment) - inside - {Segment.THINKING}} == {1.0}
    segments = torch.tensor(sorted(Segment), dtype=torch.int8)
    found = PHASES.process_logits(torch.ones(9, 4), segments)
    assert found[:, 0].tolist() == pytest.approx([1 / factors[s] for s in sorted(Segment)])


def test_behaviour_is_the_distribution_of_the_phase(learner_of: Callable[..., Learner]) -> None:
    learner = learner_of(Thinks(), PHASES)
    rollouts = generated(learner)
    segments = torch.full(rollouts.mask.shape, int(Segment.OTHER))
    for row, text in enumerate(rollouts.texts):
        ids = rollouts.completion_ids[row]
        for t in range(1, int(rollouts.mask[row].sum())):
            so_far = learner.tokenizer.decode(ids[:t], skip_special_tokens=False)
            segments[row, t] = (character_segments(FunRL().unfinished(so_far)) or [int(Segment.OTHER)])[-1]
        assert text.startswith("<think>") == bool(row % 2)
    factors = torch.tensor([PHASES.factor(Segment(s)) for s in segments.flatten().tolist()]).view(segments.shape)
    drawn = torch.ones_like(rollouts.mask)
    drawn[1::2, : len("<think>")] = False  # a byte is a token
    assert set(segments[rollouts.mask & drawn].tolist()) == {Segment.OTHER, Segment.TAG, Segment.THINKING}
    same_on_tokens(rollouts, rollouts.behaviour_logps, logps_at(learner, rollouts, 0.9 * factors), drawn)
    same_on_tokens(rollouts, rollouts.policy_logps, logps_at(learner, rollouts, torch.full(factors.shape, 0.9)))


CALLS = "[add(x=12, to=['a']), ping()]"


@pytest.mark.parametrize(
    ("dialect", "text"), [(PythonCalls(), CALLS), (FunRL(), f"<think>f(x=1)</think><answer>{CALLS}</answer>")]
)
def test_a_call_is_seen_while_it_is_written(
    dialect: Dialect, text: str, learner_of: Callable[..., Learner], tiny_tokenizer: Any
) -> None:
    ids = [*tiny_tokenizer.encode(text, add_special_tokens=False), 2]
    writer = Writes(ids)
    learner = learner_of(PHASES, writer, max_new_tokens=len(ids), group_size=2)
    learner.dialect = dialect
    rollouts = generated(learner)
    assert rollouts.texts == [text] * 4
    expected = character_segments(dialect.parse(text))
    told = torch.tensor(writer.segments)[1:]  # at each position that of the character before
    assert (told == told[:, :1]).all()
    tags = torch.tensor([segment == Segment.TAG for segment in expected])[: len(told)]
    assert torch.equal(told[~tags, 0], torch.tensor(expected)[: len(told)][~tags])
    assert {Segment.CALL, Segment.FUNCTION_NAME, Segment.ARGUMENT_NAME, Segment.ARGUMENT_VALUE, Segment.OTHER} <= {
        Segment(s) for s in told.flatten().tolist()
    }
    # In dialects without `unfinished` a call is OTHER until its text is complete.
    learner.dialect = SimpleNamespace(parse=dialect.parse)  # type: ignore[assignment]
    unfinished = ids[: text.index("[add") + len("[add(x=12, to=['a'")]
    assert learner._newest_segments([unfinished]).tolist() == [int(Segment.OTHER)]


# ------------------------------------------------------------------------------------------- position_temperature


def test_factors_by_hand() -> None:
    explorer = PositionTemperature(warm_up=2)
    positions = torch.tensor([0, 1, 2, 100, 371, 372, 10**6])
    found = explorer.factors(positions, 0).tolist()
    # d_0 = 25, so 500 tokens are one unit; ln(1 + 1.2 - 0.1) 500 = 370.97
    assert found == pytest.approx([1, 1, 2.2 - math.exp(0.004), 2.2 - math.exp(0.2), 0.1, 0.1, 0.1], rel=1e-5)
    plain = PositionTemperature(stretch=1.0, decay=10.0, warm_up=0)
    # step 4: d = 10 + 5 * 4 = 30
    assert plain.factors(torch.tensor([0, 15]), 4).tolist() == pytest.approx([1.2, 2.2 - math.exp(0.5)])
    assert plain.factors(torch.tensor([20_000]), 10**6).tolist() == pytest.approx([2.2 - math.exp(0.5)], rel=1e-5)


@unhurried
@given(
    st.floats(0.5, 2.0),
    st.floats(0.05, 0.5),
    st.floats(1, 100),
    st.floats(0, 10),
    st.integers(0, 20),
    st.integers(0, 50),
    st.integers(0, 300),
)
def test_factors_against_float64(
    hottest: float, coldest: float, decay: float, growth: float, warm_up: int, step: int, t: int
) -> None:
    explorer = PositionTemperature(hottest, coldest, decay, growth, 500.0, 2.0, warm_up)
    scale = 2 * min(decay + growth * step, 500)
    expected = 1.0 if t < warm_up else max(1 + hottest - math.exp(min(t / scale, 700)), coldest)
    assert explorer.factors(torch.tensor([t]), step).item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("step", [0, 3])
def test_behaviour_cools_with_the_position(step: int, learner_of: Callable[..., Learner]) -> None:
    explorer = PositionTemperature(1.6, 0.4, decay=1.0, growth=0.2, stretch=10.0, warm_up=3)
    learner = learner_of(explorer)
    rollouts = generated(learner, step)
    taus = [1.0 if t < 3 else max(2.6 - math.exp(t / (10 * (1 + 0.2 * step))), 0.4) for t in range(14)]
    assert taus[13] == 0.4 or step == 3
    temperature = 0.9 * torch.tensor(taus)[: rollouts.mask.shape[1]].expand(rollouts.mask.shape)
    same_on_tokens(rollouts, rollouts.behaviour_logps, logps_at(learner, rollouts, temperature))
    same_on_tokens(rollouts, rollouts.policy_logps, logps_at(learner, rollouts, torch.full(temperature.shape, 0.9)))


def test_a_warm_up_longer_than_a_completion_is_a_mistake() -> None:
    assert PositionTemperature().recipe_mistakes(recipe_of(max_new_tokens=11)) == []
    (text,) = PositionTemperature().recipe_mistakes(recipe_of(max_new_tokens=10))
    assert text == "warm_up 10 leaves none of train.max_new_tokens 10 to cool"


# ---------------------------------------------------------------------------------------------------- forced_first


def test_a_group_begins_with_different_functions(learner_of: Callable[..., Learner]) -> None:
    template = "<think></think><answer>[{name}("
    rollouts = generated(learner_of(ForcedFirst(1.0, template=template), max_new_tokens=40))
    beginnings = [template.replace("{name}", tool.name) for tool in TOOLS]
    for group in rollouts.groups.tolist():
        texts = [text for text, g in zip(rollouts.texts, rollouts.group_ids.tolist(), strict=True) if g == group]
        assert Counter(b for text in texts for b in beginnings if text.startswith(b)) == dict.fromkeys(beginnings, 2)
    for row, text in enumerate(rollouts.texts):
        length = len(next(b for b in beginnings if text.startswith(b)))  # a byte is a token
        assert (rollouts.behaviour_logps[row, :length] == 0).all()
        assert (rollouts.policy_logps[row, :length] < 0).all()
        free = rollouts.mask[row, length:]
        assert torch.equal(rollouts.behaviour_logps[row, length:][free], rollouts.policy_logps[row, length:][free])


@pytest.mark.parametrize("epsilon", [1.0, 0.5])
def test_a_group_begins_with_tokens_of_different_ranks(epsilon: float, learner_of: Callable[..., Learner]) -> None:
    explorer = ForcedFirst(epsilon, "token")
    learner = learner_of(explorer)
    rollouts = generated(learner)
    forced = [rank >= 0 for rank in explorer._forced]
    assert any(forced)
    assert all(forced) == (epsilon == 1)
    for row, prompt in enumerate(rollouts.prompt_ids):
        with torch.no_grad():
            order = learner.policy.model(torch.tensor([prompt])).logits[0, -1].argsort(descending=True)
        if forced[row]:
            assert rollouts.completion_ids[row, 0] == order[row % 6]
            assert rollouts.behaviour_logps[row, 0] == 0
        else:
            assert rollouts.behaviour_logps[row, 0] == pytest.approx(float(rollouts.policy_logps[row, 0]), abs=1e-6)
    assert torch.equal(rollouts.behaviour_logps[:, 1:], rollouts.policy_logps[:, 1:])


def test_ranks_pass_over_tokens_that_are_forbidden() -> None:
    explorer, groups = ForcedFirst(1.0, "token"), torch.tensor([5, 5, 8, 5, 5])
    tasks = [Task(f"t{g}", ()) for g in groups.tolist()]
    assert explorer.sampling(0, tasks, groups) is None
    logits = torch.tensor([[1.0, -torch.inf, 3.0, 2.0]])
    found = explorer.strike_out(logits.repeat(4, 1), torch.tensor([1, 2, 3, 4]), torch.zeros(4, dtype=torch.long))
    assert found is not None
    # Ranks 1, 0, 2 and 3, of which the last one is behind the three that are possible.
    assert found.isfinite().nonzero().tolist() == [[0, 3], [1, 2], [2, 0], [3, 0]]
    assert explorer.strike_out(logits, torch.tensor([0]), torch.tensor([1])) is None


def test_choices_belong_to_step_task_and_rank_alone() -> None:
    """Two groups in any order and with other groups around them, and the share of forced rows."""
    a, b = Task("a", (), TOOLS), Task("b", (), TOOLS)

    def prefixes(step: int, rows: list[tuple[Task, int]], task: Task) -> list[str]:
        plan = ForcedFirst(0.4).sampling(step, [t for t, _ in rows], torch.tensor([g for _, g in rows]))
        texts = [""] * len(rows) if plan is None else plan["prefix"]
        return [text for (t, _), text in zip(rows, texts, strict=True) if t is task]

    found: Counter[str] = Counter()
    patterns = set()
    for step in range(100):
        alone = prefixes(step, [(a, 3)] * 8, a)
        assert alone == prefixes(step, [(a, 0), (b, 7)] * 8, a)
        named = [text for text in alone if text]
        counts = [named.count(f"[{tool.name}(") for tool in TOOLS]
        assert max(counts) - min(counts) <= 1, "functions come in turn"
        found.update(alone)
        patterns.add(tuple(map(bool, alone)))
    assert len(patterns) > 50, "each step forces other rows"
    # No share is farther from its expectation than five standard deviations.
    forced = 800 - found[""]
    assert abs(forced - 800 * 0.4) <= 5 * math.sqrt(800 * 0.4 * 0.6)
    assert all(abs(found[f"[{t.name}("] - forced / 3) <= 5 * math.sqrt(forced * 2 / 9) for t in TOOLS)


def test_templates_are_no_format_strings_and_tasks_without_functions_stay_free() -> None:
    odd = Task("t", (), (Tool("{x!r}"),))
    plan = ForcedFirst(1.0, template='{"name": "{name}"').sampling(0, [odd, Task("u", ())], torch.tensor([0, 1]))
    assert plan == {"prefix": ['{"name": "{x!r}"', ""]}
    assert ForcedFirst(1.0).sampling(0, [Task("u", ())], torch.tensor([0])) is None


# ------------------------------------------------------------------------------------------------------ all of them

EXPLORERS = [
    TopP("linear", 0.8, 1.0),
    MinP("cosine", 0.2, 0.0),
    PHASES,
    PositionTemperature(warm_up=2, decay=0.1),
    ForcedFirst(0.5),
    ForcedFirst(1.0, "token"),
]


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_laws(explorer: object) -> None:
    check_explorer(explorer, examples=3)


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_options_from_a_recipe_make_the_same_explorer(explorer: object) -> None:
    options = {key: value for key, value in vars(explorer).items() if value is not None and key[0] != "_"}
    assert TypeAdapter(type(explorer)).validate_python(options) == explorer


def test_together_they_make_a_step(learner_of: Callable[..., Learner]) -> None:
    learner = learner_of(Temperature("adaptive", ladder=(0.8, 1.2)), *EXPLORERS[:5])
    metrics, rollouts = learner.step(0)
    assert math.isfinite(metrics["loss"])
    assert metrics["grad_norm"] > 0
    assert bool(rollouts.behaviour_logps.isfinite().all())


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (TopP, {"start": 0.0}, "start must be above 0 and at most 1, not 0.0"),
        (TopP, {"schedule": "linear", "end": 1.1}, "end must be above 0 and at most 1, not 1.1"),
        (TopP, {"schedule": "adaptive"}, "schedule must be one of constant, linear, cosine, step, not"),
        (MinP, {"start": 1.0}, "start must be at least 0 and below 1, not 1.0"),
        (MinP, {"start": math.nan}, "start must be at least 0 and below 1, not nan"),
        (MinP, {"schedule": "step", "start": 0.0, "end": 0.2, "every": 1, "factor": 2.0}, "never leads"),
        (PhaseTemperature, {"thinking": 0.0}, "thinking must be a number above 0, not 0.0"),
        (PhaseTemperature, {"values": math.inf}, "values must be a number above 0, not inf"),
        (PositionTemperature, {"hottest": -1.0}, "hottest must be a number above 0, not -1.0"),
        (PositionTemperature, {"coldest": 1.3}, "coldest must be at most hottest 1.2, not 1.3"),
        (PositionTemperature, {"decay": 0.0}, "decay must be a number above 0, not 0.0"),
        (PositionTemperature, {"growth": -1.0}, "growth must be a number of at least 0, not -1.0"),
        (PositionTemperature, {"longest": 5.0}, "longest must be a number of at least decay 25.0, not 5.0"),
        (PositionTemperature, {"stretch": math.nan}, "stretch must be a number above 0, not nan"),
        (PositionTemperature, {"warm_up": -1}, "warm_up must be at least 0, not -1"),
        (ForcedFirst, {"epsilon": 1.5}, "epsilon must be at least 0 and at most 1, not 1.5"),
        (ForcedFirst, {"mode": "word"}, "mode must be 'token' or 'function', not 'word'"),
        (ForcedFirst, {"template": "[add("}, "template must hold {name}"),
    ],
)
def test_mistakes_are_named(kind: type, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**options)
