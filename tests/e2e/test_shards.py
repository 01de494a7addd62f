"""The workers of a run in a real browser."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

PAIRS = [{"prompt": f"Is it {n}?", "chosen": "Yes", "rejected": "No"} for n in range(2100)]
"""More than one shard's."""


def test_a_runs_page_shows_who_does_its_shards(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30_000)
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    page.wait_for_url("**/datasets/*")
    dataset_id = int(page.url.rsplit("/", 1)[1].partition("?")[0])
    body = {"kind": "evaluate", "dataset_id": dataset_id, "config": {"model": "tiny"}}
    run = page.request.post(f"{live_stack}/api/v1/runs", data=body).json()
    page.goto(f"{live_stack}/runs/{run['id']}")
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=60_000)
    workers = page.locator("[data-shards]")
    expect(workers).to_contain_text("2 of 2 shards done")
    [row] = workers.locator("tbody tr").all()
    expect(row.locator("td").nth(1)).to_have_text("2")
    expect(row.locator("td").nth(2)).to_have_text("2,100")
    shown = page.request.get(f"{live_stack}/api/v1/runs/{run['id']}/shards").json()
    expect(row.locator("td").first).to_have_text(shown["workers"][0]["worker"])
