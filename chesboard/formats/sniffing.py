"""Recognizes files that are no datasets by their first bytes, and says what to do with each."""

import re

_UNPACK = "Archives are not opened. Upload the file that is inside."
_REPACK = "Pack it with gzip, or not at all."
_PICKLE = "Pickles are never opened: they can run code. Save the data as JSONL."
_UTF16 = "The file is UTF-16. Save it as UTF-8."

MAGIC: dict[bytes, str] = {
    b"PK\x03\x04": _UNPACK,
    b"PK\x05\x06": _UNPACK,
    b"7z\xbc\xaf\x27\x1c": _UNPACK,
    b"Rar!": _UNPACK,
    b"BZh": f"The file is packed with bzip2. {_REPACK}",
    b"\xfd7zXZ\x00": f"The file is packed with xz. {_REPACK}",
    b"\x28\xb5\x2f\xfd": f"The file is packed with zstd. {_REPACK}",
    b"\x04\x22\x4d\x18": f"The file is packed with lz4. {_REPACK}",
    b"\x1f\x8b": "The file is gzipped twice. Unpack it once.",
    b"ARROW1": "The file is Arrow or Feather. Save the table as Parquet or JSONL.",
    b"\xff\xff\xff\xff": "The file is an Arrow stream. Save the table as Parquet or JSONL.",
    b"ORC": "The file is ORC. Save the table as Parquet or JSONL.",
    b"Obj\x01": "The file is Avro. Save the table as Parquet or JSONL.",
    b"\x93NUMPY": "The file is a NumPy array (.npy). Save the rows as JSONL or Parquet.",
    b"\x89HDF": "The file is HDF5. Save the table as Parquet or JSONL.",
    b"%PDF": "The file is a PDF, not a dataset.",
    b"SQLite format 3": "The file is an SQLite database. Save the table as CSV or JSONL.",
    b"\xd0\xcf\x11\xe0": "The file is an Excel workbook (.xls). Save the sheet as CSV (UTF-8).",
    b"\xff\xfe": _UTF16,
    b"\xfe\xff": _UTF16,
}

TAR_MAGIC = slice(257, 262)
"""Where a tar archive has its magic, behind the name and the mode of its first member."""

_PICKLE_START = re.compile(
    rb"\x80[\x02-\x05]|\((?:l|d)p\d+\n|c(?:__builtin__|builtins|copy_reg|numpy|pandas|torch)[\w.]*\n"
)
"""Protocols 2 to 5 by their opcode, and the text of protocols 0 and 1."""

_WEB_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

SNIFFED_CHARACTERS = 512


def what_it_is(start: bytes) -> str | None:
    """A sentence that names the kind of a file and what to do, or None for what may be a dataset.

    start: the file's first bytes, decompressed.
    """
    if start.startswith(b"PK\x03\x04") and b"[Content_Types].xml" in start[:SNIFFED_CHARACTERS]:
        return "The file is an Excel workbook (.xlsx). Save the sheet as CSV (UTF-8)."
    for magic, message in MAGIC.items():
        if start.startswith(magic):
            return message
    if start[TAR_MAGIC] == b"ustar":
        return f"The file is a tar archive. {_UNPACK}"
    if start.startswith(LFS_POINTER):
        return (
            "The file is a Git LFS pointer: it names the data, but does not hold it. Fetch the "
            "data with `git lfs pull` and upload that."
        )
    if _WEB_PAGE.match(start):
        return (
            "The file is a web page (HTML), not a dataset: often a login or error page that was "
            "saved in its place. Download the file again, logged in."
        )
    if _PICKLE_START.match(start):
        return _PICKLE
    return _UTF16 if _is_utf16(start[:SNIFFED_CHARACTERS]) else None


def _is_utf16(start: bytes) -> bool:
    """Whether this is UTF-16 without a byte order mark: ASCII with a NUL at every other byte.

    Text in UTF-8 has no NUL at all; one of a few in a cell is not in step with the others.
    """
    even, odd = start[0::2], start[1::2]
    if len(odd) < 8:
        return False
    return any(
        zeros.count(0) > 0.9 * len(zeros) and others.count(0) < 0.1 * len(others)
        for zeros, others in ((odd, even), (even, odd))
    )
