"""Models that transformers opens, but whose numbers would be about something else."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    LlamaForSequenceClassification,
    LlamaModel,
)

from chesboard.causal_lm import ModelError, placed, read_causal_lm
from chesboard.configs import ScoreConfig
from chesboard.loading import load, tokenizer_notes
from chesboard.pairs import Pair
from chesboard.scoring import score_pairs
from chesboard.text_check import ChatTemplateError
from chesboard.tokenization import tokenize_pairs
from tests.tiny_models import (
    BUILDERS,
    GoOn,
    KeepingReporter,
    build_llama,
    build_tokenizer,
    random_pairs,
)
from tests.tiny_models import load as load_tiny

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose output head is a tensor of its own."""
    build_llama(tied=False).save_pretrained(tmp_path)
    build_tokenizer(chat=False).save_pretrained(tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(ScoreConfig(model=str(folder), device="cpu", dtype="float32"))
    return str(caught.value)


def test_a_whole_model_loads(folder: Path) -> None:
    model, tokenizer = load(ScoreConfig(model=str(folder), device="cpu"))
    assert not model.training
    assert tokenizer("No").input_ids


def test_a_base_model_without_its_head_is_refused_by_the_tensor_s_name(folder: Path) -> None:
    config = build_llama(tied=False).config
    LlamaModel(config).save_pretrained(folder)
    assert "without an output head (lm_head.weight)" in refusal(folder)
    rewrite(folder / "config.json", architectures=["LlamaForCausalLM"])
    assert "lack 1 of its tensors (lm_head.weight)" in refusal(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lm_head.weight" in refusal(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused_by_the_tensor_s_name(
    folder: Path, value: float
) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "(model.norm.weight)" in refusal(folder)


def test_a_file_that_was_cut_off_is_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-100])
    said = refusal(folder)
    assert f"model.safetensors is cut off: it has {size - 100:,} bytes" in said
    assert f"{size:,}" in said


def test_a_token_without_an_embedding_is_named_with_its_pair() -> None:
    loaded = load_tiny()
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    pairs = random_pairs(3)
    pairs[1].prompt_ids[0] = rows
    loaded.tokenizer = build_tokenizer(chat=False)
    added = 0
    while len(loaded.tokenizer) <= rows:
        loaded.tokenizer.add_tokens([f"<tool{added}>"])
        added += 1
    with pytest.raises(ValueError, match=r"no embedding of the token “<tool\d*>” .* pair 1:"):
        score_pairs(loaded, pairs, ScoreConfig(), KeepingReporter(), GoOn())


def test_a_template_s_refusal_names_the_pair_and_its_turns() -> None:
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        + tokenizer.chat_template
    )
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
    pairs = [Pair("Is it?", "Yes", "No", pair=0), Pair(turns, "Yes", "No", pair=7)]
    message = r"of pair 7: no system turn \(its turns: system, user\)"
    with pytest.raises(ChatTemplateError, match=message):
        tokenize_pairs(tokenizer, pairs, 64, 64)


def save(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    build_tokenizer(chat=True).save_pretrained(folder)
    return folder


def rewrite(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None takes one out."""
    fields = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: v for name, v in fields.items() if v is not None}))


ENCODER = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip


def test_a_model_that_looks_ahead_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    """transformers opens encoders as causal language models whose attention looks ahead."""
    folder = save(tmp_path, BertForMaskedLM(BertConfig(**ENCODER)))
    assert "BertForMaskedLM is an encoder" in refusal(folder)
    rewrite(folder / "config.json", is_decoder=False, architectures=["BertLMHeadModel"])
    assert "is an encoder" in refusal(folder)
    with pytest.raises(ModelError, match="depends on tokens that follow it"):
        placed("bert", read_causal_lm("bert", str(folder), torch.float32).model, CPU)


def test_a_decoder_of_the_same_kind_loads(tmp_path: Path) -> None:
    config = BertConfig(**ENCODER, is_decoder=True)
    model, _ = load(ScoreConfig(model=str(save(tmp_path, BertLMHeadModel(config))), device="cpu"))
    assert type(model) is BertLMHeadModel


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_models_that_read_from_left_to_right_are_seen_to(kind: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        placed(kind, load_tiny(kind, dtype).model, CPU)


def test_a_reward_model_is_refused_even_where_its_head_is_its_embedding(tmp_path: Path) -> None:
    config = build_llama(tied=True).config
    config.pad_token_id = 0
    said = refusal(save(tmp_path, LlamaForSequenceClassification(config)))
    assert "LlamaForSequenceClassification is a classifier or reward model" in said


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("awq", "gptqmodel"),
        ("compressed-tensors", "compressed-tensors"),
        ("eetq", "kernels"),
        ("made-up", "does not know"),
    ],
)
def test_quantized_weights_say_what_is_missing(tmp_path: Path, method: str, said: str) -> None:
    if find_spec(said.replace("-", "_")) is not None:
        pytest.skip("the package is here")
    folder = save(tmp_path, build_llama())
    quantization = {"quant_method": method, "bits": 4, "group_size": 128}
    rewrite(folder / "config.json", quantization_config=quantization)
    found = refusal(folder)
    assert "quantized" in found
    assert method in found
    assert said in found
    assert "in its original precision" in found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "nope"}, "KeyError: 'nope'"),
        ({"hidden_size": 30}, "(30) is not a multiple of the number of attention heads"),
        ({"num_hidden_layers": "two"}, "'num_hidden_layers' expected int"),
        ({"num_hidden_layers": 3}, "model.layers.2."),
        ({"vocab_size": 310}, "model.embed_tokens.weight"),
    ],
)
def test_a_configuration_of_another_model_is_named(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = save(tmp_path, build_llama())
    rewrite(folder / "config.json", **changes)
    assert said in refusal(folder)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="the package is here")
def test_a_sentencepiece_tokenizer_says_which_package_it_needs(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x05abc")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    assert "needs the packages sentencepiece and protobuf" in refusal(folder)


def test_a_tokenizer_without_a_class_of_its_own_loads(folder: Path) -> None:
    ids = build_tokenizer(chat=False)("Yes, the end").input_ids
    for changes in ({"tokenizer_class": None}, {"tokenizer_class": "NoSuchTokenizer"}):
        rewrite(folder / "tokenizer_config.json", **changes)
        _, tokenizer = load(ScoreConfig(model=str(folder), device="cpu"))
        assert tokenizer("Yes, the end").input_ids == ids


def test_notes_say_what_the_tokenizer_lacks() -> None:
    model = build_llama()
    assert tokenizer_notes(build_tokenizer(chat=True), model) == []
    larger = build_tokenizer(chat=True)
    larger.add_tokens([f"<new{n}>" for n in range(40)])
    assert "has 311 tokens, the model embeddings of 300" in tokenizer_notes(larger, model)[0]
    model.resize_token_embeddings(600)
    assert "that of another model" in tokenizer_notes(build_tokenizer(chat=True), model)[0]


def test_tensors_that_no_language_model_has_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["v_head.summary.weight"] = torch.zeros(1, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load(ScoreConfig(model=str(folder), device="cpu"))
    assert "not used (v_head.summary.weight)" in caplog.text
