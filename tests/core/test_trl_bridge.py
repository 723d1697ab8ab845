"""Both ways with TRL: its functions in our recipes, and our rewards in its real trainer."""

from __future__ import annotations

import json
import math
import pickle
import textwrap
from types import SimpleNamespace

import callwright
import pytest
from callwright import Answer, CallwrightError, ExpectedCall, Task, Tool
from callwright.bridge import columns_of
from callwright.plugins import build_component, find
from callwright.recipe import build, load_recipe
from callwright.scoring import FailurePolicy, Named, Scorer
from callwright.trl_rows import completion_text, row_task
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.ast_match import AstMatch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

FUNCTIONS = """
    import functools
    from callwright import Verdict, hookimpl

    SEEN = {}

    def lengths(completions, trainer_state=None, log_extra=None, log_metric=None, **columns):
        SEEN.update(columns, completions=completions, state=trainer_state)
        if log_extra:
            log_extra("kind", ["long" if len(c[0]["content"]) > 3 else "short" for c in completions])
        if log_metric:
            log_metric("rows", len(completions))
        scores = [min(len(c[0]["content"]), 10) / 10 for c in completions]
        return [None if c[0]["content"] == "none" else s for c, s in zip(completions, scores)]

    partial = functools.partial(functools.partial(lengths))

    def nans(completions, **_):
        return [float("nan")] * len(completions)

    def short(completions, **_):
        return [1.0]

    def scalar(completions, **_):
        return 1.0

    def words(completions, **_):
        return ["1"] * len(completions)

    def infinite(completions, **_):
        return [float("inf")] * len(completions)

    def raises(completions, **_):
        raise RuntimeError("no")

    async def later(prompts, completions, completion_ids, **_):
        return [1] * len(completions)

    class Judge:
        async def __call__(self, completions, **_):
            return [0.25] * len(completions)

    def texts(prompts, completions, factor=1.0, **_):
        return [factor * (completion == prompt) for prompt, completion in zip(prompts, completions)]

    class Fragile:
        @hookimpl
        def score(self, rollouts):
            return [Verdict.failed("no network") if "!" in text else Verdict(1.0) for text in rollouts.texts]
"""


@pytest.fixture
def functions(tmp_path):
    file = tmp_path / "functions.py"
    file.write_text(textwrap.dedent(FUNCTIONS))
    return file


@pytest.fixture
def reward(functions):
    """`reward("lengths", ...)`: the plugin `trl` with that function."""
    return lambda name, **options: build_component(
        find("reward", "trl")[0], {"function": f"{functions}:{name}", **options}, "rewards.use.0"
    )


def scored(plugin, texts, **columns):
    from callwright import Parse, ParseStatus
    from callwright.light import LightRollouts

    tasks = [Task(f"t{i}", ({"role": "user", "content": "hello"},), meta=dict(columns)) for i in range(len(texts))]
    rollouts = LightRollouts(
        step=3,
        tasks=tasks,
        texts=texts,
        parses=[Parse(text, ParseStatus.NO_CALL) for text in texts],
        arrays={"group_ids": list(range(len(texts)))},
    )
    scorer = Scorer([Named("r", plugin, "reward", policy=FailurePolicy(timeout=60.0))])
    verdicts, _ = scorer.score(rollouts)
    metrics = scorer.metrics
    scorer.close()
    return verdicts["r"], metrics


# -------------------------------------------------------------------------------------- TRL's functions in our recipes


