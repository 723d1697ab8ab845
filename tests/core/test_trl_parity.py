"""From rewards to gradients the same as TRL 1.16: its own trainer runs on the same tokens, not a copy of its formulas.

`GRPOTrainer._generate_and_score_completions` gets tokens and rewards of ours instead of generating, and makes the
advantages and the reference's log-probabilities; `GRPOTrainer._compute_loss` makes the loss. The other side is
`Learner.judge`, `micro_batch` and `backward`, packed and padded, in one micro-batch and in several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from callwright import grpo
from callwright.data import Deck
from callwright.display import SilentDisplay
from callwright.hooks import Hooks
from callwright.loop import Learner, OldScores
from callwright.packing import Policy
from callwright.recipe import Recipe
from callwright.types import Parse, ParseStatus, Rollouts, Task
from callwright_dialects.python_calls import PythonCalls
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

trl = pytest.importorskip("trl", reason="the peer is not installed")

LOSS_TYPE = {"sequence": "grpo", "token": "bnpo", "constant": "dr_grpo"}
LONGEST = 9
"""Tokens of the longest completion."""
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 3e-5
"""Through the whole model in float32, whose sums the packed row takes in another order: 1.5e-5 was met once, at
temperature 0.6."""
PHASES = (Phase.reuse, Phase.generate)
"""No shrinking: of two models it takes minutes."""


@dataclass
class Case:
    """One step's completions and rewards."""

    prompts: list[list[int]]
    """By row (N)."""
    completions: list[list[int]]
    rewards: list[float | None]
    """None: the row takes no part."""
    group_size: int
    noise: torch.Tensor
    """(N, T): how far the old log-probabilities lie from those of now, in nats."""
    packed: bool
    tokens_per_micro_batch: int


