"""A server that accepts every connection and never answers, or sends a byte at a time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


@contextmanager
def silent_server(pause: float | None = None, begins: bytes = ENDLESS) -> Iterator[str]:
    """Its address. pause: seconds between two bytes of an answer that does not end, which `begins`
    so; None: it has none."""
    over = threading.Event()
    held: list[socket.socket] = []

    def accept(listening: socket.socket) -> None:
        while not over.is_set():
            with suppress(OSError):
                connection, _ = listening.accept()
                held.append(connection)
                if pause is not None:
                    threading.Thread(target=drip, args=(connection, pause), daemon=True).start()

    def drip(connection: socket.socket, pause: float) -> None:
        with suppress(OSError):
            connection.sendall(begins)
            while not over.is_set():
                connection.sendall(b" ")
                time.sleep(pause)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        thread = threading.Thread(target=accept, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        thread.join()
    for connection in held:
        connection.close()
