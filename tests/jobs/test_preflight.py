"""Pre-flight runs from the queue to their stored rows, also when they are interrupted."""

from typing import Any

import pytest
from sqlalchemy import select

from app.core.database import transaction
from app.store.preflight import PreflightPair
from app.store.selection import record_selection
from chesboard.configs import PreflightConfig, Selection
from chesboard.records import PreflightRecord
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.interruption import interrupt, resume
from worker.execution import execute
from worker.models.cache import ModelCache

PAIRS = [
    ("Is it?", "Yes", "No"),
    ("Is it?", "No", "Yes"),
    ("Is it?", "In the", "In the a"),
    ("Is it not?", "Yes", "No"),
]


def queued(selection: dict[str, Any] | None = None) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, PAIRS)
        config = {"optimizer": "rmsprop", "selection": selection or {}}
        run = factories.run(session, dataset.id, kind="preflight", status="queued", config=config)
        record_selection(session, run.id, dataset.id, Selection(**(selection or {})))
        return run.id


def rows(run_id: int) -> list[PreflightPair]:
    with transaction() as session:
        query = select(PreflightPair).where(PreflightPair.run_id == run_id)
        found = list(session.scalars(query.order_by(PreflightPair.pair)))
        session.expunge_all()
        return found


def numbers(row: PreflightPair) -> tuple[Any, ...]:
    return row.pair, row.influence_preferred, row.influence_dispreferred, row.gainers, row.pulls


def test_the_chosen_pairs_alone_are_looked_at(models: ModelCache) -> None:
    run_id = queued({"pairs": [0, 1, 3]})
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    found = rows(run_id)
    assert [row.pair for row in found] == [0, 1, 3]
    assert all(row.pairs == [0, 1, 3] for row in found)
    # What raises one of two opposite pairs lowers the other.
    first, opposite = found[0], found[1]
    assert first.influence_preferred[0] > 0 > first.influence_preferred[1]
    assert opposite.influence_preferred[0] < 0
    assert first.interference is not None
    assert len(first.interference) == len(first.preferred_tokens) * len(first.dispreferred_tokens)
    assert run.summary["pairs"] == 3
    assert run.summary["falling"] == sum(row.preferred_change < 0 for row in found)
    assert (run.progress_done, run.progress_total, run.progress_unit) == (9, 9, "steps")


def test_the_model_is_not_changed_and_trains_as_ever_afterwards(models: ModelCache) -> None:
    first, again = queued(), queued()
    execute(first, "ada", models)
    execute(again, "ada", models)
    assert list(map(numbers, rows(first))) == list(map(numbers, rows(again)))


def test_an_interrupted_pre_flight_goes_on_with_the_pairs_that_are_left(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, disturbed = queued(), queued()
    execute(calm, "ada", models)
    seen = interrupt(disturbed, models, monkeypatch, PreflightRecord, 2)
    assert [row.pair for row in rows(disturbed)] == [0, 1]
    resume(disturbed, models)
    assert [one.pair for one in seen] == [0, 1, 2, 3]
    assert list(map(numbers, rows(disturbed))) == list(map(numbers, rows(calm)))
    assert stored(disturbed).summary["falling"] == stored(calm).summary["falling"]


def test_pairs_of_equal_tokens_alone_fail_with_what_to_do(models: ModelCache) -> None:
    with transaction() as session:
        dataset = factories.dataset(session, [("Is it?", "Well, yes", "Well, no")])
        config = {"max_response_tokens": 4}
        run = factories.run(session, dataset.id, kind="preflight", status="queued", config=config)
    execute(run.id, "ada", models)
    error = stored(run.id).error
    assert error is not None
    assert "Raise max_response_tokens" in error["message"]


def test_the_default_selection_is_small() -> None:
    assert PreflightConfig().selection.limit == 16
