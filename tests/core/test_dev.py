"""`callwright dev`: what it shows of a reward, and that nothing in the reward's file stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from callwright import CallwrightError, RowError
from callwright.cli import app
from callwright.dev.cases import GIVEN, RIGHT, SAME, read_tasks, rows_of_tasks
from callwright.dev.traces import reward_class, user_part
from callwright.dev.watch import Watch
from callwright.testing import plugin, scores_of, tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a"]}
TOOLS = [{"name": "add", "description": "Adds.", "parameters": NUMBERS}]
ROWS: list[dict[str, Any]] = [
    {
        "id": "sum",
        "question": "Add 1 and 2.",
        "tools": TOOLS,
        "calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}],
    },
    {"id": "none", "question": "Hello!", "tools": TOOLS, "calls": [], "completion": "I am sorry."},
]
REWARD = """
from dataclasses import dataclass
from callwright import Reason, Verdict, hookimpl

@dataclass
class Calls:
    '''1 if there are as many calls as wanted.'''
    more: int = 0

    @hookimpl
    def score(self, rollouts):
        return [self.judge(task, parse) for task, parse in zip(rollouts.tasks, rollouts.parses)]

    def judge(self, task, parse):
        wanted = len(task.answer.calls) + self.more
        if len(parse.calls) == wanted:
            return Verdict(1.0)
        return Verdict(0.0, (Reason("count", f"{len(parse.calls)} for {wanted}", (0, 2)),))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("reward.py").write_text(REWARD)
    return tmp_path


def dev(*words: str, laws: bool = False) -> tuple[int, str]:
    more = [] if laws else ["--no-laws"]
    result = CliRunner().invoke(app, ["dev", *words, "--tasks", "tasks.jsonl", "--once", *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


# ------------------------------------------------------------------------------------------------ what is shown


def test_scores_reasons_and_what_is_strange(folder: Path) -> None:
    code, text = dev("reward.py", "--dialect", "python_calls")
    assert code == 0
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "right", "[add(a=1,", "b=2)]"] in lines
    assert ["0", "no_call", "count", "[0:2]", "0", "for", "1", "[]"] in lines
    assert any(line[:2] == ["1", "wrong_type"] and "as much as the right one" in " ".join(line) for line in lines)
    assert ["1", "given", "I", "am", "sorry."] in lines
    assert "2 tasks, " in text
    assert "wrong_type as much as the right one: 1 of 1" in text


def test_options_and_a_class_are_taken_from_the_command_line(folder: Path) -> None:
    Path("reward.py").write_text(REWARD + "\nclass Other(Calls):\n    pass\n")
    code, text = dev("reward.py:Other", "more=1", "--dialect", "python_calls")
    assert code == 0
    assert "1 for 2" in text
    assert "1 for 1" not in text
    assert "add_call more than the right one: 1 of 1" in text
    code, text = dev("reward.py")
    assert (code, "reward.py:Calls or reward.py:Other" in text) == (1, True)
    code, text = dev("reward.py:Calls", "mroe=1")
    assert (code, "did you mean 'more'?" in text) == (1, True)


def test_completions_are_joined_with_the_tasks_and_shown_as_score_shows_them(folder: Path) -> None:
    rows = [{"id": "sum", "completion": "[add(a=1)]"}, {"id": "none", "completion": "[add(a=1)]"}]
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, text = dev("reward.py", "--completions", "c.jsonl", "--show", "0", "--dialect", "python_calls")
    assert code == 0
    (line,) = [
        line.split() for line in text.splitlines() if line.startswith(" combined") or line.startswith("combined")
    ]
    assert line[:7] == ["combined", "2", "0", "0", "0.500", "0", "1"]
    Path("c.jsonl").write_text('{"id": "smu", "completion": ""}\n')
    code, text = dev("reward.py", "--completions", "c.jsonl")
    assert (code, "did you mean 'sum'?" in text) == (1, True)


@pytest.mark.slow
def test_the_laws_come_behind(folder: Path) -> None:
    code, text = dev("reward.py", "--show", "0", laws=True)
    assert code == 1
    assert "broken  near_misses_score_less: a near miss (" in text
    assert "callwright check --laws reward.py:Calls" in text
    assert " held, " in text
    assert text.index("2 tasks, ") < text.index("broken")


# ---------------------------------------------------------------------------------------------- nothing stops it

RAISES = "\n        raise ValueError('what ' + 'happened')"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(\n", ["reward.py", "SyntaxError: '(' was never closed"]),
        ("x = '\0'\n", ["null byte"]),
        ("import nothing_like_it\n" + REWARD, ["line 1, in <module>", "No module named 'nothing_like_it'"]),
        (REWARD.replace("def judge(self, task, parse):", "def judge(self, task, parse):" + RAISES), ["what happened"]),
        (REWARD.replace("return [self", "import os; os._exit(3)\n        return [self"), ["ended with exit code 3"]),
        (REWARD.replace("return [self.judge", "return [1 or self.judge"), ["is no Verdict but 1"]),
        (REWARD.replace("return [self", "raise SystemExit\n        return [self"), ["SystemExit"]),
        ("raise KeyboardInterrupt\n" + REWARD, ["KeyboardInterrupt"]),
        ("class Nothing:\n    pass\n", ["no class with a `score` hook"]),
        (REWARD.replace("rollouts.tasks", "rollouts.lengths"), ["lengths"]),
    ],
    ids=range(10),
)
def test_a_reward_that_fails_is_shown_with_the_users_part_of_the_trace(
    folder: Path, source: str, said: list[str]
) -> None:
    Path("reward.py").write_text(source)
    code, text = dev("reward.py", "--show", "1", "--rows", "1")
    assert code == 1
    for words in said:
        assert words in text
    if "raise ValueError" in source:
        assert text.index("in score") < text.index("in judge") < text.index("\nValueError: what happened")
    assert "site-packages" not in text
    assert "isolated.py" not in text


