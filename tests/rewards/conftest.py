import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from callwright import Rollouts
from callwright_data.sources.bfcl import CATEGORIES, Bfcl
from callwright_rewards.bfcl import check

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # the tests share bfcl_replies.py, and so does a benchmark
PYTHON = ROOT / ".venvs" / "bfcl" / "bin" / "python"


class Peer:
    """The checker of the real bfcl-eval package, in a process and an environment of its own."""

    def __init__(self):
        script = Path(__file__).with_name("bfcl_peer.py")
        self.process = subprocess.Popen([PYTHON, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def judge_all(self, cases):
        """For each case [valid, error type], or ["crash", exception]. A case: the arguments of `check`, in order."""
        names = ("reply", "functions", "possible_answer", "category", "underscore_to_dot")
        verdicts = []
        for start in range(0, len(cases), 100):  # few enough that neither side waits for a full pipe
            lines = [json.dumps(dict(zip(names, case, strict=False))) for case in cases[start : start + 100]]
            self.process.stdin.write("\n".join(lines) + "\n")
            self.process.stdin.flush()
            verdicts += [json.loads(self.process.stdout.readline()) for _ in lines]
        return verdicts

    def assert_all_same(self, cases):
        """The same verdict and error type from both; where the peer crashes, ours must be invalid."""
        verdicts = self.judge_all(cases)
        for case, theirs in zip(cases, verdicts, strict=True):
            ours = check(*case[:4], underscore_to_dot=case[4] if len(case) > 4 else False)
            if theirs[0] == "crash":
                assert not ours.valid, case
                assert ours.error_type
            else:
                assert [ours.valid, ours.error_type] == theirs, case
        return verdicts

    def assert_same(self, *case):
        self.assert_all_same([case])


@pytest.fixture(scope="session")
def peer():
    if not PYTHON.exists():
        pytest.fail(
            f"{PYTHON} is missing: the real bfcl-eval is needed to compare with. Run `make test`, which makes it."
        )
    peer = Peer()
    yield peer
    peer.process.stdin.close()
    peer.process.wait()


@pytest.fixture(scope="session")
def bfcl_tasks():
    """Every task of BFCL's Python single-turn categories."""
    return list(Bfcl(list(CATEGORIES)).load())


@pytest.fixture
def rollouts_of():
    """`rollouts_of(dialect, tasks, texts)`: a step whose completions are the texts; its tensors hold zeros."""

    def build(dialect, tasks, texts):
        rows = len(texts)
        zeros = torch.zeros(rows, 1)
        return Rollouts(
            step=0,
            tasks=tasks,
            group_ids=torch.arange(rows),
            prompt_ids=[[0]] * rows,
            texts=texts,
            parses=[dialect.parse(text) for text in texts],
            completion_ids=zeros.long(),
            mask=zeros.bool(),
            behaviour_logps=zeros,
            policy_logps=zeros,
            entropy=zeros,
            segments=zeros.to(torch.int8),
            truncated=torch.zeros(rows, dtype=torch.bool),
            temperature=torch.ones(rows),
            off_policy=torch.zeros(rows, dtype=torch.bool),
        )

    return build
