"""Stores an upload: parsed row by row into PostgreSQL's COPY, in the caller's transaction.

Nothing is committed here, so an upload that fails leaves nothing behind.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, cast

import psycopg
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from app.core.errors import TooLargeError, invalid_field
from app.datasets.fingerprints import hash_texts
from app.datasets.intake import Intake
from app.datasets.issues import store_issues
from app.datasets.progress import Progress
from app.store.datasets import Dataset, Rejection
from app.store.issues import CHECKS_KEY
from chesboard.doctor.examination import Examination
from chesboard.formats.mapping import parse_mapping
from chesboard.formats.pairing import parse_pairing
from chesboard.formats.reading import open_rows
from chesboard.formats.rows import PairRow, RowError, SourceRow, shortened
from chesboard.formats.text import sanitize
from chesboard.formats.unpacking import without_suffix

MAX_NAME_CHARACTERS = 200
HASHED_BYTES = 1 << 20
MANY_PAIRS = 10_000
"""From so many on, PostgreSQL is told of them: until it looks by itself, up to a minute later, it
would plan queries as if the dataset had next to no pairs, which takes minutes with many."""
COPY = (
    "COPY pairs (dataset_id, pair, prompt, preferred, dispreferred, meta, source, fingerprint) "
    "FROM STDIN"
)


class CountedFile:
    """Wraps a file to report how far it is read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress.bytes_done += len(data)
        return data

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def seek(self, to: int, whence: int = 0) -> int:
        self._progress.bytes_done = self._file.seek(to, whence)
        return self._progress.bytes_done

    def fileno(self) -> int:
        return self._file.fileno()


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What identifies a file: its SHA-256 in hexadecimal and its size in bytes."""

    sha256: str
    size: int


def measure_file(file: BinaryIO, max_bytes: int) -> FileDigest:
    """Hash a file from its start, to which it returns.

    Raises:
        TooLargeError: more than `max_bytes`.
    """
    digest, size = hashlib.sha256(), 0
    while data := file.read(HASHED_BYTES):
        digest.update(data)
        size += len(data)
        if size > max_bytes:
            raise TooLargeError(
                f"The file is larger than {max_bytes:,} bytes, which is what this server "
                "accepts (CHESBOARD_MAX_UPLOAD_BYTES)."
            )
    file.seek(0)
    return FileDigest(digest.hexdigest(), size)


def store_dataset(
    session: Session,
    file: BinaryIO,
    filename: str,
    *,
    max_bytes: int,
    digest: FileDigest | None = None,
    name: str | None = None,
    mapping: str | None = None,
    pairing: str | None = None,
    member: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read a preference file, which stands at its start, and store its pairs.

    digest: by `measure_file`, where the caller has it already. name: defaults to the file's,
    without its suffix. mapping: see `parse_mapping`. pairing: see `parse_pairing`. member: see
    `open_rows`.

    Raises:
        InvalidInputError: the name cannot be stored.
        FormatError: nothing in it can be used, or it is no file that is known.
        TooLargeError, FileTooLargeError: more than `max_bytes`, as it is or decompressed.
        UploadCancelledError: by the client.
    """
    progress = progress or Progress()
    filename = shortened(PurePath(filename.replace("\\", "/")).name)
    intake = Intake(parse_mapping(mapping), progress, pairing=parse_pairing(pairing))
    checked_name = checked_dataset_name(name)
    digest = digest or measure_file(file, max_bytes)
    progress.bytes_total = digest.size
    dataset = Dataset(
        name=checked_name or _name_of(filename, member),
        source_filename=filename,
        source_sha256=digest.sha256,
        source_bytes=digest.size,
    )
    opened = open_rows(CountedFile(file, progress), filename, max_bytes, member=member)
    return store_rows(
        session,
        dataset,
        opened.rows,
        intake,
        progress,
        opened.warnings,
        member=opened.member,
    )