@st.composite
def cases(draw: st.DrawFn, none: bool = False) -> Case:
    """Groups that share a prompt, ragged completions, old log-probabilities within 0.6 nats of the present ones.

    Rewards are multiples of 1/8: a group of equal ones is then flat in float32 also for TRL, which subtracts a rounded
    mean, where callwright says exactly zero by comparing.
    """
    group_size, groups = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    rows = group_size * groups
    torch_seed = draw(st.integers(0, 2**20))
    generator = torch.Generator().manual_seed(torch_seed)

    def tokens(length: int) -> list[int]:
        return torch.randint(3, 259, (length,), generator=generator).tolist()

    prefix = tokens(draw(st.sampled_from([0, 20])))  # above the length from which packing shares it between prompts
    prompts = [prefix + tokens(draw(st.integers(1, 12))) for _ in range(groups)]
    completions = [tokens(draw(st.integers(1, LONGEST))) for _ in range(rows)]
    reward = st.integers(-16, 16).map(lambda n: n / 8)
    rewards = draw(st.lists(st.one_of(st.none(), reward) if none else reward, min_size=rows, max_size=rows))
    width = max(map(len, completions))
    return Case(
        prompts=[prompts[row // group_size] for row in range(rows)],
        completions=completions,
        rewards=rewards,
        group_size=group_size,
        noise=(torch.rand(rows, width, generator=generator) - 0.5) * 1.2,
        packed=draw(st.booleans()),
        tokens_per_micro_batch=draw(st.sampled_from([1, 60, 10_000])),
    )


# ------------------------------------------------------------------------------------------------------ the peer


class Peer:
    """A real `GRPOTrainer` that is handed completions and rewards."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast, output: Path, **config: Any) -> None:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM

        self.case: Case | None = None
        arguments = trl.GRPOConfig(
            output_dir=str(output),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=LONGEST,
            report_to="none",
            save_strategy="no",
            **config,
        )
        self.trainer = trl.GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            reward_funcs=self._rewards,
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": "x"}] * 2),
            processing_class=tokenizer,
        )
        self.trainer.current_gradient_accumulation_steps = 1  # which `train()` would set
        self.trainer._tokenize_prompts = lambda prompts: (self._case.prompts, None, {})
        self.trainer._generate_single_turn = lambda *_: (self._case.completions, None)
        self.model = self.trainer.model.train()

    @property
    def _case(self) -> Case:
        assert self.case is not None
        return self.case

    def _rewards(self, **_: Any) -> list[float | None]:
        return self._case.rewards

    def inputs(self, case: Case) -> dict[str, torch.Tensor]:
        """What the trainer makes of completions and rewards: padded tokens, advantages, reference log-probabilities."""
        self.case = case
        self.trainer.num_generations = case.group_size
        return self.trainer._generate_and_score_completions([{"prompt": "x"} for _ in case.prompts])

    def logps(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, T), of the model now."""
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        with torch.no_grad():
            return self.trainer._get_per_token_logps_and_entropies(
                self.model, ids, mask, inputs["completion_ids"].shape[1]
            )[0]

    def unit_gradients(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """With all advantages 1 and the present log-probabilities as the old ones, so that nothing is clipped."""
        unit = {name: value for name, value in inputs.items() if name != "old_per_token_logps"}
        return self.loss_and_gradients(unit | {"advantages": torch.ones_like(inputs["advantages"])})[1]

    def loss_and_gradients(self, inputs: dict[str, torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
        self.model.zero_grad(set_to_none=True)
        loss = self.trainer._compute_loss(self.model, inputs)
        loss.backward()
        return float(loss.detach()), gradients(self.model)


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


# ------------------------------------------------------------------------------------------------------ our side


def make_learner(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **train: Any) -> Learner:
    recipe = Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": "python_calls",
            "data": {"source": "bfcl"},
            "rewards": {"use": ["ast_match"]},
            "train": {"max_new_tokens": LONGEST, **train},
        }
    )
    settings = recipe.train
    return Learner(
        recipe=recipe,
        hooks=Hooks(
            [], grpo.Defaults(settings.advantage_scale, settings.clip_low, settings.clip_high, settings.kl), "sum"
        ),
        dialect=PythonCalls(),
        policy=Policy(model.train()),
        tokenizer=tokenizer,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        deck=Deck([], [], 0),
        ends=[2],
        display=SilentDisplay(),
    )


def rollouts_of(case: Case, temperature: float) -> Rollouts:
    lengths = torch.tensor([len(ids) for ids in case.completions])
    rows, width = len(lengths), int(lengths.max())
    mask = torch.arange(width) < lengths[:, None]
    ids = torch.zeros(rows, width, dtype=torch.long)
    ids[mask] = torch.tensor([token for row in case.completions for token in row])
    zeros = torch.zeros(rows, width)
    rollouts = Rollouts(
        step=0,
        tasks=[Task(str(row), ()) for row in range(rows)],
        group_ids=torch.arange(rows) // case.group_size,
        prompt_ids=case.prompts,
        texts=[""] * rows,
        parses=[Parse("", ParseStatus.NO_CALL)] * rows,
        completion_ids=ids,
        mask=mask,
        behaviour_logps=zeros,
        policy_logps=zeros,
        entropy=zeros,
        segments=zeros.to(torch.int8),
        truncated=torch.zeros(rows, dtype=torch.bool),
        temperature=torch.full((rows,), temperature),
        off_policy=torch.zeros(rows, dtype=torch.bool),
    )
    rollouts.total = torch.tensor([torch.nan if reward is None else reward for reward in case.rewards])
    return rollouts


def loss_and_gradients(
    learner: Learner, rollouts: Rollouts, old_logps: torch.Tensor
) -> tuple[float, dict[str, torch.Tensor]]:
    train = learner.recipe.train
    assert rollouts.total is not None
    takes_part = ~rollouts.total.isnan()
    shares = grpo.token_shares(rollouts.mask, takes_part, train.aggregation, train.max_new_tokens)
    learner.policy.model.zero_grad(set_to_none=True)
    old = OldScores.empty(rollouts, 0, old_logps.device)
    old.logps = old_logps
    loss = 0.0
    for rows in learner.micro_batches(rollouts, takes_part.nonzero().squeeze(1).tolist()):
        batch = learner.micro_batch(rollouts, rows, shares, old, first_pass=False)
        loss += learner.backward(batch)["loss"]
    return loss, gradients(learner.policy.model)


def assert_gradients_equal(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], unit: dict[str, torch.Tensor]
) -> None:
    """`unit`: the gradients with all advantages 1. Where terms cancel, or a KL is nearly 0, what is left of them is no
    measure: each token's term is only as exact as float32 log-probabilities, whatever the sum. Nor is it where a
    parameter has no influence, as queries have none on a token that sees itself alone; hence the share of the largest.
    """
    assert ours.keys() == theirs.keys()
    least = max(float(gradient.norm()) for gradient in unit.values()) / 10
    for name, expected in theirs.items():
        distance, size = (
            float((ours[name] - expected).norm()),
            max(float(expected.norm()), float(unit[name].norm()), least),
        )
        assert distance <= GRADIENT_TOLERANCE * size, f"{name}: {distance:.2e} of {size:.2e}"


def assert_losses_equal(ours: float, theirs: float, inputs: dict[str, torch.Tensor]) -> None:
    """As exact as the terms that were added up, which have the size of the advantages."""
    size = max(1.0, float(inputs["advantages"].abs().max()))
    assert ours == pytest.approx(theirs, rel=TOLERANCE, abs=TOLERANCE * size)


# --------------------------------------------------------------------------------------------------------- tests


MakePair = Callable[..., tuple[Peer, Learner]]


@pytest.fixture
def make_pair(
    tiny_model_folder: Callable[..., Path],
    tiny_model: Callable[..., PreTrainedModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> MakePair:
    """The two sides with the same random weights, and with the same other ones in the reference."""

    def make(temperature: float = 1.0, **train: Any) -> tuple[Peer, Learner]:
        learner = make_learner(tiny_model(), tiny_tokenizer, temperature=temperature, **train)
        settings = learner.recipe.train
        peer = Peer(
            tiny_model_folder(),
            tiny_tokenizer,
            tmp_path / "trl",
            temperature=temperature,
            loss_type=LOSS_TYPE[settings.aggregation],
            scale_rewards=settings.advantage_scale,
            epsilon=settings.clip_low,
            epsilon_high=settings.clip_high,
            beta=settings.kl,
            # TRL's default multiplies k3 by the ratio (DeepSeek-V3.2, arXiv 2512.02556); callwright's KL is GRPO's own.
            use_bias_correction_kl=False,
        )
        if settings.kl:
            reference = tiny_model()
            # About a nat away: nearer, the KL's gradient is a difference of nearly equal float32 numbers.
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(1)
                for parameter in reference.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            learner.reference = Policy(reference)
            peer.trainer.ref_model.load_state_dict(reference.state_dict())
        return peer, learner

    return make


SETTINGS = [
    pytest.param({"aggregation": "sequence", "advantage_scale": "group"}, id="grpo"),
    pytest.param({"aggregation": "token", "advantage_scale": "batch", "clip_high": 0.28}, id="bnpo-clip-higher"),
    pytest.param({"aggregation": "constant", "advantage_scale": "none", "clip_low": 0.1}, id="dr-grpo"),
    pytest.param({"aggregation": "sequence", "advantage_scale": "batch", "temperature": 0.6}, id="cold"),
    pytest.param({"aggregation": "sequence", "advantage_scale": "group", "kl": 0.3}, id="grpo-kl"),
    pytest.param({"aggregation": "token", "advantage_scale": "none", "kl": 0.05, "temperature": 1.4}, id="bnpo-kl-hot"),
    pytest.param({"aggregation": "constant", "advantage_scale": "group", "kl": 1.0}, id="dr-grpo-kl"),
]


@pytest.mark.parametrize("train", SETTINGS)
def test_loss_and_gradients_are_those_of_trl(make_pair: MakePair, train: dict[str, Any]) -> None:
    peer, learner = make_pair(**train)
    clipped = 0.0

    @settings(max_examples=10, phases=PHASES)
    @given(case=cases())
    def check(case: Case) -> None:
        nonlocal clipped
        inputs = peer.inputs(case)
        old_logps = (peer.logps(inputs) + case.noise) * inputs["completion_mask"]
        inputs["old_per_token_logps"] = old_logps
        expected_loss, expected = peer.loss_and_gradients(inputs)
        clipped += sum(peer.trainer._metrics["train"]["clip_ratio/region_mean"])

        learner.policy.packed = case.packed
        learner.recipe = with_budget(learner.recipe, case.tokens_per_micro_batch)
        rollouts = rollouts_of(case, learner.recipe.train.temperature)
        learner.judge(rollouts)
        if rollouts.ref_logps is not None:
            torch.testing.assert_close(
                rollouts.ref_logps, inputs["ref_per_token_logps"] * rollouts.mask, rtol=TOLERANCE, atol=TOLERANCE
            )
        loss, found = loss_and_gradients(learner, rollouts, old_logps)
        assert_losses_equal(loss, expected_loss, inputs)
        assert_gradients_equal(found, expected, peer.unit_gradients(inputs))

    check()
    assert clipped > 0, "no ratio was ever clipped: the test says nothing about clipping"


def with_budget(recipe: Recipe, tokens: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"tokens_per_micro_batch": tokens})})


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_those_of_trl(make_pair: MakePair, scale: str) -> None:
    """Also where some rows have no reward: TRL's None, our NaN."""
    peer, _ = make_pair(advantage_scale=scale)

    @settings(max_examples=50, phases=PHASES)
    @given(case=cases(none=True))
    def check(case: Case) -> None:
        if all(reward is None for reward in case.rewards):
            return  # TRL stops in its own logging
        rollouts = rollouts_of(case, 1.0)
        assert rollouts.total is not None
        found = grpo.group_advantages(rollouts.total, rollouts.group_ids, scale)  # type: ignore[arg-type]
        torch.testing.assert_close(found, peer.inputs(case)["advantages"], rtol=TOLERANCE, atol=TOLERANCE)

    check()


@pytest.mark.parametrize("train", SETTINGS[:3])
def test_an_update_moves_the_weights_by_trls_gradient(make_pair: MakePair, train: dict[str, Any]) -> None:
    """The whole `Learner.update`, which leaves out rows without an advantage, against TRL, which computes them."""
    peer, learner = make_pair(**train, learning_rate=1.0, max_grad_norm=1e9)
    start = {name: p.detach().clone() for name, p in learner.policy.model.named_parameters()}

    @settings(max_examples=5, phases=PHASES)
    @given(case=cases())
    def check(case: Case) -> None:
        case.rewards[: case.group_size] = [0.5] * case.group_size  # a flat group
        inputs = peer.inputs(case)
        expected_loss, expected = peer.loss_and_gradients(inputs)
        learner.policy.packed = case.packed
        learner.recipe = with_budget(learner.recipe, case.tokens_per_micro_batch)
        rollouts = rollouts_of(case, 1.0)
        learner.judge(rollouts)
        loss = learner.update(rollouts)["loss"]
        assert_losses_equal(loss, expected_loss, inputs)
        weights = dict(learner.policy.model.named_parameters())
        found = {name: start[name] - weights[name].detach() for name in start}
        assert_gradients_equal(found, expected, peer.unit_gradients(inputs))
        learner.policy.model.load_state_dict(start, strict=False)  # the head is the embedding

    check()
