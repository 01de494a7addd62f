"""A small server that speaks the wire: it keeps runs in memory, and can be told to misbehave."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from chesboard.record_json import from_json, to_json

KEYS = {
    "metric": ("step",),
    "probe": ("pair",),
    "probe_step": ("pair", "step"),
    "position": ("pair", "response", "position"),
    "position_step": ("pair", "response", "position", "step"),
    "answer": ("pair", "step"),
}


@dataclass
class KeptRun:
    id: int
    body: dict[str, Any]
    attempt: int = 1
    records: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    status: str = "running"
    summary: dict[str, Any] | None = None
    error: str | None = None
    heartbeats: int = 0
    messages: list[str] = field(default_factory=list)
    deleted: bool = False

    @property
    def steps(self) -> list[int]:
        """Of the batches' metrics."""
        return sorted(key[1] for key in self.records if key[0] == "metric")

    @property
    def looks(self) -> list[int]:
        """Steps at which probes were looked at."""
        return sorted({key[2] for key in self.records if key[0] == "probe_step"})

    @property
    def recorded_through(self) -> int | None:
        return max((one["step"] for one in self.records.values() if "step" in one), default=None)


@dataclass
class WireServer:
    url: str = ""
    runs: dict[str, KeptRun] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    status: int | None = None
    """Answer every request with this."""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Wait so long before each answer."""
    most_records: int = 1000
    token: str | None = None
    cancel_requested: bool = False
    texts: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    """(dataset, pair) → its texts."""
    forget_answers: int = 0
    """So many times, take what comes and break the connection before the answer."""

    @property
    def only(self) -> KeptRun:
        [run] = self.runs.values()
        return run

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.status is not None:
            return self.status, {"detail": f"told to answer {self.status}"}
        parts = path.removeprefix("/api/v1/").split("/")
        if parts == ["runs"]:
            assert body["kind"] == "external"
            is_new = body["key"] not in self.runs
            run = self.runs.setdefault(body["key"], KeptRun(len(self.runs) + 1, body))
            return 201 if is_new else 200, self._said(run) | {"attempt": run.attempt}
        run = next(one for one in self.runs.values() if one.id == int(parts[1]))
        if run.deleted:
            return 404, {"detail": "This run was deleted.", "code": "run_not_found"}
        if parts[2] == "attempts":
            step = body["resumed_from_step"]
            run.records = {k: v for k, v in run.records.items() if v.get("step", 0) <= step}
            run.attempt += 1
            run.status = "running"
            return 200, {"attempt": run.attempt}
        if body["attempt"] != run.attempt:
            return 409, {"detail": "A later attempt goes on.", "code": "stale_attempt"}
        if parts[2] == "finish":
            run.status, run.summary = body["status"], body.get("summary")
            run.error = body["error"]["message"] if body.get("error") else None
            return 200, self._said(run)
        if len(body["records"]) > self.most_records:
            return 413, {"detail": "too many records"}
        said = body.get("messages", [])
        run.messages += [text for text in said if text not in run.messages]
        run.heartbeats += not body["records"] and not said
        for record in body["records"]:
            assert to_json(from_json(record)) == record
            names = KEYS[record["kind"]]
            run.records[record["kind"], *(record[name] for name in names)] = record
        return 200, self._said(run)

    def answer_texts(self, address: str) -> tuple[int, dict[str, Any]]:
        if self.status is not None:
            return self.status, {"detail": f"told to answer {self.status}"}
        path, _, query = address.removeprefix("/api/v1/datasets/").partition("?")
        dataset_id = int(path.removesuffix("/texts"))
        found = [(dataset_id, int(pair)) for pair in parse_qs(query)["pair"]]
        if not all(one in self.texts for one in found):
            return 404, {"detail": f"Dataset {dataset_id} has no such pair."}
        return 200, {"items": [{"pair": one[1], **self.texts[one]} for one in found]}

    def _said(self, run: KeptRun) -> dict[str, Any]:
        return {
            "id": run.id,
            "url": f"{self.url}/runs/{run.id}",
            "recorded_through": run.recorded_through,
            "cancel_requested": self.cancel_requested,
            "lease_seconds": 600,
        }


@contextmanager
def wire_server(port: int = 0, server: WireServer | None = None) -> Iterator[WireServer]:
    """Serve until the end of the with statement; `server` goes on with what it knows."""
    told = server or WireServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                raw = gzip.decompress(raw)
            body = json.loads(raw)
            told.requests.append((self.path, body))
            self.reply(lambda: told.answer(self.path, body))

        def do_GET(self) -> None:
            told.requests.append((self.path, {}))
            self.reply(lambda: told.answer_texts(self.path))

        def reply(self, answered: Callable[[], tuple[int, dict[str, Any]]]) -> None:
            time.sleep(told.seconds)
            if told.token and self.headers.get("Authorization") != f"Bearer {told.token}":
                status, answer = 401, {"detail": "An access token is needed."}
            else:
                status, answer = answered()
            if told.forget_answers:
                told.forget_answers -= 1
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**told.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: object) -> None: ...

    with Server(("127.0.0.1", port), Handler) as http:
        told.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield told
        finally:
            http.shutdown()
            thread.join()
