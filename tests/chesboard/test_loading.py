"""Models that transformers opens, but whose numbers would be about something else."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaModel

from chesboard.configs import ScoreConfig
from chesboard.loading import ModelError, load
from chesboard.pairs import Pair
from chesboard.scoring import score_pairs
from chesboard.tokenization import ChatTemplateError, tokenize_pairs
from tests.tiny_models import (
    GoOn,
    KeepingReporter,
    build_llama,
    build_tokenizer,
    random_pairs,
)
from tests.tiny_models import load as load_tiny


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
    file.write_bytes(file.read_bytes()[:-100])
    assert "cannot be loaded" in refusal(folder)


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
