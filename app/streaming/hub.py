"""The feeds of one process, and the Redis subscription that wakes them up."""

import asyncio
import logging
from typing import Any

import redis.asyncio
import redis.exceptions

from app.core.broker import wake_prefix
from app.core.settings import get_settings
from app.runs.schemas import RunOut
from app.streaming.feed import Feed

RECONNECT_SECONDS = 1.0
"""Between attempts to subscribe while Redis is down."""

log = logging.getLogger(__name__)


class Hub:
    """One feed per watched run, started by its first watcher and stopped by its last.

    The subscription exists only while there is a feed. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self.feeds: dict[int, Feed] = {}
        self.redis_is_up = False
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    def join(self, run: RunOut) -> Feed:
        """The feed of a run, with one more watcher until `leave`."""
        if run.id not in self.feeds:
            self._start(run)
        feed = self.feeds[run.id]
        feed.watchers += 1
        return feed

    def _start(self, run: RunOut) -> None:
        feed = self.feeds[run.id] = Feed(run, lambda: self.redis_is_up)
        feed.closed = self._closed
        self._tasks[run.id] = asyncio.create_task(feed.follow(), name=f"feed of run {run.id}")
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="wake-ups")

    def leave(self, feed: Feed) -> None:
        feed.watchers -= 1
        if feed.watchers:
            return
        del self.feeds[feed.run.id]
        self._tasks.pop(feed.run.id).cancel()
        if not self.feeds and self._listener is not None:
            self._listener.cancel()
            self._listener = None

    def close(self) -> None:
        """End every stream, so that none delays the server's shutdown."""
        self._closed = True
        for feed in self.feeds.values():
            feed.close()

    async def _listen(self) -> None:
        """Forward wake-ups to the feeds; resubscribe while Redis is down and the feeds poll."""
        # redis-py may swallow a cancellation, so a listener that was replaced checks and returns.
        me = asyncio.current_task()
        while self._listener is me:
            try:
                await self._forward_wake_ups(me)
            except (redis.exceptions.RedisError, OSError) as error:
                log.info("no wake-ups from Redis, pages poll the database: %s", error)
            finally:
                if self._listener in (me, None):
                    self.redis_is_up = False
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _forward_wake_ups(self, me: "asyncio.Task[None] | None") -> None:
        client = redis.asyncio.Redis.from_url(
            get_settings().required_redis_url(), socket_connect_timeout=2, decode_responses=True
        )
        async with client, client.pubsub(ignore_subscribe_messages=True) as subscriber:
            await subscriber.psubscribe(f"{wake_prefix()}*")
            if self._listener is not me:
                return
            self.redis_is_up = True
            # Writes before the subscription published to nobody.
            self._wake_all()
            async for message in subscriber.listen():
                if self._listener is not me:
                    return
                self._wake(message)

    def _wake_all(self) -> None:
        for feed in self.feeds.values():
            feed.wake(feed.position + 1)

    def _wake(self, message: dict[str, Any]) -> None:
        run_id = str(message["channel"]).rpartition(":")[2]
        revision = str(message["data"])
        if run_id.isdigit() and revision.isdigit() and (feed := self.feeds.get(int(run_id))):
            feed.wake(int(revision))
