"""Checkpoints of several processes: each writes its part of the weights, at the same time.

    checkpoint/step-120-…/parts/….safetensors  by torch.distributed.checkpoint, one a process
                         /state.safetensors    all else, as in the checkpoint of one process, and
                                               the names of the files in parts/; written last

A folder without its last file, or without one that this names, is no checkpoint. The parts are
safetensors too (no pickle), and are read onto any number of processes: each reads what it holds.

Processes may be on several machines, which have the folder at paths of their own and do not see
each other's files at once: the first says which checkpoint it is, by its name, and each says what
it wrote.
"""

import errno
import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from chesboard.sharding import agreed, gathered, is_distributed
from worker import disk
from worker.training.sharing import Ranks

PREFIX = "step-"
PARTS = "parts"
SEEN_SECONDS = 60.0
"""How long a file may take to be seen on another machine (NFS keeps what it has listed)."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The tensors that the files of a folder hold together."""

    folder: Path
    sizes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]

    @classmethod
    def of(cls, folder: Path) -> "Parts":
        """Of a folder named `step-…`."""
        about: dict[str, Any] = _reader(folder / PARTS).read_metadata().state_dict_metadata
        return cls(
            folder / PARTS,
            {name: tuple(one.size) for name, one in about.items()},
            {name: one.properties.dtype for name, one in about.items()},
        )

    def empty_like(self, name: str, weight: Tensor) -> Tensor:
        """Room for a tensor that belongs to a weight: a part where the weight is one."""
        if self.sizes[name] == tuple(weight.shape):
            return torch.zeros_like(weight, dtype=self.dtypes[name])
        return torch.zeros(self.sizes[name], dtype=self.dtypes[name], device=weight.device)

    def read(self, tensors: dict[str, Tensor]) -> None:
        """Fill the tensors; called by all processes."""
        load(tensors, storage_reader=_reader(self.folder), no_dist=not is_distributed())


def _reader(folder: Path) -> Any:
    return HuggingFaceStorageReader(str(folder))


def step_folders(folder: Path) -> list[Path]:
    """What may be checkpoints, whole or not."""
    return list(folder.glob(f"{PREFIX}*"))


def has_parts(folder: Path, files: list[str]) -> bool:
    return all((folder / PARTS / name).is_file() for name in files)


def begin(folder: Path, step: int, weights: dict[str, Tensor], ranks: Ranks) -> Path:
    """Write the parts of a step, and return its folder; called by all processes. It is a checkpoint
    once its last file is written.

    Raises:
        DiskFullError: it does not fit; the earlier checkpoint is kept.
    """
    # Never into the folder of an earlier one of the same step, which must stay whole meanwhile.
    name: str = agreed(f"{PREFIX}{step}-{random.getrandbits(32):08x}")
    path = folder / name
    try:
        with disk.writing("a checkpoint", folder.parent):
            try:
                save(
                    weights,
                    storage_writer=HuggingFaceStorageWriter(
                        str(path / PARTS), save_distributed=True
                    ),
                )
            except CheckpointException as error:
                raise next(inner for inner, _ in error.failures.values()) from error
    except Exception:
        if ranks.is_first:
            shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def part_names(folder: Path) -> list[str]:
    """The files of the parts in a folder named `step-…`; called by all processes."""
    own = [path.name for path in (folder / PARTS).iterdir()]
    return sorted({name for names in gathered(own) for name in names})


def wait_until_seen(folder: Path, file: str, parts: Callable[[Path], list[str]]) -> None:
    """Return once this machine sees a checkpoint that the first process has named.

    file: its last. parts: the names of the files that this names.

    Raises:
        FileNotFoundError: it does not.
    """
    ends = time.monotonic() + SEEN_SECONDS
    while not ((folder / file).is_file() and has_parts(folder, parts(folder / file))):
        if time.monotonic() > ends:
            raise FileNotFoundError(
                errno.ENOENT, "the run's checkpoint is not seen on this machine", str(folder)
            )
        time.sleep(0.1)


def remove_all(folder: Path, but: Path | None = None) -> None:
    for path in step_folders(folder):
        if path != but:
            shutil.rmtree(path, ignore_errors=True)
