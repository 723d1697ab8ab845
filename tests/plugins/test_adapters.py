"""The rewards `verl` and `ms_swift`."""

from __future__ import annotations

import json
import textwrap

import pytest
from callwright import Answer, CallwrightError, ExpectedCall, Parse, ParseStatus, Task
from callwright.light import LightRollouts
from callwright.plugins import build_component, find
from callwright.scoring import Named, Scorer

FUNCTIONS = """
    def compute_score(data_source, solution_str, ground_truth, extra_info=None, scale=1.0):
        if solution_str == "raise":
            raise LookupError("no key")
        if solution_str == "dict":
            return {"score": scale, "format": "good", "source": data_source}
        if solution_str == "empty":
            return {}
        return scale * (solution_str == ground_truth)

    async def later(data_source, solution_str, ground_truth, extra_info=None):
        if solution_str == "raise":
            raise LookupError("no key")
        return float(solution_str == extra_info["truth"])

    class Orm:
        def __init__(self, args=None):
            self.limit = args.limit

        def __call__(self, completions, solution, **columns):
            return [None if c == "none" else float(c == s) * self.limit for c, s in zip(completions, solution)]

    class OldOrm:
        def __call__(self, completions, **columns):
            assert columns["messages"][0][0]["role"] == "user"
            return [1] * (len(completions) - ("short" in completions))

    class AsyncOrm:
        def __init__(self, args=None):
            pass

        async def __call__(self, completions, **columns):
            return [0.5 for _ in completions]
"""


@pytest.fixture
def judged(tmp_path):
    """`judged("verl", "compute_score", texts, **options)`: the verdicts."""
    file = tmp_path / "functions.py"
    file.write_text(textwrap.dedent(FUNCTIONS))

    def judged(plugin, name, texts, **options):
        reward = build_component(find("reward", plugin)[0], {"function": f"{file}:{name}", **options}, "rewards.use.0")
        assert reward.display_name == name
        answer = Answer((ExpectedCall("f", {"a": [1]}),))
        messages = ({"role": "user", "content": "q"},)
        tasks = [
            Task(f"t{i}", messages, (), answer, {"truth": "yes", "data_source": "bfcl"}) for i in range(len(texts))
        ]
        rollouts = LightRollouts(
            step=0,
            tasks=tasks,
            texts=texts,
            parses=[Parse(text, ParseStatus.NO_CALL) for text in texts],
            arrays={"group_ids": list(range(len(texts)))},
        )
        scorer = Scorer([Named("r", reward, "reward")])
        verdicts, _ = scorer.score(rollouts)
        scorer.close()
        return verdicts["r"]

    return judged


def test_verl_is_called_per_sample_and_one_that_raises_costs_only_itself(judged):
    verdicts = judged("verl", "compute_score", ["yes", "no", "raise", "dict", "empty"], ground_truth="truth")
    assert [v.score for v in verdicts] == [1.0, 0.0, None, 1.0, None]
    assert verdicts[2].failure == "LookupError: no key"
    assert "should hold 'score'" in verdicts[4].failure
    assert [(r.code, r.message) for r in verdicts[3].reasons] == [("format", "good"), ("source", "bfcl")]


def test_verls_ground_truth_is_the_answer_and_its_arguments_are_passed_on(judged):
    answer = json.dumps([{"name": "f", "arguments": {"a": [1]}}])
    assert judged("verl", "compute_score", [answer], arguments={"scale": 0.5})[0].score == 0.5


def test_verls_asynchronous_functions_are_waited_for(judged):
    verdicts = judged("verl", "later", ["yes", "raise", "no"])
    assert [v.score for v in verdicts] == [1.0, None, 0.0]
    assert verdicts[1].failure == "LookupError: no key"


def test_ms_swift_builds_the_class_with_args_and_passes_columns(judged):
    verdicts = judged("ms_swift", "Orm", ["yes", "no", "none"], columns={"solution": "truth"}, arguments={"limit": 0.5})
    assert [v.score for v in verdicts] == [0.5, 0.0, None]
    assert [v.failure for v in verdicts] == [None] * 3


def test_ms_swifts_older_and_asynchronous_classes_run(judged):
    assert [v.score for v in judged("ms_swift", "OldOrm", ["a", "b"])] == [1.0, 1.0]
    assert [v.score for v in judged("ms_swift", "AsyncOrm", ["a", "b"])] == [0.5, 0.5]
    assert "returned 1 scores for 2 completions" in judged("ms_swift", "OldOrm", ["short", "b"])[0].failure


@pytest.mark.parametrize("plugin", ["trl", "verl", "ms_swift"])
def test_a_function_that_cannot_be_found_is_a_mistake_of_the_recipe(plugin):
    cls, _ = find("reward", plugin)
    for name, message in [("nowhere", "should be package.module:name"), ("./no.py:f", "there is no file './no.py'")]:
        with pytest.raises(CallwrightError, match=message):
            build_component(cls, {"function": name}, "rewards.use.0")
