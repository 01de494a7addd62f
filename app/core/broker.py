"""The message broker: the Celery queue of runs, and Redis pub/sub wake-ups of event streams.

A task carries nothing but a run's id. Losing every message loses no data: the sweeper enqueues
unfinished runs again, and event streams fall back to polling PostgreSQL.
"""

import logging
from functools import lru_cache
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import redis
from celery import Celery
from redis.connection import parse_url

from app.core.settings import get_settings

EXECUTE_RUN = "chesboard.execute_run"
QUEUE = "chesboard"
NO_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0}

log = logging.getLogger(__name__)


def wake_prefix() -> str:
    """Of the channels of wake-ups. Channels, unlike keys, belong to the whole server, so they are
    named by the database, which another deployment does not share."""
    url = get_settings().required_redis_url()
    database = parse_url(url).get("db", 0)  # type: ignore[no-untyped-call]
    return f"chesboard:{database}:run:"


def wake_channel(run_id: int) -> str:
    return f"{wake_prefix()}{run_id}"


@lru_cache
def get_celery() -> Celery:
    celery = Celery("chesboard", broker=_for_kombu(get_settings().required_redis_url()))
    celery.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # The claim in PostgreSQL decides which worker executes a run, so a message is acknowledged
        # on receipt: no visibility timeout can deliver a long run a second time.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker survives any outage of the broker
        broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5},
    )
    return celery


def _for_kombu(url: str) -> str:
    """The address as kombu reads it: with a word of its own for a socket of this machine, and with
    the server's certificate checked unless it says otherwise, which redis-py does by itself."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if parts.scheme == "unix":
        number = query.get("db", ["0"])[0]
        return urlunsplit(parts._replace(scheme="redis+socket", query=f"virtual_host={number}"))
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in query:
        query["ssl_cert_reqs"] = ["required"]
        return urlunsplit(parts._replace(query=urlencode(query, doseq=True, safe="/")))
    return url


@lru_cache
def get_redis() -> redis.Redis:
    return redis.Redis.from_url(
        get_settings().required_redis_url(), socket_connect_timeout=2, socket_timeout=2
    )


def broker_is_up() -> bool:
    """Whether Redis answers a PING."""
    try:
        return bool(get_redis().ping())
    except redis.RedisError:
        return False


def enqueue(run_id: int) -> bool:
    """Send a run to the workers. False if the broker is down; the sweeper then sends it again."""
    try:
        # A connection without retries: a request is waiting for this.
        with get_celery().connection_for_write(transport_options=NO_RETRY) as connection:
            get_celery().send_task(EXECUTE_RUN, args=[run_id], retry=False, connection=connection)
    except Exception as error:  # kombu raises its own errors and the client's
        log.warning("run %s is stored but could not be enqueued: %s", run_id, error)
        return False
    return True


def wake(run_id: int, revision: int) -> None:
    """Publish that a run has a new revision, for its event streams. Best effort."""
    try:
        get_redis().publish(wake_channel(run_id), str(revision))
    except redis.RedisError as error:
        log.debug("no wake-up for run %s: %s", run_id, error)


def reset_broker() -> None:
    """Drop the cached connections, after the settings changed."""
    get_celery.cache_clear()
    get_redis.cache_clear()
