"""Stores an upload: parsed row by row into PostgreSQL's COPY, in the caller's transaction.

Nothing is committed here, so an upload that fails leaves nothing behind.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, cast

import psycopg
from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.core.errors import InvalidInputError, TooLargeError
from app.datasets.intake import Intake
from app.datasets.issues import find_issues, fingerprint
from app.datasets.progress import Progress
from app.store.datasets import Dataset, Rejection
from chesboard.formats.columns import parse_mapping
from chesboard.formats.reading import read_rows
from chesboard.formats.rows import PairRow, shortened

MAX_NAME_CHARACTERS = 200
HASHED_BYTES = 1 << 20
COPY = (
    "COPY pairs (dataset_id, pair, prompt, preferred, dispreferred, meta, source, fingerprint) "
    "FROM STDIN"
)


class _Source:
    """Wraps a file to count the bytes that are read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress.bytes_done += len(data)
        return data

    def seekable(self) -> bool:
        return True

    def seek(self, to: int) -> int:
        return self._file.seek(to)

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
    progress: Progress | None = None,
) -> Dataset:
    """Read a preference file, which stands at its start, and store its pairs.

    digest: by `measure_file`, where the caller has it already. name: defaults to the file's,
    without its suffix. mapping: see `parse_mapping`.

    Raises:
        InvalidInputError: the name cannot be stored.
        FormatError: nothing in it can be used, or it is no file that is known.
        TooLargeError, FileTooLargeError: more than `max_bytes`, as it is or decompressed.
        UploadCancelledError: by the client.
    """
    progress = progress or Progress()
    filename = shortened(PurePath(filename.replace("\\", "/")).name)
    intake = Intake(parse_mapping(mapping), progress)
    checked_name = _checked_name(name)
    digest = digest or measure_file(file, max_bytes)
    progress.bytes_total = digest.size
    dataset = Dataset(
        name=checked_name or _name_of(filename),
        format="",
        source_filename=filename,
        source_sha256=digest.sha256,
        source_bytes=digest.size,
        pairs=0,
        rejected=0,
        errors=[],
        statistics={},
    )
    session.add(dataset)
    session.flush()  # assigns the id
    rows = read_rows(_Source(file, progress), filename, max_bytes)
    _copy(session, dataset.id, intake.usable(rows))
    if intake.pairs == 0:
        raise intake.why_nothing_is_usable("Nothing was stored.")
    progress.phase = "checking"
    _describe(session, dataset, intake)
    progress.check()
    progress.phase = "storing"
    session.flush()
    return dataset


def _describe(session: Session, dataset: Dataset, intake: Intake) -> None:
    """Fill in form, counts, columns, statistics and issues, and store the rejected rows."""
    dataset.format = intake.statistics.form()
    dataset.pairs, dataset.rejected = intake.pairs, intake.rejected
    dataset.errors = [dict(item) for item in intake.errors]
    dataset.columns = intake.columns.as_dict() if intake.columns else None
    issues = find_issues(session, dataset.id, intake.statistics.long)
    dataset.statistics = {
        "columns": intake.found_columns,
        **intake.statistics.as_dict(),
        "duplicates": issues["duplicate"],
        "issues": issues,
        "rejected": dict(intake.reasons),
        "warnings": intake.warnings,
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


def _copy(session: Session, dataset_id: int, pairs: Iterator[PairRow]) -> None:
    connection = cast(psycopg.Connection[Any], session.connection().connection.driver_connection)
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for ordinal, pair in enumerate(pairs):
            copy.write_row(
                (
                    dataset_id,
                    ordinal,
                    json.dumps(pair.prompt),
                    pair.preferred,
                    pair.dispreferred,
                    json.dumps(pair.meta),
                    json.dumps(pair.source) if pair.source else None,
                    fingerprint(pair.prompt, pair.preferred, pair.dispreferred),
                )
            )


def _checked_name(name: str | None) -> str | None:
    if name is None or not name.strip():
        return None
    name = name.strip()
    if len(name) > MAX_NAME_CHARACTERS or shortened(name) != name:
        message = f"must be text of at most {MAX_NAME_CHARACTERS} characters"
        raise InvalidInputError(f"name: {message}", [{"field": "name", "message": message}])
    return name


def _name_of(filename: str) -> str:
    stem = PurePath(filename.removesuffix(".gz")).stem
    return stem[:MAX_NAME_CHARACTERS] or "dataset"
