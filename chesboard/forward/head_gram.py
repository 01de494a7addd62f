"""Inner products of the output head's gradients of a pair's two responses, from one forward pass.

Dimensions: U positions of a batch, R positions of one pair, S positions of several pairs that share
a tile, W words of one tile, D hidden size, V vocabulary, B pairs.

With respect to the unembedding, the gradient of a response's log-probability is a sum over its
positions k of (e_{y_k} - pi_k) h_k^T, so the inner product of two such gradients needs no gradient:

    <grad z_a, grad z_b> = sum over i in a, j in b of
        (1[a_i = b_j] - pi_i[b_j] - pi_j[a_i] + <pi_i, pi_j>) * <h_i, h_j>

Only <pi_i, pi_j> needs the vocabulary. It is accumulated over the same tiles of logits that give
the log-probabilities, unnormalized: exp(logit - m) with the largest logit m so far, rescaled as m
grows (docs/theory.md, equation 18). A tied embedding counts in its role as the output only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chesboard.forward.logprobs import (
    autocast_off,
    part_of,
    tile_height,
    tile_width,
    word_logits,
)
from chesboard.forward.states import HeadGram, ResponseIndex
from chesboard.model import Head


@dataclass(frozen=True, slots=True)
class PairRows:
    """The positions of one pair among the batch's, and which of them predict which response.

    rows_R are the batch's; preferred_n and dispreferred_m index into them.
    """

    rows_R: Tensor
    preferred_n: Tensor
    dispreferred_m: Tensor


@dataclass(frozen=True, slots=True)
class PairGram:
    """What is known of a pair's positions once all words were seen.

    hidden_RD: float32, as the head reads them. overlap_RR: <pi_i, pi_j>. normalizer_R: log of the
    softmax's denominator.
    """

    rows: PairRows
    hidden_RD: Tensor
    overlap_RR: Tensor
    normalizer_R: Tensor

    def log_probs(self, head: Head, tokens_T: Tensor) -> Tensor:
        """float32 log-probabilities of some tokens at each of the R positions, (R, T)."""
        bias_T = None if head.bias_V is None else head.bias_V[tokens_T]
        with autocast_off(self.hidden_RD):
            logits_RT = word_logits(
                head.products, self.hidden_RD, head.weight_VD[tokens_T], bias_T, head.dtype
            )
        return logits_RT - self.normalizer_R[:, None]

    def responses(
        self, head: Head, preferred_n: Tensor, dispreferred_m: Tensor
    ) -> tuple["Response", "Response"]:
        """Both responses by the ids of their tokens."""
        rows = self.rows
        return (
            Response(rows.preferred_n, preferred_n, self.log_probs(head, preferred_n)),
            Response(rows.dispreferred_m, dispreferred_m, self.log_probs(head, dispreferred_m)),
        )


@dataclass(frozen=True, slots=True)
class Response:
    """A response of a pair: its positions among the pair's R, its tokens, and the log-probability
    of each token at all R positions."""

    at_n: Tensor
    tokens_n: Tensor
    logprobs_Rn: Tensor


def rows_of_pairs(index: ResponseIndex) -> list[PairRows]:
    """Where each pair's positions are. Those that predict both responses stand there once."""
    sides = zip(
        by_pair(index.preferred_rows_N, index.preferred_pair_N, index.pairs),
        by_pair(index.dispreferred_rows_N, index.dispreferred_pair_N, index.pairs),
        strict=True,
    )
    found = []
    for preferred_n, dispreferred_m in sides:
        rows_R = torch.unique(torch.cat([preferred_n, dispreferred_m]))  # ascending
        found.append(
            PairRows(
                rows_R,
                torch.searchsorted(rows_R, preferred_n),
                torch.searchsorted(rows_R, dispreferred_m),
            )
        )
    return found


def by_pair(values_N: Tensor, pair_N: Tensor, pairs: int) -> tuple[Tensor, ...]:
    """The values of each pair; those of a pair follow each other."""
    return torch.split(values_N, torch.bincount(pair_N, minlength=pairs).tolist())


@torch.no_grad()
def measure_head(
    head: Head,
    hidden_UD: Tensor,
    index: ResponseIndex,
    preferred_N: Tensor,
    dispreferred_N: Tensor,
) -> tuple[Tensor, HeadGram]:
    """(logprobs_U2 as `token_logprobs` gives them, inner products of the head's gradients).

    preferred_N, dispreferred_N: the token ids of all responses, in the order of the index's rows.
    One pass over the vocabulary, without gradient; beyond a tile it holds R x R numbers a pair.
    """
    logprobs_U2 = hidden_UD.new_zeros((len(hidden_UD), 2), dtype=torch.float32)
    targets = zip(
        by_pair(preferred_N, index.preferred_pair_N, index.pairs),
        by_pair(dispreferred_N, index.dispreferred_pair_N, index.pairs),
        strict=True,
    )
    found = []
    for gram, (preferred_n, dispreferred_m) in zip(
        pair_grams(head, hidden_UD, rows_of_pairs(index)), targets, strict=True
    ):
        preferred, dispreferred = gram.responses(head, preferred_n, dispreferred_m)
        for column, one in enumerate((preferred, dispreferred)):
            token = torch.arange(len(one.at_n), device=one.at_n.device)
            logprobs_U2[gram.rows.rows_R[one.at_n], column] = one.logprobs_Rn[one.at_n, token]
        found.append(
            [
                interference(gram, one, other).sum()
                for one, other in (
                    (preferred, preferred),
                    (dispreferred, dispreferred),
                    (preferred, dispreferred),
                )
            ]
        )
    table_B3 = torch.stack([torch.stack(row) for row in found]).double().cpu()
    return logprobs_U2, HeadGram(*table_B3.unbind(1))


