"""A run that asks for a GPU is left to the workers that have one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.core.database import transaction
from app.store import leases, queue
from app.store.runs import Worker
from app.store.shards import claims
from tests.app import factories
from tests.app.rows import stored

LEASE = timedelta(seconds=30)
Queued = Callable[..., int]


@pytest.fixture
def queued(database: None) -> Queued:
    """Two workers, `large` with a GPU; queues a run of a kind and device."""
    with transaction() as session:
        dataset = factories.dataset(session).id
        for name, kind in (("small", "cpu"), ("large", "cuda")):
            session.add(Worker(name=name, device=kind, report={"device_kind": kind}))

    def queue_run(kind: str, device: str) -> int:
        with transaction() as session:
            config = {"device": device}
            return factories.run(session, dataset, kind=kind, status="queued", config=config).id

    return queue_run


def claim(run_id: int, worker: str) -> Any:
    with transaction() as session:
        of_whole = leases.claim(session, run_id, worker, LEASE)
        return of_whole or claims.claim(session, run_id, worker, LEASE)


def next_for(worker: str) -> int | None:
    with transaction() as session:
        return queue.next_claimable(session, worker, LEASE)


@pytest.mark.parametrize("kind", ["train", "score"])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_worker_without_a_gpu_leaves_it_to_one_that_has_one(
    queued: Queued, kind: str, device: str
) -> None:
    run_id = queued(kind, device)
    assert next_for("small") is None
    assert claim(run_id, "small") is None
    assert next_for("large") == run_id
    assert claim(run_id, "large") is not None


@pytest.mark.parametrize(
    ("kind", "device"), [("train", "auto"), ("train", "cpu"), ("score", "auto"), ("check", "cuda")]
)
def test_any_other_run_is_anybody_s(queued: Queued, kind: str, device: str) -> None:
    run_id = queued(kind, device)
    assert next_for("small") == run_id
    assert claim(run_id, "small") is not None


@pytest.mark.parametrize("kind", ["train", "score"])
def test_it_waits_for_no_gpu_that_is_not_there(queued: Queued, kind: str) -> None:
    run_id = queued(kind, "cuda")
    with transaction() as session:
        gone = Worker.seen_at - 2 * LEASE
        session.execute(update(Worker).where(Worker.name == "large").values(seen_at=gone))
    assert next_for("small") == run_id
    assert claim(run_id, "small") is not None


def test_where_the_only_gpu_has_failed_at_it_no_processor_is_waited_for(queued: Queued) -> None:
    run_id = queued("score", "cuda")
    taken = claim(run_id, "large")
    with transaction() as session:
        claims.fail(session, run_id, taken.token, {"message": "broken"}, LEASE, for_good=False)
    assert stored(run_id).status == "failed"
