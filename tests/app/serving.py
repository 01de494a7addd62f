"""The application on a real server, in a thread of this process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.web.connections import Protocol
from tests.support import eventually


class Server(NamedTuple):
    app: FastAPI
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"


@contextmanager
def serving() -> Iterator[Server]:
    """With the settings of this moment."""
    app = create_app()
    config = uvicorn.Config(
        app, port=0, log_level="warning", timeout_graceful_shutdown=2, http=Protocol, backlog=128
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield Server(app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def connected(port: int, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that sent these bytes, and from then on neither send nor read."""
    with ExitStack() as stack:
        made = []
        for _ in range(number):
            one = stack.enter_context(socket.socket())
            # Little fits into the kernel's buffers: what is not read waits in the server.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(10)
            one.connect(("127.0.0.1", port))
            with suppress(ConnectionError):  # refused at once
                one.sendall(sent)
            made.append(one)
        yield made


def is_closed(one: socket.socket) -> bool:
    """Whether the server has closed the connection; reads what it sent before."""
    one.setblocking(False)
    try:
        while one.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def get(path: str, *headers: str) -> bytes:
    """A whole request."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
