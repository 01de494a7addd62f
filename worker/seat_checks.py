"""What the workers of a run with several seats check before its processes are started.

They reach the first, share the run's folder, and have the same model: else torchrun would wait for
minutes and say little, or the processes would hold parts of two models.
"""

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from app.core.database import local_address
from app.core.settings import get_settings
from chesboard.reporting import Control
from worker.retry import run_with_retry

LOOK_SECONDS = 0.25
FOLDER_SECONDS = 60.0
"""How long a new file may take to be seen on another machine (NFS keeps what it has listed)."""
CONNECT_SECONDS = 10.0


@contextmanager
def listening(host: str, most: int) -> Iterator[int]:
    """The port at which the torchruns will meet; until then it can be reached, to see whether."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.create_server(("", 0), family=family, backlog=most)) as listener:
        yield int(listener.getsockname()[1])


def check_way(host: str, port: int) -> None:
    """Raises:
    ValueError: the first seat is not to be reached.
    """
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ValueError(
            f"it does not reach the first worker at {host}, port {port} ({error}). Set "
            "CHESBOARD_SEAT_HOST there to an address at which the others reach it, and open all "
            "ports between them; then resume the run."
        ) from error


@contextmanager
def marked(run_id: int, marker: str, location: str) -> Iterator[None]:
    """A file in the run's folder, which tells of the model."""
    path = _marker_file(run_id, marker)
    path.parent.mkdir(parents=True, exist_ok=True)
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


def interface_of(host: str) -> str | None:
    """The network interface of this machine that has an address; None: it has none, such as where
    the address is that of a router."""
    try:
        address = str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError:
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == address for one in addresses):
            return str(name)
    return None
