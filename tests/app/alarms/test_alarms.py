"""Rules over training runs, what they raise, and the messages that are sent of it."""

import hashlib
import hmac
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update

from app.alarms import checking, webhooks
from app.core.database import transaction
from app.core.settings import Settings, get_settings
from app.store import leases
from app.store.alarms import AlarmDelivery
from app.store.revisions import next_revision
from app.store.runs import Run
from tests.app import factories
from tests.app.runs.external.sending import begin, metric, send
from tests.silent_server import silent_server
from tests.support import eventually


@pytest.fixture
def run_id(client: TestClient) -> int:
    """A training run of our own, at step 0."""
    with transaction() as session:
        run = factories.run(session, factories.dataset(session).id)
        factories.metric(session, run.id, 0, preferred_logprob=-2.0)
        return run.id


def add(client: TestClient, kind: str, threshold: float | None = None, **more: Any) -> int:
    body = {"kind": kind, "threshold": threshold, **more}
    answer = client.post("/api/v1/alarm-rules", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def alarms(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    """What there is after a check of what is new."""
    checking.check_all()
    found: list[dict[str, Any]] = client.get("/api/v1/alarms", params=query).json()["items"]
    return found


def recorded(run_id: int, step: int, **columns: Any) -> None:
    with transaction() as session:
        factories.metric(session, run_id, step, **columns)


@pytest.mark.parametrize(
    ("kind", "threshold", "calm", "alarming"),
    [
        ("displaced_fraction", 0.5, {"displaced_fraction": 0.5}, {"displaced_fraction": 0.75}),
        ("preferred_logprob", -10, {"preferred_logprob": -10.0}, {"preferred_logprob": -10.5}),
        ("loss_not_finite", None, {"loss": None}, {"loss": math.nan}),
        ("loss_not_finite", None, {"loss": 1e300}, {"loss": -math.inf}),
        ("displaced_fraction", 0.5, {"displaced_fraction": math.nan}, {"displaced_fraction": 1.0}),
    ],
)
def test_a_batch_raises_an_alarm_once(
    client: TestClient,
    run_id: int,
    kind: str,
    threshold: float | None,
    calm: dict[str, Any],
    alarming: dict[str, Any],
) -> None:
    add(client, kind, threshold)
    recorded(run_id, 1, **calm)
    assert alarms(client) == []
    recorded(run_id, 2, **alarming)
    [alarm] = alarms(client)
    assert (alarm["run_id"], alarm["kind"], alarm["step"]) == (run_id, kind, 2)
    recorded(run_id, 3, **alarming)
    assert len(alarms(client)) == 1


def test_the_end_of_a_run_raises_one(client: TestClient, run_id: int) -> None:
    add(client, "run_failed")
    assert alarms(client) == []
    with transaction() as session:
        run = session.get_one(Run, run_id)
        run.status, run.error = "failed", {"message": "out of memory"}
        next_revision(session, run_id)
    assert [alarm["message"] for alarm in alarms(client)] == ["it failed: out of memory"]


def test_a_run_that_ends_well_raises_none(client: TestClient, run_id: int) -> None:
    add(client, "run_failed")
    with transaction() as session:
        session.get_one(Run, run_id).status = "succeeded"
        next_revision(session, run_id)
    assert alarms(client) == []


def test_displaced_probes_raise_one(client: TestClient, run_id: int) -> None:
    add(client, "displaced_fraction", 0.5)
    still = {"preferred_logprobs": [-0.7, -0.1], "dispreferred_logprobs": [-1.6, -0.1]}
    with transaction() as session:
        for pair in (0, 1):
            factories.probe(session, run_id, pair)
            factories.probe_step(session, run_id, pair)
        factories.probe_step(session, run_id, 0, step=5)
        factories.probe_step(session, run_id, 1, step=5, **still)
    assert alarms(client) == [], "half of them are not over a half"
    with transaction() as session:
        factories.probe_step(session, run_id, 1, step=6)
    assert [alarm["message"] for alarm in alarms(client)] == [
        "100% of the watched pairs are displaced"
    ]


@pytest.mark.parametrize("is_external", [False, True])
def test_an_opposite_group_that_takes_the_lead_raises_one(
    client: TestClient, is_external: bool
) -> None:
    """Where a spelling of the preferred word gains as much, none is raised."""
    groups = {"negative": ["No"], "affirmative": ["Yes"]}
    declared = {"token_groups": groups, "opposite_groups": [["negative", "affirmative"]]}
    listed = [{"name": name, "tokens": tokens} for name, tokens in groups.items()]
    benign: dict[str, Any] = {
        "group_probs": [0.47, 0.1],
        "watched_probs": [0.47, 0.1],
        "gainers": [factories.entry(13, " no", 0.05, 0.04)],
    }
    kind = {"kind": "external"} if is_external else {}
    with transaction() as session:
        dataset_id = factories.dataset(session).id
        trainer = {"trainer": "another"} if is_external else {}
        run_id = factories.run(session, dataset_id, config={**declared, **trainer}, **kind).id
        factories.probe(session, run_id, groups=listed)
        factories.probe_step(session, run_id, step=0, group_probs=[0.5, 0.1])
        factories.probe_step(session, run_id, step=5, **benign)
    add(client, "opposite_lead")
    assert alarms(client) == []
    with transaction() as session:
        factories.probe_step(session, run_id, step=10, group_probs=[0.44, 0.18])
    [alarm] = alarms(client)
    assert (alarm["run_id"], alarm["kind"]) == (run_id, "opposite_lead")
    assert alarm["message"] == "the opposite of what is preferred takes over in pair 0"


def test_a_trainer_that_falls_silent_raises_one(client: TestClient) -> None:
    """Once, however often it is heard again; a run of our own is never lost."""
    with transaction() as session:
        ours = factories.run(session, factories.dataset(session).id)
        ours.lease_expires_at = datetime.now(UTC)
        next_revision(session, ours.id)
    run_id = begin(client)["id"]
    send(client, run_id, [metric(1)])
    add(client, "run_lost")
    assert alarms(client) == []

    def fall_silent() -> None:
        with transaction() as session:
            assert len(leases.lose(session, datetime.now(UTC) + timedelta(hours=1))) == 1

    fall_silent()
    [alarm] = alarms(client)
    assert (alarm["run_id"], alarm["kind"], alarm["step"]) == (run_id, "run_lost", None)
    assert alarm["message"] == "nothing is heard of its trainer; the training may go on"
    send(client, run_id, [metric(2)])
    fall_silent()
    assert len(alarms(client)) == 1


def test_a_rule_of_one_run_is_about_that_alone_and_about_what_is_there(
    client: TestClient, run_id: int
) -> None:
    with transaction() as session:
        other = factories.run(session, factories.dataset(session).id).id
    for one in (run_id, other):
        recorded(one, 1, loss=math.nan)
    add(client, "run_lost")
    assert alarms(client) == []
    add(client, "loss_not_finite", run_id=run_id)
    assert [alarm["run_id"] for alarm in alarms(client)] == [run_id]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "displaced_fraction"},
        {"kind": "displaced_fraction", "threshold": 1},
        {"kind": "run_lost", "threshold": 0.5},
        {"kind": "run_lost", "run_id": 77},
        {"kind": "unknown"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/api/v1/alarm-rules", json=body).status_code == 422


def test_an_alarm_stands_on_the_pages_until_someone_has_seen_it(
    client: TestClient, run_id: int
) -> None:
    rule = add(client, "loss_not_finite")
    recorded(run_id, 1, loss=math.nan)
    [alarm] = alarms(client)
    for page in (f"/runs/{run_id}", "/", "/alarms", f"/alarms?run={run_id}"):
        assert "the loss is not finite" in client.get(page).text, page
    assert "1 alarm" in client.get("/runs").text
    at = f"/api/v1/alarms/{alarm['id']}/acknowledge"
    first = client.post(at).json()
    assert (first["acknowledged_by"], client.post(at).json()) == ("local", first)
    for page in (f"/runs/{run_id}", "/"):
        assert "the loss is not finite" not in client.get(page).text, page
    assert client.delete(f"/api/v1/alarm-rules/{rule}").status_code == 204
    assert len(alarms(client)) == 1
    assert alarms(client, unacknowledged=True) == []


# --- webhooks -------------------------------------------------------------------------------------

SECRET = "a webhook's secret"


class Hook:
    """A server that takes messages."""

    def __init__(self) -> None:
        self.status = 200
        self.taken: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.taken.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(hook.status)
                self.send_header("location", "http://169.254.169.254/")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://localhost:{self.server.server_address[1]}/services/key"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    hook = Hook()
    monkeypatch.setenv("CHESBOARD_WEBHOOK_URLS", hook.address)
    monkeypatch.setenv("CHESBOARD_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("CHESBOARD_WEBHOOK_PRIVATE", "true")
    get_settings.cache_clear()
    yield hook
    hook.server.shutdown()
    get_settings.cache_clear()


@pytest.fixture
def due(client: TestClient, run_id: int, hook: Hook) -> None:
    """An alarm that is to be sent."""
    get_settings.cache_clear()
    add(client, "loss_not_finite")
    recorded(run_id, 1, loss=math.nan)
    checking.check_all()


def delivery() -> AlarmDelivery:
    with transaction() as session:
        return session.get_one(AlarmDelivery, (1, 0))


def test_an_alarm_is_sent_once_and_signed(due: None, hook: Hook) -> None:
    assert webhooks.deliver_due() == 1
    assert webhooks.deliver_due() == 0
    [(headers, body)] = hook.taken
    assert json.loads(body)["text"].endswith("the loss is not finite (NaN or infinity) (step 1).")
    assert headers["host"].startswith("localhost:")
    seconds, _, signature = headers["x-chesboard-signature"].partition(",v1=")
    signed = seconds.removeprefix("t=").encode() + b"." + body
    assert signature == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert delivery().sent_at is not None


@pytest.mark.parametrize("status", [500, 302, 404])
def test_one_that_does_not_arrive_is_sent_again_later(due: None, hook: Hook, status: int) -> None:
    hook.status = status
    assert webhooks.deliver_due() == 1
    failed = delivery()
    assert failed.error == f"localhost answered with status {status}"
    assert failed.next_at is not None
    assert failed.sent_at is None
    assert "services/key" not in failed.error


@pytest.fixture
def sent_to(
    client: TestClient, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Sets the webhooks' addresses, and has an alarm for them."""

    def send_to(*addresses: str) -> None:
        monkeypatch.setenv("CHESBOARD_WEBHOOK_URLS", ",".join(addresses))
        monkeypatch.setenv("CHESBOARD_WEBHOOK_PRIVATE", "true")
        monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 0.5)
        get_settings.cache_clear()
        add(client, "loss_not_finite")
        recorded(run_id, 1, loss=math.nan)
        checking.check_all()

    return send_to


@pytest.mark.parametrize(
    ("pause", "begins"),
    [(None, b""), (0.02, b"HTTP/1.1 200 OK\r\nX-Slow: ")],
    ids=["nothing", "drip"],
)
def test_an_address_that_never_answers_is_given_up_in_time(
    sent_to: Callable[..., None], pause: float | None, begins: bytes
) -> None:
    """An answer that came a byte at a time held the sender, and the row's lock, for ever."""
    with silent_server(pause, begins) as address:
        sent_to(address)
        began = time.monotonic()
        assert webhooks.deliver_due() == 1
        assert time.monotonic() - began < 3
    assert str(delivery().error).startswith("127.0.0.1 does not answer (")


def test_the_body_of_an_answer_is_not_waited_for(sent_to: Callable[..., None]) -> None:
    with silent_server(0.02) as address:
        sent_to(address)
        assert webhooks.deliver_due() == 1
    assert delivery().sent_at is not None


def test_one_address_that_does_not_answer_holds_up_no_other(
    sent_to: Callable[..., None], hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this order: the client's own messenger has no webhooks yet, and does not help out.
    monkeypatch.setattr(webhooks, "INTERVAL_SECONDS", 0.01)
    messenger = webhooks.Messenger()
    try:
        with silent_server() as address:
            sent_to(address, hook.address)
            with transaction() as session:
                session.get_one(AlarmDelivery, (1, 0)).next_at = datetime(2020, 1, 1, tzinfo=UTC)
            monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 60)
            messenger.start()
            eventually(lambda: bool(hook.taken))
    finally:
        messenger.stop()


def test_a_message_is_no_open_transaction_while_it_is_sent(
    due: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no other process sends it meanwhile."""
    others: list[int] = []

    def send(*_: Any) -> None:
        with transaction() as session:
            session.execute(text("SET LOCAL lock_timeout = '1s'"))
            session.execute(update(AlarmDelivery).values(error="seen"))
        others.append(webhooks.deliver_due())

    monkeypatch.setattr(webhooks, "send", send)
    assert webhooks.deliver_due() == 1
    assert others == [0]
    assert delivery().sent_at is not None


def test_waits_grow_and_end() -> None:
    waits = [webhooks.wait_after(tries) for tries in range(1, webhooks.MAX_TRIES + 1)]
    assert waits[0] == timedelta(seconds=30)
    assert waits[-1] is None
    assert all(a <= b for a, b in pairwise(waits[:-1]) if a and b)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.0.0.8", "192.168.1.1", "169.254.169.254", "::1", "0.0.0.0"],
)
def test_private_networks_are_refused_unless_allowed(host: str) -> None:
    with pytest.raises(webhooks.WebhookError, match="private network"):
        webhooks.resolve(host, private=False)
    assert webhooks.resolve(host, private=True)


@given(st.ip_addresses(v=6, network="::ffff:0:0/96"))
def test_an_address_of_version_4_in_one_of_version_6_is_judged_as_itself(address: Any) -> None:
    assert (
        webhooks._is_public(str(address))
        == (address.ipv4_mapped.is_global and not address.is_multicast)
        or address.ipv4_mapped.is_multicast
    )


@pytest.mark.parametrize("address", ["ftp://a/b", "a.example", "http://"])
def test_an_address_that_is_none_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("CHESBOARD_WEBHOOK_URLS", address)
    with pytest.raises(ValueError, match="webhook"):
        Settings()
