"""Rewards asked together: asynchronous ones, failures and what a recipe says about them, and a run that stops."""

from __future__ import annotations

import asyncio
import json
import textwrap
import threading

import numpy
import pytest
import torch
from callwright import CallwrightError, Parse, ParseStatus, Reason, Task, Verdict, hookimpl
from callwright.light import LightRollouts, light
from callwright.scoring import FailurePolicy, Named, Scorer


def rollouts_of(texts, **arrays):
    return LightRollouts(
        step=2,
        tasks=[Task(f"t{row}", ()) for row in range(len(texts))],
        texts=texts,
        parses=[Parse(text, ParseStatus.NO_CALL) for text in texts],
        arrays={"group_ids": list(range(len(texts))), **arrays},
    )


class Plain:
    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def score(self, rollouts):
        return self.answer(rollouts) if callable(self.answer) else self.answer


class Later:
    """Waits for the others of its kind."""

    def __init__(self, barrier=None, seconds=0.0, error=None):
        self.barrier, self.seconds, self.error = barrier, seconds, error
        self.loops = []

    @hookimpl
    async def score(self, rollouts):
        self.loops.append(asyncio.get_running_loop())
        if self.barrier is not None:
            self.barrier["here"] += 1
            while self.barrier["here"] < self.barrier["all"]:
                await asyncio.sleep(0)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return [Verdict(1.0)] * len(rollouts.texts)


@pytest.fixture
def ask():
    """`ask({"name": plugin}, texts, name={policy})`: the verdicts, and the scorer; closed at the end."""
    made = []

    def ask(plugins, texts=("a", "b"), **policies):
        rewards = [
            Named(name, plugin, "reward", policy=FailurePolicy(**policies.get(name, {})))
            for name, plugin in plugins.items()
        ]
        made.append(Scorer(rewards))
        return made[-1].score(rollouts_of(list(texts)))[0], made[-1]

    yield ask
    for scorer in made:
        scorer.close()


def test_asynchronous_rewards_run_together_on_one_loop_that_stays(ask):
    barrier = {"here": 0, "all": 3}
    plugins = {name: Later(barrier) for name in "abc"}
    verdicts, scorer = ask({**plugins, "d": Plain([Verdict(0.5)] * 2)})
    assert all(v.score == 1.0 for name in "abc" for v in verdicts[name]), "each waited until the others had begun"
    assert verdicts["d"][0].score == 0.5
    scorer.score(rollouts_of(["x"]))
    loops = {loop for plugin in plugins.values() for loop in plugin.loops}
    assert len(loops) == 1
    assert set(scorer.seconds) == {*"abcd"}


def test_the_caller_may_be_inside_an_event_loop(ask):
    async def inside():
        return ask({"a": Later()})[0]

    assert [v.score for v in asyncio.run(inside())["a"]] == [1.0, 1.0]


def test_an_asynchronous_reward_that_hangs_ends_at_its_timeout_and_the_others_go_on(ask):
    verdicts, scorer = ask(
        {"slow": Later(seconds=3600.0), "fast": Later(), "broken": Later(error=TimeoutError("mine"))},
        slow={"timeout": 0.2},
        broken={"timeout": 60.0},
    )
    assert all(v.failure == "no verdicts within 0.2 s" for v in verdicts["slow"])
    assert all(v.failure == "TimeoutError: mine" for v in verdicts["broken"])
    assert [v.score for v in verdicts["fast"]] == [1.0, 1.0]
    assert scorer.failures["slow"][0] == 2
    assert "in score" in scorer.failures["broken"][1]


def test_the_first_failure_is_kept_with_its_row_and_traceback(ask):
    def broken(rollouts):
        raise ZeroDivisionError("first")

    verdicts, scorer = ask({"r": Plain(broken)})
    count, first = scorer.failures["r"]
    assert count == 2
    assert "step 2, 2 rows from row 0 on: ZeroDivisionError: first" in first
    assert "Traceback" in first
    assert "in broken" in first
    verdicts, scorer = ask({"r": Plain([Verdict(1.0), Verdict.failed("no network")])})
    assert scorer.failures["r"] == (1, "step 2, row 1 (task 't1', 'b'): no network")
    assert verdicts["r"][1].score is None


