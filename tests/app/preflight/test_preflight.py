"""Pre-flights through the API: predictions, the influence matrix, and what training then did."""

import csv
import shutil
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.store.preflight import PreflightPair
from app.store.runs import ReferenceLogprob
from app.store.selection import record_selection
from chesboard.configs import Selection
from tests.app import factories
from tests.app.runs.external.sending import CONFIG, begin, probe, probe_step, send

API = "/api/v1"
MATRIX = {0: [-0.2, 0.1, 0.0], 1: [0.3, 0.5, -0.4], 2: [0.0, -0.6, 0.7]}
"""Pair → what its step does to log p(y+) of pairs 0, 1 and 2."""


def add_pair(session: Session, run_id: int, pair: int, **columns: Any) -> None:
    values: dict[str, Any] = {
        "preferred_logprob": -2.0,
        "dispreferred_logprob": -3.0,
        "preferred_change": MATRIX[pair][pair],
        "dispreferred_change": -1.0,
        "gainers": [
            {"token_id": k, "token": f"t{k}", "initial": 0.1, "change": 0.01 / k}
            for k in range(1, 6)
        ],
        "losers": [{"token_id": 9, "token": "No", "initial": 0.5, "change": -0.02}],
        "rest_change": -0.0028,
        "pairs": [0, 1, 2],
        "influence_preferred": MATRIX[pair],
        "influence_dispreferred": [-value for value in MATRIX[pair]],
        "fork_position": 0,
        "preferred_tokens": ["No", "<end>"],
        "dispreferred_tokens": ["Ne", "ver", "<end>"],
        "preferred_count": 2,
        "dispreferred_count": 3,
        "interference": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "pulls": [5.0, 7.0, 9.0],
        "own": 11.0,
        "pull": 21.0,
    }
    session.add(PreflightPair(run_id=run_id, pair=pair, **{**values, **columns}))
    session.flush()


def make_run(session: Session, finished: tuple[int, ...] = (0, 1, 2)) -> Any:
    dataset = factories.dataset(session, 3)
    run = factories.run(session, dataset.id, kind="preflight", status="succeeded")
    record_selection(session, run.id, dataset.id, Selection())
    for pair in finished:
        add_pair(session, run.id, pair)
    session.commit()
    return run


def trained(session: Session, dataset_id: int, changes: dict[int, float], **config: Any) -> int:
    run = factories.run(session, dataset_id, status="succeeded", config=config)
    for pair, change in changes.items():
        session.add(
            ReferenceLogprob(
                run_id=run.id,
                pair=pair,
                preferred=-2.0,
                dispreferred=-3.0,
                final_preferred=-2.0 + change,
                final_dispreferred=-3.5,
            )
        )
    session.commit()
    return run.id


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"{API}/runs/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestList:
    def test_pairs_that_fall_furthest_come_first(
        self, client: TestClient, session: Session
    ) -> None:
        run = make_run(session)
        found = get(client, f"{run.id}/preflight")
        assert [item["pair"] for item in found["items"]] == [0, 1, 2]
        assert [item["falls"] for item in found["items"]] == [True, False, False]
        assert (found["total"], found["finished"], found["falling"]) == (3, 3, 1)
        item = found["items"][1]
        assert [gainer["token"] for gainer in item["gainers"]] == ["t1", "t2", "t3"]
        assert (item["raised_by"], item["lowered_by"]) == (0, 2)
        assert item["preferred"] == "No"

    def test_a_pair_that_no_other_moves_names_none(
        self, client: TestClient, session: Session
    ) -> None:
        run = make_run(session, finished=(1,))
        (item,) = get(client, f"{run.id}/preflight")["items"]
        assert (item["raised_by"], item["lowered_by"]) == (None, None)

    def test_the_matrix_has_a_row_for_each_finished_pair(
        self, client: TestClient, session: Session
    ) -> None:
        run = make_run(session, finished=(0, 2))
        found = get(client, f"{run.id}/preflight")
        influence = found["influence"]
        assert (influence["rows"], influence["columns"]) == ([0, 2], [0, 1, 2])
        assert influence["preferred"] == [MATRIX[0], MATRIX[2]]
        assert sorted(influence["order"]) == [0, 1, 2]
        assert influence["order"][-1] == 1
        assert (found["total"], found["finished"]) == (3, 2)

    def test_before_the_first_pair_there_is_nothing(
        self, client: TestClient, session: Session
    ) -> None:
        run = make_run(session, finished=())
        found = get(client, f"{run.id}/preflight")
        assert (found["total"], found["finished"], found["items"]) == (3, 0, [])
        assert found["influence"]["order"] == []

    def test_as_csv_a_line_a_pair(self, client: TestClient, session: Session) -> None:
        run = make_run(session)
        answer = client.get(f"{API}/runs/{run.id}/preflight?format=csv")
        assert "attachment" in answer.headers["content-disposition"]
        lines = list(csv.DictReader(answer.text.splitlines()))
        assert [line["pair"] for line in lines] == ["0", "1", "2"]
        assert lines[2]["influence_on_1"] == "-0.6"
        assert lines[0]["measured_preferred_change"] == ""

    @pytest.mark.parametrize("kind", ["train", "score"])
    def test_other_runs_have_none(self, client: TestClient, session: Session, kind: str) -> None:
        dataset = factories.dataset(session)
        run = factories.run(session, dataset.id, kind=kind)
        session.commit()
        assert client.get(f"{API}/runs/{run.id}/preflight").status_code == 404
        assert client.get(f"{API}/runs/{run.id}/preflight/0").status_code == 404


