"""Models of the hub: their commit and weights, and the files that a model is read from."""

from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HFValidationError, NotASafetensorsRepoError

from chesboard.hub.errors import TRANSPORT_ERRORS, HubRequestError, explain

LOOKUP_SECONDS = 10.0

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""Configuration, tokenizer and chat templates, wherever a model has them."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model at one commit. files: its safetensors files, with `parameters` in all."""

    name: str
    commit: str
    parameters: int
    files: tuple[str, ...]

    @property
    def patterns(self) -> Sequence[str]:
        """The files that a model is read from; what else a repository holds is not fetched."""
        return [*self.files, *SMALL_FILES]


def look_up(name: str, revision: str | None = None) -> HubModel:
    """The model at a branch, tag or commit; default: its main branch.

    Raises:
        HubError: no such model or revision, no access, no safetensors, offline.
    """
    commit = find_commit(name, revision)
    try:
        api = HfApi(endpoint=constants.ENDPOINT)
        metadata = api.get_safetensors_metadata(name, revision=commit)
    except NotASafetensorsRepoError:
        raise HubRequestError(
            f"The model “{name}” has no safetensors files on the hub, and others are not opened.",
            "model",
        ) from None
    except (HFValidationError, *TRANSPORT_ERRORS) as error:
        raise explain(error, name, revision, "model") from None
    return HubModel(
        name, commit, sum(metadata.parameter_count.values()), tuple(metadata.files_metadata)
    )


def find_commit(name: str, revision: str | None = None) -> str:
    """The commit of a model that a branch, tag or commit names; default: its main branch.

    Raises:
        HubError: no such model or revision, no access, offline.
    """
    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(
            name, revision=revision, timeout=LOOKUP_SECONDS
        )
    except (HFValidationError, *TRANSPORT_ERRORS) as error:
        raise explain(error, name, revision, "model") from None
    return info.sha or revision or "main"


def fetch(name: str, revision: str) -> str:
    """Download a model at a revision, unless it is there already, and return its folder.

    Raises:
        HubError: see `look_up`.
    """
    model = look_up(name, revision)
    try:
        return snapshot_download(name, revision=model.commit, allow_patterns=list(model.patterns))
    except TRANSPORT_ERRORS as error:
        raise explain(error, name, revision, "model") from None