def test_a_function_is_called_as_trl_calls_it(reward, functions):
    plugin = reward("lengths", columns={"solution": "answer"})
    plugin.sampling(steps=50)
    verdicts, metrics = scored(plugin, ["four", "none", "x"], level=2, prompts="mine", trainer_state="mine")
    assert [v.score for v in verdicts] == [0.4, None, 0.1]
    assert [v.failure for v in verdicts] == [None] * 3
    assert [(v.reasons[0].code, v.reasons[0].message) for v in verdicts] == [
        ("kind", "long"),
        ("kind", "long"),
        ("kind", "short"),
    ]
    assert metrics == {"r/rows": [3.0]}
    seen = find("reward", f"{functions}:SEEN")[0]
    assert (seen["state"].global_step, seen["state"].max_steps) == (3, 50)
    assert seen["level"] == [2, 2, 2]
    assert seen["id"] == ["t0", "t1", "t2"]
    assert seen["solution"] == seen["answer"] == [None] * 3
    assert seen["completion_ids"] is None
    assert seen["prompts"] == [[{"role": "user", "content": "hello"}]] * 3, "a column of the same name is left out"
    assert seen["completions"][0] == [{"role": "assistant", "content": "four"}]


@pytest.mark.parametrize(
    ("name", "score", "error"),
    [
        ("nans", None, None),
        ("later", 1.0, None),
        ("Judge", 0.25, None),
        ("short", None, "returned 1 scores for 2 completions"),
        ("scalar", None, "should return a list of 2 scores, but returned 1.0"),
        ("words", None, "a score should be a number or None, but is '1'"),
        ("infinite", None, "not finite"),
        ("raises", None, "RuntimeError: no"),
    ],
)
def test_what_functions_return(reward, name, score, error):
    verdicts, _ = scored(reward(name), ["a", "b"])
    assert [v.score for v in verdicts] == [score] * 2
    for verdict in verdicts:
        assert (verdict.failure is None) == (error is None)
        assert error is None or error in verdict.failure


def test_texts_instead_of_conversations(reward):
    plugin = reward("texts", format="standard", arguments={"factor": 0.5})
    assert [v.score for v in scored(plugin, ["hello", "other"])[0]] == [0.5, 0.0]


@pytest.mark.parametrize(("name", "expected"), [("lengths", "lengths"), ("partial", "lengths"), ("Judge", "Judge")])
def test_the_name_is_trls(reward, name, expected):
    from trl.trainer.utils import get_callable_name

    plugin = reward(name)
    assert plugin.display_name == expected == get_callable_name(plugin._function)


def test_an_asynchronous_function_may_have_a_timeout_and_a_column_must_exist(reward):
    assert reward("later").asynchronous
    assert reward("Judge").asynchronous
    assert not reward("lengths").asynchronous
    verdicts, _ = scored(reward("lengths", columns={"solution": "anser"}), ["a"])
    assert "the tasks have no column 'anser'" in verdicts[0].failure


def test_trls_own_functions_run(reward):
    plugin = build_component(find("reward", "trl")[0], {"function": "trl.rewards:think_format_reward"}, "x")
    assert plugin.display_name == "think_format_reward"
    verdicts, _ = scored(plugin, ["<think>\nyes\n</think>\nfine", "fine"])
    assert [v.score for v in verdicts] == [1.0, 0.0]


def test_a_recipe_refuses_two_functions_of_one_name(functions, make_recipe):
    path = make_recipe(rewards=[{"use": "trl", "function": f"{functions}:{n}"} for n in ("lengths", "partial")])
    with pytest.raises(CallwrightError, match="'lengths' is also the name of"):
        build(load_recipe(path))


# ------------------------------------------------------------------------------------------ our rewards in TRL


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def task_of(number, **meta):
    tool = Tool("add", "Adds.", SCHEMA)
    answer = Answer((ExpectedCall("add", {"a": [number]}),))
    return Task(f"t{number}", ({"role": "user", "content": f"add {number}"},), (tool,), answer, meta)


def rows_of(tasks):
    """Columns as TRL hands them over."""
    return {name: [columns_of(task)[name] for task in tasks] for name in ("task", "tools", "answer", "meta")}


DIALECT = PythonCalls(instruction="Call.")


def test_texts_and_conversations_are_read(functions):
    function = callwright.trl_reward(AstMatch(), DIALECT)
    tasks = [task_of(i) for i in range(4)]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    completions = [
        "[add(a=0)]",
        [{"role": "assistant", "content": "[add(a=5)]"}],
        [{"role": "assistant", "content": "", "tool_calls": [call]}],
        [{"role": "assistant", "content": "[add(a=3)]"}, {"role": "tool", "content": "[add(a=9)]"}],
    ]
    assert function.__name__ == "AstMatch"
    assert function(prompts=["x"] * 4, completions=completions, **rows_of(tasks)) == [1.0, 0.0, 1.0, 1.0]


