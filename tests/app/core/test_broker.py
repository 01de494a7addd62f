"""Wake-ups reach the deployment that they are of, messages a server that is who it says it is."""

import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from app.core.broker import get_celery, reset_broker, wake, wake_channel, wake_prefix
from app.core.settings import get_settings


def test_deployments_in_two_databases_of_a_server_do_not_wake_each_other(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = get_settings().required_redis_url()
    with redis.Redis.from_url(url, decode_responses=True) as client:
        number = client.connection_pool.connection_kwargs.get("db", 0)
        with client.pubsub(ignore_subscribe_messages=True) as subscriber:
            subscriber.psubscribe(f"{wake_prefix()}*")
            subscriber.get_message(timeout=5)  # that it is subscribed
            own = wake_channel(7)
            monkeypatch.setenv("REDIS_URL", urlsplit(url)._replace(path=f"/{number + 1}").geturl())
            get_settings.cache_clear()
            reset_broker()
            assert wake_channel(7) != own
            wake(7, 1)
            monkeypatch.setenv("REDIS_URL", url)
            get_settings.cache_clear()
            reset_broker()
            wake(7, 2)
            message = subscriber.get_message(timeout=5)
    assert (message["channel"], message["data"]) == (own, "2")


def connection_to(monkeypatch: pytest.MonkeyPatch, address: str) -> Any:
    """How messages for workers are sent."""
    monkeypatch.setenv("REDIS_URL", address)
    get_settings.cache_clear()
    reset_broker()
    connection = get_celery().connection_for_write()
    get_settings.cache_clear()
    reset_broker()
    return connection


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("rediss://:secret@broker/0", ssl.CERT_REQUIRED),
        ("rediss://:secret@broker/0?ssl_ca_certs=/etc/own.pem", ssl.CERT_REQUIRED),
        ("rediss://:secret@broker/0?ssl_cert_reqs=none", ssl.CERT_NONE),
        ("redis://:secret@broker/0", None),
    ],
)
def test_the_certificate_of_a_server_over_tls_is_checked_unless_its_address_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, address: str, expected: ssl.VerifyMode | None
) -> None:
    connection = connection_to(monkeypatch, address)
    assert connection.password == "secret"
    assert (connection.ssl["ssl_cert_reqs"] if connection.ssl else None) == expected


def test_a_server_is_reached_by_its_socket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connection_to(monkeypatch, "unix://:secret@/run/valkey.sock?db=3")
    assert connection.transport_cls == "redis"
    assert connection.hostname == "socket://:secret@/run/valkey.sock?virtual_host=3"
    assert "secret" not in connection.as_uri()
