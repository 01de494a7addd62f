"""The child process that decodes and encodes Parquet: `python -P parquet_child.py read|write`.

It imports nothing of this package, so that it can be run by its path.

read: a table on stdin, its rows on stdout, a JSON object a line.
write: on stdin a line [{name, kind}, …], then a JSON list of cells a line; a table on stdout.

kind: text, messages, bool, integer, number, or json (a cell is JSON in a text). What the types of
Arrow cannot express is in the metadata of the fields: `chesboard` = json, and `absent` where a null
means that the row lacks the column.

Exits with 3 and {"error": …} on stderr where the table cannot be read.
"""

import io
import json
import os
import resource
import sys
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

MEMORY_BYTES = 6 << 30
"""Limit of the address space, most of it never touched: the libraries map about one gigabyte."""
CPU_SECONDS = 900
BATCH_BYTES = 8 << 20
MAX_BATCH_ROWS = 1000
FIELD_KIND = b"chesboard"
ABSENT = b"absent"
MAX_COLUMNS = 2000


class _TableError(Exception):
    """An error with a message for the user."""


def main(task: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pyarrow as pa

    # One thread suffices, and under the limits no other might start.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        _read() if task == "read" else _write()
    except (_TableError, pa.ArrowException, MemoryError, OSError, ValueError, OverflowError) as e:
        message = str(e) if isinstance(e, _TableError) else f"The Parquet file is damaged: {e}"
        print(json.dumps({"error": message[:500]}), file=sys.stderr)
        return 3
    return 0


def _read() -> None:
    import pyarrow.parquet as pq

    # Unbuffered, and read by this thread alone: a buffer's lock held by another thread of the
    # library at exit would abort the process.
    stdin = io.FileIO(0, closefd=False)
    table = pq.ParquetFile(stdin, pre_buffer=False)
    schema = table.schema_arrow
    names = schema.names
    if len(set(names)) < len(names):
        raise _TableError("The Parquet table names a column twice.")
    if len(names) > MAX_COLUMNS:
        raise _TableError(f"The Parquet table has more than {MAX_COLUMNS:,} columns.")
    kinds = {field.name: (field.metadata or {}).get(FIELD_KIND, b"").split() for field in schema}
    out = sys.stdout.buffer
    for group in range(table.num_row_groups):
        about = table.metadata.row_group(group)
        a_row = max(1, about.total_byte_size // max(1, about.num_rows))
        batch_rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // a_row))
        for batch in table.iter_batches(batch_rows, [group], use_threads=False):
            columns = {name: list(_values(batch.column(name), name)) for name in names}
            for at in range(batch.num_rows):
                row = {
                    name: json.loads(cells[at])
                    if b"json" in kinds[name] and cells[at] is not None
                    else cells[at]
                    for name, cells in columns.items()
                    if not (cells[at] is None and ABSENT in kinds[name])
                }
                out.write(json.dumps(row, default=_plain).encode() + b"\n")
    out.flush()


def _values(column: Any, name: str) -> list[Any]:
    """A column's values as Python objects; as text where Python has no such type."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except (pa.ArrowException, ValueError, OverflowError, NotImplementedError):
        try:
            return list(column.cast(pa.string()).to_pylist())
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise _TableError(
                f"The column {name!r} holds values that cannot be read: {column.type}."
            ) from error


def _plain(value: object) -> Any:
    """Values of types that JSON lacks."""
    match value:
        case bytes():
            # Text without a string type. Invalid UTF-8 makes the row unusable, as in CSV.
            return value.decode("utf-8", "surrogateescape")
        case date() | time():
            return value.isoformat()
        case timedelta() | Decimal():
            return str(value)
        case _ if hasattr(value, "tolist"):
            return value.tolist()
    return str(value)


def _write() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {
        "text": pa.string(),
        "messages": pa.list_(message),
        "bool": pa.bool_(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "json": pa.string(),
    }
    columns = json.loads(sys.stdin.buffer.readline())
    schema = pa.schema(
        [
            pa.field(
                column["name"],
                types[column["kind"]],
                metadata={FIELD_KIND: " ".join(_field_kind(column)).encode()},
            )
            for column in columns
        ]
    )
    with pq.ParquetWriter(pa.PythonFile(sys.stdout.buffer), schema, compression="zstd") as writer:
        for rows in _batches():
            cells = list(zip(*rows, strict=True))
            arrays = [
                pa.array(column, type=field.type)
                for column, field in zip(cells, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _field_kind(column: dict[str, Any]) -> Iterator[str]:
    yield column["kind"]
    if column.get("absent"):
        yield ABSENT.decode()


def _batches() -> Iterator[list[list[Any]]]:
    batch, size = [], 0
    for line in sys.stdin.buffer:
        batch.append(json.loads(line))
        size += len(line)
        if size > 4 * BATCH_BYTES or len(batch) >= 10_000:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip the interpreter's shutdown, which the library's threads may crash.
    os._exit(status)
