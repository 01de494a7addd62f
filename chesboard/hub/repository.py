"""Looks up a dataset on the hub: its commit, its splits with their sizes, and the one asked for."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

from huggingface_hub import DatasetCard, constants, get_token, hf_hub_url
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    HFValidationError,
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from chesboard.hub.errors import (
    TRANSPORT_ERRORS,
    HubError,
    HubRequestError,
    HubUnreachableError,
    explain,
)
from chesboard.hub.splits import SYNONYMS, HubFile, HubSplit, find_splits

log = logging.getLogger(__name__)

TIMEOUT: Any = (2.0, 10.0, 10.0, 10.0)
"""Seconds to connect (so that a server without a network says so at once), read, write, wait."""

CONVERTED = "refs/convert/parquet"
"""The branch in which the hub keeps a dataset's main branch as Parquet."""

CARD = "README.md"
MAX_CARD_BYTES = 2 << 20
MAX_FILES = 50_000
NAMED_SPLITS = 40


@dataclass(frozen=True, slots=True)
class Repository:
    """A dataset on the hub at one commit. revision: the commit's id."""

    name: str
    revision: str
    splits: tuple[HubSplit, ...]


class SplitError(HubRequestError):
    """No split was named where there are several, or one that is not there."""

    def __init__(self, message: str, field: str, repository: Repository) -> None:
        super().__init__(message, field)
        self.repository = repository


def token() -> str | bool:
    """HF_TOKEN, or what this account has logged in to the hub with; False for neither."""
    return get_token() or False


def look_up(name: str, revision: str | None = None) -> Repository:
    """The dataset at a branch, tag or commit; default: its main branch.

    A repository without readable files is looked up in the hub's conversion to Parquet.

    Raises:
        HubError: no such dataset or revision, no access, offline, or nothing in it to be read; or
            huggingface-hub is older than 1.
    """
    _refuse_old_client()
    try:
        validate_repo_id(name)
        commit = _commit(name, revision)
        files = _files(name, commit)
        splits = find_splits(files, _card(name, commit, files))
        if not splits:
            commit, splits = _converted(name, revision, files)
    except (HFValidationError, *TRANSPORT_ERRORS) as error:
        raise _told(error, name, revision) from None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("the hub's answer about %s is not understood: %s", name, type(error).__name__)
        raise HubUnreachableError(
            "The hub's answer is not understood. Is HF_ENDPOINT the address of a hub?"
        ) from None
    return Repository(name, commit, tuple(splits))


def _refuse_old_client() -> None:
    """The hub's client before 1, which transformers before 5 keeps, is no httpx client."""
    if not hasattr(get_session(), "stream"):
        raise HubError(
            "Datasets of the hub are read by huggingface-hub 1 or later. Update it and "
            "transformers, or download the file (`hf download --repo-type dataset NAME`) and name "
            "that."
        )


def _told(error: Exception, name: str, revision: str | None) -> Exception:
    log.info("the hub does not give %s: %s", name, type(error).__name__)
    return explain(error, name, revision)


def ask(address: str, **headers: str) -> Any:
    """GET, following redirects. The token goes to the hub alone, not where that redirects to."""
    response = get_session().get(
        address, headers={**build_hf_headers(token=token()), **headers}, timeout=TIMEOUT
    )
    hf_raise_for_status(response)
    return response


def _commit(name: str, revision: str | None) -> str:
    at = f"/revision/{quote(revision, safe='')}" if revision else ""
    return str(ask(f"{constants.ENDPOINT}/api/datasets/{name}{at}").json()["sha"])


def _files(name: str, commit: str) -> list[HubFile]:
    tree = f"{constants.ENDPOINT}/api/datasets/{name}/tree/{commit}?recursive=true"
    found = [
        RepoFile(**entry)  # type: ignore[no-untyped-call]
        for entry in islice(_pages(tree), MAX_FILES + 1)
        if entry.get("type") == "file"
    ]
    if len(found) > MAX_FILES:
        raise HubRequestError(
            f"The dataset “{name}” has more than {MAX_FILES:,} files. Download what you need of "
            "it, and upload that."
        )
    return [
        HubFile(one.path, one.size, one.blob_id, one.lfs.sha256 if one.lfs else None)
        for one in found
    ]


def _pages(address: str) -> Iterator[dict[str, Any]]:
    while address:
        response = ask(address)
        yield from response.json()
        address = response.links.get("next", {}).get("url", "")
        if address and not address.startswith(f"{constants.ENDPOINT}/"):
            raise ValueError("the list of files goes on at another server")


def _card(name: str, commit: str, files: Sequence[HubFile]) -> Mapping[str, Any]:
    """The metadata at the beginning of README.md; empty where there is none."""
    if not any(file.path == CARD and file.size <= MAX_CARD_BYTES for file in files):
        return {}
    text = ask(file_address(name, commit, CARD)).text
    try:
        found: Mapping[str, Any] = DatasetCard(text, ignore_metadata_errors=True).data.__dict__
    except Exception as error:  # what a parser of YAML raises is open-ended
        log.info("the card of %s cannot be read: %s", name, type(error).__name__)
        return {}
    return found


def file_address(name: str, commit: str, path: str) -> str:
    return hf_hub_url(name, path, repo_type="dataset", revision=commit, endpoint=constants.ENDPOINT)


def _converted(
    name: str, revision: str | None, files: Sequence[HubFile]
) -> tuple[str, list[HubSplit]]:
    """The hub's conversion of the main branch. Another revision has none.

    Raises:
        HubRequestError: there is none.
    """
    if revision in (None, "main"):
        try:
            commit = _commit(name, CONVERTED)
            if splits := find_splits(_files(name, commit)):
                return commit, splits
        except RevisionNotFoundError:
            pass
    script = any(file.path == f"{name.rsplit('/', 1)[-1]}.py" for file in files)
    raise HubRequestError(
        f"The dataset “{name}” holds no Parquet, JSON, JSONL or CSV files"
        + (", only a script, and code from the hub is not run" if script else "")
        + ". Convert it to Parquet or JSONL, and upload that."
    )


def choose(repository: Repository, config: str | None, split: str | None) -> HubSplit:
    """The split that is asked for, or the only one.

    Raises:
        SplitError: none is named and there are several, or there is no such; lists all.
    """
    of_config = [s for s in repository.splits if config is None or s.config == config]
    if not of_config:
        raise _split_error(repository, f"has no configuration “{config}”", "config")
    found = [s for s in of_config if split in (None, s.name)]
    found = found or [s for s in of_config if _canonical(s.name) == _canonical(split)]
    if len(found) > 1 and split is not None:
        found = [s for s in found if s.is_default] or found
    if len(found) == 1:
        return found[0]
    if found and split is not None:
        configs = ", ".join(s.config for s in found[:NAMED_SPLITS])
        raise _split_error(
            repository, f"has the split “{split}” in several configurations ({configs})", "config"
        )
    what = f"has no split “{split}”" if split else "has several splits"
    raise _split_error(repository, what, "split")


def _canonical(split: str | None) -> str | None:
    return SYNONYMS.get(split or "", split)


def _split_error(repository: Repository, what: str, field: str) -> SplitError:
    listed = [
        f"{split.config}/{split.name} ({_size(split.size)})"
        for split in repository.splits[:NAMED_SPLITS]
    ]
    more = len(repository.splits) - len(listed)
    there = ", ".join(listed) + (f" and {more} more" if more > 0 else "")
    return SplitError(
        f"The dataset “{repository.name}” {what}. Name one as config/split: {there}.",
        field,
        repository,
    )


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
