"""The command line as a user meets it: a process, its output and its exit status."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.settings import Settings
from app.local.data_folder import FolderLock
from app.local.embedded import Services, free_port
from app.local.pull import SOURCES, STARTER_MODEL
from tests import support


def chesboard(
    *arguments: str, folder: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=support.stack_environment(folder, folder / "models") | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_one_clear_line(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("chesboard: ")
    for word in words:
        assert word in lines[0]


def test_help_names_every_setting(tmp_path: Path) -> None:
    text = chesboard("--help", folder=tmp_path).stdout
    for name in Settings.model_fields:
        assert name.upper() in text
    assert "  DATABASE_URL" in text
    for command in ("up", "web", "worker", "migrate", "models", "demo"):
        assert f"\n  {command} " in text


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_clear_line(
            chesboard("up", "--port", port, folder=tmp_path), f"127.0.0.1:{port}", "in use"
        )


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_one_clear_line(
        chesboard("up", folder=tmp_path / "file" / "data"), "cannot be written", "file/data"
    )


def test_a_data_folder_that_is_in_use(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire("chesboard (process 12)")
    assert_one_clear_line(
        chesboard("up", "--port", str(free_port()), folder=tmp_path), "in use", "process 12"
    )
    lock.release()


@pytest.mark.parametrize("command", ["up", "web"])
def test_an_open_address_without_a_token(tmp_path: Path, command: str) -> None:
    done = chesboard(
        command,
        "--host=0.0.0.0",
        folder=tmp_path,
        DATABASE_URL="postgresql://db/x",
        REDIS_URL="redis://cache",
    )
    assert_one_clear_line(done, "CHESBOARD_TOKEN")


@pytest.mark.parametrize("command", ["web", "worker", "migrate"])
def test_a_command_that_needs_a_database_says_so(tmp_path: Path, command: str) -> None:
    assert_one_clear_line(chesboard(command, folder=tmp_path), "DATABASE_URL is not set")


@pytest.mark.parametrize("command", ["migrate", "up"])
def test_a_database_that_does_not_answer(tmp_path: Path, command: str, services: Services) -> None:
    done = chesboard(
        command,
        folder=tmp_path,
        DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/x",
        REDIS_URL=services.redis_url,
        CHESBOARD_PORT=str(free_port()),
    )
    assert_one_clear_line(done, "could not be migrated", "refused")


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://db/x", "postgresql://db:port/x", "postgresql://[::1/x"]
)
def test_an_address_of_a_database_that_is_none(tmp_path: Path, url: str) -> None:
    done = chesboard("up", folder=tmp_path, DATABASE_URL=url)
    assert_one_clear_line(done, "DATABASE_URL", "no address like postgresql://")


def test_a_database_with_an_option_that_there_is_not(tmp_path: Path, services: Services) -> None:
    url = f"{services.database_url}&speed=high"
    assert_one_clear_line(chesboard("migrate", folder=tmp_path, DATABASE_URL=url), "speed")


def test_a_broker_that_does_not_answer(tmp_path: Path, services: Services) -> None:
    done = chesboard(
        "up",
        folder=tmp_path,
        DATABASE_URL=services.database_url,
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
        CHESBOARD_PORT=str(free_port()),
    )
    assert_one_clear_line(done, "REDIS_URL does not answer", "refused")


def test_a_setting_that_makes_no_sense(tmp_path: Path) -> None:
    assert_one_clear_line(chesboard("up", folder=tmp_path, CHESBOARD_PORT="many"), "port")


def test_a_worker_needs_at_least_one_gpu_or_the_cpu(tmp_path: Path) -> None:
    assert_one_clear_line(chesboard("worker", "--gpus", "0", folder=tmp_path), "gpus")


def test_a_model_has_at_least_one_worker(tmp_path: Path) -> None:
    assert_one_clear_line(chesboard("worker", "--seats", "0", folder=tmp_path), "seats")


def test_migrate_brings_a_database_up_to_date(tmp_path: Path, services: Services) -> None:
    done = chesboard("migrate", folder=tmp_path, DATABASE_URL=services.database_url)
    assert (done.returncode, done.stdout) == (0, "The database is up to date.\n")


def test_a_model_that_cannot_be_pulled(tmp_path: Path) -> None:
    assert_one_clear_line(
        chesboard("models", "pull", "gpt-17", folder=tmp_path), "gpt-17", STARTER_MODEL
    )


def test_a_model_that_is_there_is_not_fetched_again(tmp_path: Path, starter_model: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / STARTER_MODEL).symlink_to(starter_model)
    # No index to ask: it would fail if it tried.
    done = chesboard("models", "pull", folder=tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert done.returncode == 0, done.stderr
    assert SOURCES[STARTER_MODEL].file in done.stdout


def test_no_network_is_told_in_one_line(tmp_path: Path) -> None:
    done = chesboard("models", "pull", folder=tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert_one_clear_line(done, "could not be downloaded", "Check the network")
    assert not list(tmp_path.rglob("*.gguf"))
