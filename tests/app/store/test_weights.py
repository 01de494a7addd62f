"""The weights of pairs by a measure of a score run."""

import math

import pytest
from sqlalchemy.orm import Session

from app.store.weights import MissingScoresError, read_weights
from chesboard.configs import PairWeights
from tests.app import factories


def test_weights_are_one_minus_slope_times_the_measure_within_bounds(session: Session) -> None:
    dataset = factories.dataset(session, 7)
    run = factories.run(session, dataset.id, kind="score", status="succeeded")
    for pair, value in enumerate([-3.0, 0.0, 0.25, 2.0, math.nan]):
        factories.score(session, run.id, pair, 1.0, ln_ches=value)
    wanted = PairWeights(score_run=run.id, measure="ln_ches", slope=2.0)
    weights, told = read_weights(session, wanted, [0, 1, 2, 3, 4, 6])
    assert weights == {0: 1.0, 1: 1.0, 2: 0.5, 3: 0.0, 4: 0.0, 6: 0.0}
    assert told == (
        f"Of 6 pairs, 2 have the weight 1 by ln_ches of run {run.id}, 3 the weight 0, and 1 one "
        "between (2 without the measure: 0)."
    )
    turned = PairWeights(score_run=run.id, measure="ln_ches", slope=-0.25)
    weights, _ = read_weights(session, turned, [0, 1, 3])
    assert weights == {0: 0.25, 1: 1.0, 3: 1.0}


def test_a_score_run_that_is_gone_is_named(session: Session) -> None:
    with pytest.raises(MissingScoresError, match="Run 77"):
        read_weights(session, PairWeights(score_run=77), [0])
