"""What can be set from outside, and under which names."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "CHESBOARD_DATABASE_URL", "CHESBOARD_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CHESBOARD_{name.upper()}", raising=False)


def test_every_setting_has_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_models_lie_in_the_data_folder_unless_a_folder_is_named(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).models_path == tmp_path / "models"
    assert Settings(data_dir=tmp_path, models_dir=Path("/m")).models_path == Path("/m")


@pytest.mark.parametrize("prefix", ["", "CHESBOARD_"])
def test_servers_of_ones_own_are_named_with_or_without_the_prefix(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{prefix}DATABASE_URL", "postgresql://me@db/x?sslmode=require")
    monkeypatch.setenv(f"{prefix}REDIS_URL", "redis://cache/1")
    settings = Settings()
    assert settings.required_redis_url() == "redis://cache/1"
    assert settings.required_database_url() == "postgresql+psycopg://me@db/x?sslmode=require"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_scheme_of_postgresql_leads_to_the_same_driver(scheme: str) -> None:
    settings = Settings.model_validate({"DATABASE_URL": f"{scheme}://db/x"})
    assert settings.required_database_url() == "postgresql+psycopg://db/x"


def test_a_missing_server_says_how_to_get_one() -> None:
    with pytest.raises(RuntimeError, match="`chesboard up` starts an embedded PostgreSQL"):
        Settings().required_database_url()
    with pytest.raises(RuntimeError, match="`chesboard up` starts an embedded Valkey"):
        Settings().required_redis_url()


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHESBOARD_PORT", port)
    with pytest.raises(ValidationError):
        Settings()


def test_the_token_is_not_printed() -> None:
    for name in ("token", "reviewer_token", "viewer_token"):
        assert "mystery" not in repr(Settings.model_validate({name: "mystery-token"}))


def test_an_empty_token_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """docker-compose sets what is not set to the empty text, which anybody could send."""
    monkeypatch.setenv("CHESBOARD_TOKEN", "")
    assert Settings().token is None


def test_a_token_that_is_soon_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHESBOARD_TOKEN", "short")
    with pytest.raises(ValidationError, match="at least 8 characters") as refused:
        Settings()
    assert "short" not in str(refused.value)


def test_a_lease_outlasts_several_heartbeats() -> None:
    settings = Settings()
    assert settings.lease >= 3 * settings.heartbeat
