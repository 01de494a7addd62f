"""What a worker says of itself with each heartbeat."""

import psutil
import torch

from app.core.settings import get_settings
from chesboard import memory
from worker import telemetry


def test_a_worker_says_what_its_device_has_and_what_a_run_may_take() -> None:
    report = telemetry.report()
    total = psutil.virtual_memory().total
    assert report["device_kind"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert report["devices"] >= 1
    assert 0 < report["ram_bytes"] <= total
    assert 0 < report["room_bytes"] <= report["device_memory_bytes"]
    if report["device_kind"] == "cpu":
        assert report["device_memory_bytes"] == report["ram_bytes"]
        assert report["room_bytes"] > report["memory_bytes"]


def test_a_worker_says_with_how_many_it_trains_a_model(monkeypatch) -> None:
    monkeypatch.setenv("CHESBOARD_GPUS", "4")
    monkeypatch.setenv("CHESBOARD_SEATS", "2")
    get_settings.cache_clear()
    report = telemetry.report()
    get_settings.cache_clear()
    assert (report["gpus"], report["seats"]) == (4, 2)


def test_gpus_count_that_are_hidden_from_a_worker_because_others_have_claimed_them(
    monkeypatch, tmp_path
) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(telemetry, "_NVIDIA_GPUS", tmp_path)
    monkeypatch.setattr(telemetry, "choose_device", lambda _: torch.device("cuda"))
    for name in ("room_bytes", "total_bytes"):
        monkeypatch.setattr(telemetry, name, lambda _: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert telemetry.report()["devices"] == 2
    monkeypatch.setattr(telemetry, "_NVIDIA_GPUS", tmp_path / "absent")
    assert telemetry.report()["devices"] == 1


def test_a_container_s_limit_is_what_it_has(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert memory.total_bytes(cpu) == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_bytes(cpu) == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory.total_bytes(cpu) == 1_000_000
    assert memory.room_bytes(cpu) == 1_000_000


def test_what_is_free_is_what_the_container_s_limit_leaves(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    cpu, limit = torch.device("cpu"), 50_000_000
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("45000000\n")
    # Files that were read are given up for it, those in memory alone (shmem) are not.
    stat = (
        "anon 9000000\nfile 36000000\nshmem 6000000\ninactive_file 20000000\nactive_file 10000000\n"
    )
    (tmp_path / "memory.stat").write_text(stat)
    assert memory.free_bytes(cpu) == limit - 15_000_000
    (tmp_path / "memory.current").write_text("90000000\n")  # a limit that was lowered meanwhile
    assert memory.free_bytes(cpu) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes(cpu) > limit
