"""The command line: what each command prints, its exit codes, and what it must not do."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from callwright import Task, __version__, cli
from callwright.api_version import range_of
from callwright.recipe import check
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

unhurried = settings(deadline=None)  # the machine may be busy

PARTS = """
    from dataclasses import dataclass
    from pathlib import Path
    from callwright import Answer, CallwrightError, ExpectedCall, Task, Tool

    @dataclass
    class Sums:
        '''Tasks that want one call each.'''
        categories: list[str] | None = None

        def load(self):
            schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
            for kind in self.categories or ["small", "large"]:
                for a in range(6):
                    message = {"role": "user", "content": f"add {a}"}
                    answer = Answer((ExpectedCall("add", {"a": [a]}),))
                    yield Task(f"{kind}-{a}", (message,), (Tool("add", "Adds.", schema),), answer, {"category": kind})

    @dataclass
    class Toy:
        '''Writes a run's files and trains nothing.'''
        ends: str = "well"

        def train(self, recipe, components, display, resume=False):
            display.started(recipe.train.steps, 0, Path(recipe.run))
            display.note("ready \u2713")
            if self.ends == "interrupted at once":
                raise KeyboardInterrupt
            if self.ends == "in an error":
                raise CallwrightError("the disk is [red]full[/red]\\x1b[2J")
            from callwright.run import RunResult
            from callwright.evaluate import EvalResult

            run = Path(recipe.run)
            (run / "rollouts").mkdir(parents=True, exist_ok=True)
            (run / "recipe.resolved.yaml").write_text(recipe.to_yaml())
            with (run / "metrics.jsonl").open("a") as file:
                file.write(f"resume={resume}\\n")
            before = EvalResult(0.25, 80, {"wrong_value": 59, "correct": 20, "no_call": 1}, {})
            after = EvalResult(0.5, 80, {"correct": 40, "wrong_value": 30, "unparsable": 10}, {})
            stopped = None if self.ends == "well" else self.ends
            return RunResult(run, before, after, 400.0, 118.2, recipe.train.steps, stopped)
