"""The weights of pairs by a measure of a score run."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.store.lookup import find_run
from app.store.scores import Score, finite
from chesboard.configs import PairWeights


class MissingScoresError(ValueError):
    """The score run that gives the weights does not exist any more."""


def read_weights(
    session: Session, wanted: PairWeights, pairs: Collection[int]
) -> tuple[dict[int, float], str]:
    """The weight of each pair, and a sentence on them.

    Raises:
        MissingScoresError: the score run was deleted.
    """
    if find_run(session, wanted.score_run) is None:
        raise MissingScoresError(
            f"Run {wanted.score_run}, whose scores give the weights of the pairs, does not exist "
            "any more. Start a new run with the weights of another score run."
        )
    value = finite(wanted.measure)
    rows = session.execute(
        select(Score.pair, value.label("value")).where(
            Score.run_id == wanted.score_run,
            among(Score.pair, pairs),
        )
    )
    values = {row.pair: row.value for row in rows}
    weights = {pair: wanted.weight(values.get(pair)) for pair in pairs}
    return weights, _told(wanted, weights, sum(values.get(pair) is None for pair in pairs))


def _told(wanted: PairWeights, weights: dict[int, float], missing: int) -> str:
    full = sum(weight == 1 for weight in weights.values())
    none = sum(weight == 0 for weight in weights.values())
    text = (
        f"Of {len(weights):,} pairs, {full:,} have the weight 1 by {wanted.measure} of run "
        f"{wanted.score_run}, {none:,} the weight 0, and {len(weights) - full - none:,} one between"
    )
    return f"{text} ({missing:,} without the measure: 0)." if missing else f"{text}."
