"""Weights of hub models: how many there are, and their download, with progress.

Only safetensors files are downloaded here; transformers fetches the small files (configuration,
tokenizer) when it opens the model. Everything goes through the cache of huggingface_hub.
"""

import logging
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from huggingface_hub import get_safetensors_metadata, snapshot_download

from chesboard.loading import ModelError
from chesboard.reporting import RunStoppedError
from worker.models.progress import OnPhase, Transfer, download_bar

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
"""Between two reports of a download, and two checks whether it is to stop."""


@dataclass(frozen=True, slots=True)
class HubWeights:
    """What the hub says of a model's safetensors files."""

    name: str
    parameters: int
    files: tuple[str, ...]


def look_up(name: str) -> HubWeights | None:
    """None where the hub can't be asked: a model that is cached here loads without it."""
    try:
        metadata = get_safetensors_metadata(name)
    except Exception as error:
        log.info("the hub does not answer for %s: %s", name, error)
        return None
    return HubWeights(name, sum(metadata.parameter_count.values()), tuple(metadata.files_metadata))


def download(weights: HubWeights, on_phase: OnPhase) -> None:
    """Download the weights into the hub's cache. Returns at once if they are there.

    Raises:
        ModelError: the download failed.
        RunStoppedError: `on_phase` raised it, also while the network stalls; what has arrived is
            kept for the next try.
    """
    wanted: dict[str, Any] = {"repo_id": weights.name, "allow_patterns": list(weights.files)}
    try:
        planned = snapshot_download(**wanted, dry_run=True)
        total = sum(file.file_size for file in planned if file.will_download)
        if total:
            _fetch(wanted, total, on_phase)
    except RunStoppedError:
        raise
    except Exception as error:
        raise ModelError(
            f"The model “{weights.name}” can't be downloaded: {error}. What has arrived is kept; "
            "resume the run to continue the download."
        ) from error


def _fetch(wanted: dict[str, Any], total: int, on_phase: OnPhase) -> None:
    """Download in a thread, so that the run can be stopped although no data arrive."""
    transfer = Transfer()
    fetching: Future[str] = Future()

    def fetch() -> None:
        try:
            fetching.set_result(snapshot_download(**wanted, tqdm_class=download_bar(transfer)))
        except BaseException as error:
            fetching.set_exception(error)

    threading.Thread(target=fetch, name="download", daemon=True).start()
    try:
        while not fetching.done():
            on_phase("downloading", min(transfer.bytes, total), total, "bytes")
            wait([fetching], timeout=REPORT_SECONDS)
    except RunStoppedError:
        transfer.stop()
        raise
    fetching.result()
    on_phase("downloading", total, total, "bytes")
