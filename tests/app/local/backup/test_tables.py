"""Which pg_dump reads a server."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.local.backup import tables
from app.local.errors import SetupError
from app.local.postgres import postgres_binaries


def program(folder: Path, version: str) -> Path:
    """A pg_dump that only says its version."""
    folder.mkdir(exist_ok=True)
    path = folder / "pg_dump"
    path.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
    path.chmod(0o755)
    return path


def server(version: int, *, encrypted: bool = False) -> Any:
    return SimpleNamespace(
        info=SimpleNamespace(server_version=version * 10_000 + 4),
        pgconn=SimpleNamespace(ssl_in_use=encrypted),
    )


def test_the_pg_dump_is_one_that_can_read_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = postgres_binaries() / "pg_dump"
    newer = program(tmp_path / "bin", "99beta1 (Debian 99)")
    monkeypatch.setenv("PATH", str(newer.parent))
    assert tables._pg_dump_for(server(15)) == (own, 18)
    assert tables._pg_dump_for(server(18)) == (own, 18)
    assert tables._pg_dump_for(server(19)) == (newer, 99)
    assert tables._pg_dump_for(server(15, encrypted=True)) == (newer, 99)


def test_a_server_without_a_fitting_pg_dump_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"PostgreSQL 19 and is newer .* \(18\)\. Put a pg_dump"):
        tables._pg_dump_for(server(19))
    with pytest.raises(SetupError, match="over TLS"):
        tables._pg_dump_for(server(16, encrypted=True))
    program(tmp_path, "15.4")
    with pytest.raises(SetupError, match="version 16 or later on the PATH"):
        tables._pg_dump_for(server(16, encrypted=True))
