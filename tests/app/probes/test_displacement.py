"""How bad a displacement is, through the API: made-up series, every number by hand."""

import math
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.runs.queries import list_runs
from app.runs.schemas import RunOut
from app.store.runs import Run
from tests.app import factories

API = "/api/v1"
TOKENS = {10: "No", 11: "Never", 12: "Yes", 13: " no"}
GROUPS = [{"name": "affirmative", "tokens": ["Yes"]}, {"name": "negative", "tokens": ["No"]}]
OPPOSITE = {"opposite_groups": [["affirmative", "negative"]]}


def watch(session: Session, config: dict[str, Any], **columns: Any) -> Run:
    """A finished run that watches "No" over "Never" with four tokens of its vocabulary."""
    dataset = factories.dataset(session)
    named = {"token_groups": {group["name"]: group["tokens"] for group in GROUPS}}
    run = factories.run(session, dataset.id, status="succeeded", config={**named, **config})
    watched = [
        {"token_id": number, "token": token, "initial": None, "predicted": None}
        for number, token in TOKENS.items()
    ]
    factories.probe(session, run.id, 0, **{"watched": watched, "groups": GROUPS, **columns})
    return run


def record(
    session: Session,
    run: Run,
    step: int,
    probs: list[float],
    ends: tuple[float, float] = (-0.1, -0.1),
    **columns: Any,
) -> None:
    """A step: probabilities of TOKENS at the fork, log-probabilities of both end tokens."""
    start = run_start(session, run, probs)
    preferred = [math.log(probs[0]), ends[0]]
    dispreferred = [math.log(probs[1]), ends[1]]
    changes = [now - before for before, now in zip(start, probs, strict=True)]
    gained = max(range(4), key=changes.__getitem__)
    values = {
        "preferred_logprobs": preferred,
        "dispreferred_logprobs": dispreferred,
        "preferred_change": sum(preferred) - (math.log(start[0]) - 0.1),
        "dispreferred_change": sum(dispreferred) - (math.log(start[1]) - 0.1),
        "preferred_prob": probs[0],
        "dispreferred_prob": probs[1],
        "watched_probs": probs,
        "group_probs": [probs[2], probs[0]],
        "gainers": [factories.entry(10 + gained, TOKENS[10 + gained], 0.0, changes[gained])]
        if step
        else [],
        "losers": [],
    }
    factories.probe_step(session, run.id, 0, step, **{**values, **columns})


def run_start(session: Session, run: Run, probs: list[float]) -> list[float]:
    """The probabilities of the run's first step."""
    return session.info.setdefault(f"start of {run.id}", probs)


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"{API}/runs/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def there_and_back(session: Session) -> int:
    """As in Table 4 of arXiv 2410.08847: the opposite gains first, then a spelling of "No"."""
    run = watch(session, OPPOSITE)
    record(session, run, 0, [0.5, 0.2, 0.1, 0.05])
    record(session, run, 5, [0.2, 0.05, 0.5, 0.1])
    record(session, run, 25, [0.25, 0.01, 0.1, 0.6])
    session.commit()
    return run.id


def test_a_run_says_how_its_displacement_ended(client: TestClient, there_and_back: int) -> None:
    run = get(client, str(there_and_back))
    assert (run["displaced"], run["displacement_kind"]) == (True, "benign")
    found = run["displacement"]
    assert (found["pair"], found["kind"], found["destination"]) == (0, "benign", "variant")
    gains = {one["destination"]: one["gain"] for one in found["destination_gains"]}
    # 1 - (.5 + .2 + .1 + .05) = .15 elsewhere before, 1 - (.25 + .01 + .1 + .6) = .04 now
    assert gains == pytest.approx(
        {"variant": 0.55, "own_group": 0, "opposite_group": 0, "mode": 0, "elsewhere": -0.11},
        abs=1e-6,
    )
    assert found["destination_gains"][0]["destination"] == "variant"
    assert found["top_gainer"] == {"token": " no", "change": pytest.approx(0.55)}
    assert found["position"] == 0
    assert (found["squeezing"], found["answer_turned"]) == (False, False)
    assert found["drawdown"] == {
        "size": pytest.approx(0.3),
        "peak": 0.5,
        "peak_step": 0,
        "trough": 0.2,
        "trough_step": 5,
    }
    assert found["logprob_drawdown"]["size"] == pytest.approx(math.log(0.5 / 0.2))
    assert run["verdict"].endswith(
        " On the way “No” fell from 0.500 at step 0 to 0.200 at step 5. Benign: most mass went to "
        "other spellings of “No” (+0.550)."
    )


