"""Recognizes files that are no datasets by their first bytes, and says what to do with each."""

import re
from typing import Any

from chesboard.formats.file_names import kind_of_name

_PICKLE = "Pickles are never opened: they can run code. Save the data as JSONL."
_UTF16 = "The file is UTF-16. Save it as UTF-8."
_UTF32 = "The file is UTF-32. Save it as UTF-8."
_TABLE = "Save the table as Parquet or JSONL."
_SHEET = "Save the sheet as CSV (UTF-8)."
_WEIGHTS = "It holds the weights of a model, not a dataset. Choose a model where a run is made."
_IMAGE = "not a dataset. Images are not read."
_SOUND = "not a dataset. Sound and video are not read."
_ARCHIVE = (
    "Archives of this kind are not opened. Pack the files as zip or tar, or upload them singly."
)

MAGIC: dict[bytes, str] = {
    b"7z\xbc\xaf\x27\x1c": f"The file is a 7-Zip archive. {_ARCHIVE}",
    b"Rar!": f"The file is a RAR archive. {_ARCHIVE}",
    b"\x04\x22\x4d\x18": "The file is packed with lz4. Pack it with gzip or zstd, or not at all.",
    b"\xff\x06\x00\x00sNaPpY": "The file is packed with Snappy. Pack it with gzip, or not at all.",
    b"\x1f\x9d": "The file is packed with compress (.Z). Pack it with gzip, or not at all.",
    b"\x1f\x8b": "The file is compressed twice. Unpack it once.",
    b"BZh": "The file is compressed twice. Unpack it once.",
    b"\xfd7zXZ\x00": "The file is compressed twice. Unpack it once.",
    b"\x28\xb5\x2f\xfd": "The file is compressed twice. Unpack it once.",
    b"FEA1": f"The file is Feather of version 1. {_TABLE}",
    b"Obj\x01": f"The file is Avro. {_TABLE}",
    b"SEQ\x06": f"The file is a Hadoop sequence file. {_TABLE}",
    b"\x93NUMPY": "The file is a NumPy array (.npy). Save the rows as JSONL or Parquet.",
    b"\x89HDF": f"The file is HDF5. {_TABLE}",
    b"MATLAB 5.0": f"The file is a MATLAB file. {_TABLE}",
    b"%PDF": "The file is a PDF, not a dataset. Copy its table into a CSV file.",
    b"%!PS": "The file is PostScript, not a dataset. Copy its table into a CSV file.",
    b"{\\rtf": "The file is a text document (RTF), not a dataset. Copy its table into a CSV file.",
    b"SQLite format 3": "The file is an SQLite database. Save the table as CSV or JSONL.",
    b"\xd0\xcf\x11\xe0": f"The file is an Excel workbook (.xls) or an old Office file. {_SHEET}",
    b"GGUF": f"The file is GGUF. {_WEIGHTS}",
    b"\x89PNG": f"The file is an image (PNG), {_IMAGE}",
    b"\xff\xd8\xff": f"The file is an image (JPEG), {_IMAGE}",
    b"GIF87a": f"The file is an image (GIF), {_IMAGE}",
    b"GIF89a": f"The file is an image (GIF), {_IMAGE}",
    b"II*\x00": f"The file is an image (TIFF), {_IMAGE}",
    b"MM\x00*": f"The file is an image (TIFF), {_IMAGE}",
    b"ID3\x03": f"The file is sound (MP3), {_SOUND}",
    b"ID3\x04": f"The file is sound (MP3), {_SOUND}",
    b"OggS": f"The file is sound or video (Ogg), {_SOUND}",
    b"fLaC": f"The file is sound (FLAC), {_SOUND}",
    b"\x1aE\xdf\xa3": f"The file is video (Matroska or WebM), {_SOUND}",
    b"\x7fELF": "The file is a program, not a dataset.",
    b"MZ\x90": "The file is a program, not a dataset.",
    b"\xcf\xfa\xed\xfe": "The file is a program, not a dataset.",
    b"\x00asm": "The file is a program, not a dataset.",
    b"-----BEGIN ": "The file is a key or a certificate, not a dataset.",
    b"\xff\xfe\x00\x00": _UTF32,
    b"\x00\x00\xfe\xff": _UTF32,
    b"\xff\xfe": _UTF16,
    b"\xfe\xff": _UTF16,
}

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
TAR_MAGIC = slice(257, 262)
"""Where a tar archive has its magic, behind the name and the mode of its first member."""

_PICKLE_START = re.compile(
    rb"\x80[\x02-\x05]|\((?:l|d)p\d+\n|[\]}]q[\0\1]|c(?:__builtin__|builtins|copy_reg|numpy|pandas|torch)[\w.]*\n"
)
"""Protocols 2 to 5 by their opcode, the text of 0 and 1, and an empty list or dict of 1."""

