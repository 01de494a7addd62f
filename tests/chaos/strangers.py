"""A flood by strangers, in a process of its own.

    python -m tests.chaos.strangers ADDRESS SECONDS

Prints how often they were answered what, as one line of JSON: {"half requests": {"cut off": 1200},
"bodies": {"413": 7}, ...}.
"""

import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

HALF_REQUESTS = 1200
BODIES = 6
GUESSERS = 4
PAUSE_SECONDS = 2.0
"""Before one who was cut off comes back."""
BODY_PAUSE_SECONDS = 0.2
FILES = 4096

HALF = b"GET / HTTP/1.1\r\nHost: 127"
PIECE = b"&" * (1 << 20)
PIECES = 16
FORM = "application/x-www-form-urlencoded"
FILE = "multipart/form-data; boundary=b"
BEGIN = b'--b\r\nContent-Disposition: form-data; name="token"; filename="a"\r\n\r\n'

Stranger = Callable[[str, int, Counter[str]], Awaitable[None]]


async def half_request(host: str, port: int, seen: Counter[str]) -> None:
    """Held until the server ends it."""
    seen[await _answer(host, port, HALF)] += 1
    await asyncio.sleep(PAUSE_SECONDS)


async def body(kind: str, first: bytes, host: str, port: int, seen: Counter[str]) -> None:
    """16 MB for the login form."""
    size = len(first) + PIECES * len(PIECE)
    head = (
        f"POST /login HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()
    seen[await _answer(host, port, head + first, *[PIECE] * PIECES)] += 1
    await asyncio.sleep(BODY_PAUSE_SECONDS)


async def guess(host: str, port: int, seen: Counter[str]) -> None:
    head = (
        f"GET /api/v1/runs HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer a guess\r\n\r\n"
    )
    seen[await _answer(host, port, head.encode())] += 1


async def _answer(host: str, port: int, *sent: bytes) -> str:
    """The status of the answer, or "cut off" where the connection ended without one."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return "cut off"
    try:
        sending = asyncio.create_task(_send(writer, sent))
        head = (await reader.readline()).split()
        sending.cancel()
        return head[1].decode() if len(head) > 1 else "cut off"
    except OSError:
        return "cut off"
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, pieces: tuple[bytes, ...]) -> None:
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass  # refused; the answer says how


async def flood(address: str, seconds: float) -> dict[str, Counter[str]]:
    server = urlsplit(address)
    assert server.hostname is not None
    assert server.port is not None
    kinds: dict[str, tuple[int, Stranger]] = {
        "half requests": (HALF_REQUESTS, half_request),
        "forms": (BODIES // 2, lambda *to: body(FORM, b"token=", *to)),
        "files": (BODIES // 2, lambda *to: body(FILE, BEGIN, *to)),
        "guesses": (GUESSERS, guess),
    }
    seen = {what: Counter[str]() for what in kinds}

    async def again_and_again(what: str, host: str, port: int) -> None:
        while True:
            await kinds[what][1](host, port, seen[what])

    tasks = [
        asyncio.create_task(again_and_again(what, server.hostname, server.port))
        for what, (count, _) in kinds.items()
        for _ in range(count)
    ]
    _, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    for task in set(tasks) - pending:
        task.result()  # raises what ended it
    return seen


def main(address: str, seconds: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    print(json.dumps(asyncio.run(flood(address, float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
