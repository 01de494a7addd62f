"""What a worker reports with each heartbeat, for the status page and /metrics."""

from pathlib import Path
from typing import Any

import psutil
import torch

from app.core.settings import get_settings
from chesboard.loading import choose_device
from chesboard.memory import room_bytes, total_bytes

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_recorder: tuple[int, float] = (0, 0.0)


def report_recorder(waiting: int, lag_seconds: float) -> None:
    """Set the recorder's backlog: records that wait, and how long the current batch is tried."""
    global _recorder
    _recorder = (waiting, lag_seconds)


def _count_gpus() -> int:
    """GPUs of this machine, also those that this worker does not see because others have claimed
    them: it could be started with more."""
    present = len(list(_NVIDIA_GPUS.iterdir())) if _NVIDIA_GPUS.is_dir() else 0
    return max(torch.cuda.device_count(), present)


def report() -> dict[str, Any]:
    """The device, how many the machine has, and what runs may take of its memory; with how many a
    model is trained; memory in bytes of the process, and of its GPU where there is one; the
    recorder's backlog."""
    waiting, lag_seconds = _recorder
    device, settings = choose_device("auto"), get_settings()
    found: dict[str, Any] = {
        "device_kind": device.type,
        "devices": _count_gpus() if device.type == "cuda" else 1,
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
