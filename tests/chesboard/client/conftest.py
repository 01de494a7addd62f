"""A server that speaks the wire, and nothing of the environment that would name another."""

from collections.abc import Iterator

import pytest

from tests.chesboard.client.wire_server import WireServer, wire_server


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "TOKEN", "MODE", "DIR"):
        monkeypatch.delenv(f"CHESBOARD_{name}", raising=False)


@pytest.fixture
def server() -> Iterator[WireServer]:
    with wire_server() as serving:
        yield serving
