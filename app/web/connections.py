"""The server's connections: how many there may be, and how long one may keep the server waiting.

uvicorn bounds none of this: a client that sends half a request, or reads nothing of its answer,
would hold its connection, and what waits to be sent on it, for good.
"""

import asyncio
import ipaddress
import logging
import resource
import socket
import struct
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from app.core.rate_limit import address_key
from app.core.settings import Settings, get_settings

log = logging.getLogger(__name__)

RESERVED_FILES = 256
"""Of the files that the process may open: for the database, the broker, uploads, downloads, and the
connections of one round of accepting (`--backlog`), which are counted only after it."""
FILES_EACH = 2
"""A connection, and a static file that is sent on it."""
STALLED_SECONDS = 2.0
TICK_SECONDS = 1.0

_TOO_MANY = b"Too many connections from this address.\n"
TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nRetry-After: 5\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_TOO_MANY), _TOO_MANY)
)


class Protocol(H11Protocol):
    """HTTP/1.1 on one connection, which `Connections` watches."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._all = _connections_of(self.server_state)
        self.key: str | None = None
        self.since = self.heard = self.moved = self.loop.time()
        """When it began to wait for the head of a request, when it last received something, and
        when what waits to be sent last changed."""
        self.unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.key = self._all.key(self.client[0] if self.client else "")
        if not self._all.admit(self):
            transport.write(TOO_MANY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # refused: what it sends is not read
        self.heard = self.loop.time()
        super().data_received(data)
        self._all.note(self)

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()
        self._all.note(self)

    @property
    def is_waiting(self) -> bool:
        """For the head of a request."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_receiving(self) -> bool:
        """The rest of a request, for which the application waits."""
        return not self.is_waiting and self.cycle.more_body and not self.flow.read_paused


class Connections:
    """The connections of one server. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._total = allowed_connections(settings.max_connections)
        self._each = min(settings.max_connections_per_address, self._total)
        self._proxies = settings.proxy_networks
        self._request_seconds = settings.request_timeout.total_seconds()
        self._client_seconds = settings.client_timeout.total_seconds()
        self._tick_seconds = min(TICK_SECONDS, self._request_seconds / 4, self._client_seconds / 4)
        # In the order in which they began to wait.
        self._waiting: dict[Protocol, None] = {}
        self._by_key: defaultdict[str, dict[Protocol, None]] = defaultdict(dict)
        self._open: set[Protocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def key(self, address: str) -> str | None:
        """What connections of one address are counted under; None: they are not."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return None  # a Unix socket's
        is_proxy = any(parsed in network for network in self._proxies)
        return None if is_proxy else address_key(address)

    def admit(self, new: Protocol) -> bool:
        """Take a connection, if need be in place of another.

        That is one of the same address where the address has its share, else of all: the oldest
        that has not sent a whole request, or the one that has read nothing of its answer for the
        longest. A client that does at once what it came for is not kept out by those who do not.
        """
        self._open.add(new)
        if new.key is not None and len(self._by_key[new.key]) >= self._each:
            rivals = self._by_key[new.key]
        elif len(self._open) > self._total:
            rivals = {**self._waiting, **dict.fromkeys(self._open - {new})}
        else:
            rivals = None
        if rivals is not None:
            idle = self._most_idle(rivals, new.loop.time())
            if idle is None:
                return False
            self._drop(idle)
        if new.key is not None:
            self._by_key[new.key][new] = None
        self.note(new)
        if self._timer is None:
            self._timer = new.loop.call_later(self._tick_seconds, self._tick, new.loop)
        return True

    def _most_idle(self, rivals: Iterable[Protocol], now: float) -> Protocol | None:
        stalled = []
        for one in rivals:
            if one.is_waiting:
                return one
            if one.unsent and now - one.moved > STALLED_SECONDS:
                stalled.append(one)
        return min(stalled, key=lambda one: one.moved, default=None)

    def note(self, one: Protocol) -> None:
        """Its state may have changed."""
        if not one.is_waiting:
            self._waiting.pop(one, None)
        elif one not in self._waiting and one in self._open:
            self._waiting[one] = None
            if one.key is not None:
                own = self._by_key[one.key]
                own.pop(one, None)
                own[one] = None

    def remove(self, one: Protocol) -> None:
        self._open.discard(one)
        self._waiting.pop(one, None)
        if one.key is not None and one.key in self._by_key:
            self._by_key[one.key].pop(one, None)
            if not self._by_key[one.key]:
                del self._by_key[one.key]

    def _drop(self, one: Protocol) -> None:
        self.remove(one)
        found = one.transport.get_extra_info("socket")
        if one.unsent and found is not None:
            # The kernel forgets what it still had to send, too.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Not close(), which waits until everything was sent.
        one.transport.abort()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for one in list(self._open):
            if self._is_over(one, now):
                self._drop(one)
        self._timer = loop.call_later(self._tick_seconds, self._tick, loop) if self._open else None

    def _is_over(self, one: Protocol, now: float) -> bool:
        """Whether the client had its time."""
        unsent = one.transport.get_write_buffer_size()
        if unsent != one.unsent:
            one.unsent, one.moved = unsent, now
        if unsent and now - one.moved > self._client_seconds:
            return True
        if one.is_waiting:
            return not unsent and now - one.since > self._request_seconds
        return one.is_receiving and now - one.heard > self._client_seconds


_SERVERS: WeakKeyDictionary[ServerState, Connections] = WeakKeyDictionary()


def _connections_of(server: ServerState) -> Connections:
    if server not in _SERVERS:
        _SERVERS[server] = Connections(get_settings())
    return _SERVERS[server]


def allowed_connections(wanted: int) -> int:
    """As many as the settings say, or as the limit of open files leaves room for.

    The limit is raised as far as the process may: each connection is an open file, and without one
    left nobody could connect.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_EACH * wanted + RESERVED_FILES
    if soft < needed and soft != resource.RLIM_INFINITY:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft == resource.RLIM_INFINITY:
        return wanted
    allowed = min(wanted, max(soft - RESERVED_FILES, soft // 2) // FILES_EACH)
    if allowed < wanted:
        log.warning(
            "%d connections are accepted, not %d: the limit of open files is %d (ulimit -n)",
            allowed,
            wanted,
            soft,
        )
    return allowed
