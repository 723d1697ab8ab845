"""Explorers that choose prompts, groups and rows: dynamic_sampling, overlong, curriculum, replay."""

import copy
import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from callwright import Task, Verdict, grpo, hookimpl
from callwright.hooks import Hooks, Named
from callwright.loop import Control
from callwright.recipe import Recipe
from callwright.testing import check_explorer
from callwright.testing.explorer_steps import random_step
from callwright_explorers.curriculum import Curriculum
from callwright_explorers.dynamic_sampling import DynamicSampling
from callwright_explorers.overlong import Overlong
from callwright_explorers.replay import Replay
from hypothesis import given, settings
from hypothesis import strategies as st

_spec = importlib.util.spec_from_file_location("core_fixtures", Path(__file__).parents[1] / "core" / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _fixtures  # its dataclasses look for their module
_spec.loader.exec_module(_fixtures)
make_learner = _fixtures.make_learner  # of a tiny model

NAN = math.nan
quick = settings(max_examples=8)


def step_of(groups, step=0):
    """A step with these rewards, group by group; the task of group g is tg, row n is three times token 10 + n."""
    sizes = tuple(map(len, groups))
    rollouts = random_step(0, sizes, 3, step)
    rollouts.group_ids = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rollouts.tasks = [Task(f"t{group}", ()) for group in rollouts.group_ids.tolist()]
    rollouts.total = torch.tensor([reward for group in groups for reward in group])
    rollouts.rewards = {"reward": rollouts.total.clone()}
    rollouts.truncated = torch.zeros(len(rollouts), dtype=torch.bool)
    rollouts.mask = torch.ones_like(rollouts.mask)
    rollouts.completion_ids = (10 + torch.arange(len(rollouts)))[:, None] * rollouts.mask
    return rollouts


def ended(learner, number):
    """A step of the loop with what the run does after it."""
    metrics, rollouts = learner.step(number)
    learner.hooks.step_ended(number, metrics, rollouts, Control())
    return metrics, rollouts


def ids_of(rollouts):
    return [task.id for task in rollouts.tasks]


class Mixed:
    """In groups of `mixed` tasks the first row is right; of the others all are."""

    def __init__(self, *mixed):
        self.mixed = mixed

    @hookimpl
    def score(self, rollouts):
        groups = rollouts.group_ids.tolist()
        return [
            Verdict(float(task.id not in self.mixed or groups.index(groups[row]) == row))
            for row, task in enumerate(rollouts.tasks)
        ]


class Even:
    """About half of the completions are right, and the same text always is."""

    @hookimpl
    def score(self, rollouts):
        return [Verdict(float(sum(map(ord, text)) % 2 == 0)) for text in rollouts.texts]


@pytest.mark.parametrize(
    "explorer",
    [
        DynamicSampling(min_accuracy=0.2, max_accuracy=0.8, threshold=0.5, reward="reward"),
        Overlong(),
        Curriculum(form="gaussian", target=0.4, threshold=0.5),
        Replay(add=3, threshold=0.25, per_task=2, total=3),
    ],
    ids=repr,
)
def test_laws(explorer):
    check_explorer(explorer, examples=1)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: DynamicSampling(min_accuracy=0.5, max_accuracy=0.4),
            "must be a range between 0 and 1, not 0.5 to 0.4",
        ),
        (lambda: DynamicSampling(max_accuracy=NAN), "must be a range between 0 and 1"),
        (lambda: DynamicSampling(threshold=math.inf), "threshold must be a finite number, not inf"),
        (lambda: Overlong(weight=-0.5), "weight must be between 0 and 1, not -0.5"),
        (lambda: Curriculum(form="bell"), "form must be 'variance' or 'gaussian', not 'bell'"),
        (lambda: Curriculum(target=0.3), "target is 0.5 with form 'variance', not 0.3"),
        (lambda: Curriculum(form="gaussian", target=1.5), "target must be between 0 and 1, not 1.5"),
        (lambda: Curriculum(width=0.1), "width has no effect"),
        (lambda: Curriculum(form="gaussian", width=0.0), "width must be a number above 0, not 0.0"),
        (lambda: Curriculum(rate=0.0), "rate must be above 0 and at most 1, not 0.0"),
        (lambda: Curriculum(floor=0.0), "floor must be above 0 and at most 1, not 0.0"),
        (lambda: Replay(add=-1), "add must be at least 0, not -1"),
        (lambda: Replay(per_task=0), "per_task must be at least 1, not 0"),
        (lambda: Replay(total=0), "total must be at least 1, not 0"),
        (lambda: Replay(threshold=NAN), "threshold must be a finite number, not nan"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize("explorer", [DynamicSampling(reward="tool"), Curriculum(reward="tool"), Replay(reward="tool")])
def test_a_reward_that_the_run_lacks_is_named(explorer):
    hook = getattr(explorer, "keep_groups", None) or explorer.step_ended
    with pytest.raises(ValueError, match=r"name of a reward of this run \(reward\): 'tool'"):
        hook(step_of([[1.0, 0.0]]))


def test_a_reward_by_name_is_not_the_shaped_one():
    rollouts = step_of([[1.0, 1.0], [1.0, 0.0]])
    rollouts.total = rollouts.total - 0.1 * torch.arange(4)
    assert DynamicSampling().keep_groups(rollouts).tolist() == [True, True]
    assert DynamicSampling(reward="reward").keep_groups(rollouts).tolist() == [False, True]


# ------------------------------------------------------------------------------------------------- dynamic_sampling


def test_dynamic_sampling_by_hand():
    groups = [[1.0, 1.0], [0.0, 1.0, 0.0], [0.0, NAN, 0.0], [NAN, NAN], [1.0, NAN], [0.5, 0.25]]
    kept = [False, True, False, False, False, True]
    assert DynamicSampling().keep_groups(step_of(groups)).tolist() == kept


def test_a_range_of_accuracy():
    groups = [[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, NAN], [0.5, 0.25], [1.0, 1.0]]
    keep = DynamicSampling(min_accuracy=0.25, max_accuracy=0.5).keep_groups(step_of(groups))
    assert keep.tolist() == [False, True, True, False, False]
    keep = DynamicSampling(drop_flat=False, min_accuracy=0.75).keep_groups(step_of(groups))
    assert keep.tolist() == [True, False, False, False, True]


def test_replayed_rows_make_a_group_worth_keeping_and_its_task_no_easier():
    rollouts = step_of([[0.0, 0.0, 1.0]])
    rollouts.off_policy[2] = True
    assert DynamicSampling().keep_groups(rollouts).tolist() == [True]
    assert DynamicSampling(min_accuracy=0.1).keep_groups(rollouts).tolist() == [False]


@quick
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=1, max_size=4), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_groups_are_judged_one_by_one(groups, random):
    """Of 0 and 1 it is DAPO's 0 < number of right rows < number of rows, for any order of rows and groups."""
    rollouts = step_of(groups)
    order = random.sample(range(len(rollouts)), len(rollouts))
    kept = [0 < group.count(1.0) < sum(not math.isnan(reward) for reward in group) for group in groups]
    assert DynamicSampling().keep_groups(rollouts.select(order)).tolist() == kept


