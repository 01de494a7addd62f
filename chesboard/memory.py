"""How much memory a device has, and how much of it is free for this process."""

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that new tensors may take: on a GPU with what PyTorch keeps there unused, on a CPU
    with what the system can give up at once, such as files that it holds. In a container no more
    than its limit leaves, beyond which its processes are killed."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    available = int(psutil.virtual_memory().available)
    limit = _container_limit()
    return available if limit is None else max(0, min(available, limit - _container_used()))


def total_bytes(device: torch.device) -> int:
    """Of a GPU; of a CPU the main memory, or what a container may take of it."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return int(total)
    total = int(psutil.virtual_memory().total)
    limit = _container_limit()
    return total if limit is None else min(total, limit)


def room_bytes(device: torch.device) -> int:
    """What a run may take at most: what is free, with what this process holds and would give up."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    held = psutil.Process().memory_info().rss
    return min(total_bytes(device), free_bytes(device) + int(held))


def _container_limit() -> int | None:
    """Bytes of main memory that this process's container may take; None: no container, or one
    without a limit."""
    try:
        return int((_CGROUP / "memory.max").read_text())
    except (OSError, ValueError):  # "max"
        return None


def _container_used() -> int:
    """Bytes that all processes of the container take, without files that are only held in case
    they are read again."""
    try:
        used = int((_CGROUP / "memory.current").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        stat = {name: int(value) for name, value in map(str.split, lines)}
    except (OSError, ValueError):
        return int(psutil.Process().memory_info().rss)
    return max(0, used - stat.get("inactive_file", 0) - stat.get("active_file", 0))
