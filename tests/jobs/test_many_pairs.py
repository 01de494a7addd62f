"""The main path over 200,000 pairs: more than a statement has parameters (65,535)."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, event, func, select, text

from app.core import database as db
from app.core.database import transaction
from app.store.runs import Run, RunSelection
from app.store.selection import chosen_pairs
from chesboard.configs import ProbesConfig, Selection
from chesboard.records import ProbeRecord
from tests.app import factories
from tests.app.many_pairs import repeat_pair, score_pairs
from tests.app.rows import stored
from tests.jobs.interruption import recorded
from tests.tiny_models import KeepingReporter
from worker.execution import execute
from worker.models.cache import ModelCache
from worker.training.execution import choose_probes

PAIRS = 200_000
NAMED = 70_000
API = "/api/v1"


@pytest.fixture
def hasty(database: Any) -> Iterator[None]:
    """A statement that goes through all pairs for each of them is refused."""

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '30s'")

    engine = db.get_engine()
    event.listen(engine, "begin", limit)
    yield
    event.remove(engine, "begin", limit)


@pytest.fixture
def dataset_id(hasty: None) -> int:
    """Its pairs are all scored: CHES rises with the ordinal. What PostgreSQL knows of its tables is
    of before, when they were small."""
    with transaction() as session:
        factories.score(session, factories.run(session, factories.dataset(session).id).id, 0, 0.0)
        session.execute(text("ANALYZE"))
        dataset = factories.dataset(session, pairs=1, statistics={"columns": ["prompt"]})
        repeat_pair(session, dataset, PAIRS)
        score_pairs(session, dataset.id, PAIRS)
        return dataset.id


def test_a_selection_may_name_more_pairs_than_a_statement_has_parameters(
    client: TestClient, models: ModelCache, dataset_id: int
) -> None:
    named = list(range(0, 2 * NAMED, 2))
    preview = client.post(f"{API}/datasets/{dataset_id}/selection", json={"pairs": named})
    assert preview.status_code == 200, preview.text
    assert preview.json()["count"] == NAMED

    missing = client.post(f"{API}/datasets/{dataset_id}/selection", json={"pairs": [*named, PAIRS]})
    assert missing.status_code == 422
    assert f"no pair {PAIRS}" in missing.json()["detail"]

    config = {"model": "tiny", "selection": {"pairs": named}}
    asked = {"kind": "train", "dataset_id": dataset_id, "config": config}
    run = client.post(f"{API}/runs", json=asked)
    assert run.status_code == 201, run.text
    with transaction() as session:
        record = session.get_one(RunSelection, run.json()["id"])
        assert record.pairs == named
        chosen = chosen_pairs(session, record.run_id, dataset_id, Selection(pairs=named))
    assert [pair.pair for pair in chosen] == named


def test_probes_are_chosen_among_all_scored_pairs(dataset_id: int) -> None:
    with transaction() as session:
        run = factories.run(session, dataset_id)
        wanted = ProbesConfig(strategy="highest_ches", count=3)
        trained = list(range(PAIRS - 5))
        probes = choose_probes(session, run.id, dataset_id, wanted, trained, KeepingReporter())
    assert {probe.pair for probe in probes} == {PAIRS - 6, PAIRS - 7, PAIRS - 8}


def test_the_lowest_of_all_are_trained_on_to_the_end(
    models: ModelCache, dataset_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = recorded(monkeypatch, ProbeRecord)
    with transaction() as session:
        of_it = select(func.min(Run.id)).where(Run.dataset_id == dataset_id)
        scored = session.scalars(of_it).one()
        rule = {"measure": "ches", "score_run": scored, "keep": "lowest", "fraction": 4e-5}
        config = {
            "selection": {"measures": [rule]},
            "probes": {"strategy": "highest_ches", "count": 1},
            "batch_size": 4,
        }
        run = factories.run(session, dataset_id, status="queued", config=config)
    assert execute(run.id, "ada", models)
    assert stored(run.id).status == "succeeded", stored(run.id).error
    assert [record.pair for record in watched] == [7]
