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


def test_a_container_s_limit_is_what_it_has(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert memory.total_bytes(cpu) == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_bytes(cpu) == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory.total_bytes(cpu) == 1_000_000
    assert memory.room_bytes(cpu) == 1_000_000
