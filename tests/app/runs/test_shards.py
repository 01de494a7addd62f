"""What the API says of the workers of a run."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.store.shards.tables import RunShard
from tests.app import factories

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run_id(session: Session) -> int:
    """Two shards by ada, one by grace, who goes on, and one that nobody has."""
    dataset_id = factories.dataset(session, 8).id
    run = factories.run(session, dataset_id, kind="score", progress_unit="pairs")
    common = {"run_id": run.id, "characters": 100, "started_at": NOON}
    done: dict[str, Any] = {"status": "done", "finished_at": NOON, "total": 2, "done": 2}
    session.add_all(
        [
            RunShard(
                shard=0, pairs=[0, 1], worker="ada", advanced=2, seconds=1.0, **done, **common
            ),
            RunShard(
                shard=1, pairs=[2, 3], worker="ada", advanced=2, seconds=3.0, **done, **common
            ),
            RunShard(
                **common,
                **{"shard": 2, "pairs": [4, 5, 6], "worker": "grace", "status": "running"},
                **{"total": 2, "done": 1, "advanced": 1, "seconds": 0.25, "tries_here": 1},
            ),
            RunShard(**common | {"shard": 3, "pairs": [7], "total": 1, "started_at": None}),
        ]
    )
    session.commit()
    return run.id


def shards(client: TestClient, run_id: int, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/api/v1/runs/{run_id}/shards", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_who_did_how_many_and_how_fast(client: TestClient, run_id: int) -> None:
    found = shards(client, run_id)
    assert (found["total"], found["shards_done"], found["unit"]) == (4, 2, "pairs")
    ada, grace = found["workers"]
    assert ada == {
        "worker": "ada",
        "is_at_work": False,
        "shards_done": 2,
        "done": 4,
        "per_second": 1.0,
    }
    assert (grace["is_at_work"], grace["shards_done"], grace["per_second"]) == (True, 0, 4.0)
    # Two pairs are left, and only grace is at work.
    assert (found["per_second"], found["eta_seconds"]) == (4.0, 0.5)


def test_shards_are_listed_by_page(client: TestClient, run_id: int) -> None:
    first = shards(client, run_id, limit=3)["items"]
    assert [one["shard"] for one in first] == [0, 1, 2]
    assert [one["status"] for one in first] == ["done", "done", "running"]
    assert [one["per_second"] for one in first] == [2.0, pytest.approx(2 / 3), 4.0]
    assert (first[2]["pairs"], first[2]["total"], first[2]["done"]) == (3, 2, 1)
    [last] = shards(client, run_id, offset=3)["items"]
    assert (last["status"], last["worker"], last["per_second"]) == ("queued", None, None)


def test_a_run_that_is_one_workers_has_none(client: TestClient, session: Session) -> None:
    run_id = factories.run(session, factories.dataset(session).id).id
    session.commit()
    found = shards(client, run_id)
    assert (found["total"], found["workers"], found["items"]) == (0, [], [])
    assert client.get("/api/v1/runs/99/shards").status_code == 404


def test_notices_that_count_pairs_stand_behind_the_others(
    client: TestClient, session: Session
) -> None:
    dataset_id = factories.dataset(session).id
    run = factories.run(
        session, dataset_id, kind="score", messages=["a notice"], pair_messages=["of 3 pairs"]
    )
    session.commit()
    assert client.get(f"/api/v1/runs/{run.id}").json()["messages"] == ["a notice", "of 3 pairs"]


def test_a_training_run_has_those_of_its_reference_pass(
    client: TestClient, session: Session
) -> None:
    dataset_id = factories.dataset(session, 4).id
    run = factories.run(session, dataset_id, progress_unit="steps", progress_done=3)
    common = {"run_id": run.id, "characters": 100, "started_at": NOON, "status": "done"}
    done: dict[str, Any] = {"total": 2, "done": 2, "advanced": 2, "seconds": 1.0}
    for shard, worker in enumerate(("ada", "grace")):
        pairs = [2 * shard, 2 * shard + 1]
        session.add(RunShard(shard=shard, pairs=pairs, worker=worker, **done, **common))
    session.commit()
    found = shards(client, run.id)
    assert (found["total"], found["shards_done"], found["unit"]) == (2, 2, "pairs")
    assert [one["worker"] for one in found["workers"]] == ["ada", "grace"]
    page = client.get(f"/runs/{run.id}").text
    assert "Workers of the reference pass" in " ".join(page.split())
    assert '<th class="num">Pairs</th>' in page
