"""Sending runs to the workers, and waking pages when a run has written something.

A message carries a run's id and nothing else. Losing every message loses nothing: the sweeper
sends unfinished runs again, and pages fall back to polling the store.
"""

import logging
from functools import lru_cache

import redis
from celery import Celery

from app.core.settings import get_settings

EXECUTE_RUN = "chesboard.execute_run"
QUEUE = "chesboard"
CHANNEL_PREFIX = "chesboard:run:"
GIVE_UP_AT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0}

log = logging.getLogger(__name__)


def wake_channel(run_id: int) -> str:
    return f"{CHANNEL_PREFIX}{run_id}"


@lru_cache
def get_celery() -> Celery:
    celery = Celery("chesboard", broker=get_settings().required_redis_url())
    celery.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # Claiming a run in PostgreSQL decides who works, so a message may be acknowledged as
        # soon as it is taken: no visibility timeout can hand out a long run a second time.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlasts any absence of its broker
        broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5},
    )
    return celery


@lru_cache
def get_redis() -> redis.Redis:
    return redis.Redis.from_url(
        get_settings().required_redis_url(), socket_connect_timeout=2, socket_timeout=2
    )


def enqueue(run_id: int) -> bool:
    """Tell the workers of a run. False where the broker is away; the sweeper then repeats it."""
    try:
        # A connection of its own, which gives up at once: someone waits for the answer.
        with get_celery().connection_for_write(transport_options=GIVE_UP_AT_ONCE) as connection:
            get_celery().send_task(EXECUTE_RUN, args=[run_id], retry=False, connection=connection)
    except Exception as error:  # kombu raises its own and the client's errors alike
        log.warning("run %s is stored but the broker did not take it: %s", run_id, error)
        return False
    return True


def wake(run_id: int, revision: int) -> None:
    """Tell live pages that a run has something new. Best effort."""
    try:
        get_redis().publish(wake_channel(run_id), str(revision))
    except redis.RedisError as error:
        log.debug("no wake-up for run %s: %s", run_id, error)


def reset_broker() -> None:
    """Forget the connections, after the settings changed."""
    get_celery.cache_clear()
    get_redis.cache_clear()
