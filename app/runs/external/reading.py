"""The body of a batch of records: inflated within a limit, and checked record by record."""

import json
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from app.core.errors import (
    ErrorItem,
    InvalidInputError,
    TooLargeError,
    field_errors,
    invalid_field,
)
from app.core.text import storable
from chesboard.record_json import KIND, KINDS, MAX_MESSAGE, from_json
from chesboard.records import Record

MAX_BYTES = 4 << 20
"""Of a batch, inflated."""
MAX_RECORDS = 1000
"""In a batch."""
MAX_ERRORS = 20


@dataclass(frozen=True, slots=True)
class SentBatch:
    """attempt: of the trainer that sends it. records: in their order. messages: what those who look
    at the run's page should know. Without either it is a heartbeat."""

    attempt: int
    records: list[Record]
    messages: list[str] = field(default_factory=list)


async def read_body(chunks: AsyncIterator[bytes], encoding: str) -> bytes:
    """The body of a request, inflated if its Content-Encoding is gzip.

    Raises:
        TooLargeError: it is longer than MAX_BYTES; no more than that is ever held.
        InvalidInputError: it is not what its encoding says.
    """
    inflater = None
    if encoding == "gzip":
        inflater = zlib.decompressobj(wbits=31)
    elif encoding not in ("", "identity"):
        raise InvalidInputError(f"The encoding “{encoding}” is not known: send gzip, or none.")
    body = bytearray()
    async for chunk in chunks:
        try:
            body += inflater.decompress(chunk, MAX_BYTES + 1 - len(body)) if inflater else chunk
        except zlib.error:
            raise InvalidInputError("The body is not valid gzip.") from None
        if len(body) > MAX_BYTES:
            raise TooLargeError(
                f"A batch has {MAX_BYTES >> 20} MiB at most, inflated. Send fewer records at a "
                "time."
            )
    if inflater is not None and not inflater.eof:
        raise InvalidInputError("The gzip body ends too early.")
    return bytes(body)


def parse_batch(body: bytes) -> SentBatch:
    """The batch in a body, every record of it checked.

    Raises:
        InvalidInputError: it is no batch; of a record its number, from 1, and the field are named.
        TooLargeError: it has more than MAX_RECORDS records.
    """
    try:
        sent = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"The body is not JSON: {error}.") from None
    if not isinstance(sent, dict) or not sent.keys() <= {"attempt", "records", "messages"}:
        raise InvalidInputError("The body is an object {attempt, records, messages}.")
    attempt, records = sent.get("attempt"), sent.get("records")
    if type(attempt) is not int or not 1 <= attempt < 2**31:
        raise invalid_field("attempt", "must be the run's attempt, a whole number from 1")
    if not isinstance(records, list):
        raise invalid_field("records", "must be a list")
    if len(records) > MAX_RECORDS:
        raise TooLargeError(f"A batch has {MAX_RECORDS:,} records at most; this has more.")
    return SentBatch(attempt, _parse(records), _messages(sent.get("messages", [])))


def _messages(sent: Any) -> list[str]:
    if not isinstance(sent, list) or not all(isinstance(one, str) for one in sent):
        raise invalid_field("messages", "must be a list of texts")
    for text in sent:
        if not 0 < len(text) <= MAX_MESSAGE:
            raise invalid_field("messages", f"each has 1 to {MAX_MESSAGE:,} characters")
        try:
            storable(text)
        except ValueError as error:
            raise invalid_field("messages", str(error)) from None
    return sent


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON; send null")


def _parse(sent: list[Any]) -> list[Record]:
    records: list[Record] = []
    errors: list[ErrorItem] = []
    for number, one in enumerate(sent, start=1):
        try:
            records.append(_record(one))
        except _RecordError as error:
            errors += [{"row": number, **item} for item in error.items]
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise refusal(errors[:MAX_ERRORS])
    return records


class _RecordError(Exception):
    def __init__(self, items: list[ErrorItem]) -> None:
        self.items = items


def _record(one: Any) -> Record:
    if not isinstance(one, Mapping):
        raise _RecordError([{"message": "must be an object"}])
    if not isinstance(kind := one.get(KIND), str) or kind not in KINDS:
        raise _RecordError([{"field": KIND, "message": f"must be one of {', '.join(KINDS)}"}])
    try:
        return from_json(one)
    except ValidationError as error:
        raise _RecordError(field_errors(error)) from None


def refusal(errors: list[ErrorItem]) -> InvalidInputError:
    """The error of a batch with invalid records, all of which are named; nothing is stored.

    errors: each with `row`, the number of the record in its batch.
    """
    first = errors[0]
    where = f"Record {first.get('row')}" + (f", {first['field']}" if "field" in first else "")
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidInputError(f"{where}: {first['message']}{more}", errors)
