"""The application does what its OpenAPI description says: schemathesis asks it, with all checks on.

Each call is asked with what the description allows and with what it does not, of a server with
tokens and a database with rows in it. What is generated is the same in every run.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

from app.auth.permissions import RULES, Role, Visitor
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
    ("get", "/api/v1/runs/{run_id}/forecast"),
    ("get", "/api/v1/datasets/{dataset_id}/export"),
    ("get", "/api/v1/datasets/{dataset_id}/export/manifest"),
    ("get", "/api/v1/judgments/agreement"),
    ("post", "/api/v1/datasets/preview"),
    ("post", "/api/v1/datasets/{dataset_id}/selection"),
    ("post", "/api/v1/datasets/{dataset_id}/reviews/bulk"),
    ("post", "/api/v1/datasets/{dataset_id}/pairs/{pair}/review/undo"),
    ("put", "/api/v1/datasets/{dataset_id}/pairs/{pair}/review"),
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
        # A list of its own: the default is shared by all schemas.
        accepted = schema.config.checks.positive_data_acceptance
        accepted.expected_statuses = [*accepted.expected_statuses, "422"]
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


def _integers(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if schema.get("type") == "integer":
        yield schema
    parts = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    for part in parts:
        yield from _integers(part)


def test_every_integer_of_a_query_has_bounds() -> None:
    unbounded = [
        (method, path, one["name"])
        for path, calls in DESCRIPTION["paths"].items()
        for method in set(METHODS) & set(calls)
        for one in calls[method].get("parameters", ())
        for schema in _integers(one["schema"])
        if one["in"] == "query" and not {"maximum", "exclusiveMaximum"} & set(schema)
    ]
    assert unbounded == []


@pytest.mark.parametrize("number", [2**63, 2**63 - 1, 2**31, -(2**63) - 1])
def test_no_integer_is_too_large_for_any_call(guarded: Any, number: int) -> None:
    """Those of paths are in no schema bounded: there is simply nothing of such a number."""
    http = TestClient(guarded, base_url="http://127.0.0.1", raise_server_exceptions=False)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    failed = []
    for method, path in CALLS:
        call = DESCRIPTION["paths"][path][method]
        integers = [one for one in call.get("parameters", ()) if any(_integers(one["schema"]))]
        for wanted in integers:
            known = {**dict.fromkeys(re.findall(r"{(\w+)}", path), 1), "pair": 0}
            address = path.format(**known | {wanted["name"]: number})
            query = {wanted["name"]: number} if wanted["in"] == "query" else {}
            body = {} if method in ("post", "put", "patch") else None
            answer = http.request(method, address, params=query, headers=headers, json=body)
            if answer.status_code >= 500:
                failed.append((method, address, query))
    assert failed == []


ROLES = {"viewer": "a viewer's token", "reviewer": "a reviewer's token", "recorder": "a machine's"}


def test_each_role_is_asked_and_told_what_the_description_says(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every call: an answer that is described, and 403 where the role does not do."""
    for role, token in ROLES.items():
        monkeypatch.setenv(f"CHESBOARD_{role.upper()}_TOKEN", token)
    get_settings.cache_clear()
    http = TestClient(create_app(), base_url="http://127.0.0.1", raise_server_exceptions=False)
    for method, path in CALLS:
        rule = next(one for one in RULES if (one.method, one.path) == (method.upper(), path))
        answers = DESCRIPTION["paths"][path][method]["responses"]
        address = re.sub(r"{\w+}", "999", path)
        for role, token in ROLES.items():
            # Without a body: nothing is changed, whoever asks.
            answer = http.request(method, address, headers={"Authorization": f"Bearer {token}"})
            may = Visitor(role, Role.named(role), "").may(rule)
            assert (answer.status_code == 403) is not may or role == "recorder", (path, role)
            assert str(answer.status_code) in answers, (method, path, role, answer.text)
        assert http.request(method, address).status_code == (401 if rule.role else 200)