# A comment ends at its first end and nowhere else (the atomic groups), as in these languages: else
# many of them would be tried in all combinations.
_TAG = rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:(?><!--.*?-->)\s*)*<"
_WEB_PAGE = re.compile(_TAG + rb"(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_XML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml\b|<!DOCTYPE\b|<svg\b|<[A-Za-z][\w:.-]*(?:\s[^<>]*)?>\s*<)"
)
_LATEX = re.compile(
    rb"\s*(?:%[^\n]*\n\s*)*\\(?:documentclass|begin\{|usepackage|chapter|section)\b"
)
_MARKDOWN_TABLE = re.compile(rb"\s*\|[^\n]*\|[ \t]*\r?\n\s*\|[\s:|]*-[\s:-]*\|")
_FRONT_MATTER = re.compile(rb"---\r?\n(?:[^\n]*\n){0,400}?---\r?\n|---\r?\n[\w-]+:")
_MARKDOWN = re.compile(rb"#{1,6} [^\n]{1,200}\r?\n\s*\r?\n")
_YAML = re.compile(
    rb"(?:%YAML|---\r?\n|(?:#[^\n]*\n)*(?:-\s+)?[A-Za-z_][\w-]*:"
    rb"(?:\s*[|>]?-?\r?\n|[ \t]+[^\n]*\n\s+[\w-]+:|[ \t]+[^,\n]*\n[A-Za-z_][\w-]*:))"
)
_TOML = re.compile(
    rb"(?:\s*#[^\n]*\n)*\s*(?:\[{1,2}[A-Za-z_][\w.\"-]*\]{1,2}[ \t]*\r?\n"
    rb"|[A-Za-z_][\w.-]*[ \t]*=[ \t]*[\"\[\d'tf][^\n]*\n\s*(?:[A-Za-z_][\w.-]*[ \t]*=|\[))"
)
_SCRIPT = re.compile(
    rb"#!|(?:\s*(?:#[^\n]*|\"\"\"(?:.(?!\"\"\"))*.\"\"\")\n)*\s*"
    rb"(?:import [\w.]+(?:\s+as\s+\w+)?[ \t]*\r?\n|from [\w.]+ import |def \w+\(|class \w+[:(])",
    re.S,
)
_SQL = re.compile(
    rb"\s*(?:--[^\n]*\n\s*|(?>/\*.*?\*/);?\s*)*(?:CREATE (?:TABLE|DATABASE)|INSERT INTO)\b",
    re.I | re.S,
)

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

SNIFFED_BYTES = 512
FIRST_NAME_BYTES = 20
"""A header or the first key of a row, which is ASCII where the texts behind are in no alphabet."""
_INNER_MAGIC: dict[tuple[int, bytes], str] = {
    (4, b"ftyp"): f"The file is video or sound (MP4), {_SOUND}",
    (4, b"moov"): f"The file is video or sound (MP4), {_SOUND}",
    (8, b"WAVE"): f"The file is sound (WAV), {_SOUND}",
    (8, b"AVI "): f"The file is video (AVI), {_SOUND}",
    (8, b"WEBP"): f"The file is an image (WebP), {_IMAGE}",
    (8, b"DUCK"): f"The file is a DuckDB database. {_TABLE}",
}
"""Magic numbers behind a size or a checksum, by their place."""
_ERROR_KEYS = {
    *("cause", "code", "detail", "documentation_url", "error", "error_code", "error_description"),
    *("errors", "errortype", "instance", "message", "name", "path", "request_id", "requestid"),
    *("status", "status_code", "statuscode", "success", "timestamp", "title", "trace_id", "type"),
    "url",
}

_TEXTS: list[tuple[re.Pattern[bytes], str]] = [
    (
        _WEB_PAGE,
        "The file is a web page (HTML), not a dataset: often a login or error page that was saved "
        "in its place. Download the file again, logged in.",
    ),
    (_XML, "The file is XML. Save the rows as JSONL or CSV."),
    (_LATEX, "The file is LaTeX, not a dataset. Save its table as CSV."),
    (_MARKDOWN_TABLE, "The file is a table in Markdown. Save it as CSV."),
    (
        _FRONT_MATTER,
        "The file is a README (a dataset card), not the data that it describes. Upload the data "
        "files.",
    ),
    (_MARKDOWN, "The file is a text in Markdown, not a dataset. Upload the data files."),
    (_SCRIPT, "The file is a script, not a dataset. Run it, and save the rows as JSONL."),
    (_SQL, "The file is a dump of a database (SQL). Save the table as CSV or JSONL."),
]
_CONFIGURATIONS: list[tuple[re.Pattern[bytes], str]] = [
    (_TOML, "The file is TOML. Save the rows as JSONL."),
    (_YAML, "The file is YAML. Save the rows as JSONL."),
]
_OFFICE = {
    b"xl/": f"The file is an Excel workbook (.xlsx). {_SHEET}",
    b"word/": "The file is a Word document (.docx), not a dataset. Copy its table into a CSV file.",
    b"ppt/": "The file is a PowerPoint document, not a dataset.",
}
_OPEN_DOCUMENT = {
    b"application/vnd.oasis.opendocument.spreadsheet": f"The file is a sheet (.ods). {_SHEET}",
    b"application/vnd.oasis.opendocument": "The file is a text document (OpenDocument), not a "
    "dataset. Copy its table into a CSV file.",
    b"application/epub": "The file is a book (EPUB), not a dataset.",
}


