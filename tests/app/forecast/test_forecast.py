"""Forecasts through the API against the library's functions, pair by pair."""

import random
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.store.runs import Run
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import WITHOUT, ScoredPairs, falls, first_push, preferred_shift, rises
from tests.app import factories

API = "/api/v1"
PAIRS = 300
NAN = float("nan")
OBJECTIVES = [
    {},
    {"beta": 0.4, "sft_coef": 0.02},
    {"objective": "dpop", "dpop_lambda": 0.2},
    {"objective": "ipo", "beta": 0.3, "length_normalize": True},
    {"objective": "slic", "beta": 0.05},
    {"objective": "simpo", "beta": 2.0, "simpo_gamma": 1.0},
    {"objective": "dpo_shift", "dpo_shift_lambda": 0.5},
    {"objective": "alphapo", "alphapo_alpha": 0.25},
    {"label_smoothing": 0.1},
    {"objective": "cross_entropy"},
]


def columns(number: int) -> dict[str, Any]:
    """Random scores, most of them of pairs whose gradients are much alike."""
    draw = random.Random(number)
    return {
        "preferred_logprob": -draw.uniform(1, 60),
        "dispreferred_logprob": -draw.uniform(1, 60),
        "preferred_tokens": draw.randint(1, 30),
        "dispreferred_tokens": draw.randint(1, 30),
        "head_cosine": draw.uniform(-0.3, 1),
        "preferred_grad_norm": draw.uniform(0.5, 9),
        "dispreferred_grad_norm": draw.uniform(0.5, 9),
    }


def scored(number: int) -> ScoredPairs:
    return ScoredPairs(**columns(number))


@pytest.fixture
def run(session: Session) -> Run:
    """A score run over random pairs, and two that lack a measure."""
    made = factories.run(
        session, factories.dataset(session, PAIRS + 2).id, kind="score", status="succeeded"
    )
    for pair in range(PAIRS):
        factories.score(session, made.id, pair, 1.0, **columns(pair))
    factories.score(session, made.id, PAIRS, 1.0)  # as runs of earlier versions stored them
    factories.score(session, made.id, PAIRS + 1, 1.0, **{**columns(0), "head_cosine": NAN})
    session.commit()
    return made