def test_reasons_and_failures_are_logged_and_a_failure_is_none(functions):
    fragile = find("reward", f"{functions}:Fragile")[0]()
    function = callwright.trl_reward(fragile, DIALECT, name="fragile")
    extra, metrics = {}, {}
    scores = function(
        ["x"] * 2, ["fine", "oh!"], [[5], [5, 6]], log_extra=extra.__setitem__, log_metric=metrics.__setitem__
    )
    assert scores == [1.0, None]
    assert metrics == {"fragile/failed": 1.0}
    assert json.loads(extra["fragile/reasons"][1])[0]["code"] == "reward_failed"


def test_on_failure_stop_and_floor(functions):
    fragile = find("reward", f"{functions}:Fragile")[0]()
    floor, stop = FailurePolicy("floor", -1.0), FailurePolicy("stop")
    from callwright.bridge import TrlReward

    given = {"prompts": ["x"] * 2, "completions": ["fine", "oh!"]}
    assert TrlReward([Named("r", fragile, "reward", policy=floor)], DIALECT, "r")(**given) == [1.0, -1.0]
    with pytest.raises(CallwrightError, match="no network"):
        TrlReward([Named("r", fragile, "reward", policy=stop)], DIALECT, "r")(**given)


def test_a_recipe_gives_picklable_functions_of_unique_names(make_recipe):
    rewards = [{"use": "ast_match"}, {"use": "ast_match", "name": "again", "weight": 0.5}]
    functions = callwright.trl_rewards(make_recipe(rewards=rewards))
    assert [(f.__name__, f.weight) for f in functions] == [("ast_match", 1.0), ("again", 0.5)]
    given = {"prompts": ["x"], "completions": ["[add(a=1)]"], **rows_of([task_of(1)])}
    for function in functions:
        copy = pickle.loads(pickle.dumps(function))
        assert (copy.__name__, copy.weight, copy(**given)) == (function.__name__, function.weight, [1.0])
    single = callwright.trl_reward(AstMatch(), DIALECT)
    assert pickle.loads(pickle.dumps(single))(**given) == [1.0]


def test_what_weights_cannot_say_becomes_one_function(make_recipe):
    rewards = [{"use": "ast_match"}, {"use": "think_format", "after": "ast_match", "weight": 0.5}]
    path = make_recipe(name="gate", rewards=rewards)
    (function,) = callwright.trl_rewards(path, ["rewards.combine=gate"])
    metrics = {}
    given = {
        "prompts": ["x"],
        "completions": ["[add(a=1)]"],
        "log_metric": metrics.__setitem__,
        **rows_of([task_of(1)]),
    }
    assert function(**given) == [1.0]
    assert metrics["think_format/mean"] == 0.0
    scheduled = make_recipe(name="s", rewards=[{"use": "ast_match", "weight": {"start": 1, "end": 2}}])
    with pytest.raises(CallwrightError, match="TRL's weights do not change"):
        callwright.trl_rewards(scheduled)