def recipe_with(refills):
    return Recipe.model_validate(
        {
            "run": Path("unused"),
            "model": {"name": "unused"},
            "dialect": {"use": "python_calls"},
            "data": {"source": {"use": "jsonl"}},
            "rewards": {"use": [{"use": "unused"}]},
            "train": {"refills": refills},
        }
    )


def test_it_needs_refills():
    assert DynamicSampling().recipe_mistakes(recipe_with(1)) == []
    assert "train.refills: 0" in DynamicSampling().recipe_mistakes(recipe_with(0))[0]


def test_flat_groups_are_refilled(make_learner):
    learner = make_learner(Mixed("t0", "t1", "t2"), DynamicSampling(), prompts_per_step=3, refills=9)
    metrics, rollouts = ended(learner, 0)
    assert set(ids_of(rollouts)) == {"t0", "t1", "t2"}
    assert len(rollouts.groups) == 3
    assert metrics["dropped_groups"] > 0
    assert metrics["flat_groups"] == 0
    plain, rollouts = ended(make_learner(Mixed("t0", "t1", "t2"), prompts_per_step=3, refills=9), 0)
    assert plain["flat_groups"] > 0
    assert plain["dropped_groups"] == 0


# --------------------------------------------------------------------------------------------------------- overlong


def test_truncated_rows_get_the_weight():
    rollouts = step_of([[0.0, 1.0, 0.0]])
    rollouts.truncated[1] = True
    assert Overlong().token_weights(rollouts)[:, 0].tolist() == [1.0, 0.0, 1.0]
    assert Overlong(weight=0.25).token_weights(rollouts)[1].tolist() == [0.25] * 3


