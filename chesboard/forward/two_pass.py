"""The reference forward pass: each response after its own copy of the prompt, with the model's
own head.

Dimensions: B pairs, L input tokens of a row, D hidden size, V vocabulary, N response tokens of one
side of all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chesboard.forward.head_gram import measure_head
from chesboard.forward.logprobs import logprobs_of_logits
from chesboard.forward.packing import two_pass_index
from chesboard.forward.rope import rope_of
from chesboard.forward.states import HeadGram, PairStates, ResponseIndex
from chesboard.model import LoadedModel, autocast, causal_model, head_of
from chesboard.pairs import TokenizedPair

SAME_LOGPROB = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Difference in nats, or relative, up to which the head alone and the model say the same."""


class TwoPassForward:
    """Two passes for a batch of pairs: prompts with preferred, then with dispreferred responses.

    For models that cannot use the branch mask or whose logits are not a linear map of the hidden
    states, and as the reference that `SharedPrefixForward` is compared with.
    """

    kind = "two forwards"

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def row_tokens(self, pair: TokenizedPair) -> int:
        longest = max(len(pair.preferred_ids), len(pair.dispreferred_ids))
        return 2 * (len(pair.prompt_ids) + longest - 1)

    def prefilled_tokens(self, pairs: Sequence[TokenizedPair]) -> int:
        return 0

    def __call__(
        self,
        pairs: Sequence[TokenizedPair],
        *,
        logprobs: bool = True,
        forks: bool = False,
        gram: bool = False,
    ) -> PairStates:
        preferred = self._side(pairs, [pair.preferred_ids for pair in pairs])
        dispreferred = self._side(pairs, [pair.dispreferred_ids for pair in pairs])
        index = two_pass_index(pairs, self._loaded.device)
        logprobs_U2 = fork_logits_BV = None
        if logprobs:
            # Each position predicts a token of one response only; both columns hold that one.
            logprobs_U2 = torch.cat(
                [
                    logprobs_of_logits(side.logits_NV, side.targets_N[:, None].expand(-1, 2))
                    for side in (preferred, dispreferred)
                ]
            )
        if forks:
            fork_logits_BV = preferred.logits_NV.detach()[index.fork_rows_B].float()
        hidden_UD = torch.cat([preferred.hidden_ND, dispreferred.hidden_ND])
        head_gram = self._gram(hidden_UD, index, preferred, dispreferred) if gram else None
        return PairStates(
            hidden_UD=hidden_UD,
            logprobs_U2=logprobs_U2,
            fork_logits_BV=fork_logits_BV,
            index=index,
            head_gram=head_gram,
        )

    def _gram(
        self, hidden_UD: Tensor, index: ResponseIndex, preferred: "_Side", dispreferred: "_Side"
    ) -> HeadGram | None:
        """None where the head is no linear layer, or the model changes its logits afterwards (as
        Gemma 2 caps them): the head alone then gives other log-probabilities than the model."""
        head = head_of(self._loaded)
        if head is None:
            return None
        tokens = preferred.targets_N, dispreferred.targets_N
        logprobs_U2, head_gram = measure_head(head, hidden_UD.detach(), index, *tokens)
        n = len(preferred.targets_N)
        by_head_N = torch.cat([logprobs_U2[:n, 0], logprobs_U2[n:, 1]])
        by_model_N = torch.cat(
            [
                logprobs_of_logits(side.logits_NV.detach(), side.targets_N[:, None])[:, 0]
                for side in (preferred, dispreferred)
            ]
        )
        most = SAME_LOGPROB.get(head.dtype, SAME_LOGPROB[torch.bfloat16])
        is_same = torch.allclose(by_head_N, by_model_N, rtol=most, atol=most)
        return head_gram if is_same else None

    def _side(self, pairs: Sequence[TokenizedPair], responses: Sequence[Sequence[int]]) -> "_Side":
        """Hidden states and logits at the predicting positions of one response of each pair."""
        device = self._loaded.device
        # The last token of a response predicts nothing that is asked, so it is not an input.
        rows = [
            [*pair.prompt_ids, *response[:-1]]
            for pair, response in zip(pairs, responses, strict=True)
        ]
        length = max(map(len, rows))
        input_BL = np.zeros((len(rows), length), dtype=np.int64)
        mask_BL = np.zeros((len(rows), length), dtype=np.int64)
        predicting: list[int] = []  # indices into the flattened B x L
        for b, row in enumerate(rows):
            input_BL[b, : len(row)] = row
            mask_BL[b, : len(row)] = 1
            first = b * length + len(pairs[b].prompt_ids) - 1  # the last prompt token
            predicting.extend(range(first, first + len(responses[b])))
        with rope_of(self._loaded.model, [len(row) + 1 for row in rows]):  # the last token, too
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
        """Hidden states and logits from one run of the model's own forward pass.

        The hidden states are recorded where the output head reads them, so that this holds for any
        architecture, whatever its modules are called.
        """
        model = causal_model(self._loaded)
        recorded: list[Tensor] = []

        def record(_module: Any, inputs: Any) -> None:
            # The last one is this run's: others may have read the head while it waited for a layer.
            recorded[:] = inputs[:1]

        hook = model.get_output_embeddings().register_forward_pre_hook(record)
        try:
            with autocast(self._loaded):
                logits = model(input_ids=input_BL, attention_mask=mask_BL, use_cache=False).logits
        finally:
            hook.remove()
        return recorded[0], logits


@dataclass(frozen=True, slots=True)
class _Side:
    hidden_ND: Tensor
    logits_NV: Tensor
    targets_N: Tensor
