"""A training run's model: as a ZIP archive that is built while it is sent, and its removal.

Files are stored uncompressed: weights hardly compress, and it would take longer than sending.
"""

import io
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, BinaryIO, cast

from typing_extensions import Buffer

from app.core.errors import ConflictError, NotFoundError
from app.core.settings import get_settings
from app.models.queries import RESULT_FOLDER
from app.store.runs import FINAL, Run

CHUNK = 1 << 20


def result_folder(run: Run) -> Path:
    """The folder of a training run's trained model, as from_pretrained reads it.

    Raises:
        ConflictError: the run has not finished.
        NotFoundError: the run produces no model, or its folder is missing.
    """
    if run.kind != "train":
        raise NotFoundError(f"Run {run.id} is a {run.kind} run: only training leaves a model.")
    if run.status not in FINAL:
        raise ConflictError(
            f"Run {run.id} is {run.status}: its model is available once it has succeeded."
        )
    folder = get_settings().run_path(run.id) / RESULT_FOLDER
    if run.status != "succeeded" or not folder.is_dir():
        raise NotFoundError(f"Run {run.id} has left no model ({run.status}).")
    return folder


def remove_result(run_id: int) -> None:
    """Remove a run's model, if it has one.

    Renamed first: nobody finds a model of which only a part is left.
    """
    folder = get_settings().run_path(run_id)
    removed = folder / f"{RESULT_FOLDER}.removed"
    shutil.rmtree(removed, ignore_errors=True)
    with suppress(FileNotFoundError):
        (folder / RESULT_FOLDER).rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def zip_stream(folder: Path, name: str) -> Iterator[bytes]:
    """The folder's files as chunks of a ZIP archive, in which they lie under the directory `name`.

    All files are opened before the first chunk, so that a run deleted meanwhile is still sent
    whole.
    """
    buffer = _Buffer()
    with ExitStack() as stack:
        files = [
            (path.name, stack.enter_context(path.open("rb")))
            for path in sorted(folder.iterdir())
            if path.is_file()
        ]
        with zipfile.ZipFile(cast(IO[bytes], buffer), "w", zipfile.ZIP_STORED) as archive:
            for file_name, file in files:
                yield from _add(archive, f"{name}/{file_name}", file, buffer)
        yield buffer.take()


def _add(archive: zipfile.ZipFile, name: str, file: BinaryIO, buffer: "_Buffer") -> Iterator[bytes]:
    with archive.open(name, "w", force_zip64=True) as entry:
        while chunk := file.read(CHUNK):
            entry.write(chunk)
            yield buffer.take()


class _Buffer(io.RawIOBase):
    """A write-only sink for zipfile that hands out what was written since the last take().

    Not seekable, so zipfile writes sizes and checksums behind each file (data descriptors).
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        return len(chunk)

    def take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)
