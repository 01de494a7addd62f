"""The application does what its OpenAPI description says: schemathesis asks it, with all checks on.

Each call is asked with what the description allows and with what it does not, of a server with
tokens and a database with rows in it. What is generated is the same in every run.
"""

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

from app.core.database import transaction
from app.core.settings import get_settings
from app.main import create_app
from app.web.openapi import METHODS
from tests.app import factories
from tests.model_folders import write_model

TOKEN = "an operator's token"
EXAMPLES = 12
"""A call. With 250 it was tried when this was written; these keep `make test` short."""

# A stream goes on for as long as its run does; tests/app/streaming/test_hub.py reads it.
ENDLESS = "/api/v1/runs/{run_id}/events"

# Every application's, and slow to make.
DESCRIPTION = create_app().openapi()
CALLS = sorted(
    (method, path)
    for path, calls in DESCRIPTION["paths"].items()
    for method in calls
    if method in METHODS and path != ENDLESS
)


# What they refer to (runs, versions), or what a file must hold, no schema can say.
REFERRING = {
    ("post", "/api/v1/datasets"),
    ("post", "/api/v1/datasets/{dataset_id}/flags"),
    ("post", "/api/v1/runs"),
    ("post", "/api/v1/runs/capacity"),
    ("post", "/api/v1/runs/{run_id}/records"),
    ("post", "/api/v1/runs/{run_id}/finish"),
    ("post", "/api/v1/alarm-rules"),
    ("post", "/api/v1/studies"),
    ("post", "/api/v1/studies/preview"),
    ("get", "/api/v1/datasets/{dataset_id}/reviews"),
    ("get", "/api/v1/datasets/{dataset_id}/reviews/order"),
    ("patch", "/api/v1/datasets/{dataset_id}/pairs/{pair}"),
    ("delete", "/api/v1/datasets/{dataset_id}/pairs/{pair}/review"),
    ("get", "/api/v1/runs/{run_id}/displacement"),
    ("get", "/api/v1/runs/{run_id}/displacement.csv"),
}

IDS = [1, 2, 3, 4]
"""Of the runs that the database holds."""


def is_allowed(case: Any) -> bool:
    """Whether the path was made to be accepted, and there is something in it to be replaced."""
    made = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    return bool(case.path_parameters) and (made is None or made.mode.is_positive)


@pytest.fixture
def guarded(database: Any, models_dir: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application with a token, a model, and in the database one of everything."""
    monkeypatch.setenv("CHESBOARD_TOKEN", TOKEN)
    monkeypatch.setenv("CHESBOARD_REQUESTS_PER_SECOND", "1e6")
    # Its callers have wrong tokens, on purpose.
    monkeypatch.setattr("app.auth.authentication.MAX_WRONG_TOKENS", 1_000_000)
    get_settings.cache_clear()
    write_model(models_dir / "tiny")
    with transaction() as session:
        dataset = factories.dataset(session)
        train = factories.run(session, dataset.id, status="succeeded")
        factories.probe(session, train.id)
        for step in range(3):
            factories.metric(session, train.id, step)
            factories.probe_step(session, train.id, step=step)
        scored = factories.run(session, dataset.id, kind="score", status="succeeded")
        for pair in range(3):
            factories.score(session, scored.id, pair, float(pair))
        factories.run(session, dataset.id, status="queued")
        factories.run(session, dataset.id, status="failed")
    return create_app()


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_call_does_what_is_said_of_it(guarded: Any, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    schema.app = guarded
    schema.config.update(base_url="http://127.0.0.1")
    if (method, path) in REFERRING:
        schema.config.checks.positive_data_acceptance.expected_statuses.append("422")
    operation = schema[path][method.upper()]

    @given(
        case=operation.as_strategy(),
        known=st.none() | st.sampled_from(IDS),
        pair=st.sampled_from([0, 1]),
    )
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any, known: int | None, pair: int) -> None:
        if known is not None and is_allowed(case):
            # An id that was made up is nearly never one that there is.
            there = {"dataset_id": 1, "run_id": known, "pair": pair, "name": "sentences"}
            case.path_parameters |= {
                name: there[name] for name in case.path_parameters if name in there
            }
        response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
        if response.status_code == 503 and "offline" in response.text:
            return  # a dataset of the hub, which tests do not reach
        case.validate_response(response)

    ask()


def test_every_call_that_can_fail_says_so_as_a_problem() -> None:
    for path, calls in DESCRIPTION["paths"].items():
        for method, call in calls.items():
            for status, answer in call["responses"].items():
                if status >= "400" and path != "/healthz":
                    assert list(answer["content"]) == ["application/problem+json"], (method, path)
            assert "429" in call["responses"]


def test_the_description_itself_is_served(database: Any) -> None:
    http = TestClient(create_app(), base_url="http://127.0.0.1")
    served = http.get("/api/v1/openapi.json").json()
    assert served["components"]["securitySchemes"] == {
        "token": {"type": "http", "scheme": "bearer"}
    }
    assert "HTTPValidationError" not in served["components"]["schemas"]


def test_every_integer_of_a_body_has_bounds() -> None:
    """An unbounded one reaches PostgreSQL, whose integers end."""
    bodies = [
        call["requestBody"]
        for calls in DESCRIPTION["paths"].values()
        for call in calls.values()
        if "requestBody" in call
    ]
    unbounded = [path for body in bodies for path in unbounded_integers(body, "body", set())]
    assert unbounded == []


def unbounded_integers(schema: Any, path: str, seen: set[str]) -> list[str]:
    if isinstance(schema, list):
        return [found for one in schema for found in unbounded_integers(one, path, seen)]
    if not isinstance(schema, dict):
        return []
    if (reference := schema.get("$ref")) is not None:
        if reference in seen:
            return []
        seen.add(reference)
        name = reference.rpartition("/")[2]
        return unbounded_integers(DESCRIPTION["components"]["schemas"][name], name, seen)
    is_bounded = {"maximum", "exclusiveMaximum", "const", "enum"} & schema.keys()
    found = [path] if schema.get("type") == "integer" and not is_bounded else []
    for key, value in schema.items():
        found += unbounded_integers(value, f"{path}.{key}", seen)
    return found
