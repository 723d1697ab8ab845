"""A model behind an endpoint answers an evaluation: against a server on loopback."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import callwright
import pytest
from callwright import Answer, CallwrightError, ExpectedCall, Task, Tool
from callwright.answering import LocalAnswerer, Reply
from callwright.endpoint import FAILURES, EndpointAnswerer
from callwright.engine import LocalSampler
from callwright.recipe import load_recipe
from callwright_data.sources.bfcl import Bfcl
from callwright_dialects.funrl import FunRL
from callwright_dialects.hermes import Hermes
from callwright_dialects.python_calls import PythonCalls
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_server import Response, completion, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "rewards"))
from bfcl_replies import gold, text_of

TOOL = Tool("f", "Does f.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})


def tasks(count):
    answer = Answer((ExpectedCall("f", {"a": [1]}),))
    return [Task(f"t{n}", ({"role": "user", "content": f"row {n}"},), (TOOL,), answer) for n in range(count)]


def answerer(server, dialect=None, **options):
    url = server if isinstance(server, str) else server.url
    given = {"max_new_tokens": 40, "concurrency": 3, "retries": 2, "retry_wait": 0.01, **options}
    return EndpointAnswerer(url, "m", dialect or PythonCalls(), **given)


def number_of(row):
    return int(row.rpartition(" ")[2])


@settings(max_examples=15)
@given(st.integers(0, 12), st.integers(1, 5), st.sets(st.integers(0, 40), max_size=8))
def test_every_task_gets_its_own_reply_whatever_fails_in_between(count, concurrency, failing):
    def script(row, body, number):
        return Response(503) if number in failing else f"reply {number_of(row)}"

    with serving(script) as server:
        found = list(answerer(server, concurrency=concurrency, retries=8).replies(tasks(count)))
    assert sorted((task.id, reply.text) for task, reply in found) == sorted(
        (f"t{n}", f"reply {n}") for n in range(count)
    )
    assert all(reply.tokens == (100, 20) and not reply.cut_off for _, reply in found)
    assert server.most_at_once <= concurrency


def test_what_is_sent():
    with serving(lambda row, body, number: Response(body=completion("x", finish="length"))) as server:
        ((_, reply),) = answerer(server).replies(tasks(1))
        assert reply == Reply("x", cut_off=True)
        list(answerer(server, Hermes()).replies(tasks(1)))
        list(answerer(server, FunRL()).replies(tasks(1)))
    plain, hermes, funrl = server.bodies
    assert plain == {
        "model": "m",
        "messages": PythonCalls().prompt(tasks(1)[0]).messages,
        "temperature": 0.0,
        "max_tokens": 40,
    }
    assert hermes["tools"] == Hermes().prompt(tasks(1)[0]).tools
    assert hermes["tool_choice"] == "none"
    assert funrl["stop"] == list(FunRL().stop)
    assert funrl["include_stop_str_in_output"] is True


def test_a_refused_task_is_without_reply_and_the_others_are_answered():
    def script(row, body, number):
        return Response(400, '{"error": {"message": "too long"}}') if number_of(row) % 3 == 0 else "[]"

    with serving(script) as server:
        found = {task.id: reply for task, reply in answerer(server, concurrency=1).replies(tasks(7))}
    assert [name for name, reply in found.items() if reply.unanswered] == ["t0", "t3", "t6"]
    assert "too long" in found["t0"].unanswered
    assert len(found) == 7


@pytest.mark.parametrize("count", [1, FAILURES + 2])
def test_refusing_everything_is_the_commands_fault_and_no_reply(count):
    with serving(lambda row, body, number: Response(400, '{"error": {"message": "no such parameter"}}')) as server:
        found, error = collected(answerer(server, concurrency=1), tasks(count))
    assert found == []
    assert error.startswith(f"m at {server.url}: the endpoint refuses the request: ")
    assert "no such parameter" in error
    assert server.requests == min(count, FAILURES)


def collected(asked, rows):
    """What came, and the error at the end."""
    found = []
    with pytest.raises(CallwrightError) as raised:  # noqa: PT012 - the error may come at any reply
        for pair in asked.replies(rows):
            found.append(pair)  # noqa: PERF402 - a list made at once would be lost with the error
    return found, str(raised.value)


def test_a_task_that_fails_now_is_left_for_another_time():
    def script(row, body, number):
        return Response(500) if number_of(row) == 1 else "[]"

    with serving(script) as server:
        found, error = collected(answerer(server), tasks(6))
    assert sorted(task.id for task, _ in found) == ["t0", "t2", "t3", "t4", "t5"]
    assert "no reply to 't1' and 0 more: the endpoint failed 3 times" in error


def test_an_endpoint_that_fails_all_is_not_asked_for_ever():
    with (
        serving(lambda row, body, number: Response(500)) as server,
        pytest.raises(CallwrightError, match="failed 3 times"),
    ):
        list(answerer(server, concurrency=1).replies(tasks(50)))
    assert server.requests == 3 * FAILURES


def test_an_endpoint_that_is_not_there():
    _, error = collected(answerer("http://127.0.0.1:9/v1", retries=0), tasks(2))
    assert "cannot be reached" in error
    assert "start the server, or mend --endpoint" in error


def test_a_wrong_name():
    with serving(lambda row, body, number: Response(404, "model m not found")) as server:
        _, error = collected(answerer(server), tasks(2))
    assert "MODEL should be a name that the endpoint lists under /models" in error


def test_who_stops_reading_stops_asking():
    with serving(lambda row, body, number: "[]") as server:
        replies = answerer(server, concurrency=2).replies(tasks(100))
        next(replies)
        replies.close()
    assert server.requests < 10


def test_eval_through_an_endpoint(tmp_path, monkeypatch):
    """Without a suite: the recipe's rows, dialect and rewards."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key-123456789")
    rows = {row.messages[-1]["content"]: row for row in Bfcl(["multiple"]).load()}

    def wrong(question):
        return len(question) % 2 == 0

    def script(row, body, number):
        question = max((text for text in rows if row.endswith(text)), key=len)
        return "I cannot." if wrong(question) else text_of(gold(rows[question].meta["possible_answer"]))

    with serving(script) as server:
        words = [
            "eval",
            "served",
            "--endpoint",
            server.url,
            "--category",
            "multiple",
            "--rows",
            "9",
            "--json",
            "r.json",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "callwright", *words], capture_output=True, text=True, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["model"], result["rows"], server.requests) == ("served", 9, 9)
    questions = {row.id: question for question, row in rows.items()}
    assert result["rows_correct"] == {name: not wrong(questions[name]) for name in result["rows_correct"]}
    assert 0 < result["accuracy"] < 1
    assert set(server.keys) == {"Bearer sk-key-123456789"}
    assert "sk-key" not in done.stdout + done.stderr + (tmp_path / "r.json").read_text()


