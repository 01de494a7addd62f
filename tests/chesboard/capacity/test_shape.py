"""The sizes of models by their configurations and headers, as transformers says them."""

from pathlib import Path

import pytest

from chesboard.capacity.shape import ModelShape, ModelSize
from tests.tiny_models import BUILDERS, build_other


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_the_shape_is_that_of_the_model(kind: str) -> None:
    model = BUILDERS[kind]()
    config = model.config.get_text_config()
    shape = ModelShape.of(model.config.to_dict())
    assert shape is not None
    assert (shape.hidden, shape.layers) == (config.hidden_size, config.num_hidden_layers)
    assert shape.vocabulary == config.vocab_size
    if getattr(config, "num_attention_heads", None):
        assert shape.heads == config.num_attention_heads
        assert shape.kv_heads == getattr(config, "num_key_value_heads", shape.heads)
    assert shape.whole_logits == (kind == "gemma2")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "mamba", "llama4"])
def test_layers_and_the_rest_are_told_apart_by_names(tmp_path: Path, kind: str) -> None:
    model = BUILDERS[kind]()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    size = ModelSize.at(tmp_path)
    assert size is not None
    assert size.parameters == sum(one.numel() for one in model.parameters())
    layers = max(
        (one for one in model.modules() if type(one).__name__ == "ModuleList"),
        key=lambda one: sum(p.numel() for p in one.parameters()),
    )
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert size.largest_layer == max(sizes)
    assert size.rest == size.parameters - sum(sizes)


def test_experts_are_counted_as_one_token_reads_them() -> None:
    model = build_other("mixtral", num_experts_per_tok=2)
    shape = ModelShape.of(model.config.to_dict())
    assert shape is not None
    assert shape.inner == 2 * model.config.intermediate_size


def test_the_language_model_of_one_that_reads_images_counts() -> None:
    shape = ModelShape.of(
        {"text_config": {"hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 9}}
    )
    assert shape is not None
    assert shape.hidden == 8
    assert ModelShape.of({"model_type": "unheard-of"}) is None


def test_a_folder_without_headers_has_no_size(tmp_path: Path) -> None:
    assert ModelSize.at(tmp_path) is None
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert ModelSize.at(tmp_path) is None


@pytest.mark.starter
def test_a_gguf_file_has_the_size_of_what_it_becomes(starter_model: Path) -> None:
    [file] = starter_model.glob("*.gguf") if starter_model.is_dir() else [starter_model]
    size = ModelSize.at(file)
    assert size is not None
    assert size.parameters == 134_515_008
    assert size.shape == ModelShape(576, 30, 9, 3, 64, 1536, 49_152)
    assert size.rest == 49_152 * 576 + 576
