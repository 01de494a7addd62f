"""What is checked before several workers begin: way, folder and model."""

import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from app.core.database import local_address, transaction
from app.core.settings import get_settings
from chesboard.reporting import RunCancelledError
from tests.tiny_models import GoOn
from worker import seat_checks
from worker.seat_checks import (
    check_folder,
    check_way,
    describe_model,
    interface_of,
    listening,
    marked,
    own_host,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345")
    return folder


def check(model: Path, marker: str = "m") -> None:
    check_folder(7, 1, marker, str(model), GoOn())


def test_a_file_of_the_first_that_is_seen_shows_that_the_folder_is_shared(
    data_dir: Path, model: Path
) -> None:
    with marked(7, "m", str(model)):
        check(model)
    assert list(get_settings().run_path(7).iterdir()) == []


def test_files_of_workers_that_were_killed_while_they_waited_are_removed(
    data_dir: Path, model: Path
) -> None:
    folder = get_settings().run_path(7)
    folder.mkdir(parents=True)
    (folder / ".seats-earlier").touch()
    (folder / ".seats-earlier-1").touch()
    with marked(7, "m", str(model)):
        assert [path.name for path in folder.iterdir()] == [".seats-m"]


def test_a_folder_that_is_not_shared(
    data_dir: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat_checks, "FOLDER_SECONDS", 0.3)
    with marked(7, "m", str(model)):
        monkeypatch.setenv("CHESBOARD_DATA_DIR", str(tmp_path / "another machine's"))
        get_settings.cache_clear()
        with pytest.raises(ValueError, match=r"one folder for all.*CHESBOARD_DATA_DIR"):
            check(model)


def test_while_the_file_is_awaited_the_run_can_be_cancelled(data_dir: Path, model: Path) -> None:
    class Cancelled:
        def check(self) -> None:
            raise RunCancelledError

    with pytest.raises(RunCancelledError):
        check_folder(7, 1, "m", str(model), Cancelled())


def test_a_folder_that_cannot_be_written_to(
    data_dir: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_read_only(self: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    with marked(7, "m", str(model)):
        monkeypatch.setattr(Path, "touch", is_read_only)
        with pytest.raises(ValueError, match=r"cannot write to .*/runs/7, .*Read-only"):
            check(model)


def test_two_models_of_one_name(data_dir: Path, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "another machine's" / "a model"
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    (other / "model.safetensors").write_bytes(b"54321")
    with marked(7, "m", str(model)):
        check(other)  # a copy, as far as can be told without reading it
        (other / "model.safetensors").write_bytes(b"543210")
        with pytest.raises(ValueError, match="is not that of the first worker"):
            check(other)
    (other / "model.safetensors").write_bytes(b"54321")
    (other / "config.json").write_text('{"tie_word_embeddings": true}')
    assert describe_model(model) != describe_model(other)


def test_of_the_hub_s_models_the_commit_counts(model: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    one, other = tmp_path / "snapshots" / "4f2a", tmp_path / "snapshots" / "9b1c"
    model.rename(one)
    found = describe_model(one)
    one.rename(other)
    assert describe_model(other) != found


def test_a_way_to_the_first_is_tried() -> None:
    with listening("127.0.0.1", "m") as port:
        assert check_way("127.0.0.1", port, "m") == "127.0.0.1"  # from where it leaves
    with pytest.raises(
        ValueError, match=rf"the first worker at 127.0.0.1, port {port}.*CHESBOARD_SEAT_HOST"
    ):
        check_way("127.0.0.1", port, "m")


def test_a_way_that_leads_elsewhere() -> None:
    """An address that is another machine's to the one that asks, such as a loopback."""
    with (
        listening("127.0.0.1", "another") as port,
        pytest.raises(ValueError, match="something else answers there"),
    ):
        check_way("127.0.0.1", port, "m")


def test_who_listens_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat_checks, "CONNECT_SECONDS", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ValueError, match="timed out"),
    ):
        check_way("127.0.0.1", silent.getsockname()[1], "m")


def test_any_number_of_workers_may_try_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one seat is free, that of another may change hands again and again."""
    monkeypatch.setattr(seat_checks, "CONNECT_SECONDS", 2.0)
    with listening("127.0.0.1", "m") as port:
        for _ in range(20):
            check_way("127.0.0.1", port, "m")


def test_torchrun_can_take_the_port_at_once_where_others_have_just_tried_it() -> None:
    with listening("127.0.0.1", "m") as port:
        check_way("127.0.0.1", port, "m")
        asking = socket.create_connection(("127.0.0.1", port))
    with asking, socket.create_server(("127.0.0.1", port)):
        pass


def test_the_port_is_none_that_the_system_gives_to_a_connection_until_torchrun_has_it() -> None:
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(given.read_text().split()[0]) if given.exists() else 32_768
    with listening("127.0.0.1", "m") as port:
        assert port < lowest


def test_a_worker_tells_the_address_that_was_set_or_that_of_its_way_to_the_database(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        assert own_host(7) == local_address(session) == "127.0.0.1"
    monkeypatch.setenv("CHESBOARD_SEAT_HOST", "10.0.0.1")
    get_settings.cache_clear()
    assert own_host(7) == "10.0.0.1"


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that knows its own name as its loopback, as Debian sets it up."""
    addresses = {"lo": "127.0.0.1", "eth0": "10.0.0.7", "ib0": "10.1.0.7"}
    found = {name: [SimpleNamespace(address=one)] for name, one in addresses.items()}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    names = {"node-7": "127.0.1.1"}
    resolved = {**{one: one for one in (*addresses.values(), "192.0.2.1")}, **names}

    def resolve(host: str, _: Any) -> list[Any]:
        if host not in resolved:
            raise socket.gaierror
        return [(None, None, None, "", (resolved[host], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.1.0.7", "ib0"),  # which was set, to keep the traffic there
        ("node-7", "eth0"),
        ("127.0.0.1", "eth0"),
        ("192.0.2.1", "eth0"),  # a router's
        ("no such host", "eth0"),
    ],
)
def test_processes_talk_over_the_interface_at_which_others_reach_the_worker(
    interfaces: None, host: str, expected: str
) -> None:
    assert interface_of(host, "10.0.0.7") == expected


def test_workers_of_one_machine_talk_over_its_loopback(interfaces: None) -> None:
    assert interface_of("127.0.0.1", "127.0.0.1") == "lo"
    assert interface_of("127.0.0.1", "192.0.2.1") is None
