"""Storing an upload: read once, row by row, into PostgreSQL's COPY, in the caller's transaction.

Nothing is committed here, so an upload that fails half-way leaves nothing behind.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO, cast

import psycopg
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.orm import Session

from app.datasets.forms import KNOWN, Columns, nearest, parse_row, recognise
from app.datasets.reading import read_rows
from app.datasets.rows import PairRow, RowError, SourceRow, presentable
from app.datasets.statistics import Statistics
from app.datasets.tables import Dataset
from app.errors import ErrorItem, InvalidInputError, TooLargeError, field_errors

MAX_ERRORS = 100
"""How many rejected rows are listed; all of them are counted."""

MAX_NAME_CHARACTERS = 200
COPY = "COPY pairs (dataset_id, pair, prompt, preferred, dispreferred, meta) FROM STDIN"


class _Source:
    """Reads a file, counting and hashing what goes by."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self.bytes += len(data)
        if self.bytes > self._max_bytes:
            raise TooLargeError(
                f"The file is larger than {self._max_bytes:,} bytes, which is what this server "
                "accepts (CHESBOARD_MAX_UPLOAD_BYTES)."
            )
        return data

    def sha256(self) -> str:
        return self._hash.hexdigest()


class _Intake:
    """Turns a file's rows into pairs, and keeps account of what was and was not usable."""

    def __init__(self, columns: Columns | None) -> None:
        self.columns = columns
        self.is_mapped = columns is not None
        self.pairs = 0
        self.rejected = 0
        self.errors: list[ErrorItem] = []
        self.statistics = Statistics()

    def usable(self, rows: Iterator[SourceRow | RowError]) -> Iterator[PairRow]:
        for source in rows:
            row = self._understand(source) if isinstance(source, SourceRow) else source
            if isinstance(row, RowError):
                self._reject(row)
            else:
                self.pairs += 1
                self.statistics.see_pair(row)
                yield row

    def _understand(self, source: SourceRow) -> PairRow | RowError:
        self.statistics.see_columns(source.columns)
        if self.columns is None:
            # The first row whose columns make up a known form decides for the whole file.
            self.columns = recognise(source.columns)
        if self.columns is not None:
            return parse_row(source, self.columns)
        near = nearest(source.columns)
        if near is None:
            return RowError(source.row, "the columns make up no known form")
        missing = [name for name in near.all() if name not in source.columns]
        return RowError(source.row, "is missing", field=missing[0])

    def _reject(self, error: RowError) -> None:
        self.rejected += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(error.as_item())

    def why_nothing_is_usable(self) -> InvalidInputError:
        if self.rejected == 0:
            return InvalidInputError("The file holds no rows.")
        found = self.statistics.columns[:50]
        mapped = set(self.columns.all()) if self.is_mapped and self.columns else set()
        if found and (self.columns is None or (mapped and not mapped & set(found))):
            return InvalidInputError(
                f"The columns found are {', '.join(found)}. The forms known are {KNOWN}. Where "
                "columns are called something else, say which holds what with `mapping`: "
                '{"prompt": …, "preferred": …, "dispreferred": …}.',
                self.errors,
            )
        return InvalidInputError(
            f"None of the rows can be used ({self.rejected:,} were rejected). Nothing was stored.",
            self.errors,
        )


def store_dataset(
    session: Session,
    file: BinaryIO,
    filename: str,
    *,
    max_bytes: int,
    name: str | None = None,
    mapping: str | None = None,
) -> Dataset:
    """Read a preference file, which stands at its start, and store its pairs.

    name: defaults to the file's, without its ending. mapping: see `parse_mapping`.

    Raises:
        InvalidInputError: nothing in it can be used, or it is no file that is known.
        TooLargeError: more than `max_bytes`, as it is or unpacked.
    """
    filename = presentable(PurePath(filename.replace("\\", "/")).name)
    intake = _Intake(parse_mapping(mapping))
    source = _Source(file, max_bytes)
    dataset = Dataset(
        name=_checked_name(name) or _name_of(filename),
        format="",
        source_filename=filename,
        source_sha256="",
        source_bytes=0,
        pairs=0,
        rejected=0,
        errors=[],
        statistics={},
    )
    session.add(dataset)
    session.flush()  # gives it its id
    _copy(session, dataset.id, intake.usable(read_rows(source, filename, max_bytes)))
    if intake.pairs == 0:
        raise intake.why_nothing_is_usable()
    dataset.format = intake.statistics.form()
    dataset.source_sha256, dataset.source_bytes = source.sha256(), source.bytes
    dataset.pairs, dataset.rejected = intake.pairs, intake.rejected
    dataset.errors = [dict(item) for item in intake.errors]
    dataset.statistics = intake.statistics.as_dict()
    session.flush()
    return dataset


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
                )
            )


def parse_mapping(text: str | None) -> Columns | None:
    """`{"prompt": "q", "preferred": "good", "dispreferred": "bad"}` as columns.

    The prompt may be left out where the responses are whole dialogues.

    Raises:
        InvalidInputError: not such an object.
    """
    if text is None or not text.strip():
        return None
    try:
        mapping = _Mapping.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInputError(
            "`mapping` must be a JSON object that says which columns hold the prompt, the "
            "preferred and the dispreferred response.",
            field_errors(error, prefix="mapping"),
        ) from error
    return Columns(mapping.prompt, mapping.preferred, mapping.dispreferred)


class _Mapping(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prompt: str = "prompt"
    preferred: str
    dispreferred: str


def _checked_name(name: str | None) -> str | None:
    if name is None or not name.strip():
        return None
    name = name.strip()
    if len(name) > MAX_NAME_CHARACTERS or presentable(name) != name:
        message = f"must be text of at most {MAX_NAME_CHARACTERS} characters"
        raise InvalidInputError(f"name: {message}", [{"field": "name", "message": message}])
    return name


def _name_of(filename: str) -> str:
    stem = PurePath(filename.removesuffix(".gz")).stem
    return stem[:MAX_NAME_CHARACTERS] or "dataset"