def test_what_was_catastrophic_on_the_way_is_told_by_step(
    client: TestClient, there_and_back: int
) -> None:
    last = get(client, f"{there_and_back}/probes/0")
    assert last["displacement_kind"] == "benign"
    assert last["destination_onsets"] == {"opposite_group": 5, "variant": 25}
    early = get(client, f"{there_and_back}/probes/0", step=5)
    assert early["displacement_kind"] == "catastrophic"
    assert early["destination_onsets"] == {"opposite_group": 5}
    assert early["displacement"]["drawdown"]["trough_step"] == 5
    assert early["verdict"].endswith(
        "Catastrophic: most mass went to the opposite of “No”, the group “affirmative” (+0.400)."
    )
    start = get(client, f"{there_and_back}/probes/0", step=0)
    assert (start["displacement_kind"], start["destination_onsets"]) == ("kept", {})


def test_the_list_of_probes_says_it_of_each(client: TestClient, there_and_back: int) -> None:
    [probe] = get(client, f"{there_and_back}/probes")
    assert probe["displacement_kind"] == "benign"
    assert probe["displacement"]["drawdown"]["size"] == pytest.approx(0.3)


def test_a_preferred_response_that_gains_is_kept_though_its_opposite_gains(
    client: TestClient, session: Session
) -> None:
    run = watch(session, OPPOSITE)
    record(session, run, 0, [0.1, 0.3, 0.5, 0.05])
    record(session, run, 9, [0.165, 0.1, 0.595, 0.05])
    session.commit()
    found = get(client, str(run.id))
    assert (found["displaced"], found["displacement_kind"]) == (False, "kept")
    assert found["displacement"]["destination"] is None
    assert found["displacement"]["drawdown"] is None


@pytest.mark.parametrize("config", [{}, {"opposite_groups": []}])
def test_without_opposites_it_is_not_known_and_the_look_of_one_is_said(
    client: TestClient, session: Session, config: dict[str, Any]
) -> None:
    run = watch(session, config)
    record(session, run, 0, [0.3, 0.2, 0.4, 0.05])
    record(session, run, 9, [0.1, 0.05, 0.8, 0.05])
    session.commit()
    found = get(client, str(run.id))
    assert (found["displaced"], found["displacement_kind"]) == (True, None)
    assert (found["displacement"]["destination"], found["displacement"]["squeezing"]) == (
        "mode",
        True,
    )
    assert found["verdict"].endswith(
        "No group is declared opposite to “No”, so how bad this is is not known; “Yes” was the "
        "likeliest token already (squeezing). “No” and “Yes” look like opposites."
    )


def test_a_loss_behind_the_fork_is_judged_by_the_ledger_there(
    client: TestClient, session: Session
) -> None:
    run = watch(session, OPPOSITE, positions={"preferred": [0, 1], "dispreferred": [0]})
    factories.position(session, run.id, 0, "preferred", 1)
    record(session, run, 0, [0.3, 0.2, 0.4, 0.05])
    record(session, run, 4, [0.35, 0.1, 0.4, 0.05], ends=(-3.0, -3.5))
    for step in (0, 4):
        factories.position_step(session, run.id, 0, "preferred", 1, step, change=0.6)
    session.commit()
    found = get(client, f"{run.id}/probes/0")["displacement"]
    # The end token of y+ has no opposite, so what gained there has no known meaning.
    assert (found["position"], found["destination"], found["kind"]) == (1, "mode", None)


def test_a_loss_where_no_ledger_is_kept_is_not_judged(client: TestClient, session: Session) -> None:
    run = watch(session, OPPOSITE)
    record(session, run, 0, [0.3, 0.2, 0.4, 0.05])
    record(session, run, 4, [0.35, 0.1, 0.4, 0.05], ends=(-3.0, -3.5))
    session.commit()
    found = get(client, f"{run.id}/probes/0")
    assert (found["displaced"], found["displacement_kind"]) == (True, None)
    assert found["verdict"].endswith(
        "Most of the loss is at token 2, “<|im_end|>”, where no ledger says who gained: how bad "
        "this is is not known."
    )


