"""Blockwise attention on a CPU without gradient: matrix products for a block of queries at a time.

PyTorch's own attention (SDPA) computes the scores of every key of a row where it is given a mask,
those after the query too, and multiplies bfloat16 slowly on processors without AMX. On rows of
dialogues this takes half of its time in bfloat16 and four fifths in float32, on prompts of 1,300
tokens in bfloat16 three quarters of it even where SDPA is told to be causal (measured). Where it
was not faster, SDPA is called.

Score and evaluate runs attend this way. In a training run the reference, the losses and the probes
all go through SDPA, so that the same weights give the same log-probabilities to the last bit.

Dimensions: B rows, H query heads, N key heads, G = H / N query heads that share a key head, L
queries, K keys, D head size, Q queries of a block, E keys that the last of these may attend to.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from chesboard.cpu.processor import capabilities
from chesboard.model import without_adapters

NAME = "chesboard_blocks"
"""The attention implementation's name in transformers' registry."""
BLOCK = 64
"""Queries of a block. The scores of a block should stay in the processor's cache."""


def install(model: Any) -> None:
    """Let the model attend by this module where it attends by SDPA; others stay as they are."""
    causal_lm = without_adapters(model)
    if causal_lm.config._attn_implementation == "sdpa":
        causal_lm.set_attn_implementation(NAME)


def uninstall(model: Any) -> None:
    """Let a model that attends by this module attend by SDPA again."""
    if is_installed(model):
        without_adapters(model).set_attn_implementation("sdpa")


def is_installed(model: Any) -> bool:
    return bool(without_adapters(model).config._attn_implementation == NAME)


def attend(
    query_BHLD: Tensor, key_BNKD: Tensor, value_BNKD: Tensor, mask_B1LK: Tensor | None, scale: float
) -> Tensor:
    """attended_BLHD = softmax(scale * query @ key.T + mask) @ value, in the values' dtype.

    The queries are the last L of the K tokens, and none of them may attend to tokens after its own:
    an additive mask, if there is one, must say so too. Keys after a block are not computed. Scores
    are rounded to the dtype of the factors, as are the weights made of them: in bfloat16 that
    leaves CHES as near to float32 as it is with SDPA (measured).
    """
    rows, heads, length, size = query_BHLD.shape
    key_heads, keys = key_BNKD.shape[1:3]
    grouped = (rows, key_heads, heads // key_heads)
    query_BNGLD = (query_BHLD * scale).reshape(*grouped, length, size)
    key_XDK = key_BNKD.flatten(0, 1).transpose(1, 2)  # X: the key heads of all rows
    value_XKD = value_BNKD.flatten(0, 1)
    attended_BLNGD = value_XKD.new_empty(rows, length, *grouped[1:], value_XKD.shape[-1])
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        # The block's last query is token K - L + stop - 1; no query of it attends further.
        block, seen = slice(start, stop), slice(0, keys - length + stop)
        # All query heads that share a key head are rows of one product.
        query_XMD = query_BNGLD[:, :, :, block].reshape(rows * key_heads, -1, size)  # M: G x Q
        scores_XME = torch.bmm(query_XMD, key_XDK[:, :, seen])
        scores_BNGQE = scores_XME.view(*grouped, stop - start, -1)
        if mask_B1LK is None:
            _mask_later(scores_BNGQE)
        else:
            scores_BNGQE += mask_B1LK[:, :, None, block, seen]
        weighted_XMD = torch.bmm(torch.softmax(scores_XME, -1), value_XKD[:, seen])
        weighted_BNGQD = weighted_XMD.view(*grouped, stop - start, -1)
        attended_BLNGD[:, block] = weighted_BNGQD.permute(0, 3, 1, 2, 4)
    return attended_BLNGD.flatten(2, 3)


def _mask_later(scores_BNGQE: Tensor) -> None:
    """Causal mask in place. The last Q of the keys are the queries' own tokens."""
    queries = scores_BNGQE.shape[-2]
    later_QQ = torch.ones(queries, queries, dtype=torch.bool).triu(1)
    scores_BNGQE[..., -queries:].masked_fill_(later_QQ, -torch.inf)


_UNSUPPORTED = ("position_bias", "softcap", "s_aux", "cache")
"""Arguments of a model's attention that `attend` does not implement."""


def _forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: `attend` where it is correct and faster, else SDPA."""
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    # The dtype that SDPA would multiply in: autocast narrows its factors.
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    if (
        torch.is_grad_enabled()
        or dropout
        or any(others.get(name) is not None for name in _UNSUPPORTED)
        or not causal
        or not _is_causal_mask(attention_mask, query, key)
        or not _is_faster(attention_mask, dtype)
    ):
        by_sdpa: tuple[Tensor, None] = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            **others,
        )
        return by_sdpa
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast("cpu", enabled=False):
        mask = None if attention_mask is None else attention_mask.to(dtype)
        return attend(query.to(dtype), key.to(dtype), value.to(dtype), mask, scale), None


def _is_causal_mask(mask: Tensor | None, query: Tensor, key: Tensor) -> bool:
    """Whether the mask is known to let no token attend to later ones: the additive masks of
    chesboard/forward/packing.py, and none at all. Those that transformers makes are boolean."""
    if mask is None:
        return query.shape[2] == key.shape[2]
    return mask.dtype != torch.bool


def _is_faster(mask: Tensor | None, dtype: torch.dtype) -> bool:
    """Measured on AMD's Zen 4. With AMX, where SDPA has other kernels, bfloat16 was not."""
    if dtype == torch.bfloat16:
        return not capabilities().get("amx_bf16")
    return dtype == torch.float32 and mask is not None


AttentionInterface.register(NAME, _forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
