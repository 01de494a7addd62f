"""The reference pass: log-probabilities of the trained pairs before training changes the model."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from chesboard.forward.batching import TokenBudget
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import ReferenceRecord
from chesboard.reporting import Control, Reporter
from worker.training.sharing import ALONE, Ranks, in_shared_batches
from worker.training.weights import reference_model


class ReferenceLogprobs(NamedTuple):
    """Of a pair's responses, in nats. *_tail: the part of the tokens past the length of the other
    response; None where the objective does not need it."""

    preferred: float
    dispreferred: float
    preferred_tail: float | None = None
    dispreferred_tail: float | None = None


Reference = dict[int, ReferenceLogprobs]
"""pair → log-probabilities under the reference model."""


class RunReference:
    """The reference of a run's pairs: what is known of it, and the pass for what is not."""

    def __init__(
        self,
        loaded: LoadedModel,
        forward: PairForward,
        pairs: Sequence[TokenizedPair],
        budget: TokenBudget,
        reporter: Reporter,
        control: Control,
        known: Mapping[int, tuple[Any, ...]],
        *,
        tails: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        """tails: with those of the tokens past the length of the other response."""
        self._loaded, self._forward, self._pairs = loaded, forward, pairs
        self._budget, self._reporter, self._control = budget, reporter, control
        self._tails, self._ranks = tails, ranks
        self.logprobs: Reference = {pair: ReferenceLogprobs(*of) for pair, of in known.items()}

    @property
    def is_complete(self) -> bool:
        return all(pair.pair in self.logprobs for pair in self._pairs)

    def complete(self, *, is_trained: bool = False) -> None:
        """Compute what is not known, and hand it to the reporter batch by batch, so that a resumed
        run has it.

        is_trained: the reference is the model as it stands, adapters included, not the model before
        training.
        """
        known = frozenset(self.logprobs)

        @torch.no_grad()
        def compute(batch: list[TokenizedPair]) -> list[ReferenceRecord]:
            states = self._forward(batch)
            columns = [states.preferred_logprobs_B(), states.dispreferred_logprobs_B()]
            if self._tails:
                columns += states.tail_logprobs_B()
            found = torch.stack(columns, 1).tolist()
            return [
                ReferenceRecord(pair.pair, *values)
                for pair, values in zip(batch, found, strict=True)
                if pair.pair not in known
            ]

        def keep(rows: list[ReferenceRecord]) -> None:
            self._reporter.put(*rows)
            self.logprobs.update(
                {
                    row.pair: ReferenceLogprobs(
                        row.preferred, row.dispreferred, row.preferred_tail, row.dispreferred_tail
                    )
                    for row in rows
                }
            )
            self._reporter.progress(len(self.logprobs), len(self._pairs), "pairs")

        self._reporter.phase("reference pass")
        with nullcontext() if is_trained else reference_model(self._loaded):
            in_shared_batches(
                self._ranks,
                self._pairs,
                self._forward.row_tokens,
                self._budget,
                self._control,
                compute,
                keep,
                done=known,
            )
