"""What the workers of a run with several seats check before its processes are started.

They reach the first and it reaches them, they share the run's folder, and have the same model: else
torchrun would wait for minutes and say little, or the processes would hold parts of two models.
"""

import hashlib
import random
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import psutil

from app.core.database import local_address
from app.core.settings import get_settings
from chesboard.reporting import Control
from worker.retry import run_with_retry

LOOK_SECONDS = 0.25
FOLDER_SECONDS = 60.0
"""How long a new file may take to be seen on another machine (NFS keeps what it has listed)."""
CONNECT_SECONDS = 5.0
STOP_SECONDS = 0.05
"""How long it takes at most to stop listening."""
PORTS = range(10_000, 30_000)
"""Below those that systems give to connections."""


@contextmanager
def listening(host: str, word: str) -> Iterator[int]:
    """A port of this machine that answers with `word`, so that others see whether they reach it. At
    that of the first the torchruns meet, which take it once this is left."""
    with _answering(socket.AF_INET6 if ":" in host else socket.AF_INET, word) as server:
        thread = threading.Thread(
            target=server.serve_forever, args=[STOP_SECONDS], name="seat", daemon=True
        )
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


class _Answering(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, family: socket.AddressFamily, port: int, word: str) -> None:
        self.address_family = family
        self.word = word.encode()
        super().__init__(("", port), _Answer)


class _Answer(socketserver.StreamRequestHandler):
    timeout = CONNECT_SECONDS

    def handle(self) -> None:
        assert isinstance(self.server, _Answering)
        with suppress(OSError):
            self.wfile.write(self.server.word)
            # Who closes first keeps the port for a minute: let that be the other.
            self.rfile.read(1)


def _answering(family: socket.AddressFamily, word: str) -> _Answering:
    """At a port that the system gives to no connection: it would be lost until torchrun has
    started."""
    for port in random.SystemRandom().sample(PORTS, 20):
        with suppress(OSError):
            return _Answering(family, port, word)
    raise ValueError(f"no port from {PORTS[0]} to {PORTS[-1]} could be opened on this machine")


def check_way(host: str, port: int, word: str, to: str = "the first worker") -> str:
    """The address of this machine from which it reaches who listens there. to: who that is.

    Raises:
        ValueError: it does not reach them.
    """
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as way:
            heard = way.makefile("rb").read(len(word.encode()))
            own = str(way.getsockname()[0])
    except OSError as error:
        why = str(error)
    else:
        if heard == word.encode():
            return own
        why = "something else answers there"
    raise ValueError(
        f"it does not reach {to} at {host}, port {port} ({why}). Set CHESBOARD_SEAT_HOST there to "
        "an address at which the others reach it, and open all ports between them; then resume the "
        "run."
    )


@contextmanager
def marked(run_id: int, marker: str, location: str) -> Iterator[None]:
    """A file in the run's folder, which tells of the model."""
    path = _marker_file(run_id, marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(_marker_file(run_id, "*").name):
        left.unlink(missing_ok=True)  # by a worker that was killed while it waited
    try:
        unfinished = path.with_name(f"{path.name}.new")
        unfinished.write_text(describe_model(Path(location)))
        unfinished.replace(path)
        yield
    finally:
        path.unlink(missing_ok=True)


def _marker_file(run_id: int, marker: str) -> Path:
    return get_settings().run_path(run_id) / f".seats-{marker}"


def check_folder(run_id: int, seat: int, marker: str, location: str, control: Control) -> None:
    """Raises:
    ValueError: the run's folder is not that of the first seat, or cannot be written to, or the
        model is another one.
    """
    path = _marker_file(run_id, marker)
    ends = time.monotonic() + FOLDER_SECONDS
    while True:
        control.check()
        with suppress(FileNotFoundError):
            model = path.read_text()
            break
        if time.monotonic() > ends:
            raise ValueError(
                f"it does not see the file that the first worker made in {path.parent}. "
                "Checkpoints and the trained model need one folder for all: mount the same data "
                "folder on every machine and set CHESBOARD_DATA_DIR to it; then resume the run."
            )
        time.sleep(LOOK_SECONDS)
    if model != describe_model(Path(location)):
        raise ValueError(
            f"its model in {location} is not that of the first worker: names or sizes of files, "
            "config.json or the hub's commit differ. Share the models folder, or copy it anew; "
            "then resume the run."
        )
    own = path.with_name(f"{path.name}-{seat}")
    try:
        own.touch()
        own.unlink()
    except OSError as error:
        raise ValueError(
            f"it cannot write to {path.parent}, where checkpoints go ({error.strerror}). Let all "
            "workers write to the data folder; then resume the run."
        ) from error


def describe_model(folder: Path) -> str:
    """What tells two models of one name apart, without reading their weights."""
    found = hashlib.sha256()
    if folder.parent.name == "snapshots":  # of the hub's cache, named by the commit
        found.update(folder.name.encode())
    for path in sorted(folder.glob("*.safetensors")):
        found.update(f"{path.name} {path.stat().st_size}\n".encode())
    with suppress(FileNotFoundError):
        found.update((folder / "config.json").read_bytes())
    return found.hexdigest()


def own_host(run_id: int) -> str:
    """The address at which other workers reach this one."""
    return get_settings().seat_host or run_with_retry(f"run {run_id}", local_address)


def interface_of(host: str, left_from: str) -> str | None:
    """The network interface that the processes talk over: that of the address at which others reach
    this worker; where that is none of this machine's (a router's), or its loopback (by which many
    machines know their own name), that of the address from which it reached them. None: neither."""
    own = _resolved(host)
    found = None if own is None or ip_address(own).is_loopback else _interface_with(own)
    return found or _interface_with(left_from)


def _resolved(host: str) -> str | None:
    with suppress(OSError):
        return str(socket.getaddrinfo(host, None)[0][4][0])
    return None


def _interface_with(address: str) -> str | None:
    wanted, _, _ = address.partition("%")
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == wanted for one in addresses):
            return str(name)
    return None
