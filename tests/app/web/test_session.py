"""What one request reads is one state of the database, whatever happens meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

from app.core import database as db
from app.local.embedded import Services
from tests.app import factories

READ = (
    "/api/v1/runs/{}",
    "/api/v1/runs/{}/probes",
    "/api/v1/runs/{}/probes/bands?points=4",
    "/api/v1/runs/{}/probes/0",
    "/api/v1/runs/{}/probes/0?points=4",
    "/api/v1/runs/{}/probes/0/ledger",
    "/api/v1/runs/{}/probes/0/watched?points=4",
    "/api/v1/runs/{}/metrics?points=4",
    "/runs/{}",
)


@pytest.fixture
def elsewhere(database: Services) -> Iterator[Engine]:
    """Connections of another process, which the server's listeners do not see."""
    engine = create_engine(database.database_url)
    yield engine
    engine.dispose()


@contextmanager
def before_statements(act: Callable[[int], None]) -> Iterator[None]:
    """Calls `act` with the number (from 0) of each statement that the server is about to run."""
    count = 0

    def on_statement(*_: object) -> None:
        nonlocal count
        number, count = count, count + 1
        act(number)

    event.listen(db.get_engine(), "before_cursor_execute", on_statement)
    try:
        yield
    finally:
        event.remove(db.get_engine(), "before_cursor_execute", on_statement)


def a_run(session: Session, dataset_id: int) -> int:
    run = factories.run(session, dataset_id, status="running", revision=1)
    factories.probe(session, run.id, 0)
    for step in range(8):
        factories.probe_step(session, run.id, 0, step)
    session.commit()
    return run.id


@pytest.mark.parametrize("path", READ)
def test_a_run_deleted_between_two_statements_is_read_whole_or_not_found(
    client: TestClient, session: Session, elsewhere: Engine, path: str
) -> None:
    dataset = factories.dataset(session).id
    path_of_one = path.format(a_run(session, dataset))
    statements: list[int] = []
    with before_statements(statements.append):
        assert client.get(path_of_one).status_code == 200
    assert len(statements) > 1, "nothing lies between one statement and itself"

    answers = []
    for moment in range(len(statements)):
        run_id = a_run(session, dataset)

        def delete(number: int, run_id: int = run_id, moment: int = moment) -> None:
            if number == moment:
                with elsewhere.begin() as connection:
                    connection.execute(text("DELETE FROM runs WHERE id = :id"), {"id": run_id})

        with before_statements(delete):
            answer = client.get(path.format(run_id))
        answers.append(answer.status_code)
    # Deleted before the first statement, it is gone; before the last one, it is read whole.
    assert set(answers) <= {200, 404}, answers
    assert answers[0] == 404
    assert answers[-1] == 200
