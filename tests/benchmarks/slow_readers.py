"""People who read a long answer slowly, in a process of their own.

    python -m tests.benchmarks.slow_readers ADDRESS COUNT PATH [HEADER...]

Prints "ready" once the answer of each has begun, reads on until its input ends, and prints what it
saw as one line of JSON.
"""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from tests import PROJECT_ROOT

PIECE_BYTES, PAUSE_SECONDS = 512, 0.5
"""What one takes at a time, and how often."""
BEGIN_SECONDS = 120.0


@dataclass(slots=True)
class Seen:
    """status: of the answer; 0: none came. has_ended: the answer did, or the server cut it off."""

    status: int = 0
    bytes: int = 0
    has_ended: bool = False


async def _follow(address: str, path: str, headers: list[str], seen: Seen) -> None:
    server = urlsplit(address)
    one = socket.socket()
    # Little fits into the kernel's buffers, nor into this process's.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, (server.hostname, server.port))
    reader, writer = await asyncio.open_connection(sock=one, limit=2 * PIECE_BYTES)
    try:
        lines = (f"GET {path} HTTP/1.1", f"Host: {server.netloc}", *headers, "", "")
        writer.write("\r\n".join(lines).encode())
        while piece := await reader.read(PIECE_BYTES):
            seen.status = seen.status or int(piece.split()[1])
            seen.bytes += len(piece)
            await asyncio.sleep(PAUSE_SECONDS)
        seen.has_ended = True
    except OSError:
        seen.has_ended = True
    finally:
        writer.close()


async def read(address: str, count: int, path: str, headers: list[str]) -> list[Seen]:
    found = [Seen() for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_follow(address, path, headers, seen)) for seen in found]
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_SECONDS):
                while not all(seen.status or seen.has_ended for seen in found):
                    await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
    return found


@dataclass(slots=True)
class SlowReaders:
    """The parent's side. found: what each saw, once they have left."""

    found: list[Seen] = field(default_factory=list)

    def problem(self) -> str | None:
        """Why they were no slow readers, if they were not."""
        statuses = {seen.status for seen in self.found}
        if statuses != {200}:
            return f"slow readers were answered {sorted(statuses)}"
        if ended := sum(seen.has_ended for seen in self.found):
            return f"the answers of {ended} of {len(self.found)} slow readers ended"
        return None


@contextmanager
def slow_readers(address: str, count: int, path: str, *headers: str) -> Iterator[SlowReaders]:
    """So many, while the block is executed; each has had the beginning of its answer."""
    readers = SlowReaders()
    with subprocess.Popen(
        [sys.executable, "-m", __name__, address, str(count), path, *headers],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the readers could not connect"
        try:
            yield readers
        except BaseException:
            process.kill()
            raise
        found, _ = process.communicate()
    readers.found = [Seen(**seen) for seen in json.loads(found)]


def main(address: str, count: str, path: str, *headers: str) -> None:
    found = asyncio.run(read(address, int(count), path, list(headers)))
    print(json.dumps([asdict(seen) for seen in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
