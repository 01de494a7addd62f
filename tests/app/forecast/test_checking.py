"""A training run's forecast against what it measured, through the API."""

import random
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.store.runs import ReferenceLogprob, Run, RunSelection
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import first_push, preferred_shift
from chesboard.probing.ranks import spearman
from tests.app import factories
from tests.app.forecast.test_forecast import columns, get, scored

PAIRS = 60
CONFIG = {"objective": "dpo", "beta": 0.2, "sft_coef": 0.01}


def forecast(pair: int) -> float:
    pushed = first_push(ObjectiveConfig(**CONFIG), scored(pair))
    return float(preferred_shift(pushed, scored(pair)))


def change(pair: int) -> float:
    """What training did: about what the forecast says."""
    return forecast(pair) + random.Random(pair).gauss(0, 2)


def train(session: Session, dataset_id: int, **config: Any) -> Run:
    made = factories.run(session, dataset_id, status="succeeded", config={**CONFIG, **config})
    for pair in range(PAIRS):
        session.add(
            ReferenceLogprob(
                run_id=made.id,
                pair=pair,
                preferred=0.0,
                dispreferred=-20.0,
                final_preferred=change(pair),
                final_dispreferred=-21.0,
            )
        )
    session.commit()
    return made


def score(session: Session, dataset_id: int, pairs: int = PAIRS, **config: Any) -> Run:
    made = factories.run(session, dataset_id, kind="score", status="succeeded", config=config)
    for pair in range(pairs):
        factories.score(session, made.id, pair, float(pair % 7), **columns(pair))
    session.commit()
    return made


@pytest.fixture
def dataset(session: Session) -> int:
    return factories.dataset(session, PAIRS).id


def test_signs_and_order_are_counted(client: TestClient, session: Session, dataset: int) -> None:
    before = score(session, dataset)
    found = get(client, train(session, dataset).id)
    assert (found["kind"], found["score_run"], found["pairs"]) == ("train", before.id, PAIRS)
    assert (found["objective"], found["config"]["beta"], found["message"]) == ("dpo", 0.2, None)
    changes = [change(pair) for pair in range(PAIRS)]
    shifts = [forecast(pair) for pair in range(PAIRS)]
    signs = [(shift < 0, change < -1e-4) for shift, change in zip(shifts, changes, strict=True)]
    names = ("forecast_fall_fell", "forecast_fall_not", "not_forecast_fell", "not_forecast_not")
    expected = [signs.count(one) for one in ((True, True), (True, False), (False, True))]
    expected.append(signs.count((False, False)))
    assert [found[name] for name in names] == expected
    assert min(expected) > 0  # all four were put to the test
    assert found["hit_rate"] == pytest.approx((expected[0] + expected[3]) / PAIRS)
    fell = expected[0] + expected[2]
    assert found["base_rate"] == pytest.approx(max(fell, PAIRS - fell) / PAIRS)
    ranks = {one["name"]: one["spearman"] for one in found["ranks"]}
    assert next(iter(ranks)) == "forecast"
    assert ranks["forecast"] == pytest.approx(spearman(shifts, changes))
    ches = [float(pair % 7) for pair in range(PAIRS)]  # with ties
    assert ranks["ches"] == pytest.approx(spearman(ches, changes))
    assert ranks["length_gap"] is None  # this score run has none


def test_bins_and_points_hold_every_pair(
    client: TestClient, session: Session, dataset: int
) -> None:
    score(session, dataset)
    found = get(client, train(session, dataset).id)
    bins = found["bins"]
    assert [one["pairs"] for one in bins] == [PAIRS // 10] * 10
    assert [one["forecast"] for one in bins] == sorted(one["forecast"] for one in bins)
    assert sum(one["fell"] for one in bins) == (
        found["forecast_fall_fell"] + found["not_forecast_fell"]
    )
    assert [one["pair"] for one in found["points"]] == list(range(PAIRS))
    assert found["points"][3]["change"] == pytest.approx(change(3))


def test_only_scores_of_the_same_model_and_limits_foretell(
    client: TestClient, session: Session, dataset: int
) -> None:
    trained = train(session, dataset)
    for config in ({"model": "other"}, {"max_response_tokens": 9}):
        other = score(session, dataset, **config)
        found = get(client, trained.id)
        assert (found["score_run"], found["pairs"]) == (None, 0)
        assert "score it by CHES" in found["message"]
        refused = get(client, trained.id, status=422, score_run=other.id)
        assert next(iter(config)) in refused["detail"]
    older, newer = score(session, dataset), score(session, dataset)
    assert get(client, trained.id)["score_run"] == newer.id
    assert get(client, trained.id, score_run=older.id)["score_run"] == older.id
    elsewhere = score(session, factories.dataset(session, PAIRS).id)
    for wrong in (elsewhere.id, trained.id, 99):
        refused = get(client, trained.id, status=422, score_run=wrong)
        assert refused["errors"][0]["field"] == "score_run"


def test_the_score_run_that_a_run_was_set_up_with_foretells_it(
    client: TestClient, session: Session, dataset: int
) -> None:
    own, newer = score(session, dataset), score(session, dataset)
    trained = train(session, dataset, forecast_run=own.id)
    found = get(client, trained.id)
    assert (found["score_run"], found["score_run_name"]) == (own.id, own.name)
    assert found["is_own"] is True
    assert get(client, trained.id, score_run=newer.id)["is_own"] is False
    session.delete(own)
    session.commit()
    found = get(client, trained.id)
    assert (found["score_run"], found["is_own"]) == (newer.id, False)


def test_pairs_without_a_forecast_or_edited_since_are_left_out(
    client: TestClient, session: Session, dataset: int
) -> None:
    before, trained = score(session, dataset, pairs=PAIRS - 5), train(session, dataset)
    for run, version in ((before, 1), (trained, 2)):
        session.add(
            RunSelection(
                run_id=run.id,
                pairs=list(range(PAIRS)),
                versions=[version if pair < 3 else 1 for pair in range(PAIRS)],
                dataset_pairs=PAIRS,
            )
        )
    session.commit()
    found = get(client, trained.id)
    assert (found["pairs"], found["left_out"]) == (PAIRS - 8, 8)
    assert found["points"][0]["pair"] == 3


def test_a_run_that_measured_nothing_says_so(
    client: TestClient, session: Session, dataset: int
) -> None:
    score(session, dataset)
    run = factories.run(session, dataset, status="running")
    session.commit()
    found = get(client, run.id)
    assert (found["pairs"], found["hit_rate"], found["bins"], found["points"]) == (0, None, [], [])
    assert "after the last step" in found["message"]


def test_scores_of_an_earlier_version_foretell_nothing(
    client: TestClient, session: Session, dataset: int
) -> None:
    before = factories.run(session, dataset, kind="score", status="succeeded")
    factories.score(session, before.id, 0, 1.0)
    found = get(client, train(session, dataset).id)
    assert (found["score_run"], found["pairs"]) == (before.id, 0)
    assert "Score again" in found["message"]
