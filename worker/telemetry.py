"""What a worker reports with each heartbeat, for the status page and /metrics."""

import psutil
import torch

_recorder: tuple[int, float] = (0, 0.0)


def report_recorder(waiting: int, lag_seconds: float) -> None:
    """Set the recorder's backlog: records that wait, and how long the current batch is tried."""
    global _recorder
    _recorder = (waiting, lag_seconds)


def report() -> dict[str, float]:
    """Memory in bytes of the process, and of its GPU where there is one; the recorder's backlog."""
    waiting, lag_seconds = _recorder
    found: dict[str, float] = {
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
