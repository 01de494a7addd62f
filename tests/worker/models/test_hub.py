"""Downloads of hub models, from a small HTTP server that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

NAME = "example/tiny"
COMMIT = "0123456789" * 4
LOAD = """
import json, sys
from pathlib import Path
from app.core.settings import Settings
from chesboard.configs import ScoreConfig
from chesboard.reporting import RunCancelledError
from worker.models.cache import ModelCache

def show(name, done=None, total=None, unit=None):
    print(json.dumps([name, done, total, unit]), flush=True)
    if name == "downloading" and done and sys.argv[2] == "cancel":
        raise RunCancelledError

settings = Settings(models_dir=Path(sys.argv[1]), data_dir=Path(sys.argv[1]))
try:
    loaded = ModelCache(settings).load(ScoreConfig(model="example/tiny", device="cpu"), show)
    print(json.dumps(["loaded", sum(p.numel() for p in loaded.model.parameters()), None, None]))
except RunCancelledError:
    print(json.dumps(["cancelled", None, None, None]))
"""


class HubServer(ThreadingHTTPServer):
    """Serves the files of a folder as the one commit of the repository NAME."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.downloads: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/main"):
            self._json({"id": NAME, "sha": COMMIT, "siblings": []})
        elif path == f"/api/models/{NAME}/tree/{COMMIT}":
            self._json(
                [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for name, content in self.server.files.items()
                ]
            )
        else:
            self._file(path.rsplit("/", 1)[1])

    def _json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        content = self.server.files.get(name)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.command == "GET" and "Range" not in self.headers:
            self.server.downloads.append(name)
        etag = hashlib.sha1(content).hexdigest()
        self._answer(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _answer(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what fails."""


@pytest.fixture
def hub_server(tiny_model_dir: Path) -> Iterator[HubServer]:
    with HubServer(tiny_model_dir) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def load(server: HubServer, folder: Path, how: str = "") -> list[list[Any]]:
    """Load NAME in a process of its own: huggingface_hub reads its environment at import."""
    environment = {**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(folder / "hub")}
    environment |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    found = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), how],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_a_hub_model_reports_the_bytes_of_its_download_and_is_downloaded_once(
    hub_server: HubServer, tmp_path: Path
) -> None:
    size = len(hub_server.files["model.safetensors"])
    phases = load(hub_server, tmp_path)
    downloading = [phase[1:] for phase in phases if phase[0] == "downloading"]
    assert downloading[0] == [0, size, "bytes"]
    assert downloading[-1] == [size, size, "bytes"]
    assert phases[-1][0] == "loaded"
    names = list(dict.fromkeys(name for name, *_ in phases))
    assert names == ["downloading", "loading", "loaded"]
    assert hub_server.downloads.count("model.safetensors") == 1
    again = load(hub_server, tmp_path)
    assert [name for name, *_ in again if name == "downloading"] == []
    assert hub_server.downloads.count("model.safetensors") == 1


def test_a_download_stops_when_the_run_is_cancelled(hub_server: HubServer, tmp_path: Path) -> None:
    phases = load(hub_server, tmp_path, "cancel")
    assert [name for name, *_ in phases if name == "loading"] == []
    assert phases[-1][0] == "cancelled"
