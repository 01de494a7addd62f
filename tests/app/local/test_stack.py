"""`chesboard up` as a whole: what it refuses, what it starts, and in which order it stops."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr, ValidationError

from app.core.settings import Settings
from app.local.embedded import Services, free_port
from app.local.errors import SetupError
from app.local.stack import (
    Stack,
    check_exposure,
    check_port,
    child_environment,
    web_command,
    web_url,
)
from tests import support


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    check_exposure(Settings(host=host, token=None))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_any_other_address_needs_a_token(host: str) -> None:
    with pytest.raises(SetupError, match="Set CHESBOARD_TOKEN"):
        check_exposure(Settings(host=host, token=None))
    check_exposure(Settings(host=host, token=SecretStr("a long secret")))


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"Cannot listen on 127.0.0.1:{port}"):
            check_port(Settings(port=port))
    check_port(Settings(port=port))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_the_address_to_open(host: str, url: str) -> None:
    assert web_url(Settings(host=host, port=80)) == url


def test_children_read_the_settings_that_the_parent_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        data_dir=tmp_path, port=8111, token=SecretStr("a long secret"), log_level="WARNING"
    )
    services = Services("postgresql://db/x", "redis://cache/0", stop=lambda: None)
    for name, value in child_environment(settings, services).items():
        monkeypatch.setenv(name, value)
    child = Settings()
    assert child.database_url == "postgresql://db/x"
    assert child.redis_url == "redis://cache/0"
    assert child.models_dir == tmp_path / "models"
    same = ("data_dir", "host", "port", "token", "log_level")
    assert [getattr(child, name) for name in same] == [getattr(settings, name) for name in same]


def test_the_token_is_on_no_command_line() -> None:
    assert "secret" not in " ".join(web_command(Settings(token=SecretStr("a long secret"))))


def test_a_second_stack_on_the_same_folder_is_refused(folder: Path) -> None:
    settings = support.embedded_settings(folder).model_copy(update={"port": free_port()})
    first = Stack(settings)
    first._lock.acquire("chesboard (process 12, http://127.0.0.1:1)")
    with (
        pytest.raises(SetupError, match=r"in use by chesboard \(process 12, http://127.0.0.1:1\)"),
        Stack(settings),
    ):
        pytest.fail("the second stack started")
    first._lock.release()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with packages of its own that have the names of ours."""
    for name in ("app", "worker", "chesboard"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not to be imported')")
    return tmp_path


@pytest.fixture
def up(folder: Path, project: Path, tiny_model_dir: Path) -> "Iterator[subprocess.Popen[str]]":
    """A whole stack in a process of its own, once it has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "app.cli", "up", "--port", str(free_port())],
        env=support.stack_environment(folder, tiny_model_dir.parent),
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=(folder / "up.log").open("w"),
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Chesboard is at http://127.0.0.1:"), (folder / "up.log").read_text()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_signal_stops_all_in_order(up: "subprocess.Popen[str]", folder: Path) -> None:
    children = psutil.Process(up.pid).children(recursive=True)
    assert {"postgres", "valkey-server"} <= {child.name() for child in children}
    up.send_signal(signal.SIGTERM)
    assert up.wait(60) == 0
    assert psutil.wait_procs(children, timeout=5)[1] == []
    log = (folder / "up.log").read_text()
    assert "Traceback" not in log
    assert "killing it" not in log
    assert "database system is shut down" in (folder / "postgres.log").read_text()


def test_everything_dies_with_a_parent_that_is_killed(
    up: "subprocess.Popen[str]", folder: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux ends children with their parent")
    children = psutil.Process(up.pid).children(recursive=True)
    os.kill(up.pid, signal.SIGKILL)
    assert psutil.wait_procs(children, timeout=15)[1] == []


def test_forwarded_headers_count_from_named_proxies_alone() -> None:
    assert "--no-proxy-headers" in web_command(Settings())
    behind = web_command(Settings(trusted_proxies="127.0.0.1, 10.0.0.0/8"))
    assert "--no-proxy-headers" not in behind
    assert behind[behind.index("--forwarded-allow-ips") + 1] == "127.0.0.1/32,10.0.0.0/8"
    with pytest.raises(ValidationError, match="addresses or networks"):
        Settings(trusted_proxies="proxy.example")