def test_the_policy_loss_is_that_of_trl(tiny_model_folder, tiny_tokenizer, tmp_path):
    """TRL's own trainer makes mask, advantages and loss; log-probabilities are given, and get the gradients."""
    trl = pytest.importorskip("trl", reason="the peer is not installed")
    completions = [[5, 6, 2], [7, 8, 9, 10], [5, 2], [6, 7, 8, 9]]  # token 2 ends a turn: rows 1 and 3 are cut off
    rewards = [1.0, 0.0, 0.25, 1.0]
    trainer = trl_trainer(trl, tiny_model_folder(), tiny_tokenizer, tmp_path, rewards)
    trainer._tokenize_prompts = lambda prompts: ([[4, 5]] * 4, None, {})
    trainer._generate_single_turn = lambda *_: (completions, None)
    inputs = trainer._generate_and_score_completions([{"prompt": "x"}] * 4)
    logps, noise = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    inputs["old_per_token_logps"] = old = logps + 0.6 * noise

    rollouts = step_of([rewards])
    rollouts.mask = torch.arange(4) < torch.tensor(list(map(len, completions)))[:, None]
    rollouts.truncated = torch.tensor([False, True, False, True])
    hooks = Hooks([Named("overlong", Overlong(), "explorer")], grpo.Defaults("group", 0.2, 0.2, 0.0), "sum")
    weights, advantages = hooks.token_weights(rollouts), hooks.advantages(rollouts)[:, None]

    for loss_type, aggregation in (("grpo", "sequence"), ("dr_grpo", "constant"), ("bnpo", "token")):
        ours, theirs = logps.clone().requires_grad_(), logps.clone().requires_grad_()
        trainer.loss_type = loss_type
        trainer._get_per_token_logps_and_entropies = lambda *_, given=theirs, **__: (given, torch.zeros(4, 4), None)
        their_loss = trainer._compute_loss(trainer.model, inputs)
        their_loss.backward()
        shares = grpo.token_shares(rollouts.mask, torch.ones(4, dtype=torch.bool), aggregation, 9)
        our_loss = (grpo.clipped_surrogate(ours, old, advantages) * weights * shares).sum()
        our_loss.backward()
        left = 5 / 13 if aggregation == "token" else 1.0  # TRL divides by the 5 tokens that are left of 13
        torch.testing.assert_close(our_loss, their_loss * left, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.grad, theirs.grad * left, rtol=1e-5, atol=1e-5)
        assert ours.grad[[1, 3]].count_nonzero() == 0
        assert ours.grad[[0, 2]].count_nonzero() > 0


