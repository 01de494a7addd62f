"""A dataset of the hub in a real browser: looked up, its split chosen, seen, stored, canceled."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from app.main import create_app
from tests.hub_server import HubServer, Repo, commit_of, hub_server

pytestmark = pytest.mark.browser
NAME = "acme/pairs"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server(monkeypatch) as server:
        yield server


@pytest.fixture
def address(database: Any) -> Iterator[str]:
    """A web server in this process: its hub is the test's."""
    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def jsonl(*names: str) -> bytes:
    rows = ({"prompt": name, "chosen": f"{name}: yes", "rejected": "no"} for name in names)
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def look_up(page: Any, typed: str) -> None:
    page.locator('[data-hub-form] [name="hub"]').fill(typed)
    page.get_by_role("button", name="Look it up").click()


def test_a_split_is_chosen_seen_stored_and_recognized(
    hub: HubServer, address: str, browser_page: Any, browser_errors: list[str]
) -> None:
    from playwright.sync_api import expect

    hub.repos[NAME] = Repo(
        {"data/train.jsonl": jsonl("Is it?", "Shall we?"), "data/test.jsonl": jsonl("Why?")}
    )
    page, seen = browser_page, browser_page.locator("[data-drop-result]")
    page.goto(f"{address}/datasets")
    look_up(page, "acme/none")
    expect(seen).to_contain_text("The hub has no dataset “acme/none”")
    look_up(page, f"https://huggingface.co/datasets/{NAME}")
    expect(seen).to_contain_text("which split?")
    row = seen.get_by_role("row").filter(has_text="train")
    row.get_by_role("button", name="Preview").click()
    expect(seen).to_contain_text(f"{NAME}: train: Read as")
    expect(seen).to_contain_text(commit_of(NAME, "main")[:7])
    expect(seen.locator(".side.preferred").first).to_contain_text("Is it?: yes")
    seen.get_by_role("button", name="Store this dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{NAME}: train")
    expect(page.locator("main")).to_contain_text(commit_of(NAME, "main"))

    page.goto(f"{address}/datasets")
    look_up(page, NAME)
    seen.get_by_role("row").filter(has_text="train").get_by_role("button").click()
    seen.get_by_role("button", name="Store this dataset").click()
    expect(seen).to_contain_text("is stored already")
    browser_errors.clear()  # the browser complains of the statuses by which the page knows


def test_a_download_that_stalls_is_canceled(
    hub: HubServer, address: str, browser_page: Any, browser_errors: list[str]
) -> None:
    from playwright.sync_api import expect

    hub.repos[NAME] = Repo({"train.jsonl": jsonl(*(str(n) * 500 for n in range(1000, 1999)))})
    page = browser_page
    page.goto(f"{address}/datasets")
    look_up(page, NAME)
    store = page.get_by_role("button", name="Store this dataset")
    expect(store).to_be_enabled()
    hub.stalls_after = 1_500_000
    store.click()
    expect(page.locator("[data-drop-status]")).to_contain_text("downloading 1.50 MB of 4")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-drop-result]")).to_contain_text("canceled")
    browser_errors.clear()
