"""One forward pass for a pair: what both responses share is computed once.

Dimensions: B pairs, C common beginning of the batch's prompts, L input tokens of a row, D hidden
size, V vocabulary, U predicting positions of all pairs of a batch one after the other, N response
tokens of one side of all pairs. chesboard/forward/packing.py draws a row.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from chesboard.cpu import onednn as products
from chesboard.forward import ahead
from chesboard.forward import packing as layout
from chesboard.forward.logprobs import Head, head_logits, logprobs_of_logits, token_logprobs
from chesboard.forward.packing import ResponseIndex
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair


@dataclass(frozen=True, slots=True)
class PairStates:
    """What a forward pass over B pairs gives.

    `logprobs_U2` holds the log-probability of y+'s token in column 0 and of y-'s in column 1;
    a column means something only at the rows that the index names for that side.
    """

    hidden_UD: Tensor
    logprobs_U2: Tensor | None
    fork_logits_BV: Tensor | None
    index: ResponseIndex

    def preferred_token_logprobs_N(self) -> Tensor:
        return self._token_logprobs(self.index.preferred_rows_N, 0)

    def dispreferred_token_logprobs_N(self) -> Tensor:
        return self._token_logprobs(self.index.dispreferred_rows_N, 1)

    def preferred_logprobs_B(self) -> Tensor:
        """float32 sums over each pair's y+, in nats."""
        return _sum_by_pair(
            self.preferred_token_logprobs_N(), self.index.preferred_pair_N, self.index.pairs
        )

    def dispreferred_logprobs_B(self) -> Tensor:
        return _sum_by_pair(
            self.dispreferred_token_logprobs_N(), self.index.dispreferred_pair_N, self.index.pairs
        )

    def _token_logprobs(self, rows_N: Tensor, column: int) -> Tensor:
        assert self.logprobs_U2 is not None, "the forward pass was not asked for log-probabilities"
        return self.logprobs_U2.view(-1).index_select(0, 2 * rows_N + column)


def _sum_by_pair(values_N: Tensor, pair_N: Tensor, pairs: int) -> Tensor:
    return values_N.new_zeros(pairs).index_add(0, pair_N, values_N)


class PairForward(Protocol):
    """Computes the states of a batch of pairs. Gradients flow where they are enabled."""

    kind: str

    def row_tokens(self, pair: TokenizedPair) -> int:
        """Input tokens that the pair takes in a batch, padding apart."""

    def __call__(
        self, pairs: Sequence[TokenizedPair], *, logprobs: bool = True, forks: bool = False
    ) -> PairStates: ...


def computing(loaded: LoadedModel) -> AbstractContextManager[Any]:
    """Autocast where the model computes in a narrower dtype than its weights have."""
    weights = next(loaded.model.parameters()).dtype
    if weights == loaded.compute_dtype:
        return nullcontext()
    return torch.autocast(loaded.device.type, dtype=loaded.compute_dtype)


def causal_model(loaded: LoadedModel) -> Any:
    """The CausalLM itself, without the wrapper that adapters put around it."""
    model = loaded.model
    return model.get_base_model() if hasattr(model, "peft_config") else model


def decoder_of(loaded: LoadedModel) -> Any:
    """The CausalLM without its head."""
    model = causal_model(loaded)
    decoder = model.get_decoder()
    return getattr(model, "model", model) if decoder is model else decoder


def head_of(loaded: LoadedModel) -> Head | None:
    """The model's unembedding, or None where it is no plain linear layer."""
    model = causal_model(loaded)
    layer = model.get_output_embeddings()
    if type(layer) not in (torch.nn.Linear, products.Linear):
        return None
    return Head(layer.weight, layer.bias, loaded.compute_dtype, _logit_scale(model.config))


def _logit_scale(config: Any) -> float:
    """What the model multiplies its logits by (Cohere) or divides them by (Granite)."""
    factor, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    return float(factor or 1.0) / float(divisor or 1.0)


def unembedding_VD(loaded: LoadedModel) -> Tensor:
    """The rows W_z of design's theory."""
    weight: Tensor = causal_model(loaded).get_output_embeddings().weight
    return weight.detach()


SMALLEST_SAVING = {"cpu": 128, "cuda": 4096}
"""Tokens that a common beginning must save in a batch to be worth a forward pass of its own, which
reads all weights once more. On a CPU measured; on a GPU an estimate."""
SMALLEST_START = {"cpu": 256, "cuda": 1024}
"""Tokens from which on it pays to compute the start of all rows, where they hold prompts only,
without a mask: plain causal attention does half the work, and the mask of the rest is small."""


SHORT_ENDS = 1 / 8
"""Share of a batch's tokens up to which its ends are computed in float32 when all else is not."""