def store_rows(
    session: Session,
    dataset: Dataset,
    rows: Iterable[SourceRow | RowError],
    intake: Intake,
    progress: Progress,
    warnings: Iterable[str] = (),
    *,
    member: str | None = None,
) -> Dataset:
    """Store a dataset, which has its name and source, with the pairs of the rows.

    warnings: on the file or files, asked for when all rows were read. member: the table that is
    read, where the file holds several.

    Raises:
        FormatError: nothing in them can be used.
        UploadCancelledError: by the client.
    """
    dataset.format, dataset.statistics, dataset.errors = "", {}, []
    dataset.pairs = dataset.rejected = 0
    session.add(dataset)
    session.flush()  # assigns the id
    examination = Examination()
    _copy(session, dataset.id, intake.usable(rows), examination)
    if intake.pairs == 0:
        raise intake.why_nothing_is_usable("Nothing was stored.")
    progress.phase = "checking"
    _describe(session, dataset, intake, examination, warnings, member)
    progress.check()
    progress.phase = "storing"
    session.flush()
    if dataset.pairs >= MANY_PAIRS:
        session.execute(text("ANALYZE pairs (dataset_id, pair, version)"))
    return dataset


def _describe(
    session: Session,
    dataset: Dataset,
    intake: Intake,
    examination: Examination,
    warnings: Iterable[str],
    member: str | None,
) -> None:
    """Fill in form, counts, columns, statistics and issues, and store the rejected rows."""
    dataset.format = intake.statistics.form()
    dataset.pairs, dataset.rejected = intake.pairs, intake.rejected
    dataset.errors = [dict(item) for item in intake.errors]
    dataset.columns = intake.columns.as_dict() if intake.columns else None
    issues, checks = store_issues(session, dataset.id, examination)
    dataset.statistics = {
        "columns": intake.found_columns,
        **intake.statistics.as_dict(),
        "duplicates": issues["duplicate"],
        "issues": issues,
        CHECKS_KEY: checks,
        "rejected": dict(intake.reasons),
        "warnings": [*map(sanitize, warnings), *intake.warnings],
        "notes": intake.notes,
        "pairing": str(intake.pairing) if intake.pairing else None,
        "member": member,
    }
    if intake.rejections:
        session.execute(
            insert(Rejection),
            [
                {
                    "dataset_id": dataset.id,
                    "number": number,
                    "reason": error.reason,
                    "field": None,
                    "snippet": None,
                    **error.as_item(),
                }
                for number, error in enumerate(intake.rejections)
            ],
        )


def _copy(
    session: Session, dataset_id: int, pairs: Iterator[PairRow], examination: Examination
) -> None:
    connection = cast(psycopg.Connection[Any], session.connection().connection.driver_connection)
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for ordinal, pair in enumerate(pairs):
            texts = pair.prompt, pair.preferred, pair.dispreferred
            hashes = hash_texts(*texts)
            examination.see(*texts, pair.meta, hashes.short())
            copy.write_row(
                (
                    dataset_id,
                    ordinal,
                    json.dumps(pair.prompt),
                    pair.preferred,
                    pair.dispreferred,
                    json.dumps(pair.meta),
                    json.dumps(pair.source) if pair.source else None,
                    hashes.fingerprint(),
                )
            )


def checked_dataset_name(name: str | None) -> str | None:
    """The name without spaces around it; None for none.

    Raises:
        InvalidInputError: too long, or it cannot be stored.
    """
    if name is None or not name.strip():
        return None
    name = name.strip()
    if len(name) > MAX_NAME_CHARACTERS or shortened(name) != name:
        message = f"must be text of at most {MAX_NAME_CHARACTERS} characters"
        raise invalid_field("name", message)
    return name


def _name_of(filename: str, member: str | None) -> str:
    stem = PurePath(without_suffix(filename)).stem or "dataset"
    if member:
        stem = f"{stem}: {PurePath(without_suffix(shortened(member))).stem}"
    return stem[:MAX_NAME_CHARACTERS]
