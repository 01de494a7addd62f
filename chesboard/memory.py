"""How much memory a device has, and how much of it is free for this process."""

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that new tensors may take: on a GPU with what PyTorch keeps there unused, on a CPU
    with what the system can give up at once, such as files that it holds."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    return int(psutil.virtual_memory().available)


def total_bytes(device: torch.device) -> int:
    """Of a GPU; of a CPU the main memory, or what a container may take of it."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return int(total)
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int((_CGROUP / "memory.max").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return total


def room_bytes(device: torch.device) -> int:
    """What a run may take at most: what is free, with what this process holds and would give up."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    held = psutil.Process().memory_info().rss
    return min(total_bytes(device), free_bytes(device) + int(held))