class SharedPrefixForward:
    """Prompts once a pair, their common beginning once a batch, the head at predicting positions.

    Exact: attention is causal, so the keys and values of a common beginning are the same in every
    row. Gradients flow into it from all rows. Where the rows begin with long prompts that are not
    the same, these are at least computed without a mask.

    Scores of one-word responses are small differences of large numbers, in which the rounding of
    bfloat16 shows. Where a model with such weights reads on a CPU what ends in short responses,
    the tokens that predict are computed in float32 behind prompts in bfloat16. These are the same
    for both responses, so that most of their rounding cancels: on the paper's persona data the
    rank correlation with float32 is .9996 in place of .996 (measured).
    """

    kind = "shared prefix"

    def __init__(
        self,
        loaded: LoadedModel,
        smallest_saving: float | None = None,
        smallest_start: float | None = None,
        short_ends: float = SHORT_ENDS,
    ) -> None:
        """smallest_saving, smallest_start: in tokens; infinity never computes anything ahead of
        the rows, None leaves it to the device. short_ends: zero never computes ends apart."""
        device = loaded.device.type
        self._loaded = loaded
        self._smallest_saving = _or_default(smallest_saving, SMALLEST_SAVING, device)
        self._smallest_start = _or_default(smallest_start, SMALLEST_START, device)
        narrow = loaded.compute_dtype != torch.float32 and products.widens(loaded.model)
        self._short_ends = short_ends if narrow else 0.0

    def row_tokens(self, pair: TokenizedPair) -> int:
        return layout.row_tokens(pair)

    def __call__(
        self, pairs: Sequence[TokenizedPair], *, logprobs: bool = True, forks: bool = False
    ) -> PairStates:
        loaded = self._loaded
        exact_ends = self._has_short_ends(pairs)
        ends_dtype = torch.float32 if exact_ends else loaded.compute_dtype
        decoder = decoder_of(loaded)
        with computing(loaded):
            if exact_ends:
                starts, past = self._prompts_ahead(decoder, pairs)
            else:
                starts, past = self._starts_ahead(decoder, pairs)
        rows = layout.lay_out(pairs, loaded.device, starts)
        mask = layout.branch_mask(rows.segment_BL, starts)
        with nullcontext() if exact_ends else computing(loaded):
            hidden_BLD = decoder(
                input_ids=rows.input_BL,
                attention_mask=layout.additive(mask, ends_dtype),
                position_ids=rows.position_BL,
                past_key_values=past,
                use_cache=False,
            ).last_hidden_state
        hidden_UD = hidden_BLD.flatten(0, 1).index_select(0, rows.predicting_U)
        head = head_of(loaded)
        assert head is not None, "choose_forward allows this path only with a linear head"
        head = replace(head, dtype=ends_dtype)
        return PairStates(
            hidden_UD=hidden_UD,
            logprobs_U2=token_logprobs(head, hidden_UD, rows.targets_U2) if logprobs else None,
            fork_logits_BV=(
                head_logits(head, hidden_UD.detach()[rows.index.fork_rows_B]) if forks else None
            ),
            index=rows.index,
        )

    def _has_short_ends(self, pairs: Sequence[TokenizedPair]) -> bool:
        """Whether the tokens that predict are few enough to be computed in float32."""
        if torch.is_grad_enabled() or not self._short_ends:
            return False
        ends = max(layout.row_tokens(pair) - len(pair.prompt_ids) + 1 for pair in pairs)
        return ends <= self._short_ends * max(map(layout.row_tokens, pairs))

    def _prompts_ahead(self, decoder: Any, pairs: Sequence[TokenizedPair]) -> tuple[list[int], Any]:
        """All of each prompt but its last token: how much that is, and its keys and values in
        float32, padded at the right."""
        common = layout.common_beginning(pairs)
        past = self._keys_and_values(decoder, [list(common)] if common else [], len(pairs))
        rest = [list(pair.prompt_ids[len(common) : -1]) for pair in pairs]
        longest = max(map(len, rest))
        if longest:
            padded = [ids + [0] * (longest - len(ids)) for ids in rest]
            input_BL = torch.tensor(padded, device=self._loaded.device)
            past = ahead.keep(decoder, input_BL, self._behind(len(common), longest), past)
        for layer in past.layers if past is not None else ():
            layer.keys, layer.values = layer.keys.float(), layer.values.float()
        return [len(pair.prompt_ids) - 1 for pair in pairs], past

    def _behind(self, start: int, length: int) -> Tensor | None:
        """The mask of a plain row behind so many tokens. Without them attention needs none."""
        if not start:
            return None
        plain_1L = torch.zeros(1, length, dtype=torch.int8, device=self._loaded.device)
        mask = layout.branch_mask(plain_1L, [start])
        return layout.additive(mask, self._loaded.compute_dtype)

    def _starts_ahead(self, decoder: Any, pairs: Sequence[TokenizedPair]) -> tuple[list[int], Any]:
        """What is computed ahead of the rows, all of one length: the beginning that all prompts
        have in common, or one start for each pair, or nothing where neither is worth it."""
        starts = self._starts(pairs)
        length = len(starts[0]) if starts else 0
        return [length] * len(pairs), self._keys_and_values(decoder, starts, len(pairs))

    def _starts(self, pairs: Sequence[TokenizedPair]) -> list[list[int]]:
        common_ids = self._multiple(layout.common_beginning(pairs))
        alike = not (torch.is_grad_enabled() and _drops_out(self._loaded))  # else each its own
        if alike and 0 < self._smallest_saving <= len(common_ids) * (len(pairs) - 1):
            return [common_ids]
        shortest = min(pairs, key=lambda pair: len(pair.prompt_ids))
        start = len(self._multiple(shortest.prompt_ids[:-1]))
        if start < self._smallest_start:
            return []
        return [list(pair.prompt_ids[:start]) for pair in pairs]

    def _multiple(self, ids: Sequence[int]) -> list[int]:
        multiple = layout.PAD_MULTIPLE.get(self._loaded.device.type, 1)
        return list(ids[: len(ids) // multiple * multiple])

    def _keys_and_values(self, decoder: Any, starts: list[list[int]], pairs: int) -> Any:
        """What every layer keeps of the starts, for each of the batch's rows."""
        if not starts:
            return None
        input_SC = torch.tensor(starts, device=self._loaded.device)
        past = ahead.keep(decoder, input_SC)
        if len(starts) < pairs:
            past.batch_repeat_interleave(pairs)
        return past


def _or_default(tokens: float | None, defaults: Mapping[str, int], device: str) -> float:
    return defaults.get(device, defaults["cuda"]) if tokens is None else tokens


def _drops_out(loaded: LoadedModel) -> bool:
    """Whether adapters' dropout is on: the model's own is off throughout."""
    return hasattr(loaded.model, "peft_config") and any(
        isinstance(module, torch.nn.Dropout) and module.training and module.p > 0
        for module in loaded.model.modules()
    )


class TwoForwards:
    """Each response behind its own copy of the prompt, through the model's own head.

    For models that can't take the mask or whose logits are not a plain linear map.
    """

    kind = "two forwards"

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def row_tokens(self, pair: TokenizedPair) -> int:
        longest = max(len(pair.preferred_ids), len(pair.dispreferred_ids))
        return 2 * (len(pair.prompt_ids) + longest - 1)

    def __call__(
        self, pairs: Sequence[TokenizedPair], *, logprobs: bool = True, forks: bool = False
    ) -> PairStates:
        preferred = self._side(pairs, [pair.preferred_ids for pair in pairs])
        dispreferred = self._side(pairs, [pair.dispreferred_ids for pair in pairs])
        index = layout.two_row_index(pairs, self._loaded.device)
        logprobs_U2 = fork_logits_BV = None
        if logprobs:
            logprobs_U2 = torch.cat(
                [
                    logprobs_of_logits(side.logits_NV, side.targets_N[:, None].expand(-1, 2))
                    for side in (preferred, dispreferred)
                ]
            )
        if forks:
            fork_logits_BV = preferred.logits_NV.detach()[index.fork_rows_B].float()
        return PairStates(
            hidden_UD=torch.cat([preferred.hidden_ND, dispreferred.hidden_ND]),
            logprobs_U2=logprobs_U2,
            fork_logits_BV=fork_logits_BV,
            index=index,
        )

    def _side(self, pairs: Sequence[TokenizedPair], responses: Sequence[Sequence[int]]) -> "_Side":
        device = self._loaded.device
        rows = [
            [*pair.prompt_ids, *response[:-1]]
            for pair, response in zip(pairs, responses, strict=True)
        ]
        length = max(map(len, rows))
        input_BL = np.zeros((len(rows), length), dtype=np.int64)
        mask_BL = np.zeros((len(rows), length), dtype=np.int64)
        predicting: list[int] = []
        for b, row in enumerate(rows):
            input_BL[b, : len(row)] = row
            mask_BL[b, : len(row)] = 1
            first = b * length + len(pairs[b].prompt_ids) - 1
            predicting.extend(range(first, first + len(responses[b])))
        hidden_BLD, logits_BLV = self._run(
            torch.from_numpy(input_BL).to(device), torch.from_numpy(mask_BL).to(device)
        )
        predicting_N = torch.tensor(predicting, device=device)
        targets = [token_id for response in responses for token_id in response]
        return _Side(
            hidden_ND=hidden_BLD.flatten(0, 1).index_select(0, predicting_N),
            logits_NV=logits_BLV.flatten(0, 1).index_select(0, predicting_N),
            targets_N=torch.tensor(targets, device=device),
        )

    def _run(self, input_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and logits of the model's own forward pass, which runs once. A hidden
        state is what the head reads, whatever the model calls its parts."""
        model = causal_model(self._loaded)
        seen: list[Tensor] = []

        def keep(_module: Any, inputs: Any) -> None:
            seen.append(inputs[0])

        hook = model.get_output_embeddings().register_forward_pre_hook(keep)
        try:
            with computing(self._loaded):
                logits = model(input_ids=input_BL, attention_mask=mask_BL, use_cache=False).logits
        finally:
            hook.remove()
        return seen[0], logits


@dataclass(frozen=True, slots=True)
class _Side:
    hidden_ND: Tensor
    logits_NV: Tensor
    targets_N: Tensor
