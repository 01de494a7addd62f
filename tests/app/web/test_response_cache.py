"""A run's responses are built once per revision and never predate their request."""

import asyncio
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.runs import queries
from app.store.revisions import next_revision
from app.store.runs import Run
from app.web import response_cache
from app.web.response_cache import SingleFlight
from tests.app import factories


@pytest.fixture
def run_id(session: Session) -> int:
    run = factories.run(session, factories.dataset(session).id)
    factories.metric(session, run.id, 1)
    session.commit()
    return run.id


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The run ids of every call of `list_metrics`."""
    calls: list[int] = []
    usual = queries.list_metrics

    def count(session: Session, run_id: int, *more: object) -> object:
        calls.append(run_id)
        return usual(session, run_id, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(queries, "list_metrics", count)
    return calls


def steps(client: TestClient, run_id: int, query: str = "") -> list[int]:
    answer = client.get(f"/api/v1/runs/{run_id}/metrics{query}")
    return [item["step"] for item in answer.json()["items"]]


def test_an_answer_is_made_once_until_the_run_goes_on(
    client: TestClient, session: Session, run_id: int, made: list[int]
) -> None:
    assert steps(client, run_id) == steps(client, run_id) == [1]
    assert made == [run_id]
    factories.metric(session, run_id, 2)
    next_revision(session, run_id)
    session.commit()
    assert steps(client, run_id) == [1, 2]
    assert made == [run_id] * 2


def test_each_question_has_its_own_answer(
    client: TestClient, session: Session, run_id: int, made: list[int]
) -> None:
    other = factories.run(session, factories.dataset(session, name="other").id)
    session.commit()
    assert steps(client, run_id) == [1]
    assert steps(client, other.id) == []
    assert steps(client, run_id, "?since=1") == []
    packed = client.get(f"/api/v1/runs/{run_id}/metrics", headers={"Accept-Encoding": "gzip"})
    plain = client.get(f"/api/v1/runs/{run_id}/metrics", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()


def test_another_run_of_that_number_is_another_run(
    client: TestClient, session: Session, run_id: int, made: list[int]
) -> None:
    # As after a backup of another day was restored.
    assert steps(client, run_id) == [1]
    run = session.get_one(Run, run_id)
    run.created_at -= timedelta(days=1)
    session.execute(text("DELETE FROM metrics"))
    session.commit()
    assert steps(client, run_id) == []


def test_what_is_not_there_is_not_remembered(client: TestClient, session: Session) -> None:
    assert client.get("/api/v1/runs/1/metrics").status_code == 404
    assert client.get(f"/api/v1/runs/{10**17}/metrics").status_code == 404
    factories.run(session, factories.dataset(session).id)
    session.commit()
    assert client.get("/api/v1/runs/1/metrics").status_code == 200


def test_downloads_are_streamed_as_they_are(
    client: TestClient, session: Session, run_id: int
) -> None:
    address = f"/api/v1/runs/{run_id}/metrics?format=csv"
    before = client.get(address).text
    factories.metric(session, run_id, 2)
    session.commit()
    assert len(client.get(address).text.splitlines()) == len(before.splitlines()) + 1


def test_the_oldest_answers_make_room(
    client: TestClient, run_id: int, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = len(client.get(f"/api/v1/runs/{run_id}/metrics?points=2").content)
    monkeypatch.setattr(response_cache, "MAX_CACHE_BYTES", 2 * one)
    for points in (2, 3, 4, 4, 2):
        steps(client, run_id, f"?points={points}")
    assert len(made) == 4  # those of 2 (the first two times), 3, 4, and of 2 once more
    monkeypatch.setattr(response_cache, "MAX_RESPONSE_BYTES", one - 1)
    for _ in range(2):
        steps(client, run_id, "?points=5")
    assert len(made) == 6


class TestSingleFlight:
    def test_who_comes_during_a_round_shares_the_next(self) -> None:
        began: list[str] = []

        async def main() -> list[str]:
            rounds, going = SingleFlight[str](), asyncio.Event()

            async def work(name: str) -> str:
                began.append(name)
                await going.wait()
                return name

            async def join(name: str) -> str:
                return await rounds.join(lambda: work(name))

            first = asyncio.create_task(join("first"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            later = [asyncio.create_task(join(f"later {n}")) for n in range(3)]
            await asyncio.sleep(0)
            assert began == ["first"]
            going.set()
            return await asyncio.gather(first, *later)

        assert asyncio.run(main()) == ["first", *["later 0"] * 3]
        assert began == ["first", "later 0"]

    def test_a_failure_reaches_all_of_its_round_and_no_other(self) -> None:
        async def fail() -> str:
            raise RuntimeError("no")

        async def succeed() -> str:
            return "yes"

        async def main() -> None:
            rounds = SingleFlight[str]()
            found = await asyncio.gather(
                *(rounds.join(fail) for _ in range(2)), return_exceptions=True
            )
            assert [str(error) for error in found] == ["no", "no"]
            assert await rounds.join(succeed) == "yes"

        asyncio.run(main())

    def test_who_leaves_takes_nothing_from_the_others(self) -> None:
        async def main() -> str:
            rounds, going = SingleFlight[str](), asyncio.Event()

            async def work() -> str:
                await going.wait()
                return "done"

            leaving, staying = (asyncio.create_task(rounds.join(work)) for _ in range(2))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.sleep(0)
            going.set()
            return await staying

        assert asyncio.run(main()) == "done"
