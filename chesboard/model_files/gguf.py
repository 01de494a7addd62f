"""What the header of a GGUF file says: its metadata, and the shapes of its tensors.

The format is llama.cpp's (docs/gguf.md of ggml), version 2 and 3. The package gguf reads it too,
and needs NumPy, which the web server does without.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

_NUMBERS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
"""Formats of the types of values; 8 is a string, 9 an array."""
_STRING, _ARRAY = 8, 9
_MOST = 1 << 24
"""Length of a string or an array from which on a header counts as damaged."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """metadata: without arrays. shapes: of the tensors, by name, the rows first as in PyTorch."""

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def read_gguf(file: Path) -> GgufHeader | None:
    """None where the file is no GGUF file of a known version, or its header is damaged."""
    try:
        stat = file.stat()
        return _read(file, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError, RecursionError, struct.error):  # arrays in arrays, without end
        return None


@lru_cache(maxsize=64)
def _read(file: Path, _size: int, _modified: int) -> GgufHeader:
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF" or _number(opened, "<I") not in (2, 3):
            raise ValueError("not a GGUF file of version 2 or 3")
        tensors, entries = _number(opened, "<Q"), _number(opened, "<Q")
        if max(tensors, entries) > _MOST:
            raise ValueError("a damaged header")
        metadata = {}
        for _ in range(entries):
            name = _string(opened)
            kind = _number(opened, "<I")
            value = _value(opened, kind)
            if kind != _ARRAY:
                metadata[name] = value
        shapes = {}
        for _ in range(tensors):
            name = _string(opened)
            extents = [_number(opened, "<Q") for _ in range(_number(opened, "<I"))]
            shapes[name] = tuple(reversed(extents))
            opened.seek(12, 1)  # its type, and where it begins
    return GgufHeader(metadata, shapes)


def _number(opened: BinaryIO, form: str) -> Any:
    return struct.unpack(form, opened.read(struct.calcsize(form)))[0]


def _string(opened: BinaryIO) -> str:
    length = _number(opened, "<Q")
    if length > _MOST:
        raise ValueError("a damaged header")
    return opened.read(length).decode("utf-8", "replace")


def _value(opened: BinaryIO, kind: int) -> Any:
    """The value; None for an array, which is passed over."""
    if kind == _STRING:
        return _string(opened)
    if kind != _ARRAY:
        if kind not in _NUMBERS:
            raise ValueError("a damaged header")
        return _number(opened, _NUMBERS[kind])
    of, length = _number(opened, "<I"), _number(opened, "<Q")
    if length > _MOST:
        raise ValueError("a damaged header")
    if of in _NUMBERS:
        opened.seek(length * struct.calcsize(_NUMBERS[of]), 1)
    else:
        for _ in range(length):
            _value(opened, of)
    return None
