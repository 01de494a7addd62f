"""What differs between the versions of transformers that the library works with, 4.55 and later.

Each function looks for the feature that it needs, not at a version's number.
"""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PretrainedConfig, cache_utils

_CACHE_KNOWS_LAYERS = "config" in inspect.signature(DynamicCache.__init__).parameters
_KEYS_ALONE = [
    getattr(cache_utils, name)
    for name in ("DynamicLayer", "DynamicSlidingWindowLayer")  # the second from 4.56 on
    if hasattr(cache_utils, name)
]


def new_cache(config: Any) -> DynamicCache:
    """An empty KV cache. Before 4.56 it keeps all keys of a layer with a sliding window, and the
    mask hides those outside of it."""
    return DynamicCache(config=config) if _CACHE_KNOWS_LAYERS else DynamicCache()


def has_own_cache(causal_lm: Any) -> bool:
    """Whether only a class of the model's own can hold the states of its layers: those of Mamba or
    LFM2 before 5, which has layers of such states in every cache."""
    supports = getattr(causal_lm, "_supports_default_dynamic_cache", None)
    return supports is not None and not supports()


def keeps_keys_alone(cache: DynamicCache) -> bool:
    """Whether every layer of a cache holds keys and values, which a mask can hide, and no more."""
    # Exactly these classes: their subclasses have states beside the keys.
    return all(type(layer) in _KEYS_ALONE for layer in cache.layers)


def decoder_of(causal_lm: Any) -> Any:
    """The CausalLM without its output head."""
    if not hasattr(causal_lm, "get_decoder"):  # GPT-2, before 4.56
        return causal_lm.base_model
    decoder = causal_lm.get_decoder()
    return getattr(causal_lm, "model", causal_lm) if decoder is causal_lm else decoder


def dtype_option(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The argument of `from_pretrained` for the weights' dtype: `torch_dtype` before 4.56."""
    return {"dtype" if hasattr(PretrainedConfig(), "dtype") else "torch_dtype": dtype}


def mismatched_names(info: dict[str, Any]) -> list[str]:
    """Tensors of files in another shape than the model's, of what `output_loading_info` gives:
    with both shapes from 5 on, and by name alone before."""
    return [one if isinstance(one, str) else str(one[0]) for one in info["mismatched_keys"]]


def has_rotary_positions(config: Any) -> bool:
    """Whether a configuration is of a model with RoPE. Before 5 it has several names."""
    names = "rope_parameters", "rope_theta", "rope_scaling"
    return any(getattr(config, name, None) is not None for name in names)


def longrope_limits(rotary: nn.Module) -> list[int]:
    """Tokens beyond which texts have the other frequencies of LongRoPE, for each kind of layer of a
    rotary embedding that has it."""
    config: Any = rotary.config
    if not hasattr(config, "rope_parameters"):  # before 5
        limit = getattr(config, "original_max_position_embeddings", config.max_position_embeddings)
        return [int(limit)] if rotary.rope_type == "longrope" else []
    parameters = config.rope_parameters
    by_layer = parameters.values() if isinstance(rotary.rope_type, dict) else [parameters]
    return [
        int(one["original_max_position_embeddings"])
        for one in by_layer
        if isinstance(one, dict) and one.get("rope_type") == "longrope"
    ]
