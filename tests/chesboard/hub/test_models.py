"""Models of the hub: their commit, and what is said of those that cannot be had."""

from typing import Any

import pytest
import torch
from safetensors.torch import save

from chesboard.configs import ScoreConfig
from chesboard.hub.errors import HubRequestError, HubUnreachableError
from chesboard.hub.models import look_up
from chesboard.loading import ModelError, load
from tests.hub_server import HubServer, Repo, commit_of

NAME = "acme/tiny"
FILES = {"config.json": b"{}", "model.safetensors": save({"weight": torch.zeros(3, 4)})}


def test_a_model_is_looked_up_at_the_commit_of_its_revision(hub: HubServer) -> None:
    hub.repos[NAME] = Repo({}, {"v1": FILES})
    found = look_up(NAME, "v1")
    assert (found.commit, found.parameters) == (commit_of(NAME, "v1"), 12)
    assert found.files == ("model.safetensors",)
    assert all(path.split("/")[4] == found.commit for path, _ in hub.requests if "resolve" in path)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"name": "acme/none"}, "no model “acme/none”, or a private one.*HF_TOKEN"),
        ({"name": NAME, "revision": "v9"}, "no revision “v9”"),
        ({"name": "acme/pickled"}, "no safetensors files"),
        ({"name": "acme/gated"}, r"gated.*/acme/gated, logged in"),
    ],
)
def test_what_cannot_be_had_is_said(hub: HubServer, named: dict[str, Any], said: str) -> None:
    hub.repos[NAME] = Repo(FILES)
    hub.repos["acme/pickled"] = Repo({"config.json": b"{}", "pytorch_model.bin": b"0"})
    hub.repos["acme/gated"] = Repo(FILES, gated=True)
    with pytest.raises(HubRequestError, match=said):
        look_up(**named)


def test_offline() -> None:
    with pytest.raises(HubUnreachableError, match="offline"):
        look_up(NAME)
    with pytest.raises(ModelError, match="offline"):
        load(ScoreConfig(model=NAME, revision="v1", device="cpu"))


def test_a_folder_has_no_revision(tiny_model_dir: Any) -> None:
    with pytest.raises(ModelError, match="it has no revision “v1”"):
        load(ScoreConfig(model=str(tiny_model_dir), revision="v1", device="cpu"))