@pytest.mark.parametrize(
    ("first", "last", "kind"),
    [
        ("No.", "Yes, it is.", "catastrophic"),
        ("No.", "Never.", "benign"),
        ("Yes.", "Yes, it is.", "benign"),
    ],
)
def test_an_answer_that_turns_from_refusing_is_catastrophic(
    client: TestClient, session: Session, first: str, last: str, kind: str
) -> None:
    run = watch(session, OPPOSITE)
    record(session, run, 0, [0.5, 0.2, 0.1, 0.05])
    record(session, run, 8, [0.3, 0.05, 0.1, 0.4])
    factories.answer(session, run.id, 0, 0, text=first)
    factories.answer(session, run.id, 0, 8, text=last)
    session.commit()
    found = get(client, str(run.id))
    assert found["displacement_kind"] == kind
    assert found["displacement"]["answer_turned"] is (kind == "catastrophic")


def test_a_run_is_told_by_its_worst_pair(client: TestClient, session: Session) -> None:
    run = watch(session, OPPOSITE)
    record(session, run, 0, [0.3, 0.2, 0.4, 0.05])
    record(session, run, 4, [0.2, 0.05, 0.65, 0.05])
    # It lost far more, to a spelling of its own.
    factories.probe(session, run.id, 1, groups=[], watched=[])
    factories.probe_step(session, run.id, 1, 0)
    factories.probe_step(session, run.id, 1, 40)
    session.commit()
    found = get(client, str(run.id))
    assert (found["displacement"]["pair"], found["displacement_kind"]) == (0, "catastrophic")


def test_cross_entropy_has_no_margin_and_no_verdict_on_it(
    client: TestClient, session: Session
) -> None:
    run = watch(session, {**OPPOSITE, "objective": "cross_entropy"})
    record(session, run, 0, [0.5, 0.2, 0.1, 0.05])
    record(session, run, 5, [0.2, 0.05, 0.5, 0.1])
    session.commit()
    found = get(client, str(run.id))
    assert (found["displacement_kind"], found["displacement"]) == (None, None)
    assert get(client, f"{run.id}/probes/0")["destination_onsets"] == {}


def test_numbers_that_are_not_finite_are_not_judged(client: TestClient, session: Session) -> None:
    run = watch(session, OPPOSITE)
    record(session, run, 0, [0.5, 0.2, 0.1, 0.05])
    record(session, run, 5, [math.nan] * 4, gainers=[])
    session.commit()
    found = get(client, str(run.id))
    assert (found["displacement_kind"], found["displacement"]) == (None, None)


def displaced_behind_the_fork(session: Session) -> None:
    """A run whose verdict takes all there is: a position behind the fork, and answers."""
    run = watch(session, OPPOSITE, positions={"preferred": [0, 1], "dispreferred": [0]})
    factories.position(session, run.id, 0, "preferred", 1)
    record(session, run, 0, [0.3, 0.2, 0.4, 0.05])
    record(session, run, 4, [0.35, 0.1, 0.4, 0.05], ends=(-3.0, -3.5))
    for step, text in ((0, "No."), (4, "Yes.")):
        factories.position_step(session, run.id, 0, "preferred", 1, step, change=0.6)
        factories.answer(session, run.id, 0, step, text=text)
    session.commit()


def counted(session: Session) -> tuple[int, list[RunOut]]:
    """How many statements a list of all runs takes, and the runs."""
    session.expire_all()
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", note)
    try:
        found = list_runs(session).items
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(statements), found


def test_a_list_of_runs_takes_as_many_queries_however_many_are_displaced(session: Session) -> None:
    displaced_behind_the_fork(session)
    for_one, [alone] = counted(session)
    assert alone.displacement is not None
    assert (alone.displacement.position, alone.displacement.answer_turned) == (1, True)
    for _ in range(4):
        displaced_behind_the_fork(session)
    for_five, runs = counted(session)
    assert [run.displacement_kind for run in runs] == ["catastrophic"] * 5
    assert for_five == for_one