def test_arrows_padding_is_no_argument():
    """Tools and answers as Arrow returns them from struct columns: with the keys of all rows, and None."""
    from datasets import Dataset

    first = {"tools": [{"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}}]}
    second = {"tools": [{"name": "g", "parameters": {"properties": {"y": {"type": "integer", "description": "d"}}}}]}
    answers = [[{"name": "f", "arguments": {"x": [1]}}], [{"name": "g", "arguments": {"y": [2]}}]]
    rows = [{**row, "answer": answer} for row, answer in zip((first, second), answers, strict=True)]
    stored = list(Dataset.from_list(rows))
    assert "y" in stored[0]["answer"][0]["arguments"], "what this test is about"
    task = row_task("x", stored[0], 0)
    assert task.answer.calls[0].arguments == {"x": [1]}
    assert task.tools[0].parameters == {"properties": {"x": {"type": "integer"}}}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=10, phases=[Phase.generate])
@given(st.lists(st.tuples(st.dictionaries(st.text(max_size=3), st.lists(values, min_size=1), max_size=3), values)))
def test_the_dataset_gives_every_task_back(contents):
    tasks = [
        Task(f"t{i}", ({"role": "user", "content": "q"},), (Tool("f"),), Answer((ExpectedCall("f", a),)), {"m": meta})
        for i, (a, meta) in enumerate(contents)
    ]
    for task, row in zip(tasks, callwright.trl_dataset(tasks, DIALECT) if tasks else [], strict=True):
        again = row_task(row["prompt"], row, 0)
        assert again == task
        assert row["prompt"] == DIALECT.prompt(task).messages


@given(values | st.lists(st.fixed_dictionaries({"role": st.sampled_from(["assistant", "tool"]), "content": values})))
def test_a_completion_of_any_shape_is_some_text(completion):
    if isinstance(completion, str | list):
        assert isinstance(completion_text(completion, DIALECT), str)


@given(values, st.dictionaries(st.sampled_from(["tools", "answer", "meta", "task", "messages"]), values))
def test_columns_that_are_no_task_are_refused_with_the_row(prompt, columns):
    try:
        assert isinstance(row_task(prompt, columns, 7), Task)
    except CallwrightError as error:
        message = str(error)
    else:
        return
    assert "row 7" in message


# ------------------------------------------------------------------------------------------ TRL's real trainer


def test_trls_trainer_with_our_rewards_and_its_own_through_ours(
    make_recipe, functions, tiny_model_folder, tiny_tokenizer, tmp_path
):
    """Trains. A function of TRL's goes in by itself, and once more through our plugin and back: the same numbers."""
    import torch
    import trl
    from transformers import AutoModelForCausalLM

    recipe = make_recipe(
        rewards=[
            {"use": "ast_match"},
            {"use": "trl", "function": f"{functions}:lengths", "name": "through_ours", "weight": 0.0},
            {"use": f"{functions}:Fragile", "weight": 0.0},
        ]
    )
    ours = callwright.trl_rewards(recipe)
    theirs = find("reward", f"{functions}:lengths")[0]
    tasks = [task_of(i) for i in range(4)]
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path / "trl"),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        max_steps=2,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        log_completions=False,
        reward_weights=[*(f.weight for f in ours), 1.0],
    )
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder(), dtype=torch.float32),
        reward_funcs=[*ours, theirs],
        args=arguments,
        train_dataset=callwright.trl_dataset(tasks, build(load_recipe(recipe)).dialect),
        processing_class=tiny_tokenizer,
    )
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "rewards/ast_match/mean" in entry]
    assert len(history) == 2
    for entry in history:
        assert entry["rewards/through_ours/mean"] == pytest.approx(entry["rewards/lengths/mean"])
        assert entry["ast_match/failed"] == 0.0
        assert "Fragile/failed" in entry
        assert math.isfinite(entry["loss"])
    assert any(name == "through_ours/reasons" for name in trainer._logs["extra"])


def test_our_loop_with_trls_function(functions, make_recipe, load):
    """A whole run of ours on a tiny model, its only reward a function of TRL's."""
    from callwright.display import SilentDisplay

    path = make_recipe(rewards=[{"use": "trl", "function": f"{functions}:lengths"}], train={"steps": 2})
    recipe, components = load(path)
    result = components.engine.train(recipe, components, SilentDisplay(), False)
    lines = [json.loads(line) for line in (recipe.run / "metrics.jsonl").read_text().splitlines()]
    assert result.steps == len(lines) == 2
    for line in lines:
        assert line["reward"] == pytest.approx(line["reward/lengths"])
        assert "metric/lengths/rows" in line
        assert line["failed_rows"] == 0.0
    state = find("reward", f"{functions}:SEEN")[0]["state"]
    assert isinstance(state, SimpleNamespace)
    assert state.max_steps == 2