def get(client: TestClient, run: int, status: int = 200, **query: Any) -> Any:
    answer = client.get(f"{API}/runs/{run}/forecast", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("asked", OBJECTIVES)
def test_counts_are_those_of_the_pairs_one_by_one(
    client: TestClient, run: Run, asked: dict[str, Any]
) -> None:
    found = get(client, run.id, **asked)
    config = ObjectiveConfig(**asked)
    pairs = [scored(pair) for pair in range(PAIRS)]
    assert (found["kind"], found["pairs"], found["missing"]) == ("score", PAIRS, 2)
    assert found["config"] == config.model_dump()
    assert found["falling"] == sum(falls(first_push(config, pair), pair) for pair in pairs)
    assert found["rising_dispreferred"] == sum(
        rises(first_push(config, pair), pair) for pair in pairs
    )
    shifts = {pair: preferred_shift(first_push(config, one), one) for pair, one in enumerate(pairs)}
    worst = sorted((pair for pair in shifts if shifts[pair] < 0), key=shifts.__getitem__)[:10]
    assert [item["pair"] for item in found["worst"]] == worst
    for item in found["worst"]:
        assert item["shift"] == pytest.approx(shifts[item["pair"]])
        assert item["required_ratio"] == pytest.approx(pairs[item["pair"]].required_ratio)
        assert (item["preferred"], item["dispreferred"]) == ("No", "Never")


@pytest.mark.parametrize("asked", OBJECTIVES)
def test_at_each_point_of_a_curve_so_many_pairs_fall(
    client: TestClient, run: Run, asked: dict[str, Any]
) -> None:
    pairs = [scored(pair) for pair in range(PAIRS)]
    for found in get(client, run.id, **asked)["remedies"]:
        plain = {**asked, "sft_coef": 0.0, "dpop_lambda": 0.0, "objective": found["objective"]}

        def falling(value: float, plain: Any = plain, name: str = found["remedy"]) -> int:
            config = ObjectiveConfig(**{**plain, name: value})
            return sum(bool(falls(first_push(config, pair), pair)) for pair in pairs)

        none = WITHOUT[found["remedy"]]
        curve = found["curve"]
        assert curve[0]["value"] == none
        assert curve[-1] == {"value": found["prevents_all"], "falling": 0}
        values = {one["value"] for one in curve}
        assert [point["value"] for point in curve] == sorted(values, reverse=none == 1)
        for point in curve[:: max(1, len(curve) // 20)]:
            assert point["falling"] == falling(point["value"])
        recommended = found["recommended"]
        assert {"value": recommended, "falling": falling(recommended)} in curve
        assert falling(recommended) <= PAIRS // 20
        weaker = 1.01 if none == 1 else 0.99
        assert recommended == none or falling(min(1, weaker * recommended)) > PAIRS // 20
        assert falling(min(1, weaker * found["prevents_all"])) > 0


def test_each_objective_is_offered_its_own_remedies(client: TestClient, run: Run) -> None:
    def offered(objective: str) -> list[tuple[str, str]]:
        found = get(client, run.id, objective=objective)["remedies"]
        return [(one["remedy"], one["objective"]) for one in found]

    shift = ("dpo_shift_lambda", "dpo_shift")
    assert offered("dpo") == [("sft_coef", "dpo"), ("dpop_lambda", "dpop"), shift]
    assert offered("dpo_shift") == [("sft_coef", "dpo_shift"), shift]
    assert offered("dpop") == [("dpop_lambda", "dpop")]
    assert offered("simpo") == [("sft_coef", "simpo")]
    assert offered("cross_entropy") == []


def test_where_nothing_falls_nothing_is_recommended(client: TestClient, session: Session) -> None:
    run = factories.run(session, factories.dataset(session, 1).id, kind="score", status="succeeded")
    factories.score(session, run.id, 0, 1.0, **{**columns(0), "head_cosine": -0.5})
    session.commit()
    found = get(client, run.id)
    assert (found["pairs"], found["falling"], found["worst"]) == (1, 0, [])
    for remedy in found["remedies"]:
        none = WITHOUT[remedy["remedy"]]
        assert (remedy["recommended"], remedy["prevents_all"]) == (none, none)
        assert remedy["curve"] == [{"value": none, "falling": 0}]


@pytest.mark.parametrize("kind", ["score", "evaluate"])
def test_a_run_without_the_measures_says_what_to_do(
    client: TestClient, session: Session, kind: str
) -> None:
    run = factories.run(session, factories.dataset(session).id, kind=kind, status="succeeded")
    factories.score(session, run.id, 0, 1.0)
    session.commit()
    found = get(client, run.id)
    assert (found["pairs"], found["missing"], found["falling"]) == (0, 1, 0)
    assert "Score" in found["message"]


def test_what_cannot_be_forecast_is_refused(client: TestClient, session: Session, run: Run) -> None:
    trained = factories.run(session, run.dataset_id, status="succeeded")
    check = factories.run(session, run.dataset_id, kind="check", status="succeeded")
    session.commit()
    get(client, 99, status=404)
    get(client, check.id, status=404)
    get(client, run.id, status=422, beta=-1)
    get(client, run.id, status=422, objective="grpo")
    get(client, run.id, status=422, betta=0.1)
    assert get(client, run.id, status=422, ld_alpha=0.5)["errors"][0]["field"] == "ld_alpha"
    assert get(client, run.id, status=422, score_run=run.id)["errors"][0]["field"] == "score_run"
    assert get(client, trained.id, status=422, beta=0.2)["errors"][0]["field"] == "beta"


@pytest.mark.parametrize("objective", ["dpo", "dpop", "ipo", "simpo", "cal_dpo", "alphapo"])
@pytest.mark.parametrize("beta", [5e-324, 1e-300, 100])
def test_extreme_coefficients_give_numbers_or_null(
    client: TestClient, run: Run, objective: str, beta: float
) -> None:
    get(
        client,
        run.id,
        objective=objective,
        beta=beta,
        sft_coef=1e308,
        dpop_lambda=1e308,
        alphapo_alpha=10,
    )