"""
RECIPE = """
    model: {name: nobody/nothing}
    dialect: python_calls
    data: {source: {use: ./parts.py:Sums}, held_out: 2, validation: 3}
    rewards: {use: [ast_match]}
    explore: [{use: temperature, schedule: linear, end: 0.5}]
    train: {steps: 7, prompts_per_step: 2, group_size: 4, max_new_tokens: 16}
    engine: ./parts.py:Toy
    run: out
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a recipe in toy.yaml whose source and engine are in parts.py."""
    (tmp_path / "parts.py").write_text(textwrap.dedent(PARTS))
    (tmp_path / "toy.yaml").write_text(textwrap.dedent(RECIPE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def run_main(capsys, monkeypatch, *words):
    """`callwright WORDS` in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["callwright", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code or 0, *capsys.readouterr()


def words_of(text):
    return re.sub(r"[^\x21-\x7e]+", " ", text)


# ------------------------------------------------------------------------------------------------- the command


COMMANDS = {
    "train",
    "data",
    "compare",
    "eval",
    "plugins",
    "check",
    "score",
    "new",
    "plan",
    "dev",
    "schema",
    "report",
    "watch",
    "findings",
}


def test_help_names_every_command_and_its_examples_exist():
    result = invoke("--help")
    assert result.exit_code == 0
    assert {c.name or c.callback.__name__ for c in cli.app.registered_commands} == COMMANDS
    assert all(command in result.stdout for command in COMMANDS)
    examples = re.findall(r"callwright (\w+)", result.stdout.partition("Three commands")[2])
    assert len(examples) == 3
    assert set(examples) <= COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"callwright {command}" in result.stdout or f" {command} " in result.stdout


def test_version():
    assert invoke("--version").stdout == f"callwright {__version__}\n"


PROBE = """
import os, sys
sys.argv = ["callwright", *sys.argv[1:]]
from callwright.cli import main
try:
    main()
finally:
    loaded = [name for name in ("torch", "transformers") if name in sys.modules]
    print(loaded, os.environ["OMP_WAIT_POLICY"], os.environ["TOKENIZERS_PARALLELISM"])
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--help"], 0), (["--version"], 0), (["check", "missing.yaml"], 2), (["train", "missing.yaml"], 2)],
)
def test_torch_is_not_loaded_where_it_is_not_needed(words, code, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM")}
    command = [sys.executable, "-c", PROBE, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == "[] passive false"


def test_what_the_user_has_set_stays(tmp_path):
    environment = os.environ | {"OMP_WAIT_POLICY": "active", "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-c", PROBE, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.splitlines()[-1] == "[] active true"


def test_text_that_the_encoding_lacks_ends_nothing(folder):
    command = [
        str(Path(sys.executable).with_name("callwright")),
        "train",
        "toy.yaml",
        "engine.ends=interrupted at once",
    ]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 130
    assert rb"ready \u2713" in done.stdout


# -------------------------------------------------------------------------------------------------------- errors


def test_an_error_of_the_users_has_no_traceback_and_exit_code_1(folder, capsys, monkeypatch):
    code, out, err = run_main(capsys, monkeypatch, "train", "toy.yaml", "engine.ends=in an error")
    assert code == 1
    assert err == "error: the disk is [red]full[/red]\\x1b[2J\n"
    assert "Traceback" not in out + err


def test_mistakes_of_a_recipe_have_exit_code_2(folder, capsys, monkeypatch):
    code, _, err = run_main(capsys, monkeypatch, "train", "toy.yaml", "train.step=3", "rewards.use.0.mood=bfcl")
    assert code == 2
    assert "unknown key; did you mean 'steps'?" in err
    assert not (folder / "out").exists()


def test_mistakes_of_usage_have_exit_code_2(folder, capsys, monkeypatch):
    code, _, err = run_main(capsys, monkeypatch, "train", "toy.yaml", "--fresh", "--resume")
    assert code == 2
    assert "give one of them" in words_of(err)


@pytest.mark.parametrize("ends", ["interrupted", "interrupted at once"])
def test_an_interrupted_run_has_exit_code_130(folder, capsys, monkeypatch, ends):
    code, out, err = run_main(capsys, monkeypatch, "train", "toy.yaml", f"engine.ends={ends}")
    assert code == 130
    assert "Traceback" not in out + err


def test_ctrl_c_ends_a_real_process_with_130(folder):
    (folder / "parts.py").write_text((folder / "parts.py").read_text() + "\nprint('ready', flush=True)\ninput()\n")
    command = [str(Path(sys.executable).with_name("callwright")), "train", "toy.yaml"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 130


# --------------------------------------------------------------------------------------------------------- train


def test_train_ends_with_what_changed(folder):
    result = invoke("train", "toy.yaml", "train.steps=5")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows.index(["held-out", "rows", "before", "after"]) < rows.index(["accuracy", "25.0%", "50.0%"])
    reasons = [row for row in rows if len(row) == 3 and row[1].isdigit()]
    assert reasons == [
        ["wrong_value", "59", "30"],
        ["correct", "20", "40"],
        ["unparsable", "0", "10"],
        ["no_call", "1", "0"],
        ["rows", "80", "80"],
    ]
    assert result.stdout.endswith("5 steps, 6:40 of training, 118 tokens/s\nrun folder: out\nreport: out/report.html\n")


def test_a_run_that_stopped_early_says_why(folder):
    result = invoke("train", "toy.yaml", "engine.ends=entropy below 0.01 nats")
    assert result.exit_code == 0
    assert "stopped early: entropy below 0.01 nats\n" in result.stdout


def test_a_run_is_never_written_over(folder, capsys, monkeypatch):
    assert invoke("train", "toy.yaml").exit_code == 0
    (folder / "out" / "notes.txt").write_text("mine")
    code, _, err = run_main(capsys, monkeypatch, "train", "toy.yaml")
    assert (code, err) == (
        1,
        "error: out already holds a run: --resume goes on with it, --fresh deletes it and starts over\n",
    )
    metrics = folder / "out" / "metrics.jsonl"
    assert invoke("train", "toy.yaml", "--resume").exit_code == 0
    assert metrics.read_text() == "resume=False\nresume=True\n"
    (folder / "out" / "rollouts" / "step-000001.parquet").write_bytes(b"old")
    assert invoke("train", "toy.yaml", "--fresh").exit_code == 0
    assert metrics.read_text() == "resume=False\n"
    assert not list((folder / "out" / "rollouts").iterdir())
    assert (folder / "out" / "notes.txt").read_text() == "mine"


def test_fresh_does_not_follow_links_out_of_the_run_folder(folder):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "kept").write_text("mine")
    (folder / "out").mkdir()
    (folder / "out" / "checkpoints").symlink_to(folder / "elsewhere")
    assert invoke("train", "toy.yaml", "--fresh").exit_code == 0
    assert (folder / "elsewhere" / "kept").read_text() == "mine"
    assert not (folder / "out" / "checkpoints").exists()


def test_a_recipe_with_mistakes_deletes_no_run(folder):
    assert invoke("train", "toy.yaml").exit_code == 0
    assert invoke("train", "toy.yaml", "--fresh", "explore.0.end=-1").exit_code == 1
    assert (folder / "out" / "metrics.jsonl").exists()


# ------------------------------------------------------------------------------------------------------- plugins


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A second distribution with one plugin that works and one whose module does not load."""
    metadata = tmp_path / "strange_rewards-0.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-rewards\nVersion: 0.3\n")
    points = "[callwright.rewards]\nbroken = strange_broken:Missing\ngood = strange_good:Good\n"
    (metadata / "entry_points.txt").write_text(points)
    (tmp_path / "strange_broken.py").write_text("raise RuntimeError('no licence [bold]file[/bold]\\x1b[2J')")
    (tmp_path / "strange_good.py").write_text("class Good:\n    '''[red]Good[/red]\\x1b[2J.'''\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_plugins_as_json_are_those_of_the_catalogue_broken_ones_included(stranger):
    result = invoke("plugins", "--json")
    assert result.exit_code == 0
    rows = {(row["kind"], row["name"]): row for row in json.loads(result.stdout)}
    keys = {"kind", "name", "distribution", "version", "written_for", "description", "error"}
    assert all(set(row) == keys for row in rows.values())
    ours = rows["reward", "ast_match"]
    assert (ours["distribution"], ours["version"], ours["error"]) == ("callwright", __version__, None)
    assert ours["description"]
    assert ours["written_for"] == range_of(__version__)
    assert rows["reward", "good"]["written_for"] is None
    good, broken = rows["reward", "good"], rows["reward", "broken"]
    assert (good["distribution"], good["version"], good["error"]) == ("strange-rewards", "0.3", None)
    assert broken["description"] is None
    assert "no licence" in broken["error"]


def test_the_table_marks_a_broken_plugin_and_says_why_below(stranger):
    result = invoke("plugins")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["reward", "good", "strange-rewards", "0.3", "[red]Good[/red]\\x1b[2J."] in lines
    assert ["reward", "broken", "strange-rewards", "0.3", "broken,", "see", "below"] in lines
    assert f"was written for: strange-rewards; 'callwright{range_of(__version__)}' among its" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert last.startswith("reward broken of strange-rewards 0.3 is broken: ")
    assert last.endswith(r"no licence [bold]file[/bold]\x1b[2J")


def test_plugins_of_one_kind():
    rows = json.loads(invoke("plugins", "--json", "--kind", "explorer").stdout)
    assert {row["kind"] for row in rows} == {"explorer"}
    assert {"temperature", "entropy_advantage"} <= {row["name"] for row in rows}
    wrong = invoke("plugins", "--kind", "rewardz")
    assert wrong.exit_code == 2
    assert "'rewardz' is none of reward, explorer" in words_of(wrong.stderr)


# --------------------------------------------------------------------------------------------------------- check


def test_check_says_what_a_good_recipe_does_and_writes_nothing(folder):
    before = sorted(folder.rglob("*.*"))
    result = invoke("check", "toy.yaml", "train.group_size=6")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "model       nobody/nothing",
        "data        ./parts.py:Sums: 7 rows to train on, 3 for validation, 2 held out",
        "dialect     python_calls",
        "rewards     ast_match",
        "explorers   temperature",
        "training    7 steps x 2 prompts x 6 completions of at most 16 tokens",
        "run folder  out",
    ]
    assert sorted(p for p in folder.rglob("*.*") if "__pycache__" not in str(p)) == before


