"""Tables in zip and tar archives: listed, chosen and streamed, never unpacked to disk.

Shards of one table (train-00000-of-00002.parquet, data-00000-of-00002.arrow) are one member.
"""

import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, Protocol, cast

from chesboard.formats.errors import ErrorItem, FileTooLargeError, FormatError
from chesboard.formats.file_names import is_description, kind_of_name, suffix_of
from chesboard.formats.members import choose_member
from chesboard.formats.shards import Entry, Shards, group_shards
from chesboard.formats.text import sanitize
from chesboard.formats.unpacking import Source, check_size

MAX_FILES = 20_000
MAX_READ_BYTES = 8 << 20
"""Largest piece that the archive libraries may read at once: a directory or an extended header."""

_MAYBE_TABLES = {"", ".txt", ".data"}


class Archive(Protocol):
    """Its files in their order, and the contents of each by its name."""

    @property
    def entries(self) -> Sequence[Entry]: ...

    def open(self, name: str) -> Source: ...


class ZipArchive:
    """A zip archive in a seekable file.

    Raises:
        FormatError: damaged, or too many files.
    """

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        with _damage_explained("zip"):
            self._zip = zipfile.ZipFile(cast(IO[bytes], _Bounded(file)))
        self._max_bytes = max_bytes
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        self._infos = {sanitize(info.filename): info for info in infos}
        twice = len(infos) > len(self._infos)
        if twice:
            raise FormatError("The zip archive holds two files of the same name.")
        _check_number(len(infos))
        self.entries = [
            Entry(name, info.file_size, self._refusal(name, info))
            for name, info in self._infos.items()
        ]

    def _refusal(self, name: str, info: zipfile.ZipInfo) -> str | None:
        if info.flag_bits & 1:
            return "it is encrypted"
        try:
            check_size(info.file_size, info.compress_size, self._max_bytes)
        except FileTooLargeError as error:
            return str(error).removesuffix(".").replace("The file", "it", 1)
        return _refused_name(name)

    def open(self, name: str) -> Source:
        with _damage_explained("zip"):
            return _Guarded(cast(Source, self._zip.open(self._infos[name])), "zip")


class TarArchive:
    """A tar archive, read from its start again for each pass.

    rewind: gives its contents from the start, decompressed.

    Raises:
        FormatError: damaged, or too many files.
    """

    def __init__(self, rewind: Callable[[], Source]) -> None:
        self._rewind = rewind
        self._places: dict[str, int] = {}
        self.entries: list[Entry] = []
        with _damage_explained("tar"):
            for place, info in self._pass():
                if info.isdir() or not (info.isreg() or info.issym() or info.islnk()):
                    continue
                name = sanitize(info.name)
                _check_number(len(self.entries))
                if name in self._places:
                    raise FormatError("The tar archive holds two files of the same name.")
                self._places[name] = place
                self.entries.append(Entry(name, info.size, _tar_refusal(name, info)))
        self._at = -1
        self._members: Iterator[tuple[int, tarfile.TarInfo]] = iter(())

    def _pass(self) -> Iterator[tuple[int, tarfile.TarInfo]]:
        self._tar = tarfile.TarFile(fileobj=cast(IO[bytes], _Forward(self._rewind())))
        place = 0
        while (info := self._tar.next()) is not None:
            yield place, info
            place += 1
            cast(Any, self._tar).members.clear()  # it keeps all that it saw, else

    def open(self, name: str) -> Source:
        place = self._places[name]
        with _damage_explained("tar"):
            if place <= self._at or self._at < 0:
                self._members = self._pass()
            for at, info in self._members:
                self._at = at
                if at == place:
                    return _Guarded(cast(Source, self._tar.extractfile(info)), "tar")
        raise FormatError(f"The tar archive no longer holds {name!r}.")


def _tar_refusal(name: str, info: tarfile.TarInfo) -> str | None:
    if not info.isreg():
        return "it is a link"
    if info.issparse():
        return "it is a sparse file"
    return _refused_name(name)


def _refused_name(name: str) -> str | None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name):
        return "its name points out of the archive"
    return None


def _check_number(files: int) -> None:
    if files > MAX_FILES:
        raise FormatError(f"The archive holds more than {MAX_FILES:,} files.")


