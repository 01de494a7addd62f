"""Measured displacement through the API: what each pair lost, and whether its score told."""

import csv
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.store.runs import ReferenceLogprob
from tests.app import factories

API = "/api/v1"
NAN = float("nan")
CHES = [5.0, 3.0, 3.0, -1.0, None]
# (change of y+, change of y-)
CHANGES = [(-4.0, -9.0), (-1.0, -0.5), (-2.0, -3.0), (0.5, -1.0), (NAN, -1.0)]


@pytest.fixture
def runs(session: Session) -> dict[str, int]:
    """A score run and a training run over five pairs, the last one of six not measured."""
    dataset = factories.dataset(session, 6)
    scored = factories.run(session, dataset.id, kind="score", status="succeeded")
    for pair, ches in enumerate(CHES):
        factories.score(session, scored.id, pair, ches)
    trained = factories.run(session, dataset.id, status="succeeded", name="no more no")
    for pair, (preferred, dispreferred) in enumerate(CHANGES):
        session.add(
            ReferenceLogprob(
                run_id=trained.id,
                pair=pair,
                preferred=-10.0,
                dispreferred=-20.0,
                final_preferred=-10.0 + preferred,
                final_dispreferred=-20.0 + dispreferred,
            )
        )
    session.add(ReferenceLogprob(run_id=trained.id, pair=5, preferred=-1.0, dispreferred=-1.0))
    session.commit()
    return {"score": scored.id, "train": trained.id, "dataset": dataset.id}


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"{API}{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_each_pair_stands_beside_its_score(client: TestClient, runs: dict[str, int]) -> None:
    found = get(client, f"/runs/{runs['train']}/displacement")
    assert (found["total"], found["measured"], found["n"]) == (6, 5, 4)
    assert (found["measure"], found["score_run"]) == ("ches", runs["score"])
    assert [item["preferred_change"] for item in found["items"]] == [-4, -1, -2, 0.5, None]
    assert [item["value"] for item in found["items"]] == CHES
    # pair 1's margin shrank, pair 3 gained, pair 4 has no number
    assert [item["displaced"] for item in found["items"]] == [True, False, True, False, False]
    # ranks of CHES 4, 2.5, 2.5, 1 against 1, 3, 2, 4
    assert found["spearman"] == pytest.approx(-4.5 / (4.5 * 5) ** 0.5)


def test_another_measure_and_an_earlier_score_run_can_be_asked_for(
    client: TestClient, session: Session, runs: dict[str, int]
) -> None:
    newer = factories.run(session, runs["dataset"], kind="score", status="succeeded")
    factories.score(session, newer.id, 0, 7.0)
    session.commit()
    path = f"/runs/{runs['train']}/displacement"
    assert get(client, path)["score_run"] == newer.id
    assert get(client, path)["spearman"] is None  # of one pair
    earlier = get(client, path, score_run=runs["score"], measure="ln_ches")
    assert earlier["items"][0]["value"] == 0.05
    assert earlier["spearman"] < 0


def test_without_scores_or_measurements_there_is_nothing_to_compare(
    client: TestClient, session: Session
) -> None:
    run = factories.run(session, factories.dataset(session).id)
    session.commit()
    found = get(client, f"/runs/{run.id}/displacement")
    assert (found["items"], found["spearman"], found["score_run"]) == ([], None, None)


def test_of_many_pairs_as_many_as_a_chart_draws_can_be_asked_for(
    client: TestClient, session: Session
) -> None:
    dataset = factories.dataset(session)
    scored = factories.run(session, dataset.id, kind="score", status="succeeded")
    trained = factories.run(session, dataset.id, status="succeeded")
    for pair in range(300):
        factories.score(session, scored.id, pair, 50.0 if pair == 77 else float(pair % 10))
        session.add(
            ReferenceLogprob(
                run_id=trained.id,
                pair=pair,
                preferred=0.0,
                dispreferred=0.0,
                final_preferred=-90.0 if pair == 123 else -((pair * 37) % 11) / 8,
                final_dispreferred=-100.0,
            )
        )
    session.commit()
    path = f"/runs/{trained.id}/displacement"
    whole, thin = get(client, path), get(client, path, points=40)
    assert (len(whole["items"]), whole["decimated"]) == (300, False)
    assert (thin["measured"], thin["n"], thin["decimated"]) == (300, 300, True)
    assert thin["spearman"] == whole["spearman"] is not None
    assert 30 <= len(thin["items"]) <= 40
    assert all(item in whole["items"] for item in thin["items"])
    assert {77, 123} <= {item["pair"] for item in thin["items"]}
    assert get(client, path, points=300) == whole
    assert len(client.get(f"{API}{path}.csv").text.splitlines()) == 301


def test_it_can_be_downloaded(client: TestClient, runs: dict[str, int]) -> None:
    answer = client.get(f"{API}/runs/{runs['train']}/displacement.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 5
    assert rows[0] == {
        "pair": "0",
        "preferred_change": "-4.0",
        "dispreferred_change": "-9.0",
        "displaced": "True",
        "ches": "5.0",
    }
    assert (rows[4]["preferred_change"], rows[4]["ches"]) == ("", "")


def test_a_score_run_lists_the_runs_that_it_can_be_compared_with(
    client: TestClient, runs: dict[str, int]
) -> None:
    assert get(client, f"/runs/{runs['score']}/displacements") == {
        "items": [{"run_id": runs["train"], "name": "no more no", "measured": 5}]
    }


def test_what_cannot_be_compared_is_refused(
    client: TestClient, session: Session, runs: dict[str, int]
) -> None:
    other = factories.run(session, factories.dataset(session).id, kind="score", status="succeeded")
    session.commit()
    train, score = runs["train"], runs["score"]
    for path in (f"{score}/displacement", "99/displacement", f"{train}/displacements"):
        assert client.get(f"{API}/runs/{path}").status_code == 404
    for wrong in (other.id, train, 99):
        answer = client.get(f"{API}/runs/{train}/displacement", params={"score_run": wrong})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "score_run"