def interference(gram: PairGram, one: Response, other: Response) -> Tensor:
    """Every token of one response against every token of another: (G G'^T) * (H H'^T), float64.

    Entry (i, j) is how much a step that raises the log-probability of token j of the second raises
    that of token i of the first, through the head. Its sum is the inner product of the gradients.
    """
    same_nm = (one.tokens_n[:, None] == other.tokens_n).double()
    gradients_nm = (
        same_nm
        - other.logprobs_Rn[one.at_n].double().exp()  # pi_i[b_j]
        - one.logprobs_Rn[other.at_n].double().exp().T  # pi_j[a_i]
        + gram.overlap_RR[one.at_n][:, other.at_n].double()
    )
    hidden_nm = gram.hidden_RD[one.at_n].double() @ gram.hidden_RD[other.at_n].double().T
    return gradients_nm * hidden_nm


def pair_grams(head: Head, hidden_UD: Tensor, pairs: Sequence[PairRows]) -> Iterator[PairGram]:
    """The overlaps of the distributions at each pair's positions, several pairs a tile."""
    scaled_UD = head.scaled(hidden_UD)
    for together in _in_tiles(pairs, hidden_UD.device):
        hidden_SD = scaled_UD[torch.cat([pair.rows_R for pair in together])]
        sizes = [len(pair.rows_R) for pair in together]
        overlaps, normalizer_S = _overlaps(head, hidden_SD, sizes)
        parts = zip(
            together,
            torch.split(hidden_SD, sizes),
            overlaps,
            torch.split(normalizer_S, sizes),
            strict=True,
        )
        for pair, hidden_RD, overlap_RR, normalizer_R in parts:
            yield PairGram(pair, hidden_RD.float(), overlap_RR, normalizer_R)


def _in_tiles(pairs: Sequence[PairRows], device: torch.device) -> Iterator[list[PairRows]]:
    """As many whole pairs as a tile has room for, at least one."""
    most = tile_height(device)
    together: list[PairRows] = []
    for pair in pairs:
        if together and sum(len(other.rows_R) for other in together) + len(pair.rows_R) > most:
            yield together
            together = []
        together.append(pair)
    if together:
        yield together


def _overlaps(head: Head, hidden_SD: Tensor, sizes: list[int]) -> tuple[list[Tensor], Tensor]:
    """(<pi_i, pi_j> of each pair's positions, log of the softmax's denominator at all of them)."""
    float32 = {"dtype": torch.float32, "device": hidden_SD.device}
    overlaps = [torch.zeros(size, size, **float32) for size in sizes]  # type: ignore[call-overload]
    top_S = torch.full((len(hidden_SD),), -torch.inf, **float32)  # type: ignore[call-overload]
    total_S = torch.zeros(len(hidden_SD), **float32)  # type: ignore[call-overload]
    for logits_SW in _logits_by_tile(head, hidden_SD):
        higher_S = torch.maximum(top_S, logits_SW.amax(1))
        shrink_S = (top_S - higher_S).exp()  # 0 before the first tile
        top_S = higher_S
        weights_SW = logits_SW.sub_(top_S[:, None]).exp_()
        total_S = total_S * shrink_S + weights_SW.sum(1)
        parts = zip(
            overlaps, torch.split(shrink_S, sizes), torch.split(weights_SW, sizes), strict=True
        )
        for overlap_RR, shrink_R, weights_RW in parts:
            overlap_RR *= shrink_R[:, None] * shrink_R
            overlap_RR += head.products.linear(weights_RW, weights_RW)
    for overlap_RR, total_R in zip(overlaps, torch.split(total_S, sizes), strict=True):
        overlap_RR /= total_R[:, None] * total_R
    return overlaps, top_S + total_S.log()


def _logits_by_tile(head: Head, hidden_SD: Tensor) -> Iterator[Tensor]:
    """float32 logits of the head, a tile of words after the other."""
    width = tile_width(len(hidden_SD), hidden_SD.device)
    for left in range(0, len(head.weight_VD), width):
        part = slice(left, left + width)
        with autocast_off(hidden_SD):
            yield word_logits(
                head.products,
                hidden_SD,
                head.weight_VD[part],
                part_of(head.bias_V, part),
                head.dtype,
            )
