"""What the sampler `vllm` asks vLLM for and makes of its answers; tests/vllm has vLLM itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from callwright import CallwrightError
from callwright.plugins import ComponentError, build_component
from callwright.recipe import RecipeError, build, load_recipe
from callwright.sampling import GenerationRequest, SamplingPlan
from callwright_vllm.requests import Completion, asks, completions
from callwright_vllm.sampler import VllmSampler
from callwright_vllm.weights import checkpoint_weights, require_followable
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

END = 2


def letters(ids):
    return "".join(map(chr, ids))


def tokens(text):
    return list(map(ord, text))


def request(group, plan=None, **more):
    group = torch.tensor(group)
    plan = plan or SamplingPlan(torch.ones(len(group)))
    prompts = [tokens(f"prompt {i}: ") for i in range(int(group.max()) + 1)]
    fields = {"max_new_tokens": 8, "end_ids": [END], "generator": torch.Generator().manual_seed(0), **more}
    return GenerationRequest(prompts, group, plan, **fields)


def answer(ask, *texts, reason="stop"):
    """What vLLM draws: tokens with log-probability -1, -2, ..."""
    assert len(texts) == ask.settings.get("n", 1)
    return [Completion(tokens(text), [-1.0 - i for i in range(len(text))], reason == "length") for text in texts]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.5, 1.0]), st.sampled_from(["", "x", "xy"])), min_size=1)
)
def test_every_row_is_asked_for_once_with_its_own_plan(rows):
    groups = [0, 1, 2, *(group for group, _, _ in rows)]
    temperature = torch.tensor([1.0, 1.0, 1.0, *(t for _, t, _ in rows)])
    forced = [[], [], [], *(tokens(text) for _, _, text in rows)]
    asked = list(asks(of := request(groups, SamplingPlan(temperature), forced=forced), letters))
    assert sorted(row for ask in asked for row in ask.rows) == list(range(len(groups)))
    for ask in asked:
        assert ask.settings["n"] == len(ask.rows)
        for row in ask.rows:
            assert ask.prompt == of.prompts[groups[row]] + forced[row]
            assert ask.settings["temperature"] == temperature[row]
            assert ask.settings["max_tokens"] == 8 - len(forced[row])
    keys = [(groups[ask.rows[0]], float(temperature[ask.rows[0]]), letters(ask.forced)) for ask in asked]
    assert len(set(keys)) == len(keys)  # alike rows are together


def test_filters_of_a_row_go_along_and_those_that_are_off_do_not():
    plan = SamplingPlan(torch.tensor([1e-5, 1.0]), top_p=torch.ones(2), top_k=torch.tensor([3, 0]))
    first, second = asks(request([0, 0], plan), letters)
    assert (first.settings["temperature"], first.settings["top_k"]) == (0.01, 3)  # near 0 would be greedy to vLLM
    assert second.settings["top_k"] == 0
    assert "top_p" not in first.settings


def test_greedy_rows_share_one_sample():
    of = request([0, 0, 1], SamplingPlan.greedily(3))
    first, second = asked = list(asks(of, letters))
    assert first.settings["temperature"] == 0
    assert "n" not in first.settings
    drawn = completions(of, asked, [answer(first, "ab"), answer(second, "c")], letters)
    assert [letters(ids[mask]) for ids, mask in zip(drawn.ids, drawn.mask, strict=True)] == ["ab", "ab", "c"]
    assert drawn.ids[2].tolist() == [*tokens("c"), END]


def test_seeds_come_from_the_requests_numbers():
    def seeds(**more):
        return [ask.settings["seed"] for ask in asks(request([0, 0, 1], **more), letters)]

    uniforms = torch.tensor([[0.25, 0.1], [0.5, 0.2], [0.75, 0.3]], dtype=torch.float64)
    assert seeds(uniforms=uniforms) == [2**51, 3 * 2**51]
    assert seeds() == seeds() != seeds(generator=torch.Generator().manual_seed(1))


def test_a_forced_beginning_has_no_chance_and_may_be_all_there_is():
    forced = [tokens("go"), tokens("a stop"), tokens("12345678"), [*tokens("ab"), END, *tokens("c")]]
    of = request([0] * 4, forced=forced, stop=["stop", "good"])
    (ask,) = asked = list(asks(of, letters))
    drawn = completions(of, asked, [answer(ask, "od times", reason="length")], letters)
    texts = [letters(ids[mask]) for ids, mask in zip(drawn.ids, drawn.mask, strict=True)]
    assert texts == ["good", "a stop", "12345678", f"ab{chr(END)}"]
    assert drawn.truncated.tolist() == [False, False, True, False]
    assert drawn.behaviour_logps[0, :4].tolist() == [0, 0, -1, -2]
    assert not drawn.behaviour_logps[1:].any()


def test_truncated_is_what_vllm_says():
    of = request([0, 0, 1])
    first, second = asked = list(asks(of, letters))
    outputs = [answer(first, "ab", "abcdefgh", reason="length"), answer(second, f"x{chr(END)}")]
    drawn = completions(of, asked, outputs, letters)
    assert drawn.truncated.tolist() == [True, True, False]
    assert drawn.ids.shape == (3, 8)
    assert drawn.policy_logps is drawn.entropy is None


# -------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_weights_are_those_of_a_checkpoint(kind, tiny_model, tmp_path):
    from safetensors.torch import load_file

    model = tiny_model(kind, tie_word_embeddings=True)
    require_followable(model)
    model.save_pretrained(tmp_path)
    sent, saved = dict(checkpoint_weights(model)), load_file(tmp_path / "model.safetensors")
    assert sent.keys() == saved.keys()
    assert all(torch.equal(sent[name], saved[name]) for name in saved)


def test_an_adapter_is_merged_and_the_model_stays_as_it_is(tiny_model):
    model = get_peft_model(tiny_model("qwen2"), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    require_followable(model.get_base_model())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sent = dict(checkpoint_weights(model.get_base_model()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    expected = model.merge_and_unload().state_dict()
    assert sent.keys() == expected.keys() - {"lm_head.weight"} | ({"lm_head.weight"} & sent.keys())
    for name, tensor in sent.items():
        torch.testing.assert_close(tensor, expected[name])


def test_models_that_cannot_be_followed_are_refused(tiny_model):
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    experts = MixtralForCausalLM(MixtralConfig(vocab_size=64, num_hidden_layers=1, num_local_experts=2, **sizes))
    with pytest.raises(CallwrightError, match="cannot follow a MixtralForCausalLM"):
        require_followable(experts)
    for target in ("embed_tokens", "lm_head"):
        model = get_peft_model(tiny_model("llama"), LoraConfig(target_modules=[target]))
        with pytest.raises(CallwrightError, match=f"adapter on '.*{target}'"):
            require_followable(model.get_base_model())


# ---------------------------------------------------------------------------------------------------- the plugin


def test_checking_loads_neither_torch_nor_vllm():
    code = "import sys, callwright_vllm.sampler; assert not {'torch', 'vllm', 'transformers'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_are_checked():
    assert build_component(VllmSampler, {"dtype": "bfloat16"}, "rollouts").dtype == "bfloat16"
    for options in ({"gpu_memory_utilization": 1.5}, {"max_model_len": 0}, {"cache_gib": -1}, {"dtype": "int8"}):
        with pytest.raises(ComponentError, match=f"rollouts.*{next(iter(options))}"):
            build_component(VllmSampler, options, "rollouts")


def test_explorers_that_process_logits_are_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {name: nowhere}\ndialect: python_calls\ndata: {source: {use: jsonl, path: rows.jsonl}}\n"
        "rewards: {use: [ast_match]}\nexplore: [phase_temperature]\nrollouts: vllm\n"
    )
    with pytest.raises(RecipeError, match="`process_logits` cannot act in 'vllm': vLLM does not tell its logits"):
        build(load_recipe(path))
    assert build(load_recipe(path, ["explore=[]"])).sampler == VllmSampler()


def test_without_vllm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("callwright_vllm.sampler.find_spec", lambda name: None)
    with pytest.raises(CallwrightError, match="pip install 'callwright"):
        VllmSampler().start(None, None, None)
