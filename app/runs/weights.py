"""A training run's result as one download: a zip of its model folder, made while it is sent.

Stored, not compressed: weights hardly shrink, and packing them would take longer than sending.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, cast

from typing_extensions import Buffer

from app.core.errors import ConflictError, NotFoundError
from app.core.settings import get_settings
from app.store.runs import Run

CHUNK = 1 << 20


def result_folder(run: Run) -> Path:
    """The folder that a training run left, as from_pretrained opens it.

    Raises:
        ConflictError: the run is not finished.
        NotFoundError: the run leaves no model, or it is not there any more.
    """
    if run.kind != "train":
        raise NotFoundError(f"Run {run.id} is a {run.kind} run: only training leaves a model.")
    if run.status in ("queued", "running"):
        raise ConflictError(f"Run {run.id} is {run.status}: its model is there once it succeeded.")
    folder = get_settings().run_path(run.id) / "model"
    if run.status != "succeeded" or not folder.is_dir():
        raise NotFoundError(f"Run {run.id} has left no model ({run.status}).")
    return folder


def zip_stream(folder: Path, name: str) -> Iterator[bytes]:
    """The folder's files as a zip in pieces, under the directory `name`.

    All files are open before the first piece, so that a run which is deleted meanwhile is still
    sent whole.
    """
    outlet = _Outlet()
    with ExitStack() as stack:
        files = [
            (path.name, stack.enter_context(path.open("rb")))
            for path in sorted(folder.iterdir())
            if path.is_file()
        ]
        with zipfile.ZipFile(cast(IO[bytes], outlet), "w", zipfile.ZIP_STORED) as archive:
            for file_name, file in files:
                yield from _add(archive, f"{name}/{file_name}", file, outlet)
        yield outlet.take()


def _add(archive: zipfile.ZipFile, name: str, file: BinaryIO, outlet: "_Outlet") -> Iterator[bytes]:
    with archive.open(name, "w", force_zip64=True) as entry:
        while piece := file.read(CHUNK):
            entry.write(piece)
            yield outlet.take()


class _Outlet(io.RawIOBase):
    """What zipfile writes to: keeps the bytes until they are taken. It can't be rewound, so
    zipfile puts sizes behind each file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
