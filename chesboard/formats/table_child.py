"""The child process that decodes and encodes tables: `python -P table_child.py TASK`.

It imports nothing of this package, so that it can be run by its path.

parquet, arrow, stream, orc: a table of this kind on stdin, its rows on stdout as JSON objects, one
a line.
zstd: compressed data on stdin, decompressed on stdout.
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
from collections.abc import Callable, Iterator
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
COPY_BYTES = 1 << 18

DAMAGED = {
    "parquet": "The Parquet file",
    "arrow": "The Arrow file",
    "stream": "The Arrow stream",
    "orc": "The ORC file",
    "zstd": "The file packed with zstd",
    "write": "The table",
}


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
    tasks: dict[str, Callable[[], None]] = {
        "parquet": lambda: _read(_parquet),
        "arrow": lambda: _read(_arrow_file),
        "stream": lambda: _read(_arrow_stream),
        "orc": lambda: _read(_orc),
        "zstd": _decompress,
        "write": _write,
    }
    try:
        tasks[task]()
    except (_TableError, pa.ArrowException, MemoryError, OSError, ValueError, OverflowError) as e:
        message = str(e) if isinstance(e, _TableError) else f"{DAMAGED[task]} is damaged: {e}"
        print(json.dumps({"error": message[:500]}), file=sys.stderr)
        return 3
    return 0


def _read(open_table: Callable[[Any], tuple[Any, Iterator[Any]]]) -> None:
    """Write the rows of a table: `open_table` gives its schema and its record batches."""
    # Unbuffered, and read by this thread alone: a buffer's lock held by another thread of the
    # library at exit would abort the process.
    schema, batches = open_table(io.FileIO(0, closefd=False))
    names = schema.names
    if len(set(names)) < len(names):
        raise _TableError("The table names a column twice.")
    if len(names) > MAX_COLUMNS:
        raise _TableError(f"The table has more than {MAX_COLUMNS:,} columns.")
    kinds = {field.name: (field.metadata or {}).get(FIELD_KIND, b"").split() for field in schema}
    out = sys.stdout.buffer
    for batch in batches:
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


def _parquet(stdin: io.FileIO) -> tuple[Any, Iterator[Any]]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(stdin, pre_buffer=False)

    def batches() -> Iterator[Any]:
        for group in range(table.num_row_groups):
            about = table.metadata.row_group(group)
            rows = _batch_rows(about.total_byte_size, about.num_rows)
            yield from table.iter_batches(rows, [group], use_threads=False)

    return table.schema_arrow, batches()


def _arrow_file(stdin: io.FileIO) -> tuple[Any, Iterator[Any]]:
    import pyarrow as pa

    table = pa.ipc.open_file(stdin)
    stored = (table.get_batch(number) for number in range(table.num_record_batches))
    return table.schema, _sliced(stored)


def _arrow_stream(stdin: io.FileIO) -> tuple[Any, Iterator[Any]]:
    import pyarrow as pa

    table = pa.ipc.open_stream(stdin)
    return table.schema, _sliced(iter(table))


def _orc(stdin: io.FileIO) -> tuple[Any, Iterator[Any]]:
    from pyarrow import orc

    table = orc.ORCFile(stdin)
    return table.schema, _sliced(table.read_stripe(number) for number in range(table.nstripes))


def _sliced(batches: Iterator[Any]) -> Iterator[Any]:
    """Batches of a bounded size. Those in Arrow's own format are validated: it has no checksums,
    and an offset out of bounds would read memory that is not the file's."""
    for batch in batches:
        batch.validate(full=True)
        rows = _batch_rows(batch.nbytes, batch.num_rows)
        for at in range(0, batch.num_rows, rows):
            yield batch.slice(at, rows)


def _batch_rows(size: int, rows: int) -> int:
    """How many rows to hold at once as Python objects."""
    a_row = max(1, size // max(1, rows))
    return max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // a_row))


def _decompress() -> None:
    import pyarrow as pa

    with pa.CompressedInputStream(io.FileIO(0, closefd=False), "zstd") as plain:
        while data := plain.read(COPY_BYTES):
            sys.stdout.buffer.write(data)


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
