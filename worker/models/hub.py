"""Weights of hub models: how many there are, and their download, with progress.

Only safetensors files are downloaded here; transformers fetches the small files (configuration,
tokenizer) when it opens the model. Everything goes through the cache of huggingface_hub.
"""

import logging
from dataclasses import dataclass
from typing import Any

from huggingface_hub import get_safetensors_metadata, snapshot_download

from chesboard.reporting import RunStoppedError
from worker.models.files import ModelError
from worker.models.progress import OnPhase, download_bar

log = logging.getLogger(__name__)


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
    """Bring the weights into the hub's cache. Returns at once where they are there.

    Raises:
        ModelError: the download failed.
        RunStoppedError: `on_phase` raised it; what is downloaded is kept for the next try.
    """
    wanted: dict[str, Any] = {"repo_id": weights.name, "allow_patterns": list(weights.files)}
    try:
        planned = snapshot_download(**wanted, dry_run=True)
        total = sum(file.file_size for file in planned if file.will_download)
        if not total:
            return
        on_phase("downloading", 0, total, "bytes")
        snapshot_download(**wanted, tqdm_class=download_bar(on_phase, total))
    except RunStoppedError:
        raise
    except Exception as error:
        raise ModelError(
            f"The model “{weights.name}” can't be downloaded: {error}. What has arrived is kept; "
            "resume the run to continue the download."
        ) from error