class TestMeasured:
    def test_the_newest_run_from_the_same_model_stands_beside_it(
        self, client: TestClient, session: Session
    ) -> None:
        run = make_run(session)
        trained(session, run.dataset_id, {0: 0.5})
        newest = trained(session, run.dataset_id, {0: -0.1, 1: 0.2, 2: 0.3})
        trained(session, run.dataset_id, {0: 9.0}, model="another")
        trained(session, run.dataset_id, {0: 9.0}, revision="v2")
        found = get(client, f"{run.id}/preflight")
        assert found["train_run"] == newest
        assert len(found["train_runs"]) == 2
        measured = [item["measured_preferred_change"] for item in found["items"]]
        assert measured == pytest.approx([-0.1, 0.2, 0.3])
        assert found["spearman"] == pytest.approx(1.0)
        assert (found["same_sign"], found["compared"]) == (3, 3)

    def test_another_run_can_be_chosen(self, client: TestClient, session: Session) -> None:
        run = make_run(session)
        older = trained(session, run.dataset_id, {0: 0.5})
        trained(session, run.dataset_id, {0: -0.1})
        found = get(client, f"{run.id}/preflight", train_run=older)
        assert found["items"][0]["measured_preferred_change"] == pytest.approx(0.5)
        assert found["items"][1]["measured_preferred_change"] is None
        assert (found["same_sign"], found["compared"], found["spearman"]) == (0, 1, None)

    def test_one_of_another_model_cannot(self, client: TestClient, session: Session) -> None:
        run = make_run(session)
        other = trained(session, run.dataset_id, {0: 9.0}, model="another")
        answer = client.get(f"{API}/runs/{run.id}/preflight", params={"train_run": other})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "train_run"

    def test_one_that_was_trained_elsewhere_stands_there_once_it_has_ended(
        self, client: TestClient, session: Session
    ) -> None:
        """By what it watched; the model's folder may have another name there."""
        run = make_run(session)
        ids = []
        for model in ("org/tiny", "models/another"):
            made = begin(client, dataset_id=run.dataset_id, config={**CONFIG, "model": model})
            send(client, made["id"], [probe(1), probe_step(0, 1), probe_step(9, 1)])
            assert get(client, f"{run.id}/preflight")["train_runs"] == []
            ids.append(made["id"])
        for one in ids:
            ending = {"attempt": 1, "status": "succeeded"}
            assert client.post(f"{API}/runs/{one}/finish", json=ending).status_code == 200
        found = get(client, f"{run.id}/preflight")
        assert [(one["run_id"], one["measured"]) for one in found["train_runs"]] == [(ids[0], 1)]
        measured = [item["measured_preferred_change"] for item in found["items"]]
        assert measured == [None, pytest.approx(-0.54), None]

    def test_without_training_nothing_is_measured(
        self, client: TestClient, session: Session
    ) -> None:
        found = get(client, f"{make_run(session).id}/preflight")
        assert (found["train_run"], found["train_runs"], found["compared"]) == (None, [], 0)


class TestPair:
    def test_has_fork_and_interference(self, client: TestClient, session: Session) -> None:
        run = make_run(session)
        found = get(client, f"{run.id}/preflight/0")
        assert [gainer["token"] for gainer in found["gainers"]] == ["t1", "t2", "t3", "t4", "t5"]
        assert found["losers"][0]["change"] == -0.02
        assert found["interference"] == {
            "map": [[1, 2, 3], [4, 5, 6]],
            "pulls": [5, 7, 9],
            "is_clipped": False,
        }
        assert (found["head_own"], found["head_pull"]) == (11, 21)

    def test_says_where_a_response_is_longer_than_its_map(
        self, client: TestClient, session: Session
    ) -> None:
        run = make_run(session, finished=())
        add_pair(session, run.id, 0, dispreferred_count=300)
        session.commit()
        assert get(client, f"{run.id}/preflight/0")["interference"]["is_clipped"] is True

    def test_has_no_map_where_the_head_is_not_linear(
        self, client: TestClient, session: Session
    ) -> None:
        run = make_run(session, finished=())
        add_pair(session, run.id, 0, interference=None, pulls=None, own=None, pull=None)
        session.commit()
        found = get(client, f"{run.id}/preflight/0")
        assert (found["interference"], found["head_own"]) == (None, None)

    def test_that_is_not_finished_is_not_found(self, client: TestClient, session: Session) -> None:
        run = make_run(session, finished=(0,))
        assert client.get(f"{API}/runs/{run.id}/preflight/1").status_code == 404


class TestRequest:
    def ask(self, client: TestClient, dataset_id: int, **config: Any) -> Any:
        body = {
            "kind": "preflight",
            "dataset_id": dataset_id,
            "config": {"model": "tiny", **config},
        }
        return client.post(f"{API}/runs", json=body)

    def test_more_pairs_than_it_takes_are_refused_with_the_field(
        self, client: TestClient, session: Session, tiny_model_in_place: None
    ) -> None:
        dataset = factories.dataset(session, 65)
        session.commit()
        answer = self.ask(client, dataset.id, selection={})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"] == "config.selection.limit"
        assert "65 pairs" in error["message"]
        assert self.ask(client, dataset.id, selection={"limit": 64}).status_code == 201

    def test_pairs_that_are_not_there_are_named(
        self, client: TestClient, session: Session, tiny_model_in_place: None
    ) -> None:
        dataset = factories.dataset(session, 3)
        session.commit()
        answer = self.ask(client, dataset.id, selection={"pairs": [0, 7]})
        assert answer.json()["errors"][0]["field"] == "config.selection.pairs"

    @pytest.fixture
    def tiny_model_in_place(self, tiny_model_dir: Any, models_dir: Any) -> None:
        shutil.copytree(tiny_model_dir, models_dir / "tiny")
