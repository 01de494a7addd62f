"""Who may do what: every route has its rule."""

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from app.auth import permissions as access
from app.auth.permissions import Role
from app.local.embedded import Services
from app.main import create_app


def routes() -> set[tuple[str, str]]:
    """(method, path) of everything that the application answers to."""
    found = set()
    for route in iter_route_contexts(create_app().routes):
        methods = route.methods or {"GET"}
        assert route.path is not None
        path = access.STATIC if route.path.startswith("/static") else route.path
        found |= {(method, path) for method in methods - {"HEAD"}}
    return found


def test_every_route_has_a_rule() -> None:
    ruled = {(rule.method, rule.path) for rule in access.RULES}
    assert routes() - ruled == set(), "give each of these a line in app/auth/permissions.py"
    assert len(routes()) > 40


def test_every_change_is_recorded() -> None:
    silent = {
        (rule.method, rule.path)
        for rule in access.RULES
        if rule.method not in access.READING
        and rule.action is None
        and rule.path not in access.STORES_NOTHING | access.RECORDS
    }
    # These write their events themselves.
    assert silent == {("POST", "/login"), ("POST", "/logout")}


def test_viewers_change_nothing_and_strangers_see_nothing() -> None:
    for rule in access.RULES:
        if rule.role is Role.VIEWER:
            assert rule.method in access.READING, rule
        if rule.role is None:
            assert rule.path in ("/login", "/logout", "/healthz", access.STATIC), rule


def test_each_rule_is_written_once() -> None:
    written = [(rule.method, rule.path) for rule in access.RULES]
    assert len(written) == len(set(written))


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/", Role.VIEWER),
        ("HEAD", "/audit", Role.OPERATOR),
        ("GET", "/datasets/7/new", Role.OPERATOR),
        ("POST", "/api/v1/runs/7/cancel", Role.OPERATOR),
        ("DELETE", "/api/v1/datasets/7/flags", Role.REVIEWER),
        ("GET", "/static/figures/curves.js", None),
        ("GET", "/static/../audit", None),  # the file server looks for no such file
        ("GET", "/login?x", Role.VIEWER),  # a path with a question mark in it, not the form
        ("TRACE", "/", Role.OPERATOR),
        ("PUT", "/api/v1/runs/7", Role.OPERATOR),
    ],
)
def test_a_request_finds_its_rule(method: str, path: str, role: Role | None) -> None:
    assert access.match(method, path).rule.role is role


def test_a_path_that_is_written_otherwise_leads_nowhere(database: Services) -> None:
    http = TestClient(create_app(), base_url="http://127.0.0.1")
    for path in ("/static/..%2faudit", "/static/%2e%2e/audit", "/login%3Fx", "/AUDIT"):
        assert http.get(path).status_code == 404, path
