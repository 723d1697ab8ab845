"""Every example of the documentation is what it says: code runs, recipes have no mistake, commands exist."""

from __future__ import annotations

import functools
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from callwright.cli import app
from callwright.plugins import KINDS, find
from callwright.recipe import Recipe, _Reader, check, load_recipe
from callwright.testing import verdicts_of
from callwright.testing.explorer_steps import answers, end_step, random_step
from callwright.testing.scoring import plugin
from callwright.testing.toys import fixed_tasks
from callwright_vllm import serve
from typer.main import get_command
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parent))
from blocks import ROOT, Block, blocks, links, mentioned_commands

BLOCKS = list(blocks())
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined] # a group
LANGUAGES = ("python", "yaml", "json", "toml", "sh", "console", "text")
"""`text` is what a program writes, or a tree of files: nothing to be run."""

GIVEN = {
    "docs/parameter-extraction.md": """
from callwright.testing import gold_text, plugin
from callwright.testing.toys import fixed_tasks
task = fixed_tasks()[0]
parse = plugin("dialect", "python_calls").parse(gold_text(plugin("dialect", "python_calls"), task))
""",
    "docs/rewards.md": """
from callwright.testing.toys import fixed_tasks
tasks = fixed_tasks()
""",
    "docs/testing-kit.md": """
from dataclasses import dataclass
from typing import ClassVar
from callwright.testing import check_reward
from callwright_rewards.ast_match import AstMatch as MyReward
reward = MyReward()
""",
}
"""What the reader of a page already has when an example begins."""

SLOW = ("check_reward(", "GRPOTrainer(")
"""Words of Python examples that take more than a few seconds."""

WHY_NOT_RUN = {
    "train": "it trains a model for minutes or days",
    "compare": "it trains models",
    "eval": "it loads a model, or asks an endpoint",
    "accelerate": "it starts several processes that train",
    "check --laws": "tests/laws runs the laws of every plugin",
    "of a run": "there is no run: tests of the command make one",
    "make": "it makes an environment; only its name is looked up",
    "pip": "it installs; only the extra is looked up",
    "git": "it is git's own",
    "serve": "it starts a server of vLLM: tests/vllm does",
    "bfcl": "it is bfcl-eval's own command",
}
"""Commands that are checked against the command line's definition, and their files and overrides, but not run."""


def of(*languages: str) -> list[Any]:
    """Parameters for all blocks of a language."""
    found = [block for block in BLOCKS if block.language in languages]
    return [
        pytest.param(block, id=str(block), marks=pytest.mark.slow if any(w in block.text for w in SLOW) else ())
        for block in found
    ]


def test_every_block_says_what_it_is() -> None:
    assert len(BLOCKS) > 50
    assert [f"{block}: {block.language!r}" for block in BLOCKS if block.language not in LANGUAGES] == []


# ------------------------------------------------------------------------------------------------------- Python