def what_it_is(start: bytes, name: str = "") -> str | None:
    """A sentence that names the kind of a file and what to do, or None for what may be a dataset.

    start: the file's first bytes, decompressed. name: the file's, which decides only where text
    may be a dataset nevertheless.
    """
    if start.startswith(ZIP):
        return what_zip_it_is(start)
    for magic, message in MAGIC.items():
        if start.startswith(magic):
            return message
    if start.startswith(LFS_POINTER):
        return (
            "The file is a Git LFS pointer: it names the data, but does not hold it. Fetch the "
            "data with `git lfs pull` and upload that."
        )
    for (at, magic), message in _INNER_MAGIC.items():
        if start[at : at + len(magic)] == magic and not start[:at].isalnum():
            return message
    if _is_safetensors(start):
        return f"The file is safetensors. {_WEIGHTS}"
    if _PICKLE_START.match(start):
        return _PICKLE
    if start and not start[: 1 << 16].strip(b"\0"):
        return (
            "The file holds nothing but NUL bytes: its download or copy broke off. Fetch it again."
        )
    if _is_utf16(start[:SNIFFED_BYTES]) or _is_utf16(start[:FIRST_NAME_BYTES]):
        return _UTF16
    return _what_text_it_is(start, name)


def _what_text_it_is(start: bytes, name: str) -> str | None:
    for pattern, message in _TEXTS:
        if pattern.match(start):
            return message
    if kind_of_name(name) in ("csv", "jsonl"):
        return None
    for pattern, message in _CONFIGURATIONS:
        if pattern.match(start):
            return message
    return None


def what_zip_it_is(start: bytes) -> str | None:
    """The same for documents that are zip archives within, by the names at their beginning."""
    beginning = start[: 1 << 14]
    if b"[Content_Types].xml" in beginning or b"_rels/.rels" in beginning:
        for folder, message in _OFFICE.items():
            if folder in beginning:
                return message
        return _OFFICE[b"xl/"]
    for mime, message in _OPEN_DOCUMENT.items():
        if b"mimetype" + mime in beginning:
            return message
    if b"/data.pkl" in beginning or b"archive/data.pkl" in beginning:
        return f"The file is a PyTorch file (.pt). {_PICKLE}"
    if b".npy" in start[:SNIFFED_BYTES]:
        return "The file is a NumPy archive (.npz). Save the rows as JSONL or Parquet."
    return None


def is_zip(start: bytes) -> bool:
    """Whether a file is a zip archive, and no document that is one within."""
    return start.startswith(ZIP) and what_zip_it_is(start) is None


def is_tar(start: bytes) -> bool:
    return start[TAR_MAGIC] == b"ustar"


def what_object_it_is(value: dict[str, Any]) -> str | None:
    """The same for a file that is one JSON object, by its keys."""
    keys = value.keys()
    if keys >= {"cells", "nbformat"}:
        return "The file is a Jupyter notebook. Run it, and save the rows as JSONL."
    if keys >= {"metadata", "weight_map"}:
        return "The file is the index of a model's weights, not a dataset."
    if "architectures" in keys or "model_type" in keys or keys >= {"added_tokens", "model"}:
        return "The file is a part of a model (its configuration or tokenizer), not a dataset."
    if _is_dataset_info(value) or (
        value and all(isinstance(v, dict) and _is_dataset_info(v) for v in value.values())
    ):
        return (
            "The file describes a dataset (dataset_info.json), and does not hold its rows. Upload "
            "the data files."
        )
    if "_data_files" in keys:
        return (
            "The file is the state of a saved dataset (state.json). Upload its .arrow files, as a "
            "zip or tar archive of their folder."
        )
    return _what_error_it_is(value)


def _is_dataset_info(value: dict[str, Any]) -> bool:
    return isinstance(value.get("features"), dict) and (
        "splits" in value or "description" in value or "citation" in value
    )


def _what_error_it_is(value: dict[str, Any]) -> str | None:
    """The sentence for an answer by which a server refused a download."""
    if not {key.casefold() for key in value} <= _ERROR_KEYS:
        return None
    for name in ("error_description", "message", "detail", "error", "title"):
        told = next((inner for key, inner in value.items() if key.casefold() == name), None)
        if isinstance(told, dict):
            told = told.get("message")
        if isinstance(told, str):
            return (
                f"The file is the answer of a server that refused the download: “{told[:200]}”. "
                "Download the file again, logged in."
            )
    return None


def _is_safetensors(start: bytes) -> bool:
    r"""A length of 8 bytes, then a JSON object of tensors."""
    return start[8:9] == b"{" and start[5:8] == b"\0\0\0" and b'"' in start[9:32]


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
