"""The archive's format: a tar of a database dump, the runs' files and a manifest.

    files/RUN/...        checkpoints and results, as in the data folder's runs/
    database.dump        the tables' rows, in pg_dump's custom format
    manifest.json        the schema's revision; size and SHA-256 of each member

Format 1, of earlier versions, holds each table as database/TABLE.copy.gz (gzipped output of COPY)
in place of the dump. It is still read.
"""

import hashlib
import io
import re
import shutil
import tarfile
from datetime import datetime
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ValidationError

from app.local.errors import SetupError

FORMAT = 2
MANIFEST = "manifest.json"
DUMP = "database.dump"
MAX_MANIFEST_BYTES = 256 << 20
CHUNK = 1 << 20

_COPY_MEMBER = re.compile(r"database/([a-z][a-z0-9_]*)\.copy\.gz", re.ASCII)
_FILE_MEMBER = re.compile(r"files/\d+(/[^/\0]+)+")


class Member(BaseModel):
    bytes: int
    sha256: str


class Table(BaseModel):
    columns: list[str]
    rows: int


class CopiedTable(Table, Member):
    """Format 1: a table that is a member of its own."""


class Manifest(BaseModel):
    format: int
    revision: str
    """The schema's, an Alembic revision."""
    created_at: datetime
    pg_dump: int = 0
    """Major version of the pg_dump that wrote the dump; 0 in format 1."""
    dump: Member | None = None
    """None in format 1."""
    tables: dict[str, CopiedTable | Table]
    files: dict[str, Member]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def members(self) -> dict[str, Member]:
        """Every member but the manifest itself."""
        found = dict(self.files)
        if self.dump is not None:
            found[DUMP] = self.dump
        for name, table in self.tables.items():
            if isinstance(table, CopiedTable):
                found[copy_member(name)] = table
        return found


class Hashing:
    """A file object that computes the SHA-256 of what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def copy_member(table: str) -> str:
    """The name of a table's member in format 1."""
    return f"database/{table}.copy.gz"


# --- writing ----------------------------------------------------------------------------------


def add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> Member:
    """Append a seekable file, from its start, as a member."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    reader = Hashing(file)
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    archive.addfile(member, reader)
    return Member(bytes=size, sha256=reader.hexdigest())


def add_manifest(archive: tarfile.TarFile, manifest: Manifest) -> None:
    add(archive, MANIFEST, io.BytesIO(manifest.model_dump_json(indent=1).encode()))


# --- reading ----------------------------------------------------------------------------------


def read_checked(archive: tarfile.TarFile) -> Manifest:
    """The manifest, after every member was checked against it.

    Raises:
        SetupError: a member is missing, unexpected or changed, or the manifest is invalid.
    """
    found: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    for member in archive:
        if not member.isreg() or member.name in found:
            raise _unexpected(member.name)
        if member.name == MANIFEST:
            manifest = _read_manifest(archive, member)
            continue
        reader = Hashing(open_member(archive, member))
        while reader.read(CHUNK):
            pass
        found[member.name] = (member.size, reader.hexdigest())
    if manifest is None:
        raise SetupError("The backup has no manifest: it is truncated, or not a backup.")
    expected = {name: (file.bytes, file.sha256) for name, file in manifest.members.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise SetupError(f"The backup is damaged: {name} differs from the manifest.")
        if not _is_allowed(name):
            raise _unexpected(name)
    return manifest


def open_member(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # read_checked accepts regular files only
    return file


def unpack_files(archive: tarfile.TarFile, manifest: Manifest, folder: Path) -> None:
    """Write the runs' files into a new folder."""
    folder.mkdir(parents=True)
    for name in manifest.files:
        path = folder / name.removeprefix("files/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(open_member(archive, name), file, CHUNK)


def _read_manifest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Manifest:
    if member.size > MAX_MANIFEST_BYTES:
        raise SetupError("The backup's manifest is too large.")
    try:
        manifest = Manifest.model_validate_json(open_member(archive, member).read())
    except ValidationError as error:
        raise SetupError(f"The backup's manifest cannot be read: {error}") from error
    if not 1 <= manifest.format <= FORMAT:
        raise SetupError(
            f"The backup has format {manifest.format}; this version reads formats 1 to {FORMAT}."
        )
    copied = {isinstance(table, CopiedTable) for table in manifest.tables.values()}
    is_first = manifest.format == 1
    if is_first != (manifest.dump is None) or copied - {is_first}:
        raise SetupError("The backup's manifest cannot be read: it lacks its format's members.")
    return manifest


def _is_allowed(name: str) -> bool:
    if name == DUMP or _COPY_MEMBER.fullmatch(name):
        return True
    # The second test rejects path traversal.
    return bool(_FILE_MEMBER.fullmatch(name)) and ".." not in name.split("/")


def _unexpected(name: str) -> SetupError:
    return SetupError(f"The backup holds {name!r}, which does not belong in a backup.")
