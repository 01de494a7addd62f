"""A small HTTP server that answers as the hub does, and misbehaves as a network does."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants

PAGE = 3
"""Files on a page of a listing."""


def commit_of(name: str, branch: str) -> str:
    return hashlib.sha1(f"{name}@{branch}".encode()).hexdigest()


@dataclass
class Repo:
    """A dataset or model: its files by branch. lfs: files that the hub keeps outside of git."""

    files: dict[str, bytes]
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)
    lfs: bool = False
    gated: bool = False

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        for branch, files in {"main": self.files, **self.branches}.items():
            if revision in (branch, commit_of(name, branch)):
                return commit_of(name, branch), files
        return None


class HubServer(ThreadingHTTPServer):
    """Serves the datasets and models in `repos`.

    statuses: answered to the next downloads, before any file. cut: bytes after which the next
    downloads break off. corrupt: whether files come with other bytes. resized: with more bytes.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.statuses: list[int] = []
        self.cuts: list[int] = []
        self.stalls_after: int | None = None
        self.corrupt = False
        self.resized = False
        self.limited = False
        self.released = threading.Event()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[str]:
        """The paths of the tables that were asked for, again for each attempt."""
        found = [path for path, _ in self.requests if "/resolve/" in path]
        return [path.split("/", 6)[-1] for path in found if not path.endswith("README.md")]


API = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?")
RESOLVE = re.compile(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.0"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.requests.append((unquote(parts.path), dict(self.headers)))
        if self.server.limited:
            self._error(429, headers={"Retry-After": "120"})
        elif found := API.fullmatch(parts.path):
            self._api(found[1], found[2], unquote(found[3] or "main"), parse_qs(parts.query))
        elif found := RESOLVE.fullmatch(parts.path):
            self._resolve(found[1], found[2], unquote(found[3]))
        else:
            self._error(404)

    def _api(self, name: str, what: str | None, revision: str, query: dict[str, Any]) -> None:
        repo = self.server.repos.get(name)
        if repo is None:
            self._error(401, "RepoNotFound")
            return
        at = repo.at(name, revision)
        if at is None:
            self._error(404, "RevisionNotFound")
            return
        commit, files = at
        if what != "tree":
            siblings = [{"rfilename": path} for path in files]
            self._json({"id": name, "sha": commit, "siblings": siblings})
            return
        start = int(query.get("cursor", ["0"])[0])
        listed = [self._listed(path, files[path], repo) for path in sorted(files)]
        folder = {"type": "directory", "path": "data", "size": 0, "oid": "0"}
        following = f"{self.server.address}/api/datasets/{name}/tree/{commit}?recursive=true"
        link = f'<{following}&cursor={start + PAGE}>; rel="next"'
        more = {"Link": link} if start + PAGE < len(listed) else {}
        self._json([folder, *listed[start : start + PAGE]], more)

    def _listed(self, path: str, content: bytes, repo: Repo) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
        if repo.lfs:
            found["oid"] = "0" * 40  # of the pointer
            sha256 = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        return found

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.server.repos[name]
        at = repo.at(name, revision)
        if repo.gated:
            self._error(403, "GatedRepo")
        elif at is None or path not in at[1]:
            self._error(404, "EntryNotFound")
        elif path != "README.md" and self.server.statuses:
            self._error(self.server.statuses.pop(0), headers={"Retry-After": "0"})
        else:
            self._file(path, at[1][path])

    def _file(self, path: str, content: bytes) -> None:
        is_table = path != "README.md"
        if is_table and self.server.corrupt:
            content = b"?" + content[1:]
        if is_table and self.server.resized:
            content += b"more"
        start, end = 0, len(content)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(found[1]), min(int(found[2]) + 1 if found[2] else end, end)
        headers = {"Content-Length": str(end - start), "X-Repo-Commit": "0" * 40, "ETag": '"0"'}
        if found:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        body = content[start:end]
        if is_table and self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        stalls_after = self.server.stalls_after if is_table else None
        self._answer(206 if found else 200, body[:stalls_after], headers)
        if stalls_after is not None:
            self.wfile.flush()
            self.server.released.wait(60)

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._answer(200, json.dumps(value).encode(), headers or {})

    def _error(
        self, status: int, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        named = {"X-Error-Code": code} if code else {}
        self._answer(status, b"{}", {"Content-Length": "2", **named, **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what fails."""


@contextmanager
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that this process asks; HF_TOKEN is not set."""
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        # Made of the endpoint when the library was imported.
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
        yield server
        server.released.set()
        server.shutdown()
