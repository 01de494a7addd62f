"""A model that is ready to compute with."""

from dataclasses import dataclass
from typing import Any

import torch


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
