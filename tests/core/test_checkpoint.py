"""Checkpoints: exact, whole or absent, and clear about what is wrong."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from callwright import CallwrightError
from callwright.checkpoint import State, latest, load, save
from hypothesis import given, settings
from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "adamw-tensor-rate": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-2), foreach=False),
    "amsgrad-groups": lambda p: torch.optim.AdamW([{"params": p[:3], "lr": 0.1}, {"params": p[3:]}], amsgrad=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
}


class Run:
    """A training run in small: a random model, an optimizer, generators, and noise from every source of it."""

    def __init__(self, model, tokenizer, optimizer="adamw", seed=0):
        self.model, self.tokenizer = model, tokenizer
        self.optimizer = OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad])
        self.generators = {"sampling": torch.Generator().manual_seed(seed), "order": torch.Generator()}
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)

    def step(self) -> list[float]:
        ids = torch.randint(3, 200, (2, 6), generator=self.generators["sampling"])
        loss = self.model(ids, labels=ids).loss * (1 + random.random() + np.random.normal() + torch.randn(()))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return [
            loss.item(),
            random.gauss(0, 1),
            np.random.normal(),
            torch.rand(1, generator=self.generators["order"]).item(),
        ]

    def save(self, folder: Path, step: int = 1, **more) -> Path:
        state = more.pop("state", State(step))
        parts = {"model": self.model, "tokenizer": self.tokenizer, "optimizer": self.optimizer}
        return save(folder, state, **parts, generators=self.generators, **more)

    def load(self, path: Path) -> State:
        return load(path, model=self.model, optimizer=self.optimizer, generators=self.generators)

    def everything(self) -> dict[str, torch.Tensor]:
        states = self.optimizer.state_dict()["state"]
        flat = {f"{i}/{key}": value for i, values in states.items() for key, value in values.items()}
        return self.model.state_dict() | {k: v.clone() for k, v in flat.items() if isinstance(v, torch.Tensor)}


@pytest.fixture
def run(tiny_model, tiny_tokenizer):
    return Run(tiny_model(), tiny_tokenizer)


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        value.dtype == right[name].dtype and torch.equal(value, right[name]) for name, value in left.items()
    )


# --------------------------------------------------------------------------------------------------- exact


@settings(max_examples=15)
@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.sampled_from(["llama", "qwen3", "gemma2", "gemma3"]),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_run_that_resumes_is_the_run_that_did_not_stop(
    tmp_path_factory, tiny_model, tiny_tokenizer, optimizer, kind, steps, seed, dtype
):
    folder = tmp_path_factory.mktemp("run")
    straight = Run(tiny_model(kind).to(dtype), tiny_tokenizer, optimizer, seed)
    for _ in range(steps):
        straight.step()
    path = straight.save(folder, steps)
    expected = [straight.step() for _ in range(2)]

    resumed = Run(tiny_model(kind, seed=1).to(dtype), tiny_tokenizer, optimizer, seed + 1 & 0xFFFF)
    resumed.step()
    assert resumed.load(path).step == steps
    assert [resumed.step() for _ in range(2)] == expected
    assert same(resumed.everything(), straight.everything())
    groups = [[sorted(g.items()) for g in r.optimizer.state_dict()["param_groups"]] for r in (resumed, straight)]
    assert repr(groups[0]) == repr(groups[1])


@settings(max_examples=20)
@given(JSON_VALUES, st.dictionaries(st.text(), JSON_VALUES, max_size=3))
def test_every_json_value_comes_back_as_it_was(tmp_path_factory, tiny_model, tiny_tokenizer, value, named):
    run = Run(tiny_model(), tiny_tokenizer)
    state = State(7, data=value, plugins=named, counters=named)
    loaded = run.load(run.save(tmp_path_factory.mktemp("run"), state=state))
    assert repr(loaded) == repr(state)  # unlike ==, right for NaN and for True against 1


def test_further_tensors_come_back(run, tmp_path):
    tensors = {"reference.a": torch.randn(3, 4), "reference.b": torch.arange(3, dtype=torch.int8)}
    loaded = run.load(run.save(tmp_path, state=State(1, tensors=tensors)))
    assert same(loaded.tensors, tensors)


@pytest.mark.parametrize(("value", "place"), [({1: "a"}, "explore.0"), ({"k": [(1, 2)]}, r"explore\.0\.k\[0\]")])
def test_what_json_would_change_is_refused(run, tmp_path, value, place):
    with pytest.raises(CallwrightError, match=place):
        run.save(tmp_path, state=State(1, plugins={"explore.0": value}))
    assert latest(tmp_path) is None


def test_transformers_loads_the_checkpoint_directly(run, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run.step()
    path = run.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(path / "model", dtype=torch.float32)
    assert same(model.state_dict(), run.model.state_dict())
    assert AutoTokenizer.from_pretrained(path / "model").chat_template == run.tokenizer.chat_template


def test_nothing_is_pickled_or_unpickled(run, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pickle was opened")

    run.step()
    path = run.save(tmp_path)
    assert {p.suffix for p in path.rglob("*") if p.is_file()} == {".safetensors", ".json", ".jinja"}
    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    run.load(path)


def test_with_lora_only_the_adapter_is_saved(tmp_path, tiny_model, tiny_tokenizer):
    from peft import LoraConfig, get_peft_model

    runs = [
        Run(get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear")), tiny_tokenizer)
        for _ in range(2)
    ]
    runs[0].step()
    path = runs[0].save(tmp_path)
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["adapter"]
    expected = runs[0].step()
    runs[1].load(path)
    assert runs[1].step() == expected
    assert same(runs[0].everything(), runs[1].everything())


# --------------------------------------------------------------------------------------- whole or absent


def test_the_newest_k_are_kept(run, tmp_path):
    for step in range(1, 5):
        run.save(tmp_path, step, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000003", "step-000004"]
    assert latest(tmp_path) == tmp_path / "step-000004"
    run.save(tmp_path, 12345678, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-12345678"]


def test_saving_a_step_again_replaces_it(run, tmp_path):
    run.save(tmp_path, 1)
    run.step()
    run.save(tmp_path, 1)
    weights = {name: value.clone() for name, value in run.everything().items()}
    run.step()
    assert not same(run.everything(), weights)
    run.load(tmp_path / "step-000001")
    assert same(run.everything(), weights)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]


def test_half_written_folders_do_not_count_and_are_removed(run, tmp_path):
    whole = run.save(tmp_path, 1)
    shutil.copytree(whole, tmp_path / ".new-step-000002")
    (tmp_path / "step-000003").mkdir()
    (tmp_path / "notes").mkdir()
    assert latest(tmp_path) == whole
    assert latest(tmp_path / "nowhere") is None
    run.save(tmp_path, 4)
    assert {p.name for p in tmp_path.iterdir()} == {"step-000001", "step-000003", "notes", "step-000004"}


def test_a_checkpoint_that_was_being_replaced_still_counts(run, tmp_path):
    run.save(tmp_path, 1)
    (tmp_path / "step-000001").rename(tmp_path / ".old-step-000001")
    assert run.load(latest(tmp_path)).step == 1
    run.save(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000001", "step-000002"]


SAVE_FOREVER = """
import sys, torch
from itertools import count
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
from callwright.checkpoint import State, save
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
optimizer = torch.optim.AdamW(model.parameters())
for step in count(1):
    for p in model.parameters():
        torch.nn.init.constant_(p, step)
        optimizer.state[p] = {"step": torch.tensor(float(step)), "exp_avg": p.detach(), "exp_avg_sq": p.detach() + 0}
    save(Path(sys.argv[2]), State(step), model=model, tokenizer=tokenizer, optimizer=optimizer, keep=1)
