"""A folder in which the examples of the documentation are at home."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from callwright.testing import tiny_model, tiny_tokenizer

ROOT = Path(__file__).parents[2]

RECIPE = """
model: {name: my-model, device: cpu, dtype: float32, precision: float32}
dialect: python_calls
data: {source: {use: jsonl, path: tasks.jsonl}}
rewards: {use: [{use: ast_match}]}
"""
STRICTER = "extends: recipe.yaml\nrewards: {use: [ast_match, schema_valid]}\n"
JUDGE = '''
from callwright import Verdict, hookimpl

class Judge:
    """Finds everything good."""

    @hookimpl
    def score(self, rollouts):
        return [Verdict(1.0) for _ in rollouts.texts]

class MyReward(Judge):
    limit: int = 200
'''
FUNCTIONS = """
def judge(completions, solution=None, strict=False, **columns):
    return [1.0 for _ in completions]

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return 1.0

class MyOrm:
    def __init__(self, args=None, **options):
        pass

    def __call__(self, completions, **columns):
        return [1.0 for _ in completions]
"""
TOOLS = '''
def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b
'''


def rows(row: dict[str, Any], count: int) -> str:
    """JSON lines of so many rows like one of them."""
    return "".join(json.dumps({**row, "id": f"row-{number}"}) + "\n" for number in range(count))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of, made once."""
    folder = tmp_path_factory.mktemp("docs")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = (json.loads(found) for found in re.findall(r"```json\n(.*?)```", readme, re.DOTALL))
    (reward,) = re.findall(r"```python\n(.*?class NoApologies.*?)```", readme, re.DOTALL)
    completion = {"completion": "[get_weather(city='Oslo', unit='celsius')]"}
    for name, text in {
        "recipe.yaml": RECIPE,
        "stricter.yaml": STRICTER,
        "tasks.jsonl": rows(row, 3),
        "data/my_calls.jsonl": rows(row, 120),
        "completions.jsonl": "".join(json.dumps({"id": f"row-{n % 3}", **completion}) + "\n" for n in range(20)),
        "politeness.py": reward,
        "judge.py": JUDGE,
        "rewards.py": JUDGE,
        "my_rewards.py": FUNCTIONS,
        "my_tools.py": TOOLS,
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copy(ROOT / "recipes/data/xlam_sample.json", folder / "xlam_function_calling_60k.json")
    tiny_model("llama", 0).save_pretrained(folder / "my-model")
    tiny_tokenizer().save_pretrained(folder / "my-model")
    return folder


@pytest.fixture
def workspace(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, as the working directory; what stands in it can be imported."""
    folder = tmp_path / "work"
    shutil.copytree(home, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder
