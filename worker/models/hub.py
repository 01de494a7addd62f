"""Models of the hub: their look-up, and their download with progress.

Everything goes through the cache of huggingface_hub, and is read from the folder of one commit. The
hub is asked here alone, in threads that are left when it does not answer in time, or when the run
must stop.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import constants, snapshot_download

from chesboard.hub import models
from chesboard.hub.download import run_watched
from chesboard.hub.errors import HubError, HubRequestError
from chesboard.hub.models import HubModel
from chesboard.loading import ModelError
from chesboard.reporting import RunStoppedError
from worker.models.progress import OnPhase, download_bar, ignore_phase

log = logging.getLogger(__name__)

T = TypeVar("T")


def look_up(
    name: str, revision: str | None = None, on_phase: OnPhase = ignore_phase
) -> HubModel | None:
    """None where the hub can't be asked: a model that is cached here loads without it.

    Raises:
        ModelError: no such model or revision, or no access to it.
        RunStoppedError: `on_phase` raised it.
    """
    try:
        return _watched(lambda: models.look_up(name, revision), on_phase)
    except RunStoppedError:
        raise
    except HubRequestError as error:
        raise ModelError(str(error)) from error
    except Exception as error:
        log.info("the hub does not answer for %s: %s", name, type(error).__name__)
        return None


def cached(name: str, revision: str | None = None) -> str:
    """The folder of a model in the hub's cache.

    Raises:
        ModelError: it is not there.
    """
    try:
        return snapshot_download(name, revision=revision, local_files_only=True)
    except Exception as error:
        at = f" at the revision “{revision}”" if revision else ""
        raise ModelError(
            f"The model “{name}”{at} is not on this worker, and the hub does not answer: the "
            "worker is offline (HF_HUB_OFFLINE) or has no connection. Connect it, or name a model "
            "of the models folder."
        ) from error


def download(model: HubModel, on_phase: OnPhase) -> str:
    """Download a model into the hub's cache and return its folder; at once if it is there.

    Raises:
        ModelError: the download failed.
        RunStoppedError: `on_phase` raised it, also while the network stalls; what has arrived is
            kept for the next try.
    """
    return _download(model.name, model.commit, list(model.patterns), on_phase)


def download_small_files(name: str, revision: str | None, on_phase: OnPhase) -> str:
    """The folder of a hub model with all of its files but the weights; without an answer of the
    hub, what is in its cache.

    Raises:
        ModelError: no such model or revision, no access to it, or the download failed.
        RunStoppedError: `on_phase` raised it.
    """
    try:
        commit = _watched(lambda: models.find_commit(name, revision), on_phase)
    except HubRequestError as error:
        raise ModelError(str(error)) from error
    except HubError as error:
        log.info("the hub does not answer for %s: %s", name, type(error).__name__)
        return cached(name, revision)
    return _download(name, commit, list(models.SMALL_FILES), on_phase)


def _download(name: str, commit: str, patterns: list[str], on_phase: OnPhase) -> str:
    wanted: dict[str, Any] = {"repo_id": name, "revision": commit, "allow_patterns": patterns}
    try:
        planned = _watched(lambda: snapshot_download(**wanted, dry_run=True), on_phase)
        total = sum(file.file_size for file in planned if file.will_download)
        if total:
            _refuse_without_room(name, total)
            _fetch(wanted, total, on_phase)
        return str(_watched(lambda: snapshot_download(**wanted), on_phase))
    except (RunStoppedError, ModelError):
        raise
    except Exception as error:
        reason = str(error).rstrip(".")
        raise ModelError(
            f"The model “{name}” can't be downloaded: {reason}. What has arrived is kept; "
            "resume the run to continue the download."
        ) from error


def _watched(ask: Callable[[], T], on_phase: OnPhase) -> T:
    return run_watched(lambda _: ask(), lambda _: on_phase("loading"))


def _refuse_without_room(name: str, total: int) -> None:
    folder = Path(constants.HF_HUB_CACHE).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if total > free:
        raise ModelError(
            f"The model “{name}” takes {total / 2**30:.1f} GiB to download, and the disk that "
            f"holds the hub's cache ({folder}) has {free / 2**30:.1f} GiB free. Make room, or set "
            "HF_HOME to another disk."
        )


def _fetch(wanted: dict[str, Any], total: int, on_phase: OnPhase) -> None:
    run_watched(
        lambda transfer: snapshot_download(**wanted, tqdm_class=download_bar(transfer)),
        lambda arrived: on_phase("downloading", min(arrived, total), total, "bytes"),
    )
    on_phase("downloading", total, total, "bytes")
