"""A large preference file through a real web process: time, and how much the process grows.

python -m tests.benchmarks.ingestion [PAIRS]
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.local import migrate as migrations
from app.local.embedded import free_port
from tests import PROJECT_ROOT
from tests.support import disposable_services

PAIRS = 200_000
CHARACTERS = 1500
"""Of a pair, whose prompt stands in it three times: 200,000 of them make 500 MB."""

COLUMNS = ("what", "pairs", "seconds", "pairs a second", "web process grows by, MiB")
ABOUT = """A file of chat pairs, some repeated, contradicting or broken, through the web process
into PostgreSQL (upload to stored), and out again. Growth is that of the web process's resident
memory while it happens; the file is read and written over HTTP on the same machine."""
DUPLICATE_EVERY, SWAPPED_EVERY, BROKEN_EVERY = 1000, 2000, 5000


def write_file(path: Path, pairs: int = PAIRS) -> int:
    """A JSONL file of chat pairs, some repeated, some contradicting, some broken; its bytes."""
    draw = random.Random(7)
    words = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyzäéß", k=draw.randint(2, 9)))
        for _ in range(5000)
    ]
    text = " ".join(draw.choices(words, k=400_000))
    with path.open("wb") as file:
        for number in range(pairs):
            at = [draw.randrange(len(text) - CHARACTERS) for _ in range(3)]
            prompt = f"{number}: {text[at[0] : at[0] + CHARACTERS // 5]}"
            ours = text[at[1] : at[1] + 2 * CHARACTERS // 5]
            theirs = text[at[2] : at[2] + 2 * CHARACTERS // 5]
            row: dict[str, Any] = {
                "prompt": prompt,
                "chosen": [said("user", prompt), said("assistant", ours)],
                "rejected": [said("user", prompt), said("assistant", theirs)],
                "score_chosen": draw.random(),
                "score_rejected": draw.random(),
            }
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            if number % DUPLICATE_EVERY == 0:
                file.write(line)
            if number % SWAPPED_EVERY == 0:
                row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            if number % BROKEN_EVERY == 0:
                file.write(line[:50] + b"\n")
        return file.tell()


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@dataclass
class Growth:
    """How much resident memory a process gained at most while something happened."""

    process: psutil.Process
    mib: float = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        before, done = self.process.memory_info().rss, threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                self.mib = max(self.mib, (self.process.memory_info().rss - before) / 2**20)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


@contextmanager
def web_process() -> Iterator[tuple[httpx.Client, psutil.Process]]:
    with disposable_services() as services, tempfile.TemporaryDirectory() as folder:
        migrations.upgrade(services.database_url)
        port = free_port()
        environment = os.environ | {
            "DATABASE_URL": services.database_url,
            "REDIS_URL": services.redis_url,
            "CHESBOARD_DATA_DIR": folder,
            "CHESBOARD_LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "app.cli", "web", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, cwd=PROJECT_ROOT)
        try:
            address = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=f"{address}/api/v1", timeout=600) as client:
                _wait_for(client)
                # What is loaded once is not growth.
                client.post("/datasets", files={"file": ("a.jsonl", _small())}).raise_for_status()
                yield client, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _small() -> bytes:
    return b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'


def _wait_for(client: httpx.Client) -> None:
    for _ in range(300):
        try:
            client.get("/datasets").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the web process did not start")


def rows(pairs: int = PAIRS) -> Iterator[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder, web_process() as (client, process):
        path = Path(folder) / "pairs.jsonl"
        size = write_file(path, pairs)

        growth, started = Growth(process), time.perf_counter()
        with growth.watched(), path.open("rb") as file:
            answer = client.post("/datasets", files={"file": (path.name, file)})
        answer.raise_for_status()
        stored = answer.json()
        assert stored["pairs"] == pairs + -(-pairs // 1000) + -(-pairs // 2000), stored["pairs"]
        issues = stored["statistics"]["issues"]
        what = f"upload to stored, JSONL of {size / 1e6:.0f} MB ({issues['duplicate']} repeated, "
        what += f"{issues['contradiction']} contradicting, {stored['rejected']} rejected)"
        yield _row(what, stored["pairs"], time.perf_counter() - started, growth)

        for format in ("jsonl", "csv", "parquet"):
            for form in ("trl", "original") if format == "jsonl" else ("original",):
                growth, started, sent = Growth(process), time.perf_counter(), 0
                out = Path(folder) / f"out.{format}"
                with growth.watched(), out.open("wb") as file:
                    address = f"/datasets/{stored['id']}/export?format={format}&form={form}"
                    with client.stream(
                        "GET", address, headers={"accept-encoding": "identity"}
                    ) as r:
                        for piece in r.iter_bytes():
                            sent += file.write(piece)
                what = f"export, {format} ({form}), {sent / 1e6:.0f} MB"
                yield _row(what, stored["pairs"], time.perf_counter() - started, growth)

        growth, started = Growth(process), time.perf_counter()
        with growth.watched(), out.open("rb") as file:
            again = client.post("/datasets", files={"file": (out.name, file)})
        again.raise_for_status()
        assert again.json()["pairs"] == stored["pairs"]
        what = f"upload to stored, that Parquet of {out.stat().st_size / 1e6:.0f} MB"
        yield _row(what, stored["pairs"], time.perf_counter() - started, growth)


def _row(what: str, pairs: int, seconds: float, growth: Growth) -> tuple[str, ...]:
    rate = pairs / seconds
    return what, f"{pairs:,}", f"{seconds:.1f}", f"{rate:,.0f}", f"{growth.mib:.0f}"


if __name__ == "__main__":
    print(*rows(int(sys.argv[1]) if sys.argv[1:] else PAIRS), sep="\n")
