"""Looking up a dataset: commit, splits, and what is said where that is not possible."""

import socket
import time

import pytest
from huggingface_hub import constants

from chesboard.hub.errors import HubBusyError, HubError, HubRequestError, HubUnreachableError
from chesboard.hub.repository import SplitError, choose, look_up
from tests.hub_server import HubServer, Repo, commit_of

NAME = "acme/pairs"
CARD = b"""---
license: mit
configs:
- config_name: default
  data_files:
  - {split: train, path: "a/*"}
  - {split: test, path: "b/*"}
---
# Pairs
"""


def test_a_dataset_is_looked_up_with_its_commit_and_all_pages_of_its_files(hub: HubServer) -> None:
    hub.repos[NAME] = Repo({f"data/train-{n:05d}-of-00007.parquet": b"12" for n in range(7)})
    found = look_up(NAME)
    assert found.revision == commit_of(NAME, "main")
    (split,) = found.splits
    assert (split.config, split.name, len(split.files), split.size) == ("default", "train", 7, 14)
    assert choose(found, None, None) == split


def test_the_card_is_read_and_one_that_is_not_yaml_is_passed_over(hub: HubServer) -> None:
    files = {"a/1.jsonl": b"1", "b/1.jsonl": b"1"}
    hub.repos[NAME] = Repo({**files, "README.md": CARD})
    assert [split.name for split in look_up(NAME).splits] == ["train", "test"]
    hub.repos[NAME] = Repo({**files, "README.md": b"---\n{]: [\n---\n"})
    assert [(one.config, one.name) for one in look_up(NAME).splits] == [
        ("default", "a"),
        ("default", "b"),
    ]


def test_branches_tags_and_commits(hub: HubServer) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": b"1"}, {"refs/pr/2": {"train.jsonl": b"22"}})
    commit = commit_of(NAME, "refs/pr/2")
    assert look_up(NAME, "refs/pr/2").revision == commit
    assert look_up(NAME, commit).splits[0].size == 2
    with pytest.raises(HubRequestError, match=r"no revision “v9”. Name a branch") as caught:
        look_up(NAME, "v9")
    assert caught.value.field == "revision"


def test_a_dataset_of_a_script_is_read_in_the_hubs_conversion(hub: HubServer) -> None:
    converted = {"default/train/0000.parquet": b"1", "default/test/0000.parquet": b"2"}
    hub.repos[NAME] = Repo({"pairs.py": b"print()"}, {"refs/convert/parquet": converted})
    found = look_up(NAME)
    assert found.revision == commit_of(NAME, "refs/convert/parquet")
    assert {split.name for split in found.splits} == {"train", "test"}
    with pytest.raises(HubRequestError, match="code from the hub is not run"):
        look_up(NAME, commit_of(NAME, "main"))  # the conversion is of another commit, maybe
    hub.repos[NAME].branches.clear()
    with pytest.raises(HubRequestError, match=r"holds no Parquet.*only a script"):
        look_up(NAME)


@pytest.mark.parametrize("name", ["acme/none", "none-at-all/x"])
def test_a_missing_one(hub: HubServer, name: str) -> None:
    with pytest.raises(HubRequestError, match=r"no dataset “.*”, or a private one.*HF_TOKEN"):
        look_up(name)


@pytest.mark.parametrize("name", ["a/b/c", "../up", "https://x.org/a", "a..b/c", "", "ä/ö"])
def test_what_is_no_name_asks_nobody(hub: HubServer, name: str) -> None:
    with pytest.raises(HubRequestError, match="is no name of a dataset"):
        look_up(name)
    assert hub.requests == []


def test_a_gated_one_says_where_to_accept_its_terms(hub: HubServer) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": b"1", "README.md": CARD}, gated=True)
    with pytest.raises(HubRequestError, match=r"gated.*/datasets/acme/pairs, logged in.*HF_TOKEN"):
        look_up(NAME)


def test_a_rate_limit_says_how_long(hub: HubServer) -> None:
    hub.limited = True
    with pytest.raises(HubBusyError, match="in 120 seconds") as caught:
        look_up(NAME)
    assert caught.value.wait_seconds == 120


def test_offline_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE"):
        look_up(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(HubUnreachableError, match="no connection"):
            look_up(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    with pytest.raises(HubUnreachableError, match="no connection"):
        look_up(NAME)
    assert time.monotonic() - started < 2


def test_what_is_no_hub_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.hub_server.Handler._api", lambda self, *_: self._json(["no hub"]))
    with pytest.raises(HubUnreachableError, match="HF_ENDPOINT"):
        look_up(NAME)


def test_the_token_is_the_servers_and_in_no_message(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    hub.repos[NAME] = Repo({"train.jsonl": b"1", "README.md": CARD}, gated=True)
    with pytest.raises(HubError):
        look_up(NAME)
    assert all("authorization" not in headers for _, headers in hub.requests)
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    hub.requests.clear()
    with pytest.raises(HubError) as caught:
        look_up(NAME)
    assert {headers["authorization"] for _, headers in hub.requests} == {"Bearer hf_very_secret"}
    assert "very_secret" not in str(caught.value) + caplog.text


def test_where_there_are_several_splits_one_is_to_be_named(hub: HubServer) -> None:
    hub.repos[NAME] = Repo(
        {
            "data/train-00000-of-00001.parquet": b"1" * 3000,
            "data/val-00000-of-00001.parquet": b"1",
            "en/train.jsonl": b"1",
            "en/hard.jsonl": b"1",
        }
    )
    found = look_up(NAME)
    with pytest.raises(SplitError, match=r"several splits.*default/train \(3 KB\), .*en/hard"):
        choose(found, None, None)
    with pytest.raises(SplitError, match=r"no split “nope”.*default/val \(1 B\)") as caught:
        choose(found, None, "nope")
    assert (caught.value.field, caught.value.repository) == ("split", found)
    with pytest.raises(SplitError, match="no configuration “de”"):
        choose(found, "de", "train")
    assert choose(found, "en", "train").files[0].path == "en/train.jsonl"
    assert choose(found, None, "hard").config == "en"
    assert choose(found, None, "train").config == "default"
    assert choose(found, None, "validation").name == "val"


def test_a_split_of_several_configurations_is_not_guessed(hub: HubServer) -> None:
    hub.repos[NAME] = Repo({"en/train.jsonl": b"1", "de/train.jsonl": b"1"})
    with pytest.raises(SplitError, match=r"in several configurations \(de, en\)") as caught:
        choose(look_up(NAME), None, "train")
    assert caught.value.field == "config"


def test_a_client_of_the_hub_that_cannot_download_says_so(hub: HubServer, monkeypatch) -> None:
    hub.repos[NAME] = Repo({"a.jsonl": b"1"})
    monkeypatch.setattr("chesboard.hub.repository.get_session", lambda: object())
    with pytest.raises(HubError, match="huggingface-hub 1 or later"):
        look_up(NAME)
