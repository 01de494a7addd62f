"""A loaded causal language model and its parts: decoder, output head, autocast.

Dimensions: U positions, D hidden size, V vocabulary.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chesboard import transformers_api
from chesboard.products import TORCH_PRODUCTS, Products
from chesboard.sharding import layer_class, whole_shape, whole_weight


@dataclass
class LoadedModel:
    """A causal language model in eval mode on its device, with its tokenizer.

    `model` is replaced when adapters are added to it. Where `compute_dtype` is narrower than
    the weights, forward passes run under autocast.
    """

    model: Any  # a transformers CausalLM, or a PeftModel around one
    tokenizer: Any
    device: torch.device
    compute_dtype: torch.dtype
    name: str
    notes: tuple[str, ...] = ()
    """What is to be said of the model before its numbers, as sentences."""


@dataclass(frozen=True, slots=True)
class Head:
    """The unembedding: logits = scale * hidden @ weight.T + bias, computed in `dtype`."""

    weight_VD: Tensor
    bias_V: Tensor | None
    dtype: torch.dtype
    scale: float = 1.0
    products: Products = TORCH_PRODUCTS

    def scaled(self, hidden_UD: Tensor) -> Tensor:
        """The hidden states times `scale`: the scale is applied to them, not to V logits."""
        return hidden_UD if self.scale == 1.0 else hidden_UD * self.scale


def autocast(loaded: LoadedModel) -> AbstractContextManager[Any]:
    """torch.autocast where the model computes in a narrower dtype than its weights have."""
    weights = next(loaded.model.parameters()).dtype
    if weights == loaded.compute_dtype:
        return nullcontext()
    return torch.autocast(loaded.device.type, dtype=loaded.compute_dtype)


def without_adapters(model: Any) -> Any:
    """The CausalLM itself, without the PeftModel that may be around it. Adapters stay active."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def causal_model(loaded: LoadedModel) -> Any:
    """The CausalLM of a loaded model, without the wrapper that adapters put around it."""
    return without_adapters(loaded.model)


def embedding_rows(model: Any) -> int:
    """How many tokens a CausalLM, or a PeftModel around one, has embeddings of."""
    return whole_shape(without_adapters(model).get_input_embeddings().weight)[0]


def max_positions(loaded: LoadedModel) -> int | None:
    """The context length of a model with learned absolute positions; None with RoPE or the like,
    which have no table that could end."""
    config = causal_model(loaded).config.get_text_config()
    if transformers_api.has_rotary_positions(config):
        return None
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit


def decoder_of(loaded: LoadedModel) -> Any:
    """The CausalLM without its output head."""
    return transformers_api.decoder_of(causal_model(loaded))


def head_of(loaded: LoadedModel) -> Head | None:
    """The model's unembedding, or None where its logits are no linear map of the hidden states."""
    model = causal_model(loaded)
    layer = model.get_output_embeddings()
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None):  # Gemma 2
        return None
    # Subclasses of Linear may compute something else (quantized layers do). One that computes the
    # same by another backend says so by naming its products.
    products = getattr(layer, "products", None)
    if layer_class(layer) is not torch.nn.Linear and products is None:
        return None
    return Head(
        whole_weight(layer.weight),
        None if layer.bias is None else whole_weight(layer.bias),
        loaded.compute_dtype,
        _logit_scale(model.config),
        products or TORCH_PRODUCTS,
    )


def _logit_scale(config: Any) -> float:
    """What the model multiplies its logits by (Cohere) or divides them by (Granite)."""
    factor, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    return float(factor or 1.0) / float(divisor or 1.0)


def unembedding_VD(loaded: LoadedModel) -> Tensor:
    """The unembedding's rows W_z (`docs/theory.md`, equation 10), in the weights' dtype."""
    return whole_weight(causal_model(loaded).get_output_embeddings().weight).detach()


def reads_float32_with_narrow_weights(model: torch.nn.Module) -> bool:
    """Whether float32 states can go through the model's bfloat16 weights when autocast is off.

    True where linear layers with bfloat16 weights say by their attribute `widens_weights` that they
    multiply a float32 input in float32 (those of `chesboard.cpu` do).
    """
    return any(
        getattr(module, "widens_weights", False) and module.weight.dtype == torch.bfloat16
        for module in model.modules()
    )
