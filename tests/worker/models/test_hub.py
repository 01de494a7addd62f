"""Downloads of hub models, from a small HTTP server that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.core.settings import Settings
from chesboard.configs import ScoreConfig
from chesboard.hub.download import StoppedError, Transfer
from chesboard.hub.errors import HubRequestError
from chesboard.hub.models import HubModel
from chesboard.loading import ModelError
from worker.models import hub
from worker.models.cache import ModelCache
from worker.models.progress import download_bar, ignore_phase

NAME = "example/tiny"
COMMIT = "0123456789" * 4
LOAD = """
import json, os, sys
from pathlib import Path
from app.core.settings import Settings
from chesboard.configs import ScoreConfig
from chesboard.reporting import RunCancelledError
from worker.models.cache import ModelCache

reports = 0

def show(name, done=None, total=None, unit=None):
    global reports
    print(json.dumps([name, done, total, unit]), flush=True)
    reports += name == "downloading"
    if sys.argv[2] == "cancel" and reports == 3:
        raise RunCancelledError

settings = Settings(models_dir=Path(sys.argv[1]), data_dir=Path(sys.argv[1]))
try:
    for named in sys.argv[3:]:
        config = ScoreConfig(model="example/tiny", device="cpu", revision=named or None)
        loaded = ModelCache(settings).load(config, show)
        count = sum(p.numel() for p in loaded.model.parameters())
        print(json.dumps(["loaded", count, None, None]), flush=True)
except RunCancelledError:
    print(json.dumps(["cancelled", None, None, None]), flush=True)
    os._exit(0)  # the thread that waits for the server does not matter
"""


class HubServer(ThreadingHTTPServer):
    """Serves the files of a folder as the one commit of the repository NAME."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.downloads: list[str] = []
        self.stalls = False
        self.revisions: set[str] = set()
        self.released = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        named = path.removeprefix(f"/api/models/{NAME}").removeprefix("/revision/")
        if named in ("", "main", "v1", COMMIT) and path.startswith("/api/models/"):
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
        self.server.revisions.add(self.path.split("/resolve/")[1].split("/")[0])
        if self.command == "GET" and "Range" not in self.headers:
            self.server.downloads.append(name)
        etag = hashlib.sha1(content).hexdigest()
        self._answer(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _answer(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.stalls and "Range" not in self.headers and "ETag" in headers:
            self.server.released.wait(60)
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what fails."""


@pytest.fixture
def hub_server(tiny_model_dir: Path) -> Iterator[HubServer]:
    with HubServer(tiny_model_dir) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()


def load(
    server: HubServer, folder: Path, *revisions: str, how: str = "", offline: str = "0"
) -> list[list[Any]]:
    """Load NAME at each revision ("" is none) in a process, and give what it showed.

    The process is one of its own, as huggingface_hub reads its environment at import. To start it
    takes longer than all else here.
    """
    environment = {**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(folder / "hub")}
    environment |= {"HF_HUB_OFFLINE": offline, "TRANSFORMERS_OFFLINE": offline}
    environment |= {"HF_HUB_DISABLE_XET": "1"}
    found = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), how, *revisions],
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
    size = sum(map(len, hub_server.files.values()))
    phases = load(hub_server, tmp_path, "v1", "", "")
    downloading = [phase[1:] for phase in phases if phase[0] == "downloading"]
    assert downloading[0] == [0, size, "bytes"]
    assert downloading[-1] == [size, size, "bytes"]
    # Where the same commit is asked for without a revision, and once more, it is there.
    names = [name for name, _ in groupby(name for name, *_ in phases)]
    assert names == ["loading", "downloading", *["loading", "loaded"] * 3]
    assert hub_server.downloads.count("model.safetensors") == 1
    assert hub_server.revisions == {COMMIT}
    # In a process that starts anew, and may not ask the hub.
    again = load(hub_server, tmp_path, COMMIT, offline="1")
    assert [name for name, _ in groupby(name for name, *_ in again)] == ["loading", "loaded"]
    assert hub_server.downloads.count("model.safetensors") == 1


def test_a_download_that_stalls_stops_when_the_run_is_cancelled(
    hub_server: HubServer, tmp_path: Path
) -> None:
    hub_server.stalls = True
    phases = [one for one in load(hub_server, tmp_path, "", how="cancel") if one[0] != "loading"]
    size = sum(map(len, hub_server.files.values()))
    assert phases == [*[["downloading", 0, size, "bytes"]] * 3, ["cancelled", None, None, None]]


def test_a_model_that_is_not_here_is_refused_at_once_when_offline() -> None:
    assert hub.look_up(NAME) is None
    with pytest.raises(ModelError, match=r"at the revision “v2” is not on this worker.*offline"):
        hub.cached(NAME, "v2")


def test_what_the_hub_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise HubRequestError("There is no such model.")

    monkeypatch.setattr("worker.models.hub.models.look_up", refuse)
    with pytest.raises(ModelError, match=r"There is no such model\."):
        hub.look_up(NAME)


def test_a_download_that_the_disk_has_no_room_for_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [SimpleNamespace(file_size=2**60, will_download=True)]
    monkeypatch.setattr(hub, "snapshot_download", lambda **_: files)
    model = HubModel(NAME, COMMIT, 2**59, ("model.safetensors",))
    with pytest.raises(ModelError, match=r"takes 1073741824\.0 GiB to download, and the disk"):
        hub.download(model, ignore_phase)


def test_a_folder_has_no_revision(tiny_model_dir: Path) -> None:
    cache = ModelCache(Settings(models_dir=tiny_model_dir.parent))
    with pytest.raises(ModelError, match="is a folder of this server and has no revision “v1”"):
        cache.load(ScoreConfig(model="tiny", device="cpu", revision="v1"))


def test_the_threads_of_a_download_that_was_stopped_end_at_their_next_chunk() -> None:
    transfer = Transfer()
    with download_bar(transfer)(unit="B", total=0, desc="Downloading bytes") as bar:
        bar.update(10)
        assert transfer.bytes == 10
        transfer.stopped.set()
        with pytest.raises(StoppedError):
            bar.update(10)


def test_of_the_bars_of_a_download_the_one_that_is_furthest_counts() -> None:
    transfer = Transfer()
    make = download_bar(transfer)
    received, written = make(unit="B", total=0), make(unit="B", total=0, initial=5)
    files = make(total=3)
    received.update(4)
    written.update(6)
    files.update(3)
    assert transfer.bytes == 11
