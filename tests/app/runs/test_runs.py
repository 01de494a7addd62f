"""Runs through the API: made, listed, renamed, cancelled, resumed, deleted, and their metrics."""

import base64
import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.broker import QUEUE, get_redis, reset_broker, wake_channel
from app.core.database import transaction
from app.core.settings import get_settings
from app.local.embedded import Services, free_port
from app.runs import requests
from app.store.runs import Metric, Run
from chesboard.configs import ScoreConfig, TrainConfig
from tests.app import factories

API = "/api/v1"
MODEL = "example/model"  # a hub name, which only a worker could find wanting
NAN = float("nan")


@pytest.fixture
def dataset_id(database: Services) -> int:
    with transaction() as session:
        return factories.dataset(session, pairs=3, name="words").id


@pytest.fixture
def make_run(dataset_id: int) -> Callable[..., int]:
    """Store a run of that dataset and return its id."""

    def make(**columns: Any) -> int:
        with transaction() as session:
            return factories.run(session, dataset_id, **columns).id

    return make


def post(client: TestClient, dataset_id: int, kind: str = "train", **body: Any) -> Any:
    config = {"model": MODEL, **body.pop("config", {})}
    return client.post(
        f"{API}/runs", json={"kind": kind, "dataset_id": dataset_id, "config": config, **body}
    )


def messages() -> list[int]:
    """The run ids in the broker's queue, taken out, oldest first."""
    found = []
    while raw := get_redis().rpop(QUEUE):
        assert isinstance(raw, bytes)
        body = base64.b64decode(json.loads(raw)["body"])
        found.append(json.loads(body)[0][0])
    return found


