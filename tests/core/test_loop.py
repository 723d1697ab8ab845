"""One step of the loop: what each hook does to it, what may not change it, and what it refuses to learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from callwright import (
    CallwrightError,
    MicroBatch,
    Need,
    Reason,
    Replayed,
    Rollouts,
    Segment,
    Task,
    Verdict,
    grpo,
    hookimpl,
)
from callwright.display import SilentDisplay
from callwright.hooks import HOOKS, PluginError
from callwright.loop import Control, Learner, sample_of
from torch import Tensor

Make = Callable[..., Learner]


class Letters:
    """A reward that differs between almost all rows of random bytes."""

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict((sum(map(ord, text)) % 7) / 7, (Reason("sum"),)) for text in rollouts.texts]


class Flat:
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict(1.0)] * len(rollouts)


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learner.policy.model.named_parameters()}


def moved(before: Mapping[str, Tensor], learner: Learner) -> float:
    """Largest change of a weight."""
    return max(float((p.detach() - before[name]).abs().max()) for name, p in learner.policy.model.named_parameters())


def same(first: Learner, second: Learner) -> None:
    torch.testing.assert_close(weights(first), weights(second), rtol=1e-4, atol=1e-5)


def step(learner: Learner, number: int = 0) -> tuple[dict[str, float], Rollouts]:
    metrics, rollouts = learner.step(number)
    assert "skipped_update" not in metrics
    return metrics, rollouts


def gradient_learner(make_learner: Make, *explorers: object, reward: object = None, **options: Any) -> Learner:
    """Plain gradient descent: equal weights after a step mean equal gradients, which Adam would hide."""
    learner = make_learner(reward or Letters(), *explorers, max_grad_norm=1e9, **options)
    learner.ends = list(range(2, 80))  # completions of all lengths
    parameters = [p for group in learner.optimizer.param_groups for p in group["params"]]
    learner.optimizer = torch.optim.SGD(parameters, lr=learner.recipe.train.learning_rate)
    return learner


# ---------------------------------------------------------------------------------------------- hook by hook


def test_every_hook_has_a_test_here() -> None:
    assert {hook for hook in HOOKS if f"test_hook_{hook}" not in globals()} == set()


def test_hook_sampling(make_learner: Make) -> None:
    class Ladder:
        @hookimpl
        def sampling(self, tasks: list[Task]) -> dict[str, Any]:
            return {"temperature": torch.linspace(0.5, 1.5, len(tasks)), "seed": 5}

    first, second = make_learner(Letters(), Ladder(), seed=0), make_learner(Letters(), Ladder(), seed=0)
    second.generator.manual_seed(99)
    _, rollouts = step(first)
    _, again = step(second)
    assert torch.equal(rollouts.temperature, torch.linspace(0.5, 1.5, 6))
    assert rollouts.texts == again.texts, "the plugin's seed stands above the run's"
    with torch.no_grad():
        logps, _ = make_learner(Letters()).policy.score(
            rollouts.prompt_ids, rollouts.completion_ids, rollouts.mask, rollouts.temperature
        )
    torch.testing.assert_close(rollouts.policy_logps, logps, rtol=1e-4, atol=1e-4)


def test_hook_sampling_prefix_is_forced_and_belongs_to_the_completion(make_learner: Make) -> None:
    class Prefix:
        corrects_sampling = True

        @hookimpl
        def sampling(self, tasks: list[Task]) -> dict[str, Any]:
            return {"prefix": ["[f(", "[g(", ""] * (len(tasks) // 3)}

    learner = make_learner(Letters(), Prefix())
    _, rollouts = step(learner)
    beginnings = [text[:3] for text in rollouts.texts]
    assert beginnings[0::3] == ["[f(", "[f("]
    assert beginnings[1::3] == ["[g(", "[g("]
    forced = len(learner.tokenizer.encode("[f(", add_special_tokens=False))
    assert (rollouts.behaviour_logps[0, :forced] == 0).all()
    assert (rollouts.policy_logps[0, :forced] < 0).all()
    assert torch.equal(rollouts.behaviour_logps[0, forced:], rollouts.policy_logps[0, forced:])
    assert torch.equal(rollouts.behaviour_logps[2], rollouts.policy_logps[2])
    with torch.no_grad():
        logps, _ = make_learner(Letters()).policy.score(
            rollouts.prompt_ids, rollouts.completion_ids, rollouts.mask, rollouts.temperature
        )
    torch.testing.assert_close(rollouts.policy_logps, logps, rtol=1e-4, atol=1e-4)


def test_hook_task_weights(make_learner: Make) -> None:
    class Some:
        @hookimpl
        def task_weights(self, tasks: list[Task]) -> Tensor:
            return torch.tensor([float(task.id in ("t2", "t5")) for task in tasks])

    learner = make_learner(Letters(), Some())
    for number in range(3):
        _, rollouts = step(learner, number)
        assert {task.id for task in rollouts.tasks} == {"t2", "t5"}


def test_when_too_few_tasks_have_a_weight_the_rest_come_in_the_usual_order(make_learner: Make) -> None:
    class One:
        @hookimpl
        def task_weights(self, tasks: list[Task]) -> Tensor:
            return torch.tensor([float(task.id == "t2") for task in tasks])

    learner = make_learner(Letters(), One())
    _, rollouts = step(learner)
    ids = [task.id for task in rollouts.tasks]
    assert ids[:3] == ["t2"] * 3
    assert ids[3] == learner.deck.tasks[learner.deck._order[1][1]].id


def test_hook_replay(make_learner: Make) -> None:
    joined = [7, 8, 9, 7, 8, 9, 2], [-0.5, -0.25, -1.0, -0.5, -0.5, -0.5, -0.125]

    class Replays:
        @hookimpl
        def replay(self, rollouts: Rollouts) -> list[Replayed]:
            assert rollouts.total is None, "before scoring"
            return [Replayed(int(rollouts.group_ids[0]), *joined), Replayed(int(rollouts.group_ids[0]), [7, 2], [0, 0])]

    learner, display = make_learner(Letters(), Replays()), Warnings()
    learner.display = display
    plain, _ = step(make_learner(Letters()))
    metrics, rollouts = step(learner)
    assert rollouts.off_policy.tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert rollouts.group_ids.tolist() == [0] * 5 + [1] * 3
    assert rollouts.completion_ids[3].tolist() == joined[0]
    assert rollouts.behaviour_logps[3].tolist() == joined[1]
    assert rollouts.lengths[3:5].tolist() == [7, 2]
    assert rollouts.tasks[3] == rollouts.tasks[0]
    with torch.no_grad():
        logps, entropy = make_learner(Letters()).policy.score(
            rollouts.prompt_ids, rollouts.completion_ids, rollouts.mask, rollouts.temperature
        )
    assert entropy is not None
    torch.testing.assert_close(rollouts.policy_logps, logps, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rollouts.entropy, entropy, rtol=1e-4, atol=1e-4)
    assert rollouts.total is not None
    assert not rollouts.total.isnan().any(), "scored again"
    assert metrics["replayed_rows"] == 2
    for name in ("reward", "entropy", "completion_length", "tokens"):
        assert metrics[name] == pytest.approx(plain[name]), "of this step's own completions"
    assert [text for text in display.warnings if "importance_correction" in text]


class Warnings(SilentDisplay):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("filtered", [True, False])
def test_a_warning_where_another_distribution_than_the_policy_drew(
    corrected: bool, filtered: bool, make_learner: Make
) -> None:
    class Filter:
        corrects_sampling = corrected

        @hookimpl
        def sampling(self) -> dict[str, Any]:
            return {"top_k": 3} if filtered else {}

    learner, display = make_learner(Letters(), Filter()), Warnings()
    learner.display = display
    for number in range(2):
        step(learner, number)
    assert len(display.warnings) == int(filtered and not corrected), "once, and only when it is needed and absent"


def test_hook_process_logits(make_learner: Make) -> None:
    kinds: list[Tensor] = []

    class OnlyLetters:
        @hookimpl
        def process_logits(self, logits: Tensor, segments: Tensor) -> Tensor:
            kinds.append(segments)
            allowed = torch.zeros(logits.shape[1], dtype=torch.bool)
            allowed[ALLOWED] = True
            return logits.masked_fill(~allowed, -torch.inf)

    learner = make_learner(Letters(), OnlyLetters())
    ALLOWED = learner.tokenizer.encode("[f(a=1)]", add_special_tokens=False)
    _, rollouts = step(learner)
    assert set("".join(rollouts.texts)) <= set("[f(a=1)]")
    assert (rollouts.behaviour_logps > rollouts.policy_logps)[rollouts.mask].all()
    assert (kinds[0] == Segment.OTHER).all()
    assert len(kinds) == rollouts.mask.shape[1]


def test_hook_score(make_learner: Make) -> None:
    learner = make_learner(Letters())
    before = weights(learner)
    metrics, rollouts = step(learner)
    assert rollouts.total is not None
    expected = torch.tensor([(sum(map(ord, text)) % 7) / 7 for text in rollouts.texts])
    torch.testing.assert_close(rollouts.total, expected)
    assert metrics["reward"] == metrics["reward/reward"] == pytest.approx(float(expected.mean()))
    assert metrics["reason/reward/sum"] == len(rollouts) == 6
    assert moved(before, learner) > 0


def test_hook_shape_rewards(make_learner: Make) -> None:
    class Bonus:
        @hookimpl
        def shape_rewards(self, rollouts: Rollouts) -> Tensor:
            return torch.arange(len(rollouts)).float()

    learner = make_learner(Flat(), Bonus())
    before = weights(learner)
    _, rollouts = step(learner)
    assert rollouts.total is not None
    assert rollouts.advantages is not None
    assert rollouts.total.tolist() == [1, 2, 3, 4, 5, 6]
    assert (rollouts.advantages[:, 0] > 0).tolist() == [False, False, True] * 2
    assert moved(before, learner) > 0


class KeepsOdd:
    """Refuses every second group, counted over the step."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    @hookimpl
    def keep_groups(self, rollouts: Rollouts) -> Tensor:
        self.seen.append(rollouts.groups.tolist())
        return rollouts.groups % 2 == 1


