"""Decisions of a training run's filter through the API, and what a new run needs for one."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.store.selection import record_selection
from chesboard.configs import Selection
from tests.app import factories
from tests.tiny_models.classifiers import save_classifier, save_reward_model

API = "/api/v1"
FILTER = {"reward_model": "judge"}


@pytest.fixture
def run_id(session: Session) -> int:
    """Pair 1 is dropped before the first epoch, pair 0 before the second; pair 3 had no answer."""
    chat: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Help me"}]
    pairs: list[Any] = [(f"Prompt {n}", "=Yes", "No") for n in range(3)]
    dataset = factories.dataset(session, [*pairs, (chat, "Yes", "No")])
    run = factories.run(
        session, dataset.id, status="succeeded", name="filtered", config={"refresh_filter": FILTER}
    )
    record_selection(session, run.id, dataset.id, Selection())
    factories.decision(session, run.id, 0)
    factories.decision(session, run.id, 1, kept=False, text="I KNOW", sample_reward=2.5)
    factories.decision(session, run.id, 2, sample_reward=math.nan, text="I know")
    factories.decision(session, run.id, 3, text=None, sample_reward=None)
    factories.decision(session, run.id, 0, 2, kept=False)
    factories.decision(session, run.id, 2, 2)
    factories.decision(session, run.id, 3, 2, sample_reward=-1.5)
    session.commit()
    return run.id


def get(client: TestClient, run_id: int, **query: Any) -> Any:
    answer = client.get(f"{API}/runs/{run_id}/filter-decisions", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keys(page: Any) -> list[tuple[int, int]]:
    return [(item["epoch"], item["pair"]) for item in page["items"]]


def test_decisions_come_by_epoch_with_answers_beside_preferred_responses(
    client: TestClient, run_id: int
) -> None:
    page = get(client, run_id)
    assert keys(page) == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 2), (2, 3)]
    assert page["total"] == page["decisions"] == 7
    assert page["items"][1] == {
        "pair": 1,
        "epoch": 1,
        "kept": False,
        "sample_reward": 2.5,
        "preferred_reward": 0.5,
        "text": "I KNOW",
        "prompt": "Prompt 1",
        "preferred": "=Yes",
    }
    assert page["items"][2]["sample_reward"] is None  # JSON has no NaN
    assert (page["items"][3]["text"], page["items"][3]["sample_reward"]) == (None, None)
    assert [turn["role"] for turn in page["items"][3]["prompt"]] == ["system", "user"]


def test_epochs_are_counted_and_their_means_leave_out_what_is_no_number(
    client: TestClient, run_id: int
) -> None:
    first, second = get(client, run_id, limit=0)["epochs"]
    assert (first["epoch"], first["pairs"], first["dropped"]) == (1, 4, 1)
    assert (first["mean_sample_reward"], first["mean_preferred_reward"]) == (1.0, 0.5)
    assert (second["epoch"], second["pairs"], second["dropped"]) == (2, 3, 1)
    assert second["mean_sample_reward"] == pytest.approx((1.5 - 0.5 - 1.5) / 3)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"kept": False}, [(1, 1), (2, 0)]),
        ({"kept": True, "epoch": 2}, [(2, 2), (2, 3)]),
        ({"pair": 0}, [(1, 0), (2, 0)]),
        ({"search": "i know"}, [(1, 1), (1, 2)]),
        ({"offset": 5, "limit": 1}, [(2, 2)]),
    ],
)
def test_decisions_are_filtered(
    client: TestClient, run_id: int, query: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    page = get(client, run_id, **query)
    assert keys(page) == expected
    assert page["decisions"] == 7


def test_downloads_hold_every_decision_that_matches(client: TestClient, run_id: int) -> None:
    address = f"{API}/runs/{run_id}/filter-decisions"
    answer = client.get(address, params={"format": "jsonl", "epoch": 1})
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert rows == get(client, run_id, epoch=1)["items"]
    answer = client.get(address, params={"format": "csv", "kept": False})
    assert f'filename="run-{run_id}-filter.csv"' in answer.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["epoch"], row["pair"], row["kept"]) for row in table] == [
        ("1", "1", "false"),
        ("2", "0", "false"),
    ]
    assert table[0]["preferred"] == "'=Yes"  # no formula to a spreadsheet


def test_a_run_without_a_filter_has_no_decisions(client: TestClient, session: Session) -> None:
    run = factories.run(session, factories.dataset(session).id)
    session.commit()
    for query in ({}, {"format": "csv"}):
        answer = client.get(f"{API}/runs/{run.id}/filter-decisions", params=query)
        assert answer.status_code == 404


def test_a_pairs_history_says_which_run_dropped_it(
    client: TestClient, session: Session, run_id: int
) -> None:
    dataset_id = client.get(f"{API}/runs/{run_id}").json()["dataset_id"]
    other = factories.dataset(session, name="other")
    elsewhere = factories.run(session, other.id, config={"refresh_filter": FILTER})
    factories.decision(session, elsewhere.id, 0, kept=False)
    session.commit()

    def dropped(pair: int) -> Any:
        return client.get(f"{API}/datasets/{dataset_id}/pairs/{pair}/review/history").json()[
            "dropped"
        ]

    assert dropped(0) == [
        {
            "run_id": run_id,
            "run_name": "filtered",
            "epoch": 2,
            "text": "No.",
            "sample_reward": 1.5,
            "preferred_reward": 0.5,
        }
    ]
    assert dropped(2) == []


@pytest.fixture
def judges(models_dir: Path, tiny_model_dir: Path) -> None:
    (models_dir / "tiny").symlink_to(tiny_model_dir, target_is_directory=True)
    save_reward_model(models_dir / "judge")
    save_classifier(models_dir / "three")
    save_classifier(models_dir / "two")
    path = models_dir / "two" / "config.json"
    config = json.loads(path.read_text())
    config["id2label"] = {"0": "bad", "1": "good"}
    path.write_text(json.dumps(config))


@pytest.mark.usefixtures("judges")
@pytest.mark.parametrize(
    ("wanted", "field", "told"),
    [
        ({"reward_model": "judge"}, None, None),
        ({"reward_model": "two", "label": "good"}, None, None),
        ({"reward_model": "two"}, "label", "bad, good"),
        ({"reward_model": "two", "label": "fine"}, "label", "no label “fine”"),
        ({"reward_model": "judge", "label": "good"}, "label", "Leave the label out"),
        ({"reward_model": "three", "label": "refuses"}, "reward_model", "has 3 labels"),
        ({"reward_model": "tiny"}, "reward_model", "no sequence classifier"),
        ({"reward_model": "gone"}, "reward_model", "no model “gone”"),
    ],
)
def test_a_run_needs_a_reward_model_that_can_compare(
    client: TestClient,
    session: Session,
    wanted: dict[str, Any],
    field: str | None,
    told: str | None,
) -> None:
    dataset = factories.dataset(session)
    session.commit()
    config = {"model": "tiny", "refresh_filter": wanted}
    answer = client.post(
        f"{API}/runs", json={"kind": "train", "dataset_id": dataset.id, "config": config}
    )
    if field is None:
        assert answer.status_code == 201, answer.text
        assert answer.json()["config"]["refresh_filter"]["answer_tokens"] == 256
        return
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == f"config.refresh_filter.{field}"
    assert told is not None
    assert told in error["message"]