def choose_table(archive: Archive, wanted: str | None) -> tuple[Shards, str | None, list[str]]:
    """(the table to read, what of `wanted` names a table within it, what is doubtful)

    wanted: the name of a file or of a group of shards, or None for the only one; also with the
    name of a list in a JSON file behind a slash.

    Raises:
        FormatError: no table, or several and `wanted` names none; the items name each.
    """
    usable = [entry for entry in archive.entries if _may_be_table(archive, entry)]
    readable = [entry for entry in usable if entry.refusal is None]
    refused = [entry for entry in usable if entry.refusal is not None]
    tables = group_shards(readable)
    inner = None
    if wanted is not None:
        _check_not_refused(refused, wanted)
        single = {entry.name: Shards(entry.name, "", (entry.name,)) for entry in readable}
        names = {table.name: table for table in tables}
        outer, inner = _split_name(wanted, {**single, **names})
        if outer in single and outer not in names:
            return single[outer], inner, []
        wanted = outer
    elif not tables:
        raise _nothing_in(archive, refused)
    chosen = choose_member(tables, wanted, "The archive")
    doubts = list(chosen.warnings)
    if wanted is None and refused:
        told = "; ".join(f"{entry.name}: {entry.refusal}" for entry in refused[:5])
        doubts.append(f"Of the archive, {chosen.name} is read. Not read are {told}.")
    return chosen, inner, doubts


def _check_not_refused(refused: list[Entry], wanted: str) -> None:
    for entry in refused:
        if entry.name == wanted:
            raise FormatError(f"{entry.name} is not read: {entry.refusal}.", [_item(entry)])


def _split_name(wanted: str, known: dict[str, Shards]) -> tuple[str, str | None]:
    """`wanted` as (member, name within it)."""
    if wanted in known:
        return wanted, None
    for name in known:
        if wanted.startswith(f"{name}/"):
            return name, wanted[len(name) + 1 :]
    return wanted, None


def _nothing_in(archive: Archive, refused: list[Entry]) -> FormatError:
    if refused:
        told = "; ".join(f"{entry.name}: {entry.refusal}" for entry in refused[:5])
        return FormatError(f"Nothing in the archive is read. {told}.", [*map(_item, refused[:100])])
    names = ", ".join(entry.name for entry in archive.entries[:10]) or "nothing"
    return FormatError(
        "The archive holds no table that is read (JSONL, JSON, CSV, Parquet, Arrow, ORC); it holds "
        f"{names}."
    )


def _item(entry: Entry) -> ErrorItem:
    return {"message": str(entry.refusal), "snippet": entry.name}


def _may_be_table(archive: Archive, entry: Entry) -> bool:
    path = PurePosixPath(entry.name.replace("\\", "/"))
    if any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts):
        return False
    if is_description(path.name):
        return False
    return kind_of_name(path.name) is not None or (
        suffix_of(path.name) in _MAYBE_TABLES and entry.bytes > 0
    )


class _Bounded:
    """A seekable file that refuses to read a large piece at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size > MAX_READ_BYTES:
            raise FormatError(f"The archive holds more than {MAX_FILES:,} files, or is damaged.")
        return self._file.read(size if size >= 0 else MAX_READ_BYTES)

    def seek(self, to: int, whence: int = 0) -> int:
        return self._file.seek(to, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """The file is the caller's."""


class _Forward:
    """A stream as a file that can be sought forward, by reading."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_READ_BYTES:
            raise FormatError("The tar archive has a header that is too large, or is damaged.")
        data = self._source.read(size)
        self._at += len(data)
        return data

    def seek(self, to: int, whence: int = 0) -> int:
        if whence != 0 or to < self._at:
            raise tarfile.ReadError("headers that lead backwards")
        while self._at < to and self.read(min(to - self._at, 1 << 16)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True


class _Guarded:
    """The contents of a member, whose damage is explained."""

    def __init__(self, source: Source, kind: str) -> None:
        self._source = source
        self._kind = kind

    def read(self, size: int = -1, /) -> bytes:
        with _damage_explained(self._kind):
            return self._source.read(size)


@contextmanager
def _damage_explained(kind: str) -> Iterator[None]:
    errors: tuple[Any, ...] = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError)
    errors += (RuntimeError, ValueError, OverflowError, EOFError, struct.error, zlib.error)
    try:
        yield
    except FormatError:
        raise
    except errors as error:
        raise FormatError(
            f"The {kind} archive is damaged, or packed in an unusual way: {error}"
        ) from error
