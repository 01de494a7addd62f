"""Datasets of the hub: previewed and stored by name.

The download goes to a temporary file while no transaction is open; then its files are read one
after the other into one dataset, as an upload is.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, BinaryIO, cast

from app.core.database import transaction
from app.core.errors import (
    ConflictError,
    InvalidInputError,
    TooLargeError,
    TooManyRequestsError,
    UnavailableError,
)
from app.core.settings import get_settings
from app.datasets import queries
from app.datasets.intake import Intake
from app.datasets.preview import preview_file
from app.datasets.progress import Progress
from app.datasets.schemas import (
    DatasetOut,
    HubDatasetRequest,
    HubPreviewRequest,
    HubSource,
    HubSplitOut,
    Preview,
)
from app.datasets.storing import MAX_NAME_CHARACTERS, CountedFile, checked_dataset_name, store_rows
from app.store.datasets import Dataset
from chesboard.formats.file_names import STORED_KINDS
from chesboard.formats.mapping import parse_mapping
from chesboard.formats.pairing import parse_pairing
from chesboard.formats.rows import shortened
from chesboard.hub.download import beginning, downloaded, run_watched
from chesboard.hub.errors import HubBusyError, HubError, HubRequestError
from chesboard.hub.repository import Repository, SplitError, choose, look_up
from chesboard.hub.rows import rows_of
from chesboard.hub.splits import HubSplit

FIRST_PART = 2 << 20
"""Of a file of lines, enough for a preview."""
WHOLE_TABLE = 64 << 20
"""A larger Parquet, Arrow or ORC file has no preview: its schema is at its end."""

MAX_AT_ONCE = 4
"""Each takes a thread of the server, and room on its disk."""
RETRY_SECONDS = 10
MAX_FILES_NAMED = 100

_places = threading.BoundedSemaphore(MAX_AT_ONCE)


def store_from_hub(wanted: HubDatasetRequest, progress: Progress) -> DatasetOut:
    """Download a split and store its pairs, all of them or nothing.

    Raises:
        InvalidInputError: no such dataset, revision or split, no access to it, or several splits.
        ConflictError: it is stored already, and `if_known` is refuse.
        TooLargeError: larger than the limit of uploads; said before it is downloaded.
        TooManyRequestsError: by the hub's rate limit, or too many downloads at a time.
        UnavailableError: offline, or the hub does not answer.
        FormatError: nothing in it can be used.
        UploadCancelledError: by the client.
    """
    intake = Intake(
        parse_mapping(_mapping(wanted)), progress, pairing=parse_pairing(wanted.pairing)
    )
    name = checked_dataset_name(wanted.name)
    with _place(), _explained():
        repository, split = _find(wanted, progress)
        with transaction() as session:
            key = (repository.name, split.config, split.name, repository.revision)
            known = queries.find_by_hub(session, *key)
        if known and wanted.if_known == "refuse":
            raise _stored_already(known[0])
        progress.begin("downloading", split.size)
        with downloaded(repository, split, _reported(progress)) as found:
            progress.begin("reading", split.size)
            dataset = Dataset(
                name=name or _default_name(repository, split),
                source_filename=_filename(split),
                source_sha256=found.sha256,
                source_bytes=split.size,
                hub_name=repository.name,
                hub_config=split.config,
                hub_split=split.name,
                hub_revision=repository.revision,
            )
            warnings: list[str] = []
            rows = rows_of(
                found,
                get_settings().max_upload_bytes,
                warnings,
                lambda file: CountedFile(cast(BinaryIO, file), progress),
            )
            with transaction() as session:
                store_rows(session, dataset, rows, intake, progress, warnings)
                stored = queries.get_dataset(session, dataset.id)
    return stored.model_copy(update={"same_file": [earlier.id for earlier in known]})


def preview_from_hub(wanted: HubPreviewRequest, progress: Progress) -> Preview:
    """How the first rows of a split would be parsed; fetches only what it needs for that.

    Raises:
        InvalidInputError, TooLargeError, TooManyRequestsError, UnavailableError: see
            `store_from_hub`; InvalidInputError also for a table that is too large for a preview.
        FormatError: the first rows cannot be read.
    """
    mapping = _mapping(wanted)
    # What is wrong with these is said before anything is fetched.
    parse_mapping(mapping)
    parse_pairing(wanted.pairing)
    with _place(), _explained():
        repository, split = _find(wanted, progress)
        first = split.files[0]
        size = first.size if first.kind in STORED_KINDS else FIRST_PART
        if size > WHOLE_TABLE:
            raise _too_large_to_preview(repository, split)
        progress.begin("downloading", min(size, first.size))
        with beginning(repository, first, size, _reported(progress)) as file:
            seen = preview_file(
                cast(BinaryIO, file),
                PurePath(first.path).name,
                max_bytes=get_settings().max_upload_bytes,
                mapping=mapping,
                pairing=wanted.pairing,
                is_whole=first.size <= size,
            )
    is_whole = seen.is_whole and len(split.files) == 1
    return seen.model_copy(update={"hub": _source(repository, split), "is_whole": is_whole})


def _find(wanted: HubPreviewRequest, progress: Progress) -> tuple[Repository, HubSplit]:
    """The split that is asked for; refused here if it is too large."""
    repository = run_watched(lambda _: look_up(wanted.hub, wanted.revision), _checked(progress))
    split = choose(repository, wanted.config, wanted.split)
    limit = get_settings().max_upload_bytes
    if split.size > limit:
        raise TooLargeError(
            f"The split “{split.name}” has {split.size:,} bytes, but this server accepts {limit:,} "
            "(CHESBOARD_MAX_UPLOAD_BYTES). Nothing was downloaded."
        )
    return repository, split


def _checked(progress: Progress) -> Any:
    return lambda _: progress.check()


def _reported(progress: Progress) -> Any:
    def report(arrived: int) -> None:
        progress.check()
        progress.bytes_done = arrived

    return report


def _mapping(wanted: HubPreviewRequest) -> str | None:
    """As the form has it."""
    return None if wanted.mapping is None else json.dumps(wanted.mapping)


def _default_name(repository: Repository, split: HubSplit) -> str:
    config = "" if split.config == "default" else f"{split.config}, "
    return shortened(f"{repository.name}: {config}{split.name}")[:MAX_NAME_CHARACTERS]


def _filename(split: HubSplit) -> str:
    more = len(split.files) - 1
    return shortened(split.files[0].path) + (f" and {more} more" if more else "")


def _source(repository: Repository, split: HubSplit) -> HubSource:
    return HubSource(
        name=repository.name,
        config=split.config,
        split=split.name,
        revision=repository.revision,
        files=[file.path for file in split.files[:MAX_FILES_NAMED]],
        bytes=split.size,
        splits=_splits(repository),
    )


def _splits(repository: Repository) -> list[HubSplitOut]:
    return [
        HubSplitOut(config=one.config, split=one.name, files=len(one.files), bytes=one.size)
        for one in repository.splits
    ]


def _stored_already(dataset: Dataset) -> ConflictError:
    error = ConflictError(
        f"This split of this commit is stored already, as dataset {dataset.id} "
        f"(“{dataset.name}”). Send if_known=store to store it again.",
        dataset_id=dataset.id,
    )
    error.headers = {"Location": f"/api/v1/datasets/{dataset.id}"}
    return error


def _too_large_to_preview(repository: Repository, split: HubSplit) -> InvalidInputError:
    error = InvalidInputError(
        f"The first file of the split “{split.name}” is a table of {split.files[0].size:,} bytes, "
        "which is too large for a preview. It can be stored without one."
    )
    error.members = {"hub": _source(repository, split).model_dump()}
    return error


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(blocking=False):
        raise TooManyRequestsError(
            f"{MAX_AT_ONCE} datasets are being fetched from the hub. Wait for one of them.",
            RETRY_SECONDS,
        )
    try:
        yield
    finally:
        _places.release()


@contextmanager
def _explained() -> Iterator[None]:
    """What is wrong with the hub, as an error of a request."""
    try:
        yield
    except SplitError as error:
        refused = _invalid(error)
        splits = [split.model_dump() for split in _splits(error.repository)]
        refused.members = {"revision": error.repository.revision, "splits": splits}
        raise refused from error
    except HubRequestError as error:
        raise _invalid(error) from error
    except HubBusyError as error:
        raise TooManyRequestsError(str(error), error.wait_seconds) from error
    except HubError as error:
        raise UnavailableError(str(error)) from error


def _invalid(error: HubRequestError) -> InvalidInputError:
    return InvalidInputError(str(error), [{"field": error.field, "message": str(error)}])