def test_check_prints_every_mistake_on_a_line(folder):
    overrides = ["train.step=3", "explore.0.schedule=stair", "rewards.use.0.use=ast_macth"]
    result = invoke("check", "toy.yaml", *overrides)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [str(m) for m in check(Path("toy.yaml"), overrides)]
    assert len(result.stdout.splitlines()) == 3
    assert "did you mean 'ast_match'?" in result.stdout


# ---------------------------------------------------------------------------------------------------------- eval


@unhurried
@given(st.lists(st.sampled_from(["a", "b", None])), st.none() | st.integers(1, 4))
def test_rows_limits_each_category_and_keeps_the_order(categories, rows):
    tasks = [Task(str(i), (), meta={} if c is None else {"category": c}) for i, c in enumerate(categories)]
    chosen = cli._first_rows(tasks, rows)
    for category in (*categories, "other"):
        members = [t for t in tasks if t.meta.get("category") == category]
        assert [t for t in chosen if t.meta.get("category") == category] == members[:rows]
    assert [int(t.id) for t in chosen] == sorted(int(t.id) for t in chosen)


def test_eval_by_a_recipe_breaks_down_by_category_and_reason(folder, tiny_model_folder):
    model = tiny_model_folder()
    words = ("--recipe", "toy.yaml", "--rows", 3, "--device", "cpu", "--json", "result.json")
    result = invoke("eval", model, *words)
    assert result.exit_code == 0, result.output
    written = json.loads((folder / "result.json").read_text())
    assert (written["model"], written["rows"]) == (str(model), 6)
    assert sum(written["reasons"].values()) == 6
    rows = [line.split() for line in result.stdout.splitlines()]
    for name in ("large", "small"):
        assert [name, "3", f"{written['by_category'][name][1]:.1%}"] in rows
    assert ["all", "6", f"{written['accuracy']:.1%}"] in rows
    for code, count in written["reasons"].items():
        assert [code, str(count)] in rows