"""


def test_sigkill_in_the_middle_of_saving_leaves_the_last_checkpoint_whole(tiny_model_folder, tiny_model, tmp_path):
    large = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    source, folder = tiny_model_folder(**large), tmp_path / "checkpoints"
    chance = random.Random(0)
    for kills in (1, 2):
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, source, folder])
        wanted = f"step-{2 + kills:06d}"
        while not list(folder.glob(f".new-{wanted}")):
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        model = tiny_model(**large)
        optimizer = torch.optim.AdamW(model.parameters())
        step = load(latest(folder), model=model, optimizer=optimizer).step
        assert step >= 1 + kills
        assert all(torch.all(p == step) for p in model.parameters())
        assert all(torch.all(value == step) for s in optimizer.state.values() for value in s.values())
        shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------- failures

SAVE_BEYOND_A_LIMIT = """
import resource, signal, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
from callwright import CallwrightError
from callwright.checkpoint import State, save
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
optimizer = torch.optim.AdamW(model.parameters())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def try_to_save(step):
    save(Path(sys.argv[2]), State(step), model=model, tokenizer=tokenizer, optimizer=optimizer)
try_to_save(1)
for limit in (50_000, 2_000, 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try: try_to_save(2)
    except CallwrightError as error: print(error)
"""


def test_a_write_that_fails_is_a_clear_error_and_leaves_the_last_checkpoint_whole(tiny_model_folder, run, tmp_path):
    folder = tmp_path / "checkpoints"
    command = [sys.executable, "-c", SAVE_BEYOND_A_LIMIT, tiny_model_folder(), folder]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith(f"cannot write the checkpoint of step 2 into {folder}: ")
        assert "File too large" in line
        assert f"the newest whole checkpoint is {folder / 'step-000001'}" in line
    assert [p.name for p in folder.iterdir()] == ["step-000001"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_a_clear_error_and_leaves_the_last_checkpoint_whole(small_disk, run):
    first = run.save(small_disk, 1)
    run.step()  # only now has the optimizer a state, for which there is no room
    with pytest.raises(CallwrightError, match=r"No space left on device.*step-000001"):
        run.save(small_disk, 2)
    assert list(small_disk.iterdir()) == [first]
    assert run.load(first).step == 1


def test_a_folder_that_cannot_be_made_is_a_clear_error(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CallwrightError, match=r"Not a directory.*no earlier checkpoint"):
        run.save(tmp_path / "file" / "checkpoints")


def test_another_error_while_saving_is_passed_on_and_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(run.optimizer, "state_dict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "config"),
    [("llama", {"hidden_size": 64}), ("llama", {"num_hidden_layers": 3}), ("qwen2", {}), ("qwen3", {})],
)
def test_the_checkpoint_of_another_model_is_a_clear_error(kind, config, run, tmp_path, tiny_model, tiny_tokenizer):
    run.step()
    path = run.save(tmp_path)
    with pytest.raises(CallwrightError, match=r"step-000001 is damaged or belongs to another recipe"):
        Run(tiny_model(kind, **config), tiny_tokenizer).load(path)


def test_other_generators_are_a_clear_error(run, tmp_path):
    path = run.save(tmp_path)
    run.generators.pop("order")
    with pytest.raises(CallwrightError, match="generators"):
        run.load(path)


def test_a_newer_format_is_a_clear_error(run, tmp_path):
    path = run.save(tmp_path)
    content = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(CallwrightError, match="format 99"):
        run.load(path)


FILES = ["model/model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"]


@settings(max_examples=25)
@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_truncated_file_is_a_clear_error(tmp_path_factory, tiny_model, tiny_tokenizer, file, share, gone):
    run = Run(tiny_model(), tiny_tokenizer)
    run.step()
    damaged = run.save(tmp_path_factory.mktemp("run")) / file
    content = damaged.read_bytes()
    damaged.write_bytes(content[: math.floor(share * (len(content) - 1))])
    if gone:
        damaged.unlink()
    with pytest.raises(CallwrightError, match="is damaged or belongs to another recipe"):
        run.load(latest(damaged.parents[len(Path(file).parts)]))


SAVE_LARGE = """
import resource, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
from callwright.checkpoint import State, save
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
for p in model.parameters():
    p.grad = torch.ones_like(p)
optimizer.step()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
save(Path(sys.argv[2]), State(1), model=model, tokenizer=tokenizer, optimizer=optimizer)
print(peak() - before, sum(p.numel() * 4 for p in model.parameters()))
"""


@pytest.mark.slow
def test_saving_needs_no_second_copy_in_memory(tiny_model_folder, tmp_path):
    source = tiny_model_folder(hidden_size=512, intermediate_size=4096, num_hidden_layers=8)
    command = [sys.executable, "-c", SAVE_LARGE, source, tmp_path / "checkpoints"]
    more, size = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert size > 200e6
    assert more < 0.25 * size
