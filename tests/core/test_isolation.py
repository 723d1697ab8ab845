"""Rewards that hang, leak, crash and misbehave, in worker processes: only the row that did it is lost."""

from __future__ import annotations

import os
import textwrap
from collections import Counter

import pytest
from callwright import Parse, ParseStatus, Task, Verdict
from callwright.isolation import Blueprint, Workers
from callwright.light import LightRollouts
from callwright.plugins import build_component, find
from callwright.scoring import FailurePolicy, Named, Scorer

REWARDS = '''
    import asyncio, ctypes, os, pathlib, sys, threading, time
    from dataclasses import dataclass
    from callwright import Reason, Verdict, hookimpl

    KEPT = []

    @dataclass
    class Wild:
        """Does what the completion says, and writes down every row that it was called with."""
        log: str

        @hookimpl
        def score(self, rollouts):
            with open(self.log, "a") as file:
                file.writelines(f"{task.id}\\n" for task in rollouts.tasks)
            verdicts = [self.one(text) for text in rollouts.texts]
            return verdicts[1:] if "length" in rollouts.texts else verdicts

        def one(self, text):
            if text == "hang":
                while True:
                    pass
            if text == "sleep":
                ctypes.CDLL(None).sleep(1000)
            if text == "exit":
                os._exit(3)
            if text == "sys.exit":
                sys.exit(4)
            if text == "segfault":
                ctypes.string_at(0)
            if text == "leak":
                while True:
                    KEPT.append(bytearray(2**24))
            if text == "leak slowly":
                KEPT.append(bytearray(3 * 2**26))
            if text == "raise":
                raise LookupError("no such thing")
            if text == "type":
                return 1.0
            if text == "inf":
                return Verdict(float("inf"))
            if text == "torch?":
                return Verdict(float("torch" in sys.modules))
            return Verdict(0.5, (Reason("fine", str(os.getpid()), (0, 1)),))

        def take_metrics(self):
            return {"calls": 1.0}

    class Later:
        @hookimpl
        async def score(self, rollouts):
            await asyncio.sleep(100 if "hang" in rollouts.texts else 0)
            return [Verdict(1.0)] * len(rollouts.texts)

    class Sizes:
        @hookimpl
        def score(self, rollouts):
            return [Verdict(float(len(rollouts.texts)))] * len(rollouts.texts)

    class NeverBuilt:
        def __init__(self):
            if os.environ.get("BROKEN"):
                raise RuntimeError("not today")

        @hookimpl
        def score(self, rollouts):
            return [Verdict(1.0)] * len(rollouts.texts)
'''


@pytest.fixture
def make(tmp_path):
    """`make("Wild", timeout=1.0)`: a scorer of that class; closed at the end."""
    file = tmp_path / "rewards.py"
    file.write_text(textwrap.dedent(REWARDS))
    made = []

    def make(name, options=None, **policy):
        use, options = f"{file}:{name}", options or {}
        plugin = build_component(find("reward", use)[0], options, "rewards.use.0")
        settings = FailurePolicy(**{"isolate": True, "timeout": 60.0, **policy})
        made.append(Scorer([Named("r", plugin, "reward", policy=settings, source=(use, options))]))
        return made[-1]

    yield make
    for scorer in made:
        scorer.close()


@pytest.fixture
def wild(make, tmp_path):
    return lambda **policy: make("Wild", {"log": str(tmp_path / "log")}, **policy)


@pytest.fixture
def blueprint(make, tmp_path):
    make("Wild", {"log": str(tmp_path / "log")})
    return Blueprint("r", f"{tmp_path / 'rewards.py'}:Wild", {"log": str(tmp_path / "log")})


def rollouts_of(texts, groups=None):
    return LightRollouts(
        step=4,
        tasks=[Task(f"t{row}", ()) for row in range(len(texts))],
        texts=texts,
        parses=[Parse(text, ParseStatus.NO_CALL) for text in texts],
        arrays={"group_ids": list(groups or range(len(texts)))},
    )


def judged(scorer, texts, groups=None):
    verdicts, _ = scorer.score(rollouts_of(texts, groups))
    return verdicts["r"]


BAD = {
    "hang": ("no verdict within 3 s", "in one"),
    "sleep": ("no verdict within 3 s", "in one"),
    "exit": ("ended with exit code 3", ""),
    "sys.exit": ("SystemExit: 4", "in one"),
    "segfault": ("was killed by SIGSEGV", "in one"),
    "raise": ("LookupError: no such thing", "Traceback"),
    "length": ("must return 1 verdicts, one per row, but returned 0 of them", ""),
}
"""What each text does to the reward: the error, and what its traceback says."""