def test_the_policies(ask):
    answer = [Verdict(1.0), Verdict.failed("no network")]
    verdicts, scorer = ask({"r": Plain(answer)}, r={"on_failure": "floor", "floor": -0.5})
    assert verdicts["r"][1] == Verdict(-0.5, (Reason("reward_failed", "no network"),), "no network")
    assert scorer.stop_reason is None
    _, scorer = ask({"r": Plain(answer)}, r={"on_failure": "stop"})
    assert scorer.stop_reason == (
        "reward 'r' failed, and its `on_failure` is stop: step 2, row 1 (task 't1', 'b'): no network"
    )


def test_closing_leaves_no_thread(ask):
    _, scorer = ask({"a": Later()})
    scorer.close()
    for thread in threading.enumerate():
        if thread.name == "callwright-rewards":
            thread.join(5.0)
            assert not thread.is_alive()


# ------------------------------------------------------------------------------------------- rollouts without torch


def test_light_rollouts_give_tensors_on_demand_and_say_what_they_lack():
    rollouts = rollouts_of(["a", "b", "c"], mask=numpy.array([[1, 1], [1, 0], [0, 0]], dtype=bool))
    assert torch.equal(rollouts.group_ids, torch.tensor([0, 1, 2]))
    assert rollouts.lengths.tolist() == [2, 1, 0]
    assert rollouts.total is None
    with pytest.raises(CallwrightError, match="`entropy` is not known"):
        rollouts.entropy  # noqa: B018 # reading it is the test
    part = rollouts.select([2, 0])
    assert (part.texts, part.group_ids.tolist(), part.lengths.tolist()) == (["c", "a"], [2, 0], [0, 2])
    part.total = torch.ones(2)
    assert light(part, [1]).total.tolist() == [1.0]


# --------------------------------------------------------------------------------------------------------- a run


PARTS = """
    from callwright import Verdict, hookimpl

    class Breaks:
        '''Fails in the second step.'''
        @hookimpl
        def score(self, rollouts):
            if rollouts.step == 1:
                raise LookupError("the judge is gone")
            return [Verdict(float(len(text) % 2)) for text in rollouts.texts]
"""


def test_on_failure_stop_ends_the_run_saved_and_resume_goes_on(make_recipe, load, tmp_path):
    from callwright.display import SilentDisplay

    file = tmp_path / "breaks.py"
    file.write_text(textwrap.dedent(PARTS))
    path = make_recipe(rewards=[{"use": f"{file}:Breaks", "on_failure": "stop"}], train={"steps": 3})
    recipe, components = load(path)
    with pytest.raises(
        CallwrightError, match=r"reward 'Breaks' failed.*the judge is gone.*saved after step 2.*--resume"
    ):
        components.engine.train(recipe, components, SilentDisplay(), False)
    lines = [json.loads(line) for line in (recipe.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[1]["failed/Breaks"] == lines[1]["rows"]
    assert "failed/Breaks" not in lines[0]
    recipe, components = load(path)
    assert components.engine.train(recipe, components, SilentDisplay(), True).steps == 3


def test_gdpo_reports_the_plain_reward(make_recipe, load):
    from callwright.display import SilentDisplay

    parts = make_recipe().parent / "parts.py"
    rewards = [{"use": f"{parts}:Letters"}, {"use": f"{parts}:Letters", "name": "again", "weight": 0.5}]
    path = make_recipe(name="gdpo", rewards=rewards, train={"advantage_scale": "batch", "steps": 1})
    recipe, components = load(path, "rewards.normalise=group")
    components.engine.train(recipe, components, SilentDisplay(), False)
    line = json.loads((recipe.run / "metrics.jsonl").read_text())
    assert line["reward"] == pytest.approx(1.5 * line["reward/Letters"])
