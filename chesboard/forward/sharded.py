"""The forward pass of a model whose weights FSDP2 spreads over processes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chesboard.forward.states import PairForward, PairStates
from chesboard.pairs import TokenizedPair
from chesboard.sharding import in_root_forward, reshard


class ShardedForward:
    """Another forward pass, run where weights can be gathered: every process calls it as often.

    Head and decoder are within one forward pass of the root, whose backward pass then brings the
    gradients of all weights back to the processes that hold them.
    """

    def __init__(self, model: nn.Module, forward: PairForward) -> None:
        self._model, self._forward = model, forward
        self.kind = forward.kind

    def row_tokens(self, pair: TokenizedPair) -> int:
        return self._forward.row_tokens(pair)

    def prefilled_tokens(self, pairs: Sequence[TokenizedPair]) -> int:
        return self._forward.prefilled_tokens(pairs)

    def __call__(
        self,
        pairs: Sequence[TokenizedPair],
        *,
        logprobs: bool = True,
        forks: bool = False,
        gram: bool = False,
    ) -> PairStates:
        found: list[PairStates] = []

        def work() -> tuple[Tensor, ...]:
            states = self._forward(pairs, logprobs=logprobs, forks=forks, gram=gram)
            found.append(states)
            return (states.hidden_UD if states.logprobs_U2 is None else states.logprobs_U2,)

        in_root_forward(self._model, work)
        if not torch.is_grad_enabled():  # else the backward pass does
            reshard(self._model)
        return found[0]
