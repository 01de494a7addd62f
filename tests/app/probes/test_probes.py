"""Watched pairs through the API: their series, their forks, and ledgers that balance."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.probes import series
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
        ("{run}/probes/0?step=5", "Step 5 of run 1 was not recorded"),
        ("{run}/probes/0/ledger?step=999999999", "was not recorded for pair 0"),
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


# --- long runs ----------------------------------------------------------------------------------


@pytest.fixture
def long_run(session: Session) -> int:
    """Pair 0 watched over 300 steps; at step 151 the preferred probability jumps."""
    run = factories.run(session, factories.dataset(session).id, status="succeeded", revision=1)
    factories.probe(session, run.id, 0)
    for step in range(300):
        spike = {"preferred_prob": 0.99} if step == 151 else {}
        factories.probe_step(session, run.id, 0, step, moved_mass=0.1, revision=1, **spike)
    session.commit()
    return run.id


def test_a_long_series_is_thinned_out_and_keeps_its_spike(
    client: TestClient, long_run: int
) -> None:
    whole = get(client, f"{long_run}/probes/0")
    assert (len(whole["steps"]), whole["total_steps"], whole["decimated"]) == (300, 300, False)
    thin = get(client, f"{long_run}/probes/0", points=40)
    assert (thin["total_steps"], thin["decimated"]) == (300, True)
    assert len(thin["steps"]) <= 40
    assert {0, 151, 299} <= set(thin["steps"])
    at = thin["steps"].index(151)
    assert thin["fork"]["preferred_prob"][at] == 0.99
    for step, row in zip(thin["steps"], thin["preferred"]["logprobs"], strict=True):
        assert row == whole["preferred"]["logprobs"][step]
    assert len(thin["gainers"][0]["probs"]) == len(thin["steps"])
    assert thin["verdict"] == whole["verdict"]


def test_an_answer_has_so_many_numbers_whatever_is_asked_for(
    client: TestClient, long_run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two responses of two tokens each, and three tokens of the ledger that are watched.
    monkeypatch.setattr(series, "MAX_NUMBERS", 80)
    for asked in ({}, {"points": 200}, {"from_step": 100}):
        thin = get(client, f"{long_run}/probes/0", **asked)
        assert thin["decimated"]
        assert 2 <= len(thin["steps"]) <= 20
        assert thin["steps"][-1] == 299
    watched = get(client, f"{long_run}/probes/0/watched", response="preferred")
    assert watched["decimated"]
    assert len(watched["steps"]) <= 40


def test_zooming_fetches_every_step_of_a_range(client: TestClient, long_run: int) -> None:
    zoomed = get(client, f"{long_run}/probes/0", points=40, from_step=140, to_step=160)
    assert zoomed["steps"] == list(range(140, 161))
    assert (zoomed["total_steps"], zoomed["decimated"]) == (21, False)
    # The ledger is the last step's all the same, and its verdict is against step 0.
    assert zoomed["ledger_step"] == 299
    assert zoomed["verdict"] == get(client, f"{long_run}/probes/0")["verdict"]
    assert get(client, f"{long_run}/probes/0", from_step=400)["steps"] == []


def test_changes_since_the_start_and_the_onset_are_given(client: TestClient, run_id: int) -> None:
    probe = get(client, f"{run_id}/probes/0")
    assert probe["preferred_change"] == pytest.approx([0, -0.02, -0.2])
    assert probe["dispreferred_change"] == pytest.approx([0, -0.2, -2.0])
    assert (probe["onset_step"], probe["predicted_hit"]) == (1, 1)
    assert ", displaced since step 1; " in probe["verdict"]
    assert " Theory predicted this gainer. " in probe["verdict"]
    assert get(client, f"{run_id}/probes/0", step=0)["predicted_hit"] is None


def test_bands_are_quantiles_over_the_watched_pairs(client: TestClient, session: Session) -> None:
    run = factories.run(session, factories.dataset(session).id, status="running", revision=1)
    changes = [(-4.0, -9.0), (-1.0, -0.5), (0.0, -2.0), (1.0, NAN), (2.0, 1.0)]
    for pair, (preferred, dispreferred) in enumerate(changes):
        factories.probe(session, run.id, pair)
        for step in (0, 10):
            factories.probe_step(
                session,
                run.id,
                pair,
                step,
                preferred_change=preferred * step / 10,
                dispreferred_change=dispreferred * step / 10,
            )
    factories.probe(session, run.id, -1, kind="prompt", positions=NO_POSITIONS)
    factories.prompt_step(session, run.id, -1, 10)
    session.commit()
    bands = get(client, f"{run.id}/probes/bands")
    assert (bands["steps"], bands["probes"], bands["decimated"]) == ([0, 10], 5, False)
    last = {name: column[1] for name, column in bands["preferred_change"].items()}
    assert last == pytest.approx({"q05": -3.4, "q25": -1, "q50": 0, "q75": 1, "q95": 1.8})
    # of four: -9, -2, -0.5, 1
    assert bands["dispreferred_change"]["q50"][1] == pytest.approx(-1.25)
    assert bands["margin"]["q50"][1] == pytest.approx((1 + 2) / 2)
    assert bands["displaced_fraction"] == [0, pytest.approx(1 / 4)]


def test_bands_leave_out_a_step_at_which_some_pairs_are_still_to_be_looked_at(
    client: TestClient, session: Session
) -> None:
    run = factories.run(session, factories.dataset(session).id, status="running", revision=1)
    for pair, last in ((0, 20), (1, 10)):
        factories.probe(session, run.id, pair)
        for step in range(0, last + 1, 10):
            factories.probe_step(session, run.id, pair, step)
    session.commit()
    for points in (100, 2):
        bands = get(client, f"{run.id}/probes/bands", points=points)
        assert (bands["steps"], bands["total_steps"]) == ([0, 10], 2)


def test_bands_of_a_long_run_are_thinned_out(client: TestClient, long_run: int) -> None:
    bands = get(client, f"{long_run}/probes/bands", points=30)
    assert (bands["total_steps"], bands["decimated"]) == (300, True)
    assert len(bands["steps"]) <= 30
    assert (bands["steps"][0], bands["steps"][-1]) == (0, 299)
    assert bands["preferred_change"]["q50"][-1] == pytest.approx(-0.02 * 299)
    zoomed = get(client, f"{long_run}/probes/bands", from_step=10, to_step=12)
    assert zoomed["steps"] == [10, 11, 12]


def test_a_run_without_probes_has_no_bands(client: TestClient, session: Session) -> None:
    run = factories.run(session, factories.dataset(session).id, status="running")
    session.commit()
    bands = get(client, f"{run.id}/probes/bands", points=100)
    assert (bands["steps"], bands["probes"], bands["margin"]["q50"]) == ([], 0, [])


# --- ledgers of any position --------------------------------------------------------------------

NO_POSITIONS = {"preferred": [0], "dispreferred": [0]}


@pytest.fixture
def positioned(session: Session) -> int:
    """Pair 0 forks at 1; kept are also position 0 and, of y-, position 2."""
    run = factories.run(session, factories.dataset(session).id, status="running", revision=1)
    asked = {"preferred": [0, 1], "dispreferred": [1, 2]}
    factories.probe(session, run.id, 0, fork_position=1, positions=asked)
    recent = {
        "since_step": 3,
        "gainers": [factories.entry(12, "Yes", 0.15, 0.01)],
        "losers": [],
        "rest_change": -0.01,
        "moved_mass": 0.01,
    }
    for step in (0, 4):
        factories.probe_step(session, run.id, 0, step, recent=recent if step else None)
    for response, position, change in (("preferred", 0, 0.25), ("dispreferred", 2, 0.5)):
        factories.position(session, run.id, 0, response, position)
        for step in (0, 4):
            factories.position_step(session, run.id, 0, response, position, step, change=change)
    session.commit()
    return run.id


def test_the_fork_has_all_that_is_known_of_a_ledger(client: TestClient, positioned: int) -> None:
    ledger = get(client, f"{positioned}/probes/0/ledger")
    assert (ledger["step"], ledger["position"], ledger["response"]) == (4, 1, "preferred")
    assert ledger["recent"]["since_step"] == 3
    assert ledger["recent"]["gainers"][0]["token"] == "Yes"
    assert ledger["predicted"] == [
        {
            "token_id": 12,
            "token": "Yes",
            "predicted": 0.07,
            "predicted_rank": 1,
            "actual_change": pytest.approx(0.032),
            "actual_rank": 1,
        }
    ]
    assert ledger["rank_agreement"] == 1
    assert [token["prob"] for token in ledger["watched"]] == pytest.approx([0.476, 0.132])
    assert ledger["positions"] == {"preferred": [0, 1], "dispreferred": [1, 2]}
    first = get(client, f"{positioned}/probes/0/ledger", step=0)
    assert (first["recent"], first["rank_agreement"]) == (None, None)


@pytest.mark.parametrize(
    ("response", "position", "change"),
    [
        ("preferred", 0, 0.25),
        ("dispreferred", 0, 0.25),  # before the fork both are one
        ("preferred", 1, 0.032),
        ("dispreferred", 1, 0.032),
        ("dispreferred", 2, 0.5),
    ],
)
def test_any_recorded_position_has_its_ledger(
    client: TestClient, positioned: int, response: str, position: int, change: float
) -> None:
    query = {"response": response, "position": position}
    ledger = get(client, f"{positioned}/probes/0/ledger", **query)
    assert (ledger["response"], ledger["position"], ledger["step"]) == (response, position, 4)
    assert ledger["gainers"][0]["change"] == pytest.approx(change)
    listed = [entry["change"] for entry in ledger["gainers"] + ledger["losers"]]
    assert sum(listed) + ledger["rest_change"] == pytest.approx(0, abs=1e-12)
    watched = get(client, f"{positioned}/probes/0/watched", **query)
    assert (watched["steps"], watched["position"]) == ([0, 4], position)
    assert watched["tokens"][-1]["probs"][-1] == ledger["watched"][-1]["prob"]


def test_a_position_that_was_not_recorded_is_a_404_that_names_those_that_were(
    client: TestClient, positioned: int
) -> None:
    for query in ("response=preferred&position=2", "response=dispreferred&position=999999999"):
        answer = client.get(f"{API}/runs/{positioned}/probes/0/ledger?{query}")
        assert answer.status_code == 404
        assert "Recorded are [" in answer.json()["detail"]


# --- prompts and answers ------------------------------------------------------------------------


def test_prompts_stand_behind_the_pairs_and_have_no_responses(
    client: TestClient, session: Session, run_id: int
) -> None:
    groups = [{"name": "zzz", "tokens": ["Yes"]}, {"name": "a", "tokens": ["No"]}]
    for pair in (-2, -1):
        factories.probe(
            session,
            run_id,
            pair,
            kind="prompt",
            name=f"prompt {-pair}",
            preferred_tokens=[],
            dispreferred_tokens=[],
            groups=groups,
            predicted=[],
        )
        for step in (0, 10):
            factories.prompt_step(session, run_id, pair, step, group_probs=[0.1 + step / 100, 0.3])
    session.commit()
    listed = get(client, f"{run_id}/probes")
    assert [(probe["pair"], probe["kind"]) for probe in listed] == [
        (0, "pair"),
        (-1, "prompt"),
        (-2, "prompt"),
    ]
    assert listed[1]["groups_list"] == groups  # in their own order
    series = get(client, f"{run_id}/probes/-1", points=50)
    assert series["fork"]["preferred_prob"] == [None, None]
    assert series["fork"]["groups"] == {"zzz": pytest.approx([0.1, 0.2]), "a": [0.3, 0.3]}
    assert list(series["fork"]["groups"]) == ["zzz", "a"]
    assert series["verdict"] == (
        "So far, 0.100 of the next token's probability moved: “Yes” (+0.080) gained and "
        "“No” (-0.060), “Never” (-0.040) lost."
    )
    # The run's own verdict speaks of pairs.
    assert "Pair" not in get(client, f"{run_id}")["verdict"]


def test_answers_are_listed_by_step(client: TestClient, session: Session, run_id: int) -> None:
    for step, text, ended in ((10, "Yes, of", False), (0, "No.", True)):
        factories.answer(session, run_id, 0, step, text=text, ended=ended)
    session.commit()
    assert get(client, f"{run_id}/probes/0/answers") == {
        "items": [
            {"step": 0, "text": "No.", "ended": True},
            {"step": 10, "text": "Yes, of", "ended": False},
        ]
    }
    assert client.get(f"{API}/runs/{run_id}/probes/7/answers").status_code == 404