def test_one_bad_row_costs_only_itself_and_is_never_called_again(wild, tmp_path):
    scorer = wild(timeout=3.0)
    rows = ["fine", *(text for bad in BAD for text in (bad, "fine"))]
    verdicts = judged(scorer, rows)
    for text, verdict in zip(rows, verdicts, strict=True):
        if text == "fine":
            assert verdict.score == 0.5
            assert verdict.reasons[0].span == (0, 1)
        else:
            assert verdict.score is None
            assert BAD[text][0] in verdict.failure
    count, first = scorer.failures["r"]
    assert count == len(BAD)
    assert "step 4, row 1 (task 't1', 'hang')" in first
    assert "in one" in first, "where it hung"
    calls = Counter((tmp_path / "log").read_text().split())
    assert calls == {f"t{row}": 1 for row in range(len(rows))}


@pytest.mark.parametrize("text", ["segfault", "raise", "sys.exit"])
def test_the_report_says_where_it_happened(blueprint, text):
    """Also of a crash, which leaves no exception behind."""
    workers = Workers(blueprint, timeout=3.0)
    outcome = workers.judge(rollouts_of([text]), [[0]])[0]
    workers.close()
    error, trace = BAD[text]
    assert error in outcome.error
    assert trace in outcome.trace


def test_a_leak_ends_at_the_limit(wild):
    scorer = wild(timeout=60.0, memory=0.5)
    verdicts = judged(scorer, ["leak", "fine"])
    assert "MemoryError" in verdicts[0].failure
    assert verdicts[1].score == 0.5
    assert "bytearray" in scorer.failures["r"][1]


def test_what_is_no_verdict_is_refused_with_the_name_of_the_plugin(wild):
    verdicts = judged(wild(), ["type", "inf", "fine"])
    assert "'r', step 4, row 0: is no Verdict but 1.0" in verdicts[0].failure
    assert "'r', step 4, row 1: the score is not finite: inf" in verdicts[1].failure
    assert verdicts[2].score == 0.5


def test_a_worker_lives_on_until_it_misbehaves(wild):
    scorer = wild()
    first, second = ({v.reasons[0].message for v in judged(scorer, ["a", "b"])} for _ in range(2))
    assert first == second
    assert len(first) == 1
    assert str(os.getpid()) not in first
    after = judged(scorer, ["exit", "a"])
    assert after[1].reasons[0].message not in first


def test_a_slow_leak_is_met_with_a_new_worker_before_a_row_pays(wild):
    verdicts = judged(wild(memory=0.3), ["leak slowly"] * 3)
    assert [v.score for v in verdicts] == [0.5] * 3
    assert len({v.reasons[0].message for v in verdicts}) == 3


def test_several_workers_share_the_rows_in_order(wild):
    scorer = wild(workers=2)
    verdicts = judged(scorer, ["raise", "a", "b", "type", "c", "d"])
    assert [v.score for v in verdicts] == [None, 0.5, 0.5, None, 0.5, 0.5]


def test_a_worker_imports_no_torch_for_a_reward_of_texts(wild):
    assert judged(wild(), ["torch?"])[0].score == 0.0


def test_metrics_come_back(wild):
    scorer = wild()
    judged(scorer, ["a", "b"])
    assert scorer.metrics == {"r/calls": [1.0, 1.0]}


@pytest.mark.parametrize(("isolate", "sizes"), [(True, [1, 1, 1]), ("group", [2, 1, 2]), ("batch", [3, 3, 3])])
def test_the_unit_that_a_worker_sees(make, isolate, sizes):
    verdicts = judged(make("Sizes", isolate=isolate), ["a", "b", "c"], groups=[7, 2, 7])
    assert [v.score for v in verdicts] == sizes


def test_asynchronous_rewards_run_in_workers_too(make):
    verdicts = judged(make("Later", timeout=3.0), ["a", "hang", "b"])
    assert [v.score for v in verdicts] == [1.0, None, 1.0]


def test_a_worker_that_does_not_start_fails_the_rows_and_says_why(make, monkeypatch):
    scorer = make("NeverBuilt")
    monkeypatch.setenv("BROKEN", "1")
    verdicts = judged(scorer, ["a", "b"])
    assert all("did not start" in v.failure and "not today" in v.failure for v in verdicts)
    monkeypatch.delenv("BROKEN")
    assert [v.score for v in judged(scorer, ["a", "b"])] == [1.0, 1.0]


def test_the_floor_counts_and_is_still_a_failure(wild):
    scorer = wild(on_failure="floor", floor=-1.0)
    verdicts = judged(scorer, ["exit", "inf", "a"])
    assert [v.score for v in verdicts] == [-1.0, -1.0, 0.5]
    assert [v.failure is None for v in verdicts] == [False, False, True]
    assert scorer.failures["r"][0] == 2


def test_a_closed_worker_is_gone(wild):
    scorer = wild()
    pid = int(judged(scorer, ["a"])[0].reasons[0].message)
    scorer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_pickled_reward_needs_no_recipe():
    from callwright_rewards.think_format import ThinkFormat

    workers = Workers(Blueprint.of("r", ThinkFormat(), None), timeout=None)
    outcome = workers.judge(rollouts_of(["no thinking"]), [[0]])[0]
    workers.close()
    assert isinstance(outcome.answers[0], Verdict)
    assert outcome.answers[0].score == 0.0