@pytest.mark.slow
def test_a_real_server_says_what_this_machine_says(tmp_path, smol):
    """`transformers serve` with SmolLM2: its own HTTP, its own chat template, its own greedy decoding."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "model"
    smol.model.save_pretrained(folder)
    smol.tokenizer.save_pretrained(folder)
    command = [Path(sys.executable).with_name("transformers"), "serve", str(folder)]
    with (tmp_path / "log").open("wb") as log:
        words = [*command, "--port", str(port), "--device", "cpu", "--dtype", "float32"]
        process = subprocess.Popen(words, stdout=log, stderr=log)
    rows = list(Bfcl(["simple_python"], limit=4).load())
    served = EndpointAnswerer(
        f"http://127.0.0.1:{port}/v1", str(folder), PythonCalls(), 24, concurrency=2, retries=8, retry_wait=2
    )
    try:
        theirs = {task.id: reply for task, reply in served.replies(rows)}
    finally:
        process.terminate()
        process.wait(30)
    recipe = load_recipe(
        Path(callwright.__file__).with_name("evaluate.yaml"), [f'model.name="{folder}"', 'model.device="cpu"']
    )
    local = LocalAnswerer(recipe, LocalSampler(), PythonCalls(), 24, print, print)
    ours = {task.id: reply for task, reply in local.replies(rows)}
    assert {name: reply.text for name, reply in theirs.items()} == {name: reply.text for name, reply in ours.items()}
    assert {name: reply.cut_off for name, reply in theirs.items()} == {n: reply.cut_off for n, reply in ours.items()}


@pytest.mark.parametrize("option", ["--out", "--name", "--against"])
def test_options_of_a_suite_need_one(option):
    words = ["eval", "m", "--endpoint", "http://127.0.0.1:9/v1", option, "x"]
    done = subprocess.run([sys.executable, "-m", "callwright", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{option} need" in done.stderr
