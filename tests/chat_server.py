"""A chat endpoint on a port of its own, which answers as a test tells it to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One HTTP response. hang: seconds before it, in which the client may go away."""

    body: bytes | str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0


def completion(text: str | None) -> Answer:
    """A chat completion with that content."""
    message = {"role": "assistant", "content": text}
    return Answer(json.dumps({"choices": [{"index": 0, "message": message}]}))


@dataclass
class ChatServer:
    """answer: from the question and the number of requests before it to the response."""

    answer: Callable[[str, int], Answer]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the requests, each with its `path`, `authorization`, `accept_encoding` and time
    `at`."""
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def questions(self) -> list[str]:
        return [one["messages"][0]["content"] for one in self.requests]

    def take(self, path: str, headers: Message, body: bytes) -> Answer:
        received = json.loads(body)
        about = {
            "path": path,
            "authorization": headers.get("Authorization"),
            "accept_encoding": headers.get("Accept-Encoding"),
            "at": time.monotonic(),
        }
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            before = len(self.requests)
            self.requests.append(received | about)
        try:
            answer = self.answer(received["messages"][0]["content"], before)
            if answer.hang:
                time.sleep(answer.hang)
            return answer
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def chat_server(answer: Callable[[str, int], Answer]) -> Iterator[ChatServer]:
    chat = ChatServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = chat.take(self.path, self.headers, body)
            content = found.body.encode() if isinstance(found.body, str) else found.body
            try:
                self.send_response(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
