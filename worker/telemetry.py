"""What a worker reports with each heartbeat, for the status page and /metrics."""

from typing import Any

import psutil
import torch

from app.core.settings import get_settings
from chesboard.loading import choose_device
from chesboard.memory import room_bytes, total_bytes

_recorder: tuple[int, float] = (0, 0.0)


def report_recorder(waiting: int, lag_seconds: float) -> None:
    """Set the recorder's backlog: records that wait, and how long the current batch is tried."""
    global _recorder
    _recorder = (waiting, lag_seconds)


def report() -> dict[str, Any]:
    """The device, and what runs may take of its memory; with how many a model is trained; memory in
    bytes of the process, and of its GPU where there is one; the recorder's backlog."""
    waiting, lag_seconds = _recorder
    device, settings = choose_device("auto"), get_settings()
    found: dict[str, Any] = {
        "device_kind": device.type,
        "devices": torch.cuda.device_count() if device.type == "cuda" else 1,
        "gpus": settings.gpus,
        "seats": settings.seats,
        "device_memory_bytes": total_bytes(device),
        "room_bytes": room_bytes(device),
        "ram_bytes": total_bytes(torch.device("cpu")),
        "memory_bytes": psutil.Process().memory_info().rss,
        "recorder_waiting": waiting,
        "recorder_lag_seconds": round(lag_seconds, 3),
    }
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found |= {
            "gpu_memory_bytes": total - free,
            "gpu_memory_total_bytes": total,
            "gpu_memory_peak_bytes": torch.cuda.max_memory_reserved(),
        }
    return found