def trl_trainer(trl, folder, tokenizer, output, rewards):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=lambda **_: rewards,
        args=trl.GRPOConfig(
            output_dir=str(output),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=9,
            report_to="none",
            save_strategy="no",
            beta=0.0,
            mask_truncated_completions=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": "x"}] * 4),
        processing_class=tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1  # which `train()` would set
    trainer.model.train()
    return trainer


# ------------------------------------------------------------------------------------------------------- curriculum


def weights_of(explorer, *names):
    return explorer.task_weights([Task(name, ()) for name in names]).tolist()


def test_curriculum_by_hand():
    explorer = Curriculum()
    rollouts = step_of([[1.0, 1.0], [0.0, 0.0, 1.0, NAN]])
    rollouts.off_policy[4] = True  # a replayed success says nothing
    explorer.keep_groups(rollouts)
    assert weights_of(explorer, "t0", "t1", "t9") == [1.0] * 3, "rates move when the step ends"
    explorer.step_ended(rollouts)
    # p = 0.5 * 0.5 + 0.5 * 1 = 0.75 and 0.5 * 0.5 + 0.5 * 0 = 0.25; both have 4 p (1 - p) = 0.75; t9 is unseen.
    assert weights_of(explorer, "t0", "t1", "t9") == pytest.approx([0.05 + 0.95 * 0.75] * 2 + [1.0])
    for number in range(1, 40):
        explorer.step_ended(step_of([[1.0, 1.0]], step=number))  # without keep_groups it looks at these
    assert weights_of(explorer, "t0") == pytest.approx([0.05]), "never less than the floor"


def test_the_bell_curve_by_hand():
    explorer = Curriculum(form="gaussian", target=0.3, width=0.2, floor=0.1, rate=1.0)
    explorer.step_ended(step_of([[1.0, 0.0]]))
    assert weights_of(explorer, "t0", "t1") == pytest.approx([0.1 + 0.9 * math.exp(-0.5), 1.0])  # one width away


def test_a_group_counts_once_and_dropped_ones_count_too():
    """keep_groups sees both groups, twice; the step trains on the second only."""
    explorer = Curriculum(rate=0.5)
    both = step_of([[1.0, 1.0], [1.0, 0.0]])
    assert explorer.keep_groups(both) is None
    explorer.keep_groups(both)
    explorer.step_ended(both.select([2, 3]))
    assert explorer.state_dict() == {"rates": {"t0": 0.75, "t1": 0.5}}


def test_what_a_step_saw_that_never_ended_is_forgotten():
    explorer = Curriculum(rate=1.0)
    explorer.keep_groups(step_of([[1.0, 1.0]], step=0))
    rollouts = step_of([[NAN, NAN], [0.0, 0.0]], step=1)
    explorer.keep_groups(rollouts)
    explorer.step_ended(rollouts)
    assert explorer.state_dict() == {"rates": {"t1": 0.0}}


@quick
@given(st.floats(0, 1), st.floats(0.01, 1), st.sampled_from([Curriculum(), Curriculum("gaussian", 0.25)]))
def test_weights_lie_between_floor_and_one_with_the_peak_at_the_target(passed, floor, explorer):
    explorer.floor = floor
    assert floor <= explorer.weight(passed) <= 1.0 + 1e-12
    assert explorer.weight(explorer.target) == pytest.approx(1.0)
    nearer = explorer.target + (passed - explorer.target) / 2
    assert explorer.weight(nearer) >= explorer.weight(passed) - 1e-12


@pytest.mark.parametrize("dropping", [False, True])
def test_solved_tasks_are_drawn_less(dropping, make_learner):
    """Four of eight tasks are always solved: of 16 groups drawn alike 8 would be theirs. `dynamic_sampling` drops their
    groups, and still they are known to be solved."""
    mixed = ("t0", "t1", "t2", "t3")
    explorer = Curriculum(rate=1.0, floor=0.01)
    others = [DynamicSampling(min_accuracy=0.1)] if dropping else []
    learner = make_learner(Mixed(*mixed), explorer, *others, prompts_per_step=2, refills=6)
    drawn, dropped = [], []
    for number in range(14):
        metrics, rollouts = ended(learner, number)
        drawn.append(ids_of(rollouts)[:: learner.recipe.train.group_size])
        dropped.append(metrics["dropped_groups"])
    late = [name for names in drawn[6:] for name in names]
    assert sum(name not in mixed for name in late) <= 2
    assert sum(dropped[6:]) <= 2
    assert {name for name, rate in explorer.state_dict()["rates"].items() if rate == 1.0} == {"t4", "t5", "t6", "t7"}


# ----------------------------------------------------------------------------------------------------------- replay


def pool_of(explorer):
    return [(task, ids[0]) for task, ids, _ in explorer.state_dict()["pool"]]


def test_replay_by_hand():
    explorer = Replay(add=2)
    rollouts = step_of([[1.0, 0.0, 1.0, 1.0, NAN], [1.0, 1.0]])
    rollouts.truncated[3] = True
    rollouts.off_policy[5] = True
    explorer.step_ended(rollouts)
    assert sorted(pool_of(explorer)) == [("t0", 10), ("t0", 12), ("t1", 16)]
    later = step_of([[0.0, 0.0], [0.0], [0.0]], step=1)
    later.tasks = [Task("t1", ()), Task("t1", ()), Task("t0", ()), Task("t7", ())]
    found = explorer.replay(later)
    assert [one.group for one in found] == [0, 1], "t0 has two, of which group 1 drew one itself; t7 has none"
    assert found[0].completion_ids == [16] * 3
    assert found[1].completion_ids == [10] * 3
    assert found[0].behaviour_logps == rollouts.behaviour_logps[6].tolist()
    assert Replay(add=0).replay(later) == []


def test_the_pool_is_bounded_and_the_oldest_leave():
    explorer = Replay(per_task=2, total=3)
    for number, first in enumerate((10, 20, 30, 20)):
        rollouts = step_of([[1.0], [1.0] if number == 0 else [0.0]], step=number)
        rollouts.completion_ids[0] = first * rollouts.mask[0]
        explorer.step_ended(rollouts)
    # Of t0, 10 left for 30; 20 came again and is now the newest.
    assert pool_of(explorer) == [("t1", 11), ("t0", 30), ("t0", 20)]
    explorer.step_ended(step_of([[0.0], [0.0], [1.0]], step=5))
    assert pool_of(explorer) == [("t0", 30), ("t0", 20), ("t2", 12)]


def test_which_successes_are_replayed_changes_from_step_to_step():
    explorer = Replay(add=1)
    explorer.step_ended(step_of([[1.0] * 5]))
    chosen = []
    for number in range(1, 20):
        later = step_of([[0.0]], step=number)
        later.completion_ids += 100
        (one,) = explorer.replay(later)
        assert explorer.replay(later) == [one]
        chosen.append(one.completion_ids[0])
    assert len(set(chosen)) == 5


@quick
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(0, 3),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_the_pool_does_not_depend_on_the_order_of_rows(groups, add, per_task, random):
    first, second = Replay(add=add, per_task=per_task), Replay(add=add, per_task=per_task)
    rollouts = step_of(groups)
    first.step_ended(rollouts)
    second.step_ended(rollouts.select(random.sample(range(len(rollouts)), len(rollouts))))
    assert first.state_dict() == second.state_dict()
    later = step_of(groups, step=1)
    later.completion_ids += 100
    counts = [sum(one.group == number for one in first.replay(later)) for number in range(len(groups))]
    assert counts == [min(add, per_task, group.count(1.0)) for group in groups]


def replaying_learner(make_learner):
    """All eight tasks come in every step; completions of all lengths."""
    learner = make_learner(Even(), Replay(add=2), Curriculum(), DynamicSampling(), prompts_per_step=8, refills=0)
    learner.ends = list(range(2, 80))
    return learner


def test_replayed_rows_join_their_group_in_a_later_step_also_after_resuming(make_learner):
    learner = replaying_learner(make_learner)
    metrics, _ = ended(learner, 0)
    assert metrics["replayed_rows"] == 0
    saved = {
        "model": {name: value.clone() for name, value in learner.policy.model.state_dict().items()},
        "optimizer": copy.deepcopy(learner.optimizer.state_dict()),
        "deck": learner.deck.state_dict(),
        "generator": learner.generator.get_state(),
        "plugins": json.loads(json.dumps(learner.hooks.state_dict())),
    }
    pool = {(task, tuple(ids)) for task, ids, _ in saved["plugins"]["Replay"]["pool"]}
    assert pool
    metrics, rollouts = ended(learner, 1)
    assert metrics["replayed_rows"] == int(rollouts.off_policy.sum()) > 0
    for row in rollouts.off_policy.nonzero().squeeze(1).tolist():
        ids = tuple(rollouts.completion_ids[row][rollouts.mask[row]].tolist())
        assert (rollouts.tasks[row].id, ids) in pool
        siblings = rollouts.group_ids == rollouts.group_ids[row]
        assert {task.id for task, own in zip(rollouts.tasks, siblings, strict=True) if own} == {rollouts.tasks[row].id}
        assert rollouts.total[row] == 1.0, "scored again"

    other = replaying_learner(make_learner)
    other.policy.model.load_state_dict(saved["model"])
    other.optimizer.load_state_dict(saved["optimizer"])
    other.deck.load_state_dict(saved["deck"])
    other.generator.set_state(saved["generator"])
    other.hooks.load_state_dict(saved["plugins"])
    _, resumed = ended(other, 1)
    assert torch.equal(resumed.completion_ids, rollouts.completion_ids)
    assert torch.equal(resumed.off_policy, rollouts.off_policy)
    assert torch.equal(resumed.behaviour_logps, rollouts.behaviour_logps)
    for name, value in learner.policy.model.state_dict().items():
        torch.testing.assert_close(other.policy.model.state_dict()[name], value)
    assert other.hooks.state_dict() == learner.hooks.state_dict()
