"""One position whose distribution is followed through a run: its ledgers and what theory says.

Dimensions: V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from chesboard.probing.ledger import (
    Ledger,
    make_ledger,
    rank_agreement,
    ranks,
    top_gainers,
    watched_tokens,
)
from chesboard.records import LedgerEntry, LedgerRecord, RecentLedger
from chesboard.tokenization import token_text

MOST_WATCHED = 128
MOST_PREDICTED = 10
BYTES_A_TOKEN = 16
"""Four float32 distributions are kept: at first, predicted, now, and at the previous record."""


class Tracked:
    """A distribution over the vocabulary, compared with its start and its previous record.

    Everything is float32 on the CPU. predicted_V: change predicted for a small step, up to a
    positive factor; None where theory says nothing. always: tokens to watch in any case.
    """

    def __init__(
        self,
        tokenizer: Any,
        top: int,
        initial_V: Tensor,
        predicted_V: Tensor | None,
        always: Sequence[int],
        earlier: tuple[int, Tensor] | None = None,
    ) -> None:
        self._tokenizer, self._top = tokenizer, top
        self.initial_V, self.predicted_V = initial_V.float(), predicted_V
        self.watched = watched_tokens(initial_V, predicted_V, always)[
            : max(MOST_WATCHED, len(set(always)))
        ]
        self.predicted = [] if predicted_V is None else top_gainers(predicted_V, MOST_PREDICTED)
        start = (0, self.initial_V)
        self._previous = self._latest = earlier or start

    def before(self, step: int) -> tuple[int, Tensor]:
        """The newest record of a step earlier than this one: what its recent ledger starts from."""
        return self._latest if self._latest[0] < step else self._previous

    def observe(self, step: int, now_V: Tensor) -> LedgerRecord:
        """The ledgers of a step. Asking for the same step again gives the same."""
        since_step, since_V = self.before(step)
        record = self._record(step, since_step, since_V, now_V)
        self._previous, self._latest = (since_step, since_V), (step, now_V.float())
        return record

    def _record(self, step: int, since_step: int, since_V: Tensor, now_V: Tensor) -> LedgerRecord:
        watched_probs = now_V[self.watched].tolist()
        if step == 0:
            return LedgerRecord(watched_probs, [], [], 0.0, 0.0)
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
        return rank_agreement(
            self.predicted_V[self.watched].tolist(), change_V[self.watched].tolist()
        )

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

    # --- what is stored of it ---------------------------------------------------------------

    def describe_watched(self) -> list[dict[str, Any]]:
        return [
            {
                "token_id": token_id,
                "token": token_text(self._tokenizer, token_id),
                "initial": self.initial_V[token_id].item(),
                "predicted": self._predicted(token_id),
            }
            for token_id in self.watched
        ]

    def describe_predicted(self) -> list[dict[str, Any]]:
        return [
            {
                "token_id": token_id,
                "token": token_text(self._tokenizer, token_id),
                "predicted": self._predicted(token_id),
            }
            for token_id in self.predicted
        ]

    def tensors(self, step: int) -> dict[str, Tensor]:
        """What a checkpoint at `step` must keep: see `restore`."""
        kept = {"initial": self.initial_V}
        if self.predicted_V is not None:
            kept["predicted"] = self.predicted_V
        since_step, since_V = self.before(step)
        if since_step > 0:
            kept["earlier"] = since_V
        return kept

    @classmethod
    def restore(
        cls,
        tokenizer: Any,
        top: int,
        tensors: Mapping[str, Tensor],
        earlier_step: int,
        always: Sequence[int],
    ) -> "Tracked":
        """As it was when `tensors(step)` was taken, `earlier_step` being `before(step)`'s. That
        step itself is observed again by whoever goes on from the checkpoint."""
        earlier = (earlier_step, tensors["earlier"]) if earlier_step > 0 else None
        return cls(tokenizer, top, tensors["initial"], tensors.get("predicted"), always, earlier)


def most_positions(vocabulary: int, budget_bytes: int) -> int:
    """How many positions fit into so much memory."""
    return budget_bytes // (BYTES_A_TOKEN * vocabulary)
