"""What a training run reads of the store for each of its pairs: offsets, weights, and what is
known of the reference."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.store.offsets import training_offsets
from app.store.runs import ReferenceLogprob
from app.store.weights import read_weights
from chesboard.configs import TrainConfig
from chesboard.reporting import Reporter
from worker.training.reference import Reference, ReferenceLogprobs
from worker.training.terms import PairInputs


def read_inputs(
    session: Session,
    dataset_id: int,
    config: TrainConfig,
    pairs: Collection[int],
    reporter: Reporter,
) -> PairInputs:
    """Offsets and weights of the pairs; says what they lack.

    Raises:
        UnscoredPairsError: pairs lack the scores that the objective needs.
        MissingScoresError: the score run of the weights is gone.
    """
    offsets, unscored = training_offsets(session, dataset_id, config, pairs)
    if unscored:
        reporter.message(unscored)
    if config.pair_weights is None:
        return PairInputs(offsets)
    weights, told = read_weights(session, config.pair_weights, pairs)
    reporter.message(told)
    return PairInputs(offsets, weights)


def stored_reference(
    session: Session, run_id: int, pairs: Collection[int] | None = None
) -> Reference:
    """What is stored of a run's reference, by all attempts and helpers. pairs: of these alone."""
    query = select(ReferenceLogprob).where(ReferenceLogprob.run_id == run_id)
    if pairs is not None:
        query = query.where(among(ReferenceLogprob.pair, pairs))
    return {
        row.pair: ReferenceLogprobs(
            row.preferred, row.dispreferred, row.preferred_tail, row.dispreferred_tail
        )
        for row in session.scalars(query)
    }
