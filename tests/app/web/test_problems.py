"""Every failure has one shape, whatever failed."""

from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field, ValidationError, model_validator
from sqlalchemy import exc as sql

from app.core import errors
from app.core.errors import (
    ConflictError,
    ErrorItem,
    InvalidInputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from app.core.settings import get_settings
from app.main import create_app

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class _Config(BaseModel):
    beta: float = Field(gt=0)

    @model_validator(mode="after")
    def _refuse_thirteen(self) -> "_Config":
        if self.beta == 13:
            raise ValueError("thirteen is unlucky")
        return self


class _Body(BaseModel):
    config: _Config


@pytest.fixture
def app() -> FastAPI:
    """The application, with one address for each kind of failure. No database is behind it."""
    app = create_app()

    @app.get("/api/v1/fails")
    @app.get("/fails")
    def fail(kind: str) -> None:
        raise FAILURES[kind]

    @app.post("/api/v1/validates")
    def validate(body: _Body) -> None:
        return None

    return app


@pytest.fixture
def http(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False)


ROW_ERRORS: list[ErrorItem] = [{"row": 3, "field": "prompt", "message": "is <b>missing</b>"}]
FAILURES: dict[str, Exception] = {
    "invalid": InvalidInputError("No row is usable.", ROW_ERRORS),
    "missing": NotFoundError("There is no run 7."),
    "conflict": ConflictError("The run is not finished."),
    "large": TooLargeError("Too many bytes."),
    "away": UnavailableError("The broker is away."),
    "database": sql.OperationalError(None, None, psycopg.OperationalError("refused, secret")),
    "gone": sql.OperationalError(
        "SELECT 'secret'", {}, psycopg.OperationalError("closed"), connection_invalidated=True
    ),
    "deadlock": sql.OperationalError("SELECT 'secret'", {}, psycopg.errors.DeadlockDetected("x")),
    "full": sql.OperationalError("INSERT 'secret'", {}, psycopg.errors.DiskFull("secret")),
    "parameters": sql.OperationalError(
        "SELECT 'secret'", {}, psycopg.OperationalError("number of parameters, secret")
    ),
    "copy": psycopg.OperationalError("server closed the connection, secret"),
    "pool": sql.TimeoutError("pool limit, secret"),
    "tables": sql.ProgrammingError("SELECT 'secret'", {}, psycopg.errors.UndefinedTable("runs")),
    "query": sql.ProgrammingError("SELECT 'secret'", {}, psycopg.errors.SyntaxError("near secret")),
    "bug": RuntimeError("secret"),
}
STATUSES = {
    "invalid": 422,
    "missing": 404,
    "conflict": 409,
    "large": 413,
    "away": 503,
    "database": 503,
    "gone": 503,
    "deadlock": 503,
    "full": 503,
    "parameters": 500,
    "copy": 503,
    "pool": 503,
    "tables": 503,
    "query": 500,
    "bug": 500,
}


def check_problem(answer: Any, status: int) -> dict[str, Any]:
    """The answer as the one shape that all errors of the API have."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["type", "title", "status", "detail", "errors"]
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize("kind", FAILURES)
def test_failure_is_a_problem_that_leaks_nothing(http: TestClient, kind: str) -> None:
    answer = http.get("/api/v1/fails", params={"kind": kind}, headers=BROWSER)
    check_problem(answer, STATUSES[kind])
    assert "secret" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("kind", FAILURES)
def test_browser_gets_a_page(http: TestClient, kind: str) -> None:
    answer = http.get("/fails", params={"kind": kind}, headers=BROWSER)
    assert answer.status_code == STATUSES[kind]
    assert answer.headers["content-type"].startswith("text/html")
    assert "secret" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_page_lists_the_rows_and_escapes_them(http: TestClient) -> None:
    page = http.get("/fails?kind=invalid", headers=BROWSER).text
    assert "Row 3" in page
    assert "is &lt;b&gt;missing&lt;/b&gt;" in page


def test_program_gets_a_problem_from_a_page_too(http: TestClient) -> None:
    check_problem(http.get("/fails?kind=missing", headers={"accept": "*/*"}), 404)


def test_rows_and_fields_are_listed(http: TestClient) -> None:
    body = check_problem(http.get("/api/v1/fails?kind=invalid"), 422)
    assert body["detail"] == "No row is usable."
    assert body["errors"] == ROW_ERRORS


def test_full_disk_is_said_to_be_full(http: TestClient) -> None:
    assert "disk of the database is full" in http.get("/api/v1/fails?kind=full").json()["detail"]


def test_database_that_is_away_is_said_to_be(http: TestClient) -> None:
    answer = http.get("/api/v1/fails?kind=database")
    assert "database does not answer" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "2"


def test_missing_tables_are_explained(http: TestClient) -> None:
    assert "chesboard migrate" in http.get("/api/v1/fails?kind=tables").json()["detail"]


@pytest.mark.parametrize("kind", ["bug", "query", "parameters"])
def test_unexpected_error_goes_on_to_the_server_which_logs_it(app: FastAPI, kind: str) -> None:
    http = TestClient(app, base_url="http://localhost")
    with pytest.raises(type(FAILURES[kind]), match="secret"):
        http.get("/api/v1/fails", params={"kind": kind})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v1/nowhere", 404), ("GET", "/nowhere", 404), ("PUT", "/api/v1/datasets", 405)],
)
def test_unknown_address_or_method_is_a_problem(
    http: TestClient, method: str, path: str, status: int
) -> None:
    check_problem(http.request(method, path), status)


def test_invalid_body_names_the_field_by_its_path(http: TestClient) -> None:
    body = check_problem(http.post("/api/v1/validates", json={"config": {"beta": -1}}), 422)
    assert body["errors"] == [{"field": "config.beta", "message": "Input should be greater than 0"}]
    assert body["detail"] == "config.beta: Input should be greater than 0"


def test_our_own_validators_speak_without_the_framework_before_them(http: TestClient) -> None:
    body = check_problem(http.post("/api/v1/validates", json={"config": {"beta": 13}}), 422)
    assert body["errors"] == [{"field": "config", "message": "thirteen is unlucky"}]


def test_body_that_is_no_json_has_no_field(http: TestClient) -> None:
    answer = http.post(
        "/api/v1/validates", content="{", headers={"content-type": "application/json"}
    )
    [item] = check_problem(answer, 422)["errors"]
    assert set(item) == {"message"}
    assert "not JSON" in item["message"]


def test_query_is_named_without_its_place(http: TestClient) -> None:
    body = check_problem(http.get("/api/v1/fails"), 422)
    assert body["errors"][0]["field"] == "kind"


def test_field_errors_of_a_nested_model_take_a_prefix() -> None:
    with pytest.raises(ValidationError) as caught:
        _Config.model_validate({})
    assert errors.field_errors(caught.value, prefix="config") == [
        {"field": "config.beta", "message": "Field required"}
    ]


def test_text_that_utf8_cannot_hold_is_still_answered(app: FastAPI, http: TestClient) -> None:
    @app.get("/api/v1/surrogate")
    def surrogate() -> None:
        raise InvalidInputError("\ud800")

    assert http.get("/api/v1/surrogate").json()["detail"] == "\ud800"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_database_that_refuses_connections_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    from app.core import database

    # Port 9 discards; nothing listens there, so the connection is refused at once.
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://nobody@127.0.0.1:9/none")
    get_settings.cache_clear()
    database.reset_engine()
    try:
        http = TestClient(create_app(), base_url="http://localhost")
        body = check_problem(http.get("/api/v1/datasets"), 503)
        assert "database does not answer" in body["detail"]
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
        database.reset_engine()
