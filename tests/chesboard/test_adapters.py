"""Adapters merged into their base model: the numbers are those of peft."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file

from chesboard.causal_lm import ModelError, read_causal_lm
from chesboard.configs import ScoreConfig
from chesboard.loading import load
from tests.tiny_models import build_llama, build_other, build_tokenizer

IDS = torch.tensor([[5, 9, 11, 40, 7, 99, 3]])
LORA = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])


def save_base(folder: Path, tied: bool = True) -> Any:
    torch.manual_seed(0)
    model = build_llama(tied=tied)
    model.save_pretrained(folder)
    build_tokenizer(chat=True).save_pretrained(folder)
    return model


def save_adapter(model: Any, folder: Path, config: PeftConfig, base: str | None = "base") -> Any:
    """An adapter of random weights; returns the PeftModel."""
    adapted = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 4)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder)
    return adapted.eval()


def load_here(folder: Path) -> Any:
    return load(ScoreConfig(model=str(folder), device="cpu", dtype="float32"))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_here(folder)
    return str(caught.value)


@torch.no_grad()
def assert_same_numbers(found: Any, adapted: Any, base: Any = None) -> None:
    expected, logits = adapted.double()(IDS).logits, found.double()(IDS).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    if base is not None:
        assert (base.double()(IDS).logits - expected).norm() > 1e-2 * expected.norm()


@pytest.mark.parametrize(
    "config",
    [
        LORA,
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", use_rslora=True),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], use_dora=True),
        LoraConfig(
            task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]
        ),
        LoraConfig(
            task_type="CAUSAL_LM",
            r=2,
            target_modules=["q_proj"],
            trainable_token_indices={"embed_tokens": [3, 9]},
        ),
        IA3Config(
            task_type="CAUSAL_LM",
            target_modules=["k_proj", "down_proj"],
            feedforward_modules=["down_proj"],
        ),
    ],
    ids=["lora", "rslora", "dora", "head saved", "token rows", "ia3"],
)
def test_a_merged_adapter_gives_the_numbers_of_base_and_adapter(
    tmp_path: Path, config: PeftConfig
) -> None:
    base = save_base(tmp_path / "base", tied=False)
    adapted = save_adapter(base, tmp_path / "adapter", config)
    model, tokenizer = load_here(tmp_path / "adapter")
    assert not hasattr(model, "peft_config")
    assert tokenizer.chat_template
    assert_same_numbers(model, adapted, load_here(tmp_path / "base")[0])
    # What it was merged into saves as a whole model.
    model.float().save_pretrained(tmp_path / "merged")
    build_tokenizer(chat=True).save_pretrained(tmp_path / "merged")
    assert_same_numbers(load_here(tmp_path / "merged")[0], adapted)


def test_new_tokens_of_an_adapter_give_the_model_its_embedding(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    wider = build_llama()
    wider.load_state_dict(load_here(tmp_path / "base")[0].state_dict())
    wider.resize_token_embeddings(310)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    adapted = get_peft_model(wider, config)
    adapted.peft_config["default"].base_model_name_or_path = "base"
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    model, _ = load_here(tmp_path / "adapter")
    assert model.get_input_embeddings().weight.shape[0] == 310
    assert_same_numbers(model, adapted.eval())


def test_an_embedding_without_its_head_is_refused(tmp_path: Path) -> None:
    model = save_base(tmp_path / "base", tied=False)
    save_adapter(model, tmp_path / "adapter", LORA)
    edit(tmp_path / "adapter", "base_model.model.model.embed_tokens.weight", torch.zeros(310, 32))
    assert "embed_tokens.weight) has 310 rows" in refusal(tmp_path / "adapter")


def edit(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Put a tensor into an adapter's file, or take it out."""
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value
    save_file(tensors, file)


Q_A = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (Q_A, None, "lacks 1 tensors"),
        (Q_A, torch.full((4, 32), torch.nan), "hold NaN or infinity (" + Q_A),
        (Q_A, torch.zeros(4, 31), "q_proj"),
        (Q_A.replace("layers.1", "layers.7"), torch.zeros(4, 32), "has no place (base_model"),
    ],
    ids=["missing", "NaN", "shape", "another model's"],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, name: str, value: torch.Tensor | None, said: str
) -> None:
    save_adapter(save_base(tmp_path / "base"), tmp_path / "adapter", LORA)
    edit(tmp_path / "adapter", name, value)
    found = refusal(tmp_path / "adapter")
    assert said in found
    assert "layers." in found


def test_modules_that_the_base_lacks_are_named(tmp_path: Path) -> None:
    other = build_other("gpt2", n_embd=32, n_layer=2, n_head=4, n_positions=64)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    save_adapter(other, tmp_path / "adapter", config)
    save_base(tmp_path / "base")
    assert "c_attn" in refusal(tmp_path / "adapter")


@pytest.mark.parametrize(
    "config",
    [
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ],
)
def test_adapters_that_are_no_change_of_weights_are_refused_by_kind(
    tmp_path: Path, config: PeftConfig
) -> None:
    save_adapter(save_base(tmp_path / "base"), tmp_path / "adapter", config)
    assert "which cannot be merged" in refusal(tmp_path / "adapter")


@pytest.mark.parametrize("base", [None, "org/both"])
def test_an_adapter_beside_its_model_is_merged_into_it(
    tmp_path: Path, base: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    adapted = save_adapter(save_base(tmp_path / "both"), tmp_path / "both", LORA, base)
    model, _ = load_here(tmp_path / "both")
    assert not hasattr(model, "peft_config")
    assert_same_numbers(model, adapted)
    assert "holds an adapter beside the model: it was merged" in caplog.text


def test_an_adapter_that_transformers_loads_by_itself_is_refused(tmp_path: Path) -> None:
    """As it does for the name of an adapter on the hub: unchecked, and not merged."""
    save_adapter(save_base(tmp_path / "base"), tmp_path / "a", LORA, str(tmp_path / "base"))
    with pytest.raises(ModelError, match="It is an adapter on the hub"):
        read_causal_lm("org/a", str(tmp_path / "a"), torch.float32)
