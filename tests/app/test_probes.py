"""Watched pairs through the API: their series, their forks, and ledgers that balance."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.probes.schemas import Ledger, LedgerEntryOut
from tests.app import factories

API = "/api/v1"
NAN = float("nan")


@pytest.fixture
def run_id(session: Session) -> int:
    """A run that watches pair 0 and has looked at it at steps 0, 1 and 10."""
    dataset = factories.dataset(session)
    run = factories.run(session, dataset.id, status="running", revision=1)
    factories.probe(session, run.id, 0)
    for step in (0, 1, 10):
        factories.probe_step(session, run.id, 0, step)
    session.commit()
    return run.id


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"{API}/runs/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_watched_pairs_are_listed(client: TestClient, session: Session, run_id: int) -> None:
    factories.probe(session, run_id, 2, fork_position=1, groups=[])
    session.commit()
    first, second = get(client, f"{run_id}/probes")
    assert first["pair"] == 0
    assert first["preferred_tokens"] == ["No", "<|im_end|>"]
    assert first["groups"] == {"affirmative": ["Yes"]}
    assert [token["token"] for token in first["watched"]] == ["No", "Yes"]
    assert (second["pair"], second["fork_position"], second["groups"]) == (2, 1, {})


def test_a_probe_is_shown_at_every_recorded_step(client: TestClient, run_id: int) -> None:
    probe = get(client, f"{run_id}/probes/0")
    assert probe["pair"] == 0
    assert probe["steps"] == [0, 1, 10]
    assert probe["revision"] == 4
    assert probe["preferred"]["tokens"] == ["No", "<|im_end|>"]
    assert [row[0] for row in probe["preferred"]["logprobs"]] == pytest.approx([-0.7, -0.72, -0.9])
    assert len(probe["dispreferred"]["logprobs"]) == 3
    fork = probe["fork"]
    assert fork["position"] == 0
    assert fork["preferred_prob"] == pytest.approx([0.5, 0.494, 0.44])
    assert fork["groups"] == {"affirmative": pytest.approx([0.1, 0.108, 0.18])}
    shares = zip(fork["preferred_prob"], fork["dispreferred_prob"], fork["other_prob"], strict=True)
    assert [sum(share) for share in shares] == pytest.approx([1, 1, 1])
    assert probe["moved_mass"] == pytest.approx([0, 0.01, 0.1])


def test_the_ledger_is_the_last_steps_and_balances(client: TestClient, run_id: int) -> None:
    probe = get(client, f"{run_id}/probes/0")
    assert probe["ledger_step"] == 10
    [gainer] = probe["gainers"]
    assert (gainer["token"], gainer["predicted"]) == ("Yes", 0.07)
    assert gainer["change"] == pytest.approx(0.08)
    assert [loser["token"] for loser in probe["losers"]] == ["No", "Never"]
    listed = [entry["change"] for entry in probe["gainers"] + probe["losers"]]
    assert sum(listed) + probe["rest_change"] == pytest.approx(0, abs=1e-12)


def test_a_listed_token_is_traced_where_it_was_watched(client: TestClient, run_id: int) -> None:
    probe = get(client, f"{run_id}/probes/0")
    assert probe["gainers"][0]["probs"] == pytest.approx([0.1, 0.108, 0.18])
    no, never = probe["losers"]
    assert no["probs"] == pytest.approx([0.5, 0.494, 0.44])
    assert never["probs"] == [None, None, None]


def test_the_ledger_of_any_step_can_be_asked_for(client: TestClient, run_id: int) -> None:
    probe = get(client, f"{run_id}/probes/0", step=1)
    assert probe["ledger_step"] == 1
    assert probe["steps"] == [0, 1, 10]
    assert probe["gainers"][0]["change"] == pytest.approx(0.008)
    ledger = get(client, f"{run_id}/probes/0/ledger", step=1)
    assert ledger["step"] == 1
    assert ledger["gainers"][0]["change"] == pytest.approx(0.008)
    assert get(client, f"{run_id}/probes/0/ledger")["step"] == 10
    first = get(client, f"{run_id}/probes/0/ledger", step=0)
    assert (first["gainers"], first["losers"], first["rest_change"]) == ([], [], 0)


def test_the_verdict_is_of_the_ledgers_step(client: TestClient, run_id: int) -> None:
    now = get(client, f"{run_id}/probes/0")
    assert now["displaced"] is True
    assert now["verdict"].startswith("So far, the preferred response “No” lost 0.2 nats")
    earlier = get(client, f"{run_id}/probes/0", step=1)
    # That step is over, whatever the run will still do.
    assert earlier["verdict"].startswith("The preferred response “No” lost 0.02 nats")
    start = get(client, f"{run_id}/probes/0", step=0)
    assert (start["displaced"], start["verdict"][:17]) == (False, "Nothing has moved")


def test_a_probe_without_steps_is_empty(client: TestClient, session: Session) -> None:
    run = factories.run(session, factories.dataset(session).id, status="running")
    factories.probe(session, run.id, 0)
    session.commit()
    probe = get(client, f"{run.id}/probes/0")
    assert (probe["steps"], probe["gainers"], probe["rest_change"]) == ([], [], None)
    assert (probe["verdict"], probe["displaced"], probe["ledger_step"]) == (None, None, None)
    assert get(client, f"{run.id}")["verdict"] is None


def test_what_is_not_finite_is_a_gap(client: TestClient, session: Session, run_id: int) -> None:
    factories.probe_step(
        session, run_id, 0, 11, preferred_logprobs=[NAN, float("-inf")], preferred_prob=NAN
    )
    session.commit()
    probe = get(client, f"{run_id}/probes/0")
    assert probe["preferred"]["logprobs"][-1] == [None, None]
    assert probe["fork"]["preferred_prob"][-1] is None
    assert "no longer finite" in probe["verdict"]
    assert probe["displaced"] is False


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("{run}/probes/7", "does not watch pair 7"),
        ("{run}/probes/99999999999", "does not watch pair"),
        ("{run}/probes/0?step=5", "was not looked at at step 5"),
        ("{run}/probes/0/ledger?step=99999999999", "was not looked at"),
        ("99/probes", "no run 99"),
        ("99/probes/0", "no run 99"),
        ("99/probes/0/ledger", "no run 99"),
    ],
)
def test_what_is_not_there_is_a_404(client: TestClient, run_id: int, path: str, says: str) -> None:
    answer = client.get(f"{API}/runs/{path.format(run=run_id)}")
    assert answer.status_code == 404
    assert says in answer.json()["detail"]


def ledger(*changes: float, rest: float | None) -> Ledger:
    entries = [
        LedgerEntryOut(token_id=n, token="t", initial=0.5, final=0.5 + c, change=c, predicted=None)
        for n, c in enumerate(changes)
    ]
    return Ledger(step=1, gainers=entries, losers=[], rest_change=rest, moved_mass=0.1)


def test_a_ledger_balances_or_says_that_it_does_not() -> None:
    assert ledger(0.3, -0.1, rest=-0.2).is_balanced
    assert ledger(0.3, -0.1, rest=-0.2 + 5e-6).is_balanced
    assert not ledger(0.3, -0.1, rest=-0.2 + 5e-5).is_balanced
    assert not ledger(0.3, rest=None).is_balanced