def test_a_reward_that_hangs_is_given_up_and_its_place_shown(folder: Path) -> None:
    Path("reward.py").write_text(REWARD.replace("wanted = len", "while True: pass\n        wanted = len"))
    started = time.monotonic()
    code, text = dev("reward.py", "--timeout", "1")
    assert time.monotonic() - started < 30
    assert code == 1
    assert "no verdicts on task 'sum' within 1 s" in text
    assert "in judge" in text
    assert "threading.py" not in text


@pytest.mark.slow
def test_a_reward_that_hangs_in_a_law_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callwright.dev.judge.SECONDS_FOR_A_LAW", 12.0)
    hanging = REWARD.replace("wanted = len", "\n        while '[[[[' in parse.text: pass\n        wanted = len")
    Path("reward.py").write_text(hanging)
    code, text = dev("reward.py", "--show", "0", laws=True)
    assert code == 1
    assert "laws: the next law gave no result within 12 s" in text
    assert "in judge" in text


def test_a_save_is_noticed_however_it_is_made_and_whatever_was_wrong(folder: Path) -> None:
    """The real command: a mistake, its repair put in place of the file, then Ctrl-C."""
    Path("reward.py").write_text("def f(\n")
    command = [sys.executable, "-m", "callwright", "dev", "reward.py", "--tasks", "tasks.jsonl", "--no-laws"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None

        def until(words: str) -> str:
            seen = ""
            for line in process.stdout or ():
                seen += line
                if words in line:
                    return seen
            pytest.fail(f"{words!r} did not come: {seen}")

        try:
            assert "never closed" in until("waiting for the next save")
            for source, said in ((REWARD, "2 tasks, "), (REWARD.replace("int = 0", "int = 1"), "judged otherwise")):
                Path("new.py").write_text(source)
                os.replace("new.py", "reward.py")
                until(said)
                seen = until("waiting for the next save")
            assert "0 judged otherwise" not in seen
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()


def test_what_cannot_be_is_said_at_once(folder: Path) -> None:
    for words, said in (
        (("nowhere.py",), "there is no file nowhere.py"),
        (("reward.py", "--dialect", "herms"), "did you mean 'hermes'?"),
        (("reward.py", "--completions", "nowhere.jsonl"), "--completions: there is no file nowhere.jsonl"),
        (("reward.py", "more"), "write KEY=VALUE"),
    ):
        with pytest.raises(CallwrightError, match=said.replace("?", r"\?")):
            dev(*words)


def test_without_hypothesis_the_message_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CallwrightError, match=r"pip install 'callwright\[testing\]'"):
        dev("reward.py")


# ----------------------------------------------------------------------------------------------------- its parts


@settings(max_examples=15)
@given(tasks(), st.sampled_from(["python_calls", "funrl", "hermes"]), st.integers(0, 9))
def test_of_a_task_the_right_reply_comes_and_near_misses_that_are_wrong(task: Any, name: str, misses: int) -> None:
    dialect = plugin("dialect", name)
    rows, kinds, notes = rows_of_tasks([(task, None), (task, "Hm.")], dialect, misses)
    assert notes == []
    named = [kinds[row.number] for row in rows]
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert {row.group for row in rows} == {task.id}
    scores = scores_of(plugin("reward", "ast_match"), dialect, task, [row.completion for row in rows])
    near = [(kind, score) for kind, score in zip(named, scores, strict=True) if kind not in (RIGHT, SAME, GIVEN)]
    assert named.count(GIVEN) == named.count(RIGHT) == 1
    assert len(near) <= misses
    assert len({kind for kind, _ in near}) == len(near)
    assert [score for _, score in near] == [0.0] * len(near)
    assert all(score == 1.0 for kind, score in zip(named, scores, strict=True) if kind in (RIGHT, SAME))


