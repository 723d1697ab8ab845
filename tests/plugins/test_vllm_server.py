"""What `vllm_server` says when there is no server, or another; tests/vllm has a real one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from callwright import CallwrightError
from callwright.plugins import ComponentError, build_component
from callwright.recipe import RecipeError, build, load_recipe
from callwright.sampling import GenerationRequest, SamplingPlan
from callwright_vllm.serve import app, command_line
from callwright_vllm.server import VllmServerSampler
from callwright_vllm.weights import checkpoint_weights, write_weights
from callwright_vllm.worker import COMPARED, WeightsFromFiles
from safetensors import SafetensorError
from safetensors.torch import load_file
from typer.testing import CliRunner

RECIPE = (
    "model: {name: nowhere}\ndialect: python_calls\ndata: {source: {use: jsonl, path: rows.jsonl}}\n"
    "rewards: {use: [ast_match]}\nrollouts: vllm_server\n"
)


@contextmanager
def server_that_answers(answers: dict[str, object]) -> Iterator[str]:
    """By path: what it answers as JSON, or an HTTP status."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = answers.get(self.path, 404)
            body = b"" if isinstance(answer, int) else json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = respond

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def started(url, policy, **options):
    sampler = VllmServerSampler(url, **options)
    try:
        sampler.start(policy, None, None)
        sampler.synchronise()
    finally:
        sampler.close()


@pytest.fixture
def policy(tiny_model):
    from callwright.packing import Policy

    return Policy(tiny_model())


@pytest.fixture
def models(policy):
    """A server's answers that are right so far."""
    config = policy.causal_lm.config.to_dict()
    served = {"dtype": "float32", **{name: config.get(name) for name in COMPARED}}
    return {
        "/v1/models": {"data": [{"id": "model", "max_model_len": 64}]},
        "/collective_rpc": {"results": [served]},
        "/reset_prefix_cache": {"success": True},
    }


def test_a_server_that_is_not_there(policy):
    with pytest.raises(
        CallwrightError, match=r"cannot be reached: .*; start it .*callwright_vllm\.serve.*rollouts\.url"
    ):
        started("http://127.0.0.1:9", policy)


def test_a_server_of_another_kind(policy, models):
    with server_that_answers({}) as url, pytest.raises(CallwrightError, match=r"models with 404.*no server of vLLM"):
        started(url, policy)
    del models["/collective_rpc"]  # vLLM, started by hand
    with (
        server_that_answers(models) as url,
        pytest.raises(CallwrightError, match=r"_rpc with 404.*start it"),
    ):
        started(url, policy)


def test_a_server_that_wants_a_key(policy, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with (
        server_that_answers({"/v1/models": 401}) as url,
        pytest.raises(CallwrightError, match="put its key into the environment variable VLLM_API_KEY"),
    ):
        started(url, policy)


def test_a_server_at_work_for_another_run(policy, models, tmp_path):
    models["/reset_prefix_cache"] = {"success": False}
    with server_that_answers(models) as url, pytest.raises(CallwrightError, match="give every run a server of its own"):
        started(url, policy, folder=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_server_that_fails_while_it_draws(policy, models, tmp_path):
    models["/v1/completions"] = 500
    request = GenerationRequest([[5, 6], [7]], torch.tensor([0, 0, 1]), SamplingPlan(torch.ones(3)), 4, [2])
    with server_that_answers(models) as url:
        sampler = VllmServerSampler(url)
        sampler.start(policy, None, None)
        with pytest.raises(CallwrightError, match=r"completions with 500.*look at its log"):
            sampler.generate(request)
        sampler.close()


def test_weights_that_do_not_arrive(policy, models, tmp_path, monkeypatch):
    with (
        server_that_answers(models) as url,
        pytest.raises(CallwrightError, match=r"weights cannot be written.*rollouts\.folder=PATH"),
    ):
        started(url, policy, folder=str(tmp_path / "missing"))
    full = SafetensorError("I/O error: No space left on device (os error 28)")
    monkeypatch.setattr("callwright_vllm.weights.write_weights", Mock(side_effect=full))
    with server_that_answers(models) as url, pytest.raises(CallwrightError, match=r"No space left.*rollouts\.folder"):
        started(url, policy)
    with pytest.raises(FileNotFoundError, match=r"no weights in .*: rollouts\.folder must be"):
        WeightsFromFiles().callwright_load(str(tmp_path))


@pytest.mark.parametrize("size", [1, 2**31], ids=["a file each", "one file"])
def test_written_weights_are_those_of_the_model(size, policy, tmp_path, monkeypatch):
    monkeypatch.setattr("callwright_vllm.weights.FILE_BYTES", size)
    write_weights(policy.causal_lm, tmp_path, torch.bfloat16)
    files = sorted(tmp_path.iterdir())
    expected = {name: tensor.bfloat16() for name, tensor in checkpoint_weights(policy.causal_lm)}
    assert len(files) == (len(expected) if size == 1 else 1)
    written = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def test_options_are_checked():
    for options in ({"url": "localhost:8000"}, {"timeout": 0}):
        with pytest.raises(ComponentError, match=f"rollouts.*{next(iter(options))}"):
            build_component(VllmServerSampler, options, "rollouts")


def test_explorers_that_process_logits_are_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    with pytest.raises(RecipeError, match="`process_logits` cannot act in 'vllm_server': vLLM does not tell"):
        build(load_recipe(path, ["explore=[phase_temperature]"]))


def test_checking_loads_no_torch():
    code = "import sys, callwright_vllm.server; assert not {'torch', 'openai', 'transformers'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_servers_command_line(tmp_path, tiny_model_folder, monkeypatch):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    with pytest.raises(CallwrightError, match=r"vLLM is not installed here: pip install 'callwright\[vllm\]'"):
        command_line(path, [], "127.0.0.1", 8000, [])
    monkeypatch.setattr("callwright_vllm.serve.find_spec", lambda name: True)
    folder = tiny_model_folder()
    overrides = [f"model.name={folder}", "model.device=cpu", "model.precision=float32"]
    command = command_line(path, overrides, "0.0.0.0", 8001, ["--max-model-len", "512"])
    assert command[command.index("--model") + 1] == str(folder)
    assert command[command.index("--dtype") + 1] == "float32"
    assert command[command.index("--port") + 1] == "8001"
    assert {"--load-format=dummy", "--logprobs-mode=processed_logprobs", "--enable-prefix-caching"} <= set(command)
    assert command[-2:] == ["--max-model-len", "512"]


def test_words_before_the_options_are_overrides_and_the_rest_is_vllms(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "0")
    monkeypatch.setattr("callwright_vllm.serve.command_line", lambda *arguments: seen.append(arguments) or ["vllm"])
    monkeypatch.setattr("os.execv", lambda *_: None)
    words = [
        "recipe.yaml",
        "--port",
        "8001",
        "seed=3",
        "--",
        "--max-model-len",
        "512",
        "--hf-overrides",
        '{"a": "b=c"}',
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    options = ["--max-model-len", "512", "--hf-overrides", '{"a": "b=c"}']
    assert seen == [(Path("recipe.yaml"), ["seed=3"], "127.0.0.1", 8001, options)]


def test_the_launcher_shows_mistakes_in_a_line(tmp_path):
    command = [sys.executable, "-m", "callwright_vllm.serve", str(Path(tmp_path, "none.yaml"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "No such file" in done.stderr
