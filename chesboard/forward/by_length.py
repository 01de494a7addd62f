"""The forward pass of models whose rotary positions depend on the length of the text."""

from collections.abc import Sequence

from chesboard.forward.rope import LengthDependentRope, text_lengths
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.states import PairForward, PairStates
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair


class ByLengthForward:
    """The shared prefix where both responses of every pair leave the prompt the same, else two
    passes.

    A prompt has other keys and values before a response that makes the text longer than the
    model's original context. So it is shared only where both texts have the same frequencies, and
    prompts of a batch share a prefill only where all of them do.
    """

    kind = "shared prefix"

    def __init__(
        self, loaded: LoadedModel, rope: LengthDependentRope, shared: SharedPrefixForward
    ) -> None:
        self._rope = rope
        self._shared = shared
        self._rows_only = SharedPrefixForward.without_prefill(loaded)
        self._reference = TwoPassForward(loaded)

    def row_tokens(self, pair: TokenizedPair) -> int:
        shares = self._rope.same_for_both(pair)
        return (self._shared if shares else self._reference).row_tokens(pair)

    def prefilled_tokens(self, pairs: Sequence[TokenizedPair]) -> int:
        return self._of(pairs).prefilled_tokens(pairs)

    def __call__(
        self,
        pairs: Sequence[TokenizedPair],
        *,
        logprobs: bool = True,
        forks: bool = False,
        gram: bool = False,
    ) -> PairStates:
        return self._of(pairs)(pairs, logprobs=logprobs, forks=forks, gram=gram)

    def _of(self, pairs: Sequence[TokenizedPair]) -> PairForward:
        if not all(map(self._rope.same_for_both, pairs)):
            return self._reference
        classes = {self._rope.length_class(text_lengths(pair)[0]) for pair in pairs}
        return self._shared if len(classes) == 1 else self._rows_only