def test_a_near_miss_that_the_answer_accepts_is_none(folder: Path) -> None:
    answer = [{"name": "add", "arguments": {"a": [1], "b": [2, ""]}}]
    Path("tasks.jsonl").write_text(json.dumps({"question": "Add 1 and 2.", "tools": TOOLS, "answer": answer}))
    ((task, completion),) = read_tasks(Path("tasks.jsonl"))
    assert (task.id, completion) == ("tasks-1", None)
    rows, kinds, _ = rows_of_tasks([(task, None)], plugin("dialect", "python_calls"), 50)
    (text,) = [row.completion for row in rows if kinds[row.number] == "drop_argument"]
    assert text == "[add(b=2)]"


def test_tasks_are_read_from_every_form_of_the_source_and_mistakes_have_a_place(folder: Path) -> None:
    Path("tasks.json").write_text(json.dumps([{k: v for k, v in row.items() if k != "completion"} for row in ROWS]))
    assert [task for task, _ in read_tasks(Path("tasks.json"))] == [task for task, _ in read_tasks(Path("tasks.jsonl"))]
    assert [completion for _, completion in read_tasks(Path("tasks.jsonl"))] == [None, "I am sorry."]
    for row, said in (
        ("{", "tasks.jsonl.*row 1.*not JSON"),
        ('{"qestion": "x"}', "qestion.*did you mean 'question'"),
        ('{"question": "x", "tools": [], "completion": 3}', "completion.*should be a text"),
        ('{"question": "x", "tools": [], "calls": [{"name": "f"}]}', "not among the row's tools"),
    ):
        Path("tasks.jsonl").write_text(row + "\n")
        with pytest.raises(RowError, match=said):
            read_tasks(Path("tasks.jsonl"))
    Path("tasks.jsonl").write_text("\n")
    with pytest.raises(CallwrightError, match="holds no task"):
        read_tasks(Path("tasks.jsonl"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("class A:\n    @hookimpl\n    def score(self): ...\nclass B:\n    def score(self): ...\n", "A"),
        ("class A:\n    @callwright.hookimpl(specname='score')\n    async def judge(self): ...\n", "A"),
        ("class _A:\n    @hookimpl\n    def score(self): ...\nclass B(_A):\n    pass\n", "B"),
        ("class A:\n    @hookimpl(specname='sampling')\n    def score(self): ...\n", None),
        ("class A:\n    @hookimpl\n    def score(self): ...\nclass B(A): pass\n", None),
    ],
)
def test_the_class_is_found_without_running_the_file(tmp_path: Path, source: str, name: str | None) -> None:
    file = tmp_path / "r.py"
    file.write_text("raise SystemExit\n" + source)
    if name is not None:
        assert reward_class(file) == name
    else:
        with pytest.raises(CallwrightError, match="with a `score` hook"):
            reward_class(file)


def test_the_users_part_of_a_chain_keeps_what_was_raised_while_handling(tmp_path: Path) -> None:
    file = tmp_path / "r.py"
    trace = textwrap.dedent(f"""\
        Traceback (most recent call last):
          File "elsewhere.py", line 1, in ask
            answer()
          File "{file}", line 3, in f
            1 / 0
        ZeroDivisionError: division by zero

        During handling of the above exception, another exception occurred:

        Traceback (most recent call last):
          File "elsewhere.py", line 1, in ask
            answer()
          File "{file}", line 5, in f
            json.loads("")
          File "json.py", line 9, in loads
            fail()
        ValueError: no JSON
        """)
    part = user_part(trace, file)
    assert "elsewhere.py" not in part
    assert part.splitlines()[0] == f'  File "{file}", line 3, in f'
    assert part.splitlines()[-1] == "ValueError: no JSON"
    assert "json.py" in part
    assert user_part(trace, tmp_path / "other.py") == ""


def test_a_watch_sees_every_way_to_save_and_waits_for_a_file_that_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "r.py"
    file.write_text("1")
    old = file.stat()
    watch = Watch([file])
    assert not watch.changed()

    def in_place() -> None:
        file.write_text("22")

    def replaced_by_the_same_size_and_time() -> None:
        other = tmp_path / "other"
        other.write_text("33")
        os.utime(other, ns=(old.st_atime_ns, old.st_mtime_ns))
        os.replace(other, file)

    def touched() -> None:
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns + 5))

    for save in (in_place, replaced_by_the_same_size_and_time, touched):
        save()
        assert watch.changed(), save.__name__
        watch.wait()
        watch.take()
        assert not watch.changed()
    file.rename(tmp_path / "away")
    assert not watch.changed()
    (tmp_path / "away").rename(file)
    assert not watch.changed()
    file.unlink()
    watch.take()
    assert not watch.changed()
    file.write_text("4")
    assert watch.changed()
