"""What older versions of transformers have is recognized by what is missing or called otherwise."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import DynamicCache

from chesboard import transformers_api
from chesboard.model import causal_model, max_positions, without_adapters
from tests.chesboard.forward.test_rope import ORIGINAL
from tests.chesboard.forward.test_rope import build as build_with_rope
from tests.tiny_models import BUILDERS, build_gpt2, build_llama, load


def test_a_cache_that_takes_no_configuration_is_made_without(monkeypatch) -> None:
    config = build_llama().config
    assert isinstance(transformers_api.new_cache(config), DynamicCache)
    monkeypatch.setattr(transformers_api, "_CACHE_KNOWS_LAYERS", False)
    monkeypatch.setattr(transformers_api, "DynamicCache", lambda: "without")
    assert transformers_api.new_cache(config) == "without"


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_decoder_is_what_the_base_model_is_or_holds(kind: str) -> None:
    model = causal_model(load(kind))
    decoder = transformers_api.decoder_of(model)
    assert decoder is not model
    assert hasattr(decoder(torch.arange(5)[None]), "last_hidden_state")


def test_a_model_that_does_not_name_its_decoder_is_asked_for_its_base_model() -> None:
    model = SimpleNamespace(base_model="transformer")
    assert transformers_api.decoder_of(model) == "transformer"


def test_weights_are_asked_for_in_their_dtype_by_the_name_of_the_version(
    monkeypatch, tmp_path
) -> None:
    build_llama().save_pretrained(tmp_path)
    option: Any = transformers_api.dtype_option(torch.bfloat16)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **option)
    assert model.lm_head.weight.dtype == torch.bfloat16
    for name in ("dtype", "torch_dtype"):
        config = SimpleNamespace(**{name: None})
        monkeypatch.setattr(transformers_api, "PretrainedConfig", lambda config=config: config)
        assert transformers_api.dtype_option(torch.bfloat16) == {name: torch.bfloat16}


def test_mismatched_tensors_are_named_with_their_shapes_or_without() -> None:
    shapes = torch.Size([2]), torch.Size([3])
    for told in ("lm_head.weight", ("lm_head.weight", *shapes)):
        assert transformers_api.mismatched_names({"mismatched_keys": [told]}) == ["lm_head.weight"]


@pytest.mark.parametrize("name", ["rope_parameters", "rope_theta", "rope_scaling"])
def test_a_model_with_rotary_positions_has_no_table_of_them_that_could_end(name: str) -> None:
    loaded = load("gpt2")
    assert max_positions(loaded) == 512
    setattr(loaded.model.config, name, {"rope_type": "default"})
    assert max_positions(loaded) is None


def test_longrope_changes_where_the_configuration_says_under_either_name() -> None:
    modules = build_with_rope("longrope phi3").model.modules()
    [rotary] = [one for one in modules if hasattr(one, "rope_type")]
    assert transformers_api.longrope_limits(rotary) == [ORIGINAL]
    older: Any = nn.Module()
    older.rope_type = "longrope"
    older.config = SimpleNamespace(max_position_embeddings=96, rope_scaling={"type": "longrope"})
    assert transformers_api.longrope_limits(older) == [96]
    older.config.original_max_position_embeddings = ORIGINAL
    assert transformers_api.longrope_limits(older) == [ORIGINAL]
    older.rope_type = "dynamic"
    assert transformers_api.longrope_limits(older) == []


def test_a_model_that_adapters_were_merged_into_is_itself() -> None:
    """Older versions of peft leave their configuration at it."""
    model = build_gpt2()
    model.peft_config = {}
    assert without_adapters(model) is model
