"""`callwright_rewards.bfcl.check` against the real bfcl-eval, in verdict and error type."""

import pytest
from bfcl_replies import MUTATIONS, case_of, gold, mutated_cases, text_of


def test_every_answer_key(peer, bfcl_tasks):
    cases = []
    for task in bfcl_tasks:
        for pick, optional in ((0, True), (-1, True), (0, False)):
            if "possible_answer" in task.meta:
                cases.append((text_of(gold(task.meta["possible_answer"], pick, optional)), *case_of(task)))
    verdicts = peer.assert_all_same(cases)
    assert sum(valid is True for valid, _ in verdicts) / len(verdicts) > 0.98


REPLIES = ["[f(a=1)]", "[]", "", "I cannot help.", "f(a=", "[f(), g.h(1)]", "x", "[x]", "``", "f()", "[f(a=1+x)]"]


def test_every_task_without_a_key(peer, bfcl_tasks):
    tasks = [task for task in bfcl_tasks if "possible_answer" not in task.meta]
    peer.assert_all_same([(REPLIES[row % len(REPLIES)], *case_of(task)) for row, task in enumerate(tasks)])
    assert {task.meta["category"] for task in tasks} == {"irrelevance", "live_irrelevance", "live_relevance"}


def test_mutated_replies(peer, bfcl_tasks):
    assert len(MUTATIONS) > 200
    peer.assert_all_same(list(mutated_cases(bfcl_tasks, 20, 0)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_mutated_replies_fully(peer, bfcl_tasks, seed):
    peer.assert_all_same(list(mutated_cases(bfcl_tasks, 300, seed, seed % 2 == 0)))
