"""Findings of a run's pairs through the API, and the newest ones of a dataset under a model."""

import csv
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.findings.queries import newest_findings
from app.store.findings import RunFinding
from app.store.selection import record_selection
from chesboard.configs import Selection
from chesboard.findings import FINDINGS
from tests.app import factories

API = "/api/v1"
FOUND = {"findings": {}}
"""The summary of a run that looked."""


@pytest.fixture
def run_id(session: Session) -> int:
    """A check of three pairs: the responses of two are cut, one of these has equal tokens."""
    dataset = factories.dataset(session, [("Is it?", "Yes" * 300, "No"), *[("A", "B", "C")] * 2])
    run = factories.run(session, dataset.id, kind="check", status="succeeded", summary=FOUND)
    record_selection(session, run.id, dataset.id, Selection())
    factories.finding(session, run.id, 2, "same_tokens", "behind the cut")
    factories.finding(session, run.id, 2, "response_truncated", "4 tokens cut")
    factories.finding(session, run.id, 0, "response_truncated", "=1 token cut")
    session.commit()
    return run.id


def get(client: TestClient, run_id: int, **query: Any) -> Any:
    answer = client.get(f"{API}/runs/{run_id}/findings", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_each_kind_is_counted_and_explained(client: TestClient, run_id: int) -> None:
    found = get(client, run_id)
    assert found["total"] == 3
    assert found["complete"] is True
    assert found["counts"] == {"same_tokens": 1, "response_truncated": 2}
    first, second = found["kinds"]
    assert first == {
        "kind": "same_tokens",
        "label": FINDINGS["same_tokens"].label,
        "consequence": "not measured",
        "help": FINDINGS["same_tokens"].help,
        "advice": FINDINGS["same_tokens"].advice,
        "count": 1,
    }
    assert (second["kind"], second["count"]) == ("response_truncated", 2)


def test_findings_come_by_pair_with_row_and_clipped_texts(client: TestClient, run_id: int) -> None:
    items = get(client, run_id)["items"]
    assert [(item["pair"], item["kind"]) for item in items] == [
        (0, "response_truncated"),
        (2, "response_truncated"),
        (2, "same_tokens"),
    ]
    assert items[0]["row"] == 1
    assert items[0]["prompt"] == "Is it?"
    assert items[0]["preferred"] == "Yes" * 200 + "…"
    assert items[2]["detail"] == "behind the cut"


def test_one_kind_alone_and_page_by_page(client: TestClient, run_id: int) -> None:
    def page(offset: int) -> Any:
        return get(client, run_id, kind="response_truncated", offset=offset, limit=1)

    assert [page(offset)["items"][0]["pair"] for offset in (0, 1)] == [0, 2]
    assert page(2)["items"] == []
    assert page(2)["total"] == 2
    assert page(0)["counts"] == {"same_tokens": 1, "response_truncated": 2}


def test_texts_are_those_that_the_run_was_given(
    client: TestClient, session: Session, run_id: int
) -> None:
    dataset_id = client.get(f"{API}/runs/{run_id}").json()["dataset_id"]
    edited = client.patch(
        f"{API}/datasets/{dataset_id}/pairs/2", json={"preferred": "Other", "version": 1}
    )
    assert edited.status_code == 200, edited.text
    assert get(client, run_id, kind="same_tokens")["items"][0]["preferred"] == "B"


def test_a_run_without_findings_says_whether_it_looked(
    client: TestClient, session: Session
) -> None:
    dataset = factories.dataset(session)
    looked = factories.run(session, dataset.id, kind="score", status="succeeded", summary=FOUND)
    earlier = factories.run(session, dataset.id, kind="score", status="succeeded")
    session.commit()
    found = get(client, looked.id)
    assert (found["total"], found["kinds"], found["items"]) == (0, [], [])
    assert found["complete"] is True
    assert get(client, earlier.id)["complete"] is False


def test_downloads_hold_every_finding(client: TestClient, run_id: int) -> None:
    query: dict[str, Any] = {"limit": 1}
    path = f"{API}/runs/{run_id}/findings"
    lines = client.get(path, params={**query, "format": "jsonl"}).text.splitlines()
    text = client.get(path, params={**query, "format": "csv"}).text
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [json.loads(line)["pair"] for line in lines] == [0, 2, 2]
    assert json.loads(lines[2]) == {
        "pair": 2,
        "row": 3,
        "kind": "same_tokens",
        "consequence": "not measured",
        "detail": "behind the cut",
    }
    assert [row["kind"] for row in rows] == [json.loads(line)["kind"] for line in lines]
    assert rows[0]["detail"] == "'=1 token cut"  # no formula to a spreadsheet
    one = client.get(path, params={"format": "csv", "kind": "same_tokens"}).text
    assert len(one.splitlines()) == 2


@pytest.mark.parametrize("query", [{"kind": "nonsense"}, {"offset": -1}, {"limit": 1001}])
def test_what_is_out_of_bounds_is_refused(
    client: TestClient, run_id: int, query: dict[str, Any]
) -> None:
    assert client.get(f"{API}/runs/{run_id}/findings", params=query).status_code == 422


@pytest.mark.parametrize("format", ["json", "csv"])
def test_a_run_that_is_not_there(client: TestClient, format: str) -> None:
    answer = client.get(f"{API}/runs/77/findings", params={"format": format})
    assert answer.status_code == 404


def test_they_go_with_their_run(client: TestClient, session: Session, run_id: int) -> None:
    assert client.delete(f"{API}/runs/{run_id}").status_code == 204
    assert session.query(RunFinding).count() == 0


# --- the newest of a dataset ---------------------------------------------------------------------


def looked(session: Session, dataset_id: int, **columns: Any) -> int:
    """A succeeded run over all pairs, or over those of a selection."""
    selection = columns.pop("selection", Selection())
    values = {"kind": "check", "status": "succeeded", "summary": FOUND}
    run = factories.run(session, dataset_id, **{**values, **columns})
    record_selection(session, run.id, dataset_id, selection)
    return run.id


class TestNewest:
    def test_is_of_any_kind_of_run(self, session: Session) -> None:
        dataset = factories.dataset(session)
        looked(session, dataset.id)
        newest = looked(session, dataset.id, kind="train")
        factories.finding(session, newest, 1, "same_tokens")
        found = newest_findings(session, dataset.id, "tiny")
        assert found is not None
        assert (found.run_id, found.kind, found.edited) == (newest, "train", 0)
        assert [(one.kind, one.count) for one in found.kinds] == [("same_tokens", 1)]

    @pytest.mark.parametrize(
        "unfit",
        [
            {"status": "failed"},
            {"status": "running"},
            {"summary": {}},  # of an earlier version, which recorded none
            {"config": {"model": "other"}},
            {"kind": "train", "selection": Selection(limit=2)},
            {"kind": "train", "selection": Selection(pairs=[0])},
        ],
    )
    def test_is_none_where_no_run_looked_at_all_pairs_under_the_model(
        self, session: Session, unfit: dict[str, Any]
    ) -> None:
        dataset = factories.dataset(session)
        looked(session, dataset.id, **unfit)
        assert newest_findings(session, dataset.id, "tiny") is None

    def test_is_of_the_limits_that_are_asked_for(self, session: Session) -> None:
        dataset = factories.dataset(session)
        short = looked(session, dataset.id, config={"max_response_tokens": 16})
        looked(session, dataset.id)
        found = newest_findings(session, dataset.id, "tiny", max_response_tokens=16)
        assert found is not None
        assert (found.run_id, found.max_response_tokens) == (short, 16)
        assert newest_findings(session, dataset.id, "tiny", max_prompt_tokens=3) is None

    def test_says_how_many_pairs_were_edited_since(
        self, client: TestClient, session: Session
    ) -> None:
        dataset = factories.dataset(session)
        looked(session, dataset.id)
        session.commit()
        path = f"{API}/datasets/{dataset.id}/pairs/0"
        assert client.patch(path, json={"preferred": "Other", "version": 1}).status_code == 200
        found = newest_findings(session, dataset.id, "tiny")
        assert found is not None
        assert found.edited == 1


# --- a check run is no score run -----------------------------------------------------------------


def test_no_flags_or_rules_are_made_of_a_check_run(client: TestClient, run_id: int) -> None:
    dataset_id = client.get(f"{API}/runs/{run_id}").json()["dataset_id"]
    flags = {"score_run": run_id, "measure": "ches", "top_fraction": 0.5}
    assert client.post(f"{API}/datasets/{dataset_id}/flags", json=flags).status_code == 422
    rule = {"measures": [{"score_run": run_id, "fraction": 0.5}]}
    refused = client.post(f"{API}/datasets/{dataset_id}/selection", json=rule)
    assert refused.status_code == 422
    assert f"Run {run_id} is a check run; it has no scores." in refused.text
    order = client.get(f"{API}/datasets/{dataset_id}/reviews/order").json()
    assert order["score_run"] is None