@pytest.mark.parametrize("block", [b for b in of("python") if b.values[0].page != "docs/hooks.md"])
def test_python_runs(
    block: Block, workspace: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "GRPOConfig(" in block.text:
        import trl

        # TRL takes a GPU for granted unless it is told.
        monkeypatch.setattr(trl, "GRPOConfig", functools.partial(trl.GRPOConfig, use_cpu=True, bf16=False))
    module = ModuleType("example")
    sys.modules["example"] = module  # dataclasses look it up
    try:
        exec(compile(GIVEN.get(block.page, ""), "given", "exec"), vars(module))
        exec(compile("\n" * block.line + block.text, ROOT / block.page, "exec"), vars(module))
        tests = [value for name, value in vars(module).items() if name.startswith("test_")]
        for test in tests:
            names = test.__code__.co_varnames[: test.__code__.co_argcount]
            test(*(request.getfixturevalue(name) for name in names))
    finally:
        del sys.modules["example"]


HOOKS = """
import torch
from collections.abc import Mapping, Sequence
from torch import Tensor
from callwright import MicroBatch, Need, Replayed, Rollouts, Segment, Task, Verdict, hookimpl
from callwright.loop import Control
class Plugin:
    needs = (Need.ENTROPY_GRADIENT,)
    group_size = 8
    pool = {task: ([5, 6], [-1.0, -2.0]) for task in tasks}
"""


@pytest.mark.parametrize("block", [b for b in of("python") if b.values[0].page == "docs/hooks.md"])
def test_the_examples_of_hooks_contribute_what_their_hook_takes(block: Block) -> None:
    step = random_step(0, (8, 8), 5)
    names: dict[str, Any] = {"tasks": [task.id for task in step.tasks]}
    if "@hookimpl\ndef" in block.text:
        exec(HOOKS + "".join(f"    {line}\n" for line in block.text.splitlines()), names)
        hook = re.findall(r"^def (\w+)", block.text, re.MULTILINE)[0]
        example = names["Plugin"]()
        if hook == "score":
            dialect = plugin("dialect", "funrl")
            assert len(verdicts_of(example, dialect, fixed_tasks()[0], ["a", "b"])) == 2
        elif hook == "step_ended":
            end_step(example, step)
        else:
            assert answers(example, step).keys() == {hook}
    else:
        exec(HOOKS.partition("class")[0] + block.text, names)


# ------------------------------------------------------------------------------------------- recipes, rows, tables


@pytest.mark.parametrize("block", of("yaml"))
def test_a_recipe_has_no_mistake(block: Block, workspace: Path) -> None:
    text = block.text
    node = _Reader().text(text, str(block))
    assert node is not None
    keys = set(node.value or {})
    if keys == {"use"}:
        text = "rewards:\n" + "".join(f"  {line}\n" for line in text.splitlines())
    else:
        assert keys <= {*Recipe.model_fields, "extends"}, "no part of a recipe"
    if "extends" not in keys:
        text += "\nextends: recipe.yaml\n"
    (workspace / "block.yaml").write_text(text, encoding="utf-8")
    mistakes = [mistake for mistake in check(Path("block.yaml")) if not mistake.repair.startswith("run pip install")]
    assert [str(mistake) for mistake in mistakes] == []  # packages of trackers are in an environment of their own


@pytest.mark.parametrize("block", of("json"))
def test_a_row_is_one_that_is_read(block: Block) -> None:
    source, _ = find("source", "jsonl")
    task = source.task(json.loads(block.text), str(block), 1, "row-1")
    assert task.answer is not None


@pytest.mark.parametrize("block", of("toml"))
def test_entry_points_are_in_a_group_that_exists(block: Block) -> None:
    points = tomllib.loads(block.text)["project"]["entry-points"]
    assert points.keys() <= {f"callwright.{kind}s" for kind in KINDS}


# ----------------------------------------------------------------------------------------------------- commands


SERVE = ["python", "-m", "callwright_vllm.serve"]


def reason_not_to_run(words: Sequence[str]) -> str | None:
    """A key of `WHY_NOT_RUN`, or None for a command that is run."""
    if words[:3] == SERVE:
        return "serve"
    if words[0] != "callwright":
        return "bfcl" if "bfcl" in words else words[0]
    if words[1] in WHY_NOT_RUN:
        return words[1]
    if words[1:3] == ["check", "--laws"]:
        return "check --laws"
    return "of a run" if any(re.match(r"(runs|evals)/", word) for word in words) else None


@pytest.mark.parametrize("block", of("sh", "console"))
def test_commands_exist_and_run_where_that_is_cheap(block: Block, workspace: Path) -> None:
    assert block.commands, "no command in it: write text for what is only shown"
    for line in block.commands:
        words = list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), line))  # of the environment
        reason = reason_not_to_run(words)
        if words[0] == "callwright":
            looked_up(words[1:])
        elif words[0] == "accelerate":
            launched(words)
        elif words[:3] == SERVE:
            context = get_command(serve.app).make_context("serve", words[3:])
            load_recipe(context.params["recipe"], [])
        elif words[0] == "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
        elif words[0] == "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            named = re.findall(r"callwright\[([\w,]+)\]", " ".join(words))
            assert {name for one in named for name in one.split(",")} <= extras["optional-dependencies"].keys()
        if reason is None:
            run(words[1:])
        else:
            assert reason in WHY_NOT_RUN, f"{' '.join(words)}: neither run nor listed"


def looked_up(words: Sequence[str]) -> None:
    """The command takes these words, its files are there, and its recipe takes the overrides."""
    context = COMMANDS[words[0]].make_context(words[0], list(words[1:]))
    other = {"out", "json_file", "against"} | ({"recipe"} if context.params.get("laws") else set())
    for name, value in context.params.items():
        if isinstance(value, Path) and name not in other and value.parts[0] not in ("runs", "evals"):
            assert value.exists() or words[0] in ("schema", "new"), f"{' '.join(words)}: there is no {value}"
    if words[0] in ("train", "check", "plan", "data") and context.params.get("laws") is None:
        load_recipe(context.params["recipe"], context.params["overrides"] or [])
    for word in words:
        if "*" in word:
            assert list(Path().glob(word)), word


def launched(words: Sequence[str]) -> None:
    start = words.index("-m")
    assert words[1] == "launch"
    assert Path(words[words.index("--config_file") + 1]).is_file()
    assert words[start + 1] == "callwright"
    looked_up(words[start + 2 :])


def run(words: Sequence[str]) -> None:
    more = ["--once", "--no-laws"] if words[0] == "dev" else []
    result = CliRunner().invoke(app, [*words, *(one for one in more if one not in words)])
    assert result.exit_code == 0, f"{' '.join(words)}: {result.output} {result.exception}"


def test_commands_in_the_text_exist_with_their_options() -> None:
    found = list(mentioned_commands())
    assert len(found) > 20
    for page, command in found:
        _, name, *words = command.split()
        known = COMMANDS.get(name.rstrip(",.;"))
        assert known is not None, f"{page}: `{command}`"
        options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, f"{page}: `{command}`"


def test_links_lead_to_files_of_the_repository() -> None:
    found = list(links())
    assert len(found) > 30
    for page, target in found:
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page}: {target}"
