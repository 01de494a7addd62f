"""The result of a forward pass over pairs, and the interface that computes it.

Dimensions: B pairs, D hidden size, V vocabulary, U predicting positions of all pairs of a batch one
after the other, N response tokens of one side of all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from chesboard.pairs import TokenizedPair


@dataclass(frozen=True, slots=True)
class ResponseIndex:
    """Which of the U positions predict each response of each pair.

    `preferred_rows_N[i]` predicts a token of y+ of the batch's pair `preferred_pair_N[i]`; the
    tokens of a pair follow each other in order. `fork_rows_B` predict the tokens at the fork. All
    are int64 on the model's device. Positions may belong to both responses (up to the fork they do
    where the prefix is shared).
    """

    pairs: int
    preferred_rows_N: Tensor
    preferred_pair_N: Tensor
    dispreferred_rows_N: Tensor
    dispreferred_pair_N: Tensor
    fork_rows_B: Tensor


@dataclass(frozen=True, slots=True)
class HeadGram:
    """Inner products of the gradients of both responses' log-probabilities with respect to the
    unembedding, of each pair of a batch (`docs/theory.md`, equation 18); float64 on the CPU.

    preferred_B, dispreferred_B: squared norms. cross_B: of one with the other.
    """

    preferred_B: Tensor
    dispreferred_B: Tensor
    cross_B: Tensor


@dataclass(frozen=True, slots=True)
class PairStates:
    """Hidden states and log-probabilities of a batch of B pairs.

    `hidden_UD` is what the output head reads (after the final norm), in the dtype the model
    computes in. `logprobs_U2` (float32, nats) holds the log-probability of y+'s token in column 0
    and of y-'s in column 1; a column is defined only at the rows that the index names for that
    side. `fork_logits_BV` (float32) are the logits at the forks, without gradient. Either is None
    where it was not asked for.
    """

    hidden_UD: Tensor
    logprobs_U2: Tensor | None
    fork_logits_BV: Tensor | None
    index: ResponseIndex
    head_gram: HeadGram | None = None
    """Where it was asked for and the head is a linear layer."""

    def preferred_token_logprobs_N(self) -> Tensor:
        """float32 log-probability of each token of y+ of all pairs, in nats."""
        return self._token_logprobs(self.index.preferred_rows_N, 0)

    def dispreferred_token_logprobs_N(self) -> Tensor:
        """float32 log-probability of each token of y- of all pairs, in nats."""
        return self._token_logprobs(self.index.dispreferred_rows_N, 1)

    def preferred_logprobs_B(self) -> Tensor:
        """float32 sums over each pair's y+, in nats (`docs/theory.md`, equation 1)."""
        return _sum_by_pair(
            self.preferred_token_logprobs_N(), self.index.preferred_pair_N, self.index.pairs
        )

    def dispreferred_logprobs_B(self) -> Tensor:
        """float32 sums over each pair's y-, in nats."""
        return _sum_by_pair(
            self.dispreferred_token_logprobs_N(), self.index.dispreferred_pair_N, self.index.pairs
        )

    def tail_logprobs_B(self) -> tuple[Tensor, Tensor]:
        """Of each pair's y+ and y-: the part of the sum that its tokens past the length of the
        other response make up, in nats; 0 for the shorter (`docs/theory.md`, equation 30)."""
        index = self.index
        sides = (
            (self.preferred_token_logprobs_N(), index.preferred_pair_N),
            (self.dispreferred_token_logprobs_N(), index.dispreferred_pair_N),
        )
        counts = [torch.bincount(pair_N, minlength=index.pairs) for _, pair_N in sides]
        shorter_B = torch.minimum(*counts)
        tails = []
        for (values_N, pair_N), count_B in zip(sides, counts, strict=True):
            first_B = count_B.cumsum(0) - count_B  # the tokens of a pair follow each other
            position_N = torch.arange(len(pair_N), device=pair_N.device) - first_B[pair_N]
            in_tail_N = position_N >= shorter_B[pair_N]
            tails.append(_sum_by_pair(values_N.where(in_tail_N, 0.0), pair_N, index.pairs))
        return tails[0], tails[1]

    def _token_logprobs(self, rows_N: Tensor, column: int) -> Tensor:
        assert self.logprobs_U2 is not None, "the forward pass was not asked for log-probabilities"
        return self.logprobs_U2.view(-1).index_select(0, 2 * rows_N + column)


def _sum_by_pair(values_N: Tensor, pair_N: Tensor, pairs: int) -> Tensor:
    return values_N.new_zeros(pairs).index_add(0, pair_N, values_N)


class PairForward(Protocol):
    """Computes the states of a batch of pairs. Gradients flow where they are enabled."""

    kind: str

    def row_tokens(self, pair: TokenizedPair) -> int:
        """Input tokens that the pair takes up in a batch, without padding."""

    def prefilled_tokens(self, pairs: Sequence[TokenizedPair]) -> int:
        """Tokens of all rows of a batch whose keys and values are kept while it is computed."""

    def __call__(
        self,
        pairs: Sequence[TokenizedPair],
        *,
        logprobs: bool = True,
        forks: bool = False,
        gram: bool = False,
    ) -> PairStates:
        """logprobs: compute the log-probabilities of the response tokens. forks: compute the
        logits at the forks. gram: compute the inner products of the head's gradients, which is
        done without gradient."""
