"""Downloads of a split: whole and verified or not at all, resumed, and stopped at once."""

import hashlib
import threading
import time
from typing import Any

import pytest

from chesboard.hub import download
from chesboard.hub.download import beginning, downloaded, run_watched
from chesboard.hub.errors import HubBusyError, HubError, HubRequestError, HubUnreachableError
from chesboard.hub.repository import Repository, choose, look_up
from tests.hub_server import HubServer, Repo

NAME = "acme/pairs"
FIRST, SECOND = b"first" * 40_000, b"second" * 10_000
FILES = {"train-00000-of-00002.jsonl": FIRST, "train-00001-of-00002.jsonl": SECOND}


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(download, "WATCH_SECONDS", 0.02)


@pytest.fixture(params=[False, True], ids=["git", "lfs"])
def repository(hub: HubServer, request: pytest.FixtureRequest) -> Repository:
    hub.repos[NAME] = Repo(FILES, lfs=request.param)
    return look_up(NAME)


def contents(repository: Repository, on_bytes: Any = lambda _: None) -> list[bytes]:
    with downloaded(repository, choose(repository, None, None), on_bytes) as found:
        assert found.sha256 == hashlib.sha256(FIRST + SECOND).hexdigest()
        return [file.read() for _, file in found.each()]


def test_files_arrive_as_they_are_listed_and_are_counted(
    hub: HubServer, repository: Repository
) -> None:
    seen: list[int] = []
    assert contents(repository, seen.append) == [FIRST, SECOND]
    assert seen[-1] == len(FIRST + SECOND)
    assert seen == sorted(seen)
    assert hub.downloads() == list(FILES)


def test_a_single_file_is_not_copied(hub: HubServer) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": FIRST})
    repository = look_up(NAME)
    with downloaded(repository, repository.splits[0], lambda _: None) as found:
        ((listed, file),) = found.each()
        assert file is found.file
        assert (listed.path, file.read()) == ("train.jsonl", FIRST)
    assert file.closed


def test_of_a_long_file_its_beginning_is_fetched_alone(hub: HubServer) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": FIRST})
    repository = look_up(NAME)
    (listed,) = repository.splits[0].files
    seen: list[int] = []
    with beginning(repository, listed, 1000, seen.append) as file:
        assert file.read() == FIRST[:1000]
    assert seen[-1] == 1000
    with beginning(repository, listed, 10**9, seen.append) as file:
        assert file.read() == FIRST


def test_a_broken_connection_is_continued_from_where_it_broke(
    hub: HubServer, repository: Repository
) -> None:
    hub.cuts = [70_000, 50_000]
    assert contents(repository) == [FIRST, SECOND]
    ranges = [h.get("Range") for path, h in hub.requests if "/resolve/" in path]
    assert ranges == [None, "bytes=70000-199999", "bytes=120000-199999", None]


@pytest.mark.parametrize("statuses", [[503], [500, 502, 504, 429]])
def test_passing_failures_are_tried_again(
    hub: HubServer, repository: Repository, statuses: list[int]
) -> None:
    hub.statuses = list(statuses)
    assert contents(repository) == [FIRST, SECOND]


def test_lasting_failures_are_not(hub: HubServer, repository: Repository) -> None:
    hub.statuses = [503] * 20
    with pytest.raises(HubUnreachableError, match="status 503"):
        contents(repository)
    assert len(hub.downloads()) == download.ATTEMPTS
    hub.statuses = [403]
    with pytest.raises(HubRequestError, match="refuses access"):
        contents(repository)
    hub.limited = True
    with pytest.raises(HubBusyError):
        contents(repository)


def test_one_that_always_breaks_off_is_an_error(hub: HubServer, repository: Repository) -> None:
    hub.cuts = [10] * 20
    with pytest.raises(
        HubUnreachableError, match=r"train-00000.*as the hub lists it|no connection"
    ):
        contents(repository)
    assert len(hub.downloads()) == download.ATTEMPTS


@pytest.mark.parametrize(("fault", "said"), [("corrupt", "checksum"), ("resized", "more bytes")])
def test_other_bytes_than_listed_are_an_error(
    hub: HubServer, repository: Repository, fault: str, said: str
) -> None:
    setattr(hub, fault, True)
    with pytest.raises(HubUnreachableError, match=said):
        contents(repository)


def test_a_gated_file(hub: HubServer, repository: Repository) -> None:
    hub.repos[NAME].gated = True
    with pytest.raises(HubRequestError, match="Accept its terms"):
        contents(repository)


def test_a_download_that_stalls_is_left_at_once(hub: HubServer, repository: Repository) -> None:
    hub.stalls_after = 1000
    started = time.monotonic()

    def stop(count: int) -> None:
        if count == 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contents(repository, stop)
    assert time.monotonic() - started < 1
    hub.released.set()
    for thread in [one for one in threading.enumerate() if one.name == "hub"]:
        thread.join(5)
        assert not thread.is_alive()
    assert len(hub.downloads()) == 1


def test_no_room_is_said_before_anything_is_fetched(
    hub: HubServer, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_free_bytes", lambda: 10)
    with pytest.raises(HubError, match="has 10 free"):
        contents(repository)
    assert hub.downloads() == []


def test_what_brings_too_few_bytes_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.4)
    monkeypatch.setattr(download, "WATCH_SECONDS", 0.05)
    over, threads = threading.Event(), []

    def drip(transfer: download.Transfer) -> None:
        threads.append(threading.current_thread())
        while not over.wait(0.02):
            transfer.check()
            transfer.bytes += 1

    with pytest.raises(HubUnreachableError, match=r"does not answer: \d+ bytes came in the last"):
        run_watched(drip, lambda _: None)
    threads[0].join(5)
    assert not threads[0].is_alive()


def test_what_goes_on_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(download, "WATCH_SECONDS", 0.05)

    def work(transfer: download.Transfer) -> str:
        for _ in range(6):
            time.sleep(0.1)
            transfer.bytes += download.LEAST_BYTES
        return "whole"

    assert run_watched(work, lambda _: None) == "whole"


def test_only_so_many_threads_wait_for_a_hub_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "_waiting", threading.BoundedSemaphore(1))
    over, left = threading.Event(), []

    def wait_for_it(_: object) -> None:
        left.append(threading.current_thread())
        over.wait(30)

    def leave(_: int) -> None:
        if left:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_watched(wait_for_it, leave)
    with pytest.raises(HubUnreachableError, match="earlier requests still wait for it"):
        run_watched(lambda _: "an answer", lambda _: None)
    over.set()
    left[0].join(5)
    assert run_watched(lambda _: "an answer", lambda _: None) == "an answer"
