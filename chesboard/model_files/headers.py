"""Headers of files of weights: whether a file is what its name says, and whole."""

import json
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

_POINTER = b"version https://git-lfs.github.com/"
_LIBRARY_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library."""
_MOST_HEADER_BYTES = 16 << 20
"""That of a file of 100,000 tensors, which takes 0.2 GB to parse."""
_DAMAGED = (ValueError, RecursionError, OverflowError, LookupError, TypeError, AttributeError)
"""What a header raises that is none: not JSON, nested without end, infinite, of other things."""


def find_fault(file: Path) -> str | None:
    """Why a safetensors or GGUF file cannot be read, as a sentence that names it; None if nothing
    speaks against it. Only its beginning is read."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return (
            f"{file.name} is a link to a file that is not there: its download is not finished, or "
            "the file was moved."
        )
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror}."
    if not S_ISREG(stat.st_mode):  # a pipe would never end
        return f"{file.name} is no file: copy or download it again."
    return _find_fault(file, stat.st_size, stat.st_mtime_ns)


def tensor_names(file: Path) -> frozenset[str]:
    """The tensors in a safetensors file; empty where its header cannot be read."""
    return frozenset(tensor_shapes(file))


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tensors in a safetensors file; empty where its header cannot be read."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, _MOST_HEADER_BYTES)))
        return {
            name: tuple(int(extent) for extent in described["shape"])
            for name, described in header.items()
            if name != "__metadata__"
        }
    except (OSError, *_DAMAGED):
        return {}


@lru_cache(maxsize=4096)
def _find_fault(file: Path, size: int, _modified: int) -> str | None:
    """Cached for as long as size and time of the file stay the same."""
    try:
        with file.open("rb") as opened:
            start = opened.read(64)
            if size == 0:
                return f"{file.name} is empty (0 bytes): copy or download it again."
            if file.suffix == ".gguf":
                return None if start.startswith(b"GGUF") else _something_else(file, start)
            return _safetensors_fault(file, opened, start, size)
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror}."


def pointer_fault(file: Path, start: bytes) -> str | None:
    """A sentence if the file is what Git LFS leaves in the place of a file."""
    if not start.startswith(_POINTER):
        return None
    return (
        f"{file.name} is a Git LFS pointer, not the file itself: run `git lfs pull` in the "
        "repository that it comes from, or download the file."
    )


def _something_else(file: Path, start: bytes) -> str:
    """What a file is that has another beginning than its name says."""
    if fault := pointer_fault(file, start):
        return fault
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{file.name} is a web page, not weights: download it again, logged in if need be."
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return (
            f"{file.name} holds pickled weights of PyTorch under another name. Pickles are never "
            "opened, since they can run code."
        )
    return f"{file.name} is no {file.suffix[1:]} file: its header is damaged. Download it again."


def _safetensors_fault(file: Path, opened: BinaryIO, start: bytes, size: int) -> str | None:
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > _LIBRARY_HEADER_BYTES:
        return _something_else(file, start)
    if length > _MOST_HEADER_BYTES:
        return (
            f"{file.name} has a header of {length:,} bytes, more than that of any model. Save the "
            "model anew, in several files."
        )
    if size < 8 + length:
        return _cut_off(file, size, f"its header alone takes {8 + length:,}")
    opened.seek(8)
    try:
        header = json.loads(opened.read(length))
        ends = [int(t["data_offsets"][1]) for k, t in header.items() if k != "__metadata__"]
    except _DAMAGED:
        return _something_else(file, start)
    whole = 8 + length + max(ends, default=0)
    if size < whole:
        return _cut_off(file, size, f"its header speaks of {whole:,}")
    if size > whole:
        return (
            f"{file.name} has {size - whole:,} bytes more than its header speaks of: it is "
            "damaged. Download it again."
        )
    return None


def _cut_off(file: Path, size: int, expected: str) -> str:
    return (
        f"{file.name} is cut off: it has {size:,} bytes, but {expected}. Copy or download it again."
    )
