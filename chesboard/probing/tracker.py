"""PositionTracker: one position's next-token distribution, followed through a run.

Dimensions: V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from chesboard.probing.ledger import (
    Ledger,
    kl_divergence,
    make_ledger,
    ranks,
    top_gainers,
    watched_tokens,
)
from chesboard.probing.ranks import spearman
from chesboard.records import (
    LedgerEntry,
    LedgerRecord,
    PredictedToken,
    RecentLedger,
    WatchedToken,
)
from chesboard.tokenization import token_text

MAX_WATCHED = 128
MAX_PREDICTED = 10
BYTES_PER_TOKEN = 16
"""Four float32 distributions are kept: initial, predicted, latest, and the one before."""


class PositionTracker:
    """A distribution over the vocabulary, compared with its initial and its previous state.

    Everything is float32 on the CPU. predicted_V: change predicted for a small step, up to a
    positive factor; None where theory makes no prediction. always: tokens to watch in any case.
    previous: the (step, distribution) that the next observation's recent ledger starts from;
    default: the initial one at step 0.
    """

    def __init__(
        self,
        tokenizer: Any,
        top: int,
        initial_V: Tensor,
        predicted_V: Tensor | None,
        always: Sequence[int],
        previous: tuple[int, Tensor] | None = None,
    ) -> None:
        self._tokenizer, self._top = tokenizer, top
        self.initial_V, self.predicted_V = initial_V.float(), predicted_V
        self.watched = watched_tokens(initial_V, predicted_V, always)[
            : max(MAX_WATCHED, len(set(always)))
        ]
        self.predicted = [] if predicted_V is None else top_gainers(predicted_V, MAX_PREDICTED)
        start = (0, self.initial_V)
        self._previous = self._latest = previous or start

    def previous(self, step: int) -> tuple[int, Tensor]:
        """The newest observation before this step, which its recent ledger compares with."""
        return self._latest if self._latest[0] < step else self._previous

    def observe(self, step: int, now_V: Tensor) -> LedgerRecord:
        """The ledgers of a step. Idempotent: observing a step again gives the same record."""
        since_step, since_V = self.previous(step)
        record = self._record(step, since_step, since_V, now_V)
        self._previous, self._latest = (since_step, since_V), (step, now_V.float())
        return record

    def _record(self, step: int, since_step: int, since_V: Tensor, now_V: Tensor) -> LedgerRecord:
        watched_probs = now_V[self.watched].tolist()
        argmax = int(now_V.argmax())
        argmax_token = token_text(self._tokenizer, argmax)
        argmax_logprob = now_V[argmax].double().log().item()
        if step == 0:
            return LedgerRecord(
                watched_probs,
                [],
                [],
                0.0,
                0.0,
                argmax_token=argmax_token,
                argmax_logprob=argmax_logprob,
                kl=0.0,
            )
        change_V = now_V.double() - self.initial_V.double()
        ledger = make_ledger(self.initial_V, now_V, self._top)
        recent = make_ledger(since_V, now_V, self._top)
        return LedgerRecord(
            watched_probs=watched_probs,
            gainers=self._entries(self.initial_V, now_V, ledger.gainers),
            losers=self._entries(self.initial_V, now_V, ledger.losers),
            rest_change=ledger.rest_change,
            moved_mass=ledger.moved_mass,
            recent=self._recent(since_step, since_V, now_V, recent),
            predicted_changes=change_V[self.predicted].tolist(),
            predicted_ranks=ranks(change_V, self.predicted) if self.predicted else [],
            rank_agreement=self._agreement(change_V),
            argmax_token=argmax_token,
            argmax_logprob=argmax_logprob,
            kl=kl_divergence(now_V, self.initial_V),
        )

    def _recent(
        self, since_step: int, since_V: Tensor, now_V: Tensor, ledger: Ledger
    ) -> RecentLedger:
        return RecentLedger(
            since_step=since_step,
            gainers=self._entries(since_V, now_V, ledger.gainers),
            losers=self._entries(since_V, now_V, ledger.losers),
            rest_change=ledger.rest_change,
            moved_mass=ledger.moved_mass,
        )

    def _agreement(self, change_V: Tensor) -> float | None:
        if self.predicted_V is None:
            return None
        return spearman(self.predicted_V[self.watched].tolist(), change_V[self.watched].tolist())

    def _entries(
        self, before_V: Tensor, now_V: Tensor, changes: Sequence[tuple[int, float]]
    ) -> list[LedgerEntry]:
        return [
            LedgerEntry(
                token_id=token_id,
                token=token_text(self._tokenizer, token_id),
                initial=before_V[token_id].item(),
                final=now_V[token_id].item(),
                change=change,
                predicted=self._predicted(token_id),
            )
            for token_id, change in changes
        ]

    def _predicted(self, token_id: int) -> float | None:
        return None if self.predicted_V is None else self.predicted_V[token_id].item()

    # --- records and checkpoints ----------------------------------------------------------------

    def describe_watched(self) -> list[WatchedToken]:
        """The watched tokens as ProbeRecord and PositionRecord hold them."""
        return [
            {
                "token_id": token_id,
                "token": token_text(self._tokenizer, token_id),
                "initial": self.initial_V[token_id].item(),
                "predicted": self._predicted(token_id),
            }
            for token_id in self.watched
        ]

    def describe_predicted(self) -> list[PredictedToken]:
        """The predicted gainers as ProbeRecord and PositionRecord hold them."""
        return [
            {
                "token_id": token_id,
                "token": token_text(self._tokenizer, token_id),
                "predicted": self._predicted(token_id),
            }
            for token_id in self.predicted
        ]

    def tensors(self, step: int) -> dict[str, Tensor]:
        """What a checkpoint at `step` must hold for `restore`."""
        tensors = {"initial": self.initial_V}
        if self.predicted_V is not None:
            tensors["predicted"] = self.predicted_V
        since_step, since_V = self.previous(step)
        if since_step > 0:
            tensors["earlier"] = since_V
        return tensors

    @classmethod
    def restore(
        cls,
        tokenizer: Any,
        top: int,
        tensors: Mapping[str, Tensor],
        previous_step: int,
        always: Sequence[int],
    ) -> "PositionTracker":
        """The tracker as it was when `tensors(step)` was called; previous_step: that of
        `previous(step)`. A run that resumes from the checkpoint observes `step` again."""
        previous = (previous_step, tensors["earlier"]) if previous_step > 0 else None
        return cls(tokenizer, top, tensors["initial"], tensors.get("predicted"), always, previous)


def max_positions(vocabulary: int, budget_bytes: int) -> int:
    """How many positions fit into a memory budget."""
    return budget_bytes // (BYTES_PER_TOKEN * vocabulary)