@pytest.fixture
def redis_away(database: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings name a Redis that nobody started."""
    with monkeypatch.context() as patch:
        patch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
        get_settings.cache_clear()
        reset_broker()
        yield
    get_settings.cache_clear()
    reset_broker()


# --- making ----------------------------------------------------------------------------------


def test_a_new_run_is_queued_with_its_full_configuration(
    client: TestClient, dataset_id: int
) -> None:
    answer = post(client, dataset_id, "score", config={"batch_tokens": 64})
    assert answer.status_code == 201
    run = answer.json()
    assert answer.headers["location"] == f"/api/v1/runs/{run['id']}"
    assert (run["kind"], run["status"], run["dataset_name"]) == ("score", "queued", "words")
    assert run["config"] == ScoreConfig(model=MODEL, batch_tokens=64).model_dump(mode="json")
    assert run["progress"] == {"done": 0, "total": None, "unit": "pairs", "eta_seconds": None}
    assert (run["verdict"], run["displaced"], run["error"], run["messages"]) == (
        None,
        None,
        None,
        [],
    )
    assert client.get(f"{API}/runs/{run['id']}").json() == run


@pytest.mark.parametrize(
    ("kind", "config", "name"),
    [
        ("train", {"objective": "ipo"}, "ipo on words"),
        ("score", {}, "CHES of words"),
        ("evaluate", {}, "Likelihoods of words"),
        ("check", {}, "Check of words"),
    ],
)
def test_a_run_without_a_name_gets_one(
    client: TestClient, dataset_id: int, kind: str, config: dict[str, Any], name: str
) -> None:
    assert post(client, dataset_id, kind, config=config).json()["name"] == name


def test_the_learning_rate_that_was_left_out_is_stored_as_the_optimizers(
    client: TestClient, dataset_id: int
) -> None:
    run = post(client, dataset_id, config={"optimizer": "rmsprop"}).json()
    assert run["config"]["learning_rate"] == 1e-7
    stored = TrainConfig.model_validate(run["config"])
    assert stored.model_dump(mode="json") == run["config"]


def test_prompts_to_watch_may_be_text_or_messages(client: TestClient, dataset_id: int) -> None:
    prompts: list[dict[str, Any]] = [
        {"prompt": "Is it?", "watch": ["Yes", "No"], "name": "it"},
        {"prompt": [{"role": "user", "content": "Go on"}]},
    ]
    positions = {"preferred": "all", "dispreferred": [0, 3]}
    config = {"probes": {"prompts": prompts}, "ledger_positions": positions}
    stored = post(client, dataset_id, config=config).json()["config"]
    assert stored["probes"]["prompts"][0] == prompts[0]
    assert stored["probes"]["prompts"][1] == {**prompts[1], "watch": [], "name": None}
    assert stored["ledger_positions"] == positions


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"beta": 0}, "config.beta"),
        ({"batch_size": "many"}, "config.batch_size"),
        ({"objective": "magic"}, "config.objective"),
        ({"no_such_setting": 1}, "config.no_such_setting"),
        ({"probes": {"pairs": [-1]}}, "config.probes.pairs.0"),
        ({"probes": {"pairs": [0, 3]}}, "config.probes.pairs"),
        ({"selection": {"pairs": [2**40]}}, "config.selection.pairs.0"),
        ({"model": "nowhere"}, "config.model"),
        ({"token_groups": {"odd": ["a\0b"]}}, "config.token_groups"),
        ({"token_groups": {f"g{n}": ["a"] for n in range(33)}}, "config.token_groups"),
        ({"opposite_groups": [["odd", "even"]]}, "config.opposite_groups"),
        (
            {"token_groups": {"odd": ["a"]}, "opposite_groups": [["odd", "odd"]]},
            "config.opposite_groups",
        ),
        (
            {"token_groups": {"odd": ["a"]}, "opposite_groups": [["odd"]]},
            "config.opposite_groups.0.1",
        ),
        ({"probes": {"prompts": [{"prompt": ""}]}}, "config.probes.prompts.0.prompt"),
        ({"probes": {"prompts": [{"prompt": "a"}] * 17}}, "config.probes.prompts"),
        (
            {"probes": {"prompts": [{"prompt": "a", "watch": ["b"] * 17}]}},
            "config.probes.prompts.0.watch",
        ),
        ({"probes": {"prompts": [{"prompt": "a\0"}]}}, "config.probes"),
        ({"answer_every": 0}, "config.answer_every"),
        ({"chat_template": "{% for %}"}, "config.chat_template"),
        ({"chat_template": ""}, "config.chat_template"),
        ({"chat_template": "a\0"}, "config.chat_template"),
        ({"chat_template_kwargs": {"tokenize": True}}, "config.chat_template_kwargs"),
        ({"chat_template_kwargs": {"a": "b\0"}}, "config.chat_template_kwargs"),
        ({"ledger_positions": {"chosen": [0]}}, "config.ledger_positions.chosen"),
        ({"objective": "ipo", "label_smoothing": 0.1}, "config.label_smoothing"),
        ({"robust": True}, "config.robust"),
        ({"objective": "odpo"}, "config.odpo_unscored"),
        ({"pair_weights": {"score_run": 999}}, "config.pair_weights.score_run"),
        ({"pair_weights": {"score_run": 1, "slope": 0}}, "config.pair_weights.slope"),
        (
            {"objective": "cross_entropy", "reward_calibration": True},
            "config.reward_calibration",
        ),
        ({"objective": "cross_entropy", "extend_sft_epochs": 1}, "config.extend_sft_epochs"),
        ({"refresh_filter": {}}, "config.refresh_filter.reward_model"),
        ({"refresh_filter": {"reward_model": "none"}}, "config.refresh_filter.reward_model"),
        ({"refresh_filter": {"reward_model": "tiny"}}, "config.refresh_filter.reward_model"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    client: TestClient, dataset_id: int, config: dict[str, Any], field: str
) -> None:
    answer = post(client, dataset_id, config=config)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert error["message"]
    assert client.get(f"{API}/runs").json()["total"] == 0
    assert messages() == []


def test_a_new_run_says_what_its_objective_does_not_read(
    client: TestClient, dataset_id: int
) -> None:
    config = {"objective": "cal_dpo", "beta": 0.001, "dpop_lambda": 50}
    ignored, torn = post(client, dataset_id, config=config).json()["messages"]
    assert ignored == "dpop_lambda has no effect under cal_dpo."
    assert "0.05 or more" in torn


def test_a_number_that_json_lacks_is_refused(client: TestClient, dataset_id: int) -> None:
    body = {"kind": "train", "dataset_id": dataset_id, "config": {"model": MODEL}}
    for value in ("NaN", "Infinity"):
        body["config"] = {"model": MODEL, "slic_delta": float(value)}
        headers = {"Content-Type": "application/json"}
        answer = client.post(f"{API}/runs", content=json.dumps(body), headers=headers)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "config.slic_delta"


def test_every_wrong_setting_is_named_at_once(client: TestClient, dataset_id: int) -> None:
    answer = post(client, dataset_id, config={"beta": -1, "epochs": 0})
    assert {error["field"] for error in answer.json()["errors"]} == {
        "config.beta",
        "config.epochs",
    }


@pytest.mark.parametrize("missing", [0, 99, 2**70])
def test_an_unknown_dataset_is_named(client: TestClient, missing: int) -> None:
    answer = post(client, missing)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "dataset_id"


def test_the_forecast_that_a_run_was_set_up_with_is_stored_if_it_is_about_the_run(
    client: TestClient, dataset_id: int, session: Session
) -> None:
    config = {"model": MODEL}
    scored = factories.run(session, dataset_id, kind="score", config=config).id
    longer = {"model": MODEL, "max_prompt_tokens": 9}
    unfit = [
        factories.run(session, dataset_id, kind="score", config=longer).id,
        factories.run(session, factories.dataset(session).id, kind="score", config=config).id,
        factories.run(session, dataset_id, config=config).id,
        2**40,
    ]
    session.commit()
    made = post(client, dataset_id, config={"forecast_run": scored})
    assert made.status_code == 201
    assert made.json()["config"]["forecast_run"] == scored
    for run_id in unfit:
        refused = post(client, dataset_id, config={"forecast_run": run_id})
        assert refused.status_code == 422
        [error] = refused.json()["errors"]
        assert error["field"] == "config.forecast_run"
        assert error["message"].endswith("Leave this empty.")


def test_the_models_folder_is_looked_through_before_the_dataset_is_locked(
    client: TestClient, dataset_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for name in ("check_model_exists", "check_revision", "lock_dataset"):
        original = getattr(requests, name)

        def noted(*given: Any, name: str = name, original: Any = original) -> Any:
            order.append(name)
            return original(*given)

        monkeypatch.setattr(requests, name, noted)
    assert post(client, dataset_id).status_code == 201
    assert order == ["check_model_exists", "check_revision", "lock_dataset"]


def test_more_probes_may_be_asked_for_than_there_are_pairs(
    client: TestClient, dataset_id: int
) -> None:
    assert post(client, dataset_id, config={"probes": {"count": 64}}).status_code == 201


def test_the_workers_hear_of_a_run_after_it_can_be_read(
    client: TestClient, dataset_id: int
) -> None:
    statuses: list[str | None] = []
    deadline = time.monotonic() + 60

    def read_on_message() -> None:
        for _ in range(20):
            while (found := get_redis().brpop(QUEUE, timeout=1)) is None:
                assert time.monotonic() < deadline, "a message is missing"
            body = json.loads(base64.b64decode(json.loads(found[1])["body"]))
            with transaction() as session:
                statuses.append(session.scalar(select(Run.status).where(Run.id == body[0][0])))

    reader = threading.Thread(target=read_on_message)
    reader.start()
    for _ in range(20):
        assert post(client, dataset_id, "score").status_code == 201
    reader.join()
    assert statuses == ["queued"] * 20


def test_without_a_broker_the_run_is_stored_and_the_answer_says_so(
    client: TestClient, dataset_id: int, redis_away: None
) -> None:
    began = time.monotonic()
    answer = post(client, dataset_id, "score")
    assert time.monotonic() - began < 3
    assert answer.status_code == 201
    assert "The broker (Redis) is unreachable" in answer.json()["messages"][0]
    assert client.get(f"{API}/runs/{answer.json()['id']}").json()["status"] == "queued"


# --- reading ---------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_filtered(
    client: TestClient, make_run: Callable[..., int], session: Session
) -> None:
    other = factories.dataset(session, name="other")
    session.commit()
    first = make_run(kind="score", status="succeeded")
    second = make_run(kind="train", status="failed")
    third = factories.run(session, other.id, kind="train", status="succeeded").id
    session.commit()

    def ids(**query: Any) -> list[int]:
        page = client.get(f"{API}/runs", params=query).json()
        assert page["total"] == len(page["items"])
        return [run["id"] for run in page["items"]]

    assert ids() == [third, second, first]
    assert ids(kind="train") == [third, second]
    assert ids(status="succeeded") == [third, first]
    assert ids(dataset_id=other.id) == [third]
    assert ids(kind="score", status="failed") == []
    page = client.get(f"{API}/runs", params={"limit": 1, "offset": 1}).json()
    assert (page["total"], [run["id"] for run in page["items"]]) == (3, [second])


PHASE_OF_STATUS: dict[str, dict[str, Any] | None] = {
    "queued": {"name": "waiting for a worker", "done": None, "total": None, "unit": None},
    "running": {"name": "dequantizing", "done": 4, "total": 12, "unit": "tensors"},
    "succeeded": None,
    "failed": None,
    "cancelled": None,
}


@pytest.mark.parametrize("status", PHASE_OF_STATUS)
def test_a_run_says_what_it_is_doing_until_it_is_finished(
    client: TestClient, make_run: Callable[..., int], status: str
) -> None:
    phase: dict[str, Any] = {
        "phase_done": 4,
        "phase_total": 12,
        "phase_unit": "tensors",
        "phase_eta_seconds": NAN,
    }
    run_id = make_run(status=status, phase="dequantizing", **phase)
    expected: dict[str, Any] | None = PHASE_OF_STATUS[status]
    found = client.get(f"{API}/runs/{run_id}").json()["phase"]
    assert found == (None if expected is None else {**expected, "eta_seconds": None})


def test_a_running_run_of_an_earlier_worker_has_no_phase(
    client: TestClient, make_run: Callable[..., int]
) -> None:
    run_id = make_run(status="running", progress_done=2, progress_total=5)
    run = client.get(f"{API}/runs/{run_id}").json()
    assert run["phase"] is None
    assert run["progress"]["done"] == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/resume"),
        ("GET", "/metrics"),
        ("GET", "/metrics?format=csv"),
        ("GET", "/events"),
    ],
)
def test_a_run_that_is_not_there_is_a_404(client: TestClient, method: str, path: str) -> None:
    for run_id in (99, 2**80):
        answer = client.request(method, f"{API}/runs/{run_id}{path}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"There is no run {run_id}."


def test_a_run_tells_what_happened_to_its_probes(
    client: TestClient, make_run: Callable[..., int], session: Session
) -> None:
    run_id = make_run(status="succeeded")
    factories.probe(session, run_id)
    for step in (0, 10):
        factories.probe_step(session, run_id, step=step)
    session.commit()
    run = client.get(f"{API}/runs/{run_id}").json()
    assert run["displaced"] is True
    assert "lost 0.2 nats while the margin grew" in run["verdict"]
    assert client.get(f"{API}/runs").json()["items"] == [run]


# --- changing --------------------------------------------------------------------------------


def test_renaming(client: TestClient, make_run: Callable[..., int]) -> None:
    run_id = make_run(revision=7)
    answer = client.patch(f"{API}/runs/{run_id}", json={"name": "the second try"})
    assert (answer.json()["name"], answer.json()["revision"]) == ("the second try", 8)
    for name in ("", "a\0b", "x" * 201):
        assert client.patch(f"{API}/runs/{run_id}", json={"name": name}).status_code == 422


def test_pages_are_woken_with_the_revision_that_was_committed(
    client: TestClient, make_run: Callable[..., int]
) -> None:
    run_id = make_run(status="running", revision=7)
    with get_redis().pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(wake_channel(run_id))
        subscriber.get_message(timeout=1)
        client.post(f"{API}/runs/{run_id}/cancel")
        message = subscriber.get_message(timeout=1) or subscriber.get_message(timeout=1)
    assert message is not None
    assert message["data"] == b"8"


def test_a_queued_run_is_cancelled_at_once(
    client: TestClient, make_run: Callable[..., int]
) -> None:
    run_id = make_run(status="queued")
    run = client.post(f"{API}/runs/{run_id}/cancel").json()
    assert run["status"] == "cancelled"
    assert run["finished_at"] is not None
    again = client.post(f"{API}/runs/{run_id}/cancel")
    assert (again.status_code, again.json()) == (200, run)


def test_a_running_run_is_asked_to_stop_once(
    client: TestClient, make_run: Callable[..., int]
) -> None:
    run_id = make_run(status="running", revision=1)
    for _ in range(2):
        run = client.post(f"{API}/runs/{run_id}/cancel").json()
        assert (run["status"], run["cancel_requested"], run["revision"]) == ("running", True, 2)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_finished_run_cannot_be_cancelled(
    client: TestClient, make_run: Callable[..., int], status: str
) -> None:
    run_id = make_run(status=status)
    answer = client.post(f"{API}/runs/{run_id}/cancel")
    assert answer.status_code == 409
    assert client.get(f"{API}/runs/{run_id}").json()["status"] == status


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_resuming_queues_a_run_with_all_its_tries(
    client: TestClient, make_run: Callable[..., int], status: str
) -> None:
    run_id = make_run(
        status=status,
        error={"message": "no memory"},
        cancel_requested=True,
        attempts=5,
        tries_here=3,
    )
    run = client.post(f"{API}/runs/{run_id}/resume").json()
    assert (run["status"], run["error"], run["cancel_requested"]) == ("queued", None, False)
    assert (run["attempts"], run["finished_at"]) == (0, None)
    assert messages() == [run_id]


@pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
def test_only_failed_and_cancelled_runs_are_resumed(
    client: TestClient, make_run: Callable[..., int], status: str
) -> None:
    run_id = make_run(status=status)
    assert client.post(f"{API}/runs/{run_id}/resume").status_code == 409
    assert messages() == []


def test_deleting_takes_numbers_and_folder_along(
    client: TestClient, make_run: Callable[..., int], session: Session
) -> None:
    run_id = make_run(status="succeeded")
    factories.metric(session, run_id, 1)
    factories.probe(session, run_id)
    factories.probe_step(session, run_id)
    session.commit()
    folder = get_settings().run_path(run_id)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    assert client.delete(f"{API}/runs/{run_id}").status_code == 204
    assert client.get(f"{API}/runs/{run_id}").status_code == 404
    assert session.scalars(select(Metric)).all() == []
    assert not folder.exists()


def test_a_running_run_is_not_deleted(client: TestClient, make_run: Callable[..., int]) -> None:
    run_id = make_run(status="running")
    folder = get_settings().run_path(run_id)
    folder.mkdir(parents=True)
    assert client.delete(f"{API}/runs/{run_id}").status_code == 409
    assert folder.exists()


def test_a_result_that_a_waiting_run_starts_from_is_not_deleted(
    client: TestClient, make_run: Callable[..., int]
) -> None:
    source = make_run(status="succeeded")
    user = make_run(status="queued", config={"model": f"run:{source}"})
    answer = client.delete(f"{API}/runs/{source}")
    assert answer.status_code == 409
    assert f"run {user}" in answer.json()["detail"]
    client.post(f"{API}/runs/{user}/cancel")
    assert client.delete(f"{API}/runs/{source}").status_code == 204


def test_scores_that_a_waiting_run_weighs_its_pairs_by_are_not_deleted(
    client: TestClient, make_run: Callable[..., int]
) -> None:
    scored = make_run(kind="score", status="succeeded")
    user = make_run(status="queued", config={"pair_weights": {"score_run": scored}})
    answer = client.delete(f"{API}/runs/{scored}")
    assert answer.status_code == 409
    assert f"run {user}" in answer.json()["detail"]
    client.post(f"{API}/runs/{user}/cancel")
    assert client.delete(f"{API}/runs/{scored}").status_code == 204


# --- metrics ---------------------------------------------------------------------------------


def test_metrics_in_the_order_of_steps(
    client: TestClient, make_run: Callable[..., int], session: Session
) -> None:
    run_id = make_run(revision=1)
    for step in (2, 1, 3):
        factories.metric(session, run_id, step, loss=step / 10)
    session.commit()
    answer = client.get(f"{API}/runs/{run_id}/metrics").json()
    assert [(item["step"], item["loss"]) for item in answer["items"]] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]
    assert answer["revision"] == 4
    later = client.get(f"{API}/runs/{run_id}/metrics", params={"since": 2}).json()
    assert [item["step"] for item in later["items"]] == [3]


def test_a_nonfinite_value_is_null_and_named(
    client: TestClient, make_run: Callable[..., int], session: Session
) -> None:
    run_id = make_run()
    factories.metric(session, run_id, 1, loss=float("nan"), grad_norm=float("inf"), margin=None)
    session.commit()
    [item] = client.get(f"{API}/runs/{run_id}/metrics").json()["items"]
    assert (item["loss"], item["grad_norm"], item["margin"]) == (None, None, None)
    assert item["nonfinite"] == ["loss", "grad_norm"]


def test_metrics_as_csv(client: TestClient, make_run: Callable[..., int], session: Session) -> None:
    run_id = make_run()
    factories.metric(session, run_id, 1, loss=0.5)
    factories.metric(session, run_id, 2, loss=float("nan"))
    session.commit()
    answer = client.get(f"{API}/runs/{run_id}/metrics", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [(row["step"], row["loss"]) for row in rows] == [("1", "0.5"), ("2", "")]


# --- long runs -----------------------------------------------------------------------------------


def test_many_metrics_are_downsampled_and_keep_every_extreme(
    client: TestClient, session: Session
) -> None:
    run = factories.run(session, factories.dataset(session).id, revision=5)
    for step in range(1, 301):
        spike = {"loss": 99.0} if step == 123 else {"loss": NAN} if step == 200 else {}
        factories.metric(session, run.id, step, revision=5, margin=0.1, **spike)
    session.commit()
    path = f"/api/v1/runs/{run.id}/metrics"
    whole = client.get(path).json()
    assert (len(whole["items"]), whole["total"], whole["decimated"]) == (300, 300, False)
    thin = client.get(path, params={"points": 60}).json()
    assert (thin["total"], thin["decimated"], thin["revision"]) == (300, True, 5)
    steps = [item["step"] for item in thin["items"]]
    assert {1, 123, 200, 300} <= set(steps)
    assert len(steps) <= 60
    assert thin["items"] == [item for item in whole["items"] if item["step"] in steps]
    zoomed = client.get(path, params={"points": 60, "from_step": 100, "to_step": 130}).json()
    assert [item["step"] for item in zoomed["items"]] == list(range(100, 131))
    assert (zoomed["total"], zoomed["decimated"]) == (31, False)
    later = client.get(path, params={"points": 60, "since": 280}).json()
    assert [item["step"] for item in later["items"]] == list(range(281, 301))


@pytest.mark.parametrize("query", ["points=1", "points=x", "from_step=-1", "to_step=99999999999"])
def test_a_window_that_makes_no_sense_is_refused(
    client: TestClient, session: Session, query: str
) -> None:
    run = factories.run(session, factories.dataset(session).id)
    session.commit()
    for path in ("metrics", "probes/bands"):
        answer = client.get(f"/api/v1/runs/{run.id}/{path}?{query}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == query.split("=")[0]