def test_eval_of_the_held_out_rows_and_of_a_category(folder, tiny_model_folder):
    model = tiny_model_folder()
    words = ("eval", model, "--recipe", "toy.yaml", "--device", "cpu", "--json", "result.json")
    assert invoke(*words, "--held-out").exit_code == 0
    assert json.loads((folder / "result.json").read_text())["rows"] == 2
    assert invoke(*words, "--category", "small").exit_code == 0
    assert set(json.loads((folder / "result.json").read_text())["by_category"]) == {"small"}
    assert invoke(*words, "--held-out", "--category", "small").exit_code == 2


def test_eval_of_a_run_folder_uses_the_runs_own_recipe(folder, tiny_model_folder):
    assert invoke("train", "toy.yaml").exit_code == 0
    settings = cli._evaluation_recipe("out", None, {"evaluate.batch_size": 3})
    assert settings.data.source.use == "./parts.py:Sums"
    assert (settings.model.name, settings.evaluate.batch_size) == ("out", 3)
    # A recipe that is named wins.
    (folder / "other.yaml").write_text((folder / "toy.yaml").read_text().replace("held_out: 2", "held_out: 1"))
    assert cli._evaluation_recipe("out", Path("other.yaml"), {}).data.held_out == 1


def test_eval_without_a_recipe_takes_bfcl(folder, tiny_model_folder):
    model = tiny_model_folder(max_position_embeddings=8192)
    words = ("--category", "multiple", "--category", "irrelevance", "--rows", 1, "--max-new-tokens", 3)
    result = invoke("eval", model, *words, "--device", "cpu", "--json", "result.json")
    assert result.exit_code == 0, result.output
    assert set(json.loads((folder / "result.json").read_text())["by_category"]) == {"irrelevance", "multiple"}


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--held-out"], "the recipe holds no rows out", 1),
        (["--category", "simple_pythn"], "did you mean 'simple_python'?", 2),
        (["--device", "abacus"], "model.device", 2),
        (["--recipe", "missing.yaml"], "cannot read missing.yaml", 2),
        (["--rows", "0"], "--rows", 2),
    ],
)
def test_mistakes_of_eval(folder, capsys, monkeypatch, words, message, code):
    got, _, err = run_main(capsys, monkeypatch, "eval", "nobody/nothing", *words)
    assert got == code
    assert message in words_of(err)


def test_a_result_that_cannot_be_written_is_still_shown(folder, tiny_model_folder, capsys, monkeypatch):
    words = ("--recipe", "toy.yaml", "--rows", "1", "--device", "cpu", "--json", "no/such/folder/result.json")
    code, out, err = run_main(capsys, monkeypatch, "eval", str(tiny_model_folder()), *words)
    assert code == 1
    assert "all" in out
    assert err.endswith("error: --json: cannot write no/such/folder/result.json: No such file or directory\n")


# ------------------------------------------------------------------------------------------------ real terminals


def test_the_live_view_gives_the_terminal_back_even_after_ctrl_c(folder):
    master, slave = pty.openpty()
    command = [
        str(Path(sys.executable).with_name("callwright")),
        "train",
        "toy.yaml",
        "engine.ends=interrupted at once",
    ]
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(slave)
        screen = b"".join(iter(lambda: read_terminal(master), b""))
    os.close(master)
    assert process.returncode == 130
    assert b"0/7" in screen
    assert b"\x1b[?25l" in screen  # the live view hid the cursor
    assert screen.rindex(b"\x1b[?25h") > screen.rindex(b"\x1b[?25l")  # and gave it back


def read_terminal(master):
    try:
        return os.read(master, 65536)
    except OSError:  # the program has closed its end
        return b""
