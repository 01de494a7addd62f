"""The shared-prefix forward pass: one row for a pair, the prompt computed once for both responses.

Dimensions: B pairs, C tokens whose keys and values are prefilled, L input tokens of a row, D hidden
size, V vocabulary, U predicting positions of all pairs of a batch one after the other.
`chesboard/forward/packing.py` shows a row.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from chesboard.forward import packing
from chesboard.forward.head_gram import measure_head
from chesboard.forward.logprobs import head_logits, token_logprobs
from chesboard.forward.rope import rope_of, text_lengths
from chesboard.forward.states import PairStates
from chesboard.model import (
    LoadedModel,
    autocast,
    decoder_of,
    head_of,
    reads_float32_with_narrow_weights,
)
from chesboard.pairs import TokenizedPair
from chesboard.transformers_api import new_cache

MIN_SAVED_TOKENS = {"cpu": 128, "cuda": 4096}
"""Input tokens that a common prefix must save in a batch to be worth a prefill of its own, which
reads all weights once more. Measured on a CPU; an estimate on a GPU."""
MIN_PREFILL_TOKENS = {"cpu": 256, "cuda": 1024}
"""Prompt tokens from which on it pays to prefill the beginning of every row without a mask: plain
causal attention does half the work, and the mask of the rest is small."""
FLOAT32_TAIL_SHARE = 1 / 8
"""Share of a batch's tokens up to which the tails (the tokens after the prompts) are computed in
float32 where all else is computed in a narrower dtype."""


class SharedPrefixForward:
    """Computes each prompt once, the batch's common prefix once, the head at predicting positions.

    Exact: attention is causal, so the keys and values of a common prefix are the same in every
    row. Gradients flow into it from all rows. Where the rows begin with long prompts that are not
    the same, these are at least computed without a mask.

    Scores of one-word responses are small differences of large numbers, in which the rounding of
    bfloat16 shows. Where a model with bfloat16 weights on a CPU reads pairs with short responses,
    the predicting tokens are computed in float32 after prompts in bfloat16. The prompts are the
    same for both responses, so most of their rounding cancels: on the paper's persona data the
    rank correlation with float32 is .9996 in place of .996 (measured).
    """

    kind = "shared prefix"

    def __init__(
        self,
        loaded: LoadedModel,
        min_saved_tokens: float | None = None,
        min_prefill_tokens: float | None = None,
        float32_tail_share: float = FLOAT32_TAIL_SHARE,
    ) -> None:
        """min_saved_tokens, min_prefill_tokens: as the constants of those names; infinity never
        prefills, None takes the device's default. float32_tail_share: 0 computes every token in
        the model's compute dtype."""
        device = loaded.device.type
        self._loaded = loaded
        self._min_saved_tokens = _or_default(min_saved_tokens, MIN_SAVED_TOKENS, device)
        self._min_prefill_tokens = _or_default(min_prefill_tokens, MIN_PREFILL_TOKENS, device)
        narrow = loaded.compute_dtype != torch.float32
        can_widen = narrow and reads_float32_with_narrow_weights(loaded.model)
        self._float32_tail_share = float32_tail_share if can_widen else 0.0

    @classmethod
    def without_prefill(cls, loaded: LoadedModel) -> "SharedPrefixForward":
        """Every row whole: no keys and values of one row serve another."""
        return cls(loaded, math.inf, math.inf, 0.0)

    def row_tokens(self, pair: TokenizedPair) -> int:
        return packing.row_tokens(pair)

    def prefilled_tokens(self, pairs: Sequence[TokenizedPair]) -> int:
        if self._computes_tails_in_float32(pairs):
            return sum(len(pair.prompt_ids) - 1 for pair in pairs)
        beginnings = self._beginnings(pairs)
        return len(pairs) * len(beginnings[0]) if beginnings else 0

    def __call__(
        self,
        pairs: Sequence[TokenizedPair],
        *,
        logprobs: bool = True,
        forks: bool = False,
        gram: bool = False,
    ) -> PairStates:
        # Where rotary positions depend on the length of the text, ByLengthForward sends only pairs
        # here whose two texts have the same.
        with rope_of(self._loaded.model, [max(text_lengths(pair)) for pair in pairs]):
            return self._states(pairs, logprobs=logprobs, forks=forks, gram=gram)

    def _states(
        self, pairs: Sequence[TokenizedPair], *, logprobs: bool, forks: bool, gram: bool
    ) -> PairStates:
        loaded = self._loaded
        decoder = decoder_of(loaded)
        float32_tails = self._computes_tails_in_float32(pairs)
        dtype = torch.float32 if float32_tails else loaded.compute_dtype
        # 1. Prefill: keys and values of what the rows begin with, if that is worth a pass.
        with autocast(loaded):
            if float32_tails:
                prefilled, cache = self._prefill_prompts(decoder, pairs)
            else:
                prefilled, cache = self._prefill_beginnings(decoder, pairs)
        # 2. The rest of every pair as one row, under a mask that hides each response from the
        #    other, through the decoder without its head.
        batch = packing.pack(pairs, loaded.device, prefilled)
        mask = packing.branch_mask(batch.segment_BL, prefilled)
        with nullcontext() if float32_tails else autocast(loaded):
            hidden_BLD = decoder(
                input_ids=batch.input_BL,
                attention_mask=packing.additive_mask(mask, dtype),
                position_ids=batch.position_BL,
                past_key_values=cache,
                use_cache=False,
            ).last_hidden_state
        # 3. The head at the predicting positions only.
        hidden_UD = hidden_BLD.flatten(0, 1).index_select(0, batch.predicting_U)
        head = head_of(loaded)
        assert head is not None, "select_forward allows this path only with a linear head"
        head = replace(head, dtype=dtype)
        logprobs_U2 = head_gram = None
        if gram:
            logprobs_U2, head_gram = measure_head(
                head, hidden_UD, batch.index, *packing.response_tokens(pairs, loaded.device)
            )
        elif logprobs:
            logprobs_U2 = token_logprobs(head, hidden_UD, batch.targets_U2)
        return PairStates(
            hidden_UD=hidden_UD,
            logprobs_U2=logprobs_U2,
            fork_logits_BV=(
                head_logits(head, hidden_UD.detach()[batch.index.fork_rows_B]) if forks else None
            ),
            index=batch.index,
            head_gram=head_gram,
        )

    def _computes_tails_in_float32(self, pairs: Sequence[TokenizedPair]) -> bool:
        """Whether the predicting tokens are few enough to be computed in float32."""
        if torch.is_grad_enabled() or not self._float32_tail_share:
            return False
        tail = max(packing.row_tokens(pair) - len(pair.prompt_ids) + 1 for pair in pairs)
        return tail <= self._float32_tail_share * max(map(packing.row_tokens, pairs))

    def _prefill_prompts(
        self, decoder: Any, pairs: Sequence[TokenizedPair]
    ) -> tuple[list[int], Any]:
        """Prefill all of each prompt but its last token, which predicts.

        Returns the number of prefilled tokens of each pair, and the KV cache in float32, padded at
        the right; the branch mask hides its padding.
        """
        common = packing.common_prefix(pairs)
        cache = self._prefill(decoder, [list(common)] if common else [], len(pairs))
        rest = [list(pair.prompt_ids[len(common) : -1]) for pair in pairs]
        longest = max(map(len, rest))
        if longest:
            padded = [ids + [0] * (longest - len(ids)) for ids in rest]
            input_BL = torch.tensor(padded, device=self._loaded.device)
            cache = prefill(decoder, input_BL, self._causal_mask(len(common), longest), cache)
        for layer in cache.layers if cache is not None else ():
            layer.keys, layer.values = layer.keys.float(), layer.values.float()
        return [len(pair.prompt_ids) - 1 for pair in pairs], cache

    def _causal_mask(self, prefilled: int, length: int) -> Tensor | None:
        """The additive mask of plain rows after so many cached tokens; None (attention is causal
        by itself) without such."""
        if not prefilled:
            return None
        plain_1L = torch.zeros(1, length, dtype=torch.int8, device=self._loaded.device)
        mask = packing.branch_mask(plain_1L, [prefilled])
        return packing.additive_mask(mask, self._loaded.compute_dtype)

    def _prefill_beginnings(
        self, decoder: Any, pairs: Sequence[TokenizedPair]
    ) -> tuple[list[int], Any]:
        """Prefill the same number of tokens of every row: the common prefix of all prompts, or a
        beginning of each, or nothing where neither is worth it."""
        beginnings = self._beginnings(pairs)
        length = len(beginnings[0]) if beginnings else 0
        return [length] * len(pairs), self._prefill(decoder, beginnings, len(pairs))

    def _beginnings(self, pairs: Sequence[TokenizedPair]) -> list[list[int]]:
        """One list of tokens for the whole batch, one for each pair, or none."""
        common_ids = self._to_multiple(packing.common_prefix(pairs))
        # Under dropout each row draws its own mask, so rows have no common keys and values.
        shareable = not (torch.is_grad_enabled() and _has_active_dropout(self._loaded))
        if shareable and 0 < self._min_saved_tokens <= len(common_ids) * (len(pairs) - 1):
            return [common_ids]
        shortest = min(pairs, key=lambda pair: len(pair.prompt_ids))
        length = len(self._to_multiple(shortest.prompt_ids[:-1]))
        if length < self._min_prefill_tokens:
            return []
        return [list(pair.prompt_ids[:length]) for pair in pairs]

    def _to_multiple(self, ids: Sequence[int]) -> list[int]:
        """As many of the first tokens as make a multiple of what the device's kernels want."""
        multiple = packing.PAD_MULTIPLE.get(self._loaded.device.type, 1)
        return list(ids[: len(ids) // multiple * multiple])

    def _prefill(self, decoder: Any, beginnings: list[list[int]], pairs: int) -> Any:
        """The KV cache of these beginnings, one for each of the batch's rows; None without any."""
        if not beginnings:
            return None
        cache = prefill(decoder, torch.tensor(beginnings, device=self._loaded.device))
        if len(beginnings) < pairs:
            cache.batch_repeat_interleave(pairs)
        return cache


def prefill(
    decoder: Any, input_BL: Tensor, mask_B1LK: Tensor | None = None, cache: Any = None
) -> Any:
    """Run the decoder and keep its KV cache: keys and values of these tokens, appended to those of
    `cache` (which is changed and returned) where there is one. K = cached tokens + L."""
    cache = new_cache(decoder.config) if cache is None else cache
    decoder(input_ids=input_BL, attention_mask=mask_B1LK, past_key_values=cache, use_cache=True)
    return cache


def _or_default(tokens: float | None, defaults: Mapping[str, int], device: str) -> float:
    return defaults.get(device, defaults["cuda"]) if tokens is None else tokens


def _has_active_dropout(loaded: LoadedModel) -> bool:
    """Whether the adapters' dropout is on; the model's own is always off (eval mode)."""
    return hasattr(loaded.model, "peft_config") and any(
        isinstance(module, torch.nn.Dropout) and module.training and module.p > 0
        for module in loaded.model.modules()
    )
