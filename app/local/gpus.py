"""A worker's own GPUs, where several workers share a machine and what they see of it.

Containers of one service (`docker compose up --scale worker=4`) are alike: each is given every GPU.
So a worker claims its own by locking a file in the shared data folder. The lock ends with the
worker, however it ends.
"""

import fcntl
import os
import subprocess
from pathlib import Path

from app.local.errors import SetupError

VISIBLE = "CUDA_VISIBLE_DEVICES"
LIST_GPUS = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")


def claim_gpus(folder: Path, count: int) -> list[str]:
    """Make `count` GPUs that no other worker has claimed the only ones that this process and those
    that it becomes or starts can see. Returns their names (UUIDs).

    Nothing is claimed where CUDA_VISIBLE_DEVICES is set, or where there is no GPU.

    folder: of the lock files, shared by the workers of this machine.

    Raises:
        SetupError: fewer GPUs are left.
    """
    if os.environ.get(VISIBLE) is not None:
        return []
    present = list_gpus()
    claimed: list[str] = []
    for name in present:
        if len(claimed) < count and _lock(folder / f"{name}.lock"):
            claimed.append(name)
    if present and len(claimed) < count:
        raise SetupError(
            f"This worker needs {count} of the {len(present)} GPUs of this machine, and "
            f"{len(claimed)} are not claimed by other workers. Start fewer workers, or say which "
            f"GPUs this one shares with others: {VISIBLE}=0 chesboard worker."
        )
    if claimed:
        os.environ[VISIBLE] = ",".join(claimed)
    return claimed


def list_gpus() -> list[str]:
    """UUIDs of the GPUs of this machine, as NVIDIA's driver lists them."""
    try:
        found = subprocess.run(  # noqa: S603 - the command is ours
            LIST_GPUS, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return found.stdout.split()


def _lock(path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    # Never closed: the lock is this process's, also once it has become another program.
    os.set_inheritable(descriptor, True)
    return True
