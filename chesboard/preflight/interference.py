"""Token × token interference of a pair's two responses at the output head.

Entry (i, j) of (G+ G-^T) * (H+ H-^T) says how much a step that lowers token j of y- lowers token i
of y+, through the unembedding (`docs/theory.md`, equation 18). Column sums name the dispreferred
tokens that pull the preferred response down (NTHR's score, arXiv 2505.18830).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from chesboard.forward.head_gram import interference, pair_grams, rows_of_pairs
from chesboard.forward.states import PairForward
from chesboard.forward.two_pass import SAME_LOGPROB
from chesboard.model import LoadedModel, head_of
from chesboard.pairs import TokenizedPair

MOST_TOKENS = 256
"""Tokens of either response that a map shows; sums are over all of them."""


@dataclass(frozen=True, slots=True)
class InterferenceMap:
    """map_nm: float64 on the CPU, the first MOST_TOKENS tokens of y+ by those of y-.

    pulls_m: sums over all tokens of y+, of each shown token of y-. own: ||grad z+||^2, what raising
    y+ itself gives it; y+ falls at the first step of plain gradient descent where the sum over all
    of y- is more.
    """

    map_nm: Tensor
    pulls_m: Tensor
    own: float
    total: float


@torch.no_grad()
def interference_map(
    loaded: LoadedModel, forward: PairForward, pair: TokenizedPair, logprobs: tuple[float, float]
) -> InterferenceMap | None:
    """None where the model's logits are no linear function of its hidden states.

    logprobs: log p(y+) and log p(y-) as the model says them. Where the head alone says others, the
    model changes its logits afterwards.
    """
    head = head_of(loaded)
    if head is None:
        return None
    states = forward([pair], logprobs=False)
    (gram,) = pair_grams(head, states.hidden_UD, rows_of_pairs(states.index))
    preferred_n = torch.tensor(pair.preferred_ids, device=loaded.device)
    dispreferred_m = torch.tensor(pair.dispreferred_ids, device=loaded.device)
    responses = gram.responses(head, preferred_n, dispreferred_m)
    most = SAME_LOGPROB.get(head.dtype, SAME_LOGPROB[torch.bfloat16])
    for one, by_model in zip(responses, logprobs, strict=True):
        token_n = torch.arange(len(one.at_n), device=one.at_n.device)
        by_head = float(one.logprobs_Rn[one.at_n, token_n].double().sum())
        if not math.isclose(by_head, by_model, rel_tol=most, abs_tol=most * len(token_n)):
            return None
    preferred, dispreferred = responses
    whole_NM = interference(gram, preferred, dispreferred).cpu()
    return InterferenceMap(
        map_nm=whole_NM[:MOST_TOKENS, :MOST_TOKENS],
        pulls_m=whole_NM.sum(0)[:MOST_TOKENS],
        own=float(interference(gram, preferred, preferred).sum()),
        total=float(whole_NM.sum()),
    )