def test_hook_keep_groups(make_learner: Make) -> None:
    keeps = KeepsOdd()
    learner = make_learner(Letters(), keeps, prompts_per_step=3, refills=3)
    metrics, rollouts = step(learner)
    assert keeps.seen == [[0, 1, 2], [3, 4], [5]], "as many as are missing, under names of their own"
    assert rollouts.groups.tolist() == [1, 3, 5]
    assert metrics["refills"] == 2
    assert metrics["dropped_groups"] == 3
    assert metrics["rows"] == len(rollouts) == 9
    for group in rollouts.groups:
        assert len({t.id for t, g in zip(rollouts.tasks, rollouts.group_ids, strict=True) if g == group}) == 1
    assert metrics["tokens"] > float(rollouts.mask.sum()), "tokens of refused groups are work, too"


def test_refills_end(make_learner: Make) -> None:
    class Never(KeepsOdd):
        @hookimpl
        def keep_groups(self, rollouts: Rollouts) -> Tensor:
            self.seen.append(rollouts.groups.tolist())
            return torch.zeros(len(rollouts.groups), dtype=torch.bool)

    never = Never()
    metrics, rollouts = step(make_learner(Letters(), never, refills=2))
    assert never.seen == [[0, 1], [2, 3], [4, 5]]
    assert rollouts.groups.tolist() == [4, 5], "better the last ones than none"
    assert metrics["refills"] == 2
    few = KeepsOdd()
    assert step(make_learner(Letters(), few, prompts_per_step=4, refills=0))[1].groups.tolist() == [1, 3]
    assert few.seen == [[0, 1, 2, 3]]


def test_hook_advantages(make_learner: Make) -> None:
    class Signs:
        @hookimpl
        def advantages(self, rollouts: Rollouts) -> Tensor:
            return torch.tensor([1.0, -1.0] * (len(rollouts) // 2))

    learner = make_learner(Flat(), Signs())
    before = weights(learner)
    _, rollouts = step(learner)
    assert rollouts.advantages is not None
    assert torch.equal(rollouts.advantages, torch.tensor([1.0, -1.0] * 3)[:, None] * rollouts.mask)
    assert moved(before, learner) > 0


class LastToken:
    """Moves the advantage of the last token, seeing the base."""

    @hookimpl
    def shape_advantages(self, rollouts: Rollouts, base: Tensor) -> Tensor:
        delta = torch.zeros(rollouts.mask.shape)
        delta[torch.arange(len(rollouts)), rollouts.lengths - 1] = 1 + base.abs()
        return delta


def test_hook_shape_advantages(make_learner: Make) -> None:
    learner = make_learner(Letters(), LastToken())
    _, rollouts = step(learner)
    assert rollouts.total is not None
    assert rollouts.advantages is not None
    base = grpo.group_advantages(rollouts.total, rollouts.group_ids)
    last = torch.arange(len(rollouts)), rollouts.lengths - 1
    torch.testing.assert_close(rollouts.advantages[last], base + 1 + base.abs())
    rest = rollouts.mask.clone()
    rest[last] = False
    torch.testing.assert_close(rollouts.advantages[rest], (base[:, None] * rollouts.mask)[rest])


def test_shaped_rows_of_a_flat_group_learn(make_learner: Make) -> None:
    learner = make_learner(Flat(), LastToken())
    before = weights(learner)
    step(learner)
    assert moved(before, learner) > 0


class Constant:
    """Weighs every token by the same factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        assert rollouts.advantages is not None, "the weights may look at the advantages"
        return torch.full(rollouts.mask.shape, self.factor)


def test_hook_token_weights(make_learner: Make) -> None:
    """The gradient is linear in the weights; 0 leaves a token out."""
    changes = []
    for factor in (1.0, 3.0, 0.0):
        learner = gradient_learner(make_learner, Constant(factor), learning_rate=1e-2)
        before = weights(learner)
        step(learner)
        changes.append({name: p - before[name] for name, p in weights(learner).items()})
    torch.testing.assert_close({n: c * 3 for n, c in changes[0].items()}, changes[1], rtol=1e-3, atol=1e-6)
    assert not any(change.any() for change in changes[2].values())


def test_hook_policy_loss(make_learner: Make) -> None:
    class Raise:
        """Makes the completions likelier, whatever their reward."""

        @hookimpl
        def policy_loss(self, batch: MicroBatch) -> Tensor:
            return -batch.logps

    learner = make_learner(Flat(), Raise(), learning_rate=1e-2)
    metrics, rollouts = step(learner)
    with torch.no_grad():
        logps, _ = learner.policy.score(
            rollouts.prompt_ids, rollouts.completion_ids, rollouts.mask, rollouts.temperature
        )
    assert logps[rollouts.mask].mean() > rollouts.policy_logps[rollouts.mask].mean()
    expected = -float(rollouts.policy_logps[rollouts.mask].mean())
    assert metrics["policy_loss"] == metrics["loss"] == pytest.approx(expected, rel=1e-4)


def test_hook_loss_terms(make_learner: Make) -> None:
    class Sharpen:
        needs = (Need.ENTROPY_GRADIENT,)

        @hookimpl
        def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
            return {"sharpness": 0.5 * batch.aggregate(batch.entropy)}

    for budget in (1, 10_000):
        learner = make_learner(Flat(), Sharpen(), learning_rate=1e-2, tokens_per_micro_batch=budget)
        metrics, rollouts = step(learner)
        entropy = float(rollouts.entropy[rollouts.mask].mean())
        assert metrics["sharpness"] == pytest.approx(0.5 * entropy, rel=1e-4), "the same however the step is cut"
        assert metrics["loss"] == pytest.approx(metrics["sharpness"] + metrics["policy_loss"])
        with torch.no_grad():
            arguments = (rollouts.prompt_ids, rollouts.completion_ids, rollouts.mask, rollouts.temperature)
            _, after = learner.policy.score(*arguments)
        assert after is not None
        assert float(after[rollouts.mask].mean()) < entropy


def test_hook_step_ended(make_recipe: Callable[..., Any], load: Callable[..., Any]) -> None:
    """Stop and save are asked of a whole run; the reference is tested below."""
    from callwright.hooks import Named

    @dataclass
    class Asks:
        seen: Any = None

        @hookimpl
        def step_ended(self, step: int, metrics: Mapping[str, float], control: Control) -> None:
            self.seen = dict(metrics)
            if step == 0:
                control.save()
            if step == 2:
                control.stop("enough")

    asks = Asks()
    recipe, components = load(make_recipe(train={"steps": 9, "checkpoint_every": 0, "keep_checkpoints": 9}))
    components.explorers.append(Named("asks", asks, "explorer", place="explore.0"))
    result = components.engine.train(recipe, components, SilentDisplay())
    assert (result.stopped, result.steps) == ("enough", 3)
    saved = sorted(path.name for path in (result.run / "checkpoints").iterdir())
    assert saved == ["step-000001", "step-000003"]
    assert {"reward", "entropy", "loss", "grad_norm", "bad_steps"} <= set(asks.seen)
    assert result.after is not None, "a run that stops by itself is evaluated"


# ----------------------------------------------------------------------------------- what may not change a step

EXTRAS: dict[str, Any] = {"kl": 0.1, "temperature": 1.3}


@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_size_of_micro_batches_does_not_matter(aggregation: str, packed: bool, make_learner: Make) -> None:
    learners = []
    for budget in (1, 150, 100_000):
        options = {"packed": packed, "tokens_per_micro_batch": budget, "aggregation": aggregation, **EXTRAS}
        learner = gradient_learner(make_learner, LastToken(), learning_rate=0.1, passes=2, **options)
        before = weights(learner)
        _, rollouts = step(learner)
        assert moved(before, learner) > 1e-3
        assert len(set(rollouts.lengths.tolist())) > 1
        learners.append(learner)
    same(learners[0], learners[1])
    same(learners[0], learners[2])


def test_packed_and_padded_rows_give_the_same_step(make_learner: Make) -> None:
    learners = [gradient_learner(make_learner, packed=packed, learning_rate=0.1, **EXTRAS) for packed in (True, False)]
    (packed, first), (padded, second) = step(learners[0]), step(learners[1])
    assert first.texts == second.texts
    torch.testing.assert_close(weights(learners[0]), weights(learners[1]), rtol=1e-4, atol=1e-5)
    assert packed["loss"] == pytest.approx(padded["loss"], rel=1e-4)


@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
def test_rows_without_advantage_may_be_skipped(aggregation: str, make_learner: Make) -> None:
    """A loss term that is 0 makes the loop score every row; the gradient is the same."""

    class HalfFlat:
        @hookimpl
        def score(self, rollouts: Rollouts) -> list[Verdict]:
            groups = rollouts.group_ids.tolist()
            return [Verdict(float(g) * (sum(map(ord, t)) % 5)) for g, t in zip(groups, rollouts.texts, strict=True)]

    scored: list[int] = []

    class Nothing:
        @hookimpl
        def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
            scored.extend(batch.rows.tolist())
            return {"nothing": 0 * batch.logps.sum()}

    quick = gradient_learner(make_learner, reward=HalfFlat(), aggregation=aggregation, learning_rate=0.1)
    thorough = gradient_learner(make_learner, Nothing(), reward=HalfFlat(), aggregation=aggregation, learning_rate=0.1)
    before = weights(quick)
    metrics, rollouts = step(quick)
    assert step(thorough)[1].texts == rollouts.texts
    assert sorted(scored) == list(range(6))
    assert metrics["flat_groups"] == 0.5
    assert moved(before, quick) > 1e-3
    same(quick, thorough)


def test_a_step_of_flat_groups_changes_nothing(make_learner: Make) -> None:
    learner = make_learner(Flat())
    before = weights(learner)
    metrics, _ = step(learner)
    assert (metrics["loss"], metrics["grad_norm"], metrics["flat_groups"]) == (0.0, 0.0, 1.0)
    assert moved(before, learner) == 0


def test_aggregations_weigh_rows_differently(make_learner: Make) -> None:
    """Plain policy gradient with advantage 1: the loss is the aggregate of the log-probabilities itself."""

    class Loss:
        @hookimpl
        def policy_loss(self, batch: MicroBatch) -> Tensor:
            return batch.logps

    class Ends:
        """Rows of different lengths."""

        @hookimpl
        def process_logits(self, logits: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
            return logits.index_fill(1, torch.tensor([2]), -100.0) + 1e3 * (positions >= rows)[:, None] * (
                torch.arange(logits.shape[1]) == 2
            )

    for aggregation in ("token", "sequence", "constant"):
        metrics, rollouts = step(make_learner(Flat(), Loss(), Ends(), aggregation=aggregation))
        assert rollouts.lengths.tolist() == [1, 2, 3, 4, 5, 6]
        sums, lengths = (rollouts.policy_logps * rollouts.mask).sum(1), rollouts.lengths
        expected = {
            "token": sums.sum() / lengths.sum(),
            "sequence": (sums / lengths).mean(),
            "constant": sums.sum() / (6 * 6),
        }[aggregation]
        assert metrics["loss"] == pytest.approx(float(expected), rel=1e-4)


# ------------------------------------------------------------------------------------------ passes and reference


def test_later_passes_compare_with_the_policy_before_the_first(make_learner: Make) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watch:
        @hookimpl
        def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
            seen.append((batch.logps.detach()[batch.mask], batch.old_logps[batch.mask]))
            return {"watched": 0 * batch.logps.sum()}

    learner = make_learner(Letters(), Watch(), passes=3, learning_rate=1e-2)
    metrics, rollouts = step(learner)
    assert len(seen) == 3
    assert torch.equal(*seen[0])
    torch.testing.assert_close(seen[0][0], rollouts.policy_logps[rollouts.mask], rtol=1e-4, atol=1e-4)
    for logps, old in seen[1:]:
        assert torch.equal(old, seen[0][1])
        assert (logps - old).abs().max() > 1e-3
    assert metrics["clip_share"] > 0, "after a step of this size some ratios leave the clip range"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("budget", [1, 100_000])
def test_the_likeliest_tokens_are_those_before_the_first_update(packed: bool, budget: int, make_learner: Make) -> None:
    seen: list[MicroBatch] = []

    class Watch:
        needs = (Need.TOP_LOGPS,)
        top_logps = 3

        @hookimpl
        def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
            assert batch.top_logps is not None
            seen.append(batch)
            return {"peaks": 0.1 * batch.aggregate(batch.top_logps.sum(-1))}

    learner = make_learner(
        Letters(), Watch(), packed=packed, tokens_per_micro_batch=budget, passes=2, learning_rate=1e-2
    )
    _, rollouts = step(learner)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    fresh = make_learner(Letters()).policy
    for before, after in zip(first, second, strict=True):
        part = rollouts.select(before.rows)
        assert before.top_logps is not None
        assert before.top_ids is not None
        assert after.top_logps is not None
        assert before.top_logps.requires_grad
        mask = before.mask
        torch.testing.assert_close(before.top_logps[mask], before.old_top_logps[mask])  # type: ignore[index]
        assert torch.equal(before.top_ids, after.top_ids)  # type: ignore[arg-type]
        torch.testing.assert_close(after.old_top_logps[mask], before.top_logps[mask])  # type: ignore[index]
        assert (after.top_logps - before.top_logps)[mask].abs().max() > 1e-3
        for rank in range(3):
            with torch.no_grad():  # the same tokens in the place of the drawn one, one position at a time
                ids = part.completion_ids.clone()
                ids[:, -1] = before.top_ids[:, -1, rank]
                logps, _ = fresh.score(part.prompt_ids, ids, part.mask, part.temperature)
            last = part.mask[:, -1]
            torch.testing.assert_close(logps[last, -1], before.top_logps[last, -1, rank].detach(), atol=1e-4, rtol=0)
        drawn = (before.top_ids == part.completion_ids[..., None]) & mask[..., None]
        torch.testing.assert_close(
            before.top_logps.detach()[drawn], before.logps.detach()[..., None].expand_as(drawn)[drawn]
        )
        assert (before.top_logps[..., 0] >= before.logps)[mask].all(), "none is likelier than the likeliest"


def test_more_passes_move_further(make_learner: Make) -> None:
    distances = []
    for passes in (1, 2):
        learner = gradient_learner(make_learner, passes=passes, learning_rate=1e-3)
        before = weights(learner)
        step(learner)
        distances.append(moved(before, learner))
    assert distances[1] > 1.5 * distances[0]


def test_the_reference_is_frozen(make_learner: Make) -> None:
    learner = make_learner(Letters(), kl=0.5, learning_rate=1e-2)
    assert learner.reference is not None
    before = {name: p.clone() for name, p in learner.reference.model.named_parameters()}
    first, rollouts = step(learner)
    assert rollouts.ref_logps is not None
    torch.testing.assert_close(
        rollouts.ref_logps[rollouts.mask], rollouts.policy_logps[rollouts.mask], atol=1e-4, rtol=0
    )
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    second, _ = step(learner, 1)
    assert second["kl"] > 1e-4
    assert second["kl_loss"] == pytest.approx(0.5 * second["kl"], rel=1e-5)
    for name, p in learner.reference.model.named_parameters():
        assert torch.equal(p, before[name])


@dataclass
class Lora:
    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    targets: str = "all-linear"


def test_lora_trains_the_adapter_and_takes_the_base_as_reference(make_learner: Make) -> None:
    learner = make_learner(Letters(), lora=Lora(), kl=0.5, learning_rate=1e-2)
    assert learner.reference is None
    before = weights(learner)
    first, _ = step(learner)
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    second, rollouts = step(learner, 1)
    assert second["kl"] > 1e-5
    changed = {name for name, p in learner.policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    base = make_learner(Letters())
    with torch.no_grad():
        logps, _ = base.policy.score(
            rollouts.prompt_ids, rollouts.completion_ids, rollouts.mask, rollouts.temperature, entropy=False
        )
    assert rollouts.ref_logps is not None
    torch.testing.assert_close(rollouts.ref_logps, logps, rtol=1e-4, atol=1e-4)


def test_the_learning_rate_warms_up(make_learner: Make) -> None:
    learner = make_learner(Letters(), learning_rate=1e-3, warmup_steps=3)
    rates = []
    for number in range(5):
        step(learner, number)
        rates.append(learner.optimizer.param_groups[0]["lr"] / 1e-3)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_the_gradient_is_clipped(make_learner: Make) -> None:
    learner = gradient_learner(make_learner, learning_rate=1.0)
    learner.recipe = learner.recipe.model_copy(
        update={"train": learner.recipe.train.model_copy(update={"max_grad_norm": 1e-3})}
    )
    before = weights(learner)
    metrics, _ = step(learner)
    distance = math.sqrt(sum(float((p - before[name]).square().sum()) for name, p in weights(learner).items()))
    assert metrics["grad_norm"] > 1e-3
    assert distance == pytest.approx(1e-3, rel=1e-2)


# ------------------------------------------------------------------------------------------------- bad numbers


class Bad:
    """A plugin that answers one hook with a bad number in row 4."""

    def __init__(self, hook: str, value: float) -> None:
        self.hook, self.value = hook, value

    def rows(self, rollouts: Rollouts, shape: tuple[int, ...]) -> Tensor:
        values = torch.ones(shape)
        values[4, ...] = self.value
        return values


class BadShaping(Bad):
    @hookimpl
    def shape_rewards(self, rollouts: Rollouts) -> Tensor:
        return self.rows(rollouts, (len(rollouts),))


class BadAdvantages(Bad):
    @hookimpl
    def advantages(self, rollouts: Rollouts) -> Tensor:
        return self.rows(rollouts, (len(rollouts),))


class BadShape(Bad):
    @hookimpl
    def shape_advantages(self, rollouts: Rollouts, base: Tensor) -> Tensor:
        return self.rows(rollouts, tuple(rollouts.mask.shape))


class BadWeights(Bad):
    @hookimpl
    def token_weights(self, rollouts: Rollouts) -> Tensor:
        return self.rows(rollouts, tuple(rollouts.mask.shape))


class BadLoss(Bad):
    @hookimpl
    def policy_loss(self, batch: MicroBatch) -> Tensor:
        values = torch.ones(len(batch.rows))
        values[batch.rows == 4] = self.value
        return batch.logps * values[:, None]


class BadTerm(Bad):
    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {"my_term": batch.logps.sum() * (self.value if 4 in batch.rows.tolist() else 1.0)}


class BadGradient(Bad):
    """Finite, but its gradient is not: the square root's slope at 0."""

    @hookimpl
    def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {"root": (batch.logps - batch.logps.detach()).abs().sum().sqrt()}


class BadReward(Bad):
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict(self.value if row == 4 else float(row)) for row in range(len(rollouts))]


class Listening:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


BAD = {
    "shape_rewards": (BadShaping, "row 4: `shape_rewards` of 'BadShaping'"),
    "advantages": (BadAdvantages, "row 4: `advantages` of 'BadAdvantages'"),
    "shape_advantages": (BadShape, "row 4: `shape_advantages` of 'BadShape'"),
    "token_weights": (BadWeights, "row 4: `token_weights` of 'BadWeights'"),
    "policy_loss": (BadLoss, "row 4: `policy_loss` of 'BadLoss'"),
    "loss_terms": (BadTerm, "`loss_terms.my_term` of 'BadTerm'"),
    "gradient": (BadGradient, "gradient"),
    "score": (BadReward, "row 4: `score` of 'reward'"),
}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", BAD)
def test_a_bad_number_is_named_and_the_update_skipped(place: str, value: float, make_learner: Make) -> None:
    kind, words = BAD[place]
    bad = kind(place, value)
    learner = make_learner(bad) if place == "score" else make_learner(Letters(), bad, tokens_per_micro_batch=1)
    listening: Any = Listening()
    learner.display = listening
    before = weights(learner)
    metrics, rollouts = learner.step(3)
    assert metrics["skipped_update"] == 1
    assert len(rollouts) == 6
    assert len(listening.warnings) == 1
    text = listening.warnings[0]
    assert text.startswith("step 3")
    assert words in text
    assert text.endswith("the update is skipped")
    after = weights(learner)
    assert all(torch.equal(after[name], p) for name, p in before.items())
    assert not learner.optimizer.state, "nor does the optimizer remember anything"
    assert all(p.grad is None for p in learner.policy.model.parameters())


def test_a_negative_weight_is_a_bad_number(make_learner: Make) -> None:
    learner = make_learner(Letters(), Constant(-1.0))
    assert learner.step(0)[0]["skipped_update"] == 1


def test_the_step_after_a_bad_one_is_a_step_like_any(make_learner: Make) -> None:
    class Once(BadShaping):
        @hookimpl
        def shape_rewards(self, rollouts: Rollouts) -> Tensor | None:
            return self.rows(rollouts, (len(rollouts),)) if rollouts.step == 0 else None

    learner = make_learner(Letters(), Once("", math.nan))
    before = weights(learner)
    assert learner.step(0)[0]["skipped_update"] == 1
    step(learner, 1)
    assert moved(before, learner) > 0


# -------------------------------------------------------------------------------------- rows that take no part


class Breaks:
    """Raises where a text has an odd length, if it judges row by row; else in the second step."""

    def __init__(self, abstains: tuple[int, ...] = (), fails: tuple[int, ...] = ()) -> None:
        self.abstains, self.fails = abstains, fails

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        verdicts = [Verdict(float(row)) for row in range(len(rollouts))]
        for row in self.abstains:
            verdicts[row] = Verdict.abstain()
        for row in self.fails:
            verdicts[row] = Verdict.failed("no answer in time")
        return verdicts


def test_failed_and_abstained_rows_leave_their_group(make_learner: Make) -> None:
    seen: list[int] = []

    class Watch:
        @hookimpl
        def loss_terms(self, batch: MicroBatch) -> dict[str, Tensor]:
            seen.extend(batch.rows.tolist())
            return {"watched": 0 * batch.logps.sum()}

    learner = make_learner(Breaks(abstains=(0,), fails=(5,)), Watch())
    metrics, rollouts = step(learner)
    assert rollouts.total is not None
    assert rollouts.advantages is not None
    assert rollouts.total.isnan().tolist() == [True, False, False, False, False, True]
    assert sorted(seen) == [1, 2, 3, 4], "they are not even scored"
    assert not rollouts.advantages[[0, 5]].any()
    half = 0.5 / (math.sqrt(0.5) + grpo.STD_EPSILON)
    assert rollouts.advantages[1:5, 0].tolist() == pytest.approx([-half, half, -half, half])
    assert metrics["failed_rows"] == 1
    assert metrics["reward"] == pytest.approx(2.5)


def test_a_reward_that_raises_fails_its_rows_and_stops_nothing(make_learner: Make) -> None:
    class Raises:
        @hookimpl
        def score(self, rollouts: Rollouts) -> list[Verdict]:
            raise KeyError("answer")

    learner = make_learner(Raises())
    before = weights(learner)
    metrics, rollouts = step(learner)
    assert metrics["failed_rows"] == len(rollouts) == 6
    assert math.isnan(metrics["reward"])
    assert metrics["loss"] == 0
    assert moved(before, learner) == 0
    assert "KeyError: 'answer'" in str(rollouts.verdicts["reward"][0].failure)
    assert learner.hooks.failures["reward"][0] == 6
    assert "Traceback" in learner.hooks.failures["reward"][1]


def test_failures_in_groups_that_are_not_kept_are_counted(make_learner: Make) -> None:
    metrics, rollouts = step(make_learner(Breaks(fails=(0,)), KeepsOdd(), prompts_per_step=3, refills=3))
    assert rollouts.groups.tolist() == [1, 3, 5]
    assert metrics["failed_rows"] == 3, "row 0 of each round, whose group is dropped"


def test_a_loss_without_the_model_is_explained(make_learner: Make) -> None:
    class Constant:
        @hookimpl
        def policy_loss(self, batch: MicroBatch) -> Tensor:
            return torch.ones(batch.mask.shape)

    with pytest.raises(CallwrightError, match=r"computed from `batch\.logps`"):
        step(make_learner(Letters(), Constant()))


def test_another_hook_that_raises_ends_the_run(make_learner: Make) -> None:
    class Raises:
        @hookimpl
        def shape_rewards(self, rollouts: Rollouts) -> Tensor:
            return torch.zeros(0)[1]

    with pytest.raises(PluginError, match=r"explore\.0: hook `shape_rewards` of plugin 'Raises' failed: IndexError"):
        make_learner(Letters(), Raises()).step(0)


# --------------------------------------------------------------------------------------------------- the figures


def test_the_figures_of_a_step(make_learner: Make) -> None:
    learner = make_learner(Letters(), Constant(1.0), LastToken())
    metrics, rollouts = step(learner)
    assert metrics["tokens"] == float(rollouts.mask.sum())
    assert metrics["entropy"] == pytest.approx(float(rollouts.entropy[rollouts.mask].mean()))
    assert metrics["completion_length"] == pytest.approx(float(rollouts.lengths.float().mean()))
    assert metrics["truncated"] == pytest.approx(float(rollouts.truncated.float().mean()))
    assert {"seconds/plugin/Constant", "seconds/plugin/LastToken", "seconds/plugin/reward"} <= set(metrics)
    assert metrics["seconds"] == pytest.approx(metrics["seconds/collect"] + metrics["seconds/update"], rel=0.2)
    shown = sample_of(rollouts, 2)
    assert (shown.prompt, shown.completion) == (str(rollouts.tasks[2].messages[0]["content"]), rollouts.texts[2])
    assert set(shown.verdicts) == {"reward"}


def test_the_loop_learns(make_learner: Make) -> None:
    class LowBytes:
        """Share of plain letters among the characters: what a model of noise seldom writes, and soon learns to."""

        @hookimpl
        def score(self, rollouts: Rollouts) -> list[Verdict]:
            return [Verdict(sum(c.isascii() and c.isalpha() for c in t) / max(len(t), 1)) for t in rollouts.texts]

    learner = make_learner(LowBytes(), prompts_per_step=4, group_size=8, learning_rate=1e-2)
    rewards = [step(learner, number)[0]["reward"] for number in range(25)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3
